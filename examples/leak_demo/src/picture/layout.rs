//! Where everything is: boxes in lanes, and arrows between them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::job::Seen;

/// Of the lanes, between the labels and the right margin.
pub(super) const LEFT: f64 = 74.0;
pub(super) const WIDTH: f64 = 912.0;

/// The room above a lane's boxes, for arrows.
const ARROWS: f64 = 15.0;
/// The height of a box, if there are few levels; and the height that all levels share if there are
/// many.
const BOX: f64 = 20.0;
const LEVELS: f64 = 120.0;

/// How much of the width goes to the order of events; the rest goes to time. A box that is drawn to
/// scale beside one that waited for a database would be too thin to see.
const ORDER: f64 = 0.8;

/// One run, laid out from `y` = 0 down.
pub(super) struct Layout<'s> {
    pub(super) lanes: Vec<Lane>,
    pub(super) boxes: Vec<Box<'s>>,
    pub(super) arrows: Vec<Arrow>,
    pub(super) height: f64,
}

pub(super) struct Lane {
    pub(super) worker: u32,
    /// Its lower edge.
    pub(super) y: f64,
}

/// A request.
pub(super) struct Box<'s> {
    pub(super) seen: &'s Seen,
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// From a request that left something to the one that it reached: a quadratic curve.
pub(super) struct Arrow {
    pub(super) from: (f64, f64),
    pub(super) bend: (f64, f64),
    pub(super) to: (f64, f64),
}

impl<'s> Layout<'s> {
    pub(super) fn of(seen: &'s [Seen]) -> Self {
        let scale = Scale::of(seen);
        let mut levels = BTreeMap::<u32, u32>::new();
        for seen in seen {
            let deepest = levels.entry(seen.place.worker).or_default();
            *deepest = seen.place.depth.max(*deepest);
        }
        let (mut lanes, mut height) = (Vec::new(), 0.0);
        let mut lane_of = BTreeMap::new();
        for (worker, deepest) in levels {
            let levels = f64::from(deepest + 1);
            let level = BOX.min(LEVELS / levels);
            height += ARROWS + levels * level;
            lane_of.insert(worker, (height, level));
            lanes.push(Lane { worker, y: height });
            height += 7.0;
        }
        let boxes: Vec<_> = seen
            .iter()
            .map(|seen| {
                let (lane, level) = lane_of[&seen.place.worker];
                let (x, end) = (scale.x(seen.began), scale.x(seen.ended));
                Box {
                    seen,
                    x,
                    y: lane - level * f64::from(seen.place.depth + 1),
                    width: (end - x - 0.8).max(0.8),
                    height: level - 1.0,
                }
            })
            .collect();
        let arrows = arrows(&boxes);
        Self { lanes, boxes, arrows, height }
    }
}

/// Turns moments into places: later is farther right, on every lane alike.
struct Scale {
    moments: Vec<Duration>,
}

impl Scale {
    fn of(seen: &[Seen]) -> Self {
        let mut moments: Vec<_> = seen.iter().flat_map(|seen| [seen.began, seen.ended]).collect();
        moments.sort_unstable();
        Self { moments }
    }

    fn x(&self, moment: Duration) -> f64 {
        let (Some(first), Some(last)) = (self.moments.first(), self.moments.last()) else {
            return LEFT;
        };
        let order = self.moments.partition_point(|other| *other < moment) as f64;
        let order = order / (self.moments.len() - 1).max(1) as f64;
        let time = (moment - *first).as_secs_f64() / (*last - *first).as_secs_f64().max(1e-9);
        LEFT + WIDTH * (ORDER * order + (1.0 - ORDER) * time)
    }
}

fn arrows(boxes: &[Box<'_>]) -> Vec<Arrow> {
    let by_number: BTreeMap<u32, &Box<'_>> =
        boxes.iter().map(|b| (b.seen.request.number, b)).collect();
    let mut arrows = Vec::new();
    for to in boxes {
        let leavers = [
            to.seen.found_of(),
            to.seen.went_on_with(),
            to.seen.borrowed.and_then(|borrowed| borrowed.by),
        ];
        for (index, number) in leavers.iter().enumerate() {
            let Some(number) = number else { continue };
            // One arrow is enough for two reasons.
            if leavers[..index].contains(&Some(*number)) || *number == to.seen.request.number {
                continue;
            }
            // A request that the picture has no room for may have left something too.
            let Some(from) = by_number.get(number) else { continue };
            if from.seen.place.worker == to.seen.place.worker {
                arrows.push(arrow(from, to));
            }
        }
    }
    arrows
}

fn arrow(from: &Box<'_>, to: &Box<'_>) -> Arrow {
    let middle = |b: &Box<'_>| b.y + b.height / 2.0;
    if from.seen.ended <= to.seen.began {
        // One after the other: an arc above both.
        let (x1, x2) = (from.x + from.width / 2.0, to.x + to.width / 2.0);
        let rise = (6.0 + (x2 - x1) * 0.35).min(2.0 * ARROWS - 3.0);
        let y = from.y.min(to.y);
        Arrow { from: (x1, from.y), bend: ((x1 + x2) / 2.0, y - rise), to: (x2, to.y) }
    } else if from.seen.place.depth < to.seen.place.depth {
        // It lies on top of the one that left it: a hook, up at its beginning.
        let x = to.x;
        Arrow {
            from: (x - 4.0, middle(from)),
            bend: (x - 5.0, middle(to)),
            to: (x + 3.0, middle(to)),
        }
    } else {
        // It had the other one on top: a hook, down at the other one's end.
        let x = from.x + from.width;
        Arrow {
            from: (x - 3.0, middle(from)),
            bend: (x + 5.0, middle(from)),
            to: (x + 4.0, middle(to)),
        }
    }
}
