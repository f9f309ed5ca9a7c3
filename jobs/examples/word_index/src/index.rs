//! The work: reads a document, indexes its words, writes the index.
//!
//! Nothing here is passed the tenant: the slots say whose documents these are.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cleanslate::Pool;

use crate::{STOP_WORDS, TENANT};

/// The document of this name, of the tenant at hand.
pub(crate) fn document(documents: &Path, name: &str) -> PathBuf {
    documents.join(TENANT.get()).join(format!("{name}.txt"))
}

fn index_of(documents: &Path, name: &str) -> PathBuf {
    documents.join(TENANT.get()).join(format!("{name}.index"))
}

/// Indexes one document, its paragraphs in parallel.
pub(crate) fn index(documents: &Path, name: &str, pool: &Pool) -> io::Result<usize> {
    let text = fs::read_to_string(document(documents, name))?;
    let mut index = BTreeMap::<_, usize>::new();
    // Each is a task of its own and inherits the tenant's stop words.
    for words in pool.map(text.split("\n\n"), words) {
        for word in words {
            *index.entry(word).or_default() += 1;
        }
    }
    let mut page = format!("the words of {name}, for {}\n", TENANT.get());
    for (word, count) in &index {
        page += &format!("{word} {count}\n");
    }
    fs::write(index_of(documents, name), page)?;
    Ok(index.len())
}

/// The words of a paragraph that count for this tenant.
fn words(paragraph: &str) -> Vec<String> {
    STOP_WORDS.with(|left_out| {
        let words = paragraph.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase);
        words.filter(|word| !word.is_empty() && !left_out.contains(word)).collect()
    })
}

/// Whether the index of a document is there and of the right tenant: its own words are in it, and
/// those that the tenant has left out are not.
pub(crate) fn is_right(documents: &Path, name: &str, other: &str) -> io::Result<bool> {
    let page = fs::read_to_string(index_of(documents, name))?;
    let tenant = TENANT.get();
    let has = |word: &str| page.lines().skip(1).any(|line| line.starts_with(&format!("{word} ")));
    let left_out = STOP_WORDS.with(|words| words.iter().any(|word| has(word)));
    let heading = format!("the words of {name}, for {tenant}\n");
    Ok(page.starts_with(&heading) && has(&tenant) && !has(other) && !left_out)
}
