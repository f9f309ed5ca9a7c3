//! One case: a pool, something that user code does, and the place where it does it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::{Bomb, Census, Counted};
use cleanslate::sync::Event;
use cleanslate::{JoinHandle, Pool, ShutdownError};

/// What the user code does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Panics,
    PanicsWithABomb,
    Joins,
    Broadcasts,
    Maps,
    Scopes,
    Halves,
    Reduces,
    WaitsForAny,
    WaitsUntilIdle,
    FillsTheQueue,
    ShutsDown,
    ShutsDownNow,
    ShutsDownInBackground,
    CancelsInBackground,
    EndsAnotherPool,
    DropsTheLastHandle,
}

pub(crate) const DEEDS: [Deed; 17] = [
    Deed::Panics,
    Deed::PanicsWithABomb,
    Deed::Joins,
    Deed::Broadcasts,
    Deed::Maps,
    Deed::Scopes,
    Deed::Halves,
    Deed::Reduces,
    Deed::WaitsForAny,
    Deed::WaitsUntilIdle,
    Deed::FillsTheQueue,
    Deed::ShutsDown,
    Deed::ShutsDownNow,
    Deed::ShutsDownInBackground,
    Deed::CancelsInBackground,
    Deed::EndsAnotherPool,
    Deed::DropsTheLastHandle,
];

impl Deed {
    /// Whether the pool may be closed afterwards.
    pub(crate) fn closes(self) -> bool {
        matches!(
            self,
            Self::ShutsDown
                | Self::ShutsDownNow
                | Self::ShutsDownInBackground
                | Self::CancelsInBackground
                | Self::DropsTheLastHandle
        )
    }
}

/// What a case's threads share.
#[derive(Clone)]
pub(crate) struct World(Arc<Inner>);

struct Inner {
    deed: Deed,
    census: Census,
    handle: Mutex<Option<Pool>>,
    go: Event,
    begun: Event,
    acts: AtomicUsize,
}

impl World {
    pub(crate) fn new(deed: Deed) -> Self {
        Self(Arc::new(Inner {
            deed,
            census: Census::new(),
            handle: Mutex::new(None),
            go: Event::new(),
            begun: Event::new(),
            acts: AtomicUsize::new(0),
        }))
    }

    pub(crate) fn census(&self) -> &Census {
        &self.0.census
    }

    /// Keeps the handle through which the deed reaches the pool.
    pub(crate) fn keep(&self, pool: Pool) {
        *self.0.handle.lock().unwrap() = Some(pool);
    }

    /// Takes the handle out; `None` if the deed was to drop it.
    pub(crate) fn take(&self) -> Option<Pool> {
        self.0.handle.lock().unwrap().take()
    }

    /// Lets the deed happen: before, whoever is to do it waits.
    pub(crate) fn go(&self) {
        self.0.go.set();
    }

    pub(crate) fn wait_for_go(&self) {
        self.0.go.wait();
    }

    /// Waits until the deed is being done for the first time.
    pub(crate) fn wait_for_deed(&self) {
        self.0.begun.wait();
    }

    pub(crate) fn acts(&self) -> usize {
        self.0.acts.load(Ordering::SeqCst)
    }

    /// A value that does the deed when it is dropped.
    pub(crate) fn bomb(&self) -> ActsOnDrop {
        ActsOnDrop { world: self.clone(), armed: true, _counted: self.0.census.token() }
    }

    /// One of these whose clones do it, but not itself.
    pub(crate) fn egg(&self) -> ActsOnDrop {
        let mut egg = self.bomb();
        egg.armed = false;
        egg
    }

    /// Does the deed.
    pub(crate) fn act(&self) {
        self.0.go.wait();
        self.0.begun.set();
        self.0.acts.fetch_add(1, Ordering::SeqCst);
        let pool = || self.0.handle.lock().unwrap().clone();
        match self.0.deed {
            Deed::Panics => panic!("on purpose"),
            Deed::PanicsWithABomb => Bomb::explode(),
            Deed::DropsTheLastHandle => drop(self.take()),
            Deed::EndsAnotherPool => end_another_pool(),
            deed => {
                if let Some(pool) = pool() {
                    use_pool(deed, &pool);
                }
            }
        }
    }
}

