//! [`Imap`] and [`ImapUnordered`]: maps that pull their input only as far as their output is wanted.

use std::collections::VecDeque;
use std::fmt;
use std::panic::resume_unwind;
use std::sync::Arc;

use super::cell::Waiter;
use super::current;
use super::error::TaskError;
use super::handle::JoinHandle;
use super::ready::ReadyList;
use super::submission::Feeder;
use crate::sync::seam;

/// How many items per worker are pulled ahead, unless `buffer` says otherwise.
const AHEAD: usize = 2;

/// The result of one item, or the panic of it.
#[track_caller]
fn result_of<R>(joined: Result<R, TaskError>) -> R {
    joined.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(payload) => resume_unwind(payload),
        Err(error) if error.is_cancelled() => panic!("the pool was shut down"),
        Err(error) => panic!("{error}"),
    })
}

/// An input that is pulled item by item, and not again after its end or its panic.
struct Input<I> {
    items: I,
    ended: bool,
}

impl<I: Iterator> Input<I> {
    fn pull(&mut self) -> Option<I::Item> {
        if self.ended {
            return None;
        }
        self.ended = true;
        let item = self.items.next()?;
        self.ended = false;
        Some(item)
    }

    fn size_hint(&self, pulled: usize) -> (usize, Option<usize>) {
        if self.ended {
            return (pulled, Some(pulled));
        }
        let (least, most) = self.items.size_hint();
        (least.saturating_add(pulled), most.and_then(|most| most.checked_add(pulled)))
    }
}

/// The results of [`Pool::imap`](crate::Pool::imap), in input order.
///
/// The panic of an item resumes where its result would have been. Dropping the iterator cancels what
/// has not started; forgetting it leaks what was pulled.
pub struct Imap<I, F, R> {
    feeder: Feeder<F>,
    input: Input<I>,
    buffer: usize,
    pulled: VecDeque<JoinHandle<R>>,
}

impl<I, F, R> Imap<I, F, R> {
    pub(crate) fn new(feeder: Feeder<F>, items: I) -> Self {
        let buffer = AHEAD * feeder.workers();
        Self { feeder, input: Input { items, ended: false }, buffer, pulled: VecDeque::new() }
    }

    /// Pulls at most `n` items that are not yet yielded; at least one. The default is two per worker.
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
        self.buffer = n.max(1);
        self
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

    fn next(&mut self) -> Option<R> {
        while self.pulled.len() < self.buffer {
            let Some(item) = self.input.pull() else { break };
            self.pulled.push_back(self.feeder.feed(item));
        }
        let first = self.pulled.pop_front()?;
        Some(result_of(first.join()))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.input.size_hint(self.pulled.len())
    }
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
            .field("buffer", &self.buffer)
            .field("pulled", &self.pulled.len())
            .finish_non_exhaustive()
    }
}

/// The results of [`Pool::imap_unordered`](crate::Pool::imap_unordered), as they come.
///
/// The panic of an item resumes when its result would have been yielded. Dropping the iterator cancels
/// what has not started; forgetting it leaks what was pulled.
pub struct ImapUnordered<I, F, R> {
    feeder: Feeder<F>,
    input: Input<I>,
    buffer: usize,
    /// The items that were pulled and not yet yielded, each at its number.
    pulled: Vec<Option<JoinHandle<R>>>,
    free: Vec<usize>,
    /// Numbers in the order of submission; some have been taken up by others long ago.
    unstarted: VecDeque<usize>,
    ready: Arc<ReadyList>,
}

impl<I, F, R> ImapUnordered<I, F, R> {
    pub(crate) fn new(feeder: Feeder<F>, items: I) -> Self {
        let buffer = AHEAD * feeder.workers();
        Self {
            feeder,
            input: Input { items, ended: false },
            buffer,
            pulled: Vec::new(),
            free: Vec::new(),
            unstarted: VecDeque::new(),
            ready: Arc::new(ReadyList::new()),
        }
    }

    /// Pulls at most `n` items that are not yet yielded; at least one. The default is two per worker.
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
        self.buffer = n.max(1);
        self
    }

    fn waiting(&self) -> usize {
        self.pulled.len() - self.free.len()
    }

    /// The number of an item that is done. There must be one that is not yielded.
    fn wait_for_any(&mut self) -> usize {
        if current::in_task() {
            loop {
                if let Some(number) = self.ready.pop_or_register(seam::current) {
                    return number;
                }
                let Some(number) = self.unstarted.pop_front() else { break };
                if let Some(handle) = &self.pulled[number] {
                    let _done = handle.help();
                }
            }
        }
        let mut done = None;
        current::wait_until(|| {
            done = self.ready.pop_or_register(seam::current);
            done.is_some()
        });
        match done {
            Some(number) => number,
            None => unreachable!("the wait ends with a number"),
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

    fn next(&mut self) -> Option<R> {
        while self.waiting() < self.buffer {
            let Some(item) = self.input.pull() else { break };
            let handle = self.feeder.feed(item);
            let number = self.free.pop().unwrap_or_else(|| {
                self.pulled.push(None);
                self.pulled.len() - 1
            });
            if handle.notify(Waiter::List(Arc::clone(&self.ready), number)) {
                self.ready.push(number);
            } else if self.unstarted.len() < 2 * self.buffer {
                self.unstarted.push_back(number);
            } else {
                // Mostly old numbers, taken up by workers: start again from those that wait now.
                let pulled = &self.pulled;
                self.unstarted = (0..pulled.len()).filter(|&n| pulled[n].is_some()).collect();
                self.unstarted.push_back(number);
            }
            self.pulled[number] = Some(handle);
        }
        if self.waiting() == 0 {
            return None;
        }
        let number = self.wait_for_any();
        let handle = self.pulled[number].take()?;
        self.free.push(number);
        Some(result_of(handle.join()))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.input.size_hint(self.waiting())
    }
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
            .field("buffer", &self.buffer)
            .field("pulled", &self.waiting())
            .finish_non_exhaustive()
    }
}
