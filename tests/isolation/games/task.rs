//! What a task of a game does, and what it finds.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use crate::support::message;
use cleanslate::{Context, JoinHandle, Pool};

use super::carrier::{AMBIENT, NO_ATTACH, NO_CAPTURE, NO_DETACH, PANICS};
use super::end::{OnPurpose, panics};
use super::game::{Fails, Late, worth};
use super::{DEPTH, FAILS, Inherited, LATE, LIST, NUMBER, Start, TENANT, TEXT, Task};

impl Task {
    /// Compares some slots with what they ought to show.
    pub(super) fn look(&mut self, what: &'static str) {
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

    /// Takes over what a task of a leaky pool finds.
    pub(super) fn adopt(&mut self) {
        (self.number, self.text, self.list) = (NUMBER.get(), worth(&TEXT), LIST.with(Vec::clone));
        self.owned = [0, 1].map(|n| self.game.owned[n].get());
        let (tenant, depth, ambient) = (worth(&TENANT), Some(DEPTH.get()), AMBIENT.get());
        self.inherited = Inherited { tenant, depth, ambient };
    }

    pub(super) fn check(&self, holds: bool, what: &'static str) {
        self.game.check(holds, what);
    }

    pub(super) fn join_all(&mut self) {
        for handle in std::mem::take(&mut self.handles) {
            self.join(handle);
        }
    }

    pub(super) fn end(mut self) -> u64 {
        self.join_all();
        self.look("a task keeps its values to its end");
        if panics(self.seed) {
            resume_unwind(Box::new(OnPurpose(self.seed)));
        }
        self.seed
    }

    pub(super) fn moves(&mut self, most: u64) {
        for _ in 0..self.random.below(most + 1) {
            if !self.game.take_move() {
                return;
            }
            self.survives(|task| {
                if task.depth < 4 && task.random.below(2) == 0 {
                    task.cause();
                    task.look("a task keeps its values whatever it causes");
                } else {
                    task.write();
                }
            });
        }
    }

    /// Calls `f`, which may panic because of a carrier that fails.
    pub(super) fn survives(&mut self, f: impl FnOnce(&mut Self)) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| f(self))) {
            if !self.game.is_by_a_carrier(&message(&*payload)) {
                resume_unwind(payload);
            }
            self.look("a task keeps its values where carriers fail");
        }
    }

    fn write(&mut self) {
        let value = 1 + self.random.any();
        let token = Some(self.game.token(value).of(&self.kept));
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
            11 if self.game.carries && self.inherited.ambient & NO_DETACH == 0 => {
                let mut value = value;
                if self.game.fails {
                    value |= match self.random.below(8) {
                        0 => NO_CAPTURE,
                        1 => NO_ATTACH,
                        2 if self.may_break => NO_DETACH,
                        _ => 0,
                    };
                    value |= if self.random.below(2) == 0 { PANICS } else { 0 };
                }
                if value & NO_DETACH != 0 {
                    self.game.failing.lock().unwrap().insert(self.seed);
                }
                AMBIENT.set(value);
                self.inherited.ambient = value;
            }
            12 if self.may_fail && !FAILS.is_set() => {
                FAILS.set(Some(Fails(token)));
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

    pub(super) fn handed_down(&self) -> Inherited {
        let depth = self.inherited.depth.map(|depth| depth.wrapping_add(1));
        Inherited { depth, ambient: self.inherited.ambient & !NO_DETACH, ..self.inherited }
    }

    /// A task that finds what it is given, or else what it inherits from this one now.
    pub(super) fn start(&self, given: Option<Inherited>) -> Start {
        let inherited = given.unwrap_or_else(|| self.handed_down());
        Start { place: self.place, depth: self.depth + 1, ..Start::new(&self.game, inherited) }
    }

    /// Some context, and what a task finds in it.
    pub(super) fn any_context(&mut self) -> (Context, Inherited) {
        match self.random.index(self.contexts.len() + 2) {
            Some(0) | None => (Context::empty(), Inherited::default()),
            Some(1) => (Context::capture(), self.handed_down()),
            Some(n) => self.contexts[n - 2].clone(),
        }
    }

    /// Some handle of some pool, and what it gives to tasks, if it does.
    pub(super) fn any_pool(&mut self) -> (Pool, Option<Inherited>) {
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
    pub(super) fn seeds(&mut self) -> Vec<u64> {
        (0..self.random.below(4)).map(|_| self.random.any()).collect()
    }

    /// The seeds of some tasks that do not panic.
    pub(super) fn calm_seeds(&mut self) -> Vec<u64> {
        self.seeds().into_iter().map(|seed| seed | 1).collect()
    }

    pub(super) fn join(&self, handle: JoinHandle<u64>) {
        let is_cancelled = handle.is_cancelled();
        match handle.join() {
            Err(error) if is_cancelled => self.check(error.is_cancelled(), "it never ran"),
            joined => self.game.joined(None, joined),
        }
    }
}
