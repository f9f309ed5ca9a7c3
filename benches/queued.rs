//! How many bytes does a waiting task take in the queue? As Markdown for `docs/performance.md`.
//!
//! Ours includes the handle that joins it, which the peers except tokio do not have.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use cleanslate::Pool;

struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);
/// How many tasks have run.
static DONE: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[expect(unsafe_code, reason = "the system's allocator, counted")]
// SAFETY: everything is passed on to `System`; the counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

/// Submits `tasks` behind one that waits, and prints how many bytes each of them took.
fn row<K>(
    name: &str,
    tasks: usize,
    submit: &dyn Fn(Box<dyn FnOnce() + Send>) -> K,
    work: impl Fn(usize) -> K,
) {
    let (go, gate) = mpsc::channel::<()>();
    let (begin, begun) = mpsc::channel();
    let first = submit(Box::new(move || {
        begin.send(()).unwrap();
        let _closed = gate.recv();
    }));
    begun.recv().unwrap();
    let mut kept = Vec::with_capacity(tasks);
    let before = BYTES.load(Ordering::Relaxed);
    kept.extend((0..tasks).map(work));
    let after = BYTES.load(Ordering::Relaxed);
    let each = after.saturating_sub(before) as f64 / tasks as f64 + size_of::<K>() as f64;
    println!("| {name} | {each:.0} | {} |", size_of::<K>());
    drop(go);
    drop(kept);
    drop(first);
    // Otherwise they would still be freed while the next pool is measured.
    while DONE.load(Ordering::Acquire) != tasks {
        std::thread::yield_now();
    }
    DONE.store(0, Ordering::Relaxed);
}

/// What a task does.
fn run(n: usize) {
    black_box(n);
    DONE.fetch_add(1, Ordering::Release);
}

fn main() {
    let tasks = if std::env::args().any(|it| it == "--test") { 1_000 } else { 1_000_000 };
    println!("\n## A task in the queue\n");
    println!("{tasks} tasks that capture a word each, behind one that waits; budget: 128 bytes.\n");
    println!("| | bytes of a task with its handle | of these the handle |\n|---|---|---|");
    let pool = Pool::new(1).unwrap();
    row("cleanslate", tasks, &|f| pool.submit(f), |n| pool.submit(move || run(n)));
    let rayon = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    row("rayon", tasks, &|f| rayon.spawn(f), |n| rayon.spawn(move || run(n)));
    let threadpool = threadpool::ThreadPool::new(1);
    row("threadpool", tasks, &|f| threadpool.execute(f), |n| {
        threadpool.execute(move || run(n));
    });
    let rusty = rusty_pool::Builder::new().core_size(1).max_size(1).build();
    row("rusty_pool", tasks, &|f| rusty.execute(f), |n| rusty.execute(move || run(n)));
    row("rusty_pool with a handle", tasks, &|f| rusty.evaluate(f), |n| {
        rusty.evaluate(move || run(n))
    });
    let mut tokio = tokio::runtime::Builder::new_multi_thread();
    let tokio = tokio.worker_threads(1).max_blocking_threads(1).build().unwrap();
    row("tokio `spawn_blocking`", tasks, &|f| tokio.spawn_blocking(f), |n| {
        tokio.spawn_blocking(move || run(n))
    });
}
