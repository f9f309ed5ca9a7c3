//! `sentinel::watch`: what it finds, names and lets pass on one thread and on many.

#![cfg(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

mod assertions;
mod watchers;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Barrier, mpsc};
use std::thread;

use cleanslate_sentinel::{self as sentinel, Report, Sentinel};

thread_local! {
    static TENANT: Cell<u64> = const { Cell::new(7) };
    static USER: RefCell<Option<String>> = const { RefCell::new(None) };
    static LAZY: RefCell<Vec<u32>> = RefCell::new(vec![1, 2, 3]);
    static OTHER: Cell<u8> = const { Cell::new(0) };
}

fn paths(report: &Report) -> Vec<&str> {
    report.leaks().iter().map(|leak| leak.path().expect("this binary has symbols")).collect()
}

#[test]
fn a_leak_is_named_with_its_bytes_before_and_after() {
    let (value, report) = sentinel::watch(|| {
        TENANT.set(9);
        "value"
    });
    assert_eq!(value, "value");
    assert!(!report.is_clean());
    assert!(report.unsupported().is_none());
    let [leak] = report.leaks() else { panic!("{report}") };
    assert_eq!(leak.path(), Some("watch::TENANT"));
    assert_eq!(leak.crate_name(), Some("watch"));
    assert!(leak.module().starts_with("watch-"), "{}", leak.module());
    assert!(leak.module_path().ends_with(leak.module()));
    assert_eq!(leak.size(), 8);
    assert_eq!(leak.before(), 7_u64.to_ne_bytes());
    assert_eq!(leak.after(), 9_u64.to_ne_bytes());
    assert_eq!(leak.changed_bytes(), 1);
    assert!(leak.is_first_touch());
    let line = leak.to_string();
    assert!(line.starts_with("watch::TENANT: 1 of 8 bytes changed at its first touch"));
    assert_eq!(line.lines().count(), 1);
}

#[test]
fn values_behind_every_kind_of_declaration_are_found() {
    let (_, report) = sentinel::watch(|| {
        USER.set(Some("alice".to_owned()));
        LAZY.with_borrow_mut(|lazy| lazy.push(4));
        OTHER.set(1);
    });
    let mut found = paths(&report);
    found.sort_unstable();
    assert_eq!(found, ["watch::LAZY", "watch::OTHER", "watch::USER"]);
}

#[test]
fn what_is_put_back_or_was_there_before_is_no_leak() {
    TENANT.set(1);
    USER.set(Some("bob".to_owned()));
    let (_, report) = sentinel::watch(|| {
        TENANT.set(2);
        assert_eq!(USER.with_borrow(|user| user.clone()).as_deref(), Some("bob"));
        TENANT.set(1);
    });
    assert!(report.is_clean(), "{report}");
}

#[test]
fn the_second_leak_of_a_thread_local_is_found_and_is_no_first_touch() {
    let (_, first) = sentinel::watch(|| TENANT.set(100));
    let (_, same) = sentinel::watch(|| TENANT.set(100));
    let (_, second) = sentinel::watch(|| TENANT.set(200));
    assert!(first.leaks()[0].is_first_touch());
    assert!(same.is_clean());
    assert!(!second.leaks()[0].is_first_touch());
}

#[test]
fn std_may_do_its_work() {
    let work = || {
        println!("a line, which the test harness captures");
        let mut map = HashMap::new();
        map.insert(String::from("key"), vec![0_u8; 100_000]);
        drop(std::fs::read("/does/not/exist"));
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || sender.send(1)).join().unwrap().unwrap();
        assert!(catch_unwind(|| std::panic::resume_unwind(Box::new(1))).is_err());
        let _ = thread::current().id();
        receiver.recv().unwrap()
    };
    for _ in 0..3 {
        let (one, report) = sentinel::watch(work);
        assert_eq!(one, 1);
        assert!(report.is_clean(), "{report}");
    }
}

#[test]
fn nested_watches_each_see_their_own_part() {
    let ((_, inner), outer) = sentinel::watch(|| {
        TENANT.set(50);
        sentinel::watch(|| OTHER.set(60))
    });
    assert_eq!(paths(&inner), ["watch::OTHER"]);
    let mut all = paths(&outer);
    all.sort_unstable();
    assert_eq!(all, ["watch::OTHER", "watch::TENANT"]);
}

#[test]
fn deep_nesting_works() {
    fn nest(depth: u64) -> usize {
        if depth == 0 {
            return 0;
        }
        let (below, report) = sentinel::watch(|| {
            TENANT.set(depth + 1000);
            nest(depth - 1)
        });
        assert_eq!(paths(&report), ["watch::TENANT"]);
        below + report.leaks().len()
    }
    assert_eq!(nest(12), 12);
}

