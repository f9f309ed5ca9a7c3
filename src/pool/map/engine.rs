//! The engine of the map family: helpers claim chunks, run each item as a task of its own, and put the
//! results where they belong.

use std::ops::ControlFlow;

use parking_lot::Mutex;

use super::output::{Output, Sink, Stop};
use super::pace::Pace;
use super::step::Step;
use super::{Chunk, Source};
use crate::context::Context;
use crate::frame::{self, Failure, Frame};
use crate::panic::catch;
use crate::pool::core::Core;
use crate::pool::error::Label;
use crate::pool::group::{Body, Help, Owner, Ticket};
use crate::pool::isolation::{Isolation, Tasks, Unseparated};
use crate::pool::scheduler::current;
use crate::sync::seam::atomic::{AtomicBool, Ordering};

/// How many items run between two looks for a stop, where they are quick.
const BLOCK: usize = 64;

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
struct Map<'m, S, P, R, E> {
    core: &'m Core,
    context: &'m Context,
    source: &'m S,
    step: &'m P,
    label: &'m Label,
    helpers: usize,
    /// Items counted as run inline: those of an owner that runs a task itself.
    owner: Option<std::thread::ThreadId>,
    output: Output<R>,
    stopped: AtomicBool,
    verdict: Mutex<Verdict<E>>,
}

/// Why the map stops early.
enum Verdict<E> {
    None,
    Stop { position: usize, with: E },
    Failed(Failure),
    Cancelled,
}

/// Runs `step` for every item of `source`, of which there are at least `promised` and at most `most`.
pub(crate) fn run<S, P>(
    core: &Core,
    context: &Context,
    label: &Label,
    source: &S,
    step: &P,
    (promised, most): (usize, Option<usize>),
) -> Ended<P::Out, P::Stop>
where
    S: Source,
    P: Step<S::Item>,
{
    let helpers = core.slots.len().min(most.unwrap_or(usize::MAX)).max(1);
    let in_task = current::in_task();
    let map = Map {
        core,
        context,
        source,
        step,
        label,
        helpers: helpers + usize::from(in_task),
        owner: in_task.then(|| std::thread::current().id()),
        output: Output::new(promised),
        stopped: AtomicBool::new(false),
        verdict: Mutex::new(Verdict::None),
    };
    Owner::<Ticket>::run(core, &map, helpers);
    let Map { output, verdict, .. } = map;
    let ended = match verdict.into_inner() {
        Verdict::None => return Ended::Done(output.into_vec(source.total())),
        Verdict::Stop { with, .. } => Ended::Stopped(with),
        Verdict::Failed(failure) => Ended::Failed(failure),
        Verdict::Cancelled => Ended::Cancelled,
    };
    output.discard(|result| core.drop_contained(result, label));
    ended
}

impl<S, P> Body for Map<'_, S, P, P::Out, P::Stop>
where
    S: Source,
    P: Step<S::Item>,
{
    fn help(&self, _index: usize, more: &dyn Fn()) -> Help {
        let tally = self.core.tally();
        tally.add(|c| &c.running, 1);
        let in_task = current::enter_task(self.core.id);
        let mut buffer = S::Buffer::default();
        let mut sink = self.output.sink();
        let each = P::EACH || self.context.has_carriers() || self.core.sentry.watches_each_task();
        let result = match (each, self.core.isolation) {
            (true, _) => self.each_for_itself(&mut buffer, &mut sink, more),
            (false, Isolation::Reset) => self.all::<Frame<'_>>(&mut buffer, &mut sink, more),
            (false, Isolation::Leaky) => self.all::<Unseparated>(&mut buffer, &mut sink, more),
        };
        let help = result.unwrap_or_else(|failure| {
            match failure {
                Failure::Panic(_) => tally.add(|c| &c.panicked, 1),
                _ => tally.add(|c| &c.failed, 1),
            }
            self.fail(failure);
            Help::Exhausted
        });
        while let Some(unstarted) = self.source.unstarted(&mut buffer) {
            self.core.drop_contained(unstarted, self.label);
        }
        tally.add(|c| &c.completed, sink.written as u64);
        if self.is_owner() {
            tally.add(|c| &c.inline, sink.written as u64);
        }
        tally.sub(|c| &c.running, 1);
        drop(sink);
        drop(in_task);
        help
    }

    fn cancel(&self) -> Help {
        let mut verdict = self.verdict.lock();
        if let Verdict::None = *verdict {
            *verdict = Verdict::Cancelled;
        }
        drop(verdict);
        self.stop();
        Help::Exhausted
    }
}

