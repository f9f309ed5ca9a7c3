//! Loom models of a group's latch: nobody touches the owner's stack after the owner has gone.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use super::latch::HelperLatch;
use crate::sync::model::explore;
use crate::sync::seam;
use loom::cell::UnsafeCell;

/// A group as its tickets see it: what they share, and what lies on the owner's stack. Loom reports
/// an access to `body` that is not ordered before the owner's last one.
struct Group {
    latch: HelperLatch,
    owner: seam::Thread,
    body: UnsafeCell<usize>,
    helped: AtomicUsize,
}

// Loom's cell checks every access to `body` itself; the models only ever read it while inside.
#[expect(unsafe_code, reason = "loom's cell is not `Sync`")]
// SAFETY: loom panics on an access that races.
unsafe impl Sync for Group {}

#[expect(unsafe_code, reason = "loom's cell is not `Sync`")]
// SAFETY: as above; nothing in a group is bound to a thread.
unsafe impl Send for Group {}

impl Group {
    fn new(tickets: usize) -> Arc<Self> {
        Arc::new(Self {
            latch: HelperLatch::new(tickets),
            owner: seam::current(),
            body: UnsafeCell::new(0),
            helped: AtomicUsize::new(0),
        })
    }

    fn help(&self) {
        self.body.with(|_body| ());
        self.helped.fetch_add(1, Ordering::Relaxed);
    }

    fn ticket(&self) -> bool {
        if !self.latch.enter() {
            return false;
        }
        self.help();
        let _left_behind = self.latch.close();
        if self.latch.leave() {
            self.owner.unpark();
        }
        true
    }

    /// The owner waits, and then takes its stack back.
    fn end(&self) {
        while !self.latch.is_over() {
            seam::park();
        }
        self.body.with_mut(|_body| ());
    }
}

#[test]
fn no_ticket_touches_the_owners_stack_after_the_owner_has_gone() {
    explore(3, || {
        let group = Group::new(2);
        let tickets = [0, 1].map(|_| {
            let group = Arc::clone(&group);
            thread::spawn(move || group.ticket())
        });
        group.end();
        let entered = tickets.map(|ticket| ticket.join().unwrap());
        let entered = entered.iter().filter(|entered| **entered).count();
        assert!(entered >= 1);
        assert_eq!(group.helped.load(Ordering::Relaxed), entered);
    });
}

// To loom an `unpark` orders what comes before it for a thread that does not park, too, so that it
// hides what the latch has to order. Here nobody is told.
#[test]
fn an_owner_that_looks_sees_what_the_helpers_have_done() {
    explore(3, || {
        let group = Group::new(2);
        let tickets = [0, 1].map(|_| {
            let group = Arc::clone(&group);
            thread::spawn(move || {
                if group.latch.enter() {
                    group.help();
                    let _left_behind = group.latch.close();
                    let _is_last = group.latch.leave();
                }
            })
        });
        while !group.latch.is_over() {
            thread::yield_now();
        }
        group.body.with_mut(|_body| ());
        for ticket in tickets {
            ticket.join().unwrap();
        }
    });
}

#[test]
fn an_owner_that_works_itself_waits_for_the_helpers_inside() {
    explore(3, || {
        let group = Group::new(2);
        group.latch.enter_as_owner();
        let tickets = [0, 1].map(|_| {
            let group = Arc::clone(&group);
            thread::spawn(move || group.ticket())
        });
        group.help();
        let left_behind = group.latch.close();
        if group.latch.leave() {
            group.owner.unpark();
        }
        group.end();
        let late = tickets.map(|ticket| ticket.join().unwrap());
        let late = late.iter().filter(|entered| !**entered).count() as u64;
        // Only the first to close the latch is told how many tickets come too late.
        assert!(left_behind == 0 || left_behind == late);
    });
}

#[test]
fn visits_that_do_not_close_the_latch_are_waited_for_as_well() {
    explore(3, || {
        let group = Group::new(2);
        let left = Arc::new(AtomicUsize::new(2));
        let visits = [0, 1].map(|_| {
            let (group, left) = (Arc::clone(&group), Arc::clone(&left));
            thread::spawn(move || {
                assert!(group.latch.enter());
                group.help();
                if left.fetch_sub(1, Ordering::Relaxed) == 1 {
                    let _none_queued = group.latch.close();
                }
                if group.latch.leave() {
                    group.owner.unpark();
                }
            })
        });
        group.end();
        for visit in visits {
            visit.join().unwrap();
        }
    });
}
