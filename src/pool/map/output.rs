//! The results of a map: each is written once, in place, at the position of its item.
//!
//! As many places as the input promised are allocated beforehand, and the helpers carve pieces off
//! their front. Where the input promised too little, a piece has memory of its own, which is moved
//! behind the others at the end.

use std::mem::{self, MaybeUninit};
use std::ops::{ControlFlow, Range};
use std::slice;

use crate::frame::CleanupError;
use crate::pool::isolation::Tasks;

/// The most memory that is reserved because an input may have that many items: untouched, it costs
/// only addresses. Room for the items that an input has at least is reserved in any case.
const RESERVED_BYTES: usize = 64 << 20;

/// Places for the results of one chunk.
///
/// Invariant: the first `written` places are initialised, the others are not.
pub(crate) struct Piece<'m, R> {
    /// The position of the first one.
    base: usize,
    places: Places<'m, R>,
    written: usize,
}

enum Places<'m, R> {
    /// Carved off the promised ones.
    Promised(&'m mut [MaybeUninit<R>]),
    /// Beyond them.
    Beyond(Box<[MaybeUninit<R>]>),
}

impl<'m, R> Piece<'m, R> {
    /// Carves `len` places off the front of `places`, or makes new ones if there are none.
    pub(crate) fn carve(base: usize, places: &mut &'m mut [MaybeUninit<R>], len: usize) -> Self {
        let places = if places.is_empty() {
            Places::Beyond(Box::new_uninit_slice(len))
        } else {
            let (carved, left) = mem::take(places).split_at_mut(len);
            *places = left;
            Places::Promised(carved)
        };
        Self { base, places, written: 0 }
    }

    /// Returns the position of the next result.
    pub(crate) fn position(&self) -> usize {
        self.base + self.written
    }

    /// Returns the positions of the results.
    pub(crate) fn positions(&self) -> Range<usize> {
        self.base..self.position()
    }

    /// Returns how many results were written.
    pub(crate) fn written(&self) -> usize {
        self.written
    }

    /// Returns how many places are left.
    pub(crate) fn left(&self) -> usize {
        self.places.as_slice().len() - self.written
    }

    /// Writes one result.
    pub(crate) fn push(&mut self, result: R) {
        self.places.as_mut_slice()[self.written].write(result);
        self.written += 1;
    }

    /// Runs `f` for the next items, `most` at most, each one of `tasks`, and writes the results.
    /// Returns why it ended early.
    #[inline(always)]
    pub(crate) fn fill<I, T, E>(
        &mut self,
        items: &mut I,
        tasks: &mut T,
        f: impl FnMut(I::Item, &mut T) -> ControlFlow<E, R>,
        most: usize,
    ) -> Option<Stop<R, E>>
    where
        I: Iterator + Default,
        T: Tasks,
    {
        let Self { places, written, .. } = self;
        let places = &mut places.as_mut_slice()[*written..];
        let block = most.min(places.len());
        fill(&mut places[..block], items, tasks, f, written)
    }

    /// Takes the results out, which leaves no written places.
    #[expect(unsafe_code, reason = "moves results out of their places")]
    pub(crate) fn take_results(&mut self) -> impl Iterator<Item = R> {
        let written = mem::take(&mut self.written);
        self.places.as_slice()[..written].iter().map(|place| {
            // SAFETY: it was initialised, by the invariant, and is read once: an iterator does not
            // repeat, the piece counts it as not written, and a `MaybeUninit` drops nothing.
            unsafe { place.assume_init_read() }
        })
    }
}

impl<R> Places<'_, R> {
    fn as_slice(&self) -> &[MaybeUninit<R>] {
        match self {
            Self::Promised(places) => places,
            Self::Beyond(places) => places,
        }
    }

    fn as_mut_slice(&mut self) -> &mut [MaybeUninit<R>] {
        match self {
            Self::Promised(places) => places,
            Self::Beyond(places) => places,
        }
    }
}

