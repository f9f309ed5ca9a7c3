//! The results of a map: each is written once, in place, at the position of its item.
//!
//! As many places as the input promised are allocated beforehand. What lies beyond them (the input
//! promised too little) goes to segments, which are appended at the end.
//!
//! Invariants:
//!
//! 1. `places` is the allocation of `spare`, whose length is 0; nobody touches `spare` before the
//!    helpers are gone.
//! 2. The engine hands out every position once, so no two helpers write to the same place, and no place
//!    is written twice.
//! 3. A place is initialised if and only if it is covered by one of `runs` (or by a segment's length):
//!    [`Sink::fill`] records what it wrote before it returns or unwinds.

use std::mem::MaybeUninit;
use std::ops::ControlFlow;

use parking_lot::Mutex;

use super::Lane;
use crate::frame::CleanupError;
use crate::pool::isolation::Tasks;

/// See the module's documentation.
pub(crate) struct Output<R> {
    spare: Vec<R>,
    places: *mut R,
    done: Mutex<Done<R>>,
}

struct Done<R> {
    /// Positions in place that are initialised, as (first, how many).
    runs: Vec<(usize, usize)>,
    segments: Vec<Segment<R>>,
}

/// Consecutive results beyond the places, from position `base` on.
struct Segment<R> {
    base: usize,
    results: Vec<R>,
}

#[expect(unsafe_code, reason = "helpers write through the raw pointer to the places")]
// SAFETY: sharing an output lets threads move `R`s into it, at places that differ (invariant 2); nobody
// reads one before the helpers are gone.
unsafe impl<R: Send> Sync for Output<R> {}

#[expect(unsafe_code, reason = "the raw pointer is to memory that `spare` owns")]
// SAFETY: it owns its `R`s.
unsafe impl<R: Send> Send for Output<R> {}

impl<R> Output<R> {
    /// Room for `promised` results in place; an input that promises more than there is memory gets none.
    pub(crate) fn new(promised: usize) -> Self {
        let mut spare = Vec::new();
        if spare.try_reserve_exact(promised).is_err() {
            spare = Vec::new();
        }
        let places = spare.as_mut_ptr();
        Self { spare, places, done: Mutex::new(Done { runs: Vec::new(), segments: Vec::new() }) }
    }

    /// The sink of one helper.
    pub(crate) fn sink(&self) -> Sink<'_, R> {
        Sink { output: self, runs: Vec::new(), segments: Vec::new(), written: 0 }
    }

    /// All the results in order, of which there must be `expected`.
    #[expect(unsafe_code, reason = "takes the initialised places over into the vector")]
    pub(crate) fn into_vec(self, expected: usize) -> Vec<R> {
        let Done { runs, mut segments } = self.done.into_inner();
        let mut results = self.spare;
        let in_place: usize = runs.iter().map(|&(_, len)| len).sum();
        assert_eq!(in_place, expected.min(results.capacity()), "every item has one result");
        // SAFETY:
        // - `in_place` is at most the capacity, by the line above;
        // - the runs do not overlap (invariant 2) and lie below `min(expected, capacity)`, since no
        //   position beyond was handed out; they cover as many places as that, so they cover all.
        unsafe { results.set_len(in_place) };
        segments.sort_unstable_by_key(|segment| segment.base);
        results.reserve_exact(expected - in_place);
        for mut segment in segments {
            results.append(&mut segment.results);
        }
        results
    }

    /// Drops the results one by one, each through `drop_one`, so that a panic in one costs that one.
    #[expect(unsafe_code, reason = "moves the initialised places out one by one")]
    pub(crate) fn discard(self, mut drop_one: impl FnMut(R)) {
        let Done { runs, segments } = self.done.into_inner();
        for (first, len) in runs {
            for position in first..first + len {
                // SAFETY: `position` is below the capacity, since a run covers it.
                let place = unsafe { self.places.add(position) };
                // SAFETY: initialised by invariant 3, and read once: runs do not overlap.
                drop_one(unsafe { place.read() });
            }
        }
        for segment in segments {
            segment.results.into_iter().for_each(&mut drop_one);
        }
    }
}

/// Where one helper puts its results.
pub(crate) struct Sink<'o, R> {
    output: &'o Output<R>,
    runs: Vec<(usize, usize)>,
    segments: Vec<Segment<R>>,
    /// How many results were written.
    pub(crate) written: usize,
}

/// Results from position `base` on, while they are written: its drop, also while unwinding, records
/// how many there are.
struct Run<'s, 'o, R> {
    sink: &'s mut Sink<'o, R>,
    base: usize,
    count: usize,
}

impl<'o, R> Sink<'o, R> {
    /// How many of the `len` results from `base` on can be written by one [`fill`](Sink::fill).
    pub(crate) fn room(&self, base: usize, len: usize) -> usize {
        match self.output.spare.capacity().checked_sub(base) {
            None | Some(0) => len,
            Some(places) => places.min(len),
        }
    }

