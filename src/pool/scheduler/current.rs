//! What the pool knows about the current thread: whose worker it is, and whose tasks it runs.
//!
//! Whether it waits as a task does, passes a full queue, and may itself be waited for by a pool:
//!
//! | what the thread does | [`in_task`] | [`is_let_through`] | [`is_awaited`] |
//! |---|---|---|---|
//! | runs a task of any pool, or a drop that a pool waits for | yes | yes | yes |
//! | serves as a worker, or calls a worker's hook | yes | yes | yes |
//! | ends as a worker with its pool, until its slots have ended | yes | yes | no |
//! | ends as a worker in any other case | no | yes | no |
//! | owns a map, as a plain thread | no | no | yes |
//! | none of these | no | no | no |

use std::cell::{Cell, OnceCell, RefCell};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::sync::Arc;

use super::stack;
use super::worker_slot::WorkerSlot;
use crate::frame;
use crate::sync::seam;
#[cfg(loom)]
use crate::sync::seam::CellKey;

/// How many tasks may lie on top of one another on one thread. In optimised programs, so many use a
/// quarter to a half of a thread's two mebibytes; where they use more, a quarter of the stack has
/// to be left.
const DEEPEST: u32 = 256;
/// How many drops of what was not let in may lie on top of one another on one thread. Fewer, since
/// that may be a plain thread, whose stack nobody knows.
const MOST_REFUSED: u16 = 64;

#[derive(Clone, Copy)]
struct Here {
    /// The pool whose worker this thread is, or was; 0 if it is a plain thread.
    worker_of: u64,
    /// The worker's index there.
    index: u32,
    /// Whether the thread is bound to its slot: it serves there, and nobody else does.
    bound: bool,
    /// Whether it is a worker that is ending, and is as fit for tasks as it was.
    ending: bool,
    /// Whether it is a worker that calls a hook, for which `wait_idle` does not wait.
    in_hook: bool,
    /// How many drops of what was not let in are made on this thread, one inside the other.
    refused: u16,
    /// How many tasks of any pool run on this thread, one on top of the other.
    depth: u32,
    /// How many drops that a pool waits for are made on this thread, one inside the other.
    drops: u32,
    /// The pool that waits for what this thread does: that of the innermost task, mostly. 0 if
    /// none.
    innermost: u64,
}

const NOBODY: Here = Here {
    worker_of: 0,
    index: 0,
    bound: false,
    ending: false,
    in_hook: false,
    refused: 0,
    depth: 0,
    drops: 0,
    innermost: 0,
};

seam::thread_local! {
    static HERE: Cell<Here> = const { Cell::new(NOBODY) };
    /// The pools below the innermost one, wherever they change. Nearly always empty, and then it
    /// owns nothing. It has no destructor: there are activities in the thread's teardown, too.
    static OUTER: RefCell<ManuallyDrop<Vec<u64>>> =
        const { RefCell::new(ManuallyDrop::new(Vec::new())) };
    static SLOT: OnceCell<Arc<WorkerSlot>> = const { OnceCell::new() };
}

/// Lists what this module keeps per thread, for the sentinel to leave out.
#[cfg(feature = "sentinel")]
pub(super) fn list(ignored: &mut cleanslate_sentinel::Ignored) {
    ignored.key(&HERE);
    ignored.key(&OUTER);
    ignored.key(&SLOT);
}

/// Makes this thread serve at `slot`.
pub(crate) fn bind(slot: &Arc<WorkerSlot>) {
    slot.bind(seam::current());
    let (worker_of, index) = (slot.pool, slot.index as u32);
    HERE.set(Here { worker_of, index, bound: true, ..HERE.get() });
    frame::thread::current().on_stuck.set(Some(retire));
    // A thread is bound once, at its start.
    SLOT.with(|place| {
        let _set = place.set(Arc::clone(slot));
    });
}

/// Makes this thread a plain thread from now on, except for what it belongs to.
pub(crate) fn unbind() {
    HERE.set(Here { bound: false, ..HERE.get() });
}

