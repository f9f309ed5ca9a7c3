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
//! 3. A place is initialised if and only if it is covered by one of `runs`: a [`Block`] records what it
//!    wrote in the same call, and runs no code of others in between.
//! 4. A block's own buffer is initialised up to `len`.

use std::mem::MaybeUninit;

use parking_lot::Mutex;

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

impl<'o, R> Sink<'o, R> {
    /// A block for up to `N` results, from position `base` on.
    #[inline(always)]
    pub(crate) fn block<const N: usize>(&mut self, base: usize) -> Block<'_, 'o, R, N> {
        Block { results: [const { MaybeUninit::uninit() }; N], len: 0, base, sink: self }
    }

    /// Moves `len` results from `from` to the positions from `base` on.
    #[expect(unsafe_code, reason = "copies the results to their places")]
    fn take_over(&mut self, base: usize, from: *const R, len: usize) {
        let in_place = self.output.spare.capacity().saturating_sub(base).min(len);
        if in_place != 0 {
            // SAFETY: `base + in_place` is at most the capacity.
            let place = unsafe { self.output.places.add(base) };
            // SAFETY: `from` holds `len` results (invariant 4) in a buffer of its own; the places are
            // ours alone (invariant 2).
            unsafe { std::ptr::copy_nonoverlapping(from, place, in_place) };
            match self.runs.last_mut() {
                Some((first, count)) if *first + *count == base => *count += in_place,
                _ => self.runs.push((base, in_place)),
            }
        }
        if in_place != len {
            // SAFETY: `in_place` is below `len`.
            let rest = unsafe { from.add(in_place) };
            self.take_over_beyond(base + in_place, rest, len - in_place);
        }
        self.written += len;
    }

    #[cold]
    #[expect(unsafe_code, reason = "copies the results to a segment")]
    fn take_over_beyond(&mut self, base: usize, from: *const R, len: usize) {
        let fits = |s: &Segment<R>| s.base + s.results.len() == base;
        if !self.segments.last().is_some_and(fits) {
            self.segments.push(Segment { base, results: Vec::with_capacity(len.max(64)) });
        }
        let Some(Segment { results, .. }) = self.segments.last_mut() else { return };
        results.reserve(len);
        let end = results.len();
        // SAFETY: `reserve` has made room for `len` more.
        let place = unsafe { results.as_mut_ptr().add(end) };
        // SAFETY: as in `take_over`, to memory that was just reserved.
        unsafe { std::ptr::copy_nonoverlapping(from, place, len) };
        // SAFETY: they are initialised now, within the capacity.
        unsafe { results.set_len(end + len) };
    }
}

impl<R> Drop for Sink<'_, R> {
    fn drop(&mut self) {
        let mut done = self.output.done.lock();
        done.runs.append(&mut self.runs);
        done.segments.append(&mut self.segments);
    }
}

/// A few results on the helper's own stack. Written straight to the output they might alias the
/// engine's bookkeeping for all that the optimiser knows, and it would be loaded again for every item.
/// Dropping the block moves them on, also while unwinding.
pub(crate) struct Block<'s, 'o, R, const N: usize> {
    results: [MaybeUninit<R>; N],
    len: usize,
    base: usize,
    sink: &'s mut Sink<'o, R>,
}

impl<R, const N: usize> Block<'_, '_, R, N> {
    /// Adds a result.
    ///
    /// # Panics
    ///
    /// Panics if the block is full.
    #[inline(always)]
    pub(crate) fn push(&mut self, result: R) {
        self.results[self.len].write(result);
        self.len += 1;
    }
}

impl<R, const N: usize> Drop for Block<'_, '_, R, N> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.len != 0 {
            let from = self.results.as_ptr().cast::<R>();
            self.sink.take_over(self.base, from, self.len);
        }
    }
}
