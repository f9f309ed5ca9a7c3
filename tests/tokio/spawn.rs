//! What is spawned is isolated and inherits, however it is spawned and however it ends.

use std::cell::Cell;
use std::rc::Rc;

use crate::support::{Census, Counted, Refuses, printed_in_a_process_of_its_own, quiet};
use cleanslate::foreign::install;
use cleanslate::future::FutureExt;
use cleanslate::task_local;
use cleanslate::tokio::{JoinSet, spawn, spawn_blocking, spawn_local};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;
use tokio::task::{LocalSet, yield_now};

task_local! {
    #[inherit]
    static USER: &'static str = "nobody";
    static LEFT: u32 = 0;
    static KEPT: Option<Counted> = None;
}

pub(crate) fn runtimes() -> [Runtime; 3] {
    [
        Builder::new_current_thread().build().unwrap(),
        Builder::new_multi_thread().worker_threads(1).build().unwrap(),
        Builder::new_multi_thread().worker_threads(3).build().unwrap(),
    ]
}

/// What a task finds. Leaves something for the next one.
fn look() -> (&'static str, u32) {
    (USER.replace("changed"), LEFT.replace(7))
}

pub(crate) async fn look_often() -> (&'static str, u32) {
    let found = look();
    for _ in 0..3 {
        yield_now().await;
        assert_eq!(look(), ("changed", 7), "its own stay its own");
    }
    found
}

#[test]
fn spawned_tasks_start_fresh_and_inherit_where_they_were_spawned() {
    for runtime in runtimes() {
        runtime.block_on(async {
            for user in ["alice", "bob"] {
                USER.set(user);
                LEFT.set(1);
                let futures: Vec<_> = (0..50).map(|_| spawn(look_often())).collect();
                let closures: Vec<_> = (0..50).map(|_| spawn_blocking(look)).collect();
                USER.set("later");
                for task in futures.into_iter().chain(closures) {
                    assert_eq!(task.await.unwrap(), (user, 0));
                }
                assert_eq!(look(), ("later", 1), "the spawner's own are untouched");
            }
        });
    }
}

#[test]
fn local_tasks_are_isolated_too() {
    let runtime = Builder::new_current_thread().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        USER.set("alice");
        let shared = Rc::new(Cell::new(0));
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                let shared = Rc::clone(&shared);
                spawn_local(async move {
                    shared.set(shared.get() + 1);
                    look_often().await
                })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), ("alice", 0));
        }
        assert_eq!(shared.get(), 20);
    });
}

// Broke in debug builds: it was moved half a dozen times, each time to another place on the stack.
#[test]
fn a_large_future_can_be_spawned_where_a_bare_one_can() {
    const SIZE: usize = 256 << 10;
    let large = async |byte: u8| {
        let bytes = std::hint::black_box([byte; SIZE]);
        yield_now().await;
        bytes[SIZE - 1]
    };
    // A worker's stack has 2 MiB.
    let runtime = Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let spawner = runtime.spawn(async move {
        assert_eq!(tokio::spawn(large(1)).await.unwrap(), 1);
        assert_eq!(spawn(large(2)).await.unwrap(), 2);
    });
    runtime.block_on(spawner).unwrap();
}

#[test]
fn what_an_executor_inside_of_a_task_runs_bare_is_part_of_the_task() {
    let runtime = Builder::new_current_thread().build().unwrap();
    let found = cleanslate::isolated(|| {
        LEFT.set(1);
        let seen = runtime.block_on(async { tokio::spawn(async { look().1 }).await.unwrap() });
        (seen, LEFT.get())
    });
    assert_eq!(found(), (1, 7));
    let task = async {
        LEFT.set(1);
        let bare = async { tokio::task::spawn_local(async { look().1 }).await.unwrap() };
        (LocalSet::new().run_until(bare).await, LEFT.get())
    };
    assert_eq!(runtime.block_on(task.isolated()), (1, 7));
    assert!(!LEFT.is_set());
}

#[test]
fn an_aborted_task_takes_its_slots_with_it() {
    for runtime in runtimes() {
        let census = Census::new();
        runtime.block_on(async {
            let (tell, told) = oneshot::channel();
            let kept = census.one("kept");
            let task = spawn(async move {
                KEPT.set(Some(kept));
                tell.send(()).unwrap();
                std::future::pending::<()>().await;
            });
            told.await.unwrap();
            assert_eq!(census.alive(), 1);
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
            assert_eq!(census.alive(), 0, "before the abort can be seen");
        });
    }
}