/// Makes this thread, which has been unbound, wait as a task does until its slots have ended: its
/// pool ends with it, and a task that waits for that end may hold what this thread waits for.
pub(crate) fn end() {
    HERE.set(Here { ending: true, ..HERE.get() });
}

/// Calls a hook of the worker that this thread is. It must not unwind.
pub(crate) fn run_hook<R>(hook: impl FnOnce() -> R) -> R {
    HERE.set(Here { in_hook: true, ..HERE.get() });
    let result = hook();
    HERE.set(Here { in_hook: false, ..HERE.get() });
    result
}

/// Calls `f` with the slot that this thread serves at (and not in its teardown).
fn with_slot<R>(f: impl FnOnce(&Arc<WorkerSlot>) -> R) -> Option<R> {
    if !HERE.get().bound {
        return None;
    }
    SLOT.try_with(|slot| slot.get().map(f)).ok().flatten()
}

/// Returns the slot that this thread serves at (and `None` in its teardown).
pub(crate) fn slot() -> Option<Arc<WorkerSlot>> {
    with_slot(Arc::clone)
}

/// Returns whether something is directed to the worker that this thread is.
pub(crate) fn has_directed() -> bool {
    with_slot(|slot| slot.has_directed()).unwrap_or(false)
}

/// Returns whether this thread is a worker that is to be replaced when its outermost task is over.
pub(crate) fn is_retiring() -> bool {
    with_slot(|slot| slot.is_retiring()).unwrap_or(false)
}

/// Foreign state may have stayed on this thread: if it is a worker, it is to be replaced.
fn retire() {
    let _retired = with_slot(|slot| slot.retire());
}

/// Returns the index of this thread among the workers of `pool`, while it serves there.
#[inline]
pub(crate) fn index_in(pool: u64) -> Option<usize> {
    let here = HERE.get();
    (here.worker_of == pool && here.bound).then_some(here.index as usize)
}

/// Returns the same while the worker runs nothing but tasks and visits. A hook may take its time,
/// and meanwhile the worker does not check whether the pool is at its end.
#[inline]
pub(crate) fn serves_in(pool: u64) -> Option<usize> {
    let here = HERE.get();
    (here.worker_of == pool && here.bound && !here.in_hook).then_some(here.index as usize)
}

/// Returns whether this thread is, or was, a worker of some pool.
#[cfg(feature = "tokio")]
pub(super) fn is_worker() -> bool {
    HERE.get().worker_of != 0
}

/// Returns whether this thread was started by `pool`, and so has ended when that pool has.
pub(crate) fn belongs_to(pool: u64) -> bool {
    HERE.get().worker_of == pool
}

/// Returns whether this thread waits as a task does: it runs one, of any pool, or drops what a pool
/// waits for, or is a worker that calls a hook or ends with its pool. Others cannot be counted on
/// to run what it waits for: it may be the only worker, and all workers may wait for that pool.
#[inline]
pub(crate) fn in_task() -> bool {
    let here = HERE.get();
    is_working(here) || here.ending && !frame::thread::current().is_gone()
}

/// Returns whether this thread is let past a full queue: it waits as a task does, or is a worker
/// that is ending, whatever is left of it. Whoever would make room may wait for the end of its
/// pool.
pub(crate) fn is_let_through() -> bool {
    in_task() || HERE.get().worker_of != 0
}

#[inline]
fn is_working(here: Here) -> bool {
    here.depth + here.drops != 0 || here.bound
}

/// Returns whether a pool, of this thread or of others, may wait for what this thread does now: it
/// must not wait for a pool in turn without being asked to.
pub(crate) fn is_awaited() -> bool {
    let here = HERE.get();
    is_working(here) || here.innermost != 0
}

/// Returns whether this thread's innermost task lies on top of no other, and of no drop.
#[cfg(feature = "sentinel")]
pub(crate) fn is_outermost() -> bool {
    let here = HERE.get();
    here.depth == 1 && here.drops == 0
}

/// Returns whether one more task may run on top of those that this thread runs already.
#[inline]
pub(crate) fn may_nest() -> bool {
    below() < DEEPEST && stack::is_left(4)
}

