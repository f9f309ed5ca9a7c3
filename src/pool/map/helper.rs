//! One helper of a map: claims chunks, runs each item as a task of its own, and keeps the results
//! where they belong.

use std::mem::needs_drop;
use std::ops::ControlFlow;

use super::chunk_size::ChunkSize;
use super::kept::of_item;
use super::output::{Piece, Stop};
use super::shared::{Input, Map, drop_given};
use super::step::{InFrame, Step};
use super::verdict::StopReason;
use super::{Pull, Source};
use crate::context::{self, Context};
use crate::foreign::AttachedCarriers;
use crate::frame::{self, CleanupError, Failure, Frame};
use crate::panic::{AbortOnUnwind, catch};
use crate::pool::group::{Body, Help, Shift};
use crate::pool::isolation::{Isolation, Tasks, Unseparated};
use crate::pool::scheduler::awake::Awake;
use crate::pool::scheduler::current::{self, Doing};

/// A chunk that a helper has claimed.
struct Claim {
    /// How many items there are. None: there is nothing left to claim.
    len: usize,
    /// Whether there is nothing left to claim after it.
    is_last: bool,
}

/// What a helper has claimed and what has become of it. Consistent whenever user code runs, so that
/// nothing is lost when that unwinds.
struct Helper<'h, 'm, S: Source, P: Step<S::Item>> {
    map: &'h Map<'h, 'm, S, P>,
    /// Items that were claimed and not started.
    chunk: S::Chunk,
    /// Where the results are. Those of `chunk` belong into the last one.
    pieces: Vec<Piece<'m, P::Out>>,
    /// What the step keeps from item to item.
    kept: P::Kept<'h>,
    /// How many results are failures, of items that have not returned.
    failures: u64,
    /// What it has learned about its waits for turns.
    awake: Awake,
    shift: &'h dyn Shift,
}

impl<S, P> Body for Map<'_, '_, S, P>
where
    S: Source,
    P: Step<S::Item>,
{
    fn help(&self, _index: usize, shift: &dyn Shift) -> Help {
        // The owner waits for the helper to leave, and what it has claimed must be known by then.
        let promise = AbortOnUnwind::new("a helper of a map was unwound");
        let help = help(self, shift);
        promise.disarm();
        help
    }

    fn cancel(&self) -> Help {
        self.stop(StopReason::Cancelled);
        Help::Exhausted
    }
}

/// Helps until there is nothing left to start. Never unwinds.
fn help<S, P>(map: &Map<'_, '_, S, P>, shift: &dyn Shift) -> Help
where
    S: Source,
    P: Step<S::Item>,
{
    let tally = map.core.tally();
    tally.add(|c| &c.running, 1);
    let _in_task = current::enter(map.core.id, Doing::TASK);
    let kept = map.step.begin(map.core.isolation, map.context);
    let (chunk, pieces, awake) = (S::Chunk::default(), Vec::new(), Awake::NEW);
    let mut helper = Helper { map, chunk, pieces, kept, failures: 0, awake, shift };
    let alone = P::EACH || map.core.leak_watch.is_on();
    let help = match (alone || map.context.has_carriers(), map.core.isolation) {
        (true, _) => helper.outside_of_frames(alone),
        (false, Isolation::Reset) => helper.all::<Frame<'_>>(),
        (false, Isolation::Leaky) => helper.all::<Unseparated>(),
    };
    for unstarted in helper.chunk.by_ref() {
        map.core.drop_contained(unstarted, map.label);
    }
    let mut written = 0;
    for piece in &helper.pieces {
        written += piece.written() as u64;
    }
    if shift.is_owner() {
        tally.add(|c| &c.inline, written);
    }
    let completed = written - helper.failures;
    map.keep(&mut helper.pieces);
    if const { needs_drop::<P::Kept<'_>>() } {
        let dropped = map.core.watched(map.label, None, || drop_given(helper.kept));
        if let Err(failure) = dropped {
            fail(map, failure);
        }
    }
    tally.ended(completed, None);
    help
}