#[test]
fn the_tasks_of_a_set_are_isolated_and_inherit() {
    for runtime in runtimes() {
        let other = Builder::new_multi_thread().worker_threads(1).build().unwrap();
        runtime.block_on(async {
            USER.set("alice");
            LEFT.set(1);
            let mut set = JoinSet::new();
            for _ in 0..20 {
                set.spawn(look_often());
                set.spawn_blocking(look);
                set.spawn_on(look_often(), other.handle());
                set.spawn_blocking_on(look, other.handle());
            }
            set.extend((0..20).map(|_| look_often()));
            assert_eq!(set.len(), 100);
            assert_eq!(set.join_next().await.unwrap().unwrap(), ("alice", 0));
            assert_eq!(set.join_next_with_id().await.unwrap().unwrap().1, ("alice", 0));
            assert_eq!(set.join_all().await, [("alice", 0); 98]);
            let collected: JoinSet<_> = (0..20).map(|_| look_often()).collect();
            assert_eq!(collected.join_all().await, [("alice", 0); 20]);
            assert_eq!(look(), ("alice", 1));
        });
        other.shutdown_background();
    }
    let runtime = Builder::new_current_thread().build().unwrap();
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        USER.set("alice");
        let mut set = JoinSet::new();
        set.spawn_local(look_often());
        assert_eq!(set.join_all().await, [("alice", 0)]);
    });
    let mut set = JoinSet::new();
    USER.set("bob");
    set.spawn_local_on(look_often(), &local);
    let joined = local.block_on(&runtime, async { set.join_all().await });
    assert_eq!(joined, [("bob", 0)]);
}

#[test]
fn the_tasks_of_a_set_run_on_the_runtime_that_it_is_given() {
    let [current, other] =
        [(); 2].map(|()| Builder::new_multi_thread().worker_threads(1).build().unwrap());
    let id = || Handle::current().id();
    let _entered = current.enter();
    let mut set = JoinSet::new();
    set.spawn_on(async move { id() }, other.handle());
    set.spawn_blocking_on(id, other.handle());
    assert_eq!(current.block_on(set.join_all()), [other.handle().id(); 2]);
}

#[test]
fn a_set_reports_panics_and_ends_its_tasks_as_tokios_does() {
    quiet();
    let runtime = Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let census = Census::new();
        let mut set: JoinSet<()> = JoinSet::default();
        assert!(set.is_empty() && set.join_next().await.is_none() && set.try_join_next().is_none());
        set.spawn(async { panic!("a task, on purpose") });
        assert!(set.join_next().await.unwrap().unwrap_err().is_panic());
        let keep_one = |set: &mut JoinSet<()>| {
            let kept = census.one("kept");
            let (tell, told) = oneshot::channel();
            set.spawn(async move {
                KEPT.set(Some(kept));
                tell.send(()).unwrap();
                std::future::pending().await
            });
            told
        };
        keep_one(&mut set).await.unwrap();
        set.shutdown().await;
        assert_eq!((set.len(), census.alive()), (0, 0));
        keep_one(&mut set).await.unwrap();
        set.abort_all();
        assert!(set.join_next().await.unwrap().unwrap_err().is_cancelled());
        assert_eq!(census.alive(), 0);
        keep_one(&mut set).await.unwrap();
        set.detach_all();
        assert_eq!((set.len(), census.alive()), (0, 1), "{set:?}");
    });
}

#[test]
fn the_panic_hook_hears_where_a_task_was_spawned_that_cannot_run() {
    let name = "spawn::the_panic_hook_hears_where_a_task_was_spawned_that_cannot_run";
    let Some(printed) = printed_in_a_process_of_its_own(name) else {
        install(Refuses(|| true)).unwrap();
        let runtime = Builder::new_current_thread().build().unwrap();
        let local = LocalSet::new();
        local.block_on(&runtime, async {
            assert!(spawn(async {}).await.unwrap_err().is_panic());
            assert!(spawn_blocking(|| ()).await.unwrap_err().is_panic());
            assert!(spawn_local(async {}).await.unwrap_err().is_panic());
            let mut set = JoinSet::from_iter([async {}]);
            set.extend([async {}]);
            set.spawn(async {});
            set.spawn_on(async {}, &Handle::current());
            set.spawn_local(async {});
            set.spawn_local_on(async {}, &local);
            set.spawn_blocking(|| ());
            set.spawn_blocking_on(|| (), &Handle::current());
            while let Some(ended) = set.join_next().await {
                assert!(ended.unwrap_err().is_panic());
            }
        });
        return;
    };
    let lines: Vec<_> = printed.lines().filter(|line| line.contains("on purpose")).collect();
    assert_eq!(lines.len(), 11, "{printed}");
    let here = concat!("isolated at ", file!());
    assert!(lines.iter().all(|line| line.contains(here)), "{printed}");
}
