//! The methods of [`Pool`] that apply a function to many items.

use std::ops::Range;
use std::panic::Location;

use super::error::{Cause, Label, Labelled, SHUT_DOWN, TaskError};
use super::imap::{Imap, ImapUnordered, LazyInput};
use super::map::{self, Numbers, Pulled, RangeIndex, Reduction, Unfinished};
use super::pool::Pool;
use crate::context::Context;
use crate::frame::Framed;

impl Pool {
    /// Applies `f` to every item, each in a task of its own, and returns the results in input
    /// order.
    ///
    /// Items and `f` may borrow. The workers take turns at pulling items from the iterator, a chunk
    /// at a time, or one by one where they are slow, and write the results in place: nothing is
    /// collected beforehand or copied afterwards. Each pull is a task of its own, too.
    ///
    /// A chunk is pulled completely before its first item starts. So an iterator that waits for the
    /// outcome of an item that it has yielded may wait for ever. For such an iterator, use
    /// [`imap`](Pool::imap) (on a thread that runs a task, with a buffer of one, since that thread
    /// fills the buffer before it runs any item).
    ///
    /// # Panics
    ///
    /// Panics with the first panic of an item or of the iterator; the results made so far are
    /// dropped. Each helper (a thread that works on the map) checks for a panic, and for a
    /// shutdown, before every block of items: as many as took a microsecond before, 1 to 256. It
    /// may still start the rest of its block.
    ///
    /// Panics if the pool is shut down, if tasks are nested too deep, and as
    /// [`submit`](Pool::submit) does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(2).unwrap();
    /// let text = String::from("to be or not to be");
    /// assert_eq!(pool.map(text.split(' '), str::len), [2, 2, 2, 3, 2, 2]);
    /// ```
    #[track_caller]
    pub fn map<I, F, R>(&self, items: I, f: F) -> Vec<R>
    where
        I: IntoIterator,
        I::IntoIter: Send,
        F: Fn(I::Item) -> R + Sync,
        R: Send,
    {
        let (items, f) = begin(items, f);
        self.plain(Pulled::new(items), map::Plain(f))
    }

