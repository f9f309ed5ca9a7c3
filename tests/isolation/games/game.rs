//! What the tasks of a game share, and the values that they keep.

use std::collections::{HashMap, HashSet};
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, Weak};

use cleanslate::{Context, Isolation, OwnedLocal, Pool, TaskLocal};

use futures_lite::future::block_on;
use tokio::runtime::{Builder, Runtime};

use super::carrier::{Ambient, BESIDE, IS_STUCK};
use super::hooks::with_hooks;
use super::{DEPTH, EXTRA, NUMBER, TEXT, With};

/// A value, and what counts it.
pub(super) struct Token {
    pub(super) worth: u64,
    _live: Arc<()>,
    /// Held by the values of its task.
    _kept: Option<Arc<()>>,
}

impl Token {
    /// Makes it a value of the task that has this.
    pub(super) fn of(self, kept: &Arc<()>) -> Self {
        Self { _kept: Some(Arc::clone(kept)), ..self }
    }
}

impl Clone for Token {
    /// Makes what somebody else keeps.
    fn clone(&self) -> Self {
        Self { worth: self.worth, _live: Arc::clone(&self._live), _kept: None }
    }
}

/// Uses slots and submits work when it is dropped.
pub(super) struct Late(pub(super) Arc<Game>);

impl Drop for Late {
    fn drop(&mut self) {
        // The thread may be ending, and the pool closed.
        let _late = EXTRA.try_set(Some(self.0.token(0)));
        let game = Arc::clone(&self.0);
        let fresh = Context::empty().try_run(|| NUMBER.replace(1) == 0 && worth(&TEXT) == 0);
        game.check(fresh.unwrap_or(true), "a task in a drop is fresh");
        let here = Arc::clone(&game);
        let _refused = game.pools[0].detached().try_submit(move || {
            here.check(NUMBER.replace(1) == 0 && DEPTH.get() == 0, "a drop's task is fresh");
            EXTRA.set(Some(here.token(0)));
        });
    }
}

/// Panics with [`Dropped`] when it is dropped.
pub(super) struct Fails(pub(super) Option<Token>);

pub(super) struct Dropped;

impl Drop for Fails {
    fn drop(&mut self) {
        self.0 = None;
        resume_unwind(Box::new(Dropped));
    }
}

/// What the token in a slot is worth; none is worth 0.
pub(super) fn worth(slot: &'static TaskLocal<Option<Token>>) -> u64 {
    slot.with(|token| token.as_ref().map_or(0, |token| token.worth))
}

/// Marsaglia's xorshift.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        random.any();
        random
    }

    pub(super) fn any(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 16
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.any() % end
    }

    /// An index of a list of this length, if it has any.
    pub(super) fn index(&mut self, len: usize) -> Option<usize> {
        (len > 0).then(|| self.below(len as u64) as usize)
    }
}

pub(super) type Future = Pin<Box<dyn std::future::Future<Output = u64> + Send>>;

pub(super) struct Game {
    /// The last one is leaky.
    pub(super) pools: [Pool; 3],
    /// How many tasks the queue of each holds; 0: any number.
    capacities: [usize; 3],
    pub(super) owned: [OwnedLocal<u64>; 2],
    /// `None` when it has ended, with all its tasks.
    pub(super) tokio: Mutex<Option<Runtime>>,
    /// Anybody may poll or drop these.
    pub(super) futures: Mutex<Vec<Future>>,
    #[cfg(feature = "tower")]
    pub(super) requests: Mutex<Vec<super::requests::InFlight>>,
    /// Held by each token.
    pub(super) live: Arc<()>,
    /// Held by each task that has not ended.
    pub(super) busy: Arc<()>,
    /// The seeds of the tasks that leave a value whose drop panics.
    pub(super) failing: Mutex<HashSet<u64>>,
    /// What the values of each task hold, by its seed.
    kept: Mutex<HashMap<u64, Weak<()>>>,
    /// Whether carriers are installed.
    pub(super) carries: bool,
    /// Whether pools are shut down in the middle of it.
    pub(super) closes: bool,
    /// Whether carriers fail.
    pub(super) fails: bool,
    /// Makes seeds, of which no two are the same.
    seeds: Mutex<Random>,
    /// How many moves are left.
    pub(super) left: AtomicI32,
    /// What did not hold, first.
    pub(super) broken: Mutex<Option<String>>,
}

