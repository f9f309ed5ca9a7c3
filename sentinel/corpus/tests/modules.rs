//! Shared libraries that come and go, and files without symbols.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, UNIX_EPOCH};

use cleanslate_sentinel::{Report, Sentinel, ignore, watch};
use sentinel_corpus::{Library, on_fresh_thread};

fn names(report: &Report) -> Vec<&str> {
    report.leaks().iter().map(|leak| leak.path().expect("a named leak")).collect()
}

fn built(name: &str) -> PathBuf {
    Path::new(env!("CORPUS_LIBRARIES")).join(format!("libcorpus_{name}.so"))
}

/// A copy that no other test has loaded.
fn copy(name: &str, to: &str) -> PathBuf {
    let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join(to);
    // A new file in its place: the old one may still be mapped.
    drop(fs::remove_file(&to));
    fs::copy(built(name), &to).unwrap();
    // The clock of the file system is too coarse for a test to tell one build from the next.
    static BUILDS: AtomicU64 = AtomicU64::new(1);
    let built = UNIX_EPOCH + Duration::from_secs(BUILDS.fetch_add(1, Ordering::Relaxed));
    fs::File::options().write(true).open(&to).unwrap().set_modified(built).unwrap();
    to
}

#[test]
fn a_library_loaded_by_the_task_itself_is_seen() {
    on_fresh_thread(|| {
        let file = copy("opened", "libloaded_by_task.so");
        let (library, report) = watch(|| {
            let library = Library::open_file(&file);
            library.setter("opened_set_hidden")(5);
            library
        });
        assert_eq!(names(&report), ["opened_hidden"]);
        assert_eq!(report.leaks()[0].module(), "libloaded_by_task.so");
        let (_, report) = watch(|| library.setter("opened_set_initialised")(6));
        assert_eq!(names(&report), ["opened_initialised"]);
        let leak = &report.leaks()[0];
        assert_eq!(leak.before(), 17_u64.to_ne_bytes());
        assert_eq!(leak.after(), 6_u64.to_ne_bytes());
    });
}

#[test]
fn a_first_use_that_leaves_the_initial_value_is_no_leak() {
    on_fresh_thread(|| {
        let library = Library::open_file(&copy("opened", "libinitial.so"));
        let (_, report) = watch(|| {
            // Gives this thread its block, with the values that it starts with.
            library.setter("opened_set_initialised")(17);
            library.setter("opened_set_hidden")(0);
        });
        assert!(report.is_clean(), "{report}");
    });
}

#[test]
fn a_library_that_the_task_unloads_is_no_leak_and_is_not_read() {
    on_fresh_thread(|| {
        for round in 1..=20 {
            let library = Library::open_file(&copy("opened", "libunloaded.so"));
            library.setter("opened_set_exported")(round);
            let (_, report) = watch(|| {
                library.setter("opened_set_exported")(round + 100);
                drop(library);
                // Brings this thread's list of blocks up to date, which frees the old one.
                let other = Library::open_file(&copy("opened", "libother.so"));
                other.setter("opened_set_hidden")(round);
            });
            // The other one is unloaded as well, or, if the C library keeps it, named.
            assert!(report.leaks().iter().all(|it| it.module() == "libother.so"), "{report}");
        }
    });
}

#[test]
fn the_first_use_of_a_library_that_the_thread_has_heard_of_is_seen() {
    on_fresh_thread(|| {
        let library = Library::open_file(&copy("opened", "libheard_of.so"));
        // The thread hears of both, and gets a block of one.
        let other = Library::open_file(&copy("opened", "libother_heard_of.so"));
        other.setter("opened_set_hidden")(1);
        let (_, report) = watch(|| library.setter("opened_set_hidden")(2));
        assert_eq!(names(&report), ["opened_hidden"]);
    });
}

#[test]
fn what_is_ignored_by_the_task_that_loads_a_library_is_left_out_at_once() {
    thread_local! { static OWN: Cell<u64> = const { Cell::new(0) }; }
    on_fresh_thread(|| {
        let (library, report) = watch(|| {
            ignore(|ignored| ignored.key(&OWN));
            OWN.set(1);
            let library = Library::open_file(&copy("opened", "libignores.so"));
            library.setter("opened_set_hidden")(3);
            library
        });
        assert_eq!(names(&report), ["opened_hidden"]);
        drop(library);
    });
}

