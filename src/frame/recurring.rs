//! What ends a slot that keeps coming back, since the drop of its value fills it again (R11).
//!
//! - *In the same frame*: the loop that undoes a task's trail undoes what drops have touched as
//!   well. Each entry knows its generation, that is how many drops led to it, and there are so many
//!   generations, and so many values of later ones.
//! - *In a frame of its own*, which begins to count anew: that of a task which the drop runs, of a
//!   future or a context that it leaves, of a copy that it has captured. Frames that are opened
//!   while a clean-up calls user code have the flag `CLEANING`. Their clean-ups may lie on one
//!   another for other reasons, too: where drops wait, rayon piles up what it steals, and every
//!   chain has an end. So what ends them is the stack that they have used.

use std::cell::Cell;
use std::hint::black_box;

/// One generation, where a thread's flags have their number.
pub(super) const GENERATION: u32 = 1 << 8;

/// Generations of values that a clean-up drops. POSIX does four rounds for its keys.
pub(super) const ROUNDS: u32 = 8 * GENERATION;

/// Values of later generations that a clean-up drops in all. Slots that fill each other could
/// otherwise branch at every generation.
pub(super) const EXTRA: usize = 4096;

/// How much of the stack clean-ups may use that lie on one another, where nobody says how much the
/// thread has: std gives it two mebibytes unless it is told otherwise.
const ROOM: usize = 7 << 18;

/// So many clean-ups may lie on one another whatever they use of the stack: with coroutines, which
/// have stacks of their own, the distance between two of them says nothing.
const FEW: u32 = 32;

/// How often they may come to the end of their room before all that is left is leaked. Each may
/// have called several.
const ENDS: u32 = 256;

/// The clean-ups of a thread that lie on one another, each called by user code of the one below.
#[derive(Debug)]
pub(super) struct Cleanups {
    depth: Cell<u32>,
    /// Where the stack was when the outermost began.
    begin: Cell<usize>,
    /// How much of it they may use, in bytes.
    room: Cell<usize>,
    /// How often they have come to the end of that, or of what else may lie on one another.
    ends: Cell<u32>,
}

impl Cleanups {
    pub(super) const fn new() -> Self {
        let (depth, begin, ends) = (Cell::new(0), Cell::new(0), Cell::new(0));
        Self { depth, begin, room: Cell::new(ROOM), ends }
    }

    /// Notes how large this thread's stack is: the user's code may have used some of it, and needs
    /// some at the end.
    pub(super) fn set_stack(&self, size: usize) {
        self.room.set(size - size / 4);
    }

    /// Forgets those that the process exits from within.
    pub(super) fn forget(&self) {
        self.depth.set(0);
        self.ends.set(0);
    }

    /// Calls one of them, and tells it whether it may drop anything: that may call the next.
    #[cold]
    pub(super) fn run<R>(&self, part: impl FnOnce(bool) -> R) -> R {
        let mark = 0_u8;
        let here = std::ptr::from_ref(black_box(&mark)).addr();
        let below = self.depth.get();
        if below == 0 {
            self.begin.set(here);
            self.ends.set(0);
        }
        // Stacks grow downwards.
        let is_room = below < FEW || self.begin.get().saturating_sub(here) < self.room.get();
        let may_drop = is_room && !self.are_spent();
        if !is_room {
            self.end();
        }
        self.depth.set(below + 1);
        let result = part(may_drop);
        self.depth.set(below);
        result
    }

    /// Notes that those that lie on one another have come to an end.
    pub(super) fn end(&self) {
        self.ends.set(self.ends.get().saturating_add(1));
    }

    /// Returns whether all that is left is to be leaked, until the outermost is over.
    fn are_spent(&self) -> bool {
        self.ends.get() >= ENDS
    }

    /// Returns whether a value that a drop has left is not to be dropped any more. Counts the drop
    /// if it is.
    #[cold]
    pub(super) fn is_recurring(&self, generation: u32, extra: &mut usize) -> bool {
        let is_outermost = self.depth.get() == 0;
        if generation >= ROUNDS || *extra == 0 || self.are_spent() && !is_outermost {
            return true;
        }
        // What was called by the outermost counts for it, too.
        *extra = extra.saturating_sub(if is_outermost { 1 + self.ends.take() as usize } else { 1 });
        false
    }
}
