//! How long a short call takes, beside rayon, from a plain thread: six kinds of call, with gaps of
//! 0 to 1,000 µs between calls, on a quiet machine and beside a thread that keeps one core busy.
//!
//! A pool that has just worked is awake, so gaps and order matter: the two sides take turns in
//! blocks, each block begins with calls that are not counted, and every gap is measured separately.
//! On which processor the system lets a thread run is another matter of luck, which lasts for some
//! tenths of a second, as long as a cell: so the whole table is measured several times, and a cell
//! shows the median of its ratios, with the lowest and the highest. When the busy thread begins,
//! some time passes before anything is counted.
//!
//! The goal: geometric means over all cells of at most 1.0 for p50 and p99, no p50 above 1.2.
//!
//! `cargo bench -p benches --bench latency`; `-- --helps` measures a pool with `caller_helps`,
//! `-- --cell submit` the kinds that contain the word, `-- --passes 1` the table once.

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
/// How often the table is measured.
const PASSES: usize = 7;
/// How long calls are made uncounted once a core is busy, or no longer is.
const SETTLE: Duration = Duration::from_millis(300);
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

/// What is asked for on the command line.
struct Options {
    helps: bool,
    blocks: usize,
    passes: usize,
    /// A word in the names of the kinds to measure.
    cell: String,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let (helps, cell) = (false, String::new());
        let mut options = Self { helps, blocks: BLOCKS, passes: PASSES, cell };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--bench" => {}
                "--test" => (options.blocks, options.passes) = (1, 1),
                "--helps" => options.helps = true,
                "--cell" => options.cell = arguments.next()?,
                "--passes" => options.passes = arguments.next()?.parse().ok().filter(|n| *n > 0)?,
                _ => return None,
            }
        }
        Some(options)
    }
}

/// One kind of call with one gap, quiet or beside a busy thread.
struct Cell {
    name: String,
    place: &'static str,
    /// What the calls of each side took, in all passes.
    took: [Vec<Duration>; 2],
    /// The ratios of p50 and p99 in each pass.
    ratios: [Vec<f64>; 2],
}

impl Cell {
    fn new(kind: &str, gap: u64, place: &'static str) -> Self {
        let name = format!("{kind}, gap {gap}");
        Self { name, place, took: Default::default(), ratios: Default::default() }
    }

    fn measure(&mut self, sides: &[Call<'_>; 2], gap: u64, blocks: usize) {
        let mut took = [Vec::new(), Vec::new()];
        for round in 0..blocks {
            // The side that goes first changes with every round.
            for side in [round % 2, 1 - round % 2] {
                block(&sides[side], gap, &mut took[side]);
            }
        }
        for (all, these) in self.took.iter_mut().zip(&took) {
            all.extend(these);
        }
        let [a, b] = took.map(percentiles);
        self.ratios[0].push(a[0] / b[0]);
        self.ratios[1].push(a[2] / b[2]);
    }

    /// The medians of the ratios of p50 and p99.
    fn medians(&self) -> [f64; 2] {
        self.ratios.clone().map(median)
    }

    fn print(&self) {
        let [a, b] = self.took.clone().map(percentiles);
        let [p50, p99] = self.medians();
        let (least, most) = self.spread();
        println!(
            "{:31} {:5.1} {:5.1} {:6.1} | {:5.1} {:5.1} {:6.1} | \
             {p50:4.2} ({least:4.2}–{most:4.2}) {p99:4.2}",
            self.name, a[0], a[1], a[2], b[0], b[1], b[2],
        );
    }

    /// The lowest and the highest ratio of p50.
    fn spread(&self) -> (f64, f64) {
        let ratios = self.ratios[0].iter().copied();
        (ratios.clone().fold(f64::INFINITY, f64::min), ratios.fold(0.0, f64::max))
    }
}

fn main() {
    let Some(options) = Options::parse(std::env::args().skip(1)) else {
        eprintln!("usage: latency [--helps] [--cell WORD] [--passes N]");
        std::process::exit(2);
    };
    let builder = Pool::builder().workers(WORKERS).caller_helps(options.helps);
    let ours = builder.build().unwrap();
    let rayon = rayon::ThreadPoolBuilder::new().num_threads(WORKERS).build().unwrap();
    let calls: Vec<_> =
        calls(&ours, &rayon).into_iter().filter(|(name, _)| name.contains(&options.cell)).collect();
    if calls.is_empty() {
        eprintln!("no kind of call has this word in its name");
        std::process::exit(2);
    }
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
    let places = ["quiet", "busy"];
    let mut cells: Vec<_> = places
        .iter()
        .flat_map(|place| {
            calls.iter().flat_map(move |(kind, _)| GAPS.map(|gap| Cell::new(kind, gap, place)))
        })
        .collect();
    for pass in 1..=options.passes {
        eprintln!("pass {pass} of {}", options.passes);
        let mut cells = cells.iter_mut();
        for place in places {
            busy.store(place == "busy", Ordering::Relaxed);
            let began = Instant::now();
            while began.elapsed() < SETTLE {
                calls.iter().flat_map(|(_, sides)| sides).for_each(|call| call());
            }
            for (_, sides) in &calls {
                for (gap, cell) in GAPS.iter().zip(&mut cells) {
                    cell.measure(sides, *gap, options.blocks);
                }
            }
        }
    }
    over.store(true, Ordering::Relaxed);
    load.join().unwrap();

    println!("µs, p50/p90/p99: cleanslate | rayon | ratio of p50 (lowest–highest), of p99");
    for (cells, place) in cells.chunks(cells.len() / 2).zip(places) {
        println!("{place}:");
        cells.iter().for_each(Cell::print);
    }
    for (n, what) in ["p50", "p99"].into_iter().enumerate() {
        let ratios: Vec<_> = cells.iter().map(|cell| cell.medians()[n]).collect();
        let (quiet, busy) = ratios.split_at(ratios.len() / 2);
        println!(
            "geometric mean of {what}: {:.2} (quiet {:.2}, busy {:.2}), median {:.2}; {} of {} \
             above 1.0",
            geometric_mean(&ratios),
            geometric_mean(quiet),
            geometric_mean(busy),
            median(ratios.clone()),
            ratios.iter().filter(|ratio| **ratio > 1.0).count(),
            ratios.len(),
        );
    }
    let above = |what: &str, ratio: fn(&Cell) -> f64| {
        let slow: Vec<_> = cells.iter().filter(|cell| ratio(cell) > 1.2).collect();
        println!("p50 above 1.2 in {what}:{}", if slow.is_empty() { " none" } else { "" });
        slow.iter()
            .for_each(|cell| println!("  {}, {}: {:.2}", cell.name, cell.place, ratio(cell)));
    };
    above("the median", |cell| cell.medians()[0]);
    above("the highest", |cell| cell.spread().1);
}
