//! The guide: the pages of the folder `docs`.
//!
//! | you | read |
//! |---|---|
//! | want to choose between the pool's methods, wait, fail, shut down | [the pool](pool) |
//! | have state that tasks should find, or must not | [contexts] |
//! | stay on rayon | [on rayon](rayon) |
//! | come from rayon | [from rayon](from_rayon) |
//! | come from Python | [from Python](from_python) |
//! | have a service on tokio or axum | [async](mod@async) |
//! | come from `thread_local!` or tokio's `task_local!` | [moving](migrating) |
//! | have thread state of others to take along | [carriers] |
//! | look for a leak | [the sentinel](sentinel) |
//! | wonder how others do it | [compared with others](comparison) |
//! | ask what it costs | [performance] |
//! | want to rely on it, or to read the code | [the rules](rules), [the engine](engine) |
//! | wonder why tasks that wait cannot deadlock | [waiting] |

/// Declares the pages as modules.
///
/// A page links to others by references, which it defines at its end for readers in the repository.
/// Of several definitions of a reference the first one counts, so those here, which lead to
/// modules, come first. `scripts/links` checks that every reference has one.
macro_rules! pages {
    ($($(#[$attribute:meta])* $page:ident = $file:literal;)*) => {$(
        /// [carriers.md]: crate::guide::carriers
        /// [carriers.md#ready-made]: crate::guide::carriers#ready-made
        /// [carriers.md#your-own]: crate::guide::carriers#your-own
        /// [comparison.md]: crate::guide::comparison
        /// [contexts.md]: crate::guide::contexts
        /// [contexts.md#worker-locals-are-leased]: crate::guide::contexts#worker-locals-are-leased
        /// [engine.md]: crate::guide::engine
        /// [engine.md#how-threads-wait]: crate::guide::engine#how-threads-wait
        /// [from-python.md]: crate::guide::from_python
        /// [from-rayon.md]: crate::guide::from_rayon
        /// [migrating.md#leaks-in-a-service-and-on-rayon]: crate::guide::migrating#leaks-in-a-service-and-on-rayon
        /// [performance.md]: crate::guide::performance
        /// [pool.md]: crate::guide::pool
        /// [rayon.md]: crate::guide::rayon
        /// [rules.md]: crate::guide::rules
        /// [sentinel.md]: crate::guide::sentinel
        /// [waiting.md]: crate::guide::waiting
        $(#[$attribute])*
        #[doc = include_str!(concat!("../docs/", $file))]
        pub mod $page {}
    )*};
}

pages! {
    /// [tests/context/inherit.rs]: https://docs.rs/crate/cleanslate/latest/source/tests/context/inherit.rs
    /// [tests/isolation/main.rs]: https://docs.rs/crate/cleanslate/latest/source/tests/isolation/main.rs
    comparison = "comparison.md";
    contexts = "contexts.md";
    /// [src/context/mod.rs]: ../../../src/cleanslate/context/mod.rs.html
    /// [src/context/run.rs]: ../../../src/cleanslate/context/run.rs.html
    /// [src/frame/capture.rs]: ../../../src/cleanslate/frame/capture.rs.html
    /// [src/frame/framed.rs]: ../../../src/cleanslate/frame/framed.rs.html
    /// [src/frame/task.rs]: ../../../src/cleanslate/frame/task.rs.html
    /// [src/frame/thread.rs]: ../../../src/cleanslate/frame/thread.rs.html
    /// [src/frame/touch.rs]: ../../../src/cleanslate/frame/touch.rs.html
    /// [src/panic.rs]: ../../../src/cleanslate/panic.rs.html
    /// [src/pool/core/admission.rs]: ../../../src/cleanslate/pool/core/admission.rs.html
    /// [src/pool/core/capacity.rs]: ../../../src/cleanslate/pool/core/capacity.rs.html
    /// [src/pool/core/phase.rs]: ../../../src/cleanslate/pool/core/phase.rs.html
    /// [src/pool/core/running.rs]: ../../../src/cleanslate/pool/core/running.rs.html
    /// [src/pool/isolation.rs]: ../../../src/cleanslate/pool/isolation.rs.html
    /// [src/pool/job/mod.rs]: ../../../src/cleanslate/pool/job/mod.rs.html
    /// [src/pool/job/state.rs]: ../../../src/cleanslate/pool/job/state.rs.html
    /// [src/pool/scheduler/current.rs]: ../../../src/cleanslate/pool/scheduler/current.rs.html
    /// [src/pool/scheduler/queue.rs]: ../../../src/cleanslate/pool/scheduler/queue.rs.html
    /// [src/pool/scheduler/sleep.rs]: ../../../src/cleanslate/pool/scheduler/sleep.rs.html
    /// [src/pool/scheduler/waiter.rs]: ../../../src/cleanslate/pool/scheduler/waiter.rs.html
    /// [src/pool/scheduler/worker.rs]: ../../../src/cleanslate/pool/scheduler/worker.rs.html
    /// [src/pool/scheduler/worker_slot.rs]: ../../../src/cleanslate/pool/scheduler/worker_slot.rs.html
    /// [src/pool/submission.rs]: ../../../src/cleanslate/pool/submission.rs.html
    /// [src/slot/place.rs]: ../../../src/cleanslate/slot/place.rs.html
    engine = "engine.md";
    from_python = "from-python.md";
    performance = "performance.md";
    pool = "pool.md";
    rules = "rules.md";
    sentinel = "sentinel.md";
    waiting = "waiting.md";
}

// Their examples are tested by `interop`, with the crates that they are about.
#[cfg(not(doctest))]
pages! {
    r#async = "async.md";
    carriers = "carriers.md";
    migrating = "migrating.md";
}

// Their examples are tested where the feature is there.
#[cfg(any(not(doctest), feature = "rayon"))]
pages! {
    from_rayon = "from-rayon.md";
    rayon = "rayon.md";
}