fn use_pool(deed: Deed, pool: &Pool) {
    match deed {
        Deed::Joins => {
            let first = pool.submit(|| 1);
            let second = pool.submit(move || first.join().map_or(0, |n| n + 1));
            match second.join() {
                Ok(n) => assert!(n == 2 || n == 0),
                Err(error) => assert!(error.is_cancelled(), "{error}"),
            }
        }
        Deed::Broadcasts => or_shut_down(|| {
            assert_eq!(pool.broadcast(|| 1).len(), pool.workers());
        }),
        Deed::Maps => or_shut_down(|| assert_eq!(pool.map(0..20, |n| n).len(), 20)),
        Deed::Scopes => or_shut_down(|| {
            let mut counts = [0, 0];
            pool.scope(|s| {
                for count in &mut counts {
                    s.submit(move || *count += 1);
                }
            });
            assert_eq!(counts, [1, 1]);
        }),
        Deed::Halves => or_shut_down(|| assert_eq!(pool.join(|| 1, || 2), (1, 2))),
        Deed::Reduces => or_shut_down(|| {
            let sums = pool.map_init(0..20, || 1, |one, n| n + *one);
            assert_eq!(pool.reduce(sums, || 0, |a, b| a + b), 210);
            pool.for_each(0..3, |_| ());
        }),
        Deed::WaitsForAny => {
            let handles = [pool.submit(|| 1), pool.submit(|| 1)];
            let first = JoinHandle::wait_any(&handles);
            assert!(handles[first].is_finished());
        }
        Deed::WaitsUntilIdle => {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| pool.wait_idle())) {
                let said = crate::support::message(&*payload);
                assert!(said.contains("and so for itself"), "on purpose, but not: {said}");
            }
        }
        Deed::FillsTheQueue => (0..4).for_each(|_| drop(pool.submit(|| ()))),
        Deed::ShutsDown => ended(pool.shutdown()),
        Deed::ShutsDownNow => ended(pool.shutdown_now()),
        Deed::ShutsDownInBackground => pool.shutdown_background(),
        Deed::CancelsInBackground => pool.shutdown_background_now(),
        _ => unreachable!("needs no handle"),
    }
}

/// The threads of a pool cannot wait for its end, all others can.
fn ended(shutdown: Result<(), ShutdownError>) {
    if let Err(error) = shutdown {
        assert!(error.is_on_worker(), "{error}");
    }
}

/// In a pool that is closed the deed is refused.
fn or_shut_down(f: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
        let said = crate::support::message(&*payload);
        let refused = said.contains("shut down") || said.contains("cancelled");
        assert!(refused, "on purpose, but not: {said}");
    }
}

fn end_another_pool() {
    let other = Pool::new(1).unwrap();
    let handle = other.submit(|| 3);
    other.shutdown().unwrap();
    assert_eq!(handle.join().unwrap(), 3);
    drop(other.clone());
    drop(other);
    drop(Pool::new(1).unwrap());
}

/// Does the deed when it is dropped, unless it is only there to be cloned.
pub(crate) struct ActsOnDrop {
    world: World,
    armed: bool,
    _counted: Counted,
}

impl ActsOnDrop {
    /// One that does nothing any more.
    pub(crate) fn defused(mut self) -> Self {
        self.armed = false;
        self
    }
}

impl Clone for ActsOnDrop {
    fn clone(&self) -> Self {
        self.world.bomb()
    }
}

impl Drop for ActsOnDrop {
    fn drop(&mut self) {
        if self.armed {
            self.world.act();
        }
    }
}

/// The same where an unwinding drop would end the process.
pub(crate) struct ActsQuietly(pub(crate) Option<ActsOnDrop>);

impl Drop for ActsQuietly {
    fn drop(&mut self) {
        let acts = self.0.take();
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(acts))) {
            defuse(payload);
        }
    }
}

/// Drops a payload whose drop may panic with the next one.
pub(crate) fn defuse(mut payload: Box<dyn std::any::Any + Send>) {
    while let Err(next) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        payload = next;
    }
}
