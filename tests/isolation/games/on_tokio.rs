//! The tasks that a task of a game causes on tokio. They wait for nobody.

use cleanslate::tokio::{JoinSet, spawn, spawn_blocking};
use futures_lite::future::yield_now;
use tokio::task::{JoinError, block_in_place, unconstrained};

use super::end::End;
use super::{Place, Start, Task};

impl Task {
    /// Spawns some, and waits for them or gives them up.
    pub(super) fn cause_on_tokio(&mut self) {
        let Some(runtime) = self.game.tokio.lock().unwrap().as_ref().map(|t| t.handle().clone())
        else {
            return;
        };
        match self.random.below(3) {
            0 => {
                let seed = self.random.any();
                let start = self.start_on_tokio();
                let spawned = async {
                    match self.random.below(2) {
                        0 => spawn(start.future(seed)).await,
                        _ => spawn_blocking(move || start.play(seed)).await,
                    }
                };
                let ended = block_in_place(|| runtime.block_on(spawned));
                let end = ended.map_or_else(|e| End::thrown(e.into_panic()), End::Returned);
                self.game.ended(seed, end);
            }
            // Else tokio's thread would be said to wait for pools.
            _ => block_in_place(|| runtime.block_on(unconstrained(self.join_set()))),
        }
    }

    fn start_on_tokio(&self) -> Start {
        Start { place: Place::Tokio, ..self.start(None).that_may_fail() }
    }

    async fn join_set(&mut self) {
        let mut set = JoinSet::new();
        for seed in self.seeds() {
            let start = self.start_on_tokio();
            let abort = match self.random.below(2) {
                0 => set.spawn(start.future(seed)),
                _ => set.spawn_blocking(move || start.play(seed)),
            };
            if self.random.below(4) == 0 {
                abort.abort();
            }
            self.moves(1);
            yield_now().await;
        }
        let (len, mut joined) = (set.len(), 0);
        match self.random.below(5) {
            0 => set.shutdown().await,
            1 => return drop(set),
            2 => return set.detach_all(),
            3 => set.abort_all(),
            _ => (),
        }
        if set.is_empty() {
            return;
        }
        while let Some(result) = set.join_next().await {
            joined += 1;
            self.joined_on_tokio(result);
            self.moves(1);
        }
        self.check(joined == len, "a set yields all its tasks");
    }

    fn joined_on_tokio(&self, joined: Result<u64, JoinError>) {
        match joined.map_err(JoinError::try_into_panic) {
            Ok(seed) => self.game.ended(seed, End::Returned(seed)),
            Err(Err(aborted)) => self.check(aborted.is_cancelled(), "it was aborted"),
            Err(Ok(payload)) => match End::thrown(payload) {
                End::Panicked(seed) => self.game.ended(seed, End::Panicked(seed)),
                End::NotCleanedUp => self.game.cleanup_failed(),
                end => self.game.ended(0, end),
            },
        }
    }
}
