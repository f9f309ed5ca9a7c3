//! The claim: no task sees what another one left in a slot, whatever way it came to its thread.
//!
//! Built with `--cfg cleanslate_no_reset` every test in this file fails; CI makes sure of it.

#[path = "../support/mod.rs"]
mod support;

mod games;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{SHAPES, message, on_a_thread, panic_of, quiet};
use cleanslate::future::FutureExt;
use cleanslate::{Context, JoinHandle, OwnedLocal, Pool, isolated, isolated_in, task_local};
use futures_lite::future::{block_on, yield_now};

/// Tasks in each burst. A pool that resets between batches leaks in bursts only.
const BURST: usize = 20_000;

task_local! {
    static NUMBER: u64 = 0;
    static TEXT: String = String::new();
    static LIST: Vec<u64> = Vec::new();
    #[inherit]
    static TENANT: u64 = 0;
}

/// What the tasks of a burst touch, for some of them in turn: values of one kind alone are undone
/// in ways of their own.
static VISITS: AtomicUsize = AtomicUsize::new(0);

/// A task of a burst: says whether it found the slots that it touches fresh, and leaves something
/// in each.
fn visit() -> bool {
    // Relaxed: any number will do.
    match VISITS.fetch_add(1, Ordering::Relaxed) / 16 % 4 {
        0 => NUMBER.replace(1) == 0 && NUMBER.get() == 1,
        1 => TENANT.replace(1) == 0 && TENANT.get() == 1,
        2 => LIST.with_mut(|list| {
            list.push(1);
            list.len() == 1
        }),
        _ => visit_in(0),
    }
}

/// A task that touches all of them, and inherits a tenant, 1, or none, 0.
fn visit_in(tenant: u64) -> bool {
    let fresh = NUMBER.replace(1) == 0
        && TEXT.replace("left behind".to_owned()).is_empty()
        && TENANT.replace(1) == tenant
        && LIST.with_mut(|list| {
            list.push(1);
            list.len() == 1
        });
    fresh && NUMBER.get() == 1 && TENANT.get() == 1
}

/// The same, and every eighth one ends by a panic.
fn visit_or_panic(n: usize) -> bool {
    let fresh = visit();
    assert!(n % 8 != 0, "{}", if fresh { "fresh, on purpose" } else { "dirty, on purpose" });
    fresh
}

/// Returns what the slots hold, and touches none.
fn left() -> (Option<u64>, Option<u64>, Option<Vec<u64>>) {
    let number = NUMBER.is_set().then(|| NUMBER.get());
    let tenant = TENANT.is_set().then(|| TENANT.get());
    (number, tenant, LIST.is_set().then(|| LIST.get()))
}

/// Runs the check on a thread of its own for each pool shape.
fn over_shapes(check: impl Fn(&Arc<Pool>) + Sync) {
    quiet();
    for workers in SHAPES {
        on_a_thread(|| check(&Arc::new(Pool::new(workers).unwrap())));
    }
}

#[track_caller]
fn all_fresh(found: impl IntoIterator<Item = bool>) {
    let found: Vec<_> = found.into_iter().collect();
    let dirty = found.iter().filter(|fresh| !**fresh).count();
    assert_eq!(dirty, 0, "of {} tasks began dirty", found.len());
}

/// Whether a task that may have panicked was fresh.
fn was_fresh(outcome: Result<bool, cleanslate::TaskError>) -> bool {
    outcome.unwrap_or_else(|error| error.message().is_some_and(|words| words.contains("fresh")))
}

#[test]
fn submit() {
    over_shapes(|pool| {
        let handles: Vec<_> = (0..BURST).map(|n| pool.submit(move || visit_or_panic(n))).collect();
        all_fresh(handles.into_iter().map(|handle| was_fresh(handle.join())));
    });
}

#[test]
fn try_submit() {
    over_shapes(|pool| {
        let handles: Vec<_> =
            (0..BURST).map(|n| pool.try_submit(move || visit_or_panic(n)).unwrap()).collect();
        all_fresh(handles.into_iter().map(|handle| was_fresh(block_on(handle))));
    });
}