#[test]
fn what_is_left_of_a_library_that_the_task_unloads_is_no_leak() {
    on_fresh_thread(|| {
        let library = Library::open_file(&copy("opened", "libleft.so"));
        library.setter("opened_set_exported")(1);
        // The thread keeps the block until it hears of the next library.
        let (_, report) = watch(|| {
            library.setter("opened_set_exported")(2);
            drop(library);
        });
        assert!(report.is_clean(), "{report}");
    });
}

#[test]
fn watching_goes_on_while_another_thread_loads_and_unloads() {
    /// Ends the other thread also if the test fails, or the scope would wait for it for ever.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let stop = AtomicBool::new(false);
    let file = copy("opened", "libbusy.so");
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let library = Library::open_file(&file);
                library.setter("opened_set_exported")(1);
            }
        });
        std::thread::scope(|inner| {
            for _ in 0..2 {
                inner.spawn(|| {
                    let library = Library::open("shared");
                    let set = library.setter("shared_set_hidden");
                    for round in 1..=500 {
                        let (_, clean) = watch(|| ());
                        assert!(clean.is_clean(), "{clean}");
                        let (_, report) = watch(|| set(round));
                        assert_eq!(names(&report), ["shared_hidden"]);
                    }
                });
            }
        });
    });
}

#[test]
fn what_a_library_held_is_not_put_down_to_a_task_when_its_file_is_read_anew() {
    on_fresh_thread(|| {
        let file = copy("opened", "libread_anew.so");
        let library = Library::open_file(&file);
        library.setter("opened_set_initialised")(5);
        let mut watcher = Sentinel::new().watcher().unwrap();
        watcher.begin();
        // Another build of the same file would have another time.
        let later = UNIX_EPOCH + Duration::from_secs(1 << 20);
        fs::File::options().write(true).open(&file).unwrap().set_modified(later).unwrap();
        let other = Library::open_file(&copy("opened", "libsets_it_off.so"));
        other.setter("opened_set_hidden")(1);
        let report = watcher.finish().expect("a leak");
        assert_eq!(report.leaks().len(), 1, "{report}");
        assert_eq!(report.leaks()[0].module(), "libsets_it_off.so");
        // And what is left after the file is gone as well is still known, by its name.
        watcher.begin();
        fs::remove_file(&file).unwrap();
        let third = Library::open_file(&copy("opened", "libsets_it_off_again.so"));
        third.setter("opened_set_hidden")(0);
        library.setter("opened_set_initialised")(6);
        let report = watcher.finish().expect("a leak");
        let [leak] = report.leaks() else { panic!("{report}") };
        assert_eq!((leak.module(), leak.path()), ("libread_anew.so", Some("opened_initialised")));
        assert_eq!((leak.before()[0], leak.after()[0]), (5, 6));
    });
}

#[test]
fn a_library_that_is_loaded_again_where_it_was_starts_anew() {
    // The new block lies where the old one was, and nothing else tells the two apart. These were
    // reported as changes, once in some ten thousand tasks beside threads that load and unload.
    on_fresh_thread(|| {
        let file = copy("opened", "libagain.so");
        let mut watcher = Sentinel::new().watcher().unwrap();
        let mut library = Library::open_file(&file);
        for round in 1..=50 {
            library.setter("opened_set_initialised")(round + 100);
            watcher.begin();
            assert!(watcher.finish().is_none());
            drop(library);
            library = Library::open_file(&file);
            watcher.begin();
            // The first use on this thread, and the value that it has anyway.
            library.setter("opened_set_initialised")(17);
            let report = watcher.finish();
            assert!(report.is_none(), "round {round}: {}", report.unwrap());
            watcher.begin();
            library.setter("opened_set_initialised")(round + 200);
            assert_eq!(names(&watcher.finish().expect("a leak")), ["opened_initialised"]);
        }
    });
}

