//! Who is told of the end of a job.

use std::cell::OnceCell;
use std::sync::Arc;
use std::task::Waker;

use super::completions::CompletionQueue;
use crate::sync::seam::{self, Thread};

/// Whom a completion has to tell. Shared, so that the place for one is a word in every queued job,
/// and a thread that waits again and again allocates once.
pub(crate) enum Waiter {
    /// A thread that blocks.
    Thread(Thread),
    /// A future that was polled.
    Waker(Waker),
    /// A consumer that waits for any of several jobs, the number it gave this one, and whoever had
    /// left a waiter before it.
    Queue(Arc<CompletionQueue>, usize, Option<Arc<Waiter>>),
}

seam::thread_local! {
    static THIS_THREAD: OnceCell<Arc<Waiter>> = const { OnceCell::new() };
}

/// Lists what this module keeps per thread, for the sentinel to leave out.
#[cfg(feature = "sentinel")]
pub(super) fn list(ignored: &mut cleanslate_sentinel::Ignored) {
    ignored.key(&THIS_THREAD);
}

impl Waiter {
    /// Returns that of the current thread.
    pub(crate) fn this_thread() -> Arc<Self> {
        let new = || Arc::new(Self::Thread(seam::current()));
        // A thread that waits in its teardown has no place to keep it.
        let kept = THIS_THREAD.try_with(|place| Arc::clone(place.get_or_init(new)));
        kept.unwrap_or_else(|_ending| new())
    }

    /// Returns the waiters that are left without the one of `queue`. Drops nothing of the user's.
    pub(crate) fn without(self: Arc<Self>, queue: &Arc<CompletionQueue>) -> Option<Arc<Self>> {
        let Self::Queue(own, number, others) = &*self else { return Some(self) };
        let others = others.clone();
        if Arc::ptr_eq(own, queue) {
            return others;
        }
        let others = others.and_then(|others| others.without(queue));
        Some(Arc::new(Self::Queue(Arc::clone(own), *number, others)))
    }
}