impl<S, P> Map<'_, S, P, P::Out, P::Stop>
where
    S: Source,
    P: Step<S::Item>,
{
    /// Nothing new is to start.
    fn stop(&self) {
        // Relaxed: seen soon; what the owner reads is ordered by the gate.
        self.stopped.store(true, Ordering::Relaxed);
        self.source.stop();
    }

    fn is_stopped(&self) -> bool {
        // Relaxed: as in `stop`.
        self.stopped.load(Ordering::Relaxed)
    }

    /// The first failure is kept; it takes precedence over an item's stop.
    fn fail(&self, failure: Failure) {
        self.stop();
        let mut verdict = self.verdict.lock();
        let late = match &*verdict {
            Verdict::Failed(_) => Verdict::Failed(failure),
            _ => std::mem::replace(&mut *verdict, Verdict::Failed(failure)),
        };
        drop(verdict);
        self.core.drop_contained(late, self.label);
    }

    /// An item stops the others: kept if it comes before the one that did so already.
    fn stop_at(&self, position: usize, with: P::Stop) {
        self.stop();
        let mut verdict = self.verdict.lock();
        let late = match &*verdict {
            Verdict::None | Verdict::Cancelled => {
                std::mem::replace(&mut *verdict, Verdict::Stop { position, with })
            }
            Verdict::Stop { position: other, .. } if position < *other => {
                std::mem::replace(&mut *verdict, Verdict::Stop { position, with })
            }
            Verdict::Stop { .. } | Verdict::Failed(_) => Verdict::Stop { position, with },
        };
        drop(verdict);
        self.core.drop_contained(late, self.label);
    }

    /// Whether this thread is the owner's.
    fn is_owner(&self) -> bool {
        self.owner.is_some_and(|owner| owner == std::thread::current().id())
    }

    /// Whether the pool was shut down for good, so that nothing new may start.
    fn is_cancelled(&self) -> bool {
        let cancelled = self.core.is_cancelled();
        if cancelled {
            let _exhausted = self.cancel();
        }
        cancelled
    }

    /// The fast loop: one frame, and between two items what the engine needs to end one task and begin
    /// the next.
    fn all<'c, T: Tasks<'c>>(
        &'c self,
        buffer: &mut S::Buffer,
        sink: &mut Sink<'_, P::Out>,
        more: &dyn Fn(),
    ) -> Result<Help, Failure> {
        // A panic leaves the buffer and the sink consistent: each item is taken out of the one before it
        // runs, and each result is moved to the other by the block's drop.
        catch(|| {
            let mut tasks = T::enter(self.context);
            let mut pace = Pace::new(self.helpers);
            let done = self.chunks(&mut tasks, &mut pace, buffer, sink, more);
            let ended = tasks.end().map_err(Failure::Cleanup);
            done.and(ended).map(|()| Help::Exhausted)
        })
        .unwrap_or_else(|payload| Err(Failure::Panic(payload)))
    }

    fn chunks<'c, T: Tasks<'c>>(
        &self,
        tasks: &mut T,
        pace: &mut Pace,
        buffer: &mut S::Buffer,
        sink: &mut Sink<'_, P::Out>,
        more: &dyn Fn(),
    ) -> Result<(), Failure> {
        while !self.is_stopped() && !self.is_cancelled() {
            let Some(chunk) = self.source.claim(pace, buffer) else { break };
            if S::RUNS_OTHERS {
                tasks.next_task().map_err(Failure::Cleanup)?;
            }
            self.chunk(tasks, chunk, buffer, sink)?;
            if pace.done(chunk.len) {
                more();
            }
        }
        Ok(())
    }

    /// Runs one chunk. Items so slow that a chunk holds few of them look for a stop one by one, others
    /// once a block.
    #[inline(always)]
    fn chunk<'c, T: Tasks<'c>>(
        &self,
        tasks: &mut T,
        chunk: Chunk,
        buffer: &mut S::Buffer,
        sink: &mut Sink<'_, P::Out>,
    ) -> Result<(), Failure> {
        let mut position = chunk.base;
        let end = chunk.base + chunk.len;
        while position < end && !self.is_stopped() {
            let asked = if chunk.len < BLOCK { 1 } else { BLOCK.min(end - position) };
            let len = sink.room(position, asked);
            let items = self.source.items(buffer, position, len);
            let (stop, done) = sink.fill(position, items, tasks, |item| self.step.run(item));
            match stop {
                None => {}
                Some(Stop::Item(with)) => {
                    tasks.next_task().map_err(Failure::Cleanup)?;
                    self.stop_at(position + done, with);
                    return Ok(());
                }
                Some(Stop::Cleanup(error, out)) => {
                    self.core.drop_contained(out, self.label);
                    return Err(Failure::Cleanup(error));
                }
            }
            position += len;
        }
        Ok(())
    }

    /// The slow loop: each item in a frame of its own, caught for itself. For contexts with carriers,
    /// which are attached for each item, for maps in which a failure costs its item only, and under a
    /// sentinel, which watches each item.
    fn each_for_itself(
        &self,
        buffer: &mut S::Buffer,
        sink: &mut Sink<'_, P::Out>,
        more: &dyn Fn(),
    ) -> Result<Help, Failure> {
        // A carrier that stays attached spoils the thread for the next item, and so may a leak, so none
        // is claimed ahead.
        let sentry = &self.core.sentry;
        let may_spoil = self.context.has_carriers() || sentry.may_renew();
        let mut pace = match may_spoil {
            true => Pace::one_by_one(),
            false => Pace::new(self.helpers),
        };
        while !self.is_stopped() && !self.is_cancelled() {
            let mut claimed = None;
            let mut claim = || frame::contained(|| claimed = self.source.claim(&pace, buffer));
            match S::RUNS_OTHERS {
                true => sentry.watch(self.core, self.label, claim)?,
                false => claim()?,
            }
            let Some(chunk) = claimed else { break };
            for position in chunk.base..chunk.base + chunk.len {
                if self.is_stopped() {
                    break;
                }
                let item = self.source.item(buffer, position);
                let ended = sentry.watch(self.core, self.label, || {
                    self.core.isolation.run(self.context, || self.step.run(item))
                });
                let out = match ended {
                    Ok(ControlFlow::Continue(out)) => out,
                    Ok(ControlFlow::Break(with)) => {
                        self.stop_at(position, with);
                        return Ok(Help::Exhausted);
                    }
                    Err(failure) => match self.step.failed(position, failure) {
                        ControlFlow::Continue(out) => out,
                        ControlFlow::Break(failure) => return Err(failure),
                    },
                };
                sink.push(position, out);
            }
            if may_spoil && current::is_retiring() && !self.is_owner() {
                return Ok(Help::Elsewhere);
            }
            if pace.done(chunk.len) {
                more();
            }
        }
        Ok(Help::Exhausted)
    }
}