/// Returns whether a quarter of a worker's stack is left, for what no pool counts. A plain thread's
/// stack is its own affair.
pub(crate) fn has_stack_left() -> bool {
    HERE.get().worker_of == 0 || stack::is_left(4)
}

/// Returns whether a task may be ended here without being run: its drop may wait for others in
/// turn.
pub(crate) fn may_end() -> bool {
    below() <= DEEPEST && stack::is_left(8)
}

/// Returns how many tasks and drops lie below one that is about to begin on this thread.
#[inline]
fn below() -> u32 {
    let here = HERE.get();
    let below = here.depth + here.drops;
    if below == 0 && here.worker_of == 0 {
        stack::begin_plain();
    }
    below
}

/// Drops what was not let in, by `drop`, which must not unwind; or returns `false` where too many
/// such drops lie on top of one another. Each may submit something else that is not let in, either.
pub(crate) fn drop_refused(drop: impl FnOnce()) -> bool {
    let here = HERE.get();
    match here.refused {
        // On a plain thread what follows is measured from here.
        0 => _ = below(),
        MOST_REFUSED => return false,
        _ if !stack::is_left(8) => return false,
        _ => {}
    }
    HERE.set(Here { refused: here.refused + 1, ..here });
    drop();
    HERE.set(Here { refused: here.refused, ..HERE.get() });
    true
}

/// Returns whether this thread runs a task of `pool`, at any depth, or anything else that keeps it
/// from ending.
pub(crate) fn keeps_open(pool: u64) -> bool {
    let here = HERE.get();
    here.innermost == pool
        || OUTER.try_with(|outer| outer.borrow().contains(&pool)).unwrap_or(false)
}

/// Marks what this thread does; its drop takes the mark away.
#[must_use]
pub(crate) struct Mark {
    what: Doing,
    /// The innermost pool before.
    below: u64,
    /// It changes the thread's own marks.
    _this_thread: PhantomData<*mut ()>,
}

/// What a thread does that a pool waits for, by what it counts as.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Doing {
    tasks: u32,
    drops: u32,
}

impl Doing {
    /// It runs a task.
    pub(crate) const TASK: Self = Self { tasks: 1, drops: 0 };
    /// It drops what the pool waits for: a cancelled task, or what was given to a map or a
    /// broadcast. That is user code, may cancel further tasks, and waits as a task does.
    pub(crate) const DROP: Self = Self { tasks: 0, drops: 1 };
    /// Something else that keeps the pool from ending: what it submits there is let in, and it
    /// cannot wait for the pool's end. A plain thread stays one: it runs no tasks while it waits.
    pub(crate) const OTHER: Self = Self { tasks: 0, drops: 0 };
}

/// Marks this thread as doing something that `pool` waits for.
#[inline]
pub(crate) fn enter(pool: u64, what: Doing) -> Mark {
    let here = HERE.get();
    HERE.set(Here {
        depth: here.depth + what.tasks,
        drops: here.drops + what.drops,
        innermost: pool,
        ..here
    });
    if here.innermost != pool && here.innermost != 0 {
        remember(here.innermost);
    }
    Mark { what, below: here.innermost, _this_thread: PhantomData }
}

#[cold]
fn remember(pool: u64) {
    // Fails in the thread's teardown only, and only where thread-locals are not native.
    let _known = OUTER.try_with(|outer| outer.borrow_mut().push(pool));
}

#[cold]
fn forget() {
    let _known = OUTER.try_with(|outer| {
        let mut outer = outer.borrow_mut();
        outer.pop();
        if outer.is_empty() {
            drop(std::mem::take(&mut **outer));
        }
    });
}

impl Drop for Mark {
    #[inline]
    fn drop(&mut self) {
        let here = HERE.get();
        HERE.set(Here {
            depth: here.depth - self.what.tasks,
            drops: here.drops - self.what.drops,
            innermost: self.below,
            ..here
        });
        if self.below != here.innermost && self.below != 0 {
            forget();
        }
    }
}
