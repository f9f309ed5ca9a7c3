//! Reductions: each helper reduces its chunks, and each chunk with its neighbours.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::mem;
use std::ops::{ControlFlow, Range};

use super::kept::{Kept, resume};
use super::shared::drop_given;
use super::step::{Calls, OnTop, Step};
use crate::frame::{Failure, Framed};
use crate::panic::Guarded;
use crate::pool::core::Core;
use crate::pool::error::Labelled;
use crate::pool::scheduler::current::{self, Doing};
use crate::sync::process::{self, lock_unless};
use crate::sync::seam::{Mutex, MutexGuard};

/// What a reduction has beside its map: dropped when the reduction is over, like what a map was
/// given. If that happens while the thread unwinds, a panic of the drop is reported.
pub(crate) struct Reduction<'p, N, R> {
    core: &'p Core,
    label: &'p dyn Labelled,
    /// Makes the result of no items. `None` once it is being dropped.
    identity: Option<N>,
    /// The results of consecutive items, by the position of the first one; with each, the position
    /// after the last one. Neighbours are put together as soon as both are there, so there is never
    /// more than one part beyond the number of chunks under way.
    parts: Mutex<BTreeMap<usize, (usize, R)>>,
}

impl<'p, N, R> Reduction<'p, N, R> {
    /// Makes one that was let in.
    pub(crate) fn new(core: &'p Core, label: &'p dyn Labelled, identity: N) -> Self {
        Self { core, label, identity: Some(identity), parts: Mutex::new(BTreeMap::new()) }
    }

    pub(crate) fn identity(&self) -> &N {
        match &self.identity {
            Some(identity) => identity,
            None => unreachable!("it is taken by its drop"),
        }
    }

    /// Takes the result of all items; `None` if there were none.
    pub(crate) fn take_result(&self) -> Option<R> {
        let mut parts = self.lock()?;
        parts.pop_first().map(|(_start, (_end, result))| result)
    }

    /// Ends it: drops the identity, and `result` as well if that fails.
    pub(crate) fn end(mut self, result: R) -> Result<R, Failure> {
        let _in_drop = current::enter(self.core.id, Doing::DROP);
        match drop_given(self.identity.take()) {
            Ok(()) => Ok(result),
            Err(failure) => {
                self.core.drop_contained(result, self.label);
                Err(failure)
            }
        }
    }

    /// `None` if a thread of the parent process held the lock when this one was forked. Then the
    /// map has no result.
    fn lock(&self) -> Option<MutexGuard<'_, BTreeMap<usize, (usize, R)>>> {
        lock_unless(&self.parts, || self.core.is_forked())
    }

    /// Takes out a neighbour of the part at `at`, and extends `at` by it; or leaves `part` with the
    /// others.
    fn pair(&self, at: &mut Range<usize>, part: R) -> Option<(R, R)> {
        let Some(mut parts) = self.lock() else {
            self.core.drop_contained(part, self.label);
            return None;
        };
        let before = parts.range(..at.start).next_back();
        if let Some(start) =
            before.filter(|(_, (end, _))| *end == at.start).map(|(start, _)| *start)
        {
            let (_end, left) = parts.remove(&start)?;
            at.start = start;
            return Some((left, part));
        }
        if let Some((end, right)) = parts.remove(&at.end) {
            at.end = end;
            return Some((part, right));
        }
        let _before = parts.insert(at.start, (at.end, part));
        None
    }
}

impl<N, R> Drop for Reduction<'_, N, R> {
    /// What a reduction that fails leaves behind.
    fn drop(&mut self) {
        let _in_drop = current::enter(self.core.id, Doing::DROP);
        let parts = process::into_inner(mem::take(&mut self.parts));
        for (_end, part) in parts.into_iter().flat_map(BTreeMap::into_values) {
            self.core.drop_contained(part, self.label);
        }
        if let Some(identity) = self.identity.take() {
            self.core.drop_contained(identity, self.label);
        }
    }
}

/// `map_reduce`: each helper reduces the items of a chunk in their order, then the chunk with its
/// neighbours.
///
/// Each is framed by itself: the drops of both may panic, even where the map is not let in.
pub(crate) struct Reducing<'p, F, G, N, R> {
    pub(crate) f: Framed<F>,
    pub(crate) reduce: Framed<G>,
    pub(crate) whole: &'p Reduction<'p, N, R>,
}

impl<F, G, N, R> Reducing<'_, F, G, N, R>
where
    G: Fn(R, R) -> R,
{
    #[inline(always)]
    fn put_together(&self, calls: &mut impl Calls, left: R, right: R) -> Result<R, Failure> {
        // If a carrier fails they are dropped uncalled.
        let (left, right) = (Guarded::new(left), Guarded::new(right));
        calls.call(|| (self.reduce)(left.into_inner(), right.into_inner()))
    }
}

impl<In, R, F, G, N> Step<In> for Reducing<'_, F, G, N, R>
where
    F: Fn(In) -> R + Sync,
    G: Fn(R, R) -> R + Sync,
    N: Sync,
    R: Send,
{
    type Out = ();
    type Stop = Infallible;
    type Kept<'c> = Kept<'c, R>;

    fn begin<'c>(&self, on_top: OnTop<'c>) -> Kept<'c, R> {
        Kept::new(on_top)
    }

    #[inline(always)]
    fn run(
        &self,
        kept: &mut Kept<'_, R>,
        input: In,
        calls: &mut impl Calls,
    ) -> ControlFlow<Infallible, ()> {
        let result = calls.call(|| (self.f)(input)).unwrap_or_else(|f| resume(f));
        // The last call for the item: its task is what is left of the item's.
        kept.value = Some(match kept.value.take() {
            None => result,
            Some(before) => (self.reduce)(before, result),
        });
        ControlFlow::Continue(())
    }

    fn give_up(kept: &mut Kept<'_, R>) {
        kept.value = None;
    }

    fn end(self, ended: &mut dyn FnMut(Result<(), Failure>)) {
        ended(drop_given(self.f.into_inner()));
        ended(drop_given(self.reduce.into_inner()));
    }

    fn chunk_done(&self, kept: &mut Kept<'_, R>, mut at: Range<usize>) -> Result<(), Failure> {
        let Some(mut part) = kept.value.take() else { return Ok(()) };
        // It belongs to no item, whose watch would see what it leaves.
        let whole = self.whole;
        whole.core.watched(whole.label, None, || {
            while let Some((left, right)) = whole.pair(&mut at, part) {
                part = self.put_together(&mut kept.on_top, left, right)?;
            }
            Ok(())
        })
    }
}
