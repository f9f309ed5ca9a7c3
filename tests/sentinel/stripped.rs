//! A program without symbols: what cleanslate keeps per thread is known by its address.

use std::cell::{Cell, RefCell};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use cleanslate::sentinel::{Inventory, Sentinel, watch};
use cleanslate::{Context, OwnedLocal, OwnedWorkerLocal, Pool, task_local, worker_local};

use crate::support::SHAPES;

const MARK: &str = "CLEANSLATE_TEST_STRIPPED";

/// Runs a test in a copy of this program that was stripped; returns whether this is the copy.
#[track_caller]
fn in_a_stripped_copy(name: &str) -> bool {
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let mut bytes = fs::read(std::env::current_exe().unwrap()).unwrap();
    // Without section headers there are no symbols; such a file still runs.
    bytes[0x28..0x30].fill(0);
    bytes[0x3C..0x40].fill(0);
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name.rsplit("::").next().unwrap());
    let changed = copy.with_extension("changed");
    fs::write(&changed, bytes).unwrap();
    // Copied by another process: what is started beside this test meanwhile would inherit the open
    // copy, and what is open to be written cannot be run ("text file busy").
    let mut run = Command::new("sh");
    run.args(["-c", "cp \"$1\" \"$0\" && chmod 755 \"$0\" && shift && exec \"$0\" \"$@\""])
        .args([&copy, &changed])
        .args([name, "--exact", "--nocapture"])
        .env(MARK, "");
    for _ in 0..10 {
        let output = run.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        if output.status.success() && text.contains("1 passed") {
            return false;
        }
        let said = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
        assert!(shows_only_a_wait_for_a_lock(&said), "{said}");
    }
    panic!("each time a thread had to wait for a lock");
}

/// Returns whether all that was left is what parking_lot notes of a thread that has had to wait for
/// a lock, which is rare. Rules by name cannot apply in a stripped program, but this one has names.
fn shows_only_a_wait_for_a_lock(said: &str) -> bool {
    let inventory = Inventory::read(std::env::current_exe().unwrap()).unwrap();
    let is_the_locks = |text: &str| {
        let digits = text.split(|c: char| !c.is_ascii_hexdigit()).next().unwrap_or_default();
        let at = usize::from_str_radix(digits, 16).unwrap();
        inventory.variables().iter().any(|variable| {
            let path = variable.path();
            let range = variable.offset()..variable.offset() + variable.size();
            path.starts_with("parking_lot_core::") && range.contains(&at)
        })
    };
    let mut places = said.split("+0x").skip(1).peekable();
    places.peek().is_some() && places.all(is_the_locks)
}

thread_local! { static TENANT: Cell<u64> = const { Cell::new(0) }; }

task_local! {
    static NUMBER: u64 = 0;
    static TEXT: String = String::new();
    #[inherit]
    static USER: Option<String> = None;
}

worker_local! { static BUFFER: RefCell<Vec<u8>> = RefCell::default(); }

fn pool(workers: usize) -> Pool {
    Pool::builder().workers(workers).sentinel(Sentinel::new().panic()).build().unwrap()
}

/// What is new here has to be named to the sentinel, in the `list` or `ignore` of its module:
/// without symbols nobody can tell it from what a task left.
#[test]
fn every_thread_local_of_cleanslate_is_named_to_the_sentinel() {
    let known = [
        "frame::permanent::native::END",
        "frame::permanent::keyed::BLOCK",
        "frame::permanent::keyed::END",
        "frame::thread::THREAD",
        "foreign::opentelemetry::BOTTOM",
        "pool::leaks::item::ITEM",
        "pool::leaks::watch::MODE",
        "pool::scheduler::current::HERE",
        "pool::scheduler::current::OUTER",
        "pool::scheduler::current::SLOT",
        "pool::scheduler::stack::STACK",
        "pool::scheduler::wait::SINCE",
        "pool::scheduler::wait::WAITS",
        "pool::scheduler::waiter::THIS_THREAD",
        "slot::instances::LIST",
        "slot::table::TABLE",
        // Not named, since they are put back whenever they are set.
        "foreign::attached::INNERMOST",
        "foreign::code::IN_CARRIER",
        "slot::instances::MAKING",
    ];
    let inventory = Inventory::read(std::env::current_exe().unwrap()).unwrap();
    for variable in inventory.variables() {
        if let Some(path) = variable.path().strip_prefix("cleanslate::") {
            assert!(known.contains(&path), "{path} is new");
        }
    }
}