    /// Applies `f` to every element of a slice; otherwise like [`map`](Pool::map), and faster.
    ///
    /// # Panics
    ///
    /// Panics as [`map`](Pool::map) does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(2).unwrap();
    /// let words = ["one", "three"];
    /// assert_eq!(pool.map_slice(&words, |word| word.len()), [3, 5]);
    /// ```
    #[doc(alias = "par_iter")]
    #[track_caller]
    pub fn map_slice<'s, T, F, R>(&self, items: &'s [T], f: F) -> Vec<R>
    where
        T: Sync,
        F: Fn(&'s T) -> R + Sync,
        R: Send,
    {
        self.plain(items, map::Plain(f))
    }

    /// Applies `f` to every number of a range; otherwise like [`map`](Pool::map), and faster. (A
    /// range `a..=b` is an iterator, for `map`.)
    ///
    /// # Panics
    ///
    /// Panics as [`map`](Pool::map) does, and if the length of the range overflows `usize`, or if
    /// there is no memory for that many results.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(2).unwrap();
    /// assert_eq!(pool.map_range(-1_i64..2, |n| n * n), [1, 0, 1]);
    /// ```
    #[track_caller]
    pub fn map_range<N, F, R>(&self, range: Range<N>, f: F) -> Vec<R>
    where
        N: RangeIndex,
        F: Fn(N) -> R + Sync,
        R: Send,
    {
        let f = Framed::new(f);
        let Some(numbers) = Numbers::of(&range) else {
            panic!("a range longer than memory: its length overflows `usize`")
        };
        self.plain(numbers, map::Plain(f.into_inner()))
    }

    /// Applies `f` to every item until one fails; otherwise like [`map`](Pool::map).
    ///
    /// # Errors
    ///
    /// Returns the error of an item; if several have failed, that of the first one in input order.
    /// The helpers stop as they do after a panic, and the results made so far are dropped.
    ///
    /// # Panics
    ///
    /// Panics as [`map`](Pool::map) does. A panic takes precedence over an error.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(2).unwrap();
    /// let parsed = pool.try_map(["1", "2"], str::parse::<i32>);
    /// assert_eq!(parsed, Ok(vec![1, 2]));
    /// assert!(pool.try_map(["1", "x"], str::parse::<i32>).is_err());
    /// ```
    #[track_caller]
    pub fn try_map<I, F, R, E>(&self, items: I, f: F) -> Result<Vec<R>, E>
    where
        I: IntoIterator,
        I::IntoIter: Send,
        F: Fn(I::Item) -> Result<R, E> + Sync,
        R: Send,
        E: Send,
    {
        let (items, f) = begin(items, f);
        self.run_map(Pulled::new(items), map::Trying(f))
    }

    /// Applies `f` to every item; a panic costs only its own item. Otherwise like
    /// [`map`](Pool::map). The [`task_id`](TaskError::task_id) of an error is the item's position.
    ///
    /// # Panics
    ///
    /// Panics if the iterator does, if the pool is shut down, if tasks are nested too deep, and as
    /// [`submit`](Pool::submit) does. The pool's [`panic_hook`](crate::PoolBuilder::panic_hook) is
    /// then told of the items that have failed.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(2).unwrap();
    /// let results = pool.map_results([1, 0, 4], |n| 12 / n);
    /// assert_eq!(*results[0].as_ref().unwrap(), 12);
    /// assert!(results[1].as_ref().unwrap_err().is_panic());
    /// assert_eq!(*results[2].as_ref().unwrap(), 3);
    /// ```
    #[must_use = "the panics of items are in there, and nobody else hears of them"]
    #[track_caller]
    pub fn map_results<I, F, R>(&self, items: I, f: F) -> Vec<Result<R, TaskError>>
    where
        I: IntoIterator,
        I::IntoIter: Send,
        F: Fn(I::Item) -> R + Sync,
        R: Send,
    {
        let label = self.label(0, Location::caller());
        let (items, f) = begin(items, f);
        self.plain(Pulled::new(items), map::Every { f, label })
    }

    /// Applies `f` to every item together with a value that `init` makes: for scratch that is
    /// expensive to make, such as a buffer, a parser or a connection. Otherwise like
    /// [`map`](Pool::map).
    ///
    /// Each helper (a thread that works on the map) makes one value before its first item and lends
    /// it to its items, one after the other. The value is dropped when the helper leaves, before
    /// the map returns. A helper that gives way to other work, between two chunks, makes another
    /// one when it comes back. Before that, it stays for ten times as long as `init` took, but for
    /// 100 ms at most; use a [`worker_local!`](crate::worker_local) for what takes more than 10 ms
    /// to make and is to outlast that. Each call of `init` is a task of its own: what it leaves in
    /// slots is reset, what it returns is kept.
    ///
    /// # Panics
    ///
    /// Panics as [`map`](Pool::map) does; a panic of `init`, or of the drop of what it made, counts
    /// as one of the map's.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(2).unwrap();
    /// let words = ["a b", "c d e"];
    /// let counts = pool.map_init(words, Vec::new, |scratch, line| {
    ///     scratch.clear();
    ///     scratch.extend(line.split(' '));
    ///     scratch.len()
    /// });
    /// assert_eq!(counts, [2, 3]);
    /// ```
    #[track_caller]
    pub fn map_init<I, N, S, F, R>(&self, items: I, init: N, f: F) -> Vec<R>
    where
        I: IntoIterator,
        I::IntoIter: Send,
        N: Fn() -> S + Sync,
        F: Fn(&mut S, I::Item) -> R + Sync,
        R: Send,
    {
        let (init, f) = (Framed::new(init), Framed::new(f));
        self.plain(Pulled::new(items.into_iter()), map::Lending { init, f })
    }

    /// Calls `f` with every item; otherwise like [`map`](Pool::map).
    ///
    /// # Panics
    ///
    /// Panics as [`map`](Pool::map) does.
    ///
    /// # Examples
    ///
    /// The elements of a slice can be changed in place, one by one or in chunks:
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(2).unwrap();
    /// let mut pixels = [1, 2, 3, 4, 5];
    /// pool.for_each(&mut pixels, |pixel| *pixel *= 10);
    /// pool.for_each(pixels.chunks_mut(2), |row| row.reverse());
    /// assert_eq!(pixels, [20, 10, 40, 30, 50]);
    /// ```
    #[track_caller]
    pub fn for_each<I, F>(&self, items: I, f: F)
    where
        I: IntoIterator,
        I::IntoIter: Send,
        F: Fn(I::Item) + Sync,
    {
        let (items, f) = begin(items, f);
        drop(self.plain(Pulled::new(items), map::Plain(f)));
    }

    /// Reduces the items to one with `reduce`, which must be associative: the items keep their
    /// order, but are combined in any grouping. `identity` makes the result for no items; combining
    /// it with another value must not change that value.
    ///
    /// Each call of a closure is a task of its own. That costs some nanoseconds per item, so reduce
    /// cheap items in chunks: see [`map_reduce`](Pool::map_reduce).
    ///
    /// # Panics
    ///
    /// Panics as [`map`](Pool::map) does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(2).unwrap();
    /// assert_eq!(pool.reduce(1..=10, || 1, |a, b| a * b), 3_628_800);
    /// assert_eq!(pool.reduce(1..1, || 1, |a, b| a * b), 1);
    /// ```
    #[track_caller]
    pub fn reduce<I, N, G>(&self, items: I, identity: N, reduce: G) -> I::Item
    where
        I: IntoIterator,
        I::IntoIter: Send,
        I::Item: Send,
        N: Fn() -> I::Item + Sync,
        G: Fn(I::Item, I::Item) -> I::Item + Sync,
    {
        self.reduction("reduce", items, |item| item, identity, reduce)
    }

    /// Applies `f` to every item and reduces the results to one, as [`reduce`](Pool::reduce) does.
    ///
    /// Holds a few results per worker at most, since they are combined as they come.
    ///
    /// # Panics
    ///
    /// Panics as [`map`](Pool::map) does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    /// use std::collections::BTreeMap;
    ///
    /// let pool = Pool::new(2).unwrap();
    /// let words = ["to", "be", "or", "not", "to", "be"];
    /// let counts = pool.map_reduce(
    ///     words.chunks(2),
    ///     |words| {
    ///         let mut counts = BTreeMap::new();
    ///         words.iter().for_each(|word| *counts.entry(*word).or_insert(0) += 1);
    ///         counts
    ///     },
    ///     BTreeMap::new,
    ///     |mut counts, more| {
    ///         more.into_iter().for_each(|(word, n)| *counts.entry(word).or_insert(0) += n);
    ///         counts
    ///     },
    /// );
    /// assert_eq!(counts, [("be", 2), ("not", 1), ("or", 1), ("to", 2)].into());
    /// ```
    #[doc(alias = "fold")]
    #[track_caller]
    pub fn map_reduce<I, F, R, N, G>(&self, items: I, f: F, identity: N, reduce: G) -> R
    where
        I: IntoIterator,
        I::IntoIter: Send,
        F: Fn(I::Item) -> R + Sync,
        R: Send,
        N: Fn() -> R + Sync,
        G: Fn(R, R) -> R + Sync,
    {
        self.reduction("map_reduce", items, f, identity, reduce)
    }

    #[track_caller]
    fn reduction<I, F, R, N, G>(
        &self,
        called: &'static str,
        items: I,
        f: F,
        identity: N,
        reduce: G,
    ) -> R
    where
        I: IntoIterator,
        I::IntoIter: Send,
        F: Fn(I::Item) -> R + Sync,
        R: Send,
        N: Fn() -> R + Sync,
        G: Fn(R, R) -> R + Sync,
    {
        let at = Location::caller();
        let call = self.unnumbered(called, at);
        let (f, identity, reduce) = (Framed::new(f), Framed::new(identity), Framed::new(reduce));
        let source = Framed::new(Pulled::new(items.into_iter()));
        let context = self.context();
        // Kept to the end: the pool waits for all that is called and dropped here.
        let (_activity, label) = &self.activity(at);
        let whole = Reduction::new(self.core(), &call, identity.into_inner());
        let step = map::Reducing { f, reduce, whole: &whole };
        let Ok(_) = self.run_let_in(context, label, source.into_inner(), step);
        let result = match whole.take_result() {
            Some(result) => result,
            None => match self.map_range(0..1, |_| (whole.identity())()).pop() {
                Some(result) => result,
                None => unreachable!("one item has one result"),
            },
        };
        match whole.end(result) {
            Ok(result) => result,
            Err(failure) => TaskError::new(call.label(), Cause::Failed(failure)).resume(),
        }
    }

    #[track_caller]
    fn plain<S, P>(&self, source: S, step: P) -> Vec<P::Out>
    where
        S: map::Source,
        P: map::Step<S::Item, Stop = std::convert::Infallible>,
    {
        let Ok(results) = self.run_map(source, step);
        results
    }

    #[track_caller]
    fn run_map<S, P>(&self, source: S, step: P) -> Result<Vec<P::Out>, P::Stop>
    where
        S: map::Source,
        P: map::Step<S::Item>,
    {
        let (source, step) = (Framed::new(source), Framed::new(step));
        let context = self.context();
        let (_activity, label) = &self.activity(Location::caller());
        self.run_let_in(context, label, source.into_inner(), step.into_inner())
    }

    #[track_caller]
    fn run_let_in<S, P>(
        &self,
        context: Context,
        label: &Label,
        source: S,
        step: P,
    ) -> Result<Vec<P::Out>, P::Stop>
    where
        S: map::Source,
        P: map::Step<S::Item>,
    {
        match map::run(self.core(), context, label, source, step) {
            Ok(results) => Ok(results),
            Err(Unfinished::Stopped(with)) => Err(with),
            Err(Unfinished::Failed(failure)) => {
                TaskError::new(label.clone(), Cause::Failed(failure)).resume()
            }
            Err(Unfinished::Cancelled) => self.fail_cancelled(),
            Err(Unfinished::NoRoom(words)) => panic!("{words}"),
        }
    }

    /// Applies `f` to the items lazily and yields the results in input order.
    ///
    /// Nothing is pulled before the first `next`. From then on, items are pulled on the consumer's
    /// thread, at most [`buffer`](Imap::buffer) ahead of what was yielded, so endless input works.
    /// Since the iterator may outlive this call, `f`, the items and the results are `'static`. The
    /// iterator is a handle to the pool and keeps it open. Where the queue is bounded, `next` waits
    /// for room for what it pulls, even if its result is already there.
    ///
    /// # Panics
    ///
    /// Panics if the pool is shut down, and as [`submit`](Pool::submit) does. The iterator's `next`
    /// panics where an item panicked, if the input panics when it is pulled (later calls return the
    /// results of what was pulled before), if the pool was shut down before the input was at its
    /// end (the results of what was pulled before come first), if tasks are nested too deep, and,
    /// before it pulls, if three quarters of the calling worker's stack are used.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(2).unwrap();
    /// let mut halves = pool.imap((0..).step_by(2), |n| n / 2);
    /// assert_eq!(halves.nth(10), Some(10));
    /// ```
    #[track_caller]
    pub fn imap<I, F, R>(&self, items: I, f: F) -> Imap<I::IntoIter, F, R>
    where
        I: IntoIterator,
        I::Item: Send + 'static,
        F: Fn(I::Item) -> R + Send + Sync + 'static,
        R: Send + 'static,
    {
        Imap::new(self.lazy(items, f))
    }

    /// Applies `f` like [`imap`](Pool::imap), but yields the results as they come.
    ///
    /// # Panics
    ///
    /// Panics as [`imap`](Pool::imap) does, though results that are there may come later.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(2).unwrap();
    /// assert_eq!(pool.imap_unordered(1..=4, |n| n * 10).sum::<i32>(), 100);
    /// ```
    #[track_caller]
    pub fn imap_unordered<I, F, R>(&self, items: I, f: F) -> ImapUnordered<I::IntoIter, F, R>
    where
        I: IntoIterator,
        I::Item: Send + 'static,
        F: Fn(I::Item) -> R + Send + Sync + 'static,
        R: Send + 'static,
    {
        ImapUnordered::new(self.lazy(items, f))
    }

    #[track_caller]
    fn lazy<I: IntoIterator, F>(&self, items: I, f: F) -> LazyInput<I::IntoIter, F> {
        let (items, f) = (Framed::new(items), Framed::new(f));
        if self.core().is_closed_here() {
            panic!("{SHUT_DOWN}");
        }
        let context = self.context();
        let (items, f) = begin(items.into_inner(), f.into_inner());
        LazyInput::new(self.detached(), context, Location::caller(), items, f)
    }
}

/// Makes the iterator. If that panics, the closure is dropped while it unwinds, in a frame.
fn begin<I: IntoIterator, F>(items: I, f: F) -> (I::IntoIter, F) {
    let f = Framed::new(f);
    let items = items.into_iter();
    (items, f.into_inner())
}
