//! [`Imap`] and [`ImapUnordered`]: maps that pull their input only as far as their output is
//! wanted.

use std::collections::VecDeque;
use std::fmt;
use std::iter::FusedIterator;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::error::Label;
use super::handle::{JoinHandle, result_of};
use super::job::completions::CompletionQueue;
use super::job::state::Waiter;
use super::leaks::begin_item;
use super::pool::{FORKED, Pool, TOO_DEEP, resume};
use super::scheduler::current;
use crate::context::Context;
use crate::panic::Drops;
use crate::sync::seam;

/// How many items per worker are pulled ahead, unless `buffer` says otherwise.
const AHEAD: usize = 2;
/// A larger buffer is filled beyond this number only while no result is there: with one that is
/// practically endless and an endless input, the first result would never be yielded.
const EAGER: usize = 1024;

/// The input, and how its items are submitted: pulled item by item, each pull a task of its own,
/// and not again after its end or its panic.
struct Input<I, F> {
    pool: Pool,
    context: Context,
    at: &'static Location<'static>,
    /// Both are there until the drop.
    f: Option<Arc<F>>,
    items: Option<I>,
    /// How many have been pulled.
    number: usize,
    ended: bool,
    /// At most so many items are pulled and not yet yielded.
    buffer: usize,
}

impl<I, F> Input<I, F> {
    fn new(pool: Pool, context: Context, at: &'static Location<'static>, items: I, f: F) -> Self {
        let buffer = AHEAD * pool.workers();
        let (f, items) = (Some(Arc::new(f)), Some(items));
        Self { pool, context, at, f, items, number: 0, ended: false, buffer }
    }

    /// How many items are pulled in any case, before the first result is looked for.
    fn eager(&self) -> usize {
        self.buffer.min(EAGER.max(AHEAD * self.pool.workers()))
    }
}

impl<I, F> Drop for Input<I, F> {
    /// Two drops that panic cost one panic, not the process.
    fn drop(&mut self) {
        let (items, f) = (self.items.take(), self.f.take());
        let mut drops = Drops::default();
        drops.contain(|| drop(items));
        drops.contain(|| drop(f));
        drops.resume();
    }
}

impl<I: Iterator, F> Input<I, F> {
    /// Pulls and submits one item, unless there are none left.
    #[track_caller]
    fn submit_next<R>(&mut self) -> Option<JoinHandle<R>>
    where
        I::Item: Send + 'static,
        F: Fn(I::Item) -> R + Send + Sync + 'static,
        R: Send + 'static,
    {
        if self.ended {
            return None;
        }
        // Stays so if the pull panics.
        self.ended = true;
        let items = self.items.as_mut()?;
        let pulled = self.pool.core().isolation.run(&self.context, || items.next());
        let item = pulled.unwrap_or_else(|failure| {
            resume(Label { name: Some("pull of an imap".into()), at: self.at, id: 0 }, failure)
        })?;
        self.ended = false;
        let f = Arc::clone(self.f.as_ref()?);
        let number = self.number;
        self.number += 1;
        let task = move || {
            begin_item(number);
            f(item)
        };
        Some(self.pool.submit_in(&self.context, self.at, task))
    }

    fn size_hint(&self, pulled: usize) -> (usize, Option<usize>) {
        let Some(items) = self.items.as_ref().filter(|_| !self.ended) else {
            return (pulled, Some(pulled));
        };
        let (least, most) = items.size_hint();
        (least.saturating_add(pulled), most.and_then(|most| most.checked_add(pulled)))
    }
}

/// The results of [`Pool::imap`](crate::Pool::imap), in input order.
///
/// The panic of an item resumes where its result would have been. Dropping the iterator cancels
/// what has not started; forgetting it leaks what was pulled.
pub struct Imap<I, F, R> {
    input: Input<I, F>,
    pulled: VecDeque<JoinHandle<R>>,
}

impl<I, F, R> Imap<I, F, R> {
    pub(crate) fn new(
        pool: Pool,
        context: Context,
        at: &'static Location<'static>,
        items: I,
        f: F,
    ) -> Self {
        Self { input: Input::new(pool, context, at, items, f), pulled: VecDeque::new() }
    }

    /// Sets how many items are pulled ahead and not yet yielded, at most; at least one. The default
    /// is two per worker. A buffer of more than 1,024 is filled further only while the next result
    /// is not there.
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
    #[must_use]
    pub fn buffer(mut self, n: usize) -> Self {
        self.input.buffer = n.max(1);
        self
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
        while self.pulled.len() < self.input.buffer {
            let enough = self.pulled.len() >= self.input.eager();
            if enough && self.pulled.front().is_some_and(JoinHandle::is_finished) {
                break;
            }
            let Some(handle) = self.input.submit_next() else { break };
            self.pulled.push_back(handle);
        }
    }

