//! The pool of the process. Each test has a process of its own.

use std::sync::Barrier;

use crate::support::{in_a_process_of_its_own, panic_of};
use cleanslate::{Pool, task_local};

task_local! { static SEEN: bool = false; }

fn alone(name: &str) -> bool {
    in_a_process_of_its_own(&format!("global::{name}"))
}

#[test]
fn the_first_call_builds_it_and_every_call_returns_the_same() {
    if !alone("the_first_call_builds_it_and_every_call_returns_the_same") {
        return;
    }
    let meet = Barrier::new(8);
    let pools: Vec<&'static Pool> = std::thread::scope(|s| {
        let call = || {
            meet.wait();
            Pool::global()
        };
        let threads: Vec<_> = (0..8).map(|_| s.spawn(call)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(pools.iter().all(|pool| std::ptr::eq(*pool, pools[0])));
    let processors = std::thread::available_parallelism().unwrap().get();
    assert_eq!(Pool::global().workers(), processors);
    assert!(Pool::global().map(0..1_000, |_| SEEN.replace(true)).iter().all(|dirty| !dirty));
    // Nested, as code does that reaches for it anywhere.
    let nested = Pool::global().submit(|| Pool::global().map(0..10, |n| n).len());
    assert_eq!(nested.join().unwrap(), 10);
    let error = Pool::builder().workers(1).build_global().unwrap_err();
    assert!(error.is_global() && !error.is_thread());
    assert_eq!(error.to_string(), "the global pool has been built already");
}

#[test]
fn it_can_be_built_once_in_ones_own_way() {
    if !alone("it_can_be_built_once_in_ones_own_way") {
        return;
    }
    // What fails leaves the place free.
    assert!(Pool::builder().workers(0).build_global().unwrap_err().is_no_workers());
    let builder = Pool::builder().workers(3).on_worker_start(|_| ());
    builder.require_worker_start(true).build_global().unwrap();
    assert_eq!(Pool::global().workers(), 3);
    assert!(Pool::builder().build_global().unwrap_err().is_global());
    assert_eq!(Pool::global().workers(), 3);
    Pool::global().shutdown().unwrap();
    assert!(panic_of(|| Pool::global().map(0..3, |n| n)).contains("shut down"));
}

#[test]
fn the_environment_says_how_many_workers_a_pool_has_by_default() {
    if !alone("the_environment_says_how_many_workers_a_pool_has_by_default") {
        return;
    }
    let processors = std::thread::available_parallelism().unwrap().get();
    let workers = |said: Option<&str>| {
        // The pools' threads do not read the environment, and there are no others but the test
        // harness's, which waits.
        #[expect(unsafe_code, reason = "changes the environment")]
        match said {
            // SAFETY: no other thread reads or writes it, see above.
            Some(said) => unsafe { std::env::set_var("CLEANSLATE_NUM_THREADS", said) },
            // SAFETY: the same.
            None => unsafe { std::env::remove_var("CLEANSLATE_NUM_THREADS") },
        }
        Pool::builder().build().map(|pool| pool.workers())
    };
    for many in ["100000", "99999999999999999999999"] {
        let error = workers(Some(many)).unwrap_err();
        assert!(error.is_too_many_workers(), "{error}");
        assert!(error.to_string().contains("CLEANSLATE_NUM_THREADS"), "{error}");
    }
    let workers = |said| workers(said).unwrap();
    assert_eq!((workers(Some("7")), workers(Some(" 7\n"))), (7, 7));
    for nonsense in [Some("0"), Some(""), Some("-1"), Some("many"), None] {
        assert_eq!(workers(nonsense), processors, "{nonsense:?}");
    }
    assert_eq!(workers(Some("5")), 5);
    assert_eq!(Pool::builder().workers(2).build().unwrap().workers(), 2);
    let asked = Pool::new(100_000).unwrap_err().to_string();
    assert!(!asked.contains("CLEANSLATE"), "{asked}");
    assert_eq!(Pool::global().workers(), 5);
}
