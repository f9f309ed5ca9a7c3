//! How long a short call takes, beside rayon, from a plain thread: six kinds of call, with gaps of
//! 0 to 1,000 µs between calls, on a quiet machine and beside a thread that keeps one core busy.
//!
//! A pool that has just worked is awake, so gaps and order matter: the two sides take turns in
//! blocks, each block begins with calls that are not counted, and every gap is measured separately.
//! The goal: geometric means over all cells of at most 1.0 for p50 and p99, no p50 above 1.2.
//!
//! `cargo bench -p benches --bench latency`; `-- --helps` measures a pool with `caller_helps`,
//! `-- --cell submit` the kinds that contain the word.

mod work;

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cleanslate::Pool;
use rayon::prelude::*;

use self::work::work;

const WORKERS: usize = 2;
/// Gaps between calls, in µs.
const GAPS: [u64; 4] = [0, 20, 100, 1000];
const BLOCKS: usize = 8;
/// How many calls of a block are not counted, and how many are.
const CALLS: (usize, usize) = (10, 60);

type Call<'a> = Box<dyn Fn() + 'a>;

fn calls<'a>(ours: &'a Pool, rayon: &'a rayon::ThreadPool) -> Vec<(&'static str, [Call<'a>; 2])> {
    fn map_of<'a>(
        ours: &'a Pool,
        rayon: &'a rayon::ThreadPool,
        len: usize,
        nanos: u64,
    ) -> [Call<'a>; 2] {
        let items: Arc<[u64]> = (0..len as u64).collect();
        let theirs = Arc::clone(&items);
        [
            Box::new(move || drop(black_box(ours.map_slice(&items, |n| n + work(nanos))))),
            Box::new(move || {
                let map = || theirs.par_iter().map(|n| n + work(nanos)).collect::<Vec<_>>();
                drop(black_box(rayon.install(map)));
            }),
        ]
    }
    vec![
        (
            "submit, join",
            [
                Box::new(|| assert_eq!(ours.submit(|| work(100)).join().unwrap(), work(100))),
                Box::new(|| assert_eq!(rayon.install(|| work(100)), work(100))),
            ],
        ),
        (
            "scope of four",
            [
                Box::new(|| {
                    ours.scope(|s| {
                        for _ in 0..4 {
                            s.submit(|| black_box(work(1_000)));
                        }
                    });
                }),
                Box::new(|| {
                    rayon.scope(|s| {
                        for _ in 0..4 {
                            s.spawn(|_| {
                                black_box(work(1_000));
                            });
                        }
                    });
                }),
            ],
        ),
        ("map of 10 x 1 ns", map_of(ours, rayon, 10, 1)),
        ("map of 10 x 1 µs", map_of(ours, rayon, 10, 1_000)),
        ("map of 1,000 x 100 ns", map_of(ours, rayon, 1_000, 100)),
        ("map of 1 x 10 µs", map_of(ours, rayon, 1, 10_000)),
    ]
}

fn pause(gap: u64) {
    let gap = Duration::from_micros(gap);
    if gap >= Duration::from_micros(500) {
        std::thread::sleep(gap);
        return;
    }
    let began = Instant::now();
    while began.elapsed() < gap {
        std::hint::spin_loop();
    }
}

/// Runs one block and adds what each call took.
fn block(call: &Call<'_>, gap: u64, took: &mut Vec<Duration>) {
    for n in 0..CALLS.0 + CALLS.1 {
        pause(gap);
        let began = Instant::now();
        call();
        if n >= CALLS.0 {
            took.push(began.elapsed());
        }
    }
}

/// p50, p90 and p99 in µs.
fn percentiles(mut took: Vec<Duration>) -> [f64; 3] {
    took.sort_unstable();
    [50, 90, 99].map(|p| took[(took.len() - 1) * p / 100].as_nanos() as f64 / 1e3)
}

fn geometric_mean(ratios: &[f64]) -> f64 {
    (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp()
}

fn median(mut ratios: Vec<f64>) -> f64 {
    ratios.sort_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let only = arguments.iter().position(|a| a == "--cell").map(|at| arguments.get(at + 1));
    let known = ["--bench", "--test", "--helps", "--cell"];
    let unknown = |a: &&String| a.starts_with('-') && !known.contains(&a.as_str());
    if only == Some(None) || arguments[1..].iter().any(|a| unknown(&a)) {
        eprintln!("usage: latency [--helps] [--cell WORD]");
        std::process::exit(2);
    }
    let only = only.flatten();
    let blocks = if has("--test") { 1 } else { BLOCKS };
    let builder = Pool::builder().workers(WORKERS).caller_helps(has("--helps"));
    let ours = builder.build().unwrap();
    let rayon = rayon::ThreadPoolBuilder::new().num_threads(WORKERS).build().unwrap();
    let busy = Arc::new(AtomicBool::new(false));
    let over = Arc::new(AtomicBool::new(false));
    let load = {
        let (busy, over) = (Arc::clone(&busy), Arc::clone(&over));
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                if busy.load(Ordering::Relaxed) {
                    black_box(work(10_000));
                } else {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        })
    };
    println!("µs, p50/p90/p99: cleanslate | rayon | ratio of p50, p99");
    let (mut p50s, mut p99s, mut slow) = (Vec::new(), Vec::new(), Vec::new());
    for beside in [false, true] {
        busy.store(beside, Ordering::Relaxed);
        let where_ = if beside { "busy" } else { "quiet" };
        for (name, sides) in calls(&ours, &rayon) {
            if only.as_ref().is_some_and(|word| !name.contains(word.as_str())) {
                continue;
            }
            for gap in GAPS {
                let mut took = [Vec::new(), Vec::new()];
                for round in 0..blocks {
                    // The side that goes first changes with every round.
                    for side in [round % 2, 1 - round % 2] {
                        block(&sides[side], gap, &mut took[side]);
                    }
                }
                let [a, b] = took.map(percentiles);
                let (p50, p99) = (a[0] / b[0], a[2] / b[2]);
                p50s.push(p50);
                p99s.push(p99);
                let cell = format!("{name}, gap {gap}, {where_}");
                println!(
                    "{cell:38} {:6.1} {:6.1} {:6.1} | {:6.1} {:6.1} {:6.1} | {p50:5.2} {p99:5.2}",
                    a[0], a[1], a[2], b[0], b[1], b[2],
                );
                if p50 > 1.2 {
                    slow.push(format!("{cell}: {p50:.2}"));
                }
            }
        }
    }
    over.store(true, Ordering::Relaxed);
    load.join().unwrap();
    if p50s.is_empty() {
        eprintln!("no kind of call has this word in its name");
        std::process::exit(2);
    }
    let half = p50s.len() / 2;
    for (what, ratios) in [("p50", &p50s), ("p99", &p99s)] {
        println!(
            "geometric mean of {what}: {:.2} (quiet {:.2}, busy {:.2}), median {:.2}; {} of {} \
             above 1.0",
            geometric_mean(ratios),
            geometric_mean(&ratios[..half]),
            geometric_mean(&ratios[half..]),
            median(ratios.clone()),
            ratios.iter().filter(|ratio| **ratio > 1.0).count(),
            ratios.len(),
        );
    }
    println!("p50 above 1.2:{}", if slow.is_empty() { " none" } else { "" });
    for cell in slow {
        println!("  {cell}");
    }
}
