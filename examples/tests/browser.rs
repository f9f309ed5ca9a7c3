//! Pages in a headless browser.

use std::process::{Command, Stdio};

use crate::patience::ends;

/// The page as a browser has it after its script has run, or `None` if there is no browser.
/// `profile` is a folder for the browser's own files.
pub(crate) fn rendered(url: &str, profile: &str) -> Option<String> {
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
    let output = ends(
        Command::new(browser)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
            .arg(format!("--user-data-dir={profile}"))
            .arg(url),
    );
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).expect("a page is UTF-8"))
}

/// The texts of the cells of each row between two tags.
pub(crate) fn cells(page: &str, start: &str, end: &str) -> Vec<Vec<String>> {
    let table = page.split(start).nth(1).and_then(|rest| rest.split(end).next());
    let text_of = |cell: &str| {
        let text = cell.split_once('>').map_or("", |(_, text)| text);
        text.split('<').next().unwrap_or_default().to_owned()
    };
    let rows = table.expect("a table").split("<tr>").skip(1);
    rows.map(|row| row.replace("<th", "<td").split("<td").skip(1).map(text_of).collect()).collect()
}
