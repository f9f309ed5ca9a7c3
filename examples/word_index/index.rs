//! Reads a file and notes its words.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use super::place::{self, Place, Remark};
use super::walk::Skipped;

/// Larger files are passed over: each is read as a whole.
const MOST_BYTES: u64 = 256 << 20;
/// Shorter words are not indexed.
const LEAST_LETTERS: usize = 3;
/// Longer words are remarked on but not indexed: they are encoded data.
const MOST_LETTERS: usize = 64;

/// How often a word occurs, and where first.
#[derive(Debug)]
pub(super) struct Uses {
    pub(super) count: usize,
    pub(super) files: usize,
    pub(super) first: Place,
}

/// The words of one file.
#[derive(Debug)]
pub(super) struct Indexed {
    words: HashMap<String, Uses>,
    remarks: Vec<Remark>,
    bytes: usize,
}

/// The words of all files.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) words: HashMap<String, Uses>,
    pub(super) remarks: Vec<Remark>,
    pub(super) skipped: Vec<Skipped>,
    pub(super) files: usize,
    pub(super) bytes: usize,
    pub(super) took: Duration,
}

/// Indexes one file: the whole of a task.
pub(super) fn file(path: &Path) -> Result<Indexed, Skipped> {
    place::open(path);
    let bytes = read(path).map_err(|error| skipped(error.to_string()))?;
    let mut words = HashMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        place::next_line();
        note_line(line, &mut words).map_err(skipped)?;
    }
    Ok(Indexed { words, remarks: place::remarks(), bytes: bytes.len() })
}

fn skipped(why: String) -> Skipped {
    Skipped { place: place::here(), why }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut bytes = Vec::new();
    // A file whose length says that it is too long costs no memory.
    if file.metadata()?.len() <= MOST_BYTES {
        // The length may be wrong for a file that grows, or for those in /proc.
        file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 <= MOST_BYTES {
            return Ok(bytes);
        }
    }
    Err(io::Error::other(format!("longer than {} MiB", MOST_BYTES >> 20)))
}

fn note_line(line: &[u8], words: &mut HashMap<String, Uses>) -> Result<(), String> {
    if line.contains(&0) {
        return Err("binary".to_owned());
    }
    let line = std::str::from_utf8(line).map_err(|_| "not UTF-8".to_owned())?;
    for word in line.split(|letter: char| !letter.is_alphanumeric() && letter != '_') {
        note_word(word, words);
    }
    Ok(())
}

fn note_word(word: &str, words: &mut HashMap<String, Uses>) {
    let letters = word.chars().count();
    if letters < LEAST_LETTERS || !word.contains(char::is_alphabetic) {
        return;
    }
    if letters > MOST_LETTERS {
        place::remark(format!("a word of {letters} letters"));
        return;
    }
    match words.entry(word.to_lowercase()) {
        Entry::Occupied(mut known) => known.get_mut().count += 1,
        Entry::Vacant(new) => {
            new.insert(Uses { count: 1, files: 1, first: place::here() });
        }
    }
}

impl Index {
    /// Puts together what the tasks made. `start` is when the search for the files began.
    pub(super) fn merge(
        indexed: Vec<Result<Indexed, Skipped>>,
        skipped: Vec<Skipped>,
        start: Instant,
    ) -> Self {
        let (words, remarks) = (HashMap::new(), Vec::new());
        let mut index = Self { words, remarks, skipped, files: 0, bytes: 0, took: Duration::ZERO };
        for file in indexed {
            match file {
                Ok(file) => index.add(file),
                Err(skipped) => index.skipped.push(skipped),
            }
        }
        index.took = start.elapsed();
        index
    }

    fn add(&mut self, file: Indexed) {
        self.files += 1;
        self.bytes += file.bytes;
        self.remarks.extend(file.remarks);
        for (word, uses) in file.words {
            match self.words.entry(word) {
                // The files come in order, so what is known came first.
                Entry::Occupied(mut known) => {
                    known.get_mut().count += uses.count;
                    known.get_mut().files += 1;
                }
                Entry::Vacant(new) => {
                    new.insert(uses);
                }
            }
        }
    }

    /// The most frequent words; of equally frequent ones the first in the alphabet.
    pub(super) fn top(&self, count: usize) -> Vec<(&str, &Uses)> {
        let mut all: Vec<_> = self.words.iter().map(|(word, uses)| (word.as_str(), uses)).collect();
        all.sort_unstable_by(|(a, x), (b, y)| y.count.cmp(&x.count).then_with(|| a.cmp(b)));
        all.truncate(count);
        all
    }
}