    /// Runs `f` for each of the items, each one of `tasks`, and writes the results to as many positions
    /// from `base` on, which must be the caller's and have [`room`](Sink::room). Returns why it ended
    /// early, if it did, and how many results were written.
    #[inline(always)]
    pub(crate) fn fill<'c, I, E>(
        &mut self,
        base: usize,
        mut items: impl Lane<Item = I>,
        tasks: &mut impl Tasks<'c>,
        f: impl FnMut(I) -> ControlFlow<E, R>,
    ) -> (Option<Stop<R, E>>, usize) {
        let before = self.written;
        let places = self.places(base, items.len());
        let mut run = Run { sink: self, base, count: 0 };
        let stop = fill(places, &mut items, tasks, f, &mut run.count);
        drop(run);
        (stop, self.written - before)
    }

    /// Writes one result.
    pub(crate) fn push(&mut self, position: usize, result: R) {
        let places = self.places(position, 1);
        places[0].write(result);
        self.record(position, 1);
    }

    /// Uninitialised places for `len` results from `base` on.
    #[expect(unsafe_code, reason = "lends out places of the shared output")]
    fn places<'p>(&mut self, base: usize, len: usize) -> &'p mut [MaybeUninit<R>] {
        let place = if base < self.output.spare.capacity() {
            assert!(len <= self.output.spare.capacity() - base, "a fill has room");
            // SAFETY: below the capacity.
            unsafe { self.output.places.add(base) }
        } else {
            self.segment(base, len).results.spare_capacity_mut().as_mut_ptr().cast::<R>()
        };
        // SAFETY: `len` places from there on are allocated, by the assertion or by the segment; they
        // are this helper's alone (invariant 2), and neither vector moves before `record`. The caller
        // holds the slice no longer than that.
        unsafe { std::slice::from_raw_parts_mut(place.cast::<MaybeUninit<R>>(), len) }
    }

    /// The segment that ends before `base`, with spare capacity for `len` results more.
    #[cold]
    fn segment(&mut self, base: usize, len: usize) -> &mut Segment<R> {
        let fits = |s: &Segment<R>| s.base + s.results.len() == base;
        if !self.segments.last().is_some_and(fits) {
            self.segments.push(Segment { base, results: Vec::with_capacity(len.max(64)) });
        }
        let last = self.segments.len() - 1;
        let segment = &mut self.segments[last];
        segment.results.reserve(len);
        segment
    }

    /// `count` results from `base` on have been written.
    #[expect(unsafe_code, reason = "takes over what was written to a segment")]
    fn record(&mut self, base: usize, count: usize) {
        self.written += count;
        if base < self.output.spare.capacity() {
            match self.runs.last_mut() {
                Some((first, len)) if *first + *len == base => *len += count,
                _ => self.runs.push((base, count)),
            }
        } else if let Some(Segment { results, .. }) = self.segments.last_mut() {
            // SAFETY: `fill` has written the first `count` places of the spare capacity.
            unsafe { results.set_len(results.len() + count) };
        }
    }
}

impl<R> Drop for Run<'_, '_, R> {
    fn drop(&mut self) {
        if self.count != 0 {
            self.sink.record(self.base, self.count);
        }
    }
}

impl<R> Drop for Sink<'_, R> {
    fn drop(&mut self) {
        let mut done = self.output.done.lock();
        done.runs.append(&mut self.runs);
        done.segments.append(&mut self.segments);
    }
}

/// Why the items of a fill ended early.
pub(crate) enum Stop<R, E> {
    /// The last one stops the map. Its task is not ended yet.
    Item(E),
    /// The last one could not be cleaned up; what it came to is to be dropped.
    Cleanup(CleanupError, R),
}

/// The innermost loop of every map: runs the items, each one of `tasks`, and writes the results to
/// `places` and how many there are to `total`, also when an item unwinds.
///
/// Three things keep the cost of a task that touches no slot at nothing. It is not inlined: a parameter
/// that is a unique reference is known not to overlap with anything else, so a result that is stored
/// cannot have changed whether the task is clean. The inner loop leaves when a task is not: as nothing
/// in it writes to the engine's state then, it is asked once for all items of an `f` that the optimiser
/// can see through, and once an item, by a load and a branch, otherwise. And the count is kept in a
/// register.
#[inline(never)]
#[expect(unsafe_code, reason = "moves the items out by number")]
fn fill<'c, L: Lane, R, E>(
    places: &mut [MaybeUninit<R>],
    items: &mut L,
    tasks: &mut impl Tasks<'c>,
    mut f: impl FnMut(L::Item) -> ControlFlow<E, R>,
    total: &mut usize,
) -> Option<Stop<R, E>> {
    /// Items moved out and results written; its drop says so, also while unwinding.
    struct Progress<'n, L: Lane> {
        out: usize,
        done: usize,
        items: &'n mut L,
        total: &'n mut usize,
    }
    impl<L: Lane> Drop for Progress<'_, L> {
        #[inline(always)]
        fn drop(&mut self) {
            self.items.moved_out(self.out);
            *self.total = self.done;
        }
    }
    let len = items.len();
    let places = &mut places[..len];
    let mut progress = Progress { out: 0, done: 0, items, total };
    loop {
        let result = 'clean: {
            while progress.done < len {
                let n = progress.done;
                progress.out = n + 1;
                // SAFETY: `n` is below `len` and grows by one with each item.
                let item = unsafe { progress.items.get(n) };
                let result = match f(item) {
                    ControlFlow::Continue(result) => result,
                    ControlFlow::Break(with) => return Some(Stop::Item(with)),
                };
                if !tasks.is_clean() {
                    break 'clean result;
                }
                places[n].write(result);
                progress.done = n + 1;
            }
            return None;
        };
        // Before the result counts: a task is over when its slots are.
        if let Err(error) = tasks.next_task() {
            return Some(Stop::Cleanup(error, result));
        }
        places[progress.done].write(result);
        progress.done += 1;
    }
}
