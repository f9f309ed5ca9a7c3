//! One helper of a map: claims chunks, runs each item as a task of its own, and keeps the results
//! where they belong.

use std::mem::needs_drop;
use std::ops::ControlFlow;

use super::Source;
use super::chunk_size::ChunkSize;
use super::kept::of_item;
use super::output::{self, Piece, Stop};
use super::pull::Pull;
use super::shared::{Input, Map, Run, drop_given};
use super::step::{InFrame, Step};
use super::turns::{Stay, Turn};
use super::verdict::StopReason;
use crate::context;
use crate::foreign::AttachedCarriers;
use crate::frame::{self, CleanupError, Failure, Frame};
use crate::panic::{AbortOnUnwind, catch};
use crate::pool::group::{Body, Help, Shift};
use crate::pool::isolation::{Series, Tasks, Unseparated};
use crate::pool::scheduler::awake::Awake;
use crate::pool::scheduler::current::{self, Doing};

/// A chunk that a helper has claimed.
struct Claim {
    /// How many items there are; 0 if there was nothing left to claim.
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
    /// Where the results are. Those of `chunk` belong in the last one.
    pieces: Vec<Piece<'m, P::Out>>,
    /// What the step keeps from item to item.
    kept: P::Kept<'h>,
    /// How many results are of items that have failed.
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
    fn help(&self, shift: &dyn Shift) -> Help {
        // The owner waits for the helper to leave, and what it has claimed must be known by then.
        let promise = AbortOnUnwind::new("a helper of a map was unwound");
        let help = help(self, shift);
        promise.disarm();
        help
    }

    fn cancel(&self) -> Help {
        self.run.stop(StopReason::Cancelled);
        Help::Exhausted
    }
}

