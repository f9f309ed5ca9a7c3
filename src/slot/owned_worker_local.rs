//! [`OwnedWorkerLocal`].

use std::collections::HashMap;
use std::fmt;
use std::hash::BuildHasherDefault;
use std::mem;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{Arc, Weak};
use std::thread::ThreadId;

use parking_lot::Mutex;

use super::error::{AccessError, InitError, Reason};
use super::instances::{self, Ends, Instances, Lease};
use super::owned_local::{Init, OwnedLocal};
use super::table::IdHasher;
use super::worker_local::lends;
use crate::foreign::BoxError;
use crate::frame::cell::InFutures;
use crate::panic::{Drops, Guarded};

/// A worker-local that an object owns and that is made at run time.
///
/// It follows the rules of [`WorkerLocal`](crate::WorkerLocal): instances are kept for the worker's
/// life on purpose, and leased to one task at a time. They end with their worker, or when the owner
/// is dropped, on the thread that drops it; this includes those that tasks have on lease. Each is
/// dropped there even if others panic; then the first panic goes on.
///
/// # Examples
///
/// ```
/// use cleanslate::{OwnedWorkerLocal, Pool};
///
/// let path = String::from("shop.sqlite");
/// let connections = OwnedWorkerLocal::new(move || format!("connection to {path}"));
/// let pool = Pool::new(2)?;
/// let used = pool.map(0..10, |_| connections.with(|connection| connection.clone()));
/// assert_eq!(used[7], "connection to shop.sqlite");
/// # Ok::<_, cleanslate::BuildError>(())
/// ```
pub struct OwnedWorkerLocal<T: Send + 'static> {
    lease: OwnedLocal<Lease<T>>,
    shared: Arc<OfOwner<T>>,
}

/// Hashed by `IdHasher`: std's hasher has a thread-local, which changes with each map.
type Threads<T> = HashMap<ThreadId, Arc<OfThread<T>>, BuildHasherDefault<IdHasher>>;

/// What the leases know of their owner.
struct OfOwner<T: Send + 'static> {
    init: Guarded<Init<T>>,
    /// The instances on all threads that have used it.
    threads: Mutex<Threads<T>>,
}

/// The instances on one thread.
struct OfThread<T: Send + 'static> {
    instances: Instances<T>,
    thread: ThreadId,
    owner: Weak<OfOwner<T>>,
}

impl<T: Send + 'static> Ends for OfThread<T> {
    fn end(&self) -> Drops {
        let owner = self.owner.upgrade();
        if let Some(owner) = &owner {
            owner.threads.lock().remove(&self.thread);
        }
        let mut drops = self.instances.end();
        // The last one has the initialiser, which is user code, if the others go at this moment.
        drops.contain(|| drop(owner));
        drops
    }
}

impl<T: Send + 'static> OfOwner<T> {
    /// Returns this thread's instances.
    fn instances(self: &Arc<Self>) -> Instances<T> {
        let thread = std::thread::current().id();
        let mut threads = self.threads.lock();
        if let Some(known) = threads.get(&thread) {
            return known.instances.clone();
        }
        let of_thread =
            Arc::new(OfThread { instances: Instances::new(), thread, owner: Arc::downgrade(self) });
        let ends: Arc<dyn Ends> = Arc::clone(&of_thread) as _;
        if !instances::note_owned(Arc::downgrade(&ends)) {
            // The thread is ending, and nobody would end what is kept for it.
            return Instances::ended();
        }
        let instances = of_thread.instances.clone();
        threads.insert(thread, of_thread);
        instances
    }
}

impl<T: Send + 'static> OwnedWorkerLocal<T> {
    /// Makes a worker-local whose instances `init` makes.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::OwnedWorkerLocal;
    ///
    /// let counter = OwnedWorkerLocal::new(|| 0);
    /// counter.with(|n| *n += 1);
    /// assert_eq!(counter.with(|n| *n), 1);
    /// ```
    #[track_caller]
    pub fn new(init: impl Fn() -> T + Send + Sync + 'static) -> Self {
        Self::with_init(Box::new(move || Ok(init())))
    }

    /// Makes a worker-local whose initialiser can fail, such as one that opens a connection.
    ///
    /// If it fails, [`try_with`](Self::try_with) returns an error that
    /// [`is_init`](AccessError::is_init), and nothing is kept: the next use tries again.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::OwnedWorkerLocal;
    ///
    /// let ports = OwnedWorkerLocal::fallible(|| "x".parse::<u16>());
    /// let error = ports.try_with(|port| *port).unwrap_err();
    /// assert!(error.is_init() && error.to_string().contains("invalid digit"));
    /// ```
    #[track_caller]
    pub fn fallible<E: Into<BoxError>>(
        init: impl Fn() -> Result<T, E> + Send + Sync + 'static,
    ) -> Self {
        Self::with_init(Box::new(move || {
            init().map_err(|error| Reason::Init(InitError::new(error.into())))
        }))
    }

    #[track_caller]
    fn with_init(init: Init<T>) -> Self {
        let shared = Arc::new(OfOwner { init: Guarded::new(init), threads: Mutex::default() });
        let of_lease = Arc::clone(&shared);
        let lease = OwnedLocal::with_init(
            Box::new(move || of_lease.instances().lease(|| (of_lease.init)())),
            InFutures::EndsWithPoll,
            std::any::type_name::<Self>,
        );
        Self { lease, shared }
    }

    lends! {
        /// use cleanslate::OwnedWorkerLocal;
        ///
        /// let LOCAL = OwnedWorkerLocal::new(Vec::<u32>::new);
    }

    fn lend<R>(&self, f: impl FnOnce(&mut Lease<T>) -> R) -> Result<R, AccessError> {
        self.lease.try_with_mut(f)
    }
}

impl<T: Default + Send + 'static> Default for OwnedWorkerLocal<T> {
    #[track_caller]
    fn default() -> Self {
        Self::new(T::default)
    }
}

// Panics inside are contained, so nobody sees a value in the middle of a change.
impl<T: Send + 'static> UnwindSafe for OwnedWorkerLocal<T> {}
impl<T: Send + 'static> RefUnwindSafe for OwnedWorkerLocal<T> {}

impl<T: Send + 'static> fmt::Debug for OwnedWorkerLocal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedWorkerLocal").field("lease", &self.lease).finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Drop for OwnedWorkerLocal<T> {
    fn drop(&mut self) {
        let threads = mem::take(&mut *self.shared.threads.lock());
        let mut drops = Drops::default();
        for of_thread in threads.into_values() {
            drops.add(of_thread.instances.end().into_result());
        }
        // And those that are on lease, also before a panic goes on.
        drops.add(self.lease.end().into_result());
        drops.resume();
    }
}
