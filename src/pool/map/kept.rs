//! What a helper of a map keeps from item to item: scratch of the user's, or what a reduction has
//! come to so far. It lives outside of the items' tasks, on the helper's stack.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::mem;
use std::ops::{ControlFlow, Range};
use std::panic::resume_unwind;

use super::step::{Call, OnTop, Step};
use crate::context::Context;
use crate::frame::Failure;
use crate::panic::{Guarded, Payload};
use crate::pool::core::Core;
use crate::pool::error::Label;
use crate::pool::isolation::Isolation;
use crate::sync::seam::Mutex;

/// Keeps a value, and how to call what makes and changes it outside of the helper's frame.
pub(crate) struct Kept<'c, T> {
    on_top: OnTop<'c>,
    value: Option<T>,
}

impl<'c, T> Kept<'c, T> {
    fn new(isolation: Isolation, context: &'c Context) -> Self {
        Self { on_top: OnTop { isolation, context }, value: None }
    }

    /// Makes the value; returns the item that it was made for.
    #[cold]
    fn make<In>(&mut self, init: impl FnOnce() -> T, input: In) -> In {
        let input = Guarded::new(input);
        match self.on_top.call(init) {
            Ok(value) => self.value = Some(value),
            Err(failure) => resume(failure),
        }
        input.into_inner()
    }
}

/// A failure of an item on its way through the item's frame.
struct Thrown(Failure);

/// Unwinds with the failure of a call, which is the item's.
fn resume(failure: Failure) -> ! {
    match failure {
        Failure::Panic(payload) => payload.resume(),
        failure => resume_unwind(Box::new(Thrown(failure))),
    }
}

/// Returns the failure of an item, also where it has unwound though nothing panicked.
pub(super) fn of_item(failure: Failure) -> Failure {
    match failure {
        Failure::Panic(payload) => match payload.into_inner().downcast::<Thrown>() {
            Ok(thrown) => thrown.0,
            Err(payload) => Failure::Panic(Payload::new(payload)),
        },
        failure => failure,
    }
}

/// `map_init`: each helper makes a value before its first item, and lends it to each item.
///
/// Guarded, as there are two of them: the drops of both may panic.
pub(crate) struct Lending<N, F> {
    pub(crate) init: Guarded<N>,
    pub(crate) f: Guarded<F>,
}

impl<In, S, R, N, F> Step<In> for Lending<N, F>
where
    N: Fn() -> S + Sync,
    F: Fn(&mut S, In) -> R + Sync,
    R: Send,
{
    type Out = R;
    type Stop = Infallible;
    type Kept<'c> = Kept<'c, S>;

    fn begin<'c>(&self, isolation: Isolation, context: &'c Context) -> Kept<'c, S> {
        Kept::new(isolation, context)
    }

    #[inline(always)]
    fn run(
        &self,
        kept: &mut Kept<'_, S>,
        input: In,
        _: &mut impl Call,
    ) -> ControlFlow<Infallible, R> {
        let input = if kept.value.is_none() { kept.make(&*self.init, input) } else { input };
        match &mut kept.value {
            Some(value) => ControlFlow::Continue((self.f)(value, input)),
            None => unreachable!("made above"),
        }
    }
}

/// What consecutive items have come to, by the position of the first one; with it the position
/// after the last one. Neighbours are put together as soon as both are there, so there are never
/// more than chunks under way, and one.
pub(crate) struct Parts<'p, R> {
    core: &'p Core,
    label: Label,
    parts: Mutex<BTreeMap<usize, (usize, R)>>,
}

impl<'p, R> Parts<'p, R> {
    pub(crate) fn new(core: &'p Core, label: Label) -> Self {
        Self { core, label, parts: Mutex::new(BTreeMap::new()) }
    }

    /// Returns what all items have come to; `None` if there were none.
    pub(crate) fn into_result(mut self) -> Option<R> {
        self.take_all().into_values().next().map(|(_end, result)| result)
    }

    fn take_all(&mut self) -> BTreeMap<usize, (usize, R)> {
        mem::take(&mut *self.parts.lock())
    }

    /// Takes out a neighbour of the part `at`, which is extended by it, or leaves `part` with the
    /// others.
    fn pair(&self, at: &mut Range<usize>, part: R) -> Option<(R, R)> {
        let mut parts = self.parts.lock();
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

impl<R> Drop for Parts<'_, R> {
    /// What a reduction that fails leaves behind.
    fn drop(&mut self) {
        for (_end, part) in self.take_all().into_values() {
            self.core.drop_contained(part, &self.label);
        }
    }
}

/// `map_reduce`: each helper reduces the items of a chunk in their order, then the chunk with its
/// neighbours.
///
/// Guarded as in [`Lending`].
pub(crate) struct Reducing<'p, F, G, R> {
    pub(crate) f: Guarded<F>,
    pub(crate) reduce: Guarded<G>,
    pub(crate) parts: &'p Parts<'p, R>,
}

impl<F, G, R> Reducing<'_, F, G, R>
where
    G: Fn(R, R) -> R,
{
    #[inline(always)]
    fn put_together(&self, calls: &mut impl Call, left: R, right: R) -> Result<R, Failure> {
        // If a carrier fails they are dropped uncalled.
        let (left, right) = (Guarded::new(left), Guarded::new(right));
        calls.call(|| (self.reduce)(left.into_inner(), right.into_inner()))
    }
}

impl<In, R, F, G> Step<In> for Reducing<'_, F, G, R>
where
    F: Fn(In) -> R + Sync,
    G: Fn(R, R) -> R + Sync,
    R: Send,
{
    type Out = ();
    type Stop = Infallible;
    type Kept<'c> = Kept<'c, R>;

    fn begin<'c>(&self, isolation: Isolation, context: &'c Context) -> Kept<'c, R> {
        Kept::new(isolation, context)
    }

    #[inline(always)]
    fn run(
        &self,
        kept: &mut Kept<'_, R>,
        input: In,
        calls: &mut impl Call,
    ) -> ControlFlow<Infallible, ()> {
        let input = Guarded::new(input);
        let result = calls.call(|| (self.f)(input.into_inner())).unwrap_or_else(|f| resume(f));
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

    fn chunk_done(&self, kept: &mut Kept<'_, R>, mut at: Range<usize>) -> Result<(), Failure> {
        let Some(mut part) = kept.value.take() else { return Ok(()) };
        // It belongs to no item, whose watch would see what it leaves.
        self.parts.core.watched(&self.parts.label, None, || {
            while let Some((left, right)) = self.parts.pair(&mut at, part) {
                part = self.put_together(&mut kept.on_top, left, right)?;
            }
            Ok(())
        })
    }
}
