//! The executors. Each runs all requests in one burst, and the parts of a request in parallel.
//!
//! Where a waiting worker helps (rayon, cleanslate) the parts run on the same pool. A waiting
//! worker of `threadpool` or of tokio's blocking pool helps nobody, so one pool for both could
//! deadlock: there the parts have a second pool of the same kind.

use std::error::Error;
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use cleanslate::foreign::adopt;
use cleanslate::{Isolation, Pool};
use rayon::prelude::*;
use threadpool::ThreadPool;
use tokio::runtime::{Builder, Runtime};

use super::job::{Request, Run, Seen};
use super::store::{FOREIGN, Foreign, Store};
use super::watch;

/// What the requests saw, and how long all of them took.
pub(super) type Served = Result<(Vec<Seen>, Duration), Box<dyn Error>>;

fn timed(run: &Run, serve: impl FnOnce(&Run) -> Vec<Seen>) -> Served {
    let run = Run { began: Instant::now(), ..run.clone() };
    let seen = serve(&run);
    Ok((seen, run.began.elapsed()))
}

/// A new thread for every request and for every part; as many requests at a time as there are
/// workers.
pub(super) fn threads<S: Store>(requests: &[Request], run: &Run) -> Served {
    let serve_one = |run: &Run, request| {
        run.handle::<S>(request, |parts, f| {
            std::thread::scope(|s| {
                let parts: Vec<_> =
                    parts.into_iter().map(|part| s.spawn(move || f(part))).collect();
                parts.into_iter().map(|part| part.join().expect("a part panicked")).collect()
            })
        })
    };
    timed(run, |run| {
        let queue = Mutex::new(requests.iter().copied());
        let seen = Mutex::new(Vec::with_capacity(requests.len()));
        std::thread::scope(|s| {
            for _ in 0..run.workers {
                s.spawn(|| {
                    let next = || queue.lock().expect("the queue is sound").next();
                    while let Some(request) = next() {
                        let served =
                            std::thread::scope(|s| s.spawn(|| serve_one(run, request)).join());
                        let served = served.expect("a request panicked");
                        seen.lock().expect("the list is sound").push(served);
                    }
                });
            }
        });
        seen.into_inner().expect("the list is sound")
    })
}

pub(super) fn leaky<S: Store>(requests: &[Request], run: &Run) -> Served {
    let pool = Pool::builder().workers(run.workers).isolation(Isolation::Leaky).build()?;
    serve_on(&pool, requests, run, |run, request| run.handle::<S>(request, |p, f| pool.map(p, f)))
}

pub(super) fn reset<S: Store>(requests: &[Request], run: &Run) -> Served {
    let pool = Pool::new(run.workers)?;
    serve_on(&pool, requests, run, |run, request| run.handle::<S>(request, |p, f| pool.map(p, f)))
}

/// The pool is told of a thread-local that it cannot know about by itself.
pub(super) fn reset_adopting(requests: &[Request], run: &Run) -> Served {
    let adopted = adopt(&FOREIGN).named("FOREIGN");
    let pool = watch::by_pool(Pool::builder().workers(run.workers).carry(adopted)).build()?;
    serve_on(&pool, requests, run, |run, request| {
        run.serve::<Foreign>(request, |p, f| pool.map(p, f))
    })
}

fn serve_on(
    pool: &Pool,
    requests: &[Request],
    run: &Run,
    serve_one: impl Fn(&Run, Request) -> Seen + Sync,
) -> Served {
    timed(run, |run| {
        pool.scope(|s| {
            let serve_one = &serve_one;
            let start = |&request| s.submit(move || serve_one(run, request));
            let handles: Vec<_> = requests.iter().map(start).collect();
            handles.into_iter().map(|handle| handle.join().expect("a request failed")).collect()
        })
    })
}

pub(super) fn rayon<S: Store>(requests: &[Request], run: &Run) -> Served {
    serve_on_rayon(requests, run, |run, request| {
        run.handle::<S>(request, |parts, f| parts.into_par_iter().map(f).collect())
    })
}

/// The same, but each request and each part is made a task.
#[cfg(feature = "rayon")]
pub(super) fn rayon_isolated<S: Store>(requests: &[Request], run: &Run) -> Served {
    use cleanslate::Context;
    use cleanslate::rayon::ParallelIteratorExt;

    let context = Context::empty();
    serve_on_rayon(requests, run, |run, request| {
        context.run(|| {
            run.handle::<S>(request, |parts, f| parts.into_par_iter().isolated().map(f).collect())
        })
    })
}

fn serve_on_rayon(
    requests: &[Request],
    run: &Run,
    serve_one: impl Fn(&Run, Request) -> Seen + Sync,
) -> Served {
    // A waiting worker starts other requests on top, without bound: leave them room.
    let pool =
        rayon::ThreadPoolBuilder::new().num_threads(run.workers).stack_size(64 << 20).build()?;
    // Waits until all of its threads are there.
    pool.broadcast(|_| ());
    timed(run, |run| {
        let (tell, told) = mpsc::channel();
        pool.in_place_scope(|s| {
            for &request in requests {
                let (tell, serve_one) = (tell.clone(), &serve_one);
                s.spawn(move |_| tell.send(serve_one(run, request)).expect("somebody waits"));
            }
        });
        drop(tell);
        told.into_iter().collect()
    })
}

pub(super) fn threadpool<S: Store>(requests: &[Request], run: &Run) -> Served {
    let (pool, parts_pool) = (ThreadPool::new(run.workers), ThreadPool::new(run.workers));
    timed(run, |run| {
        gather(requests.iter().copied(), |request, tell| {
            let (run, parts_pool) = (run.clone(), parts_pool.clone());
            pool.execute(move || {
                tell(run.handle::<S>(request, |parts, f| {
                    gather(parts, |part, tell| parts_pool.execute(move || tell(f(part))))
                }));
            });
        })
    })
}

pub(super) fn spawn_blocking<S: Store>(requests: &[Request], run: &Run) -> Served {
    let blocking = || Builder::new_current_thread().max_blocking_threads(run.workers).build();
    let (pool, parts_pool): (Runtime, Runtime) = (blocking()?, blocking()?);
    timed(run, |run| {
        gather(requests.iter().copied(), |request, tell| {
            let (run, parts_pool) = (run.clone(), parts_pool.handle().clone());
            pool.spawn_blocking(move || {
                tell(run.handle::<S>(request, |parts, f| {
                    gather(parts, |part, tell| {
                        parts_pool.spawn_blocking(move || tell(f(part)));
                    })
                }));
            });
        })
    })
}

/// Starts a task for each item and waits until all of them have sent their result.
fn gather<T, R: Send + 'static>(
    items: impl IntoIterator<Item = T>,
    start: impl Fn(T, Box<dyn FnOnce(R) + Send>),
) -> Vec<R> {
    let (tell, told) = mpsc::channel();
    for item in items {
        let tell = tell.clone();
        start(item, Box::new(move |result| tell.send(result).expect("somebody waits")));
    }
    drop(tell);
    told.into_iter().collect()
}
