//! What the places have in common: ways to have a task run, and to keep workers busy meanwhile.

use std::sync::mpsc;

use super::world::{World, defuse};
use crate::support::retiring;
use cleanslate::{JoinHandle, Pool, TaskError};

/// A task that is submitted now and joined by the trigger. It may fail.
pub(super) fn submitted(pool: &Pool, task: impl FnOnce() + Send + 'static) -> Box<dyn FnOnce()> {
    let handle = pool.submit(task);
    Box::new(move || {
        if let Err(error) = handle.join() {
            defuse(Box::new(error));
        }
    })
}

/// Has a worker replaced after `task` has run there.
pub(super) fn replaced(pool: &Pool, task: impl FnOnce() + Send + 'static) -> Box<dyn FnOnce()> {
    submitted(&pool.in_context(&retiring()), task)
}

pub(super) fn closing(pool: &Pool) -> Box<dyn FnOnce()> {
    pool.shutdown_background();
    Box::new(|| ())
}

/// Occupies some of the workers until the deed is begun.
pub(super) fn occupy(pool: &Pool, world: &World, workers: usize) -> Vec<JoinHandle<()>> {
    let (tell, told) = mpsc::channel();
    let busy = (0..workers).map(|_| {
        let (tell, world) = (tell.clone(), world.clone());
        pool.submit(move || {
            tell.send(()).unwrap();
            world.wait_for_deed();
        })
    });
    let busy = busy.collect();
    (0..workers).for_each(|_| told.recv().unwrap());
    busy
}

pub(super) fn or_cancelled(joined: Result<(), TaskError>) {
    if let Err(error) = joined {
        assert!(error.is_cancelled(), "{error}");
    }
}

/// Makes a closure own something.
pub(super) fn holds<T>(_: &T) {}