#[test]
fn a_panic_passes_through_and_the_next_watch_works() {
    let caught = catch_unwind(|| {
        sentinel::watch(|| {
            TENANT.set(70);
            std::panic::resume_unwind(Box::new("payload"));
        })
    });
    assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"payload"));
    let (_, report) = sentinel::watch(|| TENANT.set(71));
    assert_eq!(paths(&report), ["watch::TENANT"]);
}

#[test]
fn a_panic_caught_inside_is_reported_on() {
    let (caught, report) = sentinel::watch(AssertUnwindSafe(|| {
        catch_unwind(|| {
            TENANT.set(72);
            std::panic::resume_unwind(Box::new(()));
        })
    }));
    assert!(caught.is_err());
    assert_eq!(paths(&report), ["watch::TENANT"]);
}

#[test]
fn threads_watch_at_once_and_see_only_themselves() {
    const THREADS: u64 = 8;
    let barrier = Barrier::new(THREADS as usize);
    thread::scope(|scope| {
        for number in 0..THREADS {
            let barrier = &barrier;
            scope.spawn(move || {
                barrier.wait();
                for round in 1..=200 {
                    let leaks = (number + round) % 2 == 0;
                    let (_, report) = sentinel::watch(|| {
                        if leaks {
                            TENANT.set(number * 1000 + round);
                        }
                    });
                    assert_eq!(report.leaks().len(), usize::from(leaks), "{report}");
                }
            });
        }
    });
}

#[test]
fn a_value_under_a_live_mutable_borrow_is_read_without_touching_it() {
    LAZY.with_borrow_mut(|lazy| {
        let (_, report) = sentinel::watch(|| lazy.push(99));
        assert_eq!(paths(&report), ["watch::LAZY"]);
        assert_eq!(lazy.last(), Some(&99));
    });
}

#[test]
fn another_thread_may_write_to_a_lent_thread_local_meanwhile() {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    thread_local! { static LENT: AtomicU64 = const { AtomicU64::new(0) }; }
    /// Ends the other thread also if the test fails, or the scope would wait for it for ever.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let stop = AtomicBool::new(false);
    LENT.with(|lent| {
        thread::scope(|scope| {
            let _stop = Stop(&stop);
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    lent.fetch_add(1, Ordering::Relaxed);
                }
            });
            while lent.load(Ordering::Relaxed) == 0 {
                thread::yield_now();
            }
            let mut seen = 0;
            while seen < 10 {
                let (_, report) = sentinel::watch(|| {
                    let before = lent.load(Ordering::Relaxed);
                    while lent.load(Ordering::Relaxed) < before + 1000 {
                        thread::yield_now();
                    }
                });
                let [leak] = report.leaks() else { panic!("{report}") };
                assert!(leak.path().is_some_and(|path| path.ends_with("::LENT")), "{leak}");
                seen += 1;
            }
        });
    });
}

#[test]
fn watching_works_in_a_destructor_at_the_end_of_a_thread() {
    struct AtExit(mpsc::Sender<(u32, usize, bool)>);
    impl Drop for AtExit {
        fn drop(&mut self) {
            let (value, report) = sentinel::watch(|| {
                TENANT.set(80);
                5
            });
            let (_, clean) = sentinel::watch(|| ());
            let _ = self.0.send((value, report.leaks().len(), clean.is_clean()));
        }
    }
    thread_local! { static AT_EXIT: RefCell<Option<AtExit>> = const { RefCell::new(None) }; }

    for watch_first in [false, true] {
        let (sender, receiver) = mpsc::channel();
        let body = move || {
            // Destructors run in reverse order of registration: one watcher dies before us, the
            // other after us.
            if watch_first {
                assert!(sentinel::watch(|| ()).1.is_clean());
            }
            AT_EXIT.set(Some(AtExit(sender)));
            assert!(sentinel::watch(|| ()).1.is_clean());
        };
        thread::spawn(body).join().unwrap();
        assert_eq!(receiver.recv(), Ok((5, 1, true)), "watch_first = {watch_first}");
    }
}

