//! Handlers and jobs that have the last handle of a pool, which waits for a task, which waits for
//! what a closure or a job beside the handle holds.

use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use apalis::prelude::{Task, TaskBuilder};
use cleanslate::{Pool, task_local};
use cleanslate_jobs::{JobLayer, OnPool, Wire, on_pool};
use futures_util::FutureExt;
use tower_layer::Layer;
use tower_service::Service;

task_local! {
    #[inherit]
    static NUMBER: u32 = 0;
}

type Held = Option<Sender<()>>;
type Closure = Box<dyn Fn(Task<Held>) + Send + Sync>;

/// A pool whose task waits until what is returned beside it is dropped. It is full, or not.
fn waiting(is_full: bool) -> (Pool, Sender<()>) {
    let pool = Pool::builder().workers(1).queue_capacity(1).build().unwrap();
    let (held, let_go) = mpsc::channel::<()>();
    let (begin, begun) = mpsc::channel();
    let task = move || (begin.send(()).unwrap(), let_go.recv().unwrap_err());
    drop(pool.submit(task));
    begun.recv().unwrap();
    if is_full {
        drop(pool.submit(|| ()));
    }
    (pool, held)
}

/// Fails if the drop does not end.
#[track_caller]
fn drops<T: Send + 'static>(value: T) {
    let (over, is_over) = mpsc::channel();
    std::thread::spawn(move || {
        drop(value);
        over.send(()).unwrap();
    });
    is_over.recv_timeout(Duration::from_secs(60)).expect("it waits for itself");
}

fn handler(pool: Pool, held: Held) -> OnPool<Closure> {
    on_pool(pool, Box::new(move |_| drop(held.clone())))
}

/// Drops the future of a job, polled or not, where the closure or the job itself holds what is
/// waited for.
#[track_caller]
fn drops_a_job<S>(layered: impl Fn(OnPool<Closure>) -> S)
where
    S: Service<Task<Held>, Future: Send + Unpin + 'static>,
{
    let each = [false, true];
    let cases = each.map(|is_full| each.map(|is_polled| each.map(|it| (is_full, is_polled, it))));
    for (is_full, is_polled, is_in_job) in cases.into_iter().flatten().flatten() {
        let (pool, held) = waiting(is_full);
        let (in_closure, in_job) = if is_in_job { (None, Some(held)) } else { (Some(held), None) };
        let mut service = layered(handler(pool, in_closure));
        let mut job = service.call(Task::new(in_job));
        assert!(!is_polled || (&mut job).now_or_never().is_none());
        drop(service);
        drops(job);
    }
}

// Broke: the last handle waited for a task, and that for what the closure beside it held.
#[test]
fn a_handler_lets_go_of_its_closure_before_its_pool() {
    let (pool, held) = waiting(false);
    drops(handler(pool, Some(held)));
}

// Broke: the same, in a future that was not polled yet, or that waited for a place.
#[test]
fn so_does_the_future_of_a_job() {
    drops_a_job(|handler| handler);
}

// Broke: the same, where it was not polled yet.
#[test]
fn so_does_one_in_a_layer() {
    drops_a_job(|handler| JobLayer::new(Wire::new()).layer(handler));
}

#[test]
fn so_does_one_whose_context_does_not_decode() {
    let (pool, held) = waiting(false);
    let layer = JobLayer::new(Wire::new().slot("number", &NUMBER));
    let mut service = layer.layer(handler(pool, None));
    let metadata = [("cleanslate.number", "none")].into_iter().collect();
    let job = service.call(TaskBuilder::new(Some(held)).with_metadata(metadata).build());
    drop(service);
    let (over, is_over) = mpsc::channel();
    std::thread::spawn(move || over.send(job.now_or_never().unwrap().is_err()).unwrap());
    assert!(is_over.recv_timeout(Duration::from_secs(60)).expect("it waits for itself"));
}