/// Puts a piece with others, of one helper or of all.
///
/// Full ones whose results have no size become one: they need no memory, so nothing is kept for the
/// chunks of a map without results, however many there are.
pub(crate) fn put<'m, R>(pieces: &mut Vec<Piece<'m, R>>, piece: Piece<'m, R>) {
    if size_of::<R>() == 0 {
        if let [.., one, other] = &mut pieces[..] {
            if one.left() == 0 && other.left() == 0 {
                one.written += other.written;
                // Allocates nothing. The results are as good there: they have no bytes.
                one.places = Places::Beyond(Box::new_uninit_slice(one.written));
                let _joined = pieces.pop();
            }
        }
    }
    pieces.push(piece);
}

/// Runs `map` with the spare places of `results`, which is empty. `map` returns all the pieces that
/// it has carved off, fully written, and no others.
///
/// # Panics
///
/// Panics if that does not hold.
#[expect(unsafe_code, reason = "takes over into a vector what was written to its spare capacity")]
pub(crate) fn collect<R, E>(
    mut results: Vec<R>,
    map: impl for<'m> FnOnce(&'m mut [MaybeUninit<R>]) -> Result<Vec<Piece<'m, R>>, E>,
) -> Result<Vec<R>, E> {
    let begin = results.as_ptr();
    let pieces = map(results.spare_capacity_mut())?;
    let (in_place, beyond) = put_in_order(pieces, begin);
    // SAFETY:
    // - `in_place` is at most the capacity: the pieces are parts of it that do not overlap, since
    //   each is borrowed mutably;
    // - each begins where the one before ends, the first at the vector's begin, so together they
    //   are the first `in_place` places. All of those are written.
    unsafe { results.set_len(in_place) };
    append(&mut results, beyond);
    Ok(results)
}

/// Returns how many results lie in place, from `begin` on, one piece behind the other; and the
/// others, in their order. All of them are written.
///
/// # Panics
///
/// Panics as [`collect`] does.
// Compiled once for each type of results, whichever maps make them; so is `append`.
#[expect(unsafe_code, reason = "takes over results that were written to places")]
#[inline(never)]
fn put_in_order<R>(mut pieces: Vec<Piece<'_, R>>, begin: *const R) -> (usize, Vec<Box<[R]>>) {
    let (mut end, mut in_place, mut beyond) = (begin, 0, Vec::new());
    // One helper's are in order.
    let order = match pieces.is_sorted_by_key(|piece| piece.base) {
        true => Vec::new(),
        false => in_order(pieces.iter().map(|piece| piece.base).enumerate().collect()),
    };
    for n in 0..pieces.len() {
        let piece = &mut pieces[order.get(n).map_or(n, |(n, _)| *n)];
        assert_eq!(piece.left(), 0, "every item has one result");
        piece.written = 0;
        match mem::replace(&mut piece.places, Places::Promised(&mut [])) {
            Places::Promised(places) => {
                assert!(std::ptr::eq(places.as_ptr().cast(), end), "a piece begins where one ends");
                in_place += places.len();
                end = end.wrapping_add(places.len());
            }
            // SAFETY: by the first assertion and the piece's invariant all of it was written.
            Places::Beyond(places) => beyond.push(unsafe { places.assume_init() }),
        }
    }
    (in_place, beyond)
}

#[inline(never)]
fn append<R>(results: &mut Vec<R>, beyond: Vec<Box<[R]>>) {
    if !beyond.is_empty() {
        results.reserve_exact(beyond.iter().map(|results| results.len()).sum());
        for others in beyond {
            results.append(&mut others.into_vec());
        }
    }
    if results.len() < results.capacity() / 2 {
        results.shrink_to_fit();
    }
}

/// Sorts the numbers of pieces by their positions. (To sort the pieces themselves would take a sort
/// for each type of results: an eighth of what is compiled for a map.)
#[cold]
fn in_order(mut pieces: Vec<(usize, usize)>) -> Vec<(usize, usize)> {
    pieces.sort_unstable_by_key(|(_, base)| *base);
    pieces
}

