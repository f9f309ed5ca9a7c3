//! Random programs on random pools, against a model of a few lines: a task finds what its submitter
//! held at the submission in the slots that inherit, and nothing in the others; it keeps what it
//! writes, whatever runs on top of it, on whatever thread it goes on; and in the end every value
//! has been dropped.
//!
//! A seed makes the program, and not which thread runs what. `CLEANSLATE_GAMES=100000` plays more.

mod causes;
mod game;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::support::{finishes, in_a_process_of_its_own, message, on_a_thread};
use cleanslate::foreign::install;
use cleanslate::{Context, JoinHandle, Pool, RunError, TaskError, task_local};
use futures_lite::future::yield_now;

use self::game::{AMBIENT, Ambient, Fails, Game, Late, Random, Token, worth};

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

/// Where a task is.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Anywhere,
    /// In a visit, or caused by one: it causes no visits, and polls nobody else's futures.
    Visit,
    /// On a thread of rayon's or tokio's: it uses no pool, whose tasks may wait for that thread.
    Foreign,
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
}

impl Start {
    fn new(game: &Arc<Game>, inherited: Inherited) -> Self {
        let (game, _busy) = (Arc::clone(game), Arc::clone(&game.busy));
        Self { game, _busy, place: Place::Anywhere, depth: 0, inherited, may_fail: false }
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

    /// The same with a handle of some other task, which it joins.
    fn play_with(&self, seed: u64, handle: Option<JoinHandle<u64>>) -> u64 {
        let mut task = self.begin(seed);
        task.handles.extend(handle);
        task.moves(4);
        task.end()
    }

    fn begin(&self, seed: u64) -> Task {
        let mut task = Task {
            game: Arc::clone(&self.game),
            seed,
            random: Random::new(seed),
            place: self.place,
            depth: self.depth,
            may_fail: self.may_fail,
            number: 0,
            text: 0,
            list: Vec::new(),
            owned: [0; 2],
            inherited: self.inherited,
            handles: Vec::new(),
            contexts: Vec::new(),
        };
        if task.random.below(4) == 0 {
            let nothing = EXTRA.take().flatten().is_none() && !LATE.is_set();
            task.game.check(nothing, "a task finds nothing of what drops left");
        }
        task.look("a task finds what its submitter held, and nothing else");
        task
    }

    /// Plays one task in several polls.
    async fn future(self, seed: u64) -> u64 {
        let mut task = self.begin(seed);
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
    random: Random,
    place: Place,
    depth: u32,
    may_fail: bool,
    number: u64,
    text: u64,
    list: Vec<u64>,
    owned: [u64; 2],
    inherited: Inherited,
    handles: Vec<JoinHandle<u64>>,
    contexts: Vec<(Context, Inherited)>,
}

/// A task that panics does so with its seed. One that returns, returns its seed.
struct OnPurpose(u64);

fn panics(seed: u64) -> bool {
    seed & 7 == 0
}

/// How a task ended.
#[derive(Debug, PartialEq)]
enum End {
    Returned(u64),
    Panicked(u64),
    NotCleanedUp,
    /// With these words.
    Otherwise(String),
}

impl End {
    fn thrown(payload: Box<dyn Any + Send>) -> Self {
        if payload.downcast_ref().is_some_and(RunError::is_cleanup) {
            return Self::NotCleanedUp;
        }
        match payload.downcast::<OnPurpose>() {
            Ok(seed) => Self::Panicked(seed.0),
            Err(payload) => Self::Otherwise(message(&*payload)),
        }
    }
}

impl Task {
    /// Compares some slots with what they ought to show.
    fn look(&mut self, what: &'static str) {
        let picked = self.random.any();
        let is_picked = |bit: usize| picked >> bit & 1 == 0;
        let mut holds = !is_picked(0) || NUMBER.get() == self.number;
        holds &= !is_picked(1) || worth(&TEXT) == self.text;
        holds &= !is_picked(2) || LIST.with(|list| *list == self.list);
        holds &= !is_picked(3) || worth(&TENANT) == self.inherited.tenant;
        if is_picked(4) {
            holds &= DEPTH.get() == *self.inherited.depth.get_or_insert(0);
        }
        for (n, owned) in self.game.owned.iter().enumerate() {
            holds &= !is_picked(5 + n) || owned.get() == self.owned[n];
        }
        holds &= !self.game.carries || AMBIENT.get() == self.inherited.ambient;
        self.game.check(holds, what);
    }

    fn check(&self, holds: bool, what: &'static str) {
        self.game.check(holds, what);
    }

    fn join_all(&mut self) {
        for handle in std::mem::take(&mut self.handles) {
            self.join(handle);
        }
    }

    fn end(mut self) -> u64 {
        self.join_all();
        self.look("a task keeps its values to its end");
        if panics(self.seed) {
            resume_unwind(Box::new(OnPurpose(self.seed)));
        }
        self.seed
    }

    fn moves(&mut self, most: u64) {
        for _ in 0..self.random.below(most + 1) {
            if !self.game.take_move() {
                return;
            }
            if self.depth < 4 && self.random.below(2) == 0 {
                self.cause();
                self.look("a task keeps its values whatever it causes");
            } else {
                self.write();
            }
        }
    }

    fn write(&mut self) {
        let value = 1 + self.random.any();
        let token = Some(self.game.token(value));
        match self.random.below(14) {
            0 => {
                let before = NUMBER.replace(value);
                let expected = std::mem::replace(&mut self.number, value);
                self.check(before == expected, "what a number is replaced by");
            }
            1 => {
                let before = NUMBER.take().unwrap_or(0);
                let expected = std::mem::take(&mut self.number);
                self.check(before == expected, "what is taken of a number");
            }
            2 | 3 => {
                let before = TEXT.replace(token).map_or(0, |token| token.worth);
                let expected = std::mem::replace(&mut self.text, value);
                self.check(before == expected, "what a text is replaced by");
            }
            4 => {
                LIST.with_mut(|list| list.push(value));
                self.list.push(value);
            }
            5 | 6 => {
                TENANT.set(token);
                self.inherited.tenant = value;
            }
            7 => {
                DEPTH.set(value);
                self.inherited.depth = Some(value);
            }
            8 => {
                let n = self.random.below(2) as usize;
                self.game.owned[n].set(value);
                self.owned[n] = value;
            }
            9 => LATE.set(Some(Late(Arc::clone(&self.game)))),
            10 => drop(LATE.take()),
            11 if self.game.carries => {
                AMBIENT.set(value);
                self.inherited.ambient = value;
            }
            12 if self.may_fail && !FAILS.is_set() => {
                FAILS.set(token.map(Fails));
                self.game.failing.lock().unwrap().insert(self.seed);
            }
            _ => {
                let (context, mut inherited) = (Context::capture(), self.handed_down());
                let context = match self.random.below(3) {
                    0 => {
                        inherited.depth = Some(value);
                        context.with(&DEPTH, value)
                    }
                    _ => context,
                };
                self.contexts.push((context, inherited));
            }
        }
    }

    fn handed_down(&self) -> Inherited {
        let depth = self.inherited.depth.map(|depth| depth.wrapping_add(1));
        Inherited { depth, ..self.inherited }
    }

    /// A task that finds what it is given, or else what it inherits from this one now.
    fn start(&self, given: Option<Inherited>) -> Start {
        let inherited = given.unwrap_or_else(|| self.handed_down());
        Start { place: self.place, depth: self.depth + 1, ..Start::new(&self.game, inherited) }
    }

    /// Some context, and what a task finds in it.
    fn any_context(&mut self) -> (Context, Inherited) {
        match self.random.index(self.contexts.len() + 2) {
            Some(0) | None => (Context::empty(), Inherited::default()),
            Some(1) => (Context::capture(), self.handed_down()),
            Some(n) => self.contexts[n - 2].clone(),
        }
    }

    /// Some handle of some pool, and what it gives to tasks, if it does.
    fn any_pool(&mut self) -> (Pool, Option<Inherited>) {
        let pool = self.game.pools[self.random.below(2) as usize].clone();
        match self.random.below(4) {
            0 => (pool.detached(), Some(Inherited::default())),
            1 => {
                let (context, given) = self.any_context();
                (pool.in_context(&context), Some(given))
            }
            _ => (pool, None),
        }
    }

    /// The seeds of some tasks.
    fn seeds(&mut self) -> Vec<u64> {
        (0..self.random.below(4)).map(|_| self.random.any()).collect()
    }

    /// The seeds of some tasks that do not panic.
    fn calm_seeds(&mut self) -> Vec<u64> {
        self.seeds().into_iter().map(|seed| seed | 1).collect()
    }

    fn join(&self, handle: JoinHandle<u64>) {
        let is_cancelled = handle.is_cancelled();
        match handle.join() {
            Err(error) if is_cancelled => self.check(error.is_cancelled(), "it never ran"),
            joined => self.game.joined(None, joined),
        }
    }
}

impl Game {
    fn joined(&self, seed: Option<u64>, joined: Result<u64, TaskError>) {
        let end = match joined {
            Ok(seed) => End::Returned(seed),
            Err(error) if error.is_cleanup() => End::NotCleanedUp,
            Err(error) => match error.try_into_panic() {
                Ok(payload) => End::thrown(payload),
                Err(error) => End::Otherwise(error.to_string()),
            },
        };
        match (seed, end) {
            (Some(seed), end) => self.ended(seed, end),
            (None, End::Returned(seed)) => self.ended(seed, End::Returned(seed)),
            (None, End::Panicked(seed)) => self.ended(seed, End::Panicked(seed)),
            (None, End::NotCleanedUp) => {
                self.check(!self.failing.lock().unwrap().is_empty(), "a clean-up succeeds");
            }
            (None, end) => self.ended(0, end),
        }
    }

    /// The same where panics are not caught.
    fn calls(&self, seed: u64, f: impl FnOnce() -> u64) {
        let called = catch_unwind(AssertUnwindSafe(f));
        self.ended(seed, called.map_or_else(End::thrown, End::Returned));
    }

    /// Checks how the task with this seed ended.
    fn ended(&self, seed: u64, end: End) {
        let expected = if panics(seed) {
            End::Panicked(seed)
        } else if self.failing.lock().unwrap().contains(&seed) {
            End::NotCleanedUp
        } else {
            End::Returned(seed)
        };
        let is_cut_off = match &end {
            End::Otherwise(words) => self.closes && tells_of_a_shutdown(words),
            _ => false,
        };
        if !is_cut_off && end != expected {
            self.note(format!("a task ends with {expected:?}, not with {end:?}"));
        }
    }
}

/// Whether these are the words of an error or a panic because a pool was shut down.
fn tells_of_a_shutdown(words: &str) -> bool {
    words.contains("shut down")
}

/// Returns how many games are played.
fn games() -> u64 {
    std::env::var("CLEANSLATE_GAMES").ok().and_then(|n| n.parse().ok()).unwrap_or(400)
}

#[test]
fn every_task_sees_its_own_values_whatever_else_is_played() {
    play(false, false);
}

#[test]
fn every_task_sees_its_own_foreign_state_as_well() {
    if in_a_process_of_its_own("games::every_task_sees_its_own_foreign_state_as_well") {
        install(Ambient).unwrap();
        play(true, false);
    }
}

#[test]
fn every_task_sees_its_own_values_while_pools_are_shut_down() {
    play(false, true);
}

fn play(carries: bool, closes: bool) {
    for seed in 1..=games() {
        finishes(&format!("game {seed}"), move || {
            let game = Arc::new(Game::new(&mut Random::new(!seed), carries, closes));
            on_a_thread(|| {
                // On a plain thread, which keeps its slots, and in no task.
                let mut root = Start::new(&game, Inherited::default()).begin(seed | 1);
                game.calls(seed | 1, || {
                    while game.left.load(Ordering::Relaxed) > 0 {
                        root.moves(4);
                    }
                    root.end()
                });
                game.left.store(0, Ordering::Relaxed);
                while Arc::strong_count(&game.busy) > 1 {
                    game.pools.iter().for_each(Pool::wait_idle);
                    drop(std::mem::take(&mut *game.futures.lock().unwrap()));
                }
                game.pools.iter().for_each(|pool| pool.shutdown().unwrap());
            });
            assert_eq!(*game.broken.lock().unwrap(), None, "game {seed}");
            assert_eq!(Arc::strong_count(&game.live), 1, "game {seed}: values are left");
            assert_eq!(Arc::strong_count(&game), 1, "game {seed}: tasks are left");
        });
    }
}