impl<'h, 'm, S, P> Helper<'h, 'm, S, P>
where
    S: Source,
    P: Step<S::Item>,
{
    /// Runs the fast loop: one frame, and between two items what the engine needs to end one task
    /// and begin the next.
    fn all<T: Tasks<'h>>(&mut self) -> Help {
        let map = self.map;
        let mut help = Help::Exhausted;
        let ran = catch(|| {
            let mut tasks = T::enter(map.context);
            match self.chunks(&mut tasks) {
                Ok(said) => help = said,
                Err(failure) => self.fail(failure),
            }
            if let Err(error) = tasks.end() {
                self.fail(Failure::Cleanup(error));
            }
        });
        if let Err(payload) = ran {
            self.fail(Failure::Panic(payload));
        }
        help
    }

    fn chunks(&mut self, tasks: &mut impl Tasks<'h>) -> Result<Help, Failure> {
        let map = self.map;
        let mut size = map.chunk_size(self.shift);
        // Kept while nobody else could have it.
        let mut turn = None;
        while !map.is_over() {
            let mut mine = turn.take().unwrap_or_else(|| map.input.take(&mut self.awake));
            let Claim { len, is_last } = self.claim(&mut mine, &size, tasks, &Direct { map })?;
            turn = self.shift.is_alone().then_some(mine);
            self.run_chunk(size.block(), tasks)?;
            self.end_chunk()?;
            if is_last {
                break;
            }
            if size.done(len) {
                turn = None;
                self.shift.more();
            }
            if self.shift.is_over() {
                map.keep_chunk_size(size);
                return Ok(Help::GaveWay);
            }
        }
        Ok(Help::Exhausted)
    }

    /// Claims a chunk, of which each item has a place in the last piece.
    fn claim(
        &mut self,
        input: &mut Input<'m, S, P::Out>,
        size: &ChunkSize,
        tasks: &mut impl Tasks<'h>,
        pull: &impl Pull,
    ) -> Result<Claim, Failure> {
        let Input { source, position, expected, ended, places } = input;
        if *ended {
            return Ok(Claim { len: 0, is_last: true });
        }
        let left = expected.map(|expected| expected.saturating_sub(*position));
        let mut most = size.of(left).min(source.most());
        if !places.is_empty() {
            most = most.min(places.len());
        }
        // Stays so if the source fails or panics.
        *ended = true;
        let len = source.take(most, &mut self.chunk, tasks, pull)?;
        if len != 0 {
            self.pieces.push(Piece::carve(*position, places, len));
            *position += len;
        }
        *ended = len < most || S::EXACT && *expected == Some(*position);
        Ok(Claim { len, is_last: *ended })
    }

    /// Runs a chunk, and looks before each block of it whether the map is over.
    #[inline(always)]
    fn run_chunk(&mut self, block: usize, tasks: &mut impl Tasks<'h>) -> Result<(), Failure> {
        let Self { map, chunk, pieces, kept, .. } = self;
        let Some(piece) = pieces.last_mut() else { return Ok(()) };
        while piece.left() != 0 && !map.is_over() {
            let run = |item, tasks: &mut _| map.step.run(kept, item, &mut InFrame(tasks));
            match piece.fill(chunk, tasks, run, block) {
                None => {}
                Some(Stop::Item(with)) => {
                    if let Err(error) = tasks.next_task() {
                        map.core.drop_contained(with, map.label);
                        return Err(Failure::Cleanup(error));
                    }
                    map.stop_at(piece.position(), with);
                }
                Some(Stop::Cleanup(error, out)) => {
                    map.core.drop_contained(out, map.label);
                    return Err(Failure::Cleanup(error));
                }
            }
        }
        Ok(())
    }

    /// Tells the step that a chunk is over, unless something has stopped it.
    fn end_chunk(&mut self) -> Result<(), Failure> {
        match self.pieces.last() {
            Some(piece) if piece.left() == 0 => {
                self.map.step.chunk_done(&mut self.kept, piece.positions())
            }
            _ => Ok(()),
        }
    }

    /// Runs the slow loop, which claims in no frame. For contexts with carriers; and, each item
    /// `alone`, for maps in which a failure costs its item only, and under a sentinel, which
    /// watches each item.
    fn outside_of_frames(&mut self, alone: bool) -> Help {
        // A carrier that stays attached has the worker retired, and so may a leak, so
        // none is claimed ahead, unless the map ends with such a failure.
        let map = self.map;
        let may_retire = alone && map.context.has_carriers() || map.core.leak_watch.may_renew();
        let mut size = match may_retire {
            true => ChunkSize::one_by_one(),
            false => map.chunk_size(self.shift),
        };
        while !map.is_over() {
            let claimed = catch(|| {
                let mut turn = map.input.take(&mut self.awake);
                self.claim(&mut turn, &size, &mut Unseparated, &EachForItself { map })
            });
            let claimed = claimed.unwrap_or_else(|payload| Err(Failure::Panic(payload)));
            let Claim { len, is_last } = match claimed {
                Ok(claim) => claim,
                Err(failure) => {
                    self.fail(failure);
                    break;
                }
            };
            if alone {
                self.run_each();
            } else {
                self.run_attached();
            }
            if let Err(failure) = self.end_chunk() {
                self.fail(failure);
                break;
            }
            if is_last {
                break;
            }
            if may_retire && current::is_retiring() && !self.shift.is_owner() {
                return Help::Elsewhere;
            }
            if size.done(len) {
                self.shift.more();
            }
            if self.shift.is_over() {
                map.keep_chunk_size(size);
                return Help::GaveWay;
            }
        }
        Help::Exhausted
    }

    /// Runs a chunk item by item, each in a frame of its own and caught for itself.
    fn run_each(&mut self) {
        let map = self.map;
        let Some(piece) = self.pieces.last_mut() else { return };
        while piece.left() != 0 && !map.is_over() {
            let Some(item) = self.chunk.next() else { return };
            let position = piece.position();
            let ended = map.core.watched(map.label, Some(position), || {
                map.core
                    .isolation
                    .run(map.context, || map.step.run(&mut self.kept, item, &mut map.on_top()))
            });
            let out = match ended {
                Ok(ControlFlow::Continue(out)) => out,
                Ok(ControlFlow::Break(with)) => return map.stop_at(position, with),
                Err(failure) => {
                    let failure = of_item(failure);
                    count(map, &failure);
                    match map.step.failed(position, failure) {
                        ControlFlow::Continue(out) => {
                            self.failures += 1;
                            out
                        }
                        ControlFlow::Break(failure) => {
                            return map.stop(StopReason::Failed(failure));
                        }
                    }
                }
            };
            piece.push(out);
        }
    }

    /// Runs a chunk with the carriers attached, anew whenever an item has left something that they
    /// have to take away.
    fn run_attached(&mut self) {
        let Self { map, chunk, pieces, kept, .. } = self;
        let Some(piece) = pieces.last_mut() else { return };
        while piece.left() != 0 && !map.is_over() {
            let mut tasks = |carriers: AttachedCarriers<'_>| {
                run_until_changed(map, chunk, piece, kept, carriers)
            };
            if let Err(failure) = context::run_several(map.context, &mut tasks) {
                return self.fail(failure);
            }
        }
    }

    fn fail(&self, failure: Failure) {
        fail(self.map, failure);
    }
}

