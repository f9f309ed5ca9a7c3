//! Room in a bounded queue, awaited on a runtime whose only thread must not block meanwhile.

use std::sync::mpsc;

use crate::support::finishes;
use cleanslate::Pool;
use cleanslate::tokio::{JoinSet, spawn};
use tokio::runtime::Builder;
use tokio::task::yield_now;

#[test]
fn a_full_queue_does_not_block_the_runtime() {
    finishes("a full queue", || {
        let pool = Pool::builder().workers(1).queue_capacity(1).build().unwrap();
        let runtime = Builder::new_current_thread().build().unwrap();
        let (go, gate) = mpsc::channel::<()>();
        runtime.block_on(async {
            let busy = pool.reserve().await.unwrap().submit(move || gate.recv());
            let mut set = JoinSet::new();
            for n in 0..100_u32 {
                let pool = pool.clone();
                set.spawn(
                    async move { pool.reserve().await.unwrap().submit(move || n).await.unwrap() },
                );
            }
            // Other futures run on, and the worker is let go by one of them.
            let other = spawn(async move {
                for _ in 0..1_000 {
                    yield_now().await;
                }
                go.send(()).unwrap();
            });
            other.await.unwrap();
            busy.await.unwrap().unwrap();
            let mut numbers = set.join_all().await;
            numbers.sort_unstable();
            assert_eq!(numbers, (0..100).collect::<Vec<_>>());
        });
    });
}

#[test]
fn a_reservation_that_loses_a_select_loses_no_place() {
    finishes("select", || {
        let pool = Pool::builder().workers(1).queue_capacity(1).build().unwrap();
        let runtime = Builder::new_multi_thread().worker_threads(2).build().unwrap();
        runtime.block_on(async {
            let mut set = JoinSet::new();
            for n in 0..400_usize {
                let pool = pool.clone();
                set.spawn(async move {
                    let patience = async {
                        for _ in 0..n % 7 {
                            yield_now().await;
                        }
                    };
                    tokio::select! {
                        permit = pool.reserve() => match n % 3 {
                            0 => drop(permit),
                            _ => permit.unwrap().submit(|| ()).await.unwrap(),
                        },
                        () = patience => {}
                    }
                });
            }
            set.join_all().await;
            drop(pool.reserve().await.unwrap());
            let permit = pool.try_reserve().unwrap();
            assert!(pool.try_reserve().unwrap_err().is_full());
            drop(permit);
        });
    });
}
