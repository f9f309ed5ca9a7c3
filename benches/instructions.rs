//! How many instructions do the hot paths take? Counted by callgrind, so the same on a busy machine
//! as on an idle one. `scripts/instructions` runs it, and says so if valgrind is missing.
//!
//! Each has a limit, up to three per cent above what it took when the limit was set (with rustc
//! 1.95 or 1.99, whichever took more; x86-64, thin LTO off, each crate in one piece). A limit that
//! is exceeded fails the run: either the change is worth it and the limit is raised with it, or it
//! is not.
//!
//! A function runs its subject a hundred times, after a first time that is not counted: what a
//! thread does at its first touch of a slot is not a hot path.

#![allow(missing_docs, unused_qualifications, reason = "in what the macros make")]

use std::cell::Cell;
use std::future::Future;
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::sync::mpsc;
use std::task::{self, Poll, Waker};

use cleanslate::foreign::adopt;
use cleanslate::future::FutureExt;
use cleanslate::{Context, Pool, isolated_fn, task_local};
use gungraun::prelude::*;
use gungraun::{Callgrind, EventKind};

task_local! {
    static WORD: u64 = 0;
    static TEXT: String = String::new();
    #[inherit]
    static TENANT: u64 = 7;
}

thread_local! { static FOREIGN: Cell<u64> = const { Cell::new(0) }; }

const ROUNDS: u64 = 100;

fn limit(instructions: u64) -> LibraryBenchmarkConfig {
    let mut callgrind = Callgrind::default();
    callgrind.hard_limits([(EventKind::Ir, instructions)]);
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(callgrind);
    config
}

fn context() -> Context {
    let context = Context::empty();
    context.run(|| {
        WORD.set(1);
        TEXT.set("a".to_owned());
    });
    context
}

#[library_benchmark(config = limit(2_850))]
#[bench::it(context())]
fn empty_frame(context: Context) {
    frames(&context);
}

fn frames(context: &Context) {
    for n in 0..ROUNDS {
        black_box(context.run(|| black_box(n)));
    }
}

#[library_benchmark(config = limit(5_500))]
#[bench::it(context())]
fn frame_in_a_frame(context: Context) {
    context.run(|| frames(&context));
}

#[library_benchmark(config = limit(5_440))]
#[bench::it(context())]
fn frame_with_a_u64(context: Context) {
    for n in 0..ROUNDS {
        context.run(|| {
            WORD.set(n);
            black_box(WORD.get())
        });
    }
}

#[library_benchmark(config = limit(30_740))]
#[bench::it(context())]
fn frame_with_an_empty_string(context: Context) {
    for _ in 0..ROUNDS {
        context.run(|| TEXT.with(|text| black_box(text.len())));
    }
}

#[library_benchmark(config = limit(2_780))]
#[bench::it(context())]
fn isolated_closure(_warm: Context) {
    let f = isolated_fn(|n: u64| black_box(n) + 1);
    for n in 0..ROUNDS {
        black_box(f(n));
    }
}

/// A context with `N` carriers.
fn carrying<const N: usize>() -> Context {
    (0..N).fold(context(), |context, _| context.carry(adopt(&FOREIGN)))
}

#[library_benchmark(config = limit(38_210))]
#[bench::it(carrying::<1>())]
fn task_with_a_carrier(context: Context) {
    for n in 0..ROUNDS {
        black_box(context.run(|| black_box(n)));
    }
}

#[library_benchmark(config = limit(91_140))]
#[bench::it(carrying::<8>())]
fn task_with_eight_carriers(context: Context) {
    for n in 0..ROUNDS {
        black_box(context.run(|| black_box(n)));
    }
}

fn tenant() {
    TENANT.set(8);
    drop(Context::capture());
}

#[library_benchmark(config = limit(3_350))]
#[bench::it(tenant())]
fn capture_and_release(_warm: ()) {
    for _ in 0..ROUNDS {
        drop(black_box(Context::capture()));
    }
}

/// Ready at the poll after `left` more.
struct Countdown(u64);

impl Future for Countdown {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<()> {
        black_box(WORD.get());
        if self.0 == 0 {
            return Poll::Ready(());
        }
        self.0 -= 1;
        Poll::Pending
    }
}

#[library_benchmark(config = limit(14_030))]
#[bench::it(context())]
fn poll_with_one_slot(_warm: Context) {
    let mut future = pin!(Countdown(ROUNDS).isolated());
    let mut cx = task::Context::from_waker(Waker::noop());
    while future.as_mut().poll(&mut cx).is_pending() {}
}

/// A pool whose only worker is busy until the sender is dropped.
fn busy() -> (mpsc::Sender<()>, Pool) {
    let pool = Pool::new(1).unwrap();
    let (go, gate) = mpsc::channel::<()>();
    let (begin, begun) = mpsc::channel();
    drop(pool.submit(move || (begin.send(()), gate.recv())));
    begun.recv().unwrap();
    drop(pool.submit(|| ()));
    (go, pool)
}

/// What is submitted. Not in the function that submits it: callgrind counts what has that one's
/// name, as what the worker runs would have.
fn task(n: u64) -> impl FnOnce() -> u64 + Send + 'static {
    move || black_box(n)
}

// What the submitting thread does; nobody has to be woken.
#[library_benchmark(config = limit(48_930))]
#[bench::it(args = (busy()), teardown = drop)]
fn submit((go, pool): (mpsc::Sender<()>, Pool)) -> (mpsc::Sender<()>, Pool) {
    for n in 0..ROUNDS {
        drop(pool.submit(task(n)));
    }
    (go, pool)
}

library_benchmark_group!(
    name = hot_paths,
    benchmarks = [
        empty_frame,
        frame_in_a_frame,
        frame_with_a_u64,
        frame_with_an_empty_string,
        isolated_closure,
        task_with_a_carrier,
        task_with_eight_carriers,
        capture_and_release,
        poll_with_one_slot,
        submit
    ]
);

main!(library_benchmark_groups = hot_paths);
