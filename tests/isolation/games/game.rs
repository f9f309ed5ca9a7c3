//! What the tasks of a game share, and the values that they keep.

use std::cell::Cell;
use std::collections::HashSet;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use cleanslate::foreign::{BoxError, Carrier};
use cleanslate::{Context, OwnedLocal, Pool, TaskLocal};

use super::{DEPTH, EXTRA, NUMBER, TEXT};

thread_local! {
    /// Foreign state that tasks inherit where carriers are installed.
    pub(super) static AMBIENT: Cell<u64> = const { Cell::new(0) };
}

/// Carries [`AMBIENT`].
pub(super) struct Ambient;

impl Carrier for Ambient {
    type Captured = u64;
    type Attached = u64;

    fn name(&self) -> &str {
        "ambient"
    }

    fn capture(&self) -> Result<u64, BoxError> {
        Ok(AMBIENT.get())
    }

    fn attach(&self, captured: &u64) -> Result<u64, BoxError> {
        Ok(AMBIENT.replace(*captured))
    }

    fn detach(&self, before: u64) -> Result<(), BoxError> {
        AMBIENT.set(before);
        Ok(())
    }

    fn nothing(&self) -> Option<u64> {
        Some(0)
    }

    fn is_nothing(&self, captured: &u64) -> bool {
        *captured == 0
    }
}

/// A value, and what counts it.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) worth: u64,
    _live: Arc<()>,
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

/// Panics when it is dropped.
pub(super) struct Fails(pub(super) Token);

impl Drop for Fails {
    fn drop(&mut self) {
        resume_unwind(Box::new(self.0.worth));
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
    pub(super) pools: [Pool; 2],
    pub(super) owned: [OwnedLocal<u64>; 2],
    /// Anybody may poll or drop these.
    pub(super) futures: Mutex<Vec<Future>>,
    /// Held by each token.
    pub(super) live: Arc<()>,
    /// Held by each task that has not ended.
    pub(super) busy: Arc<()>,
    /// The seeds of the tasks that leave a value whose drop panics.
    pub(super) failing: Mutex<HashSet<u64>>,
    /// Whether carriers are installed.
    pub(super) carries: bool,
    /// Whether pools are shut down in the middle of it.
    pub(super) closes: bool,
    /// Makes seeds, of which no two are the same.
    seeds: Mutex<Random>,
    /// How many moves are left.
    pub(super) left: AtomicU32,
    /// What did not hold, first.
    pub(super) broken: Mutex<Option<String>>,
}

impl Game {
    pub(super) fn new(random: &mut Random, carries: bool, closes: bool) -> Self {
        Self {
            pools: [(); 2].map(|()| {
                let builder = Pool::builder().workers(1 + random.below(3) as usize);
                let builder = builder.caller_helps(random.below(2) == 0);
                let builder = match random.below(3) {
                    0 => builder.queue_capacity(1 + random.below(3) as usize),
                    _ => builder,
                };
                builder.build().unwrap()
            }),
            owned: [(); 2].map(|()| OwnedLocal::new(|| 0)),
            futures: Mutex::default(),
            live: Arc::new(()),
            busy: Arc::new(()),
            failing: Mutex::default(),
            carries,
            closes,
            seeds: Mutex::new(Random::new(random.any())),
            left: AtomicU32::new(150),
            broken: Mutex::default(),
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

    pub(super) fn another_seed(&self) -> u64 {
        self.seeds.lock().unwrap().any()
    }

    pub(super) fn token(&self, worth: u64) -> Token {
        Token { worth, _live: Arc::clone(&self.live) }
    }

    pub(super) fn any_future(&self, random: &mut Random) -> Option<Future> {
        let mut futures = self.futures.lock().unwrap();
        random.index(futures.len()).map(|n| futures.swap_remove(n))
    }

    /// Whether there is a move left.
    pub(super) fn take_move(&self) -> bool {
        // Relaxed: nothing is read because of it.
        let one_less = |left: u32| left.checked_sub(1);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
    }
}
