//! The page at `/`: the last requests, who ran them, and what leaked.

use std::fmt::Write as _;

use super::cli::counted;
use super::history::Entry;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page of one way, with its requests, the newest first.
pub(crate) fn page(entries: &[Entry], is_leaky: bool) -> String {
    let (title, about, query) = match is_leaky {
        false => (
            "Each request is a task",
            "The layer <code>IsolateLayer</code> makes a task of each request, and the pool of \
             each computation. Slots begin fresh; what is inherited is handed down.",
            "",
        ),
        true => (
            "Requests leak",
            "Without the layer, and on a pool that does not reset anything, what one request \
             leaves on a thread is there for the next one.",
            "?leaky",
        ),
    };
    let leaks = entries.iter().filter(|entry| leaked(entry)).count();
    let mixed = entries.iter().filter(|entry| entry.asked_as != *entry.answered_as).count();
    let mut rows = String::new();
    for entry in entries {
        row(&mut rows, entry);
    }
    let [clean_now, leaky_now] =
        [!is_leaky, is_leaky].map(|is_it| if is_it { " aria-current=\"page\"" } else { "" });
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <nav><a href=\"/\"{clean_now}>with tasks</a> \
         <a href=\"/?leaky\"{leaky_now}>leaky</a></nav>\n\
         <h1>{title}</h1>\n<p>{about}</p>\n\
         <p id=\"verdict\" class=\"{class}\">Of the last {count}, {leaks} found what \
         another one had left, and {mixed} {were} answered as somebody else.</p>\n\
         <p><button type=\"button\" data-path=\"/work{query}\">Send 40 requests</button> <span \
         role=\"status\"></span></p>\n\
         <div class=\"wide\"><table>\n<thead><tr><th scope=\"col\">request</th>\
         <th scope=\"col\">asked as</th><th scope=\"col\">answered as</th>\
         <th scope=\"col\">ran on</th><th scope=\"col\">left on the runtime's thread</th>\
         <th scope=\"col\">left on the worker</th></tr></thead>\n<tbody>\n\
         {rows}</tbody>\n</table></div>\n</main>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        class = if leaks + mixed == 0 { "good" } else { "bad" },
        count = counted(entries.len(), "request"),
        were = if mixed == 1 { "was" } else { "were" },
    )
}

fn leaked(entry: &Entry) -> bool {
    entry.found_on_runtime.is_some() || entry.found_on_worker.is_some()
}

fn row(rows: &mut String, entry: &Entry) {
    let is_mixed = entry.asked_as != *entry.answered_as;
    let class = if is_mixed { " class=\"bad\"" } else { "" };
    let _ = write!(
        rows,
        "<tr><th scope=\"row\">{}</th><td>{}</td><td{class}>{}</td><td>{}</td>",
        entry.id,
        escaped(&entry.asked_as),
        escaped(&entry.answered_as),
        escaped(&entry.worker),
    );
    for found in [&entry.found_on_runtime, &entry.found_on_worker] {
        match found {
            Some(left) => {
                let _ = write!(rows, "<td class=\"bad\">{}</td>", escaped(left));
            }
            None => rows.push_str("<td class=\"good\">nothing</td>"),
        }
    }
    rows.push_str("</tr>\n");
}

/// Names come from whoever asks.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
