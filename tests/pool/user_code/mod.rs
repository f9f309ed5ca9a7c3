//! User code runs in many places of a pool's life: tasks, hooks, drops, wakers, carriers,
//! iterators, on workers that start, serve, are replaced or are the last, and on plain threads.
//! Whatever it does there ends, costs no worker, and every value is dropped once.

mod actors;
mod places;
mod triggers;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use self::places::{PLACES, Place};
use self::world::{DEEDS, Deed, World, defuse};
use crate::support::{SHAPES, finishes, quiet};
use cleanslate::Pool;

fn case(place: Place, deed: Deed, workers: usize) {
    let world = World::new(deed);
    let mut builder = places::build(place, &world, Pool::builder().workers(workers));
    if deed == Deed::FillsTheQueue {
        builder = builder.queue_capacity(1);
    }
    let pool = match builder.build() {
        Ok(pool) => pool,
        // Not everywhere can thread-locals be watched.
        #[cfg(feature = "sentinel")]
        Err(error) if error.is_unsupported() => return,
        Err(error) => panic!("{error}"),
    };
    world.keep(pool.clone());
    let trigger = places::set_up(place, &world, &pool);
    // Now the handle that is kept may be the last one.
    drop(pool);
    world.go();
    if let Err(payload) = catch_unwind(AssertUnwindSafe(trigger)) {
        let said = crate::support::message(&*payload);
        let expected = ["no message", "no string", "on purpose", "shut down", "scoped task"];
        assert!(expected.iter().any(|part| said.contains(part)), "{said}");
        defuse(payload);
    }
    world.wait_for_deed();
    if let Some(pool) = world.take() {
        if !deed.closes() && !place.is_closed() {
            assert_eq!(pool.submit(|| 5).join().unwrap(), 5);
            assert_eq!(pool.broadcast(|| ()).len(), workers);
        }
        pool.shutdown().unwrap();
        drop(pool);
    }
    // Until the last worker has let go of the pool.
    while world.census().alive() != 0 {
        std::thread::yield_now();
    }
    assert!(world.acts() > 0);
}

#[test]
fn whatever_user_code_does_wherever_it_runs_the_pool_goes_on() {
    quiet();
    let only = std::env::var("CASE").unwrap_or_default();
    for &place in PLACES {
        for deed in DEEDS {
            for workers in SHAPES {
                let name = format!("{deed:?} in {place:?}, {workers} workers");
                if name.contains(&only) {
                    finishes(&name, move || case(place, deed, workers));
                }
            }
        }
    }
}
