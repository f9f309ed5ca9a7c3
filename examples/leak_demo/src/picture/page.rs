//! The page: the table, and the two runs request by request. It needs no other file.

use std::fmt::Write as _;

use super::args::Plan;
use super::findings::name;
use super::job::{PARTS, Seen};
use super::layout::{Box, Lane, Layout};
use super::rows::{Done, PICTURED, kept_promise};
use super::table::{COLUMNS, counted, grouped};
use super::{json, svg};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The whole file.
pub(crate) fn file(plan: &Plan, done: &[Done]) -> String {
    let mut body = String::new();
    table(&mut body, done);
    let shown = plan.tasks.min(PICTURED);
    let _ = write!(
        body,
        "<h2>The first {} on two of them</h2>\n\
         <p>A box is a request, in the colour of its user; on top of another one, it ran while \
         that one waited. Time runs to the right, and short requests are drawn wider. A red arrow \
         leads from the request that left data to the one that found it. A box of two colours was \
         answered as the wrong user. A red line below a box: while it waited, its data changed or \
         its cell was borrowed.</p>\n\
         <p>Point at a request to see what it found. With the keyboard: Tab to a run, then the \
         arrow keys.</p>\n",
        counted(shown, "request")
    );
    for (index, done) in super::pictured(done).enumerate() {
        figure(&mut body, done, index);
    }
    let verdict = if kept_promise(done) {
        "<p class=\"kept\">No request with declared or adopted state saw the data of another.</p>"
    } else {
        "<p class=\"broken\">cleanslate leaked: that is a bug.</p>"
    };
    // Spelled this way, which JSON allows, `<` cannot end the script that contains it.
    let numbers = json::object(plan, done).to_string().replace('<', "\\u003c");
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>Who sees whose data?</title>\n<style>\n{}{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <h1>Who sees whose data?</h1>\n\
         <p>The same {} ran on each executor, on {}. A request looks who is \
         logged in, writes its own user and number, runs {PARTS} parts in parallel and looks \
         again. It keeps that in a thread-local, as much code does. Nobody should see anybody \
         else.</p>\n\
         {verdict}\n{body}</main>\n<div id=\"tip\" role=\"tooltip\" hidden></div>\n\
         <script type=\"application/json\" id=\"numbers\">{numbers}</script>\n\
         <script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        svg::STYLE,
        counted(plan.tasks, "request"),
        counted(plan.workers, "worker"),
    )
}

fn table(out: &mut String, done: &[Done]) {
    out.push_str("<div class=\"wide\"><table id=\"executors\">\n<thead><tr>");
    for column in COLUMNS {
        let _ = write!(out, "<th scope=\"col\">{column}</th>");
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for Done { row, tally, .. } in done {
        let _ = write!(out, "<tr><th scope=\"row\">{}</th><td>{}</td>", row.executor, row.kept_in);
        for count in [tally.began_dirty, tally.disturbed, tally.misanswered] {
            let class = if count == 0 { "none" } else { "some" };
            let _ = write!(out, "<td class=\"{class}\">{}</td>", grouped(count));
        }
        let _ = writeln!(out, "<td>{}</td></tr>", grouped(tally.per_second() as usize));
    }
    out.push_str("</tbody>\n</table></div>\n");
}

/// A run: the picture, whose boxes can be reached one by one, and the same as a list.
fn figure(out: &mut String, done: &Done, index: usize) {
    let layout = Layout::of(&done.seen);
    let (class, sentence) = svg::verdict(done);
    let class = if class == "k" { "kept" } else { "broken" };
    let _ = write!(
        out,
        "<figure>\n<figcaption id=\"run{index}\"><b>{}</b><br><span class=\"{class}\">{sentence}\
         </span></figcaption>\n<div class=\"wide\"><svg viewBox=\"0 0 {} {}\" role=\"group\" \
         aria-labelledby=\"run{index}\">\n",
        svg::title(done),
        svg::TOTAL,
        svg::short(layout.height + 4.0),
    );
    if index == 0 {
        out.push_str(svg::HEAD);
    }
    svg::lanes(out, &layout);
    let mut first = true;
    for lane in &layout.lanes {
        let _ = writeln!(out, "<g role=\"list\" aria-label=\"worker {}\">", lane.worker);
        for b in in_time(&layout, lane) {
            request(out, b, first);
            first = false;
        }
        out.push_str("</g>\n");
    }
    svg::disturbed(out, &layout.boxes);
    svg::arrows(out, &layout.arrows);
    out.push_str("</svg></div>\n");
    list(out, done);
    out.push_str("</figure>\n");
}

fn in_time<'l, 's>(layout: &'l Layout<'s>, lane: &Lane) -> Vec<&'l Box<'s>> {
    let here = |b: &&Box<'_>| b.seen.place.worker == lane.worker;
    let mut boxes: Vec<_> = layout.boxes.iter().filter(here).collect();
    boxes.sort_by_key(|b| b.seen.began);
    boxes
}

/// One box that can be pointed at and focused, and that tells what it found.
fn request(out: &mut String, b: &Box<'_>, first: bool) {
    let seen = b.seen;
    let _ = write!(
        out,
        "<g class=\"q\" role=\"listitem\" tabindex=\"{}\" aria-label=\"{}: {}\"",
        if first { 0 } else { -1 },
        name(seen.request),
        findings(seen),
    );
    let _ = write!(out, " data-number=\"{}\"", seen.request.number);
    if let Some(from) = seen.found_of() {
        let _ = write!(out, " data-from=\"{from}\"");
    }
    let _ = writeln!(out, ">{}</g>", svg::request(b));
}

fn findings(seen: &Seen) -> String {
    let findings: Vec<_> = seen.all().collect();
    let answered = seen.request.user.unwrap_or("a guest");
    match findings[..] {
        [] => format!("began clean; was answered as {answered}"),
        _ if seen.misanswered() => findings.join("; "),
        _ => format!("{}; was answered as {answered}", findings.join("; ")),
    }
}

/// What the picture shows, for those who would rather read or search it.
fn list(out: &mut String, done: &Done) {
    out.push_str(
        "<details><summary>The same as a list</summary>\n<div class=\"wide\"><table>\n<thead><tr>\
         <th scope=\"col\">request</th><th scope=\"col\">worker</th><th scope=\"col\">what it found\
         </th></tr></thead>\n<tbody>\n",
    );
    for seen in &done.seen {
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td></tr>",
            name(seen.request),
            seen.place.worker,
            findings(seen),
        );
    }
    out.push_str("</tbody>\n</table></div>\n</details>\n");
}
