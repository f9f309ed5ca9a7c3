//! What rayon users expect: the signatures of its functions, their order and their threads. Each
//! closure is a task besides.

use cleanslate::rayon::{self as tasks, RayonPool, Scope, ScopeFifo};
use cleanslate::task_local;
use rayon::BroadcastContext;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

task_local! {
    static SEEN: bool = false;
    #[inherit]
    static USER: u32 = 0;
}

fn pools() -> impl Iterator<Item = RayonPool> {
    [1, 2, 4].into_iter().map(|threads| RayonPool::new(threads).unwrap())
}

/// Is a fresh task of user 7.
fn is_fresh() -> bool {
    !SEEN.replace(true) && USER.replace(99) == 7
}

/// Counts tasks, and those among them that are fresh.
#[derive(Default)]
struct Tally {
    tasks: AtomicUsize,
    fresh: AtomicUsize,
}

impl Tally {
    fn count(&self) {
        self.tasks.fetch_add(1, SeqCst);
        self.fresh.fetch_add(usize::from(is_fresh()), SeqCst);
    }

    #[track_caller]
    fn check(&self, tasks: usize) {
        assert_eq!((self.tasks.load(SeqCst), self.fresh.load(SeqCst)), (tasks, tasks));
    }
}

// Rayon's own examples of helper functions, with our types in place of rayon's.

fn quick_sort<T: PartialOrd + Send>(pool: &RayonPool, v: &mut [T]) {
    if v.len() <= 1 {
        return;
    }
    let (pivot, mut i) = (v.len() - 1, 0);
    for j in 0..pivot {
        if v[j] <= v[pivot] {
            v.swap(i, j);
            i += 1;
        }
    }
    v.swap(i, pivot);
    let (low, high) = v.split_at_mut(i);
    pool.join(|| quick_sort(pool, low), || quick_sort(pool, &mut high[1..]));
}

struct Tree<T> {
    value: T,
    left: Option<Box<Tree<T>>>,
    right: Option<Box<Tree<T>>>,
}

impl<T: Sync> Tree<T> {
    fn visit<'scope>(&'scope self, s: &Scope<'scope>, f: &'scope (impl Fn(&T) + Sync)) {
        for child in [&self.left, &self.right].into_iter().flatten() {
            s.spawn(move |s| child.visit(s, f));
        }
        f(&self.value);
    }

    fn visit_fifo<'scope>(&'scope self, s: &ScopeFifo<'scope>, f: &'scope (impl Fn(&T) + Sync)) {
        for child in [&self.left, &self.right].into_iter().flatten() {
            s.spawn_fifo(move |s| child.visit_fifo(s, f));
        }
        f(&self.value);
    }
}

fn tree(depth: usize) -> Tree<usize> {
    let child = || (depth > 0).then(|| Box::new(tree(depth - 1)));
    Tree { value: depth, left: child(), right: child() }
}

#[test]
fn helper_functions_keep_their_signatures() {
    let tree = tree(6);
    for pool in pools() {
        let mut v: Vec<_> = (0..500).map(|i| i * 7919 % 500).collect();
        quick_sort(&pool, &mut v);
        assert!(v.is_sorted());
        let sum = AtomicUsize::new(0);
        let add = |n: &usize| _ = sum.fetch_add(*n, SeqCst);
        pool.scope(|s| tree.visit(s, &add));
        pool.in_place_scope(|s| tree.visit(s, &add));
        pool.scope_fifo(|s| tree.visit_fifo(s, &add));
        pool.in_place_scope_fifo(|s| tree.visit_fifo(s, &add));
        pool.install(|| tasks::scope(|s| tree.visit(s, &add)));
        // 2⁶⁻ⁿ nodes of depth n.
        assert_eq!(sum.into_inner(), 5 * (1..=6).map(|n| n << (6 - n)).sum::<usize>());
    }
}

