//! [`Pool::wait_idle`].

use super::error::FORKED;
use super::pool::Pool;
use super::scheduler::current;

impl Pool {
    /// Waits until the pool has nothing to do: until a moment at which everything that was
    /// submitted before, by anybody, is over, and so is what that has submitted in turn.
    ///
    /// That is every task in the queue or under way: those of [`submit`](Pool::submit), detached
    /// ones and those of scopes included, and the maps and broadcasts that have not returned. Hooks
    /// do not count. The pool stays open; on a closed one, this waits until it has drained.
    ///
    /// # Panics
    ///
    /// Panics inside a task of the pool and on its threads, including in hooks that run there,
    /// since it would wait for itself. Panics in a forked child.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    /// use std::sync::atomic::{AtomicU32, Ordering};
    ///
    /// static DONE: AtomicU32 = AtomicU32::new(0);
    ///
    /// let pool = Pool::new(2).unwrap();
    /// for _ in 0..10 {
    ///     drop(pool.submit(|| DONE.fetch_add(1, Ordering::Relaxed)));
    /// }
    /// pool.wait_idle();
    /// assert_eq!(DONE.load(Ordering::Relaxed), 10);
    /// ```
    #[doc(alias = "join")]
    #[track_caller]
    pub fn wait_idle(&self) {
        let core = self.core();
        if current::keeps_open(core.id) || current::belongs_to(core.id) {
            panic!("a task of the pool waits until the pool is idle, and so for itself");
        }
        if core.is_forked() || !core.wait_until_idle() {
            panic!("{FORKED}");
        }
    }
}
