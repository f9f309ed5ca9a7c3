//! Tasks, scopes, polls, captures and panics at random, on top of each other and in the drops of
//! values.
//!
//! What is checked: a task is fresh and keeps its values whatever goes on above it, every value is
//! dropped once, and in the end nothing is left. AddressSanitizer (`scripts/sanitize`) sees the
//! rest.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::task::{Poll, Waker};

use super::{Frame, contained, thread};
use crate::future::FutureExt;
use crate::panic::catch;
use crate::{Context, OwnedLocal};

crate::task_local! {
    static PLAIN: u64 = 0;
    static TEXT: String = String::new();
    static ENDING: Option<Plays> = None;
    static LATER: Option<Plays> = None;
    #[inherit]
    static INHERITED: Option<Arc<Counts>> = None;
}

crate::worker_local! { static LEASED: Counts = Counts::new(); }

/// How many values there are.
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

/// Does not call the hook, which would print the panic.
fn panic_quietly() -> ! {
    std::panic::resume_unwind(Box::new("on purpose"))
}

/// Goes on playing when it is dropped.
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

type Future = Pin<Box<dyn std::future::Future<Output = ()>>>;
type Owner = Arc<OwnedLocal<Option<Plays>>>;

thread_local! {
    static RANDOM: Cell<u64> = const { Cell::new(1) };
    /// How many moves are left.
    static LEFT: Cell<u32> = const { Cell::new(0) };
    /// How many drops led to the moves that are made.
    static LINKS: Cell<u32> = const { Cell::new(0) };
    /// Suspended tasks, which anybody may poll or drop.
    static FUTURES: RefCell<Vec<Future>> = const { RefCell::new(Vec::new()) };
    static OWNERS: RefCell<Vec<Owner>> = const { RefCell::new(Vec::new()) };
    static CONTEXTS: RefCell<Vec<Context>> = const { RefCell::new(Vec::new()) };
    /// What did not hold, first.
    static BROKEN: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Notes what does not hold. A panic would not do: games contain those.
fn check(holds: bool, what: &'static str) {
    if !holds && BROKEN.get().is_none() {
        BROKEN.set(Some(what));
    }
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

/// Takes one out of a list, if there is one.
fn any<T>(list: &RefCell<Vec<T>>) -> Option<T> {
    let len = list.borrow().len();
    (len > 0).then(|| list.borrow_mut().swap_remove(random(len as u64) as usize))
}

fn any_context() -> Context {
    CONTEXTS.with_borrow(|all| match all.len() {
        0 => Context::empty(),
        n => all[random(n as u64) as usize].clone(),
    })
}

fn any_owner() -> Option<Owner> {
    OWNERS.with_borrow(|all| {
        (!all.is_empty()).then(|| Arc::clone(&all[random(all.len() as u64) as usize]))
    })
}

/// A frame with some tasks in it.
fn tasks() {
    let context = any_context();
    let mut frame = Frame::enter(context.inherits());
    for _ in 0..1 + random(2) {
        check(frame.is_clean() && !TEXT.is_set() && !ENDING.is_set(), "a task is fresh");
        let mine = random(u64::MAX);
        check(PLAIN.replace(mine) == 0, "a task is fresh");
        moves(4);
        check(PLAIN.get() == mine, "a task keeps its value");
        drop(frame.next_task());
    }
    drop(frame.end());
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
    match random(20) {
        0..=2 => tasks(),
        3 => {
            let failed = contained(|| {
                moves(3);
                panic_quietly();
            });
            check(failed.is_err(), "a panic is caught");
        }
        4 => {
            let before = PLAIN.get();
            PLAIN.scope(before ^ 1, || {
                moves(3);
                check(PLAIN.get() == before ^ 1, "a scope keeps its value");
            });
            check(PLAIN.get() == before, "a scope puts back what was there");
        }
        5 if LINKS.get() < 4 => {
            // A panic there, or while it is dropped, is its own affair.
            let scope = || LATER.scope(Some(Plays::new()), || moves(2));
            drop(catch(scope));
        }
        6 if LINKS.get() < 4 => drop(catch(|| ENDING.set(Some(Plays::new())))),
        7 if LINKS.get() < 4 => drop(catch(|| LATER.set(Some(Plays::new())))),
        8 => TEXT.set("some text".to_owned()),
        9 => INHERITED.set(Some(Arc::new(Counts::new()))),
        10 => {
            let context = Context::capture();
            CONTEXTS.with_borrow_mut(|all| all.push(context));
        }
        11 => drop(CONTEXTS.with(any)),
        12 => {
            OWNERS.with_borrow_mut(|all| all.push(Arc::new(OwnedLocal::new(|| None))));
        }
        13 if LINKS.get() < 4 => {
            if let Some(owner) = any_owner() {
                drop(catch(move || owner.set(Some(Plays::new()))));
            }
        }
        14 => {
            let owner = OWNERS.with(any);
            drop(catch(move || drop(owner)));
        }
        15 => LEASED.with(|_| ()),
        16 => FUTURES.with_borrow_mut(|all| all.push(future())),
        17 | 18 => {
            if let Some(mut future) = FUTURES.with(any) {
                let mut cx = std::task::Context::from_waker(Waker::noop());
                let polled = catch(|| future.as_mut().poll(&mut cx).is_pending());
                if polled.is_ok_and(|is_pending| is_pending) {
                    FUTURES.with_borrow_mut(|all| all.push(future));
                }
            }
        }
        _ => {
            let future = FUTURES.with(any);
            drop(catch(|| drop(future)));
        }
    }
}

/// A task that keeps some values from poll to poll, and ends by itself, by a panic, or not at all.
fn future() -> Future {
    let _counts = Counts::new();
    let owner = any_owner();
    let polls = 1 + random(4);
    let task = async move {
        let _counts = _counts;
        check(!TEXT.is_set() && PLAIN.get() == 0, "a future is fresh");
        for n in 1..=polls {
            PLAIN.set(n);
            if let Some(owner) = &owner {
                drop(catch(|| owner.with(|_| ())));
            }
            moves(2);
            std::future::poll_fn({
                let mut is_woken = false;
                move |_| match std::mem::replace(&mut is_woken, true) {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                }
            })
            .await;
            check(PLAIN.get() == n, "a suspended task keeps its value");
        }
        if polls == 4 {
            panic_quietly();
        }
    };
    Box::pin(task.isolated_in(&any_context()))
}

/// Returns how many games are played. `scripts/soak` plays more.
fn seeds() -> u64 {
    std::env::var("CLEANSLATE_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000)
}

#[test]
fn tasks_hold_whatever_is_done_on_top_of_them() {
    std::thread::spawn(|| {
        for seed in 1..seeds() {
            RANDOM.set(u64::wrapping_mul(seed, 0x9E37_79B9_7F4A_7C15));
            LEFT.set(60);
            LINKS.set(0);
            drop(contained(|| (0..4).for_each(|_| tasks())));
            LEFT.set(0);
            while let Some(future) = FUTURES.with(any) {
                drop(contained(|| drop(future)));
            }
            while let Some(owner) = OWNERS.with(any) {
                drop(contained(|| drop(owner)));
            }
            drop(contained(|| drop(CONTEXTS.take())));
            crate::slot::end_worker(&mut |_, _| ());
            assert_eq!(BROKEN.get(), None, "seed {seed}");
            assert!(thread::current().has_nothing(), "seed {seed}");
            assert_eq!(ALIVE.load(Ordering::Relaxed), 0, "seed {seed}");
        }
    })
    .join()
    .unwrap();
}
