//! One map: what its helpers share, and what becomes of it.

use std::mem::MaybeUninit;

use super::chunk_size::ChunkSize;
use super::output::{self, Piece};
use super::step::Step;
use super::turns::Turns;
use super::verdict::{Reason, Verdict};
use super::{Source, helper};
use crate::context::Context;
use crate::frame::{self, Failure};
use crate::panic::{AbortOnUnwind, catch};
use crate::pool::core::Core;
use crate::pool::error::{Cause, Label};
use crate::pool::group::{Body, Help, Owner, Shift, Ticket};
use crate::sync::seam::{self, Mutex, Thread};

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

/// One map, on its caller's stack.
pub(super) struct Map<'e, 'm, S: Source, P: Step<S::Item>> {
    pub(super) core: &'e Core,
    pub(super) context: &'e Context,
    pub(super) label: &'e Label,
    pub(super) step: &'e P,
    /// How many helpers there are at most.
    pub(super) helpers: usize,
    /// The thread whose items count as run inline: that of an owner that runs a task itself.
    owner: Option<Thread>,
    pub(super) input: Turns<Input<'m, S, P::Out>>,
    pub(super) verdict: Verdict<P::Stop>,
    /// Filled by the helpers when they leave.
    pieces: Mutex<Vec<Piece<'m, P::Out>>>,
    /// What helpers that gave way have learned about the items.
    sizes: Mutex<Vec<ChunkSize>>,
}

/// What is left to be claimed.
pub(super) struct Input<'m, S, R> {
    pub(super) source: S,
    /// How many items were claimed.
    pub(super) position: usize,
    /// How many items there will have been, as the source said beforehand.
    pub(super) expected: Option<usize>,
    /// Whether the source is not to be asked again: it is at its end, or has failed.
    pub(super) ended: bool,
    /// Where results were promised a place.
    pub(super) places: &'m mut [MaybeUninit<R>],
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
    for dropped in [drop_given(source), drop_given(step), drop_given(context)] {
        if let Err(failure) = dropped {
            ended = ended.fail(failure, core, label);
        }
    }
    ended
}

/// Drops what was given to a map.
fn drop_given<T>(given: T) -> Result<(), Failure> {
    if std::mem::needs_drop::<T>() { frame::contained(|| drop(given)) } else { Ok(()) }
}

impl<R, E> Ended<R, E> {
    /// Something failed afterwards. Of two failures the first is kept.
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

/// The same without the drops. Leaves the source where it is.
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
    let in_task = core.helps_here();
    let run = output::collect(hint, |places| {
        let Some(taken) = source.take() else { return Ok(Vec::new()) };
        let map = Map {
            core,
            context,
            label,
            step,
            helpers: helpers + usize::from(in_task),
            owner: in_task.then(seam::current),
            input: Turns::new(Input {
                source: taken,
                position: 0,
                expected: hint.1,
                ended: false,
                places,
            }),
            verdict: Verdict::new(),
            pieces: Mutex::new(Vec::new()),
            sizes: Mutex::new(Vec::new()),
        };
        Owner::<Ticket>::run(core, &map, helpers);
        let Map { input, verdict, pieces, .. } = map;
        *source = Some(input.into_inner().source);
        let pieces = pieces.into_inner();
        let ended = match verdict.into_reason() {
            Reason::None => return Ok(pieces),
            Reason::Stop { with, .. } => Ended::Stopped(with),
            Reason::Failed(failure) => Ended::Failed(failure),
            Reason::Cancelled => Ended::Cancelled,
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

impl<S, P> Body for Map<'_, '_, S, P>
where
    S: Source,
    P: Step<S::Item>,
{
    fn help(&self, _index: usize, shift: &dyn Shift) -> Help {
        // The owner waits for the helper to leave, and what it has claimed must be known by then.
        let promise = AbortOnUnwind::new("a helper of a map was unwound");
        let help = helper::help(self, shift);
        promise.disarm();
        help
    }

    fn cancel(&self) -> Help {
        self.stop(Reason::Cancelled);
        Help::Exhausted
    }
}

impl<'m, S, P> Map<'_, 'm, S, P>
where
    S: Source,
    P: Step<S::Item>,
{
    /// Stops the map, unless something else has already that takes precedence.
    pub(super) fn stop(&self, reason: Reason<P::Stop>) {
        match self.verdict.stop(reason) {
            Reason::None | Reason::Cancelled => {}
            Reason::Stop { with, .. } => self.core.drop_contained(with, self.label),
            Reason::Failed(late) => self.core.report(self.label.clone(), Cause::Failed(late)),
        }
    }

    /// Whether nothing new is to start: something stops the map, or the pool was shut down for
    /// good.
    pub(super) fn is_over(&self) -> bool {
        if self.core.is_cancelled() {
            self.stop(Reason::Cancelled);
        }
        self.verdict.is_stopped()
    }

    /// Takes over what a helper has written.
    pub(super) fn keep(&self, pieces: &mut Vec<Piece<'m, P::Out>>) {
        self.pieces.lock().append(pieces);
    }

    /// Returns how much a helper that comes is to claim: as much as one before it that gave way.
    pub(super) fn chunk_size(&self) -> ChunkSize {
        let kept = self.sizes.lock().pop();
        kept.map_or_else(|| ChunkSize::new(self.helpers), ChunkSize::again)
    }

    /// Keeps what a helper that gives way has learned.
    pub(super) fn keep_chunk_size(&self, size: ChunkSize) {
        self.sizes.lock().push(size);
    }

    /// Whether this thread is the owner's.
    pub(super) fn is_owner(&self) -> bool {
        self.owner.as_ref().is_some_and(|owner| owner.id() == seam::current().id())
    }
}