/// Helps until there is nothing left to start. Never unwinds.
fn help<S, P>(map: &Map<'_, '_, S, P>, shift: &dyn Shift) -> Help
where
    S: Source,
    P: Step<S::Item>,
{
    let Run { core, context, label, .. } = map.run;
    let tally = core.tally();
    tally.add(|c| &c.running, 1);
    let _in_task = current::enter(core.id, Doing::TASK);
    let kept = map.step.begin(map.run.on_top());
    let (chunk, pieces, awake) = (S::Chunk::default(), Vec::new(), Awake::NEW);
    let mut helper = Helper { map, chunk, pieces, kept, failures: 0, awake, shift };
    let alone = P::EACH || core.leak_watch.is_on();
    let help = match alone || context.has_carriers() {
        true => outside_of_frames(&mut helper, &map.run, shift, alone),
        false => helper.all(),
    };
    let mut unstarted = 0;
    for item in helper.chunk.by_ref() {
        unstarted += 1;
        core.drop_contained(item, label);
    }
    let mut written = 0;
    for piece in &helper.pieces {
        written += piece.written() as u64;
    }
    if shift.is_owner() {
        // One that has failed or stopped the map has no result.
        let open = helper.pieces.last().map_or(0, Piece::left);
        tally.add(|c| &c.inline, written + open.saturating_sub(unstarted) as u64);
    }
    let completed = written - helper.failures;
    map.keep(&mut helper.pieces);
    if const { needs_drop::<P::Kept<'_>>() } {
        let dropped = core.watched(label, None, || drop_given(helper.kept));
        if let Err(failure) = dropped {
            map.run.fail(failure);
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
    fn all(&mut self) -> Help {
        let Map { run, .. } = self.map;
        let mut help = Help::Exhausted;
        let ran = catch(|| {
            let mut tasks = Series::enter(run.core.isolation, run.context);
            match self.chunks(&mut tasks) {
                Ok(said) => help = said,
                Err(failure) => run.fail(failure),
            }
            if let Err(error) = tasks.end() {
                run.fail(Failure::Cleanup(error));
            }
        });
        if let Err(payload) = ran {
            run.fail(Failure::Panic(payload));
        }
        help
    }

    fn chunks(&mut self, tasks: &mut Series<'_>) -> Result<Help, Failure> {
        let map = self.map;
        let Map { run, .. } = map;
        let mut size = self.comes();
        // Kept while nobody else could have it.
        let mut turn = None;
        while !run.is_over() {
            let mut mine = match turn.take().map_or_else(|| self.turn(), Ok) {
                Ok(mine) => mine,
                Err(help) => return Ok(self.leaves(size, help)),
            };
            let Claim { len, is_last } = self.claim(&mut mine, &size, tasks, false)?;
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
            if let Some(help) = must_leave(self.shift, || self.stay()) {
                return Ok(self.leaves(size, help));
            }
        }
        Ok(Help::Exhausted)
    }

    /// Waits for a turn. `Err` says how the helper is to leave instead.
    fn turn(&mut self) -> Result<Turn<'h, Input<'m, S, P::Out>>, Help> {
        let (map, stay) = (self.map, self.stay());
        let turn = map.input.take(&mut self.awake, self.shift, stay).ok_or(Help::GoOn)?;
        // A visit that it has run meanwhile may have left something on this thread.
        if must_leave_thread(self.shift) { Err(Help::Elsewhere) } else { Ok(turn) }
    }

    /// Claims a chunk, each item of which has a place in the last piece. The items are pulled as
    /// some of `tasks`, or `apart`: with what the map's tasks inherit, but with no carrier, since
    /// one that cannot attach is to cost the items for which it cannot, not the map.
    #[inline(always)]
    fn claim(
        &mut self,
        input: &mut Input<'m, S, P::Out>,
        size: &ChunkSize,
        tasks: &mut Series<'_>,
        apart: bool,
    ) -> Result<Claim, Failure> {
        let Input { source, position, expected, ended, is_claimed, places } = input;
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
        let Map { run, .. } = self.map;
        let Run { core, context, label, .. } = *run;
        let apart = apart.then(|| context.without_carriers());
        let (apart, is_over, block) = (apart.as_ref(), &|| run.is_over(), size.block());
        let pull = Pull { core, label, apart, is_over, block };
        let len = source.take(most, &mut self.chunk, tasks, &pull)?;
        if len != 0 {
            output::put(&mut self.pieces, Piece::carve(*position, places, len));
            *position += len;
        }
        let is_all = S::EXACT && *expected == Some(*position);
        // Fewer may be left because the map is over.
        *is_claimed = is_all || len < most && !run.verdict.is_stopped();
        *ended = is_all || len < most;
        Ok(Claim { len, is_last: *ended })
    }

    /// Runs a chunk, and looks before each block of it whether the map is over.
    #[inline(always)]
    fn run_chunk(&mut self, block: usize, tasks: &mut Series<'_>) -> Result<(), Failure> {
        match tasks {
            Series::Isolated(frame) => self.run_items(block, frame),
            Series::Leaky(tasks) => self.run_items(block, tasks),
        }
    }

    #[inline(always)]
    fn run_items(&mut self, block: usize, tasks: &mut impl Tasks) -> Result<(), Failure> {
        let Self { map: Map { run, step, .. }, chunk, pieces, kept, .. } = self;
        let Some(piece) = pieces.last_mut() else { return Ok(()) };
        while piece.left() != 0 && !run.is_over() {
            let call = |item, tasks: &mut _| step.run(kept, item, &mut InFrame(tasks));
            match piece.fill(chunk, tasks, call, block) {
                None => {}
                Some(Stop::Item(with)) => {
                    if let Err(error) = tasks.next_task() {
                        return Err(Failure::Cleanup(frame::give_up(|| drop(with), error)));
                    }
                    run.stop_at(piece.position(), with);
                }
                Some(Stop::Cleanup(error, out)) => {
                    return Err(Failure::Cleanup(give_up::<S, P>(out, kept, error)));
                }
            }
        }
        Ok(())
    }

    /// Runs a chunk item by item, each in a frame of its own and caught for itself.
    fn run_each(&mut self) {
        let Map { run, step, .. } = self.map;
        let Run { core, context, label, .. } = *run;
        let Some(piece) = self.pieces.last_mut() else { return };
        while piece.left() != 0 && !run.is_over() {
            let Some(item) = self.chunk.next() else { return };
            let position = piece.position();
            let ended = core.watched(label, Some(position), || {
                let on_top = &mut run.on_top();
                let ran = core.isolation.run(context, || step.run(&mut self.kept, item, on_top));
                ran.map_err(|failure| match failure {
                    Failure::Cleanup(error) => {
                        Failure::Cleanup(give_up::<S, P>((), &mut self.kept, error))
                    }
                    failure => failure,
                })
            });
            let out = match ended {
                Ok(ControlFlow::Continue(out)) => out,
                Ok(ControlFlow::Break(with)) => return run.stop_at(position, with),
                Err(failure) => {
                    let failure = of_item(failure);
                    run.count(&failure);
                    match step.failed(position, failure) {
                        ControlFlow::Continue(out) => {
                            self.failures += 1;
                            out
                        }
                        ControlFlow::Break(failure) => {
                            return run.stop(StopReason::Failed(failure));
                        }
                    }
                }
            };
            piece.push(out);
        }
    }

    /// Runs a chunk with the carriers attached, and attaches them anew whenever an item has left
    /// something that they have to take away.
    fn run_attached(&mut self) {
        let Self { map, chunk, pieces, kept, failures, .. } = self;
        let Some(piece) = pieces.last_mut() else { return };
        while piece.left() != 0 && !map.run.is_over() {
            let mut last = None;
            let mut tasks = |carriers: AttachedCarriers<'_>| {
                run_until_changed(map, chunk, piece, kept, carriers, &mut last)
            };
            match (context::run_several(map.run.context, &mut tasks), last) {
                // Not before the carriers are detached: it may fail because of that.
                (Ok(()), Some(Last::HasStopped)) => map.run.count_stopped(),
                (Ok(()), _) => {}
                // No task has failed: others had stopped the map before one began.
                (Err(failure @ Failure::Cleanup(_)), None) => {
                    return map.run.stop(StopReason::Failed(failure));
                }
                (Err(failure), last) => {
                    // Its task was not over before the carriers were detached.
                    *failures += u64::from(last == Some(Last::HasResult));
                    return map.run.fail(failure);
                }
            }
        }
    }
}

/// What the slow loop asks of a helper, without its types; the fast one asks most of it, too.
trait Slow {
    /// Takes over what a helper that has left had learned.
    fn comes(&mut self) -> ChunkSize;
    /// Claims a chunk, in no frame; each pull has one of its own. Or, as `turn`, says how the
    /// helper is to leave, as it does when a pull has failed the map.
    fn claim_apart(&mut self, size: &ChunkSize) -> Result<Claim, Help>;
    /// Runs the chunk, each item `alone` or with the carriers attached.
    fn run(&mut self, alone: bool);
    /// Tells the step that a chunk is over, if it is, unless the results are in vain.
    fn end_chunk(&mut self) -> Result<(), Failure>;
    /// Returns for how long the helper stays where it is not needed, or can do nothing. An owner
    /// stays to the end: it cannot leave the work to others, since there may be none.
    fn stay(&self) -> Stay;
    /// Keeps what the helper has learned for the one that comes in its place.
    fn leaves(&self, size: ChunkSize, help: Help) -> Help;
}

impl<S, P> Slow for Helper<'_, '_, S, P>
where
    S: Source,
    P: Step<S::Item>,
{
    fn comes(&mut self) -> ChunkSize {
        let (size, awake) = self.map.run.learned(self.shift);
        self.awake = awake;
        size
    }

    fn claim_apart(&mut self, size: &ChunkSize) -> Result<Claim, Help> {
        let turn = self.turn()?;
        let claimed = catch(|| {
            let mut turn = turn;
            self.claim(&mut turn, size, &mut Series::Leaky(Unseparated), true)
        });
        let claimed = claimed.unwrap_or_else(|payload| Err(Failure::Panic(payload)));
        claimed.map_err(|failure| {
            self.map.run.fail(failure);
            Help::Exhausted
        })
    }

    fn run(&mut self, alone: bool) {
        if alone { self.run_each() } else { self.run_attached() }
    }

    fn end_chunk(&mut self) -> Result<(), Failure> {
        match self.pieces.last() {
            Some(piece) if piece.left() == 0 && !self.map.run.verdict.is_in_vain() => {
                self.map.step.chunk_done(&mut self.kept, piece.positions())
            }
            _ => Ok(()),
        }
    }

    fn stay(&self) -> Stay {
        if self.shift.is_owner() { Stay::ToTheEnd } else { P::stay(&self.kept) }
    }

    fn leaves(&self, size: ChunkSize, help: Help) -> Help {
        self.map.run.keep_learned(size, self.awake);
        help
    }
}

/// Runs the slow loop, which claims in no frame. For contexts with carriers; and, each item
/// `alone`, for maps in which a failure costs its item only, and under a sentinel, which
/// watches each item.
fn outside_of_frames<E>(
    helper: &mut dyn Slow,
    run: &Run<'_, E>,
    shift: &dyn Shift,
    alone: bool,
) -> Help {
    // A carrier that stays attached, or a leak, may have the worker retired after any item, so none
    // is claimed ahead, unless the map ends with such a failure.
    let may_retire = alone && run.context.has_carriers() || run.core.leak_watch.may_renew();
    let learned = helper.comes();
    let mut size = if may_retire { ChunkSize::one_by_one() } else { learned };
    while !run.is_over() {
        let Claim { len, is_last } = match helper.claim_apart(&size) {
            Ok(claim) => claim,
            Err(help) => return helper.leaves(size, help),
        };
        helper.run(alone);
        if let Err(failure) = helper.end_chunk() {
            run.fail(failure);
            break;
        }
        if is_last {
            break;
        }
        if size.done(len) {
            shift.more();
        }
        if let Some(help) = must_leave(shift, || helper.stay()) {
            return helper.leaves(size, help);
        }
    }
    Help::Exhausted
}

/// Returns whether a helper is to leave because no task may see what stayed on this thread.
fn must_leave_thread(shift: &dyn Shift) -> bool {
    current::is_retiring() && !shift.is_owner()
}

/// Returns how a helper is to leave after a chunk, if it is: because of this thread, or because
/// others wait for it.
fn must_leave(shift: &dyn Shift, stay: impl FnOnce() -> Stay) -> Option<Help> {
    if must_leave_thread(shift) {
        return Some(Help::Elsewhere);
    }
    (shift.must_give_way() && stay().has_passed()).then_some(Help::GaveWay)
}

/// Drops what is left of an item that could not be cleaned up: its result, if that is still there,
/// and what is kept of it.
#[cold]
fn give_up<S, P>(out: impl Sized, kept: &mut P::Kept<'_>, error: CleanupError) -> CleanupError
where
    S: Source,
    P: Step<S::Item>,
{
    let error = frame::give_up(|| drop(out), error);
    frame::give_up(|| P::give_up(kept), error)
}

/// How far the last item that a helper has run with the carriers attached has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Began,
    HasResult,
    /// It has stopped the map, and is not counted yet.
    HasStopped,
}

/// Runs items of a chunk, each as a task, for as long as the carriers can be made ready for the
/// next one in passing.
fn run_until_changed<'m, S, P>(
    map: &Map<'_, 'm, S, P>,
    chunk: &mut S::Chunk,
    piece: &mut Piece<'m, P::Out>,
    kept: &mut P::Kept<'_>,
    carriers: AttachedCarriers<'_>,
    last: &mut Option<Last>,
) -> Result<(), CleanupError>
where
    S: Source,
    P: Step<S::Item>,
{
    let Map { run, step, .. } = map;
    let context = run.context;
    let mut frame = Frame::enter(context.inherits());
    while !run.is_over() {
        let Some(item) = chunk.next() else { break };
        *last = Some(Last::Began);
        match step.run(kept, item, &mut run.on_top()) {
            ControlFlow::Continue(out) => {
                if let Err(error) = frame.next_task() {
                    return Err(give_up::<S, P>(out, kept, error));
                }
                piece.push(out);
                *last = Some(Last::HasResult);
            }
            ControlFlow::Break(with) => {
                if let Err(error) = frame.next_task() {
                    return Err(frame::give_up(|| drop(with), error));
                }
                run.stop(StopReason::Stop { position: piece.position(), with });
                *last = Some(Last::HasStopped);
                break;
            }
        }
        if piece.left() == 0 || !context::ready_for_next(context, carriers)? {
            break;
        }
    }
    frame.end()
}

#[cfg(all(test, not(loom)))]
mod tests;
