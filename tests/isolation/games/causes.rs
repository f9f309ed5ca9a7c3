//! The tasks that a task of a game causes, by most public ways.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Poll, Waker};
use std::time::Duration;

use cleanslate::future::FutureExt;
use cleanslate::{JoinHandle, Pool, isolated, isolated_fn};
use futures_lite::future::block_on;

use super::end::End;
use super::{IN_USE, Inherited, LIST, NUMBER, Place, Start, TENANT, Task};

impl Task {
    pub(super) fn cause(&mut self) {
        if self.game.closes && self.random.below(30) == 0 {
            self.shut_down();
        } else if self.place == Place::Tokio || self.random.below(3) == 0 {
            self.cause_here();
        } else if self.place == Place::Rayon || self.random.below(3) == 0 {
            self.cause_elsewhere();
        } else if self.random.below(3) == 0 {
            self.map();
        } else {
            self.submit();
        }
    }

    /// Causes tasks on threads of others.
    fn cause_elsewhere(&mut self) {
        match self.random.below(3) {
            #[cfg(feature = "rayon")]
            0 => self.cause_on_rayon(),
            #[cfg(feature = "tokio")]
            1 => self.cause_on_tokio(),
            #[cfg(feature = "tower")]
            2 => self.cause_request(),
            _ => self.cause_here(),
        }
    }

    /// Shuts a pool down. A task does not wait for that: other tasks may wait for this one.
    fn shut_down(&mut self) {
        let pool = &self.game.pools[self.random.below(2) as usize];
        match self.random.below(if self.depth == 0 { 5 } else { 3 }) {
            0 => pool.shutdown_background(),
            1 => pool.shutdown_background_now(),
            2 => drop(pool.shutdown_timeout(Duration::ZERO)),
            3 => pool.shutdown().unwrap(),
            _ => pool.shutdown_now().unwrap(),
        }
    }

