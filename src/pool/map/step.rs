//! What a map does with one item, and what a failure of it means for the others.

use std::convert::Infallible;
use std::ops::{ControlFlow, Range};

use super::shared::drop_given;
use super::turns::Stay;
use crate::context::Context;
use crate::frame::{self, Failure};
use crate::pool::core::Core;
use crate::pool::error::{Cause, Label, TaskError, Which};
use crate::pool::isolation::{Isolation, Tasks};

/// See the module's documentation.
pub(crate) trait Step<In>: Sync {
    /// What an item comes to.
    type Out: Send;
    /// What an item may stop the others with.
    type Stop: Send;

    /// What a helper keeps from one item to the next. Dropped when it leaves.
    type Kept<'c>;

    /// Whether each item is caught for itself, so that a failure costs that item only.
    const EACH: bool = false;

    /// Called by each helper that comes, before its first item; runs no user code. `on_top` is how
    /// to call what belongs to no item.
    fn begin<'c>(&self, on_top: OnTop<'c>) -> Self::Kept<'c>;

    /// Runs an item. Where a step calls several closures for one, it does so through `calls`.
    fn run(
        &self,
        kept: &mut Self::Kept<'_>,
        input: In,
        calls: &mut impl Calls,
    ) -> ControlFlow<Self::Stop, Self::Out>;

    /// Returns for how long a helper stays where others wait for its thread, or it waits for its
    /// turn: what it keeps is lost if it leaves.
    fn stay(kept: &Self::Kept<'_>) -> Stay {
        let _nothing = kept;
        Stay::NotAtAll
    }

    /// Called when all items of a chunk have results: those at these positions. Never unwinds.
    fn chunk_done(&self, kept: &mut Self::Kept<'_>, at: Range<usize>) -> Result<(), Failure> {
        let _nothing = (kept, at);
        Ok(())
    }

    /// Drops what an item has left in what is kept, where its task could not be cleaned up: that is
    /// a part of its result.
    fn give_up(kept: &mut Self::Kept<'_>) {
        let _nothing = kept;
    }

    /// Drops the result of an item whose map has none itself, contained.
    fn discard(out: Self::Out, core: &Core, label: &Label) {
        core.drop_contained(out, label);
    }

    /// Drops what the user gave, each by itself, and tells `ended` how that went.
    fn end(self, ended: &mut dyn FnMut(Result<(), Failure>))
    where
        Self: Sized,
    {
        ended(drop_given(self));
    }

    /// Returns what becomes of a failure of one item, if each is caught for itself.
    fn failed(&self, index: usize, failure: Failure) -> ControlFlow<Failure, Self::Out> {
        let _stops_the_others = index;
        ControlFlow::Break(failure)
    }
}

/// How a step calls several closures for one item, each in a task of its own.
pub(crate) trait Calls {
    /// Calls one of them. Its panic may go on.
    fn call<R>(&mut self, f: impl FnOnce() -> R) -> Result<R, Failure>;
}

/// In the helper's frame, one task after the other.
pub(crate) struct InFrame<'t, T>(pub(crate) &'t mut T);

impl<T: Tasks> Calls for InFrame<'_, T> {
    #[inline(always)]
    fn call<R>(&mut self, f: impl FnOnce() -> R) -> Result<R, Failure> {
        let result = f();
        if !self.0.is_clean() {
            if let Err(error) = self.0.next_task() {
                return Err(Failure::Cleanup(frame::give_up(|| drop(result), error)));
            }
        }
        Ok(result)
    }
}

/// In frames of their own, on top of the item's.
pub(crate) struct OnTop<'c> {
    pub(crate) isolation: Isolation,
    pub(crate) context: &'c Context,
}

impl Calls for OnTop<'_> {
    fn call<R>(&mut self, f: impl FnOnce() -> R) -> Result<R, Failure> {
        self.isolation.run(self.context, f)
    }
}

/// `map`: every item has a result, and a panic stops the others.
pub(crate) struct Plain<F>(pub(crate) F);

impl<In, R, F> Step<In> for Plain<F>
where
    F: Fn(In) -> R + Sync,
    R: Send,
{
    type Out = R;
    type Stop = Infallible;
    type Kept<'c> = ();

    fn begin(&self, _on_top: OnTop<'_>) {}

    #[inline(always)]
    fn run(&self, (): &mut (), input: In, _: &mut impl Calls) -> ControlFlow<Infallible, R> {
        ControlFlow::Continue((self.0)(input))
    }
}

/// `try_map`: an error stops the others.
pub(crate) struct Trying<F>(pub(crate) F);

impl<In, R, E, F> Step<In> for Trying<F>
where
    F: Fn(In) -> Result<R, E> + Sync,
    R: Send,
    E: Send,
{
    type Out = R;
    type Stop = E;
    type Kept<'c> = ();

    fn begin(&self, _on_top: OnTop<'_>) {}

    #[inline(always)]
    fn run(&self, (): &mut (), input: In, _: &mut impl Calls) -> ControlFlow<E, R> {
        match (self.0)(input) {
            Ok(result) => ControlFlow::Continue(result),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

/// `map_results`: a failure is the result of its item.
pub(crate) struct Every<F> {
    pub(crate) f: F,
    /// The label of the call.
    pub(crate) label: Label,
}

impl<In, R, F> Step<In> for Every<F>
where
    F: Fn(In) -> R + Sync,
    R: Send,
{
    type Out = Result<R, TaskError>;
    type Stop = Infallible;
    type Kept<'c> = ();

    const EACH: bool = true;

    fn begin(&self, _on_top: OnTop<'_>) {}

    fn run(
        &self,
        (): &mut (),
        input: In,
        _: &mut impl Calls,
    ) -> ControlFlow<Infallible, Self::Out> {
        ControlFlow::Continue(Ok((self.f)(input)))
    }

    fn discard(out: Self::Out, core: &Core, label: &Label) {
        match out {
            Ok(result) => core.drop_contained(result, label),
            Err(error) => core.report_error(error),
        }
    }

    fn failed(&self, index: usize, failure: Failure) -> ControlFlow<Failure, Self::Out> {
        let label = Label { which: Which::Item(index), ..self.label.clone() };
        ControlFlow::Continue(Err(TaskError::new(label, Cause::Failed(failure))))
    }
}
