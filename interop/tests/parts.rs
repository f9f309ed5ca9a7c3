//! Values that are bound for a part of a task, wherever that part is polled.

use cleanslate::future::FutureExt;
use cleanslate::task_local;
use futures_lite::future::yield_now;
use futures_util::stream::{FuturesUnordered, StreamExt, iter};
use tokio::runtime::Builder;

task_local! {
    static USER: u32 = 0;
    static LEVEL: u32 = 0;
    static COUNT: u32 = 0;
}

/// Looks often, while others run, and counts in a slot that all parts share.
async fn look(user: u32) {
    for step in 0..user % 7 + 2 {
        assert_eq!((USER.get(), LEVEL.get()), (user, user + step));
        LEVEL.set(user + step + 1);
        COUNT.with_mut(|count| *count += 1);
        yield_now().await;
    }
}

/// Two slots for one part.
async fn part(user: u32) -> u32 {
    USER.scope_future(user, LEVEL.scope_future(user, look(user))).await;
    user
}

/// How often the parts below `users` count.
fn counted(users: u32) -> u32 {
    (0..users).map(|user| user % 7 + 2).sum()
}

#[test]
fn parts_that_run_beside_each_other_have_values_of_their_own() {
    let one = Builder::new_current_thread().build().unwrap();
    let many = Builder::new_multi_thread().worker_threads(3).build().unwrap();
    for runtime in [one, many] {
        let task = async {
            USER.set(1_000);
            LEVEL.set(2_000);
            let (a, b, c) = tokio::join!(part(0), part(1), part(2));
            assert_eq!(([a, b, c], COUNT.replace(0)), ([0, 1, 2], counted(3)));
            let mut unordered: FuturesUnordered<_> = (0..50).map(part).collect();
            let mut sum = 0;
            while let Some(user) = unordered.next().await {
                assert_eq!((USER.get(), LEVEL.get()), (1_000, 2_000), "between the polls");
                sum += user;
            }
            assert_eq!((sum, COUNT.replace(0)), ((0..50).sum(), counted(50)));
            let buffered: Vec<_> = iter(0..50).map(part).buffered(8).collect().await;
            assert_eq!(buffered, (0..50).collect::<Vec<_>>());
            (USER.get(), LEVEL.get(), COUNT.get())
        };
        assert_eq!(
            runtime.block_on(runtime.spawn(task.isolated())).unwrap(),
            (1_000, 2_000, counted(50))
        );
    }
}

#[test]
fn a_part_that_loses_a_select_takes_its_values_with_it() {
    let runtime = Builder::new_multi_thread().worker_threads(3).build().unwrap();
    let tasks: Vec<_> = (0..100_u32)
        .map(|n| {
            let task = async move {
                USER.set(7);
                for round in 0..20 {
                    tokio::select! {
                        () = USER.scope_future(n, async {
                            loop {
                                assert_eq!(USER.get(), n);
                                yield_now().await;
                            }
                        }) => {}
                        () = async {
                            for _ in 0..(n + round) % 5 {
                                assert_eq!(USER.get(), 7);
                                yield_now().await;
                            }
                        } => {}
                    }
                    assert_eq!(USER.get(), 7);
                }
            };
            runtime.spawn(task.isolated())
        })
        .collect();
    for task in tasks {
        runtime.block_on(task).unwrap();
    }
}
