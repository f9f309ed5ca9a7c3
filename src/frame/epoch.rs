//! Epochs: the numbers by which a thread tells its tasks apart.
//!
//! A task gets a number of its own, one that its thread has never used, when it first leaves
//! something to undo. Until then the thread's epoch is [`CLEAN`], which no cell ever has: every
//! slot looks untouched, and one comparison tells whether there is anything to undo.

/// The epoch of a cell that shows nothing. No thread has it.
pub(crate) const NEVER: u64 = 0;
/// The epoch of the thread itself, outside any task.
pub(crate) const ROOT: u64 = 1;
/// The epoch of a thread whose innermost task has touched nothing. No cell has it.
pub(crate) const CLEAN: u64 = 2;
/// The first epoch of a task.
pub(crate) const FIRST: u64 = 3;
/// The epoch of a thread whose slots have been torn down. No cell has it.
pub(crate) const GONE: u64 = u64::MAX;