#[test]
fn rules_of_a_user_allow_by_name_crate_and_first_touch() {
    let all = || {
        TENANT.with(|tenant| tenant.set(tenant.get() + 1));
        OTHER.with(|other| other.set(other.get() + 1));
    };
    let (_, report) = Sentinel::new().allow("watch::TENANT").watch(all);
    assert_eq!(paths(&report), ["watch::OTHER"]);
    let (_, report) = Sentinel::new().allow("watch").watch(all);
    assert!(report.is_clean(), "{report}");
    let (_, report) = Sentinel::new().allow("module:watch-*").watch(all);
    assert!(report.is_clean(), "{report}");
    let (_, report) = Sentinel::new().allow("*::NOTHING").watch(all);
    assert_eq!(report.leaks().len(), 2);

    thread::spawn(move || {
        let once = Sentinel::new().allow_first_touch("*::TENANT").allow_first_touch("*::OTHER");
        assert!(once.watch(all).1.is_clean());
        assert_eq!(once.watch(all).1.leaks().len(), 2);
    })
    .join()
    .unwrap();
    thread::spawn(move || {
        let once = Sentinel::new().allow_first_touch("module:watch-*");
        assert!(once.watch(all).1.is_clean());
        assert_eq!(once.watch(all).1.leaks().len(), 2);
    })
    .join()
    .unwrap();
}

#[test]
fn what_is_ignored_is_left_out_by_address_and_nothing_else_is() {
    thread_local! {
        static OWN: Cell<u64> = const { Cell::new(0) };
        static OWN_WITH_DROP: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
        static PART: (Cell<u64>, Cell<u64>) = const { (Cell::new(0), Cell::new(0)) };
        static NOT_OWN: Cell<u64> = const { Cell::new(0) };
    }
    let all = || {
        OWN.set(OWN.get() + 1);
        OWN_WITH_DROP.with_borrow_mut(|it| it.push(1));
        PART.with(|it| it.1.set(it.1.get() + 1));
        NOT_OWN.set(NOT_OWN.get() + 1);
    };
    let watchers = [Sentinel::new(), Sentinel::strict().allow("module:libc.so*")];
    // A watcher of before, and one whose first task brings all of it to life.
    let mut early = Sentinel::new().watcher().unwrap();
    early.begin();
    sentinel::ignore(|ignored| {
        ignored.key(&OWN);
        ignored.key(&OWN_WITH_DROP);
        // A part stands for the whole where it has a name.
        PART.with(|it| ignored.value(&it.0));
    });
    all();
    let only = |report: &Report| {
        let [path] = paths(report)[..] else { panic!("{report}") };
        assert!(path.ends_with("::NOT_OWN"), "{path}");
    };
    only(&early.finish().unwrap());
    // What it has learnt holds for the next task.
    early.begin();
    all();
    only(&early.finish().unwrap());
    for sentinel in watchers {
        only(&sentinel.watch(all).1);
        thread::spawn(move || only(&sentinel.watch(all).1)).join().unwrap();
    }
}

// Broke: whatever lay at its address was left out.
#[test]
fn a_value_without_bytes_hides_no_neighbour() {
    thread_local! { static HIDDEN: [Cell<u64>; 2] = const { [Cell::new(0), Cell::new(0)] }; }
    sentinel::ignore(|ignored| HIDDEN.with(|hidden| ignored.value(&hidden[..0])));
    let (_, report) = sentinel::watch(|| HIDDEN.with(|hidden| hidden[0].set(1)));
    assert_eq!(report.leaks().len(), 1, "{report}");
}

#[test]
fn a_list_that_panics_costs_nothing_but_itself() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::panic_any("the payload's drop");
        }
    }
    thread_local! {
        static BEFORE: Cell<u64> = const { Cell::new(0) };
        static PANICS: Cell<bool> = const { Cell::new(false) };
    }
    sentinel::ignore(|ignored| {
        ignored.key(&BEFORE);
        if PANICS.get() {
            std::panic::resume_unwind(Box::new(Bomb));
        }
    });
    for panics in [false, true, false] {
        PANICS.set(panics);
        let (_, report) = sentinel::watch(|| {
            BEFORE.set(BEFORE.get() + 1);
            TENANT.set(TENANT.get() + 1);
        });
        assert_eq!(paths(&report), ["watch::TENANT"]);
    }
}

#[test]
fn watches_inside_of_a_watch_leave_nothing() {
    // Their idle watchers are kept in a thread-local.
    let (_, report) = sentinel::watch(|| {
        for _ in 0..3 {
            assert!(sentinel::watch(|| sentinel::watch(|| ())).1.is_clean());
        }
    });
    assert!(report.is_clean(), "{report}");
}

#[test]
fn adding_a_rule_leaves_the_sentinel_it_was_cloned_from_alone() {
    let strict = Sentinel::new();
    let lenient = strict.clone().allow("watch::TENANT");
    let leak = || TENANT.with(|tenant| tenant.set(tenant.get() + 1));
    assert!(lenient.watch(leak).1.is_clean());
    assert_eq!(strict.watch(leak).1.leaks().len(), 1);
    assert!(lenient.watch(leak).1.is_clean());
}

