//! What a task costs in processor time if there is one every millisecond, and what an idle pool
//! does.

use std::hint::black_box;
use std::time::Duration;

use cleanslate::Pool;
use rustix::time::{ClockId, clock_gettime};

use crate::time;
use crate::turns::{Way, median, patience};

const PACE: Duration = Duration::from_millis(1);
/// How many calls a side makes before the next one has its turn.
const TURN: usize = 50;

/// The nanoseconds that the threads of this process, or this one, have spent on a processor.
fn spent(clock: ClockId) -> f64 {
    let spent = clock_gettime(clock);
    spent.tv_sec as f64 * 1e9 + spent.tv_nsec as f64
}

/// Returns the processor time of a call, with the pause after it.
fn cost(call: &dyn Fn(), calls: usize) -> f64 {
    let before = spent(ClockId::ProcessCPUTime);
    for _ in 0..calls {
        call();
        std::thread::sleep(PACE);
    }
    (spent(ClockId::ProcessCPUTime) - before) / calls as f64
}

/// Prints the medians of the sides, which take turns, minus what the pace itself costs.
fn row(what: &str, ways: &[Way<'_>]) {
    let short = patience() < PACE * 100;
    let (rounds, calls) = if short { (1, 2) } else { (15, TURN) };
    let mut costs: Vec<Vec<f64>> = vec![Vec::new(); ways.len()];
    let mut paces = Vec::new();
    for round in 0..rounds {
        paces.push(cost(&|| (), calls));
        for n in 0..ways.len() {
            // The side that goes first changes with every round.
            let side = (n + round) % ways.len();
            // The others have gone to sleep, and this one's threads are where they will be.
            ways[side].1();
            std::thread::sleep(PACE);
            costs[side].push(cost(&*ways[side].1, calls));
        }
    }
    let pace = median(&mut paces);
    for cost in costs.iter_mut().flatten() {
        *cost -= pace;
    }
    let medians: Vec<f64> = costs.iter().map(|costs| median(&mut costs.clone())).collect();
    let best = (1..ways.len()).min_by(|a, b| medians[*a].total_cmp(&medians[*b])).unwrap();
    let ratio = medians[0] / medians[best];
    let spread = |side: usize| {
        let mut costs = costs[side].clone();
        costs.sort_by(f64::total_cmp);
        let tenth = costs.len() / 10;
        format!("{} to {}", time(costs[tenth]), time(costs[costs.len() - 1 - tenth]))
    };
    let others: Vec<_> = ways[1..]
        .iter()
        .enumerate()
        .map(|(n, way)| format!("{} {} ({})", way.0, time(medians[n + 1]), spread(n + 1)))
        .collect();
    println!(
        "| {what} | {} ({}) | {} | {ratio:.2} | 1.0 |",
        time(medians[0]),
        spread(0),
        others.join(", "),
    );
}

pub(crate) fn sparse() {
    println!("\n## Processor time of a task, one a millisecond, two workers\n");
    println!("Less the time of the pause itself, of all threads together, with deciles.\n");
    println!("| | cleanslate | beside it | ratio of the medians | budget |");
    println!("|---|---|---|---|---|");
    let pool = Pool::new(2).unwrap();
    pool.broadcast(|| ());
    let idle = idle();
    let rayon = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let threadpool = threadpool::ThreadPool::new(2);
    let rusty = rusty_pool::Builder::new().core_size(2).max_size(2).build();
    let mut tokio = tokio::runtime::Builder::new_multi_thread();
    let tokio = tokio.worker_threads(1).max_blocking_threads(2).build().unwrap();
    row(
        "`submit` and `join`",
        &[
            ("", Box::new(|| _ = black_box(pool.submit(|| black_box(1)).join().unwrap()))),
            ("rayon", Box::new(|| _ = black_box(rayon.install(|| black_box(1))))),
            ("rusty_pool", Box::new(|| _ = rusty.evaluate(|| black_box(1)).await_complete())),
            (
                "tokio",
                Box::new(|| _ = tokio.block_on(tokio.spawn_blocking(|| black_box(1))).unwrap()),
            ),
        ],
    );
    row(
        "`submit`",
        &[
            ("", Box::new(|| drop(pool.submit(|| black_box(1))))),
            ("rayon", Box::new(|| rayon.spawn(|| _ = black_box(1)))),
            ("threadpool", Box::new(|| threadpool.execute(|| _ = black_box(1)))),
            ("rusty_pool", Box::new(|| rusty.execute(|| _ = black_box(1)))),
            ("tokio", Box::new(|| drop(tokio.spawn_blocking(|| black_box(1))))),
        ],
    );
    let items: Vec<u64> = (0..10).collect();
    row(
        "`map_slice` of 10 x 1 ns",
        &[
            ("", Box::new(|| drop(black_box(pool.map_slice(&items, |n| n + 1))))),
            (
                "rayon",
                Box::new(|| {
                    use rayon::prelude::*;
                    let map = || items.par_iter().map(|n| n + 1).collect::<Vec<_>>();
                    drop(black_box(rayon.install(map)));
                }),
            ),
        ],
    );
    // Two clocks are not read at the same moment.
    let idle = if idle < 1e3 { "less than 1 µs".to_owned() } else { time(idle) };
    println!("\nThe workers of an idle pool: {idle} in a second (budget 0).");
}

/// Returns what threads other than this one do in a second.
fn idle() -> f64 {
    let second = patience();
    // They have gone to sleep by then.
    std::thread::sleep(second / 10);
    let others = || spent(ClockId::ProcessCPUTime) - spent(ClockId::ThreadCPUTime);
    let before = others();
    std::thread::sleep(second);
    // Two clocks that are read one after the other.
    (others() - before).max(0.0) / second.as_secs_f64()
}
