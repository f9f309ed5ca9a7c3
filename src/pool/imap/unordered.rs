//! [`ImapUnordered`].

use std::collections::BTreeMap;
use std::fmt;
use std::iter::FusedIterator;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::input::{LazyInput, results};
use crate::pool::error::{FORKED, TOO_DEEP};
use crate::pool::handle::{JoinHandle, result_of};
use crate::pool::scheduler::completions::CompletionQueue;
use crate::pool::scheduler::wait;
use crate::sync::seam;

/// The results of [`Pool::imap_unordered`](crate::Pool::imap_unordered), as they come.
///
/// The panic of an item resumes when its result would have been yielded. Dropping the iterator
/// cancels what has not started; forgetting it leaks what was pulled.
///
/// # Examples
///
/// ```
/// use cleanslate::{ImapUnordered, Pool};
///
/// let pool = Pool::new(2).unwrap();
/// let squares: ImapUnordered<_, _, u64> = pool.imap_unordered(1..4, |n| n * n);
/// assert_eq!(squares.sum::<u64>(), 14);
/// ```
#[must_use = "no item runs before the first `next`"]
pub struct ImapUnordered<I, F, R> {
    /// The items that were pulled and not yet yielded, in the order in which they were pulled.
    /// Dropped first: a task may wait for what a result holds, and the input for the tasks.
    pulled: BTreeMap<usize, JoinHandle<R>>,
    ready: Arc<CompletionQueue>,
    input: LazyInput<I, F>,
}

impl<I, F, R> ImapUnordered<I, F, R> {
    pub(crate) fn new(input: LazyInput<I, F>) -> Self {
        Self { input, pulled: BTreeMap::new(), ready: Arc::new(CompletionQueue::new()) }
    }

    /// Sets how many items may be pulled and not yet yielded; at least one. The default is two per
    /// worker. Beyond both that number and 1,024, a larger buffer is filled only while no result is
    /// there, and not by a thread that runs items itself, as one that runs a task does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(2).unwrap();
    /// let mut squares: Vec<_> = pool.imap_unordered(1..4, |n| n * n).buffer(2).collect();
    /// squares.sort();
    /// assert_eq!(squares, [1, 4, 9]);
    /// ```
    pub fn buffer(mut self, n: usize) -> Self {
        self.input.buffer = n.max(1);
        self
    }

    fn handles(&self) -> impl Iterator<Item = &JoinHandle<R>> {
        self.pulled.values()
    }

    /// Returns the number of an item that is done, or `None` if none is by `deadline`. There must
    /// be one that is not yielded. Without a deadline, a thread that runs a task runs items here,
    /// in the order in which they were pulled: otherwise later ones, pulled to replace those that
    /// were yielded, could run before an earlier one again and again.
    #[track_caller]
    fn wait_for_any(&mut self, deadline: Option<Option<Instant>>) -> Option<usize> {
        let ready = &self.ready;
        let mut done = None;
        let mut look = || {
            done = ready.pop_or_register(seam::current);
            done.is_some()
        };
        let core = self.input.pool.core();
        let is_done = if let Some(deadline) = deadline {
            wait::wait_until_deadline(&mut look, deadline, || core.is_forked())
        } else {
            let claims = core.claims_here();
            for handle in self.handles().take_while(|_| claims) {
                if look() {
                    return done;
                }
                if handle.help().is_err() {
                    panic!("{TOO_DEEP}");
                }
            }
            core.wait_until(&mut look)
        };
        if !is_done && core.is_forked() {
            panic!("{FORKED}");
        }
        done
    }

    /// Takes the result of an item that is done.
    #[track_caller]
    fn take(&mut self, number: usize) -> Option<R> {
        Some(result_of(self.pulled.remove(&number)?.join()))
    }
}

impl<I, F, R> ImapUnordered<I, F, R>
where
    I: Iterator,
    I::Item: Send + 'static,
    F: Fn(I::Item) -> R + Send + Sync + 'static,
    R: Send + 'static,
{
    /// Pulls as far as the buffer goes, or until a result is there.
    #[track_caller]
    fn pull(&mut self) {
        while !self.input.is_enough(self.pulled.len(), || !self.ready.is_empty()) {
            let number = self.input.number;
            let Some(handle) = self.input.submit_next(self.pulled.len()) else { break };
            handle.notify(&self.ready, number);
            self.pulled.insert(number, handle);
        }
    }

    /// Returns the next result, or `Pending` if none is there within `limit`. Runs no item on this
    /// thread, so that the limit holds; it does not cover pulling from the input (a practically
    /// endless buffer is filled until a result is there, whatever the limit), nor the wait for room
    /// in a full bounded queue.
    ///
    /// # Panics
    ///
    /// Panics as `next` does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    /// use std::{task::Poll, time::Duration};
    ///
    /// let pool = Pool::new(1).unwrap();
    /// let mut results = pool.imap_unordered(0..2, |n| n);
    /// let mut sum = 0;
    /// loop {
    ///     match results.next_timeout(Duration::from_millis(10)) {
    ///         Poll::Ready(Some(n)) => sum += n,
    ///         Poll::Ready(None) => break,
    ///         Poll::Pending => {}
    ///     }
    /// }
    /// assert_eq!(sum, 1);
    /// ```
    #[track_caller]
    pub fn next_timeout(&mut self, limit: Duration) -> Poll<Option<R>> {
        self.pull();
        if self.pulled.is_empty() {
            return Poll::Ready(None);
        }
        // A limit beyond the clock's range is no limit.
        match self.wait_for_any(Some(Instant::now().checked_add(limit))) {
            None => Poll::Pending,
            Some(number) => Poll::Ready(self.take(number)),
        }
    }
}

impl<I, F, R> Iterator for ImapUnordered<I, F, R>
where
    I: Iterator,
    I::Item: Send + 'static,
    F: Fn(I::Item) -> R + Send + Sync + 'static,
    R: Send + 'static,
{
    type Item = R;

    #[track_caller]
    fn next(&mut self) -> Option<R> {
        self.pull();
        if self.pulled.is_empty() {
            return None;
        }
        let number = self.wait_for_any(None)?;
        self.take(number)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.input.size_hint(self.pulled.len())
    }
}

results!(ImapUnordered);