#[test]
fn detached_and_never_joined() {
    over_shapes(|pool| {
        let dirty = Arc::new(AtomicUsize::new(0));
        for n in 0..BURST {
            let dirty = Arc::clone(&dirty);
            drop(pool.submit(move || {
                dirty.fetch_add(usize::from(!visit()), Ordering::SeqCst);
                assert!(n % 8 != 0, "on purpose");
            }));
        }
        pool.shutdown().unwrap();
        assert_eq!(dirty.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn scope() {
    over_shapes(|pool| {
        let found = pool.scope(|s| {
            let handles: Vec<_> = (0..BURST).map(|n| s.submit(move || visit_or_panic(n))).collect();
            handles.into_iter().map(|handle| was_fresh(handle.join())).collect::<Vec<_>>()
        });
        all_fresh(found);
    });
}

#[test]
fn map() {
    over_shapes(|pool| {
        all_fresh(pool.map(0..BURST, |_| visit()));
        all_fresh(pool.map((0..BURST).filter(|n| n % 2 == 0), |_| visit()));
    });
}

#[test]
fn map_slice() {
    over_shapes(|pool| all_fresh(pool.map_slice(&[(); BURST], |()| visit())));
}

#[test]
fn map_range() {
    over_shapes(|pool| all_fresh(pool.map_range(0..BURST, |_| visit())));
}

#[test]
fn try_map() {
    over_shapes(|pool| {
        all_fresh(pool.try_map(0..BURST, |_| Ok::<_, ()>(visit())).unwrap());
        // The items that fail dirty the slots too.
        for _ in 0..100 {
            assert!(
                pool.try_map(0..50, |n| if n == 40 { Err(visit()) } else { Ok(visit()) })
                    .unwrap_err()
            );
            all_fresh(pool.map_range(0..10, |_| visit()));
        }
    });
}

#[test]
fn map_results() {
    over_shapes(|pool| {
        all_fresh(pool.map_results(0..BURST, visit_or_panic).into_iter().map(was_fresh));
    });
}

#[test]
fn map_init() {
    over_shapes(|pool| {
        let found = pool.map_init(0..BURST, visit, |first, _| (std::mem::take(first), visit()));
        all_fresh(found.iter().map(|(_, fresh)| *fresh));
        // A call of `init` is a task, which its helper's first item shows.
        assert!(found.iter().any(|(first, _)| *first));
        all_fresh((0..50).flat_map(|_| {
            pool.map_init(0..8, visit, |first, n| std::mem::replace(first, true) && n < 8)
        }));
    });
}

#[test]
fn for_each() {
    over_shapes(|pool| {
        let mut found = vec![false; BURST];
        pool.for_each(&mut found, |fresh| *fresh = visit());
        all_fresh(std::mem::take(&mut found));
        found = vec![false; BURST];
        pool.for_each(found.chunks_mut(3), |chunk| chunk.fill(visit()));
        all_fresh(found);
    });
}

#[test]
fn reduce() {
    over_shapes(|pool| {
        let both = |a: bool, b: bool| a && b && visit();
        assert!(pool.reduce((0..BURST).map(|_| true), visit, both));
        assert!(pool.map_reduce(0..BURST, |_| visit(), visit, both));
        assert!((0..100).all(|_| pool.map_reduce(0..0, |_: usize| visit(), visit, both)));
    });
}

#[test]
fn join() {
    over_shapes(|pool| {
        all_fresh((0..BURST / 4).flat_map(|_| <[_; 2]>::from(pool.join(visit, visit))));
        all_fresh((0..200).map(|n| {
            let joined = || pool.join(|| visit_or_panic(n), visit);
            match std::panic::catch_unwind(std::panic::AssertUnwindSafe(joined)) {
                Ok((a, b)) => a && b,
                Err(payload) => message(&*payload).contains("fresh"),
            }
        }));
        assert!(halves(pool, 2_000, 0));
    });
}

/// A recursion that halves its work, each half a task.
fn halves(pool: &Pool, n: usize, tenant: u64) -> bool {
    if n < 2 {
        return true;
    }
    let (a, b) = pool.join(
        || visit_in(tenant) && halves(pool, n / 2, 1),
        || visit_in(tenant) && halves(pool, n - n / 2, 1),
    );
    a && b
}

#[test]
fn the_first_of_several_handles() {
    over_shapes(|pool| {
        for _ in 0..BURST / 100 {
            let mut handles: Vec<_> = (0..20).map(|_| pool.submit(visit)).collect();
            while !handles.is_empty() {
                let first = JoinHandle::wait_any(&handles);
                all_fresh(handles.swap_remove(first).join());
            }
        }
    });
}

#[test]
fn detached_until_the_pool_is_idle() {
    over_shapes(|pool| {
        let dirty = Arc::new(AtomicUsize::new(0));
        for _ in 0..20 {
            for _ in 0..BURST / 20 {
                let dirty = Arc::clone(&dirty);
                drop(pool.submit(move || {
                    dirty.fetch_add(usize::from(!visit()), Ordering::SeqCst);
                }));
            }
            pool.wait_idle();
            assert_eq!(dirty.load(Ordering::SeqCst), 0);
        }
    });
}

#[test]
fn the_global_pool() {
    on_a_thread(|| {
        all_fresh(Pool::global().map(0..BURST, |_| visit()));
        all_fresh((0..BURST).map(|_| Pool::global().submit(visit).join().unwrap()));
    });
}

#[test]
fn maps_that_panic() {
    over_shapes(|pool| {
        for round in 0..200 {
            let panicked =
                panic_of(|| pool.map_range(0..100, |n| visit_or_panic((n + round) % 101)));
            assert!(panicked.contains("fresh"), "{panicked}");
            all_fresh(pool.map_range(0..20, |_| visit()));
        }
    });
}

#[test]
fn imap() {
    over_shapes(|pool| all_fresh(pool.imap(0..BURST, |_| visit())));
}

#[test]
fn imap_unordered() {
    over_shapes(|pool| all_fresh(pool.imap_unordered(0..BURST, |_| visit()).buffer(64)));
}

#[test]
fn broadcast() {
    over_shapes(|pool| {
        for _ in 0..500 {
            all_fresh(pool.broadcast(visit));
            all_fresh(pool.map_range(0..4, |_| visit()));
        }
    });
}

#[test]
fn submissions_of_every_kind() {
    over_shapes(|pool| {
        let context = Context::empty();
        for submission in [pool.named("named"), pool.detached(), pool.in_context(&context)] {
            let handles: Vec<_> =
                (0..BURST / 8).map(|n| submission.submit(move || visit_or_panic(n))).collect();
            all_fresh(handles.into_iter().map(|handle| was_fresh(handle.join())));
            all_fresh(submission.map(0..BURST / 8, |_| visit()));
            all_fresh(submission.map_range(0..BURST / 8, |_| visit()));
            all_fresh(submission.map_slice(&[(); 500], |()| visit()));
            all_fresh(submission.map_results(0..500, visit_or_panic).into_iter().map(was_fresh));
            all_fresh(submission.try_map(0..500, |_| Ok::<_, ()>(visit())).unwrap());
            all_fresh(submission.imap(0..500, |_| visit()));
            all_fresh(submission.imap_unordered(0..500, |_| visit()));
            all_fresh(submission.broadcast(visit));
            all_fresh(submission.map_init(0..500, || (), |(), _| visit()));
            submission.for_each(0..500, |_| assert!(visit(), "began dirty"));
            assert!(submission.map_reduce(0..500, |_| visit(), || true, |a, b| a && b && visit()));
            all_fresh((0..500).flat_map(|_| <[_; 2]>::from(submission.join(visit, visit))));
            all_fresh(submission.scope(|s| scoped(s)));
            all_fresh((0..500).map(|_| submission.try_submit(visit).unwrap().join().unwrap()));
        }
    });
}

fn scoped<'scope>(s: &'scope cleanslate::Scope<'scope, '_>) -> Vec<bool> {
    let handles: Vec<_> = (0..500).map(|_| s.submit(visit)).collect();
    handles.into_iter().map(|handle| handle.join().unwrap()).collect()
}

#[test]
fn contexts_and_wrapped_closures_on_one_thread() {
    on_a_thread(|| {
        quiet();
        let context = Context::empty();
        all_fresh((0..BURST).map(|_| context.run(visit)));
        all_fresh((0..BURST).map(|_| context.try_run(visit).unwrap()));
        all_fresh((0..BURST).map(|n| {
            match std::panic::catch_unwind(|| Context::empty().run(|| visit_or_panic(n))) {
                Ok(fresh) => fresh,
                Err(payload) => message(&*payload).contains("fresh"),
            }
        }));
        all_fresh((0..BURST).map(|_| context.clone().wrap(visit)()));
        let often = context.clone().wrap_fn(visit);
        all_fresh((0..BURST).map(|_| often()));
        all_fresh((0..BURST).map(|_| isolated(visit)()));
        all_fresh((0..BURST).map(|_| isolated_in(&context, visit)()));
        assert!(visit(), "and the thread itself is clean");
    });
}

#[test]
fn futures_on_one_thread() {
    on_a_thread(|| {
        let polled_twice = || async {
            let fresh = visit();
            let left = left();
            yield_now().await;
            fresh && left == self::left()
        };
        all_fresh((0..BURST).map(|_| block_on(polled_twice().isolated())));
        all_fresh((0..BURST).map(|_| block_on(polled_twice().isolated_in(&Context::empty()))));
        // All of them at the same time.
        let both = async {
            let mut all: Vec<_> = (0..500).map(|_| Box::pin(polled_twice().isolated())).collect();
            let mut found = Vec::new();
            std::future::poll_fn(|cx| {
                all.retain_mut(|future| match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(fresh) => {
                        found.push(fresh);
                        false
                    }
                    std::task::Poll::Pending => true,
                });
                if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            })
            .await;
            found
        };
        all_fresh(block_on(both));
        assert!(visit(), "and the thread itself is clean");
    });
}

#[test]
fn tasks_that_a_waiting_worker_runs_inline() {
    over_shapes(|pool| {
        let inner = Arc::clone(pool);
        let found = pool.submit(move || {
            let mut found = vec![visit_in(0)];
            for _ in 0..BURST / 8 {
                found.push(inner.submit(|| visit_in(1)).join().unwrap());
                found.push(NUMBER.get() == 1);
            }
            found.extend(inner.map_range(0..BURST, |_| visit_in(1)));
            found.extend(inner.map(0..BURST, |_| visit_in(1)));
            found.extend(inner.map_init(0..BURST, || (), |(), _| visit_in(1)));
            let both = |a: bool, b: bool| a && b && visit_in(1);
            found.push(inner.map_reduce(0..BURST, |_| visit_in(1), || true, both));
            found.push(halves(&inner, 200, 1));
            found.extend(inner.detached().scope(|s| scoped(s)));
            found.push(NUMBER.get() == 1 && TEXT.get() == "left behind" && LIST.get() == [1]);
            found
        });
        all_fresh(found.join().unwrap());
        assert!(pool.workers() > 1 || pool.stats().inline > 0);
    });
}

/// One level of a nest: borrows everything, checks it before, during and after the levels inside.
fn nest(pool: &Arc<Pool>, owned: &Arc<OwnedLocal<u64>>, depth: u64) -> bool {
    if depth == 64 {
        return true;
    }
    let fresh = visit_in(u64::from(depth % 5 != 4 && depth != 0)) && owned.replace(depth + 1) == 0;
    TEXT.set(depth.to_string());
    let inside = TEXT.with_mut(|text| {
        LIST.with_mut(|list| {
            NUMBER.with(|_| {
                let deeper = match depth % 5 {
                    0 => {
                        let (pool_2, owned) = (Arc::clone(pool), Arc::clone(owned));
                        pool.submit(move || nest(&pool_2, &owned, depth + 1)).join().unwrap()
                    }
                    1 => pool.map([()], |()| nest(pool, owned, depth + 1))[0],
                    4 => pool.join(|| nest(pool, owned, depth + 1), || ()).0,
                    2 => pool.scope(|s| s.submit(|| nest(pool, owned, depth + 1)).join().unwrap()),
                    _ => Context::empty().run(|| nest(pool, owned, depth + 1)),
                };
                deeper && *text == depth.to_string() && *list == [1]
            })
        })
    });
    fresh && inside && owned.get() == depth + 1 && NUMBER.get() == 1
}

#[test]
fn nested_tasks_while_the_outer_ones_borrow() {
    over_shapes(|pool| {
        for _ in 0..20 {
            let owned = Arc::new(OwnedLocal::new(|| 0));
            let (pool_2, owned_2) = (Arc::clone(pool), Arc::clone(&owned));
            assert!(pool.submit(move || nest(&pool_2, &owned_2, 0)).join().unwrap());
            assert_eq!(owned.get(), 0);
        }
    });
}

#[test]
fn owned_slots() {
    over_shapes(|pool| {
        let owned = OwnedLocal::new(Vec::new);
        let visit = || {
            owned.with_mut(|values| {
                values.push(1);
                values.len() == 1
            })
        };
        all_fresh(pool.map_range(0..BURST, |_| visit()));
        all_fresh(pool.map_results(0..BURST, |_| visit()).into_iter().map(Result::unwrap));
        all_fresh(pool.scope(|s| {
            let handles: Vec<_> = (0..BURST / 8).map(|_| s.submit(visit)).collect();
            handles.into_iter().map(|handle| handle.join().unwrap()).collect::<Vec<_>>()
        }));
    });
}
