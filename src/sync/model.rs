//! How the loom models are run. Each stands beside its type and explores every interleaving (up to
//! a number of preemptions that is said) of a few threads that use the real type, with the seam's
//! atomics, locks and threads replaced by loom's. Loom itself reports deadlocks (a lost wake-up is
//! one), and accesses to a cell that race.
//!
//! Loom overlooks two things, so a model should have been seen to fail. An `unpark` orders what
//! comes before it even for a thread that does not park: a missing Acquire shows where nobody is
//! told. And of the reads of an atomic that no write lies between, only the last is moved behind
//! the next write: a thread that has to come late looks again and again.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test --lib --release model`.

/// Explores `model` with at most `preemptions` involuntary switches, or as many as
/// `LOOM_MAX_PREEMPTIONS` says.
pub(crate) fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.check(model);
}
