//! How do the costs grow: with workers, tasks, slots, nesting? As Markdown for `docs/growth.md`;
//! with `--plots DIR` each series is drawn there, too.

mod turns;
mod work;

use std::cell::Cell;
use std::error::Error;
use std::hint::black_box;
use std::path::{Path, PathBuf};

use cleanslate::{Context, OwnedLocal, Pool, TaskLocal, task_local};
use plotters::prelude::*;
use rayon::prelude::*;

use self::turns::{Way, patience, turns};
use self::work::work;

task_local! { static WORD: u64 = 0; }
thread_local! { static PLAIN: Cell<u64> = const { Cell::new(0) }; }

/// 256 declared slots, and as many plain thread-locals.
mod many {
    use std::cell::Cell;
    use std::thread::LocalKey;

    macro_rules! plain {
        ($($name:ident)*) => {
            std::thread_local! {
                $(static $name: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };)*
            }
            pub(crate) static PLAIN: [&std::thread::LocalKey<std::cell::Cell<u64>>; 16] =
                [$(&$name),*];
        };
    }
    macro_rules! sixteen {
        ($($name:ident)*) => {
            $(mod $name {
                use cleanslate::{TaskLocal, task_local};
                task_local! {
                    static A: u64 = 0; static B: u64 = 0; static C: u64 = 0; static D: u64 = 0;
                    static E: u64 = 0; static F: u64 = 0; static G: u64 = 0; static H: u64 = 0;
                    static I: u64 = 0; static J: u64 = 0; static K: u64 = 0; static L: u64 = 0;
                    static M: u64 = 0; static N: u64 = 0; static O: u64 = 0; static P: u64 = 0;
                }
                pub(super) static ALL: [&TaskLocal<u64>; 16] =
                    [&A, &B, &C, &D, &E, &F, &G, &H, &I, &J, &K, &L, &M, &N, &O, &P];
                mod plain {
                    plain! { A B C D E F G H I J K L M N O P }
                }
                pub(crate) use plain::PLAIN;
            })*
            pub(crate) static ALL: [&[&cleanslate::TaskLocal<u64>; 16]; 16] = [$(&$name::ALL),*];
            pub(crate) static PLAIN: [&[&LocalKey<Cell<u64>>; 16]; 16] = [$(&$name::PLAIN),*];
        };
    }
    sixteen! { a b c d e f g h i j k l m n o p }
}

