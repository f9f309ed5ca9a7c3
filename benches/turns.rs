//! Sides that take turns in one process, so that whatever else the machine does affects all of
//! them.

use std::time::{Duration, Instant};

/// A side: its name, and what it does.
pub(crate) type Way<'a> = (&'a str, Box<dyn Fn() + 'a>);

/// Whether the benchmarks only have to run, as CI asks.
fn short() -> bool {
    std::env::args().any(|argument| argument == "--test")
}

/// How many turns there are at least.
fn least() -> usize {
    if short() { 1 } else { 15 }
}

/// How long the sides of a row take turns.
pub(crate) fn patience() -> Duration {
    Duration::from_millis(if short() { 1 } else { 1000 })
}

/// How long each side of a row waits if one of them has a turn of a single run: until the threads
/// of the one before are asleep. Sixty-four of rayon's look for work for some milliseconds when
/// they have none; on two cores, a map of ten milliseconds that began meanwhile took a fifth
/// longer.
fn pause() -> Duration {
    patience() / 100
}

/// Returns the median.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Returns how often a side runs in a turn: for a thousandth of the row's time at least, so that
/// neither the clock matters, nor what the others have left in the caches and asleep.
fn runs(way: &Way<'_>) -> usize {
    if short() {
        return 1;
    }
    // The first calls are not like the others.
    (0..3).for_each(|_| way.1());
    let mut runs = 1;
    // Twice, in case an interruption passes for work.
    while (0..2).any(|_| time(way, runs) < patience() / 1000) {
        runs *= 2;
    }
    runs
}

fn time(way: &Way<'_>, runs: usize) -> Duration {
    let began = Instant::now();
    (0..runs).for_each(|_| way.1());
    began.elapsed()
}

/// Runs the sides in turns that take equally long, for so long; returns the median nanoseconds of
/// each per unit, and the first side's ratios to that of the others with the best median, in order.
pub(crate) fn turns(ways: &[Way<'_>], units: usize, patience: Duration) -> (Vec<f64>, Vec<f64>) {
    let runs: Vec<usize> = ways.iter().map(runs).collect();
    // For all sides of a row or for none.
    let rests = runs.contains(&1);
    let least = least();
    let mut took: Vec<Vec<f64>> = vec![Vec::new(); ways.len()];
    let began = Instant::now();
    while took[0].len() < least || began.elapsed() < patience {
        let first = took[0].len();
        for n in 0..ways.len() {
            // Who is first changes with every round, and who comes next with every other one.
            let ahead = if first.is_multiple_of(2) { n } else { ways.len() - n };
            let side = (first + ahead) % ways.len();
            if rests {
                std::thread::sleep(pause());
            }
            let nanos = time(&ways[side], runs[side]).as_nanos() as f64;
            took[side].push(nanos / (runs[side] * units) as f64);
        }
    }
    let medians: Vec<f64> = took.iter().map(|side| median(&mut side.clone())).collect();
    // The same one in all rounds: the least of several that vary is less than any of them. (A side
    // without others is compared with itself.)
    let best = (1..ways.len()).min_by(|a, b| medians[*a].total_cmp(&medians[*b])).unwrap_or(0);
    let mut ratios: Vec<f64> =
        took[0].iter().zip(&took[best]).map(|(own, best)| own / best).collect();
    ratios.sort_by(f64::total_cmp);
    (medians, ratios)
}