    /// Returns the next result, or `Pending` if it is not there within `limit`. Runs no item on
    /// this thread, so that the limit holds; pulling from the input takes the time that it takes.
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

// A panic in a task is caught there, and one of the input keeps it from being pulled again.
impl<I: UnwindSafe, F: UnwindSafe, R> UnwindSafe for Imap<I, F, R> {}
impl<I: RefUnwindSafe, F: RefUnwindSafe, R> RefUnwindSafe for Imap<I, F, R> {}
impl<I: UnwindSafe, F: UnwindSafe, R> UnwindSafe for ImapUnordered<I, F, R> {}
impl<I: RefUnwindSafe, F: RefUnwindSafe, R> RefUnwindSafe for ImapUnordered<I, F, R> {}

/// Progress bars ask for the length. It is what the input promises.
impl<I, F, R> ExactSizeIterator for Imap<I, F, R>
where
    I: ExactSizeIterator,
    I::Item: Send + 'static,
    F: Fn(I::Item) -> R + Send + Sync + 'static,
    R: Send + 'static,
{
}

impl<I, F, R> FusedIterator for Imap<I, F, R>
where
    I: Iterator,
    I::Item: Send + 'static,
    F: Fn(I::Item) -> R + Send + Sync + 'static,
    R: Send + 'static,
{
}

impl<I, F, R> Drop for Imap<I, F, R> {
    fn drop(&mut self) {
        for handle in &self.pulled {
            let _started = handle.cancel();
        }
    }
}

impl<I, F, R> fmt::Debug for Imap<I, F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imap")
            .field("buffer", &self.input.buffer)
            .field("pulled", &self.pulled.len())
            .finish_non_exhaustive()
    }
}

/// The results of [`Pool::imap_unordered`](crate::Pool::imap_unordered), as they come.
///
/// The panic of an item resumes when its result would have been yielded. Dropping the iterator
/// cancels what has not started; forgetting it leaks what was pulled.
pub struct ImapUnordered<I, F, R> {
    input: Input<I, F>,
    /// The items that were pulled and not yet yielded, each at its number.
    pulled: Vec<Option<JoinHandle<R>>>,
    free: Vec<usize>,
    ready: Arc<CompletionQueue>,
}

impl<I, F, R> ImapUnordered<I, F, R> {
    pub(crate) fn new(
        pool: Pool,
        context: Context,
        at: &'static Location<'static>,
        items: I,
        f: F,
    ) -> Self {
        Self {
            input: Input::new(pool, context, at, items, f),
            pulled: Vec::new(),
            free: Vec::new(),
            ready: Arc::new(CompletionQueue::new()),
        }
    }

    /// Sets how many items are pulled ahead and not yet yielded, at most; at least one. The default
    /// is two per worker. A buffer of more than 1,024 is filled further only while no result is
    /// there.
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
    #[must_use]
    pub fn buffer(mut self, n: usize) -> Self {
        self.input.buffer = n.max(1);
        self
    }

    fn waiting(&self) -> usize {
        self.pulled.len() - self.free.len()
    }

    /// Returns the number of an item that is done, or `None` if none is by `deadline`. There must
    /// be one that is not yielded. Without a deadline this thread runs items if it runs a task.
    #[track_caller]
    fn wait_for_any(&mut self, deadline: Option<Option<Instant>>) -> Option<usize> {
        let ready = &self.ready;
        let mut done = None;
        let mut look = || {
            done = ready.pop_or_register(seam::current);
            done.is_some()
        };
        if let Some(deadline) = deadline {
            let _in_time = current::wait_until_deadline(&mut look, deadline);
            return done;
        }
        if self.input.pool.core().claims_here() {
            for handle in self.pulled.iter().flatten() {
                if look() {
                    return done;
                }
                if handle.help().is_err() {
                    panic!("{TOO_DEEP}");
                }
            }
        }
        if !self.input.pool.core().wait_until(look) {
            panic!("{FORKED}");
        }
        done
    }

    /// Takes the result of an item that is done.
    #[track_caller]
    fn take(&mut self, number: usize) -> Option<R> {
        let handle = self.pulled[number].take()?;
        self.free.push(number);
        Some(result_of(handle.join()))
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
        while self.waiting() < self.input.buffer {
            if self.waiting() >= self.input.eager() && !self.ready.is_empty() {
                break;
            }
            let Some(handle) = self.input.submit_next() else { break };
            let number = self.free.pop().unwrap_or_else(|| {
                self.pulled.push(None);
                self.pulled.len() - 1
            });
            if handle.notify(Waiter::Queue(Arc::clone(&self.ready), number)) {
                self.ready.push(number);
            }
            self.pulled[number] = Some(handle);
        }
    }

    /// Returns the next result, or `Pending` if none is there within `limit`. Runs no item on this
    /// thread, so that the limit holds; pulling from the input takes the time that it takes.
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
        if self.waiting() == 0 {
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
        if self.waiting() == 0 {
            return None;
        }
        let number = self.wait_for_any(None)?;
        self.take(number)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.input.size_hint(self.waiting())
    }
}

impl<I, F, R> ExactSizeIterator for ImapUnordered<I, F, R>
where
    I: ExactSizeIterator,
    I::Item: Send + 'static,
    F: Fn(I::Item) -> R + Send + Sync + 'static,
    R: Send + 'static,
{
}

impl<I, F, R> FusedIterator for ImapUnordered<I, F, R>
where
    I: Iterator,
    I::Item: Send + 'static,
    F: Fn(I::Item) -> R + Send + Sync + 'static,
    R: Send + 'static,
{
}

impl<I, F, R> Drop for ImapUnordered<I, F, R> {
    fn drop(&mut self) {
        for handle in self.pulled.iter().flatten() {
            let _started = handle.cancel();
        }
    }
}

impl<I, F, R> fmt::Debug for ImapUnordered<I, F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImapUnordered")
            .field("buffer", &self.input.buffer)
            .field("pulled", &self.waiting())
            .finish_non_exhaustive()
    }
}