impl Game {
    pub(super) fn new(random: &mut Random, with: With, game: &Weak<Self>) -> Self {
        let fails = with == With::FailingCarriers;
        let carries = fails || with == With::Carriers;
        let capacities = [(); 3].map(|()| match random.below(3) {
            0 => 1 + random.below(3) as usize,
            _ => 0,
        });
        let runtime = Builder::new_multi_thread().worker_threads(2).build().unwrap();
        Self {
            pools: [0, 1, 2].map(|n| {
                let builder = Pool::builder().workers(1 + random.below(3) as usize);
                let builder = builder.caller_helps(random.below(2) == 0);
                let builder = match capacities[n] {
                    0 => builder,
                    capacity => builder.queue_capacity(capacity),
                };
                let builder = match n {
                    2 => return builder.isolation(Isolation::Leaky).build().unwrap(),
                    _ => with_hooks(builder, random, game),
                };
                // Its tasks find what they find where it is only installed.
                let builder = match carries && random.below(3) == 0 {
                    true => builder.carry(Ambient),
                    false => builder,
                };
                builder.build().unwrap()
            }),
            capacities,
            owned: [(); 2].map(|()| OwnedLocal::new(|| 0)),
            tokio: Mutex::new(Some(runtime)),
            futures: Mutex::default(),
            #[cfg(feature = "tower")]
            requests: Mutex::default(),
            live: Arc::new(()),
            busy: Arc::new(()),
            failing: Mutex::default(),
            kept: Mutex::default(),
            carries,
            closes: with == With::Shutdowns || fails && random.below(4) == 0,
            fails,
            seeds: Mutex::new(Random::new(random.any())),
            left: AtomicI32::new(150),
            broken: Mutex::default(),
        }
    }

    /// Checks that idle pools are what they were.
    pub(super) fn check_pools(&self) {
        for (n, pool) in self.pools.iter().enumerate() {
            let capacity = self.capacities[n];
            // It hangs if one is lost.
            let places: Vec<_> = (0..capacity).map(|_| block_on(pool.reserve()).unwrap()).collect();
            drop(places);
            let visits = pool.detached().broadcast(|| (IS_STUCK.get(), BESIDE.get()));
            self.check(visits.len() == pool.workers(), "a pool keeps its size");
            let attached = u32::from(self.carries && n != 2);
            let is_fit = visits.iter().all(|visit| *visit == (false, attached));
            self.check(is_fit, "no worker is left on which a carrier stayed");
        }
    }

    pub(super) fn check(&self, holds: bool, what: &'static str) {
        if !holds {
            self.note(what.to_owned());
        }
    }

    /// Notes what ought to hold and does not. A panic would not do: games contain those.
    pub(super) fn note(&self, what: String) {
        self.broken.lock().unwrap().get_or_insert(what);
    }

    /// Returns what the values of the task with this seed are to hold.
    pub(super) fn begins(&self, seed: u64) -> Arc<()> {
        let kept = Arc::new(());
        self.kept.lock().unwrap().insert(seed, Arc::downgrade(&kept));
        kept
    }

    /// Checks that a task which is over keeps nothing.
    pub(super) fn keeps_nothing(&self, seed: u64) {
        let kept = self.kept.lock().unwrap().remove(&seed);
        self.check(kept.is_none_or(|kept| kept.strong_count() == 0), "values end with their task");
    }

    pub(super) fn another_seed(&self) -> u64 {
        self.seeds.lock().unwrap().any()
    }

    pub(super) fn token(&self, worth: u64) -> Token {
        Token { worth, _live: Arc::clone(&self.live), _kept: None }
    }

    pub(super) fn any_future(&self, random: &mut Random) -> Option<Future> {
        let mut futures = self.futures.lock().unwrap();
        random.index(futures.len()).map(|n| futures.swap_remove(n))
    }

    /// Whether there is a move left.
    pub(super) fn take_move(&self) -> bool {
        // Relaxed: nothing is read because of it.
        self.left.fetch_sub(1, Ordering::Relaxed) > 0
    }
}
