//! A plain thread that waits for places as futures do, and gives some of them up half-way.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use cleanslate::{Permit, ReserveError};
use futures_lite::future::block_on;

use super::game::Game;
use super::{Running, Start, Task};

type Reserved = Result<Permit, ReserveError>;

/// What keeps others waiting: nothing of it is held where this thread blocks.
#[derive(Default)]
struct Held {
    waiting: Vec<Pin<Box<dyn Future<Output = Reserved>>>>,
    permits: Vec<Permit>,
}

/// Plays until no moves are left.
pub(super) fn play(game: &Arc<Game>, seed: u64) {
    let _root = Running::new();
    let mut root = Start::root(game, seed);
    let mut held = Held::default();
    game.calls(root.seed, || {
        while game.take_move() {
            root.survives(|root| root.reserve(&mut held));
        }
        drop(held);
        root.end()
    });
}

impl Task {
    fn reserve(&mut self, held: &mut Held) {
        let pool = self.game.pools[self.random.below(2) as usize].clone();
        let reserve = async move { pool.reserve().await };
        match self.random.below(8) {
            0 | 1 => held.waiting.push(Box::pin(reserve)),
            2 | 3 => {
                if let Some(n) = self.random.index(held.waiting.len()) {
                    let mut cx = Context::from_waker(Waker::noop());
                    if let Poll::Ready(reserved) = held.waiting[n].as_mut().poll(&mut cx) {
                        drop(held.waiting.swap_remove(n));
                        held.permits.extend(self.reserved(reserved));
                    }
                }
            }
            4 => {
                if let Some(n) = self.random.index(held.waiting.len()) {
                    drop(held.waiting.swap_remove(n));
                }
            }
            5 | 6 => {
                if let Some(permit) = held.permits.pop() {
                    let seed = self.random.any();
                    let start = self.start(None).that_may_fail();
                    self.handles.push(permit.submit(move || start.play(seed)));
                }
            }
            _ => {
                *held = Held::default();
                drop(self.reserved(block_on(reserve)));
                self.moves(1);
            }
        }
    }

    fn reserved(&self, reserved: Reserved) -> Option<Permit> {
        match reserved {
            Ok(permit) => Some(permit),
            Err(error) => {
                let is_closed = self.game.closes && error.is_shut_down();
                self.check(is_closed, "there will be a place");
                None
            }
        }
    }
}