    /// Causes a task on this thread, or a future.
    fn cause_here(&mut self) {
        let seed = self.random.any();
        let (context, given) = self.any_context();
        let start = self.start(Some(given)).that_may_fail();
        match self.random.below(11) {
            0 => self.game.calls(seed, || context.run(|| start.play(seed))),
            1 => self.game.calls(seed, || context.wrap(|| start.play(seed))()),
            2 => {
                let start = self.start(None);
                self.game.calls(seed, || isolated(|| start.play(seed))());
                let another = self.random.any();
                self.game.calls(another, || isolated_fn(|seed| start.play(seed))(another));
            }
            3 => self.game.calls(seed, || block_on(start.future(seed).isolated_in(&context))),
            4 => {
                // Where it is dropped, a clean-up that fails would panic.
                let start = self.start(Some(given));
                let future = Box::pin(start.future(seed).isolated_in(&context));
                self.game.futures.lock().unwrap().push(future);
            }
            5 | 6 if self.place == Place::Anywhere => {
                if let Some(mut future) = self.game.any_future(&mut self.random) {
                    let mut cx = std::task::Context::from_waker(Waker::noop());
                    let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut cx)));
                    match polled.map_err(End::thrown) {
                        Ok(Poll::Pending) => self.game.futures.lock().unwrap().push(future),
                        Ok(Poll::Ready(seed)) => self.game.ended(seed, End::Returned(seed)),
                        Err(End::Panicked(seed)) => self.game.ended(seed, End::Panicked(seed)),
                        Err(End::NotCleanedUp) => self.game.cleanup_failed(),
                        Err(end) => self.game.ended(0, end),
                    }
                }
            }
            7 => drop(self.game.any_future(&mut self.random)),
            8 => {
                let before = (self.number, self.inherited.tenant);
                let token = Some(self.game.token(seed));
                (self.number, self.inherited.tenant) = (seed, seed);
                NUMBER.scope(seed, || {
                    TENANT.scope(token, || {
                        self.moves(3);
                        self.look("a scope keeps its values");
                    });
                });
                (self.number, self.inherited.tenant) = before;
            }
            9 => LIST.with_mut(|list| {
                NUMBER.with(|number| {
                    self.game.calls(seed, || context.run(|| start.play(seed)));
                    let holds = *number == self.number && *list == self.list;
                    self.check(holds, "what is borrowed stays");
                });
            }),
            _ => IN_USE.with(|in_use| {
                self.check(!std::mem::replace(in_use, true), "no two tasks share a worker-local");
                self.game.calls(seed, || context.run(|| start.play(seed)));
                *in_use = false;
            }),
        }
    }

    /// Submits tasks one by one.
    fn submit(&mut self) {
        let seed = self.random.any();
        let (pool, given) = self.any_pool();
        let start = self.start(given).that_may_fail();
        match self.random.below(13) {
            0 | 1 => self.game.joined(Some(seed), pool.submit(move || start.play(seed)).join()),
            2 | 3 => self.handles.push(pool.submit(move || start.play(seed))),
            4 => {
                let handle = self.random.index(self.handles.len());
                let handle = handle.map(|n| self.handles.swap_remove(n));
                self.handles.push(pool.submit(move || start.play_with(seed, handle)));
            }
            5 => drop(pool.submit(move || start.play(seed))),
            6 => match pool.try_reserve() {
                Ok(permit) => self.handles.push(permit.submit(move || start.play(seed))),
                Err(error) => {
                    let is_closed = self.game.closes && error.is_shut_down();
                    self.check(error.is_full() || is_closed, "there is a place");
                }
            },
            7 => {
                if let Some(n) = self.random.index(self.handles.len()) {
                    self.handles[n].cancel();
                }
            }
            8 => {
                if let Some(n) = self.random.index(self.handles.len()) {
                    let mut handle = self.handles.swap_remove(n);
                    let is_cancelled = handle.is_cancelled();
                    match handle.join_timeout(Duration::from_micros(seed % 64)) {
                        None => self.join(handle),
                        Some(joined) if !is_cancelled => self.game.joined(None, joined),
                        Some(_) => (),
                    }
                }
            }
            9 if !self.handles.is_empty() => {
                let first = JoinHandle::wait_any(&self.handles);
                let handle = self.handles.swap_remove(first);
                self.check(handle.is_finished(), "the first is done");
                self.join(handle);
            }
            10 => drop(pool.submit(move || start.play(seed)).cancel_on_drop()),
            11 => {
                // Nobody waits for it: it would share the slots of whoever does.
                let start = Start { is_leaky: true, may_fail: false, ..start };
                drop(self.game.pools[2].submit(move || start.play(seed)));
            }
            _ => pool.scope(|s| {
                let mut handles = Vec::new();
                for seed in self.seeds() {
                    let start = self.start(given);
                    handles.push((seed, s.submit(move || start.play(seed))));
                    self.moves(1);
                }
                for (seed, handle) in handles {
                    self.game.joined(Some(seed), handle.join());
                }
            }),
        }
    }

    /// Submits several tasks at once.
    fn map(&mut self) {
        let seeds = self.calm_seeds();
        let (pool, given) = self.any_pool();
        let mut start = self.start(given);
        start.is_item = true;
        let play = |seed: u64| start.play(seed);
        let found = match self.random.below(13) {
            0 => pool.map(seeds.clone(), play),
            1 => pool.map_slice(&seeds, |&seed| play(seed)),
            2 => pool.map_range(0..seeds.len(), |n| play(seeds[n])),
            3 => pool.try_map(seeds.iter().copied(), |seed| Ok::<_, ()>(play(seed))).unwrap(),
            4 => pool.map_init(&seeds, || start.play_another(), |_, &seed| play(seed)),
            5 => pool.map_reduce(
                &seeds,
                |&seed| vec![play(seed)],
                || {
                    start.play_another();
                    Vec::new()
                },
                |a, b| [a, b].concat(),
            ),
            6 => {
                let mut found = seeds.clone();
                pool.for_each(&mut found, |seed| *seed = play(*seed));
                found
            }
            7 => {
                // After one of them that fails, another worker goes on.
                let start = Start { may_fail: true, is_item: false, ..start };
                for (&seed, found) in
                    seeds.iter().zip(pool.map_results(&seeds, |&s| start.play(s - 1)))
                {
                    self.game.joined(Some(seed - 1), found);
                }
                return;
            }
            8 => {
                let [a, b] = [self.random.any() | 1, self.random.any() | 1];
                let found = pool.join(|| play(a), || play(b));
                return self.check(found == (a, b), "a join returns both results");
            }
            9 if !self.game.fails => {
                let failed = self.random.any() & !7;
                let seeds = seeds.into_iter().chain([failed]);
                return self.game.calls(failed, || pool.map(seeds, play).iter().sum());
            }
            10 if self.place == Place::Anywhere => {
                start.place = Place::Visit;
                pool.broadcast(|| start.play_another());
                return;
            }
            11 => return self.imap(&pool, given, seeds),
            12 => {
                // So little each that a worker takes several at a time.
                let are_fresh = pool.map_range(0..100, |n| start.glance(n as u64));
                return self.check(!are_fresh.contains(&false), "items are fresh");
            }
            _ => return,
        };
        self.check(found == seeds, "a map returns all results in order");
    }

    /// Submits tasks one after the other, while this one goes on.
    fn imap(&mut self, pool: &Pool, given: Option<Inherited>, mut seeds: Vec<u64>) {
        let start = self.start(given);
        let play = move |seed| start.play(seed);
        let most = self.random.below(5) as usize;
        let mut found = Vec::new();
        let mut go_on = |found: Option<u64>, all: &mut Vec<u64>| {
            all.extend(found);
            self.moves(1);
            found.is_some()
        };
        if most % 2 == 0 {
            let mut results = pool.imap(seeds.clone(), play).buffer(1 + most);
            while found.len() < most && go_on(results.next(), &mut found) {}
            seeds.truncate(most);
        } else {
            let mut results = pool.imap_unordered(seeds.clone(), play);
            while go_on(results.next(), &mut found) {}
            seeds.sort_unstable();
            found.sort_unstable();
        }
        self.check(found == seeds, "an imap yields all results");
    }
}
