//! What the pool knows about the current thread: whose worker it is, whose tasks it runs, and how it
//! waits.

use std::cell::{Cell, OnceCell, RefCell};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::seat::Seat;
use crate::frame;
use crate::sync::seam;

#[derive(Clone, Copy)]
struct Here {
    /// The pool whose worker this thread is; 0 if it is a plain thread.
    worker_of: u64,
    /// The worker's index there.
    index: u32,
    /// How many tasks of any pool run on this thread, one on top of the other.
    depth: u32,
    /// The pool of the innermost one; 0 if there is none.
    innermost: u64,
}

thread_local! {
    static HERE: Cell<Here> =
        const { Cell::new(Here { worker_of: 0, index: 0, depth: 0, innermost: 0 }) };
    /// The pools of the tasks below the innermost one, wherever they change. Nearly always empty.
    static OUTER: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
    static SEAT: OnceCell<Arc<Seat>> = const { OnceCell::new() };
}

/// A number for a pool: never 0, never used twice.
pub(crate) fn new_pool_id() -> u64 {
    // Not from the seam: a static of the process, which no model looks at.
    static NEXT: AtomicU64 = AtomicU64::new(1);
    // Relaxed: only the uniqueness matters.
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Makes this thread the worker that sits on `seat`.
pub(crate) fn take_seat(seat: Arc<Seat>) {
    HERE.with(|here| {
        here.set(Here { worker_of: seat.pool, index: seat.index as u32, ..here.get() });
    });
    SEAT.with(|place| {
        // A thread sits down once, at its start.
        let _set = place.set(seat);
    });
}

/// The seat of this thread, if it is a worker (and not in its teardown).
pub(crate) fn seat() -> Option<Arc<Seat>> {
    if HERE.get().worker_of == 0 {
        return None;
    }
    SEAT.try_with(|seat| seat.get().cloned()).ok().flatten()
}

/// The index of this thread among the workers of `pool`.
#[inline]
pub(crate) fn index_in(pool: u64) -> Option<usize> {
    let here = HERE.get();
    (here.worker_of == pool).then_some(here.index as usize)
}

/// Whether this thread runs a task of any pool.
#[inline]
pub(crate) fn in_task() -> bool {
    HERE.get().depth != 0
}

/// Whether this thread runs a task of `pool`, at any depth.
pub(crate) fn runs_task_of(pool: u64) -> bool {
    let here = HERE.get();
    here.innermost == pool
        || OUTER.try_with(|outer| outer.borrow().contains(&pool)).unwrap_or(false)
}

/// Marks this thread as running a task; its drop takes the mark away.
#[must_use]
pub(crate) struct InTask {
    before: u64,
    /// The thread's own marks are what it changes.
    _this_thread: PhantomData<*mut ()>,
}

/// Marks this thread as running a task of `pool`.
#[inline]
pub(crate) fn enter_task(pool: u64) -> InTask {
    let here = HERE.get();
    if here.innermost != pool && here.innermost != 0 {
        remember(here.innermost);
    }
    HERE.set(Here { depth: here.depth + 1, innermost: pool, ..here });
    InTask { before: here.innermost, _this_thread: PhantomData }
}

#[cold]
fn remember(pool: u64) {
    // Fails in the thread's teardown only, where no task starts.
    let _known = OUTER.try_with(|outer| outer.borrow_mut().push(pool));
}

impl Drop for InTask {
    #[inline]
    fn drop(&mut self) {
        let here = HERE.get();
        if self.before != here.innermost && self.before != 0 {
            let _known = OUTER.try_with(|outer| outer.borrow_mut().pop());
        }
        HERE.set(Here { depth: here.depth - 1, innermost: self.before, ..here });
    }
}

/// Whether foreign state may have stayed on this thread, so that it should run no further task: a
/// worker is replaced when its outermost task is over.
pub(crate) fn is_spoiled() -> bool {
    let spoiled = frame::take_taint();
    match seat() {
        Some(seat) => {
            if spoiled {
                seat.retire();
            }
            seat.is_retiring()
        }
        None => spoiled,
    }
}

/// Blocks until `done`, whose change must unpark this thread. A worker runs the broadcast visits that
/// are addressed to it meanwhile.
pub(crate) fn wait_until(mut done: impl FnMut() -> bool) {
    let seat = seat();
    loop {
        if done() {
            return;
        }
        if let Some(seat) = &seat
            && seat.run_visit()
        {
            continue;
        }
        seam::park();
    }
}

/// Blocks until `done` or until `deadline`, running nothing; returns whether it is done.
pub(crate) fn wait_until_deadline(done: impl Fn() -> bool, deadline: Option<Instant>) -> bool {
    loop {
        if done() {
            return true;
        }
        match deadline {
            None => seam::park(),
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return done();
                }
                seam::park_timeout(left);
            }
        }
    }
}
