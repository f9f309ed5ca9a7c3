//! Who runs what, and when: the queue, the workers and their threads, how they sleep, and what the
//! pool knows about the current thread.

pub(crate) mod awake;
pub(crate) mod completions;
pub(crate) mod counters;
pub(crate) mod current;
pub(crate) mod queue;
pub(crate) mod sleep;
#[cfg(all(loom, test))]
mod sleep_model;
mod stack;
pub(crate) mod threads;
pub(crate) mod wait;
pub(crate) mod waiter;
pub(crate) mod worker;
pub(crate) mod worker_slot;

/// Lists what is kept per thread, for the sentinel to leave out.
#[cfg(feature = "sentinel")]
pub(crate) fn list(ignored: &mut cleanslate_sentinel::Ignored) {
    current::list(ignored);
    stack::list(ignored);
    wait::list(ignored);
    waiter::list(ignored);
}
