//! A map from its call to its return: what came of it is put together, and everything that the
//! user gave is dropped.

use super::Source;
use super::output::{self, Piece};
use super::shared::{Input, Map, drop_given};
use super::step::Step;
use super::verdict::StopReason;
use crate::context::Context;
use crate::frame::Failure;
use crate::panic::catch;
use crate::pool::core::Core;
use crate::pool::error::{Cause, Label};
use crate::pool::group::{Owner, Ticket};
use crate::pool::scheduler::current::{self, Doing};

/// How a map ended.
pub(crate) enum Ended<R, E> {
    /// Every item has a result.
    Done(Vec<R>),
    /// An item stopped the others.
    Stopped(E),
    /// Something failed; what was made is dropped.
    Failed(Failure),
    /// The pool was shut down before everything had started; what was made is dropped.
    Cancelled,
}

/// Runs `step` for every item of `source`. Never unwinds.
///
/// What the user gave is dropped on this thread, contained; a panic of that is a failure of the
/// map.
pub(crate) fn run<S, P>(
    core: &Core,
    context: Context,
    label: &Label,
    source: S,
    step: P,
) -> Ended<P::Out, P::Stop>
where
    S: Source,
    P: Step<S::Item>,
{
    let mut source = Some(source);
    let mut ended = run_all(core, &context, label, &mut source, &step);
    let _in_drop = current::enter(core.id, Doing::Drop);
    for dropped in [drop_given(source), drop_given(step), drop_given(context)] {
        if let Err(failure) = dropped {
            ended = ended.fail(failure, core, label);
        }
    }
    ended
}

impl<R, E> Ended<R, E> {
    /// Makes it fail afterwards. Of two failures the first is kept.
    #[cold]
    fn fail(self, failure: Failure, core: &Core, label: &Label) -> Self {
        match self {
            Self::Done(results) => {
                results.into_iter().for_each(|result| core.drop_contained(result, label));
            }
            Self::Stopped(with) => core.drop_contained(with, label),
            Self::Failed(first) => {
                core.report(label.clone(), Cause::Failed(failure));
                return Self::Failed(first);
            }
            Self::Cancelled => {}
        }
        Self::Failed(failure)
    }
}

/// Runs like [`run`], without the drops. Leaves the source where it is.
fn run_all<S, P>(
    core: &Core,
    context: &Context,
    label: &Label,
    source: &mut Option<S>,
    step: &P,
) -> Ended<P::Out, P::Stop>
where
    S: Source,
    P: Step<S::Item>,
{
    let hint = match source.as_ref().map(|source| catch(|| source.size_hint())) {
        Some(Ok(hint)) => hint,
        Some(Err(payload)) => return Ended::Failed(Failure::Panic(payload)),
        None => (0, Some(0)),
    };
    if S::EXACT && hint.0 == 0 {
        return Ended::Done(Vec::new());
    }
    let helpers = core.slots.len().min(hint.1.unwrap_or(usize::MAX)).max(1);
    let run = output::collect(hint, |places| {
        let Some(taken) = source.take() else { return Ok(Vec::new()) };
        let input = Input { source: taken, position: 0, expected: hint.1, ended: false, places };
        let with_owner = helpers + usize::from(core.helps_here());
        let map = Map::new(core, context, label, step, with_owner, input);
        Owner::<Ticket>::run(core, &map, helpers);
        let _in_drop = current::enter(core.id, Doing::Drop);
        let (input, pieces, reason) = map.into_parts();
        *source = Some(input.source);
        let ended = match reason {
            StopReason::None => return Ok(pieces),
            StopReason::Stop { with, .. } => Ended::Stopped(with),
            StopReason::Failed(failure) => Ended::Failed(failure),
            StopReason::Cancelled => Ended::Cancelled,
        };
        for result in pieces.into_iter().flat_map(Piece::into_results) {
            core.drop_contained(result, label);
        }
        Err(ended)
    });
    match run {
        Ok(results) => Ended::Done(results),
        Err(ended) => ended,
    }
}
