//! The figures of `docs/performance.md`, as Markdown: each row's sides take turns in one process,
//! and what is printed is the median of their ratios. `scripts/performance` runs it and writes the
//! page.
//!
//! A row states its budget, so that a miss can be seen.

mod countdown;
mod floods;
mod polls;
#[cfg(unix)]
mod sparse;
mod turns;
mod work;

use std::cell::Cell;
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cleanslate::{Context, Isolation, Pool, task_local};
use rayon::prelude::*;

use self::turns::{Way, median, patience, turns};
use self::work::{step, work};

task_local! {
    static WORD: u64 = 0;
    #[inherit]
    static TENANT: u64 = 7;
}
thread_local! { static PLAIN: Cell<u64> = const { Cell::new(0) }; }

/// With its unit.
fn time(nanos: f64) -> String {
    match nanos {
        n if n < 1e3 => format!("{n:.1} ns"),
        n if n < 1e6 => format!("{:.1} µs", n / 1e3),
        n => format!("{:.1} ms", n / 1e6),
    }
}

/// Calls a closure with nothing around it.
fn call<R>(f: impl FnOnce() -> R) -> R {
    f()
}

/// Prints a row: the first side, the others, and the ratio to the best of them.
fn row(what: &str, budget: &str, units: usize, ways: &[Way<'_>]) {
    let _ratios = row_for(patience(), what, budget, units, ways);
}

/// Does the same for a given time. Returns the ratios, in order.
fn row_for(
    patience: Duration,
    what: &str,
    budget: &str,
    units: usize,
    ways: &[Way<'_>],
) -> Vec<f64> {
    let (nanos, ratios) = turns(ways, units, patience);
    let tenth = ratios.len() / 10;
    // The budget is a difference.
    let more = if budget.starts_with('+') {
        let best = nanos[1..].iter().copied().fold(f64::INFINITY, f64::min);
        format!(", + {}", time(nanos[0] - best))
    } else {
        String::new()
    };
    let others: Vec<_> = ways[1..]
        .iter()
        .zip(&nanos[1..])
        .map(|(way, nanos)| format!("{} {}", way.0, time(*nanos)))
        .collect();
    println!(
        "| {what} | {} | {} | {:.2} ({:.2}–{:.2}){more} | {budget} |",
        time(nanos[0]),
        others.join(", "),
        ratios[ratios.len() / 2],
        ratios[tenth],
        ratios[ratios.len() - 1 - tenth],
    );
    ratios
}

/// Returns the bounds between which the median of ever more ratios would lie, in 95 of 100 cases.
/// They are at the ranks that the sign test gives: the number of ratios above the median is like
/// that of heads in as many tosses of a coin (Conover, Practical Nonparametric Statistics, 3rd
/// edition, 1999, section 3.2).
fn interval(ratios: &[f64]) -> [f64; 2] {
    let n = ratios.len() as f64;
    // Ranks count from 1.
    let ranks = [n / 2.0 - 0.98 * n.sqrt() - 1.0, n / 2.0 + 0.98 * n.sqrt()];
    ranks.map(|rank| ratios[(rank as usize).min(ratios.len() - 1)])
}

fn heading(title: &str) {
    println!("\n## {title}\n\n| | cleanslate | beside it | ratio (deciles) | budget |");
    println!("|---|---|---|---|---|");
}

/// Makes an array of functions that differ in the number after their arguments: a constant, or the
/// optimiser would find that they are all the same, and keep one.
macro_rules! copies {
    (|$($argument:ident),+; $n:ident| $body:block) => {
        copies!([0 1 2 3 4 5 6 7] ($($argument),+) $n $body)
    };
    ([$($number:literal)+] $arguments:tt $n:ident $body:block) => {
        [$(copies!($number $arguments $n $body)),+]
    };
    ($number:literal ($($argument:ident),+) $n:ident $body:block) => {
        |$($argument),+| {
            const $n: u64 = $number;
            $body
        }
    };
}

fn resets() {
    heading("The reset");
    let reset = Pool::new(1).unwrap();
    let leaky = Pool::builder().workers(1).isolation(Isolation::Leaky).build().unwrap();
    let items: Vec<u64> = (0..1_000_000).collect();
    let maps = |maps: &[fn(&Pool, &[u64])], pool| maps.iter().for_each(|map| map(pool, &items));
    let clean: [(&str, [Way<'_>; 2]); 2] = [
        (
            "a task that touches nothing, 1 ns of work",
            [("", Box::new(|| maps(&SEEN, &reset))), ("`Leaky`", Box::new(|| maps(&SEEN, &leaky)))],
        ),
        (
            "the same, in a call that the optimiser cannot see through",
            [
                ("", Box::new(|| maps(&UNSEEN, &reset))),
                ("`Leaky`", Box::new(|| maps(&UNSEEN, &leaky))),
            ],
        ),
    ];
    let intervals = clean.map(|(what, ways)| {
        interval(&row_for(5 * patience(), what, "1.02", COPIES * items.len(), &ways))
    });
    row(
        "set, get and reset of a `u64`",
        "+ 2 ns",
        COPIES * items.len(),
        &[
            ("", Box::new(|| maps(&TOUCHES, &reset))),
            ("plain `thread_local!`, no reset", Box::new(|| maps(&PLAIN_TOUCHES, &leaky))),
        ],
    );
    let empty = Context::empty();
    row(
        "an empty frame, `Context::run`",
        "+ 2 ns",
        COPIES * ROUNDS as usize,
        &[
            ("", Box::new(|| FRAMES.iter().for_each(|run| run(&empty)))),
            ("a call", Box::new(|| CALLS.iter().for_each(|run| run(&empty)))),
        ],
    );
    // On a thread of its own: one that has captured something itself opens frames as if they lay
    // on another one.
    std::thread::scope(|scope| {
        scope.spawn(captures);
    });
    let intervals = intervals.map(|[low, high]| format!("{low:.3} and {high:.3}"));
    println!(
        "\nIn 95 of 100 cases the median of ever more turns of this run would come to lie between\n\
         {} in the first row, between {} in the second.",
        intervals[0], intervals[1],
    );
}

fn captures() {
    TENANT.set(8);
    drop(Context::capture());
    row(
        "a capture with its release, unchanged",
        "20 ns",
        1,
        &[
            ("", Box::new(|| drop(black_box(Context::capture())))),
            ("a call", Box::new(|| _ = black_box(call(|| black_box(1))))),
        ],
    );
}

/// How many maps (or polls) there are on either side, each compiled separately: where a loop lies
/// in memory makes more of a difference than the reset, and these lie in different places.
pub(crate) const COPIES: usize = 8;
/// How many frames a copy of their loop opens and closes.
const ROUNDS: u64 = 100;
const FRAMES: [fn(&Context); COPIES] = copies!(|context; N| {
    (0..ROUNDS).for_each(|round| _ = black_box(context.run(|| black_box(round + N))));
});
const CALLS: [fn(&Context); COPIES] = copies!(|_context; N| {
    (0..ROUNDS).for_each(|round| _ = black_box(call(|| black_box(round + N))));
});
const SLICES: [fn(&Pool, &[u64], u64); COPIES] = copies!(|pool, items, nanos; N| {
    drop(black_box(pool.map_slice(items, |item| item + work(nanos) + N)));
});
/// Of nothing but registers: see [`work`].
const SEEN: [fn(&Pool, &[u64]); COPIES] = copies!(|pool, items; N| {
    drop(black_box(pool.map_slice(items, |item| three_steps(*item + N))));
});
const UNSEEN: [fn(&Pool, &[u64]); COPIES] = copies!(|pool, items; N| {
    let work = black_box(three_steps as fn(u64) -> u64);
    drop(black_box(pool.map_slice(items, |item| work(*item + N))));
});
/// In calls that the optimiser cannot see through: of a loop of plain sets it would keep the last.
const TOUCHES: [fn(&Pool, &[u64]); COPIES] = copies!(|pool, items; N| {
    let touch = black_box(touch as fn(u64) -> u64);
    drop(black_box(pool.map_slice(items, |item| touch(*item + N))));
});
const PLAIN_TOUCHES: [fn(&Pool, &[u64]); COPIES] = copies!(|pool, items; N| {
    let touch = black_box(touch_plain as fn(u64) -> u64);
    drop(black_box(pool.map_slice(items, |item| touch(*item + N))));
});
const ITERATORS: [fn(&Pool, &[u64], u64); COPIES] = copies!(|pool, items, nanos; N| {
    drop(black_box(pool.map(items, |item| item + work(nanos) + N)));
});
const OF_RAYON: [fn(&rayon::ThreadPool, &[u64], u64); COPIES] = copies!(|pool, items, nanos; N| {
    let map = || items.par_iter().map(|item| item + work(nanos) + N).collect::<Vec<_>>();
    drop(black_box(pool.install(map)));
});

fn touch(n: u64) -> u64 {
    WORD.set(n);
    WORD.get()
}

fn touch_plain(n: u64) -> u64 {
    PLAIN.set(n);
    PLAIN.get()
}

/// Work that takes a nanosecond where there is much of it.
fn three_steps(x: u64) -> u64 {
    (0..3).fold(x, |x, _| step(x))
}

fn maps() {
    heading("Maps, two workers, beside rayon's `install(par_iter().map().collect())`");
    let pool = Pool::new(2).unwrap();
    let rayon = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    for (len, nanos) in [
        (10, 1),
        (10, 100),
        (1_000, 1),
        (1_000, 100),
        (100_000, 1),
        (100_000, 100),
        (1_000_000, 1),
        (1, 10_000),
        (100, 10_000),
    ] {
        let items: Vec<u64> = (0..len).collect();
        let theirs = || OF_RAYON.iter().for_each(|map| map(&rayon, &items, nanos));
        row(
            &format!("`map_slice`, {len} x {nanos} ns"),
            "1.0",
            COPIES,
            &[
                ("", Box::new(|| SLICES.iter().for_each(|map| map(&pool, &items, nanos)))),
                ("rayon", Box::new(theirs)),
            ],
        );
        if matches!(nanos, 1 | 100) && len >= 100_000 {
            row(
                &format!("`map` of an iterator, {len} x {nanos} ns"),
                if nanos == 1 { "1.5" } else { "1.0" },
                COPIES,
                &[
                    ("", Box::new(|| ITERATORS.iter().for_each(|map| map(&pool, &items, nanos)))),
                    ("rayon", Box::new(theirs)),
                ],
            );
        }
    }
    for workers in [16, 64] {
        let pool = Pool::new(workers).unwrap();
        let rayon = rayon::ThreadPoolBuilder::new().num_threads(workers).build().unwrap();
        let items: Vec<u64> = (0..200_000).collect();
        row(
            &format!("`map_slice`, 200,000 x 100 ns, {workers} workers"),
            "1.0",
            1,
            &[
                ("", Box::new(|| drop(black_box(pool.map_slice(&items, |n| n + work(100)))))),
                (
                    "rayon",
                    Box::new(|| {
                        let map = || items.par_iter().map(|n| n + work(100)).collect::<Vec<_>>();
                        drop(black_box(rayon.install(map)));
                    }),
                ),
            ],
        );
    }
    // On a thread of its own, which stays a rayon worker from then on.
    std::thread::scope(|scope| {
        scope.spawn(maps_with_help);
    });
}

/// The calling thread works, too.
fn maps_with_help() {
    let helping = Pool::builder().workers(2).caller_helps(true).build().unwrap();
    let rayon = rayon::ThreadPoolBuilder::new().num_threads(2).use_current_thread();
    let rayon = rayon.build().unwrap();
    let items: Vec<u64> = (0..10).collect();
    let theirs = |least: usize| {
        let map = || items.par_iter().with_min_len(least).map(|n| n + work(1)).collect::<Vec<_>>();
        drop(black_box(rayon.install(map)));
    };
    row(
        "`map_slice` of 10 x 1 ns, `caller_helps`",
        "0.3 µs",
        1,
        &[
            ("", Box::new(|| drop(black_box(helping.map_slice(&items, |n| n + work(1)))))),
            ("rayon, `use_current_thread`", Box::new(|| theirs(1))),
            ("the same, in one piece (`with_min_len`)", Box::new(|| theirs(10))),
        ],
    );
}

/// Halves work down to a microsecond, with a task for each half.
fn halves(pool: &Pool, nanos: u64) -> u64 {
    if nanos <= 1_000 {
        return work(nanos);
    }
    let (a, b) = pool.join(|| halves(pool, nanos / 2), || halves(pool, nanos / 2));
    a ^ b
}

/// The same with rayon, inside its pool.
fn halves_of_rayon(nanos: u64) -> u64 {
    if nanos <= 1_000 {
        return work(nanos);
    }
    let (a, b) = rayon::join(|| halves_of_rayon(nanos / 2), || halves_of_rayon(nanos / 2));
    a ^ b
}

fn joins() {
    heading("Joins and reductions, two workers");
    let pool = Pool::new(2).unwrap();
    let rayon = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    for nanos in [2_000, 100_000] {
        row(
            &format!("`join`, {nanos} ns of work, halved down to 1,000"),
            "–",
            1,
            &[
                ("", Box::new(|| _ = black_box(halves(&pool, nanos)))),
                ("rayon", Box::new(|| _ = black_box(rayon.install(|| halves_of_rayon(nanos))))),
            ],
        );
    }
    let items: Vec<u64> = (0..100_000).collect();
    let add = |a: u64, b: u64| a.wrapping_add(b);
    row(
        "`map_reduce`, 100000 x 1 ns",
        "–",
        1,
        &[
            ("", Box::new(|| _ = black_box(pool.map_reduce(&items, |n| n + work(1), || 0, add)))),
            (
                "rayon",
                Box::new(|| {
                    let reduce = || items.par_iter().map(|n| n + work(1)).reduce(|| 0, add);
                    _ = black_box(rayon.install(reduce));
                }),
            ),
        ],
    );
    let sum = |chunk: &[u64]| chunk.iter().map(|n| n + work(1)).fold(0, add);
    row(
        "`map_reduce` of chunks of 1000, 100000 x 1 ns",
        "–",
        1,
        &[
            (
                "",
                Box::new(|| {
                    _ = black_box(pool.map_reduce(items.chunks(1000), sum, || 0, add));
                }),
            ),
            (
                "rayon",
                Box::new(|| {
                    let reduce = || items.par_chunks(1000).map(sum).reduce(|| 0, add);
                    _ = black_box(rayon.install(reduce));
                }),
            ),
        ],
    );
}

/// One short job at a time, a hundred a second, beside a map of items of a millisecond.
fn fairness() {
    let pool = Pool::new(2).unwrap();
    let short = patience() < Duration::from_millis(100);
    let (rounds, items) = if short { (1, 0..4_u32) } else { (5, 0..1_000) };
    let map = || {
        let began = Instant::now();
        drop(black_box(pool.map_range(items.clone(), |_| work(1_000_000))));
        began.elapsed().as_secs_f64()
    };
    map();
    let mut waits = Vec::new();
    let mut ratios: Vec<f64> = (0..rounds)
        .map(|_| {
            let (alone, over) = (map(), AtomicUsize::new(0));
            std::thread::scope(|s| {
                let jobs = s.spawn(|| short_jobs(&pool, &over));
                let beside = map();
                over.store(1, Ordering::Release);
                waits.extend(jobs.join().unwrap());
                beside / alone
            })
        })
        .collect();
    let middle = median(&mut waits);
    let worst = waits[(waits.len() - 1) * 99 / 100];
    println!("\n## A short job beside a map of 1 ms items\n");
    println!(
        "Of {} jobs, a hundred a second: p50 {}, p99 {} (budget 2 ms). The map took {:.3} of its\n\
         time alone, the median of {rounds} ({:.3} to {:.3}; budget 1.03).",
        waits.len(),
        time(middle),
        time(worst),
        median(&mut ratios),
        ratios[0],
        ratios[rounds - 1],
    );
}

/// Returns how long each job took until it is over: at least one, however late this thread comes.
fn short_jobs(pool: &Pool, over: &AtomicUsize) -> Vec<f64> {
    let mut waits = Vec::new();
    loop {
        let began = Instant::now();
        pool.submit(|| ()).join().unwrap();
        waits.push(began.elapsed().as_nanos() as f64);
        if over.load(Ordering::Acquire) != 0 {
            return waits;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Prints all sections, or those that are named as arguments.
fn main() {
    let sections: &[(&str, fn())] = &[
        ("resets", resets),
        ("maps", maps),
        ("joins", joins),
        ("floods", floods::rows),
        #[cfg(unix)]
        ("sparse", sparse::sparse),
        ("polls", polls::rows),
        ("fairness", fairness),
    ];
    let named: Vec<_> = std::env::args().skip(1).filter(|name| !name.starts_with('-')).collect();
    if let Some(unknown) = named.iter().find(|named| sections.iter().all(|(name, _)| name != named))
    {
        let names: Vec<_> = sections.iter().map(|(name, _)| *name).collect();
        eprintln!("there is no section {unknown}: there are {}", names.join(", "));
        std::process::exit(2);
    }
    for (name, section) in sections {
        if named.is_empty() || named.iter().any(|named| named == name) {
            section();
        }
    }
}