/// Makes a vector with room for as many results as there may be, if that is not excessive, or else
/// for as many as there will be. An input that promises more than there is memory for gets no room;
/// if it is exact, that is an error.
pub(crate) fn reserve<R>(
    (least, most): (usize, Option<usize>),
    is_exact: bool,
) -> Result<Vec<R>, String> {
    let affordable = RESERVED_BYTES / size_of::<R>().max(1);
    let promised = most.filter(|most| *most <= affordable).unwrap_or(least);
    let mut results = Vec::new();
    match results.try_reserve_exact(promised) {
        Err(error) if is_exact => Err(format!("no room for {promised} results: {error}")),
        _ => Ok(results),
    }
}

/// Why the items of a fill ended early.
pub(crate) enum Stop<R, E> {
    /// The last one stops the map. Its task is not ended yet.
    Item(E),
    /// The last one could not be cleaned up; what it came to is to be dropped.
    Cleanup(CleanupError, R),
}

/// Runs the innermost loop of every map: the next items, each one of `tasks`, writes the results to
/// `places`, and adds how many there are to `written`, also when an item unwinds.
///
/// A task that touches no slot costs a load and a branch ([`Tasks::is_clean`]), or nothing, for
/// three reasons. The loop is not inlined: a parameter that is a unique reference is known not to
/// overlap with anything else, so a result that is stored cannot have changed whether the task is
/// clean. It gives way to another loop at the first task that is not clean, and asks before the
/// first item as well: where the optimiser can see through `f`, and nothing in it writes to the
/// engine's state, the answer is then known, and no item asks again. And it has nothing else to do:
/// what it changes from item to item has to stay in the six registers that keep their values across
/// the call of `f`.
#[inline(never)]
fn fill<I: Iterator + Default, T: Tasks, R, E>(
    places: &mut [MaybeUninit<R>],
    items: &mut I,
    tasks: &mut T,
    mut f: impl FnMut(I::Item, &mut T) -> ControlFlow<E, R>,
    written: &mut usize,
) -> Option<Stop<R, E>> {
    /// How far the loop has come; its drop records that, also while unwinding.
    struct Progress<'p, I: Default, R> {
        left: I,
        /// Those that are not written yet. An iterator, so that they take two registers.
        places: slice::IterMut<'p, MaybeUninit<R>>,
        /// How many there were.
        all: usize,
        items: &'p mut I,
        written: &'p mut usize,
    }
    impl<I: Default, R> Progress<'_, I, R> {
        #[inline(always)]
        fn write(&mut self, result: R) {
            if let Some(place) = self.places.next() {
                place.write(result);
            }
        }
    }
    impl<I: Default, R> Drop for Progress<'_, I, R> {
        #[inline(always)]
        fn drop(&mut self) {
            mem::swap(self.items, &mut self.left);
            *self.written += self.all - self.places.len();
        }
    }
    let all = places.len();
    let mut progress =
        Progress { left: mem::take(items), places: places.iter_mut(), all, items, written };
    let mut is_clean = tasks.is_clean();
    while is_clean && progress.places.len() != 0 {
        // There are as many items as places.
        let item = progress.left.next()?;
        let result = match f(item, tasks) {
            ControlFlow::Continue(result) => result,
            ControlFlow::Break(with) => return Some(Stop::Item(with)),
        };
        // The price of isolation: a load and a branch.
        is_clean = tasks.is_clean();
        if !is_clean {
            // Before the result counts: a task is over when its slots are.
            if let Err(error) = tasks.next_task() {
                return Some(Stop::Cleanup(error, result));
            }
        }
        progress.write(result);
    }
    while progress.places.len() != 0 {
        let item = progress.left.next()?;
        let result = match f(item, tasks) {
            ControlFlow::Continue(result) => result,
            ControlFlow::Break(with) => return Some(Stop::Item(with)),
        };
        if let Err(error) = tasks.next_task() {
            return Some(Stop::Cleanup(error, result));
        }
        progress.write(result);
    }
    None
}
