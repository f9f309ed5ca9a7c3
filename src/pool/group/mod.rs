//! A group: work on its owner's stack that several workers share, while the owner waits.
//!
//! The owner puts tickets (shares of the one `Arc<Group>`) on the queue, or visits into the
//! workers' inboxes. Each worker that takes one enters the latch, helps, and leaves.
//!
//! An owner that works on its own map makes the group only when it calls others.
//!
//! Invariants (those of the [`HelperLatch`] carry the safety):
//!
//! 1. `body` points to the owner's stack. It is dereferenced only between a successful `enter` and
//!    its `leave`.
//! 2. The owner does not return, nor unwind, before the latch is closed and empty: [`Owner`]'s drop
//!    waits for that, or aborts. In a forked child it does return: nobody else lives there who
//!    could be inside.
//! 3. After the last `leave` only the group itself is touched, which the ticket keeps alive.

pub(crate) mod broadcast;
pub(crate) mod latch;
#[cfg(all(loom, test))]
mod model;

use std::cell::OnceCell;
use std::marker::PhantomData;
use std::mem::transmute;
use std::sync::Arc;

use self::latch::HelperLatch;
use super::core::{Core, Entry, How};
use super::scheduler::current;
use super::scheduler::queue::Stale;
use super::scheduler::wait;
use super::scheduler::worker_slot::DirectedTask;
use crate::foreign::not_in_carrier;
use crate::panic::AbortOnUnwind;
use crate::sync::process::Process;
use crate::sync::seam::atomic::{AtomicU8, AtomicUsize, Ordering};
use crate::sync::seam::{self, Thread};

/// What a group does, on its owner's stack.
pub(crate) trait Body: Sync {
    /// Helps. Never unwinds. Asks `shift` between two pieces of its work.
    fn help(&self, shift: &dyn Shift) -> Help;
    /// Called when the pool was shut down before one of the tickets was taken: nothing new is to
    /// start. Returns whether that was the last that the group waited for.
    fn cancel(&self) -> Help;
}

/// What a helper asks between two pieces of its work.
pub(crate) trait Shift {
    /// Called when the work has shown that it is worth more helpers.
    fn more(&self) {}
    /// Returns whether others wait for this thread, so that the helper is to leave: with
    /// [`Help::GaveWay`].
    fn must_give_way(&self) -> bool {
        false
    }
    /// Calls a helper in the place of one that has left with [`Help::GoOn`].
    fn call_back(&self) {}
    /// Returns whether this is a forked child, in which nobody else has a turn, nor wants one.
    fn is_forked(&self) -> bool {
        false
    }
    /// Returns whether the helper is the owner itself.
    fn is_owner(&self) -> bool {
        false
    }
    /// Returns whether there is no other helper, nor can one come before the call of `more`.
    fn is_alone(&self) -> bool {
        false
    }
}

/// The shift of a visit, which works to its end.
struct ToTheEnd;

impl Shift for ToTheEnd {}

/// What a helper reports when it stops.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Help {
    /// There is nothing left to start: the latch can be closed.
    Exhausted,
    /// Something is left to start, or may still come, and others see to it.
    GoOn,
    /// There is something left to start, but not on this thread: the ticket goes back to the queue.
    Elsewhere,
    /// There is something left to start, when others have had their turn: the ticket goes to the
    /// second line of the queue.
    GaveWay,
}

/// See the module's documentation. `K` is how its helpers come: with [`Tickets`] or for [`Visits`].
pub(crate) struct Group<K> {
    latch: HelperLatch,
    owner: Thread,
    body: *const dyn Body,
    kind: K,
}

#[expect(unsafe_code, reason = "the body is reached through a raw pointer")]
// SAFETY: the body is `Sync` (`Body` demands it), so any thread may use a reference to it; the
// other fields are `Send`.
unsafe impl<K: Send> Send for Group<K> {}

#[expect(unsafe_code, reason = "the body is reached through a raw pointer")]
// SAFETY: as for `Send`; the other fields are `Sync`.
unsafe impl<K: Sync> Sync for Group<K> {}

impl<K> Group<K> {
    /// Enters, and does `act` with the body; returns whether it was let in.
    fn inside(&self, act: impl FnOnce(&Self)) -> bool {
        if !self.latch.enter() {
            return false;
        }
        let _inside = Inside(self);
        act(self);
        true
    }

    #[expect(unsafe_code, reason = "calls the erased body")]
    fn help(&self, shift: &dyn Shift) -> Help {
        // SAFETY: called between `enter` and `leave` only: invariant 1.
        unsafe { &*self.body }.help(shift)
    }

    #[expect(unsafe_code, reason = "calls the erased body")]
    fn cancel_body(&self) -> Help {
        // SAFETY: as in `help`, or called by the owner (invariant 2).
        unsafe { &*self.body }.cancel()
    }
}

