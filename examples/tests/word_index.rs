//! The word index reads what it can, and lists the rest.

#[path = "../word_index/main.rs"]
#[expect(dead_code, reason = "`main` is for the program")]
mod example;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::program::{Ran, call, spawn};

fn index(args: &[&str]) -> Ran {
    call(args, |args, out, err| example::run(args, false, out, err))
}

/// A directory of its own for each test, gone afterwards.
struct Tree(PathBuf);

impl Tree {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("word-index-{}-{number}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("a directory can be made");
        Self(path)
    }

    fn with(self, file: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.0.join(file);
        fs::create_dir_all(path.parent().expect("it is in the tree")).expect("made");
        fs::write(path, content).expect("a file can be written");
        self
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("the path is Unicode")
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

/// The line of a word: how often, in how many files, and where first.
#[track_caller]
fn line<'r>(ran: &'r Ran, word: &str) -> Vec<&'r str> {
    let found = ran.out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut lines = found.filter(|fields| fields.first() == Some(&word));
    lines.next().unwrap_or_else(|| panic!("no line for `{word}`:\n{}", ran.out))
}

#[test]
fn words_are_counted_over_all_files_and_placed_in_the_first() {
    let tree = Tree::new()
        .with("a.txt", "nothing here\nClean slate, clean\n")
        .with("b/c.txt", "slate\r\nCLEAN")
        .with("target/out.txt", "slate slate slate")
        .with(".git/config", "slate slate slate");
    for workers in ["1", "2", "7"] {
        let ran = index(&["--workers", workers, tree.path()]);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""));
        let first = format!("{}/a.txt:2", tree.path());
        assert_eq!(line(&ran, "clean"), ["clean", "3", "2", &first]);
        assert_eq!(line(&ran, "slate"), ["slate", "2", "2", &first]);
    }
}

#[test]
fn every_place_is_that_of_its_own_file() {
    let mut tree = Tree::new();
    for number in 0..200 {
        let before = "\n".repeat(number);
        tree = tree.with(&format!("{number}.txt"), format!("{before}word{number}"));
    }
    let ran = index(&["--workers", "3", "--top", "1000", tree.path()]);
    for number in 0..200 {
        let place = format!("{}/{number}.txt:{}", tree.path(), number + 1);
        assert_eq!(line(&ran, &format!("word{number}"))[3], place);
    }
}

#[test]
fn odd_files_are_listed_and_cost_nothing_else() {
    let long = "x".repeat(3_000_000);
    let tree = Tree::new()
        .with("bad.txt", b"fine\nnot \xff fine\n")
        .with("binary", b"some\0bytes")
        .with("empty", "")
        .with("good.txt", "survivor")
        .with("long.txt", format!("survivor {long} survivor"));
    let ran = index(&[tree.path()]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(line(&ran, "survivor")[1..3], ["3", "2"]);
    for listed in
        ["bad.txt:2: not UTF-8", "binary:1: binary", "long.txt:1: a word of 3000000 letters"]
    {
        assert!(ran.err.contains(listed), "{listed}:\n{}", ran.err);
    }
    // Broke: the lists came before the table, for whatever reads that.
    assert!(ran.out.starts_with("word "), "{}", ran.out);
    assert!(ran.out.contains("in 3 files"), "{}", ran.out);
    assert!(ran.out.contains("passed over 2;"), "{}", ran.out);
}

/// The first 256 MiB of each were read, by all workers at a time.
#[test]
fn a_file_that_is_too_long_is_not_read() {
    let tree = Tree::new().with("short.txt", "word");
    fs::File::create(tree.0.join("long.txt")).unwrap().set_len(1 << 33).unwrap();
    let ran = index(&[tree.path()]);
    assert_eq!(ran.code, 0);
    assert!(ran.err.contains("long.txt: longer than 256 MiB"), "{}", ran.err);
    assert!(ran.out.contains("\n1 word in 1 file, "), "{}", ran.out);
}

#[cfg(unix)]
#[test]
fn names_of_files_do_not_talk_to_the_terminal() {
    let tree = Tree::new().with("a\u{1b}[31m\n.txt", "found").with("ä\u{7}", "word\0");
    let ran = index(&[tree.path()]);
    assert_eq!(ran.code, 0);
    let place = format!(r"{}/a\u{{1b}}[31m\n.txt:1", tree.path());
    assert_eq!(line(&ran, "found")[3], place);
    assert!(ran.err.contains(r"ä\u{7}:1: binary"), "{}", ran.err);
}

#[cfg(unix)]
#[test]
fn links_are_neither_followed_in_circles_nor_counted_twice() {
    use std::os::unix::fs::symlink;

    let tree = Tree::new().with("in/a.txt", "once").with("in/z.txt", "other");
    let at = |path: &str| tree.0.join(path);
    symlink("..", at("in/up")).expect("linked");
    symlink("a.txt", at("in/same")).expect("linked");
    symlink("itself", at("in/itself")).expect("linked");
    symlink("nowhere", at("in/dangling")).expect("linked");
    let inner = at("in");
    let ran = index(&[tree.path(), inner.to_str().expect("Unicode"), tree.path()]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(line(&ran, "once")[1..3], ["1", "1"]);
    assert!(ran.err.contains("in/up: a symbolic link to a directory"), "{}", ran.err);
    assert!(ran.err.contains("in/itself: "), "{}", ran.err);
    assert!(ran.err.contains("in/dangling: "), "{}", ran.err);
}

#[test]
fn a_path_that_does_not_exist_is_said_and_exits_1() {
    let tree = Tree::new().with("a.txt", "present");
    let missing = format!("{}/nowhere", tree.path());
    let ran = index(&[&missing, tree.path()]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("nowhere: "), "{}", ran.err);
    assert_eq!(line(&ran, "present")[1], "1");
}

#[test]
fn the_top_is_cut_and_the_lists_are_unless_all_are_asked_for() {
    let mut tree = Tree::new().with("a.txt", "one two two three three three");
    for number in 0..30 {
        tree = tree.with(&format!("binary{number}"), [0]);
    }
    let ran = index(&["--top=2", tree.path()]);
    assert!(ran.out.contains("\nthree") && ran.out.contains("\ntwo"), "{}", ran.out);
    assert!(!ran.out.contains("\none"), "{}", ran.out);
    assert!(ran.err.contains("and 20 more"), "{}", ran.err);
    assert!(!index(&["--all", tree.path()]).err.contains(" more "));
}

#[test]
fn bad_arguments_get_the_usage_and_exit_2() {
    for args in [
        &["--top"][..],
        &["--top", "x"],
        &["--workers", "0"],
        &["--al"],
        &["-x"],
        &["--top=1", "--top=2"],
        &["--all", "--all"],
        &["docs", ""],
    ] {
        let ran = index(args);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{args:?}");
        assert!(ran.err.contains("usage: word_index"), "{args:?}: {}", ran.err);
    }
    assert_eq!(index(&["--help"]).code, 0);
    assert_eq!(index(&["--", "--no-such-file"]).code, 1);
}

#[test]
fn the_program_indexes_the_crate_itself_and_draws_nothing_when_piped() {
    let Some(ran) = spawn("word_index", &[]) else { return };
    assert_eq!(ran.code, 0);
    assert!(!ran.err.contains('\x1b'), "{}", ran.err);
    assert!(ran.out.contains("\nthe "), "{}", ran.out);
    assert!(!ran.out.contains('\x1b'), "{}", ran.out);
}
