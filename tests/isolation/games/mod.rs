//! Random programs on random pools, against a model of a few lines: a task finds what its submitter
//! held at the submission in the slots that inherit, and nothing in the others; it keeps what it
//! writes, whatever runs on top of it, on whatever thread it goes on; its values are dropped before
//! anybody sees its end; and in the end every value has been dropped.
//!
//! A seed makes the program, and not which thread runs what. `CLEANSLATE_GAMES=100000` plays more.

mod carrier;
mod causes;
mod end;
mod game;
mod hooks;
#[cfg(feature = "rayon")]
mod on_rayon;
#[cfg(feature = "tokio")]
mod on_tokio;
mod places;
#[cfg(feature = "tower")]
mod requests;
mod task;

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::support::{finishes, in_a_process_of_its_own, on_a_thread};
use cleanslate::foreign::install;
use cleanslate::{Context, JoinHandle, Pool, task_local};
use futures_lite::future::yield_now;

use self::carrier::{AMBIENT, Ambient, Beside, IS_STUCK, NO_ATTACH, State};
use self::end::panics;
use self::game::{Fails, Game, Late, Random, Token, worth};

task_local! {
    static NUMBER: u64 = 0;
    static TEXT: Option<Token> = None;
    static LIST: Vec<u64> = Vec::new();
    #[inherit]
    static TENANT: Option<Token> = None;
    #[inherit(with = |depth| depth.wrapping_add(1))]
    static DEPTH: u64 = 0;
    /// What drops leave behind.
    static EXTRA: Option<Token> = None;
    static LATE: Option<Late> = None;
    static FAILS: Option<Fails> = None;
}

thread_local! {
    /// How many tasks run on this thread, one on top of the other.
    static RUNNING: Cell<u32> = const { Cell::new(0) };
}

cleanslate::worker_local! { static IN_USE: bool = false; }

/// What a task hands down.
#[derive(Clone, Copy, Default)]
struct Inherited {
    tenant: u64,
    /// `None`, if nobody has touched it.
    depth: Option<u64>,
    /// What carriers carry; never changed where none are installed.
    ambient: u64,
}

/// What games are played with.
#[derive(Clone, Copy, PartialEq)]
enum With {
    Nothing,
    Carriers,
    FailingCarriers,
    Shutdowns,
}

/// Where a task is.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Anywhere,
    /// In a visit, or caused by one: it causes no visits, and polls nobody else's futures.
    Visit,
    /// On a thread of rayon's: it uses no pool, whose tasks may wait for that thread.
    Rayon,
    /// On a thread of tokio's, for which rayon's may wait as well.
    Tokio,
}

/// How a task starts.
struct Start {
    game: Arc<Game>,
    _busy: Arc<()>,
    place: Place,
    /// How many tasks cause it, one the other.
    depth: u32,
    /// What it finds.
    inherited: Inherited,
    /// Whether its clean-up may fail.
    may_fail: bool,
    /// Whether it is an item of a map.
    is_item: bool,
    /// Whether it finds what others have left.
    is_leaky: bool,
}

impl Start {
    fn new(game: &Arc<Game>, inherited: Inherited) -> Self {
        let (game, _busy) = (Arc::clone(game), Arc::clone(&game.busy));
        Self {
            game,
            _busy,
            place: Place::Anywhere,
            depth: 0,
            inherited,
            may_fail: false,
            is_item: false,
            is_leaky: false,
        }
    }

    /// Begins what goes on in no task, on a plain thread, which keeps its slots.
    fn root(game: &Arc<Game>, seed: u64) -> Task {
        let kept = Arc::new(());
        Task { may_break: false, kept, ..Self::new(game, Inherited::default()).begin(seed | 1) }
    }

    fn that_may_fail(self) -> Self {
        Self { may_fail: true, ..self }
    }

    /// Plays one task, from its begin to its end.
    fn play(&self, seed: u64) -> u64 {
        self.play_with(seed, None)
    }

    /// Plays one that nobody has chosen a seed for, and that does not panic.
    fn play_another(&self) -> u64 {
        self.play(self.game.another_seed() | 1)
    }

    /// Looks whether a task is fresh, and leaves something.
    fn glance(&self, n: u64) -> bool {
        let has_found = !self.game.carries || AMBIENT.replace(n) == self.inherited.ambient;
        has_found && NUMBER.replace(1) == 0 && worth(&TENANT) == self.inherited.tenant
    }

    /// The same with a handle of some other task, which it joins.
    fn play_with(&self, seed: u64, handle: Option<JoinHandle<u64>>) -> u64 {
        let running = Running::new();
        let is_first_of_worker =
            running.0 == 0 && matches!(self.place, Place::Anywhere | Place::Visit) && !self.is_item;
        self.game.check(!is_first_of_worker || !IS_STUCK.get(), "such a worker is replaced");
        let mut task = self.begin(seed);
        task.handles.extend(handle);
        task.moves(4);
        task.end()
    }

