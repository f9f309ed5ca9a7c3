//! The instances of worker-locals: where they are kept between leases, and when they end.
//!
//! A task that uses a worker-local leases an instance, which is an ordinary slot value whose `Drop`
//! gives it back. So two tasks that are open on one thread never share one, and the engine's rules
//! decide how long a lease lasts. Between leases an instance waits on its worker.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::error::Reason;
use crate::context::make_for_nobody;
use crate::frame::{self, Failure, thread};
use crate::panic::{Drops, Payload};

/// How many instances wait while the worker's own is leased.
const SPARES: usize = 1;

/// How many initialisers may run on one thread, one on top of the other.
const MOST_MAKING: u32 = 32;

/// What is kept of one worker-local on one thread.
#[derive(Debug)]
struct Leases<T> {
    waiting: Vec<T>,
    /// How many are leased. The last to come back is the worker's own, which the outermost task
    /// had; it is also the first to be leased again.
    leased: usize,
    /// The frame depth of the initialiser that is running; if there are several, of the innermost.
    making_at: Option<u32>,
}

/// `None`: no more instances are kept, since the thread or the owner has ended.
type Waiting<T> = Mutex<Option<Leases<T>>>;

/// One worker-local's instances on one thread.
#[derive(Debug)]
pub(super) struct Instances<T> {
    waiting: Arc<Waiting<T>>,
}

impl<T> Clone for Instances<T> {
    fn clone(&self) -> Self {
        Self { waiting: Arc::clone(&self.waiting) }
    }
}

impl<T> Instances<T> {
    pub(super) fn new() -> Self {
        Self {
            waiting: Arc::new(Mutex::new(Some(Leases {
                waiting: Vec::new(),
                leased: 0,
                making_at: None,
            }))),
        }
    }

    /// Returns the instances of a thread on which none are kept.
    pub(super) fn ended() -> Self {
        Self { waiting: Arc::new(Mutex::new(None)) }
    }

    /// Leases the instance that was used last, or a new one.
    ///
    /// `init` runs as if for nobody, since what it makes is kept for others' tasks.
    pub(super) fn lease(
        &self,
        init: impl FnOnce() -> Result<T, Reason>,
    ) -> Result<Lease<T>, Reason> {
        let waiting = self.waiting.lock().as_mut().and_then(|all| all.waiting.pop());
        let instance = match waiting {
            Some(instance) => instance,
            None => self.make(init)?,
        };
        if let Some(all) = &mut *self.waiting.lock() {
            all.leased += 1;
        }
        Ok(Lease { instance: Some(instance), instances: self.clone() })
    }

    fn make(&self, init: impl FnOnce() -> Result<T, Reason>) -> Result<T, Reason> {
        let depth = || thread::current().depth();
        let outer = self.waiting.lock().as_ref().and_then(|all| all.making_at);
        let making = MAKING.get();
        // The initialiser runs as a task of its own: using the worker-local, it would find no
        // instance and make one in turn. A task on top of it, while it waits, may have an instance
        // made; but that initialiser may start another such task, and so on.
        if outer == Some(depth()) {
            return Err(Reason::Recursive);
        }
        if making == MOST_MAKING {
            return Err(Reason::TooDeep(making));
        }
        MAKING.set(making + 1);
        let made = make_for_nobody(|| {
            self.note_making(Some(depth()));
            init()
        });
        self.note_making(outer);
        MAKING.set(making);
        match made {
            Ok(instance) => instance,
            Err(failure) => failure.into_payload().resume(),
        }
    }

    fn note_making(&self, at: Option<u32>) {
        if let Some(all) = &mut *self.waiting.lock() {
            all.making_at = at;
        }
    }
}

/// An instance in use by one task.
#[derive(Debug)]
pub struct Lease<T> {
    /// `None` only while it is dropped.
    instance: Option<T>,
    instances: Instances<T>,
}

impl<T> Lease<T> {
    pub(super) fn get(&mut self) -> &mut T {
        match &mut self.instance {
            Some(instance) => instance,
            None => unreachable!("it is given back by `Drop` only"),
        }
    }
}

impl<T> Drop for Lease<T> {
    fn drop(&mut self) {
        let Some(instance) = self.instance.take() else { return };
        let mut guard = self.instances.waiting.lock();
        if let Some(all) = &mut *guard {
            all.leased -= 1;
            let room = if all.leased == 0 { SPARES + 1 } else { SPARES };
            if all.waiting.len() < room {
                all.waiting.push(instance);
                return;
            }
        }
        drop(guard);
        drop(instance);
    }
}

/// Something whose instances end with this thread's work.
pub(super) trait Ends {
    /// Ends the instances that wait, each contained; those on lease end when their lease does.
    fn end(&self) -> Drops;
}