#[test]
fn a_library_with_the_last_number_that_a_thread_has_room_for_keeps_its_past() {
    // The linker does not tell of such a block while there are loads that the thread has not heard
    // of. What it held was put down to the task that made the thread hear of them.
    on_fresh_thread(|| {
        let mut libraries = Vec::new();
        for number in 0..20 {
            let library = Library::open_file(&copy("opened", &format!("libnumber_{number}.so")));
            library.setter("opened_set_initialised")(5);
            libraries.push(library);
            let unheard = Library::open_file(&copy("opened", &format!("libunheard_{number}.so")));
            let mut watcher = Sentinel::new().watcher().unwrap();
            watcher.begin();
            unheard.setter("opened_set_initialised")(17);
            let report = watcher.finish();
            assert!(report.is_none(), "after {number}: {}", report.unwrap());
        }
    });
}

#[test]
fn a_rebuilt_library_in_the_same_place_gets_its_new_names() {
    on_fresh_thread(|| {
        for (value, name) in [(3, "opened"), (4, "shared"), (5, "opened")] {
            let library = Library::open_file(&copy(name, "libreloaded.so"));
            let set = library.setter(&format!("{name}_set_hidden"));
            let (_, report) = watch(|| set(value));
            assert_eq!(names(&report), [format!("{name}_hidden")]);
        }
    });
}

#[test]
fn a_file_replaced_while_loaded_gives_no_wrong_names() {
    on_fresh_thread(|| {
        let file = copy("opened", "libreplaced.so");
        let library = Library::open_file(&file);
        fs::remove_file(&file).unwrap();
        fs::copy(std::env::current_exe().unwrap(), &file).unwrap();
        let (_, report) = watch(|| library.setter("opened_set_hidden")(4));
        let [leak] = report.leaks() else { panic!("{report}") };
        assert_eq!((leak.path(), leak.module()), (None, "libreplaced.so"));
        // A file that is gone altogether.
        let gone = copy("opened", "libgone.so");
        let library = Library::open_file(&gone);
        fs::remove_file(&gone).unwrap();
        let (_, report) = watch(|| library.setter("opened_set_hidden")(4));
        let [leak] = report.leaks() else { panic!("{report}") };
        assert_eq!((leak.path(), leak.module()), (None, "libgone.so"));
    });
}

#[test]
fn a_stripped_library_is_reported_by_module_and_offset() {
    on_fresh_thread(|| {
        let library = Library::open("stripped");
        library.setter("stripped_set_hidden")(1);
        let (_, report) = watch(|| library.setter("stripped_set_hidden")(2));
        let [leak] = report.leaks() else { panic!("{report}") };
        assert_eq!((leak.path(), leak.crate_name()), (None, None));
        assert_eq!(leak.module(), "libcorpus_stripped.so");
        assert_eq!((leak.before()[0], leak.after()[0]), (1, 2));
        assert!(leak.to_string().starts_with("libcorpus_stripped.so+0x"), "{leak}");
        assert!(report.to_string().contains("libcorpus_stripped.so has no symbols"), "{report}");
        // What it exports has a name even so.
        let (_, report) = watch(|| library.setter("stripped_set_exported")(2));
        assert_eq!(names(&report), ["stripped_exported"]);
        let lenient = Sentinel::new().allow("module:libcorpus_stripped.so");
        let (_, report) = lenient.watch(|| library.setter("stripped_set_hidden")(3));
        assert!(report.is_clean(), "{report}");
    });
}

#[test]
fn a_library_whose_block_comes_with_the_thread_is_seen_by_threads_that_start_later() {
    for name in ["early", "described"] {
        let hidden = format!("{name}_hidden");
        let setter = format!("{name}_set_hidden");
        let (loaded, is_loaded) = mpsc::channel::<Library>();
        let (back, library) = mpsc::channel();
        let set = setter.clone();
        let early = std::thread::spawn(move || {
            assert!(watch(|| ()).1.is_clean());
            let library = is_loaded.recv().unwrap();
            // The documented blind spot: glibc does not tell where this thread's block is.
            let (_, report) = watch(|| library.setter(&set)(2));
            assert!(report.is_clean(), "{report}");
            back.send(library).unwrap();
        });
        loaded.send(Library::open_file(&copy(name, &format!("lib{name}_copy.so")))).unwrap();
        let library = library.recv().unwrap();
        early.join().unwrap();
        on_fresh_thread(|| {
            let (_, report) = watch(|| library.setter(&setter)(2));
            assert_eq!(names(&report), [hidden]);
        });
    }
}
