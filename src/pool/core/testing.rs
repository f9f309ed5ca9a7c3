//! A core without threads, for unit tests and models: they play the workers themselves.

use std::num::NonZeroUsize;
use std::sync::Arc;

use super::hooks::Hooks;
use super::{Activity, Core, Entry, How, Place, Settings};
use crate::pool::error::Refused;
use crate::pool::isolation::Isolation;
use crate::pool::leaks::LeakWatch;
use crate::pool::scheduler::current::Doing;
use crate::pool::scheduler::queue::Stale;
use crate::pool::scheduler::threads::Threads;
use crate::pool::scheduler::worker_slot::DirectedTask;
use crate::sync::seam;
use crate::sync::seam::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Makes a core whose workers nobody has started.
pub(crate) fn core(workers: usize) -> Arc<Core> {
    let settings = Settings {
        workers: NonZeroUsize::new(workers).unwrap(),
        isolation: Isolation::Reset,
        carriers: None,
        capacity: None,
        hooks: Hooks::default(),
        #[cfg(feature = "sentinel")]
        leak_watch: LeakWatch::new(None).unwrap(),
        #[cfg(not(feature = "sentinel"))]
        leak_watch: LeakWatch,
        caller_helps: false,
    };
    let threads = Threads::new("test".into(), Some(64 << 10), workers);
    Arc::new(Core::new(settings, seam::unique_number(), threads))
}

/// What becomes of a task or a visit.
#[derive(Default)]
pub(crate) struct Fate {
    pub(crate) runs: AtomicUsize,
    pub(crate) cancels: AtomicUsize,
}

impl Fate {
    /// Returns how often it was run and cancelled.
    pub(crate) fn seen(&self) -> (usize, usize) {
        (self.runs.load(Ordering::SeqCst), self.cancels.load(Ordering::SeqCst))
    }
}

/// A task without a handle. It is claimed once, by whoever runs or cancels it, and counted as a job
/// is.
pub(crate) struct Task<F> {
    claimed: AtomicBool,
    pub(crate) fate: Fate,
    call: F,
}

impl<F: Fn(&Core) + Send + Sync + 'static> Task<F> {
    pub(crate) fn new(call: F) -> Arc<Self> {
        Arc::new(Self { claimed: AtomicBool::new(false), fate: Fate::default(), call })
    }

    /// Submits it as [`Pool::submit`](crate::Pool::submit) does.
    pub(crate) fn submit(self: &Arc<Self>, core: &Core) -> Result<u64, Refused> {
        let number = core.admit(Place::Refuse)?;
        if core.enqueue(Arc::clone(self) as Arc<dyn Entry>) && self.claim() {
            core.mark_stale(1);
            self.end(core);
        }
        Ok(number)
    }

    fn end(&self, core: &Core) {
        let activity = Activity::begin(core, core.tally(), Doing::DROP);
        self.fate.cancels.fetch_add(1, Ordering::SeqCst);
        drop(activity);
    }

    /// Claims it, as somebody does who waits for it.
    pub(crate) fn claim(&self) -> bool {
        !self.claimed.swap(true, Ordering::SeqCst)
    }
}

impl<F: Send + Sync> Stale for Task<F> {
    fn is_stale(&self) -> bool {
        self.claimed.load(Ordering::SeqCst)
    }
}

impl<F: Fn(&Core) + Send + Sync + 'static> Entry for Task<F> {
    fn run(self: Arc<Self>, core: &Core, how: How<'_>) -> bool {
        let How::Run(tally) = how else { unreachable!("nobody waits for it") };
        if !self.claim() {
            return false;
        }
        if core.is_cancelled() {
            self.end(core);
            return true;
        }
        let activity = Activity::begin(core, tally, Doing::TASK);
        (self.call)(core);
        self.fate.runs.fetch_add(1, Ordering::SeqCst);
        drop(activity);
        true
    }
}

/// A visit to every worker that may always be cancelled.
#[derive(Default)]
pub(crate) struct Directed(pub(crate) Fate);

impl DirectedTask for Directed {
    fn run(&self) {
        self.0.runs.fetch_add(1, Ordering::SeqCst);
    }

    fn may_cancel(&self) -> bool {
        true
    }

    fn cancel(&self) {
        self.0.cancels.fetch_add(1, Ordering::SeqCst);
    }
}