#[test]
fn the_table_has_a_row_for_each_leak_in_aligned_columns() {
    let (_, report) = sentinel::watch(|| {
        TENANT.set(95);
        OTHER.set(96);
    });
    let table = report.to_string();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 4, "{table}");
    assert_eq!(lines[0], "2 thread-locals were left changed:");
    let column = lines[1].find("module").unwrap();
    for (line, leak) in lines[2..].iter().zip(report.leaks()) {
        assert!(line.contains(leak.path().unwrap()), "{table}");
        assert!(line[column..].starts_with(leak.module()), "{table}");
    }
    assert_eq!(sentinel::watch(|| ()).1.to_string(), "no thread-local was left changed");
}

#[test]
fn the_rest_of_a_changed_value_is_shown_honestly_by_debug() {
    let (_, report) = sentinel::watch(|| OTHER.set(0xAB));
    let debug = format!("{report:?}");
    assert!(debug.contains("watch::OTHER") && debug.contains("171"), "{debug}");
}

#[test]
fn try_watch_runs_the_closure_once() {
    let runs = Cell::new(0);
    let result = sentinel::try_watch(|| runs.set(runs.get() + 1));
    assert!(result.is_ok_and(|(_, report)| report.is_clean()));
    assert_eq!(runs.get(), 1);
}

#[test]
fn errors_are_errors_that_can_cross_threads() {
    fn is_error<E: std::error::Error + Send + Sync + 'static>() {}
    is_error::<sentinel::Unsupported>();
    is_error::<sentinel::InventoryError>();
    is_error::<sentinel::WatchError<fn()>>();
    fn is_shared<T: Send + Sync>() {}
    is_shared::<Report>();
    is_shared::<Sentinel>();
}

#[test]
fn a_probe_finds_what_no_bytes_show_and_names_it_once() {
    thread_local! {
        static LEVEL: Box<Cell<u64>> = Box::new(Cell::new(0));
        static CALLS: Cell<u32> = const { Cell::new(0) };
    }
    let read = || {
        CALLS.set(CALLS.get() + 1);
        LEVEL.with(|level| level.get())
    };
    let sentinel = Sentinel::new().probe("the level", read);
    // The probe touches both thread-locals first, and changes one of them each time.
    let (_, report) = sentinel.watch(|| ());
    assert!(report.is_clean(), "{report}");
    let (_, report) = sentinel.watch(|| LEVEL.with(|level| level.set(7)));
    assert_eq!(paths(&report), ["the level"]);
    let [leak] = report.leaks() else { panic!("{report}") };
    assert!(leak.is_probe() && !leak.is_first_touch());
    assert_eq!((leak.module(), leak.crate_name()), ("probe", None));
    assert_eq!((leak.before(), leak.after()), (&[0; 8][..], &7_u64.to_ne_bytes()[..]));
    assert_eq!(leak.to_string(), "the level: changed from 0 to 7");
    let (_, report) = sentinel.watch(|| LEVEL.with(|level| level.set(level.replace(8))));
    assert!(report.is_clean(), "{report}");
    assert_eq!(CALLS.get(), 6);
    // It comes after what the bytes show.
    let (_, report) = sentinel.watch(|| {
        TENANT.set(TENANT.get() + 1);
        LEVEL.with(|level| level.set(9));
    });
    assert_eq!(paths(&report), ["watch::TENANT", "the level"]);
}

#[test]
fn a_probe_that_panics_before_or_after_compares_nothing_and_hides_nothing() {
    thread_local! { static FAILS: Cell<bool> = const { Cell::new(false) }; }
    let read = || if FAILS.get() { std::panic::resume_unwind(Box::new(())) } else { 1 };
    let sentinel = Sentinel::new().allow("*::FAILS").probe("fails", read);
    for fails in [true, true, false] {
        let (_, report) = sentinel.watch(|| FAILS.set(fails));
        assert!(report.is_clean(), "{report}");
    }
    FAILS.set(true);
    let (_, report) = sentinel.watch(|| TENANT.set(TENANT.get() + 1));
    assert_eq!(paths(&report), ["watch::TENANT"]);
}

#[test]
fn a_rule_that_matches_nothing_is_named_and_no_other() {
    TENANT.set(1);
    let sentinel = Sentinel::new()
        .allow("*::TENANT")
        .allow("*::TENNANT")
        .allow_first_touch("watch::")
        .allow_first_touch("wach")
        .allow("module:libc.so*")
        .allow("module:libcc.so*");
    assert_eq!(sentinel.unused_rules().unwrap(), ["*::TENNANT", "wach", "module:libcc.so*"]);
    assert!(Sentinel::new().unused_rules().unwrap().is_empty());
}
