//! A map from its call to its return: what came of it is put together, and everything that the
//! user gave is dropped.

use super::Source;
use super::output::{self, Piece};
use super::shared::{Input, Map, Run, drop_given};
use super::step::Step;
use super::verdict::StopReason;
use crate::context::Context;
use crate::frame::Failure;
use crate::panic::catch;
use crate::pool::core::Core;
use crate::pool::error::{Cause, Label};
use crate::pool::group::{Owner, Tickets};
use crate::pool::scheduler::current::{self, Doing};
use crate::sync::process;

/// Why a map has no results. Those that were made are dropped, except for what it was stopped with.
pub(crate) enum Unfinished<E> {
    /// An item stopped the others.
    Stopped(E),
    /// Something failed.
    Failed(Failure),
    /// The pool was shut down before everything had started.
    Cancelled,
    /// There is no memory for the results, in words.
    NoRoom(String),
}

/// Runs `step` for every item of `source`, and returns the results in input order. Never unwinds.
///
/// What the user gave is dropped on this thread, contained; a panic of that is a failure of the
/// map.
pub(crate) fn run<S, P>(
    core: &Core,
    context: Context,
    label: &Label,
    source: S,
    step: P,
) -> Result<Vec<P::Out>, Unfinished<P::Stop>>
where
    S: Source,
    P: Step<S::Item>,
{
    let mut source = Some(source);
    let mut ended = run_all(core, &context, label, &mut source, &step);
    let _in_drop = current::enter(core.id, Doing::DROP);
    core.drop_contained(context, label);
    let mut failures = Vec::new();
    failures.extend(drop_given(source).err());
    step.end(&mut |dropped| failures.extend(dropped.err()));
    for failure in failures {
        ended = Err(Unfinished::Failed(fail::<S, P>(ended, failure, core, label)));
    }
    ended
}

/// Returns the failure of a map that fails after it has ended. Of two failures the first is kept.
#[cold]
fn fail<S, P>(
    ended: Result<Vec<P::Out>, Unfinished<P::Stop>>,
    failure: Failure,
    core: &Core,
    label: &Label,
) -> Failure
where
    S: Source,
    P: Step<S::Item>,
{
    match ended {
        Ok(results) => results.into_iter().for_each(|result| P::discard(result, core, label)),
        Err(Unfinished::Stopped(with)) => core.drop_contained(with, label),
        Err(Unfinished::Failed(first)) => {
            core.report(label.clone(), Cause::Failed(failure));
            return first;
        }
        Err(Unfinished::Cancelled | Unfinished::NoRoom(_)) => {}
    }
    failure
}

/// Runs like [`run`], without the drops. Leaves the source where it is.
fn run_all<S, P>(
    core: &Core,
    context: &Context,
    label: &Label,
    source: &mut Option<S>,
    step: &P,
) -> Result<Vec<P::Out>, Unfinished<P::Stop>>
where
    S: Source,
    P: Step<S::Item>,
{
    let hint = match source.as_ref().map(|source| catch(|| source.size_hint())) {
        Some(Ok(hint)) => hint,
        Some(Err(payload)) => return Err(Unfinished::Failed(Failure::Panic(payload))),
        None => (0, Some(0)),
    };
    if S::EXACT && hint.0 == 0 {
        return Ok(Vec::new());
    }
    let results = output::reserve(hint, S::EXACT).map_err(Unfinished::NoRoom)?;
    let helpers = core.slots.len().min(hint.1.unwrap_or(usize::MAX)).max(1);
    output::collect(results, |places| {
        let Some(taken) = source.take() else { return Ok(Vec::new()) };
        let (ended, is_claimed) = (false, false);
        let input =
            Input { source: taken, position: 0, expected: hint.1, ended, is_claimed, places };
        let with_owner = helpers + usize::from(core.helps_here());
        let map = Map::new(Run::new(core, context, label, with_owner), step, input);
        Owner::<Tickets>::run(core, &map, helpers);
        let _in_drop = current::enter(core.id, Doing::DROP);
        let Map { run, input, pieces, .. } = map;
        // In a forked child, what the parent's helpers have claimed is lost, and so may be all that
        // they shared.
        let pieces = process::into_inner(pieces).unwrap_or_default();
        let written: usize = pieces.iter().map(Piece::written).sum();
        let mut is_whole = false;
        *source = input.into_inner().map(|input| {
            is_whole = input.is_claimed && written == input.position;
            input.source
        });
        let ended = match run.into_reason() {
            StopReason::None | StopReason::Cancelled if is_whole => return Ok(pieces),
            StopReason::Stop { with, .. } => Unfinished::Stopped(with),
            StopReason::Failed(failure) => Unfinished::Failed(failure),
            StopReason::None | StopReason::Cancelled => Unfinished::Cancelled,
        };
        for mut piece in pieces {
            piece.take_results().for_each(|result| P::discard(result, core, label));
        }
        Err(ended)
    })
}
