//! [`LeakWatch`].
//!
//! A watch covers the outermost user code on a worker. While it lasts, the thread's mode is taken
//! out of its place; so what runs on top finds none and belongs to the watch below. Watches of
//! their own would report each nested leak once per level, or, if the outer watch were cut in two
//! around the inner one, report what the outer task has borrowed or entered while it waits, and
//! puts back later.

use std::cell::Cell;
use std::sync::Once;

use super::budget::Budget;
use super::item;
use crate::frame;
use crate::pool::scheduler::{self, current};
use crate::sentinel::{Action, Report, Sentinel, Unsupported, Watcher};
use crate::slot;

thread_local! {
    /// How this worker is watched; away while it is, and before the worker begins with its tasks.
    static MODE: Cell<Option<Mode>> = const { Cell::new(None) };
}

/// How a worker is watched.
enum Mode {
    Watch(Box<Watcher>),
    /// To be watched as soon as that is possible.
    WatchLater,
    /// Not at all: it is replaced after each task.
    RenewAlways,
}

/// Watches what runs on the workers of a pool, if the pool has a sentinel.
pub(crate) struct LeakWatch(Option<Box<Config>>);

pub(super) struct Config {
    pub(super) sentinel: Sentinel,
    /// How often workers may still be replaced, if leaks are a reason to.
    pub(super) budget: Option<Budget>,
}

/// The mode of this worker, out of its place: whoever has it watches what runs next.
#[must_use]
pub(super) struct Watch<'c> {
    pub(super) config: &'c Config,
    pub(super) worker: usize,
    mode: Mode,
}

/// What a watch found.
pub(super) enum Finding {
    Nothing,
    Leaks(Report),
    /// Nobody looked; the worker is to be replaced.
    RenewAlways,
}

impl Drop for LeakWatch {
    /// Never unwinds, and runs in no task: the sentinel's callback is user code, and a pool may end
    /// on any thread.
    fn drop(&mut self) {
        frame::discard(self.0.take());
    }
}

impl LeakWatch {
    /// Fails where there is something to watch and that does not work.
    pub(crate) fn new(sentinel: Option<Sentinel>) -> Result<Self, Unsupported> {
        ignore_own_state();
        let Some(sentinel) = sentinel else { return Ok(Self(None)) };
        let budget = match sentinel.action() {
            Action::Renew { at_most, per } => Some(Budget::new(at_most, per)),
            Action::Count | Action::Panic | Action::RenewAlways => None,
        };
        let config = Config { sentinel, budget };
        if !config.renews_always() {
            // Reads the symbols as well, which takes milliseconds, so that no worker does.
            drop(config.sentinel.watcher()?);
        }
        Ok(Self(Some(Box::new(config))))
    }

    #[inline(always)]
    pub(super) fn config(&self) -> Option<&Config> {
        self.0.as_deref()
    }

    /// Returns whether tasks have to be run one by one, each under a watch of its own.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Returns whether a task may be a reason to replace the worker.
    #[inline]
    pub(crate) fn may_renew(&self) -> bool {
        self.config().is_some_and(|config| config.budget.is_some() || config.renews_always())
    }
}

impl Config {
    fn renews_always(&self) -> bool {
        matches!(self.sentinel.action(), Action::RenewAlways)
    }

    /// Sees to it that what runs on this thread from now on is watched.
    ///
    /// An error means that it will be watched as soon as that is possible.
    pub(super) fn begin(&self) -> Result<(), Unsupported> {
        if self.renews_always() {
            put_back(Mode::RenewAlways);
            return Ok(());
        }
        let (mode, result) = self.look();
        put_back(mode);
        result
    }

    #[cold]
    #[inline(never)]
    fn look(&self) -> (Mode, Result<(), Unsupported>) {
        match self.sentinel.watcher() {
            Ok(watcher) => (Mode::Watch(Box::new(watcher)), Ok(())),
            // It worked on the thread that built the pool. Perhaps no file can be opened just now.
            Err(error) => (Mode::WatchLater, Err(error)),
        }
    }

    /// Begins a watch, unless this is not a worker of that pool, or something is watched already,
    /// or a hook of the worker runs.
    pub(super) fn take_up(&self, pool: u64) -> Option<Watch<'_>> {
        let worker = current::serves_in(pool)?;
        Some(Watch { config: self, worker, mode: take_out()? })
    }
}

impl Watch<'_> {
    /// Calls `f`, and `then` with what was found, which is not watched itself. Neither may unwind.
    pub(super) fn run(self, f: &mut dyn FnMut(), then: impl FnOnce(&Finding)) -> Finding {
        let mut mode = self.mode;
        if let Mode::WatchLater = mode {
            mode = self.config.look().0;
        }
        let finding = match &mut mode {
            Mode::Watch(watcher) => {
                watcher.begin();
                call(f);
                watcher.finish().map_or(Finding::Nothing, Finding::Leaks)
            }
            Mode::WatchLater => {
                f();
                Finding::Nothing
            }
            Mode::RenewAlways => {
                f();
                Finding::RenewAlways
            }
        };
        then(&finding);
        put_back(mode);
        finding
    }
}

/// Tells the sentinel what pools keep per thread, once.
fn ignore_own_state() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        slot::ignore_own();
        crate::sentinel::ignore(|ignored| {
            ignored.key(&MODE);
            item::list(ignored);
            scheduler::list(ignored);
        });
    });
}

/// Keeps the task from being merged with its surroundings: a store to a thread-local that nobody
/// else can see could otherwise be moved past the comparison.
#[inline(never)]
fn call(f: &mut dyn FnMut()) {
    f();
}

/// Calls `f`, which must not unwind; what runs on top of it is not watched.
pub(super) fn unwatched(f: impl FnOnce()) {
    let mode = take_out();
    f();
    if let Some(mode) = mode {
        put_back(mode);
    }
}

/// `None` on top of another watch, and where a thread in its teardown drops what belongs to a pool.
fn take_out() -> Option<Mode> {
    MODE.try_with(Cell::take).ok().flatten()
}

fn put_back(mode: Mode) {
    // Where the thread has nowhere to keep it any more, it ends here.
    let _ended = MODE.try_with(|place| place.set(Some(mode)));
}
