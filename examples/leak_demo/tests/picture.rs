//! The picture: what is drawn, that it is small, and that the file in `docs` is one.

use std::fs;

use serde_json::Value;

use crate::{demo, file};

/// Draws a run, and returns the picture in two parts: the leaking run, and the clean one with the
/// legend.
fn draw(name: &str, tasks: &str, workers: &str) -> (Value, String, String) {
    let path = file(name);
    let ran = demo(&["--json", "--tasks", tasks, "--workers", workers, "--svg", &path]);
    assert_eq!((ran.code, ran.err), (0, format!("wrote {path}\n")));
    let svg = fs::read_to_string(path).expect("the picture was written");
    assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n"), "{svg}");
    let numbers = serde_json::from_str(&ran.out).expect("the output is one JSON value");
    let (leaking, clean) = svg.split_once(">cleanslate, with a task_local!<").expect("two runs");
    (numbers, leaking.to_owned(), clean.to_owned())
}

#[test]
fn every_request_is_drawn_and_only_leaks_have_arrows() {
    for workers in ["1", "2", "5"] {
        let (numbers, leaking, clean) = draw(&format!("drawn-{workers}.svg"), "60", workers);
        // Besides the frame, those of the wrong users and, in the second part, those of the legend.
        let boxes = |part: &str| part.matches("<rect").count() - part.matches(" w\"").count();
        assert_eq!((boxes(&leaking), boxes(&clean)), (1 + 60, 60 + 8));
        let arrows = |part: &str| part.matches("<path d=\"M").count();
        let rayon = &numbers["rows"][1];
        assert_eq!(rayon["executor"], "rayon");
        let dirty = rayon["sequential"].as_u64().expect("a count") as usize;
        assert!(arrows(&leaking) >= dirty, "{} arrows for {dirty}", arrows(&leaking));
        // That of the legend.
        assert_eq!(arrows(&clean), 1);
        assert!(leaking.contains(&format!("Of 60 requests, {dirty} began with")), "{leaking}");
        assert!(clean.contains("All 60 requests began clean"), "{clean}");
        for part in [leaking, clean] {
            assert!(part.contains(">worker 1<"), "{part}");
        }
    }
}

#[test]
fn a_hundred_and_fifty_requests_are_below_sixty_kilobytes() {
    let (_, leaking, clean) = draw("small.svg", "400", "2");
    assert!(leaking.matches("<rect").count() >= 150);
    assert!(leaking.len() + clean.len() < 60_000, "{}", leaking.len() + clean.len());
}

#[test]
fn the_picture_needs_nothing_from_elsewhere_and_knows_the_dark() {
    let (_, leaking, clean) = draw("alone.svg", "20", "2");
    let svg = leaking + &clean;
    for foreign in ["<script", "@font-face", "@import", "url(h", "href"] {
        assert!(!svg.contains(foreign), "{foreign}");
    }
    assert_eq!(svg.matches("http").count(), 1, "only the name of the language");
    assert!(svg.contains("@media(prefers-color-scheme:dark)"));
}

#[test]
fn a_single_request_on_a_single_worker_is_drawn() {
    let (_, leaking, clean) = draw("one.svg", "1", "1");
    assert_eq!(leaking.matches("<rect").count(), 2, "the frame and a box: {leaking}");
    assert!(!leaking.contains("NaN") && !clean.contains("NaN"));
}

#[test]
fn the_picture_in_the_docs_is_one_of_these() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/leak.svg");
    let kept = fs::read_to_string(path).expect("the README shows it");
    let (_, leaking, clean) = draw("compared.svg", "60", "2");
    let frame = |svg: &str| {
        let style = svg.split("<style>").nth(1).unwrap_or_default();
        style.split("</style>").next().unwrap_or_default().to_owned()
    };
    assert_eq!(frame(&kept), frame(&leaking), "scripts/docs draws it anew");
    let end = |svg: &str| svg.rsplit("</g>").next().unwrap_or_default().len();
    assert!(end(&kept).abs_diff(end(&clean)) < 50, "scripts/docs draws it anew");
}