#[test]
fn every_closure_of_a_scope_is_a_task_but_one_that_runs_in_place() {
    for pool in pools() {
        let threads = pool.workers();
        let tally = Tally::default();
        let spawn = |s: &Scope<'_>, tally: &Tally| {
            tally.count();
            USER.set(7);
            s.spawn(|_| ());
        };
        USER.scope(7, || {
            pool.scope(|s| {
                spawn(s, &tally);
                for _ in 0..20 {
                    s.spawn(|s| {
                        tally.count();
                        USER.set(7);
                        s.spawn(|_| tally.count());
                    });
                }
                s.spawn_broadcast(|_, _| tally.count());
                USER.set(9);
            });
            tally.check(41 + threads);
            pool.scope_fifo(|s| {
                tally.count();
                USER.set(7);
                (0..20).for_each(|_| s.spawn_fifo(|_| tally.count()));
                s.spawn_broadcast(|s, to| {
                    assert_eq!(to.num_threads(), threads);
                    tally.count();
                    USER.set(7);
                    s.spawn_fifo(|_| tally.count());
                });
            });
            tally.check(62 + 3 * threads);
            SEEN.set(true);
            pool.in_place_scope(|s| {
                assert!(SEEN.get());
                (0..20).for_each(|_| s.spawn(|_| tally.count()));
                USER.set(8);
                s.spawn(|_| assert_eq!(USER.get(), 8));
                USER.set(7);
            });
            pool.in_place_scope_fifo(|s| s.spawn_fifo(|_| tally.count()));
            assert!(SEEN.take().unwrap());
            tally.check(83 + 3 * threads);
        });
    }
}

#[test]
fn fifo_scopes_run_in_the_order_of_spawning_and_others_backwards() {
    let pool = RayonPool::new(1).unwrap();
    let order = Mutex::new(Vec::new());
    let note = |n| order.lock().unwrap().push(n);
    pool.scope(|s| (0..3).for_each(|n| s.spawn(move |_| note(n))));
    pool.scope_fifo(|s| (3..6).for_each(|n| s.spawn_fifo(move |_| note(n))));
    assert_eq!(*order.lock().unwrap(), [2, 1, 0, 3, 4, 5]);
}

#[test]
fn what_is_spawned_captures_where_it_is_spawned() {
    for pool in pools() {
        let (sender, receiver) = channel();
        let tell = move || sender.send(is_fresh()).unwrap();
        USER.scope(7, || {
            pool.spawn(tell.clone());
            pool.spawn_fifo(tell.clone());
            pool.spawn_broadcast(tell.clone());
            tasks::install(
                &rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap(),
                || {
                    let [a, b, c] = [(); 3].map(|()| tell.clone());
                    tasks::spawn(a);
                    tasks::spawn_fifo(b);
                    tasks::spawn_broadcast(move |_| c());
                },
            );
        });
        drop(tell);
        assert_eq!(Vec::from_iter(receiver), vec![true; 5 + pool.workers()]);
    }
}

#[test]
fn broadcasts_give_rayons_context_and_results_in_the_order_of_the_threads() {
    fn place(to: BroadcastContext<'_>) -> (usize, usize, bool) {
        (to.index(), to.num_threads(), is_fresh())
    }
    for pool in pools() {
        let threads = pool.workers();
        let places = USER.scope(7, || pool.install(|| tasks::broadcast(place)));
        assert_eq!(places, Vec::from_iter((0..threads).map(|index| (index, threads, true))));
        let here = pool.broadcast(|| rayon::current_thread_index().unwrap());
        assert_eq!(here, Vec::from_iter(0..threads));
    }
}

