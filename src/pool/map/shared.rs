//! What the helpers of one map share.

use std::mem::MaybeUninit;

use super::Source;
use super::chunk_size::ChunkSize;
use super::kept::of_item;
use super::output::{self, Piece};
use super::step::{OnTop, Step};
use super::turns::Turns;
use super::verdict::{StopReason, Verdict};
use crate::context::Context;
use crate::frame::{self, Failure};
use crate::pool::core::Core;
use crate::pool::error::{Cause, Label};
use crate::pool::group::Shift;
use crate::pool::scheduler::awake::Awake;
use crate::sync::process::{self, lock_unless};
use crate::sync::seam::{Mutex, MutexGuard};

/// Drops what the user gave to a map, or what it made of that.
pub(crate) fn drop_given<T>(given: T) -> Result<(), Failure> {
    if std::mem::needs_drop::<T>() { frame::contained(|| drop(given)) } else { Ok(()) }
}

/// One map, on its caller's stack.
pub(super) struct Map<'e, 'm, S: Source, P: Step<S::Item>> {
    pub(super) run: Run<'e, P::Stop>,
    pub(super) step: &'e P,
    pub(super) input: Turns<Input<'m, S, P::Out>>,
    /// Filled by the helpers when they leave.
    pub(super) pieces: Mutex<Vec<Piece<'m, P::Out>>>,
}

/// What is the same for maps of all items: compiled once for each kind of stop.
pub(super) struct Run<'e, E> {
    pub(super) core: &'e Core,
    pub(super) context: &'e Context,
    pub(super) label: &'e Label,
    /// How many helpers there are at most.
    helpers: usize,
    pub(super) verdict: Verdict<E>,
    /// What helpers that have left have learned about the items, and about their waits for turns.
    learned: Mutex<Vec<(ChunkSize, Awake)>>,
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
    /// Whether every item was claimed.
    pub(super) is_claimed: bool,
    /// Where results were promised a place.
    pub(super) places: &'m mut [MaybeUninit<R>],
}

impl<'e, 'm, S, P> Map<'e, 'm, S, P>
where
    S: Source,
    P: Step<S::Item>,
{
    /// Makes a map.
    pub(super) fn new(run: Run<'e, P::Stop>, step: &'e P, input: Input<'m, S, P::Out>) -> Self {
        Self { run, step, input: Turns::new(input), pieces: Mutex::new(Vec::new()) }
    }

    /// Takes over what a helper has written.
    #[inline]
    pub(super) fn keep(&self, pieces: &mut Vec<Piece<'m, P::Out>>) {
        let Run { core, label, .. } = self.run;
        let Some(mut kept) = lock_unless(&self.pieces, || core.is_forked()) else {
            // A helper of the parent's has the lock. The map fails for lack of what it has.
            let results = pieces.iter_mut().flat_map(Piece::take_results);
            return results.for_each(|result| P::discard(result, core, label));
        };
        if kept.is_empty() {
            std::mem::swap(&mut *kept, pieces);
        } else {
            pieces.drain(..).for_each(|piece| output::put(&mut kept, piece));
        }
    }
}

impl<'e, E> Run<'e, E> {
    /// Begins a map with at most `helpers` helpers.
    pub(super) fn new(
        core: &'e Core,
        context: &'e Context,
        label: &'e Label,
        helpers: usize,
    ) -> Self {
        Self { core, context, label, helpers, verdict: Verdict::new(), learned: Mutex::default() }
    }

    /// Returns how a step calls closures where there is no frame for their tasks.
    pub(super) fn on_top(&self) -> OnTop<'e> {
        OnTop { isolation: self.core.isolation, context: self.context }
    }

    /// Stops the map, unless something that takes precedence has done so already.
    pub(super) fn stop(&self, reason: StopReason<E>) {
        match self.verdict.stop(reason, || self.core.is_forked()) {
            StopReason::None | StopReason::Cancelled => {}
            StopReason::Stop { with, .. } => self.core.drop_contained(with, self.label),
            StopReason::Failed(late) => self.core.report(self.label.clone(), Cause::Failed(late)),
        }
    }

    /// Stops the map at an item that is over, and counts it: it has returned, though with no result
    /// that is kept.
    pub(super) fn stop_at(&self, position: usize, with: E) {
        self.count_stopped();
        self.stop(StopReason::Stop { position, with });
    }

    /// Counts an item that has stopped the map.
    pub(super) fn count_stopped(&self) {
        self.core.tally().add(|c| &c.completed, 1);
    }

    /// Fails the map.
    pub(super) fn fail(&self, failure: Failure) {
        let failure = of_item(failure);
        self.count(&failure);
        self.stop(StopReason::Failed(failure));
    }

    /// Counts a failure.
    pub(super) fn count(&self, failure: &Failure) {
        self.core.tally().failed(failure);
    }

    /// Returns whether nothing new is to start: something stops the map, or the pool was shut down
    /// for good.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        if self.core.is_cancelled() && !self.verdict.is_stopped() {
            self.stop_cancelled();
        }
        self.verdict.is_stopped()
    }

    #[cold]
    fn stop_cancelled(&self) {
        self.stop(StopReason::Cancelled);
    }

    /// Returns why the map has stopped.
    pub(super) fn into_reason(self) -> StopReason<E> {
        let _learned = process::into_inner(self.learned);
        self.verdict.into_reason()
    }

    /// Returns what a helper that comes is to know: what an earlier one that has left knew, or
    /// nothing if it is the owner, which never leaves.
    pub(super) fn learned(&self, shift: &dyn Shift) -> (ChunkSize, Awake) {
        let kept =
            if shift.is_owner() { None } else { self.lock_learned().and_then(|mut it| it.pop()) };
        match kept {
            Some((size, awake)) => (size.again(), awake),
            None => (ChunkSize::new(self.helpers), Awake::NEW),
        }
    }

    /// Keeps what a helper that leaves has learned.
    pub(super) fn keep_learned(&self, size: ChunkSize, awake: Awake) {
        if let Some(mut learned) = self.lock_learned() {
            learned.push((size, awake));
        }
    }

    fn lock_learned(&self) -> Option<MutexGuard<'_, Vec<(ChunkSize, Awake)>>> {
        lock_unless(&self.learned, || self.core.is_forked())
    }
}
