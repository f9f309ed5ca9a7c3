//! The picture as a file of its own: without scripts, without fonts, in light and dark.

use std::fmt::Write as _;

use super::args::Plan;
use super::job::{Seen, USERS};
use super::layout::{Arrow, Box, LEFT, Layout, WIDTH};
use super::rows::Done;
use super::table::{counted, grouped};

/// What lanes, boxes and arrows look like. Class names have a letter or two, since they occur
/// hundreds of times.
pub(super) const STYLE: &str = "\
text{fill:#1f2328}.d{fill:#59636e}.l{stroke:#d0d7de}.t{font-weight:600;font-size:15px}\
.r{fill:#cf222e}.k{fill:#1a7f37}.a{fill:none;stroke:#cf222e;stroke-width:1.3}.h{fill:#cf222e}\
.a path{marker-end:url(#m)}\
.b{stroke:#cf222e;stroke-width:2.4}\
rect{rx:2px}.w{stroke:#cf222e;stroke-width:1.6;pointer-events:none}\
.u0{fill:#4c8bd6}.u1{fill:#e3a72f}.u2{fill:#4fa66a}.u3{fill:#9a6fc9}.u4{fill:#33aab5}\
.g{fill:#b6bdc6}
@media(prefers-color-scheme:dark){\
text{fill:#e6edf3}.d{fill:#9198a1}.l{stroke:#30363d}\
.r{fill:#ff7b72}.k{fill:#56d364}.a,.b,.w{stroke:#ff7b72}.h{fill:#ff7b72}\
.u0{fill:#3f78bd}.u1{fill:#c68f22}.u2{fill:#3f8f58}.u3{fill:#825db0}.u4{fill:#2a919b}\
.g{fill:#5d6671}}
";

/// The frame, and what stands outside the lanes.
const FRAME: &str = "\
svg{font:13px system-ui,sans-serif}.p{fill:#fff;stroke:#d0d7de;rx:6px}
@media(prefers-color-scheme:dark){.p{fill:#0d1117;stroke:#30363d}}
";

const MARGIN: f64 = 14.0;

/// The width of everything.
pub(super) const TOTAL: f64 = LEFT + WIDTH + MARGIN;

/// The whole file.
pub(crate) fn file(plan: &Plan, done: &[Done]) -> String {
    let mut body = String::new();
    let mut y = 8.0;
    for done in super::pictured(done) {
        y = run(&mut body, done, y);
    }
    y = legend(&mut body, plan, y);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {TOTAL} {y}\" role=\"img\" \
         aria-label=\"{}\">\n<style>\n{FRAME}{STYLE}</style>\n\
         {HEAD}<rect class=\"p\" x=\".5\" y=\".5\" width=\"{}\" height=\"{}\"/>\n{body}</svg>\n",
        described(done),
        TOTAL - 1.0,
        y - 1.0,
        y = short(y),
    )
}

/// Describes the picture, in a sentence for each run.
fn described(done: &[Done]) -> String {
    let runs = super::pictured(done).map(|done| format!("{}: {}", title(done), verdict(done).1));
    runs.collect::<Vec<_>>().join(" ")
}

pub(super) fn title(done: &Done) -> String {
    let executor = done.row.executor.split(',').next().unwrap_or_default();
    format!("{executor}, with a {}", done.row.kept_in)
}

/// The counts of the requests that are drawn, and the class of that sentence.
pub(super) fn verdict(done: &Done) -> (&'static str, String) {
    let count = |is: fn(&Seen) -> bool| done.seen.iter().filter(|seen| is(seen)).count();
    let all = done.seen.len();
    if done.seen.iter().all(Seen::is_clean) {
        let sentence = match all {
            1 => "The request began clean, kept its data, and was answered as who asked.".into(),
            _ => format!(
                "All {} requests began clean, kept their data, and were answered as who asked.",
                grouped(all)
            ),
        };
        return ("k", sentence);
    }
    let were = |number| format!("{} {}", grouped(number), if number == 1 { "was" } else { "were" });
    let (all, dirty) = (counted(all, "request"), grouped(count(Seen::began_dirty)));
    let (disturbed, wrong) = (were(count(Seen::disturbed)), were(count(Seen::misanswered)));
    (
        "r",
        format!(
            "Of {all}, {dirty} began with the data of another one, {disturbed} \
             disturbed while they waited, {wrong} answered as the wrong user."
        ),
    )
}

/// A run with its title, from `y` down. Returns where the next one may begin.
fn run(out: &mut String, done: &Done, y: f64) -> f64 {
    let (class, sentence) = verdict(done);
    text(out, "t", MARGIN, y + 20.0, &title(done));
    text(out, class, MARGIN, y + 39.0, &sentence);
    let layout = Layout::of(&done.seen);
    let top = y + 46.0;
    let _ = writeln!(out, "<g transform=\"translate(0 {})\">", short(top));
    lanes(out, &layout);
    for b in &layout.boxes {
        out.push_str(&request(b));
    }
    disturbed(out, &layout.boxes);
    arrows(out, &layout.arrows);
    out.push_str("</g>\n");
    top + layout.height + 14.0
}

/// The labels of the lanes, and the lines that they stand on.
pub(super) fn lanes(out: &mut String, layout: &Layout<'_>) {
    for lane in &layout.lanes {
        text(out, "d", MARGIN, lane.y - 5.0, &format!("worker {}", lane.worker));
        let _ = writeln!(out, "<path class=\"l\" d=\"M{LEFT} {}h{WIDTH}\"/>", short(lane.y));
    }
}

/// A box in the colour of who asked; half of it has that of the user the answer took it for.
pub(super) fn request(b: &Box<'_>) -> String {
    let (x, y, width, height) = (b.x, b.y, b.width, b.height);
    let mut rects = rect(user_class(b.seen.request.user), x, y, width, height);
    if b.seen.misanswered() {
        let class = format!("{} w", user_class(b.seen.answered));
        rects += &rect(&class, x + width / 2.0, y, width / 2.0, height);
    }
    rects
}

fn rect(class: &str, x: f64, y: f64, width: f64, height: f64) -> String {
    let (x, y, width, height) = (short(x), short(y), short(width), short(height));
    format!("<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"/>\n")
}

fn user_class(user: Option<&str>) -> &'static str {
    const CLASSES: [&str; USERS.len()] = ["u0", "u1", "u2", "u3", "u4"];
    let index = USERS.iter().position(|name| user == Some(name));
    index.map_or("g", |index| CLASSES[index])
}

/// A line under each box that was disturbed.
pub(super) fn disturbed(out: &mut String, boxes: &[Box<'_>]) {
    let mut lines = String::new();
    for b in boxes.iter().filter(|b| b.seen.disturbed()) {
        let _ = write!(lines, "M{}h{}", pair((b.x, b.y + b.height - 1.2)), short(b.width));
    }
    if !lines.is_empty() {
        let _ = writeln!(out, "<path class=\"b\" d=\"{lines}\"/>");
    }
}

/// What makes a line an arrow; once in a file.
pub(super) const HEAD: &str = "\
<marker id=\"m\" viewBox=\"0 0 5 5\" refX=\"2\" refY=\"2.5\" markerWidth=\"5\" markerHeight=\"5\" \
markerUnits=\"userSpaceOnUse\" orient=\"auto\"><path class=\"h\" d=\"M0 0L5 2.5 0 5z\"/></marker>";

pub(super) fn arrows(out: &mut String, arrows: &[Arrow]) {
    out.push_str("<g class=\"a\">");
    for Arrow { from, bend, to } in arrows {
        // The head reaches a little farther.
        let (dx, dy) = (to.0 - bend.0, to.1 - bend.1);
        let length = dx.hypot(dy).max(1e-9);
        let end = (to.0 - 3.0 * dx / length, to.1 - 3.0 * dy / length);
        let from_here = |(x, y): (f64, f64)| pair((x - from.0, y - from.1));
        let _ =
            writeln!(out, "<path d=\"M{}q{} {}\"/>", pair(*from), from_here(*bend), from_here(end));
    }
    out.push_str("</g>\n");
}

/// What colours, arrows and halves mean. Returns where the picture may end.
fn legend(out: &mut String, plan: &Plan, y: f64) -> f64 {
    let mut x = MARGIN;
    for user in USERS.into_iter().map(Some).chain([None]) {
        let label = user.unwrap_or("guest");
        out.push_str(&rect(user_class(user), x, y + 2.0, 14.0, 14.0));
        text(out, "d", x + 20.0, y + 13.5, label);
        x += 40.0 + 8.0 * label.len() as f64;
    }
    x += 10.0;
    out.push_str(&rect("g", x, y + 2.0, 8.0, 14.0));
    out.push_str(&rect("u1 w", x + 8.0, y + 2.0, 8.0, 14.0));
    text(out, "d", x + 24.0, y + 13.5, "a guest, answered as bob");
    let y = y + 23.0;
    let (from, to) = ((MARGIN, y + 14.0), (MARGIN + 26.0, y + 14.0));
    arrows(out, &[Arrow { from, bend: (MARGIN + 13.0, y - 3.0), to }]);
    text(out, "d", MARGIN + 34.0, y + 13.5, "one request left data that another one found");
    let x = 400.0;
    out.push_str(&rect("u0", x, y + 2.0, 26.0, 14.0));
    let _ = writeln!(out, "<path class=\"b\" d=\"M{x} {}h26\"/>", short(y + 14.8));
    let disturbed = "while it waited, its data changed or its cell was borrowed";
    text(out, "d", x + 34.0, y + 13.5, disturbed);
    let y = y + 23.0;
    let sentence = format!(
        "A box is a request; on top of another one, it ran while that one waited. Time runs to the \
         right, short requests are drawn wider. {}.",
        counted(plan.workers, "worker")
    );
    text(out, "d", MARGIN, y + 13.5, &sentence);
    y + 28.0
}

fn text(out: &mut String, class: &str, x: f64, y: f64, text: &str) {
    let _ = writeln!(
        out,
        "<text class=\"{class}\" x=\"{}\" y=\"{}\">{text}</text>",
        short(x),
        short(y)
    );
}

fn pair((x, y): (f64, f64)) -> String {
    format!("{} {}", short(x), short(y))
}

/// A number with at most one digit after the point.
pub(super) fn short(number: f64) -> String {
    // Zero has no sign here.
    let tenths = (number * 10.0).round() + 0.0;
    format!("{}", tenths / 10.0)
}
