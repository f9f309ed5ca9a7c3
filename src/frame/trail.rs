//! The undo trail: which cells the open tasks have touched, the oldest first.

#![expect(unsafe_code, reason = "entries reach cells by pointer")]

use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use super::cell::RawCell;

/// One touched cell: it shows a value of its own since then.
#[derive(Clone, Copy)]
pub(super) struct TrailEntry {
    pub(super) cell: NonNull<RawCell>,
    /// The task that touched it.
    pub(super) epoch: u64,
    /// How many drops of one clean-up led to the touch, times `GENERATION`.
    pub(super) generation: u32,
}

/// The entries of one thread. Those of the innermost task are the last ones, and the only ones with
/// its epoch, which is never used again. So nobody has to remember where a task's entries begin.
pub(super) struct Trail(RefCell<ManuallyDrop<Vec<TrailEntry>>>);

impl Trail {
    pub(super) const fn new() -> Self {
        Self(RefCell::new(ManuallyDrop::new(Vec::new())))
    }

    #[inline]
    pub(super) fn push(&self, entry: TrailEntry) {
        self.0.borrow_mut().push(entry);
    }

    /// Takes the youngest entry out, if it is one of the task with this epoch.
    pub(super) fn pop(&self, epoch: u64) -> Option<TrailEntry> {
        let mut entries = self.0.borrow_mut();
        // Word by word: as a whole it would be read in words wider than those that were written,
        // which would have to reach the cache first.
        let &TrailEntry { cell, epoch: its, generation } = entries.last()?;
        if its != epoch {
            return None;
        }
        let rest = entries.len() - 1;
        entries.truncate(rest);
        Some(TrailEntry { cell, epoch, generation })
    }

    /// Takes out the entries of the task with this epoch, the oldest first.
    #[inline]
    pub(super) fn take(&self, epoch: u64) -> Vec<TrailEntry> {
        let mut entries = self.0.borrow_mut();
        let before = entries.iter().rposition(|entry| entry.epoch != epoch);
        entries.split_off(before.map_or(0, |last| last + 1))
    }

    /// Returns the epoch of the task that has touched a cell last.
    pub(super) fn last_epoch(&self) -> Option<u64> {
        self.0.borrow().last().map(|entry| entry.epoch)
    }

    /// Forgets the entries of owners that are gone: a long task, or a thread outside of any, that
    /// makes and drops many owners would collect entries.
    pub(super) fn prune(&self) {
        self.0.borrow_mut().retain(|entry| {
            // SAFETY: C1: in place while it has an entry; `remove_entry` is the last use.
            let cell = unsafe { entry.cell.as_ref() };
            let has_ended = cell.has_ended_by_now();
            if has_ended {
                cell.remove_entry();
            }
            !has_ended
        });
    }

    /// Frees the memory, at the end of the thread.
    pub(super) fn free(&self) {
        drop(ManuallyDrop::into_inner(self.0.take()));
    }
}
