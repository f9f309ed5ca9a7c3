//! The page, in a headless browser.

use crate::browser::{cells, rendered};
use crate::service::Service;

/// The texts of the cells of each row: request, asked as, answered as, worker, and what was left.
fn rows(page: &str) -> Vec<Vec<String>> {
    cells(page, "<tbody>", "</tbody>")
}

#[test]
fn the_page_shows_who_ran_where_and_what_leaked() {
    let Some(service) = Service::start() else { return };
    for path in ["/work", "/work?leaky"] {
        for n in 0..40 {
            let user = format!("<{n}>");
            let user = (n % 4 != 0).then_some(user.as_str());
            assert!(service.get(path, user).expect("an answer").starts_with("HTTP/1.1 200"));
        }
    }
    let profile = concat!(env!("CARGO_TARGET_TMPDIR"), "/web_service.profile");
    let rendered = |query: &str| rendered(&format!("http://{}/{query}", service.address), profile);
    let Some(page) = rendered("") else { return };
    assert!(!page.contains("data-error"), "{page}");
    assert!(
        page.contains("Of the last 40 requests, 0 found what another one had left, and 0 were")
    );
    let clean = rows(&page);
    assert_eq!(clean.len(), 40);
    for (n, row) in clean.iter().rev().enumerate() {
        let asked = if n % 4 == 0 { "anonymous".to_owned() } else { format!("&lt;{n}&gt;") };
        assert_eq!((&row[1], &row[2]), (&asked, &asked));
        assert!(row[3].starts_with("clean-"), "{row:?}");
        assert_eq!(row[4..], ["nothing", "nothing"]);
    }

    let leaky = rendered("?leaky").expect("a browser");
    assert!(!leaky.contains("data-error"), "{leaky}");
    let rows = rows(&leaky);
    assert_eq!(rows.len(), 40);
    assert!(rows.iter().all(|row| row[3].starts_with("leaky-")), "{rows:?}");
    assert!(rows.iter().any(|row| row[4].starts_with("request ")), "{rows:?}");
    assert!(rows.iter().any(|row| row[5].starts_with("request ")), "{rows:?}");
    assert!(rows.iter().any(|row| row[1] == "anonymous" && row[2] != "anonymous"), "{rows:?}");
    assert!(leaky.contains("id=\"verdict\" class=\"bad\""));
    let lines = service.stop("INT");
    assert_eq!(lines.last().map(String::as_str), Some("stopped"));
}
