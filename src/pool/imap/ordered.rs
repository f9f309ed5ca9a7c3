//! [`Imap`].

use std::collections::VecDeque;
use std::fmt;
use std::iter::FusedIterator;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::task::Poll;
use std::time::Duration;

use super::input::{LazyInput, results};
use crate::pool::handle::{JoinHandle, result_of};

/// The results of [`Pool::imap`](crate::Pool::imap), in input order.
///
/// The panic of an item resumes where its result would have been. Dropping the iterator cancels
/// what has not started; forgetting it leaks what was pulled.
///
/// # Examples
///
/// ```
/// use cleanslate::{Imap, Pool};
///
/// let pool = Pool::new(2).unwrap();
/// let squares: Imap<_, _, u64> = pool.imap(1.., |n| n * n);
/// assert_eq!(squares.take(3).collect::<Vec<_>>(), [1, 4, 9]);
/// ```
#[must_use = "no item runs before the first `next`"]
pub struct Imap<I, F, R> {
    /// Dropped first: a task may wait for what a result holds, and the input for the tasks.
    pulled: VecDeque<JoinHandle<R>>,
    input: LazyInput<I, F>,
}

impl<I, F, R> Imap<I, F, R> {
    pub(crate) fn new(input: LazyInput<I, F>) -> Self {
        Self { input, pulled: VecDeque::new() }
    }

    /// Sets how many items may be pulled and not yet yielded; at least one. The default is two per
    /// worker. Beyond both that number and 1,024, a larger buffer is filled only while the next
    /// result is not there, and not by a thread that runs items itself, as one that runs a task
    /// does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(2).unwrap();
    /// let squares = pool.imap(1_u64.., |n| n * n).buffer(4);
    /// assert_eq!(squares.take(3).collect::<Vec<_>>(), [1, 4, 9]);
    /// ```
    pub fn buffer(mut self, n: usize) -> Self {
        self.input.buffer = n.max(1);
        self
    }

    fn handles(&self) -> impl Iterator<Item = &JoinHandle<R>> {
        self.pulled.iter()
    }
}

impl<I, F, R> Imap<I, F, R>
where
    I: Iterator,
    I::Item: Send + 'static,
    F: Fn(I::Item) -> R + Send + Sync + 'static,
    R: Send + 'static,
{
    /// Pulls as far as the buffer goes, or until the next result is there.
    #[track_caller]
    fn pull(&mut self) {
        let Self { input, pulled } = self;
        while !input.is_enough(pulled.len(), || pulled.front().is_some_and(JoinHandle::is_finished))
        {
            let Some(handle) = input.submit_next(pulled.len()) else { break };
            pulled.push_back(handle);
        }
    }

    /// Returns the next result, or `Pending` if it is not there within `limit`. Runs no item on
    /// this thread, so that the limit holds; it does not cover pulling from the input (a
    /// practically endless buffer is filled until the result is there, whatever the limit), nor the
    /// wait for room in a full bounded queue.
    ///
    /// # Panics
    ///
    /// Panics as `next` does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    /// use std::{sync::mpsc, task::Poll, time::Duration};
    ///
    /// let pool = Pool::new(1).unwrap();
    /// let (go, gate) = mpsc::channel();
    /// let gate = std::sync::Mutex::new(gate);
    /// let mut results = pool.imap(0..1, move |_| gate.lock().unwrap().recv().unwrap());
    /// assert_eq!(results.next_timeout(Duration::from_millis(1)), Poll::Pending);
    /// go.send(7).unwrap();
    /// assert_eq!(results.next(), Some(7));
    /// assert_eq!(results.next_timeout(Duration::ZERO), Poll::Ready(None));
    /// ```
    #[track_caller]
    pub fn next_timeout(&mut self, limit: Duration) -> Poll<Option<R>> {
        self.pull();
        let Some(first) = self.pulled.front_mut() else { return Poll::Ready(None) };
        match first.join_timeout(limit) {
            None => Poll::Pending,
            Some(joined) => {
                drop(self.pulled.pop_front());
                Poll::Ready(Some(result_of(joined)))
            }
        }
    }
}

impl<I, F, R> Iterator for Imap<I, F, R>
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
        let first = self.pulled.pop_front()?;
        Some(result_of(first.join()))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.input.size_hint(self.pulled.len())
    }
}

results!(Imap);
