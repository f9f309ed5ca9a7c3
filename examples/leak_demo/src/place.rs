//! Where a request runs: on which worker, and on top of which other request.
//!
//! This is the demonstration's own record. Its thread-local cannot leak: each entry is put back
//! when a request ends, and requests on one thread end in the reverse order of their start.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where a request runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The number of its thread among those that served a request of this row, from 1.
    pub(super) worker: u32,
    /// How many requests wait below it on the same stack.
    pub(super) depth: u32,
}

#[derive(Clone, Copy)]
struct Here {
    /// How many requests are on the stack of this thread.
    depth: u32,
    /// The topmost of them that has its session borrowed while it waits.
    lender: Option<u32>,
}

/// Numbers the threads that serve requests, anew for each row.
#[derive(Clone, Debug)]
pub(super) struct Threads {
    row: u32,
    count: Arc<AtomicU32>,
}

thread_local! {
    static HERE: Cell<Here> = const { Cell::new(Here { depth: 0, lender: None }) };
    /// The row in which this thread was numbered, and its number.
    static NUMBER: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
}

impl Threads {
    pub(super) fn new() -> Self {
        static ROWS: AtomicU32 = AtomicU32::new(0);
        Self { row: ROWS.fetch_add(1, Ordering::SeqCst) + 1, count: Arc::default() }
    }

    fn number(&self) -> u32 {
        let (numbered_in, number) = NUMBER.get();
        if numbered_in == self.row {
            return number;
        }
        let number = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        NUMBER.set((self.row, number));
        number
    }

    /// Notes that a request begins on this thread; it ends when the guard is dropped.
    pub(super) fn enter(&self) -> (Place, Entered) {
        let before = HERE.get();
        HERE.set(Here { depth: before.depth + 1, ..before });
        (Place { worker: self.number(), depth: before.depth }, Entered(before))
    }
}

/// Puts back what was here before.
pub(super) struct Entered(Here);

impl Drop for Entered {
    fn drop(&mut self) {
        HERE.set(self.0);
    }
}

/// Notes that `request` has its session borrowed until the guard is dropped.
pub(super) fn lend(request: u32) -> Entered {
    let before = HERE.get();
    HERE.set(Here { lender: Some(request), ..before });
    Entered(before)
}

/// The request that has its session borrowed on this thread.
pub(super) fn lender() -> Option<u32> {
    HERE.get().lender
}
