//! Which runtime a task is in, if the carrier of runtimes says so.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::spawn::{look_often, runtimes};
use crate::support::{OnDrop, in_a_process_of_its_own, panic_of, quiet, while_unwinding};
use cleanslate::foreign::{Scoped, ScopedCarrier, install};
use cleanslate::tokio::{RuntimeCarrier, spawn};
use cleanslate::{Context, Pool};
use tokio::runtime::{Builder, Handle};

fn is_in_one() -> bool {
    Handle::try_current().is_ok()
}

#[expect(clippy::mem_forget, reason = "what is tested")]
fn forget(entered: tokio::runtime::EnterGuard<'_>) {
    std::mem::forget(entered);
}

#[test]
fn a_task_of_a_pool_spawns_on_the_runtime_it_was_submitted_from() {
    let pool = Pool::builder().workers(1).carry(Scoped(RuntimeCarrier)).build().unwrap();
    for runtime in runtimes() {
        let id = runtime.handle().id();
        runtime.block_on(async {
            assert_eq!(pool.submit(|| Handle::current().id()).await.unwrap(), id);
            let mapped = pool.map(0..10, |_| Handle::current().id());
            assert!(mapped.iter().all(|found| *found == id));
            let spawned = pool.submit(|| spawn(look_often())).await.unwrap();
            assert_eq!(spawned.await.unwrap().1, 0);
        });
    }
    assert!(pool.submit(|| Handle::try_current().is_err()).join().unwrap());
}

#[test]
fn no_item_of_a_map_is_in_a_runtime_that_another_one_forgot() {
    quiet();
    let [own, other] =
        [1, 1].map(|n| Builder::new_multi_thread().worker_threads(n).build().unwrap());
    let pool = Pool::builder().workers(1).carry(Scoped(RuntimeCarrier)).build().unwrap();
    let wrong = AtomicUsize::new(0);
    let check = || {
        let is_own = Handle::current().id() == own.handle().id();
        wrong.fetch_add(usize::from(!is_own), Ordering::SeqCst);
    };
    let _entered = own.enter();
    let failed = panic_of(|| {
        pool.map(0..100, |n| {
            check();
            if n == 20 {
                forget(other.enter());
            }
        })
    });
    assert!(failed.contains("carrier `tokio runtime`"), "{failed}");
    pool.map(0..100, |_| check());
    assert_eq!((wrong.into_inner(), pool.stats().workers), (0, 1));
}

#[test]
fn a_runtime_that_a_task_forgot_is_in_none_that_has_no_runtime() {
    quiet();
    let other = Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let pool = Pool::builder().workers(1).carry(Scoped(RuntimeCarrier)).build().unwrap();
    for pool in [&pool, &pool.detached()] {
        let handle = other.handle().clone();
        let failed = pool.submit(move || forget(handle.enter())).join().unwrap_err();
        assert!(failed.to_string().contains("carrier `tokio runtime`"), "{failed}");
        assert!(!pool.submit(is_in_one).join().unwrap(), "its worker was replaced");
    }

    let wrong = AtomicUsize::new(0);
    let failed = panic_of(|| {
        pool.map(0..100, |n| {
            wrong.fetch_add(usize::from(is_in_one()), Ordering::SeqCst);
            if n == 20 {
                forget(other.enter());
            }
        })
    });
    assert!(failed.contains("carrier `tokio runtime`"), "{failed}");
    assert!(!pool.submit(is_in_one).join().unwrap(), "its worker was replaced, too");
    assert_eq!((wrong.into_inner(), pool.stats().renewed), (0, 3));
}

#[test]
fn a_task_that_stays_in_the_runtime_which_it_found_is_no_failure() {
    let runtime = Builder::new_current_thread().build().unwrap();
    let outside = Context::empty().carry(Scoped(RuntimeCarrier));
    let _entered = runtime.enter();
    let inside = Context::empty().carry(Scoped(RuntimeCarrier));
    for context in [outside, inside] {
        assert_eq!(context.try_run(|| Handle::current().id()).unwrap(), runtime.handle().id());
    }
}

// Broke: tokio does not look whether its guards go in order while the thread unwinds.
#[test]
fn a_runtime_that_a_task_forgot_fails_it_also_where_the_thread_unwinds_below() {
    let [own, other] = [(); 2].map(|()| Builder::new_current_thread().build().unwrap());
    let outside = Context::empty().carry(Scoped(RuntimeCarrier));
    let entered = own.enter();
    let inside = Context::empty().carry(Scoped(RuntimeCarrier));
    drop(entered);
    for context in [outside, inside] {
        let forgets = || context.try_run(|| forget(other.enter()));
        let on_a_thread_of_its_own = || while_unwinding(forgets).unwrap_err();
        let error = std::thread::scope(|s| s.spawn(on_a_thread_of_its_own).join().unwrap());
        assert!(error.is_cleanup(), "{error}");
    }
}

#[test]
fn a_task_that_leaves_a_runtime_which_it_found_leaves_none_behind() {
    let runtime = Builder::new_current_thread().build().unwrap();
    let outside = Context::empty().carry(Scoped(RuntimeCarrier));
    let entered = runtime.enter();
    let inside = Context::empty().carry(Scoped(RuntimeCarrier));
    outside.try_run(|| drop(entered)).unwrap();
    let entered = runtime.enter();
    inside.try_run(|| drop(entered)).unwrap();
    assert!(!is_in_one());
    let handle = Some(runtime.handle().clone());
    assert!(!RuntimeCarrier.reattach(&handle), "nor may a task follow that is to be in it");
}

#[test]
fn a_future_that_comes_too_late_for_its_runtime_is_dropped_in_it() {
    let name = "runtime::a_future_that_comes_too_late_for_its_runtime_is_dropped_in_it";
    if !in_a_process_of_its_own(name) {
        return;
    }
    install(Scoped(RuntimeCarrier)).unwrap();
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    std::panic::set_hook(Box::new(|_| {
        PANICS.fetch_add(1, Ordering::SeqCst);
    }));
    for runtime in runtimes() {
        let handle = runtime.handle().clone();
        drop(runtime);
        let _entered = handle.enter();
        let (tell, told) = std::sync::mpsc::channel();
        // tokio drops it while nobody can enter a runtime.
        let at_drop = OnDrop::new(move || tell.send(Handle::current().id()).unwrap());
        let spawned = spawn(async move { drop(at_drop) });
        assert!(spawned.is_finished());
        assert_eq!((told.recv(), PANICS.load(Ordering::SeqCst)), (Ok(handle.id()), 0));
    }
}

#[test]
fn an_installed_runtime_goes_along_with_tasks_of_pools() {
    let name = "runtime::an_installed_runtime_goes_along_with_tasks_of_pools";
    if !in_a_process_of_its_own(name) {
        return;
    }
    install(Scoped(RuntimeCarrier)).unwrap();
    let pool = Pool::new(1).unwrap();
    assert!(!pool.submit(is_in_one).join().unwrap());
    let runtime = Builder::new_current_thread().build().unwrap();
    let entered = runtime.enter();
    assert!(pool.submit(is_in_one).join().unwrap());
    drop(entered);
    assert!(!pool.submit(is_in_one).join().unwrap(), "afterwards, on the same worker");
}