/// Fails the map.
fn fail<S, P>(map: &Map<'_, '_, S, P>, failure: Failure)
where
    S: Source,
    P: Step<S::Item>,
{
    let failure = of_item(failure);
    count(map, &failure);
    map.stop(StopReason::Failed(failure));
}

/// Counts a failure.
fn count<S, P>(map: &Map<'_, '_, S, P>, failure: &Failure)
where
    S: Source,
    P: Step<S::Item>,
{
    let tally = map.core.tally();
    match failure {
        Failure::Panic(_) => tally.add(|c| &c.panicked, 1),
        _ => tally.add(|c| &c.failed, 1),
    }
}

/// Runs items of a chunk, each as a task, for as long as the carriers can be made ready for the
/// next one in passing.
fn run_until_changed<'m, S, P>(
    map: &Map<'_, 'm, S, P>,
    chunk: &mut S::Chunk,
    piece: &mut Piece<'m, P::Out>,
    kept: &mut P::Kept<'_>,
    carriers: AttachedCarriers<'_>,
) -> Result<(), CleanupError>
where
    S: Source,
    P: Step<S::Item>,
{
    let mut frame = Frame::enter(map.context.inherits());
    while !map.is_over() {
        let Some(item) = chunk.next() else { break };
        match map.step.run(kept, item, &mut map.on_top()) {
            ControlFlow::Continue(out) => {
                if let Err(error) = frame.next_task() {
                    map.core.drop_contained(out, map.label);
                    return Err(error);
                }
                piece.push(out);
            }
            ControlFlow::Break(with) => {
                if let Err(error) = frame.next_task() {
                    map.core.drop_contained(with, map.label);
                    return Err(error);
                }
                map.stop_at(piece.position(), with);
                break;
            }
        }
        if piece.left() == 0 || !context::ready_for_next(map.context, carriers)? {
            break;
        }
    }
    frame.end()
}

/// Pulls in the helper's frame.
struct Direct<'p, 'm, S: Source, P: Step<S::Item>> {
    map: &'p Map<'p, 'm, S, P>,
}

impl<S, P> Pull for Direct<'_, '_, S, P>
where
    S: Source,
    P: Step<S::Item>,
{
    #[inline(always)]
    fn pull<I: Iterator>(&self, items: &mut I) -> Result<Option<I::Item>, Failure> {
        Ok(items.next())
    }

    fn is_over(&self) -> bool {
        self.map.is_over()
    }

    fn discard<T>(&self, item: T) {
        self.map.core.drop_contained(item, self.map.label);
    }
}

/// Pulls in frames of their own, which need no other tasks around them.
struct EachForItself<'p, 'm, S: Source, P: Step<S::Item>> {
    map: &'p Map<'p, 'm, S, P>,
}

impl<S, P> Pull for EachForItself<'_, '_, S, P>
where
    S: Source,
    P: Step<S::Item>,
{
    fn pull<I: Iterator>(&self, items: &mut I) -> Result<Option<I::Item>, Failure> {
        let Map { core, context, label, .. } = self.map;
        core.watched(*label, None, || pull(core.isolation, context, items))
    }

    fn is_over(&self) -> bool {
        self.map.is_over()
    }

    fn discard<T>(&self, item: T) {
        self.map.core.drop_contained(item, self.map.label);
    }
}

/// Pulls an item in a task of its own, which inherits from `context` but carries nothing: a carrier
/// that cannot attach costs the items for which it cannot, and not the map. Never unwinds.
fn pull<I: Iterator>(
    isolation: Isolation,
    context: &Context,
    items: &mut I,
) -> Result<Option<I::Item>, Failure> {
    match isolation {
        Isolation::Leaky => catch(|| items.next()).map_err(Failure::Panic),
        Isolation::Reset => catch(|| frame::run(context.inherits(), || items.next()))
            .map_err(Failure::Panic)?
            .map_err(Failure::Cleanup),
    }
}
