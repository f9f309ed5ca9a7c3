//! [`Pool::join`].

use std::panic::Location;

use super::core::Place;
use super::pool::Pool;
use crate::frame::Framed;

impl Pool {
    /// Runs two closures, in parallel if a worker is free, each in a task of its own, and returns
    /// their results. They may borrow.
    ///
    /// Inside a task, this thread runs `a` itself, and then `b`, unless a worker has begun it. So a
    /// recursion that halves its work cannot deadlock, down to the depth to which tasks may
    /// [nest](Pool#waiting). It costs two tasks, so halve only what is worth it.
    ///
    /// # Panics
    ///
    /// Panics if a closure does, after both have ended: with the panic of `a`, or else with that of
    /// `b`. The other one's result is dropped; if both panic, the pool's
    /// [`panic_hook`](crate::PoolBuilder::panic_hook) is called with that of `b`. Panics if the
    /// pool is shut down, if tasks are nested too deep, and as [`submit`](Pool::submit) does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// fn sum(pool: &Pool, numbers: &[u64]) -> u64 {
    ///     if numbers.len() <= 1000 {
    ///         return numbers.iter().sum();
    ///     }
    ///     let (left, right) = numbers.split_at(numbers.len() / 2);
    ///     let (left, right) = pool.join(|| sum(pool, left), || sum(pool, right));
    ///     left + right
    /// }
    ///
    /// let pool = Pool::new(2).unwrap();
    /// assert_eq!(sum(&pool, &Vec::from_iter(1..=10_000)), 50_005_000);
    /// ```
    #[track_caller]
    pub fn join<A, B, RA, RB>(&self, a: A, b: B) -> (RA, RB)
    where
        A: FnOnce() -> RA + Send,
        B: FnOnce() -> RB + Send,
        RA: Send,
        RB: Send,
    {
        let at = Location::caller();
        // If one is refused, both may be dropped by one panic.
        let (a, b) = (Framed::new(a), Framed::new(b));
        let context = self.context();
        let joined = self.scope(|s| {
            let a = (a.into_inner(), context.clone());
            let b = (b.into_inner(), context);
            if !self.core().helps_here() {
                let a = s.submit_at(at, Place::Wait, a);
                let b = s.submit_at(at, Place::Wait, b);
                return ((a.number(), a.join()), (b.number(), b.join()));
            }
            // What this thread runs anyway need not be put on the queue, which would call a worker
            // that mostly finds it gone.
            let b = s.submit_at(at, Place::Anyway, b);
            let a = self.run_here(a, at);
            (a, (b.number(), b.join()))
        });
        match joined {
            ((_, Ok(a)), (_, Ok(b))) => (a, b),
            ((_, Err(error)), (number, Ok(b))) => {
                self.core().drop_contained(b, &self.label(number, at));
                error.resume()
            }
            ((_, Err(error)), (_, Err(second))) => {
                self.core().report_error(second);
                error.resume()
            }
            ((number, Ok(a)), (_, Err(error))) => {
                self.core().drop_contained(a, &self.label(number, at));
                error.resume()
            }
        }
    }
}