/// One line of a plot: a name, and the nanoseconds at each point.
type Line = (&'static str, Vec<f64>);

struct Series {
    /// Also the file's name.
    name: &'static str,
    title: &'static str,
    /// What grows.
    along: &'static str,
    points: Vec<u64>,
    lines: Vec<Line>,
}

impl Series {
    /// Measures at every point: `at` returns the sides, which have the same names each time, and
    /// their nanoseconds.
    fn measure(
        name: &'static str,
        title: &'static str,
        along: &'static str,
        points: impl IntoIterator<Item = u64>,
        mut at: impl FnMut(u64) -> Vec<(&'static str, f64)>,
    ) -> Self {
        let mut points: Vec<u64> = points.into_iter().collect();
        if patience().as_millis() < 100 {
            // Checks that it runs, not how fast.
            points.truncate(2);
        }
        let mut lines: Vec<Line> = Vec::new();
        for point in &points {
            for (n, (side, nanos)) in at(*point).into_iter().enumerate() {
                if lines.len() == n {
                    lines.push((side, Vec::new()));
                }
                lines[n].1.push(nanos);
            }
        }
        Self { name, title, along, points, lines }
    }

    fn print(&self, is_drawn: bool) {
        println!("\n## {}\n", self.title);
        if is_drawn {
            println!("![Plot: ns along {}](growth-{}.svg)\n", self.along, self.name);
        }
        print!("| {} |", self.along);
        self.points.iter().for_each(|point| print!(" {point} |"));
        println!("\n|---|{}", "---|".repeat(self.points.len()));
        for (side, nanos) in &self.lines {
            print!("| {side}, ns |");
            nanos.iter().for_each(|nanos| print!(" {nanos:.1} |"));
            println!();
        }
    }

    fn draw(&self, directory: &Path) -> Result<(), Box<dyn Error>> {
        // Readable on light and on dark.
        const GREY: RGBColor = RGBColor(128, 128, 128);
        const SIDES: [RGBColor; 2] = [RGBColor(26, 127, 205), RGBColor(214, 104, 20)];
        let path = directory.join(format!("growth-{}.svg", self.name));
        let area = SVGBackend::new(&path, (640, 300)).into_drawing_area();
        let all = || self.lines.iter().flat_map(|line| &line.1).copied();
        let lowest = all().fold(f64::INFINITY, f64::min) * 0.8;
        let highest = all().fold(0.0, f64::max) * 1.25;
        let first = self.points[0].max(1) as f64;
        let last = self.points[self.points.len() - 1] as f64;
        let text = ("sans-serif", 14).into_font().color(&GREY);
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d((first..last * 1.1).log_scale(), (lowest..highest).log_scale())?;
        chart
            .configure_mesh()
            .disable_mesh()
            .axis_style(GREY)
            .label_style(text.clone())
            .x_desc(self.along)
            .x_labels(4)
            .x_label_formatter(&|x| format!("{x:.0}"))
            .y_label_formatter(&|nanos| format!("{nanos:.0}"))
            .y_desc("ns")
            .axis_desc_style(text.clone())
            .draw()?;
        for ((side, nanos), colour) in self.lines.iter().zip(SIDES) {
            let at = |(point, nanos): (&u64, &f64)| ((*point).max(1) as f64, *nanos);
            let points: Vec<_> = self.points.iter().zip(nanos).map(at).collect();
            chart
                .draw_series(LineSeries::new(points, colour.stroke_width(2)).point_size(3))?
                .label(*side)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .label_font(text)
            .draw()?;
        area.present()?;
        Ok(())
    }
}

/// The median nanoseconds of a unit, for each side.
fn nanos(ways: &[Way<'static>], units: usize) -> Vec<(&'static str, f64)> {
    let (nanos, _ratios) = turns(ways, units, patience());
    ways.iter().map(|way| way.0).zip(nanos).collect()
}

/// A map of `len` items of `cost` nanoseconds, beside rayon; per item.
fn map(workers: usize, len: u64, cost: u64) -> Vec<(&'static str, f64)> {
    let pool = Pool::new(workers).unwrap();
    let rayon = rayon::ThreadPoolBuilder::new().num_threads(workers).build().unwrap();
    let items: Vec<u64> = (0..len).collect();
    let theirs = items.clone();
    let ours = move || drop(black_box(pool.map_slice(&items, |n| n + work(cost))));
    let theirs = move || {
        let map = || theirs.par_iter().map(|n| n + work(cost)).collect::<Vec<_>>();
        drop(black_box(rayon.install(map)));
    };
    nanos(&[("cleanslate", Box::new(ours)), ("rayon", Box::new(theirs))], len as usize)
}

fn with_workers() -> Series {
    let title = "A map of 200,000 items of 100 ns on two cores, per item";
    Series::measure("workers", title, "workers", [1, 2, 4, 8, 16, 32, 64], |workers| {
        map(workers as usize, 200_000, 100)
    })
}

fn with_tasks() -> Series {
    let points = (0..=7).map(|power| 10_u64.pow(power));
    let title = "A map of items of 1 ns with two workers, per item";
    Series::measure("tasks", title, "items", points, |len| map(2, len, 1))
}

fn with_slots() -> Series {
    const TASKS: u64 = 100_000;
    let title = "A task that sets one `u64`, on a thread that knows many other slots";
    Series::measure("slots", title, "other slots", [0, 10, 100, 1_000, 10_000], |others| {
        let pool = Pool::new(1).unwrap();
        let others: Vec<OwnedLocal<u64>> = (0..others).map(|_| OwnedLocal::new(|| 0)).collect();
        let _touched = pool.broadcast(|| others.iter().for_each(|slot| slot.set(1)));
        let ours = move || {
            black_box(&others);
            drop(pool.map_range(0..TASKS, |n| WORD.set(n)));
        };
        nanos(&[("cleanslate", Box::new(ours))], TASKS as usize)
    })
}

fn with_touched() -> Series {
    const TASKS: usize = 1_000;
    let title = "A task that sets so many slots, per task";
    Series::measure("touched", title, "slots touched", [1, 4, 16, 64, 256], |touched| {
        let slots: Vec<&'static TaskLocal<u64>> =
            many::ALL.iter().flat_map(|slots| slots.iter().copied()).collect();
        let slots = slots[..touched as usize].to_vec();
        let plain: Vec<_> = many::PLAIN.iter().flat_map(|keys| keys.iter().copied()).collect();
        let plain: Vec<(_, Cell<u64>)> =
            plain[..touched as usize].iter().map(|key| (*key, Cell::new(0))).collect();
        let context = Context::empty();
        let ours = move || {
            for _ in 0..TASKS {
                context.run(|| slots.iter().for_each(|slot| slot.set(black_box(1))));
            }
        };
        let by_hand = move || {
            for _ in 0..TASKS {
                plain.iter().for_each(|(key, before)| before.set(key.replace(black_box(1))));
                plain.iter().rev().for_each(|(key, before)| key.set(before.get()));
            }
        };
        let by_hand: Way<'static> = ("set and put back by hand", Box::new(by_hand));
        nanos(&[("cleanslate", Box::new(ours)), by_hand], TASKS)
    })
}

fn nested(context: &Context, levels: u64) {
    context.run(|| {
        WORD.set(levels);
        if levels > 1 {
            nested(context, levels - 1);
        }
    });
}

fn nested_by_hand(levels: u64) {
    let before = PLAIN.replace(levels);
    if levels > 1 {
        nested_by_hand(levels - 1);
    }
    PLAIN.set(black_box(before));
}

fn with_nesting() -> Series {
    let title = "Tasks on top of one another, each with one `u64`, per level";
    Series::measure("nesting", title, "levels", [1, 4, 16, 64, 256], |levels| {
        let context = Context::empty();
        let ours = move || nested(&context, levels);
        let by_hand: Way<'static> =
            ("set and put back by hand", Box::new(move || nested_by_hand(levels)));
        nanos(&[("cleanslate", Box::new(ours)), by_hand], levels as usize)
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args();
    let draws = arguments.by_ref().any(|argument| argument == "--plots");
    let plots = arguments.next().filter(|_| draws).map(PathBuf::from);
    if draws && plots.is_none() {
        return Err("--plots wants a directory".into());
    }
    if let Some(directory) = &plots {
        std::fs::create_dir_all(directory)?;
    }
    for series in [with_workers, with_tasks, with_slots, with_touched, with_nesting] {
        let series = series();
        series.print(plots.is_some());
        if let Some(directory) = &plots {
            series.draw(directory)?;
        }
    }
    Ok(())
}