#[test]
fn a_task_that_does_nothing_leaves_nothing() {
    if !in_a_stripped_copy("stripped::a_task_that_does_nothing_leaves_nothing") {
        return;
    }
    for workers in SHAPES {
        let pool = pool(workers);
        for n in 0..50 {
            assert_eq!(pool.submit(move || n).join().map_err(|e| e.to_string()), Ok(n));
        }
        assert_eq!(pool.map(0..50, |n| n).len(), 50);
        assert_eq!(pool.imap(0..50, |n| n).count(), 50);
        assert_eq!(pool.broadcast(|| ()).len(), workers);
        // And one that does something does.
        let error = pool.submit(|| TENANT.set(TENANT.get() + 1)).join().unwrap_err();
        assert!(error.message().unwrap().starts_with("1 thread-local was left changed"), "{error}");
    }
}

#[test]
fn slots_and_worker_locals_leave_nothing() {
    if !in_a_stripped_copy("stripped::slots_and_worker_locals_leave_nothing") {
        return;
    }
    let owned = Arc::new(OwnedLocal::new(|| 0_u64));
    let kept = Arc::new(OwnedWorkerLocal::new(Vec::<u64>::new));
    let use_all = move |n: u64| {
        NUMBER.set(n);
        TEXT.with_mut(|text| text.push_str("some text"));
        USER.set(Some("alice".to_owned()));
        BUFFER.with(|buffer| buffer.borrow_mut().push(1));
        owned.set(n);
        kept.with(|kept| kept.push(n));
    };
    for workers in SHAPES {
        let pool = Arc::new(pool(workers));
        for n in 0..20 {
            let (use_all, nested) = (use_all.clone(), Arc::clone(&pool));
            let task = move || {
                use_all(n);
                let inner = use_all.clone();
                nested.submit(move || inner(n)).join().unwrap();
                nested.map(0..3, use_all).len()
            };
            assert_eq!(pool.submit(task).join().map_err(|e| e.to_string()), Ok(3));
        }
    }
    // On threads of their own, where no pool has touched anything before.
    let clean = |use_all: &dyn Fn(u64), n| {
        let (_, report) = watch(|| use_all(n));
        assert!(report.is_clean(), "{report}");
    };
    std::thread::scope(|s| {
        s.spawn(|| {
            drop(watch(|| use_all(1)));
            clean(&use_all, 2);
        });
    });
    // Broke: the end of the thread's slots, which is noticed from their first use on, was news.
    let some = |n| Context::empty().run(|| NUMBER.set(n));
    std::thread::scope(|s| {
        s.spawn(|| (1..3).for_each(|n| clean(&some, n)));
    });
}

// Broke: the lists of who uses an owner had std's hasher, which counts the maps of a thread.
#[test]
fn an_owner_that_a_task_makes_leaves_nothing() {
    if !in_a_stripped_copy("stripped::an_owner_that_a_task_makes_leaves_nothing") {
        return;
    }
    let pool = pool(1);
    let make = || OwnedLocal::new(|| 1_u8).get() + OwnedWorkerLocal::new(|| 1_u8).with(|n| *n);
    for _ in 0..5 {
        assert_eq!(pool.submit(make).join().map_err(|e| e.to_string()), Ok(2));
    }
}
