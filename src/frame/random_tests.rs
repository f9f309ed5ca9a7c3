//! Frames of both kinds, opened, turned and ended at random, also by the drops of their values.
//!
//! What is checked: a pinned frame keeps its place and its values whatever goes on above it, every value is
//! dropped once, and in the end nothing is left. AddressSanitizer (`scripts/sanitize`) sees the rest.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering};

use super::loose::Loose;
use super::thread::{self, Thread};
use super::{Frame, contained};
use crate::Context;
use crate::future::FutureExt;

crate::task_local! {
    static PLAIN: u64 = 0;
    static TEXT: String = String::new();
    static ENDING: Option<Plays> = None;
    static LATER: Option<Plays> = None;
    #[inherit]
    static HEIR: Option<Arc<Counts>> = None;
}

/// Values that there are.
static ALIVE: AtomicIsize = AtomicIsize::new(0);

struct Counts;

impl Counts {
    fn new() -> Self {
        ALIVE.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Counts {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Does not call the hook, which would print it.
fn panic_quietly() -> ! {
    std::panic::resume_unwind(Box::new("on purpose"))
}

/// Plays on when it is dropped.
struct Plays {
    _counts: Counts,
    /// How many drops led to this one. A clean-up leaks what goes on for too long.
    links: u32,
}

impl Plays {
    fn new() -> Self {
        Self { _counts: Counts::new(), links: LINKS.get() + 1 }
    }
}

impl Drop for Plays {
    fn drop(&mut self) {
        let outer = LINKS.replace(self.links);
        moves(3);
        LINKS.set(outer);
        if random(8) == 0 && !std::thread::panicking() {
            panic_quietly();
        }
    }
}

thread_local! {
    static RANDOM: Cell<u64> = const { Cell::new(1) };
    /// How many moves are left.
    static LEFT: Cell<u32> = const { Cell::new(0) };
    /// How many drops led to the moves that are made.
    static LINKS: Cell<u32> = const { Cell::new(0) };
    /// Loose frames, which anybody may turn and end.
    static LOOSE: RefCell<Vec<Rc<Loose>>> = const { RefCell::new(Vec::new()) };
    static CONTEXTS: RefCell<Vec<Context>> = const { RefCell::new(Vec::new()) };
}

/// Marsaglia's xorshift.
fn random(below: u64) -> u64 {
    let mut x = RANDOM.get();
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    RANDOM.set(x);
    (x >> 16) % below
}

fn any_loose() -> Option<Rc<Loose>> {
    LOOSE.with_borrow(|all| {
        (!all.is_empty()).then(|| Rc::clone(&all[random(all.len() as u64) as usize]))
    })
}

fn any_context() -> Context {
    CONTEXTS.with_borrow(|all| match all.len() {
        0 => Context::empty(),
        n => all[random(n as u64) as usize].clone(),
    })
}

fn depth() -> usize {
    thread::with(Thread::depth)
}

/// A pinned frame with some moves in it.
fn pinned() {
    let below = depth();
    let context = any_context();
    let mut frame = Frame::enter(&context);
    let floor = depth();
    for _ in 0..1 + random(2) {
        let mine = random(u64::MAX);
        assert_eq!(PLAIN.replace(mine), 0, "a task is fresh");
        moves(4);
        assert!(depth() >= floor, "a pinned frame was closed from above");
        if depth() == floor {
            assert_eq!(PLAIN.get(), mine, "a pinned frame's value");
        }
        drop(frame.next_task());
    }
    drop(frame.end());
    // Those below that were only marked may end with it.
    assert!(depth() <= below);
}

fn moves(n: u32) {
    for _ in 0..n {
        if LEFT.get() == 0 {
            return;
        }
        LEFT.set(LEFT.get() - 1);
        one_move();
    }
}

fn one_move() {
    match random(15) {
        0 | 1 => pinned(),
        2 => {
            let loose = Rc::new(Loose::new());
            LOOSE.with_borrow_mut(|all| all.push(Rc::clone(&loose)));
            drop(loose.next_task(&any_context()));
        }
        3 => {
            if let Some(loose) = any_loose() {
                drop(loose.next_task(&any_context()));
            }
        }
        4 => {
            if let Some(loose) = any_loose() {
                drop(loose.end_task());
            }
        }
        5 => {
            // Ends with its last owner, which may be somebody in the middle of a call of it.
            let gone = LOOSE.with_borrow_mut(|all| {
                (!all.is_empty()).then(|| all.swap_remove(random(all.len() as u64) as usize))
            });
            drop(gone);
        }
        6 if LINKS.get() < 4 => ENDING.set(Some(Plays::new())),
        7 if LINKS.get() < 4 => LATER.set(Some(Plays::new())),
        6..=8 => TEXT.set("some text".to_owned()),
        9 => HEIR.set(Some(Arc::new(Counts::new()))),
        10 => {
            let context = Context::capture();
            CONTEXTS.with_borrow_mut(|all| all.push(context));
        }
        11 => {
            let gone = CONTEXTS.with_borrow_mut(Vec::pop);
            drop(gone);
        }
        12 => {
            let failed = contained(|| {
                moves(3);
                panic_quietly();
            });
            assert!(failed.is_err());
        }
        13 => {
            let before = PLAIN.get();
            PLAIN.scope(before ^ 1, || moves(3));
        }
        _ => poll_a_future(),
    }
}

/// Polls a future that keeps a value, and ends it in the middle.
fn poll_a_future() {
    let mut future = Box::pin(
        async {
            loop {
                let kept = TEXT.get();
                moves(2);
                TEXT.with_mut(|text| text.push('x'));
                std::future::poll_fn(|_| std::task::Poll::<()>::Ready(())).await;
                if kept.len() > 1 {
                    std::future::pending::<()>().await;
                }
            }
        }
        .isolated_in(&any_context()),
    );
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    for _ in 0..2 {
        assert!(future.as_mut().poll(&mut cx).is_pending());
        moves(1);
    }
}

/// How many games are played. `scripts/soak` plays more.
fn seeds() -> u64 {
    std::env::var("CLEANSLATE_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000)
}

#[test]
fn frames_hold_whatever_is_done_to_them() {
    for seed in 1..seeds() {
        RANDOM.set(u64::wrapping_mul(seed, 0x9E37_79B9_7F4A_7C15));
        LEFT.set(60);
        LINKS.set(0);
        drop(contained(|| (0..4).for_each(|_| pinned())));
        LEFT.set(0);
        drop(contained(|| drop((LOOSE.take(), CONTEXTS.take()))));
        assert_eq!(depth(), 0, "seed {seed}");
        assert_eq!(ALIVE.load(Ordering::Relaxed), 0, "seed {seed}");
    }
}