/// One that is inside; its drop leaves.
struct Inside<'g, K>(&'g Group<K>);

impl<K> Drop for Inside<'_, K> {
    fn drop(&mut self) {
        if self.0.latch.leave() {
            self.0.owner.unpark();
        }
    }
}

/// Helpers come with tickets from the queue. What one says when it stops ([`Help`]) decides whether
/// the latch is closed or its ticket goes back.
pub(crate) struct Tickets {
    /// How many tickets may still be put on the queue.
    rest: AtomicUsize,
}

impl Group<Tickets> {
    /// Puts `n` more tickets on the queue.
    fn offer(self: &Arc<Self>, core: &Core, n: usize) {
        if n != 0 && self.latch.issue(n) {
            let tickets = (0..n).map(|_| Arc::clone(self) as Arc<dyn Entry>);
            if core.enqueue_all(tickets) {
                self.cancel_on_queue(core);
            }
        }
    }

    /// Called inside, or by the owner, where tickets were put on the queue of a cancelled pool.
    fn cancel_on_queue(&self, core: &Core) {
        let _nothing_starts = self.cancel_body();
        core.mark_stale(self.latch.close());
    }

    /// Puts a ticket into the second line of the queue, for a helper that has left.
    fn put_back(self: &Arc<Self>, core: &Core) {
        if self.latch.issue(1) && core.enqueue_second(Arc::clone(self) as Arc<dyn Entry>) {
            self.cancel_on_queue(core);
        }
    }

    /// Puts the tickets that were held back on the queue, once.
    fn offer_rest(self: &Arc<Self>, core: &Core) {
        // Relaxed: only the number matters.
        self.offer(core, self.kind.rest.swap(0, Ordering::Relaxed));
    }
}

/// The shift of a helper that came with a ticket (R17).
struct TicketShift<'t> {
    group: &'t Arc<Group<Tickets>>,
    core: &'t Core,
}

impl Shift for TicketShift<'_> {
    fn more(&self) {
        self.group.offer_rest(self.core);
    }

    fn call_back(&self) {
        self.group.put_back(self.core);
    }

    fn is_forked(&self) -> bool {
        self.core.is_forked()
    }

    fn must_give_way(&self) -> bool {
        current::has_directed() || self.core.is_crowded(self.group.latch.queued())
    }
}

/// The shift of an owner that works on its own group. It works to the end: it cannot leave the work
/// to others, since with one worker there are none.
///
/// The group is made when others are called. So work that is over before then does not pay for it.
struct OwnerShift<'b> {
    core: &'b Core,
    body: &'b dyn Body,
    helpers: usize,
    owner: OnceCell<Owner<'b, Tickets>>,
}

impl Shift for OwnerShift<'_> {
    fn more(&self) {
        let _owner = self.owner.get_or_init(|| {
            let owner = Owner::of_tickets(self.core, self.body);
            owner.group.latch.enter_as_owner();
            owner.group.offer(self.core, self.helpers);
            owner
        });
    }

    fn call_back(&self) {
        if let Some(owner) = self.owner.get() {
            owner.group.put_back(self.core);
        }
    }

    fn is_forked(&self) -> bool {
        self.core.is_forked()
    }

    fn is_owner(&self) -> bool {
        true
    }

    fn is_alone(&self) -> bool {
        self.owner.get().is_none()
    }
}

impl Entry for Group<Tickets> {
    fn run(self: Arc<Self>, core: &Core, _how: How<'_>) -> bool {
        self.inside(|group| {
            // The body looks for itself whether the pool is cancelled: it has to, between chunks.
            match group.help(&TicketShift { group: &self, core }) {
                Help::Exhausted => core.mark_stale(group.latch.close()),
                Help::GoOn => {}
                Help::Elsewhere => self.offer(core, 1),
                Help::GaveWay => self.put_back(core),
            }
        })
    }
}

impl Stale for Group<Tickets> {
    fn is_stale(&self) -> bool {
        self.latch.is_closed()
    }
}

/// Helpers visit, by way of the workers' inboxes: all of them enter, so the last one closes the
/// latch.
///
/// They are cancelled as a whole: visits may wait for one another, so none that the others expect
/// may be missing.
pub(crate) struct Visits {
    /// Whether a visit has begun, or all of them are cancelled.
    fate: AtomicU8,
    /// The owner's process. In a forked child its stack may be gone.
    process: Process,
}

const PENDING: u8 = 0;
const BEGUN: u8 = 1;
const CANCELLED: u8 = 2;

impl Group<Visits> {
    /// Settles what becomes of the visits, if that is not settled; returns what it is.
    fn settle(&self, fate: u8) -> u8 {
        // Relaxed: the order of the changes to this word is all that matters, here and in the other
        // calls. Nobody reads anything else on the strength of it: what a visit reads was written
        // before it came into the inbox, whose lock orders that.
        let settled =
            self.kind.fate.compare_exchange(PENDING, fate, Ordering::Relaxed, Ordering::Relaxed);
        settled.map_or_else(|before| before, |_| fate)
    }