    fn begin(&self, seed: u64) -> Task {
        let mut task = Task {
            game: Arc::clone(&self.game),
            seed,
            kept: self.game.begins(seed),
            random: Random::new(seed),
            place: self.place,
            depth: self.depth,
            may_fail: self.may_fail,
            may_break: self.game.fails && !self.is_leaky,
            number: 0,
            text: 0,
            list: Vec::new(),
            owned: [0; 2],
            inherited: self.inherited,
            handles: Vec::new(),
            contexts: Vec::new(),
        };
        if self.is_leaky {
            task.adopt();
        } else if task.random.below(4) == 0 {
            let nothing = EXTRA.take().flatten().is_none() && !LATE.is_set();
            task.game.check(nothing, "a task finds nothing of what drops left");
        }
        let is_refused = !self.is_leaky && self.inherited.ambient & NO_ATTACH != 0;
        task.game.check(!is_refused, "a task has its carriers, or does not run");
        task.look("a task finds what its submitter held, and nothing else");
        task
    }

    /// Plays one task in several polls.
    async fn future(self, seed: u64) -> u64 {
        let mut task = self.begin(seed);
        // That would end it before it panics.
        task.may_break &= !panics(seed);
        for _ in 0..1 + task.random.below(3) {
            task.moves(2);
            // Who polls it next may be such a task, which cannot wait for itself.
            task.join_all();
            yield_now().await;
            // Foreign state is put back after each poll, and what it inherits is there at the next.
            task.inherited.ambient = self.inherited.ambient;
            task.look("a future keeps its values from poll to poll");
        }
        let worth = task.random.any();
        let bound = NUMBER.scope_future(worth, async {
            let first = NUMBER.get();
            yield_now().await;
            (first, NUMBER.get())
        });
        task.game.check(bound.await == (worth, worth), "a future keeps what is bound to it");
        task.end()
    }
}

/// A task, and what it ought to find in its slots.
struct Task {
    game: Arc<Game>,
    seed: u64,
    /// Held by each of its values.
    kept: Arc<()>,
    random: Random,
    place: Place,
    depth: u32,
    may_fail: bool,
    /// Whether its carriers may fail to detach.
    may_break: bool,
    number: u64,
    text: u64,
    list: Vec<u64>,
    owned: [u64; 2],
    inherited: Inherited,
    handles: Vec<JoinHandle<u64>>,
    contexts: Vec<(Context, Inherited)>,
}

/// A task that runs on this thread, on top of so many.
struct Running(u32);

impl Running {
    fn new() -> Self {
        Self(RUNNING.replace(RUNNING.get() + 1))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.set(self.0);
    }
}

/// Returns how many games are played.
fn games() -> u64 {
    std::env::var("CLEANSLATE_GAMES").ok().and_then(|n| n.parse().ok()).unwrap_or(200)
}

#[test]
fn every_task_sees_its_own_values_whatever_else_is_played() {
    play(With::Nothing);
}

#[test]
fn every_task_sees_its_own_foreign_state_as_well() {
    if in_a_process_of_its_own("games::every_task_sees_its_own_foreign_state_as_well") {
        install(Beside).unwrap();
        install(Ambient).unwrap();
        play(With::Carriers);
    }
}

#[test]
fn every_task_sees_its_own_values_while_carriers_fail() {
    if in_a_process_of_its_own("games::every_task_sees_its_own_values_while_carriers_fail") {
        install(Beside).unwrap();
        install(Ambient).unwrap();
        play(With::FailingCarriers);
    }
}

#[test]
fn every_task_sees_its_own_values_while_pools_are_shut_down() {
    play(With::Shutdowns);
}

fn play(with: With) {
    for seed in 1..=games() {
        finishes(&format!("game {seed}"), move || {
            let made = State::live();
            let game = Arc::new_cyclic(|game| Game::new(&mut Random::new(!seed), with, game));
            on_a_thread(|| {
                std::thread::scope(|s| {
                    let waits = (seed % 3 == 0).then(|| s.spawn(|| places::play(&game, !seed)));
                    let _root = Running::new();
                    let mut root = Start::root(&game, seed);
                    game.calls(root.seed, || {
                        while game.left.load(Ordering::Relaxed) > 0 {
                            root.moves(4);
                        }
                        root.end()
                    });
                    // Only this waits for the drops of its slots' values as well.
                    if let Some(waits) = waits {
                        waits.join().unwrap();
                    }
                });
                game.left.store(0, Ordering::Relaxed);
                while Arc::strong_count(&game.busy) > 1 {
                    game.pools.iter().for_each(Pool::wait_idle);
                    drop(std::mem::take(&mut *game.futures.lock().unwrap()));
                    #[cfg(feature = "tower")]
                    drop(std::mem::take(&mut *game.requests.lock().unwrap()));
                }
                if !game.closes {
                    game.check_pools();
                }
                let tokio = game.tokio.lock().unwrap().take();
                drop(tokio);
                game.pools.iter().for_each(|pool| pool.shutdown().unwrap());
            });
            assert_eq!(*game.broken.lock().unwrap(), None, "game {seed}");
            assert_eq!(Arc::strong_count(&game.live), 1, "game {seed}: values are left");
            assert_eq!(Arc::strong_count(&game), 1, "game {seed}: tasks are left");
            drop(game);
            assert_eq!(State::live(), made, "game {seed}: what carriers made is left");
        });
    }
}
