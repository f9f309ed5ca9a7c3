//! The page, in a browser that nobody sees.

use std::process::{Command, Stdio};

use crate::program::{Service, ends};

/// The page as a browser has it after its script has run; `None` where there is no browser.
fn rendered(url: &str) -> Option<String> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let browser = names.into_iter().find(|name| {
        let mut version = Command::new(name);
        version.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        version.status().is_ok_and(|status| status.success())
    });
    let Some(browser) = browser else {
        eprintln!("skipped: there is no Chromium here");
        return None;
    };
    let profile = std::env::temp_dir().join(format!("web_service-{}", std::process::id()));
    let output = ends(
        Command::new(browser)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg(url),
    );
    drop(std::fs::remove_dir_all(profile));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).expect("a page is UTF-8"))
}

/// The texts of the cells of each row: request, asked as, answered as, worker, and what was left.
fn rows(page: &str) -> Vec<Vec<String>> {
    let table = page.split("<tbody>").nth(1).and_then(|rest| rest.split("</tbody>").next());
    let text_of = |cell: &str| {
        let text = cell.split_once('>').map_or("", |(_, text)| text);
        text.split('<').next().unwrap_or_default().to_owned()
    };
    let rows = table.expect("a table").split("<tr>").skip(1);
    rows.map(|row| row.replace("<th", "<td").split("<td").skip(1).map(text_of).collect()).collect()
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
    let Some(page) = rendered(&format!("http://{}/", service.address)) else { return };
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

    let leaky = rendered(&format!("http://{}/?leaky", service.address)).expect("a browser");
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