    fn enter(&self, act: impl FnOnce(&Self) -> Help) {
        if self.kind.process.is_parent() {
            return;
        }
        let _entered = self.inside(|group| {
            if act(group) == Help::Exhausted {
                let _none_queued = group.latch.close();
            }
        });
    }
}

impl DirectedTask for Group<Visits> {
    fn run(&self) {
        self.enter(|group| match self.settle(BEGUN) {
            CANCELLED => group.cancel_body(),
            _ => not_in_carrier(|| group.help(&ToTheEnd)),
        });
    }

    fn may_cancel(&self) -> bool {
        self.settle(CANCELLED) == CANCELLED
    }

    fn cancel(&self) {
        self.enter(Self::cancel_body);
    }
}

/// The owner's side of a group: the body cannot go away before the latch is closed and empty.
pub(crate) struct Owner<'b, K> {
    core: &'b Core,
    group: Arc<Group<K>>,
    _body: PhantomData<&'b ()>,
}

impl<'b, K> Owner<'b, K> {
    #[expect(unsafe_code, reason = "tickets outlive what the body borrows")]
    fn new(core: &'b Core, body: &'b dyn Body, tickets: usize, kind: K) -> Self {
        // SAFETY: a lifetime is all that changes, and it is a pointer still: it is dereferenced
        // while the body lives (invariants 1 and 2).
        let body = unsafe { transmute::<*const (dyn Body + 'b), *const dyn Body>(body) };
        let (latch, owner) = (HelperLatch::new(tickets), seam::current());
        let group = Arc::new(Group { latch, owner, body, kind });
        Self { core, group, _body: PhantomData }
    }
}

impl<'b> Owner<'b, Tickets> {
    /// Runs a body to its end, with the help of at most `helpers` workers; returns when nobody is
    /// inside any more.
    pub(crate) fn run(core: &'b Core, body: &'b dyn Body, helpers: usize) {
        if core.helps_here() {
            Self::work(core, body, helpers);
        } else {
            Self::leave_to_workers(core, body, helpers);
        }
    }

    /// Works on the body on this thread. Workers are called at once if it runs a task; a plain
    /// thread calls them when the work has shown that it is worth that.
    fn work(core: &'b Core, body: &'b dyn Body, helpers: usize) {
        let shift = OwnerShift { core, body, helpers, owner: OnceCell::new() };
        if current::in_task() {
            shift.more();
        }
        let _exhausted = not_in_carrier(|| body.help(&shift));
        if let Some(owner) = shift.owner.into_inner() {
            let inside = Inside(&*owner.group);
            core.mark_stale(owner.group.latch.close());
            drop(inside);
            drop(owner);
        }
    }

    /// Offers the body to the workers, and waits.
    ///
    /// A thread that stays awake for a moment anyway offers one ticket at first: waking a worker
    /// for a map that is over before it comes costs more than such a map. The others follow as soon
    /// as the first helper sees that it is worth it, or when that moment is over (the first item
    /// may take long).
    fn leave_to_workers(core: &'b Core, body: &'b dyn Body, helpers: usize) {
        let owner = Self::of_tickets(core, body);
        let group = &owner.group;
        let first = if wait::stays_awake() { 1 } else { helpers };
        // Relaxed: the queue orders it before the first ticket is taken.
        group.kind.rest.store(helpers - first, Ordering::Relaxed);
        group.offer(core, first);
        if first != helpers && !wait::stay_awake_until(|| group.latch.is_over()) {
            group.offer_rest(core);
        }
        drop(owner);
    }

    fn of_tickets(core: &'b Core, body: &'b dyn Body) -> Self {
        Self::new(core, body, 0, Tickets { rest: AtomicUsize::new(0) })
    }
}

impl<'b> Owner<'b, Visits> {
    /// Sends a visit to every worker and returns when all are over.
    pub(crate) fn visit_all(core: &'b Core, body: &'b dyn Body) {
        let visits = Visits { fate: AtomicU8::new(PENDING), process: Process::current() };
        let owner = Self::new(core, body, core.slots.len(), visits);
        core.deliver_to_all(&owner.group);
        drop(owner);
    }
}

impl<K> Drop for Owner<'_, K> {
    /// Blocks until the latch is closed and empty.
    fn drop(&mut self) {
        let promise = AbortOnUnwind::new("a map or broadcast would have ended before its helpers");
        let group = &self.group;
        if !self.core.wait_until(|| group.latch.is_over()) {
            // In a forked child: nobody comes, and nobody is inside.
            let _nothing_starts = group.cancel_body();
            let _none_comes = group.latch.close();
        }
        promise.disarm();
    }
}