impl<T> Ends for Instances<T> {
    fn end(&self) -> Drops {
        let all = self.waiting.lock().take();
        let mut drops = Drops::default();
        for instance in all.into_iter().flat_map(|all| all.waiting).rev() {
            drops.add(frame::contained(|| drop(instance)).map_err(Failure::into_payload));
        }
        drops
    }
}

/// The path of a worker-local that is declared. One that an object owns has none.
type Name = Option<&'static str>;

/// Called with what a worker-local threw at its end.
type Thrown<'f> = &'f mut dyn FnMut(Name, Payload);

/// The worker-locals that this thread has used.
struct List {
    /// The declared ones, each by the address of its declaration: they are looked up in each task
    /// that uses them, and there can be very many owned ones.
    declared: RefCell<Vec<(usize, Arc<dyn Any>)>>,
    /// All, in the order of first use.
    all: RefCell<Vec<(Name, Weak<dyn Ends>)>>,
    /// When there are this many, those whose owners are gone are swept.
    sweep_at: Cell<usize>,
}

thread_local! {
    /// How many initialisers are running on this thread.
    static MAKING: Cell<u32> = const { Cell::new(0) };
    static LIST: List = const { List::new() };
}

impl List {
    const fn new() -> Self {
        Self {
            declared: RefCell::new(Vec::new()),
            all: RefCell::new(Vec::new()),
            sweep_at: Cell::new(16),
        }
    }

    fn add(&self, name: Name, instances: Weak<dyn Ends>) {
        #[cfg(feature = "sentinel")]
        ignore_own();
        let mut all = self.all.borrow_mut();
        if all.len() >= self.sweep_at.get() {
            all.retain(|(_, instances)| instances.strong_count() > 0);
            self.sweep_at.set(all.len() * 2 + 16);
        }
        all.push((name, instances));
    }

    /// Ends all of them, in reverse order of first use.
    fn end(&self, thrown: Thrown<'_>) {
        // The drop of one instance may lease another one anew, but not for ever.
        for _ in 0..8 {
            let _declared = std::mem::take(&mut *self.declared.borrow_mut());
            let all = std::mem::take(&mut *self.all.borrow_mut());
            if all.is_empty() {
                break;
            }
            for (name, instances) in all.into_iter().rev() {
                let Some(instances) = instances.upgrade() else { continue };
                // If an owner goes away at this very moment, its initialiser, which is user code,
                // is dropped here.
                let mut drops = Drops::default();
                let ended = frame::contained(|| drops = instances.end());
                drops.add(ended.map_err(Failure::into_payload));
                if let Err(payload) = drops.into_result() {
                    thrown(name, payload);
                }
            }
        }
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // A thread that is no worker has nobody to tell.
        self.end(&mut |_, _| ());
    }
}

/// Returns this thread's instances of a declared worker-local. While the thread ends, none are
/// kept.
pub(super) fn declared<T: 'static>(name: &'static str, address: usize) -> Instances<T> {
    let found = LIST.try_with(|list| {
        let mut declared = list.declared.borrow_mut();
        let known = declared.iter().find(|(its, _)| *its == address);
        if let Some(instances) = known.and_then(|(_, one)| one.downcast_ref()) {
            return Instances::clone(instances);
        }
        let kept = Arc::new(Instances::new());
        let instances = Instances::clone(&kept);
        let ends: Arc<dyn Ends> = Arc::clone(&kept) as _;
        list.add(Some(name), Arc::downgrade(&ends));
        declared.push((address, kept));
        instances
    });
    found.unwrap_or_else(|_| Instances::ended())
}

/// Notes that this thread has instances of an owned worker-local, which its owner keeps. Returns
/// `false` while the thread ends.
pub(super) fn note_owned(instances: Weak<dyn Ends>) -> bool {
    LIST.try_with(|list| list.add(None, instances)).is_ok()
}

/// Tells the sentinel, once, what this module keeps per thread.
///
/// A pool that watches does this before its first task. Then each watcher initialises the list
/// before it copies, and with it the flag beside the list by which std knows that it is alive; in a
/// file without symbols no address covers that flag.
#[cfg(feature = "sentinel")]
pub(crate) fn ignore_own() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| cleanslate_sentinel::ignore(|ignored| ignored.key(&LIST)));
}

/// Ends this thread's worker-locals, the last thing that a pool's worker does. Of each that fails,
/// the first panic is reported.
pub(crate) fn end_worker(thrown: Thrown<'_>) {
    // An error means that the thread's destructors have run already.
    let _ended = LIST.try_with(|list| list.end(thrown));
}
