//! What a poll of a future costs, and a closure on another executor.

use std::hint::black_box;
#[cfg(feature = "rayon")]
use std::time::{Duration, Instant};

use cleanslate::future::FutureExt;
use cleanslate::{OwnedLocal, TaskLocal};

#[cfg(feature = "rayon")]
use cleanslate::rayon::ParallelIteratorExt;
#[cfg(feature = "rayon")]
use rayon::prelude::*;

use crate::countdown::{Countdown, drive};
#[cfg(feature = "rayon")]
use crate::work::work;
use crate::{COPIES, TENANT, WORD, heading, row};

macro_rules! declared {
    ($($module:ident)*) => {
        $(mod $module {
            cleanslate::task_local! {
                pub(super) static A: u64 = 0; pub(super) static B: u64 = 0;
                pub(super) static C: u64 = 0; pub(super) static D: u64 = 0;
                pub(super) static E: u64 = 0; pub(super) static F: u64 = 0;
                pub(super) static G: u64 = 0; pub(super) static H: u64 = 0;
            }
        })*
        static DECLARED: [&TaskLocal<u64>; 64] = [$(
            &$module::A, &$module::B, &$module::C, &$module::D,
            &$module::E, &$module::F, &$module::G, &$module::H,
        )*];
    };
}
declared! { d0 d1 d2 d3 d4 d5 d6 d7 }

tokio::task_local! { static TOKIO: u64; }

/// Polls of a future.
const POLLS: usize = 1_000;

/// Makes an array of functions that drive futures which differ in a number.
macro_rules! polls {
    ($slot:ident, $wrap:expr) => {
        polls!($slot, $wrap, 0 1 2 3 4 5 6 7)
    };
    ($slot:ident, $wrap:expr, $($n:literal)*) => {
        [$(|| {
            let polls = async {
                for _ in 0..POLLS {
                    black_box($slot.get() + $n);
                    Countdown(1).await;
                }
            };
            drive($wrap(polls));
        }),*]
    };
}

const ISOLATED: [fn(); COPIES] = polls!(WORD, |polls| FutureExt::isolated(polls));
const SCOPED: [fn(); COPIES] = polls!(TOKIO, |polls| TOKIO.scope(1, polls));

/// Prints the rows.
pub(crate) fn rows() {
    heading("Futures and other executors");
    row(
        "a poll of an isolated future with one slot",
        "1.0",
        COPIES * POLLS,
        &[
            ("", Box::new(|| ISOLATED.iter().for_each(|drive| drive()))),
            ("tokio's `task_local!`", Box::new(|| SCOPED.iter().for_each(|drive| drive()))),
        ],
    );
    let owners: Vec<OwnedLocal<u64>> = (0..64).map(|_| OwnedLocal::new(|| 0)).collect();
    let owned = &|| owners.iter().for_each(|slot| slot.set(1));
    let declared = &|| DECLARED.iter().for_each(|slot| slot.set(1));
    for (changes, what) in [(false, ""), (true, " and change an inheritable slot")] {
        let polls = async |touch: &dyn Fn()| {
            touch();
            for n in 0..POLLS {
                if changes {
                    TENANT.set(n as u64);
                }
                Countdown(1).await;
            }
        };
        row(
            &format!("a poll of futures that hold 64 `OwnedLocal`s{what}"),
            "5",
            POLLS,
            &[
                ("", Box::new(|| drive(polls(owned).isolated()))),
                ("64 declared slots", Box::new(|| drive(polls(declared).isolated()))),
            ],
        );
    }
    #[cfg(feature = "rayon")]
    {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        on_rayon(&pool, "10 ns an item", "1.3", 10, |n| n + work(10));
        let long = steps_that_take(10);
        let whole = format!("10 ns of a core an item ({long} steps of work)");
        on_rayon(&pool, &whole, "1.3", long, move |n| n + work(long));
        on_rayon(&pool, "100 ns an item", "1.03", 100, |n| n + work(100));
        on_rayon(&pool, "1 ns an item, one `u64` touched", "5", 1, |n| {
            WORD.set(n);
            n + work(1)
        });
    }
}

/// Returns how much work takes this many nanoseconds if a core does one item after the other and
/// begins the next ones meanwhile, as in a map.
#[cfg(feature = "rayon")]
fn steps_that_take(nanos: u64) -> u64 {
    const ITEMS: u64 = 10_000;
    let takes = |steps: u64| {
        let begun = Instant::now();
        black_box((0..ITEMS).map(|n| n + work(steps)).sum::<u64>());
        begun.elapsed()
    };
    let least = |steps| (0..20).map(|_| takes(steps)).min();
    let enough = Some(Duration::from_nanos(ITEMS * nanos));
    (nanos..).find(|steps| least(*steps) >= enough).unwrap_or(nanos)
}

/// A map of isolated closures beside one of bare closures that do this much work.
#[cfg(feature = "rayon")]
fn on_rayon(
    pool: &rayon::ThreadPool,
    what: &str,
    budget: &str,
    nanos: u64,
    isolated: impl Fn(u64) -> u64 + Copy + Send + Sync,
) {
    let items = || (0..100_000_u64).into_par_iter();
    let bare = move |n| n + work(nanos);
    let map = || _ = black_box(pool.install(|| items().isolated().map(isolated).sum::<u64>()));
    let map_bare = || _ = black_box(pool.install(|| items().map(bare).sum::<u64>()));
    row(
        &format!("`.isolated().map(f)`, {what}"),
        budget,
        100_000,
        &[("", Box::new(map)), ("bare rayon", Box::new(map_bare))],
    );
}