// The kind of unsound use that rayon 1.12 allows: it drops the closure after the scope has ended.
#[test]
fn the_closure_of_a_scopes_broadcast_is_dropped_before_the_scope_ends() {
    struct Looks<'a>(&'a AtomicUsize);
    impl Drop for Looks<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    for pool in pools() {
        for _ in 0..100 {
            let drops = AtomicUsize::new(0);
            let looks = Looks(&drops);
            pool.in_place_scope(|s| s.spawn_broadcast(move |_, _| _ = &looks));
            assert_eq!(drops.into_inner(), 1);
            let drops = AtomicUsize::new(0);
            let looks = Looks(&drops);
            pool.scope_fifo(|s| s.spawn_broadcast(move |_, _| _ = &looks));
            assert_eq!(drops.into_inner(), 1);
        }
    }
}

#[test]
fn types_can_be_used_across_threads_and_catch_unwind() {
    fn check<T: Send + Sync + UnwindSafe + RefUnwindSafe>() {}
    fn check_lent<T: Sync + UnwindSafe + RefUnwindSafe>() {}
    check::<RayonPool>();
    check::<tasks::Isolated<rayon::range::Iter<u32>>>();
    check_lent::<Scope<'_>>();
    check_lent::<ScopeFifo<'_>>();
}

#[test]
fn handles_are_the_same_pool_whatever_context_they_have() {
    let shared = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap());
    let pool = RayonPool::from(Arc::clone(&shared));
    let seven = USER.scope(7, || pool.in_context(&cleanslate::Context::capture()));
    assert_eq!(Arc::strong_count(&shared), 3);
    assert_eq!((pool.install(|| USER.get()), seven.install(|| USER.get())), (0, 7));
    assert_eq!(
        USER.scope(8, || (pool.map_range(0..1, |_| USER.get()), seven.map([()], |()| USER.get()))),
        (vec![8], vec![7])
    );
    // The scope's tasks have the handle's context, not their spawner's.
    seven.scope(|s| USER.scope(8, || s.spawn(|_| assert_eq!(USER.get(), 7))));
    seven.scope_fifo(|s| USER.scope(8, || s.spawn_fifo(|_| assert_eq!(USER.get(), 7))));
    assert_eq!(seven.workers(), 2);
}

#[test]
fn whatever_a_pool_is_given_runs_on_its_own_threads() {
    let builder = rayon::ThreadPoolBuilder::new().num_threads(1);
    let pool = RayonPool::from(builder.thread_name(|_| "own".to_owned()).build().unwrap());
    let is_own = || std::thread::current().name() == Some("own");
    for pool in [pool.in_context(&cleanslate::Context::empty()), pool] {
        assert_eq!(pool.map([()], |()| is_own()), [true]);
        assert_eq!(pool.map_slice(&[()], |()| is_own()), [true]);
        assert_eq!(pool.map_range(0..1, |_| is_own()), [true]);
        assert_eq!(pool.broadcast(is_own), [true]);
        assert_eq!(pool.join(is_own, is_own), (true, true));
        assert!(pool.install(is_own) && pool.scope(|_| is_own()) && pool.scope_fifo(|_| is_own()));
        let (tell, told) = channel();
        let tell = move || tell.send(is_own()).unwrap();
        pool.spawn(tell.clone());
        pool.spawn_fifo(tell.clone());
        pool.spawn_broadcast(tell.clone());
        pool.in_place_scope(|s| s.spawn(|_| tell()));
        pool.in_place_scope_fifo(|s| s.spawn_fifo(|_| tell()));
        drop(tell);
        assert_eq!(Vec::from_iter(told), [true; 5]);
    }
    assert!(RayonPool::global().install(rayon::current_thread_index).is_some());
}

#[test]
fn what_is_spawned_fifo_runs_in_the_order_of_spawning() {
    let pool = RayonPool::new(1).unwrap();
    let (sender, receiver) = channel();
    let tell = |n| {
        let sender = sender.clone();
        move || sender.send(n).unwrap()
    };
    pool.install(|| (0..3).for_each(|n| pool.spawn_fifo(tell(n))));
    pool.install(|| (3..6).for_each(|n| tasks::spawn_fifo(tell(n))));
    drop(sender);
    assert_eq!(Vec::from_iter(receiver), [0, 1, 2, 3, 4, 5]);
}
