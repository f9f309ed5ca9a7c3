//! [`Sentinel`].

use std::sync::Arc;

use crate::built_in::{BUILT_IN, BuiltInRule};
use crate::contain::contain;
use crate::error::{Unsupported, WatchError};
use crate::lease;
use crate::module::Module;
use crate::policy::Policy;
use crate::probe::Probe;
use crate::report::Report;
use crate::rule::Rules;
use crate::tls;
use crate::verdict::Verdict;
use crate::watcher::Watcher;

/// What a user can do about each leak, printed below the table.
const ADVICE: &str = "\
what can be done about each:
  your own state of one task   declare it with cleanslate::task_local!
  foreign, but of one task     give each task its own: cleanslate::foreign::adopt(&KEY), or
                               where KEY has no name a Carrier over the crate's functions
  kept per thread on purpose   worker_local!, or Sentinel::allow(\"its::path\")
  none of these                let the pool renew the worker: Sentinel::renew";

/// Holds rules on which thread-locals may change, and watches by them.
///
/// A new one allows what [the built-in rules](crate#what-is-allowed) allow. It is cheap to clone.
///
/// ```
/// use std::cell::Cell;
/// use cleanslate_sentinel::Sentinel;
///
/// thread_local! { static CACHE: Cell<u64> = const { Cell::new(0) }; }
///
/// let sentinel = Sentinel::new().allow("*::CACHE");
/// let ((), report) = sentinel.watch(|| CACHE.set(1));
/// assert!(report.leaks().is_empty());
/// ```
#[derive(Clone, Debug)]
#[must_use = "a sentinel does nothing until it is asked to watch"]
pub struct Sentinel {
    policy: Arc<Policy>,
}

impl Sentinel {
    /// Returns a sentinel with the built-in rules.
    ///
    /// # Examples
    ///
    /// ```
    /// let ((), report) = cleanslate_sentinel::Sentinel::new().watch(|| ());
    /// assert!(report.leaks().is_empty());
    /// ```
    pub fn new() -> Sentinel {
        Sentinel { policy: Policy::built_in() }
    }

    /// Returns a sentinel without the built-in rules.
    ///
    /// It still allows what std keeps and what its owner [ignores](crate::ignore()), but not even
    /// the `errno` of the C library.
    ///
    /// ```
    /// use cleanslate_sentinel::Sentinel;
    ///
    /// let ((), report) = Sentinel::strict().allow("module:libc.so*").watch(|| ());
    /// assert!(report.leaks().is_empty());
    /// ```
    pub fn strict() -> Sentinel {
        Sentinel { policy: Arc::new(Policy::new(Rules::strict(), Vec::new())) }
    }

    /// Returns the built-in rules.
    ///
    /// ```
    /// use cleanslate_sentinel::Sentinel;
    ///
    /// assert!(Sentinel::built_in_rules().all(|rule| !rule.reason().is_empty()));
    /// ```
    pub fn built_in_rules() -> impl Iterator<Item = BuiltInRule> {
        BUILT_IN.iter().copied()
    }

    /// Allows thread-locals to change.
    ///
    /// The pattern is a path, as a report shows it; `*` stands for any characters, and the name of
    /// a crate or a module stands for everything in it, and for the implementations of traits for
    /// its types in their crate. `module:libfoo.so*` stands for everything that a shared library or
    /// program contains, for files without symbols.
    ///
    /// Unless rustc is told to use the mangling `v0`, the symbol of something declared inside an
    /// `impl a::Trait for b::Type` does not say which of the two crates it is in. The name of one
    /// crate does not cover it then: give its path.
    ///
    /// ```
    /// use cleanslate_sentinel::Sentinel;
    ///
    /// let sentinel = Sentinel::new()
    ///     .allow("my_app::cache")
    ///     .allow("*::CURRENT_*")
    ///     .allow("module:libcrypto.so*");
    /// assert!(format!("{sentinel:?}").contains("my_app::cache"));
    /// ```
    pub fn allow(mut self, pattern: &str) -> Sentinel {
        Arc::make_mut(&mut self.policy).add(pattern, Verdict::Allowed);
        self
    }

    /// Allows the first touch of thread-locals, but no later change.
    ///
    /// This is for caches that a thread fills once: the change is allowed if the thread-local was
    /// as in a fresh thread before the task. Patterns are those of [`allow`](Self::allow); for what
    /// has no name in its file, each run of words that change is judged by itself.
    ///
    /// The first touch of something that holds a pointer (an `Arc`, a map) may be all that you will
    /// ever see of a leak: look at what it is before you allow it.
    ///
    /// ```
    /// use std::cell::Cell;
    /// use cleanslate_sentinel::Sentinel;
    ///
    /// thread_local! { static ONCE: Cell<u64> = const { Cell::new(0) }; }
    ///
    /// let sentinel = Sentinel::new().allow_first_touch("*::ONCE");
    /// let ((), first) = sentinel.watch(|| ONCE.set(1));
    /// let ((), second) = sentinel.watch(|| ONCE.set(2));
    /// assert!(first.leaks().is_empty());
    /// assert_eq!(second.leaks().len(), usize::from(second.unsupported().is_none()));
    /// ```
    pub fn allow_first_touch(mut self, pattern: &str) -> Sentinel {
        Arc::make_mut(&mut self.policy).add(pattern, Verdict::FirstTouch);
        self
    }

    /// Also compares what a function returns, for per-thread state that lies on the heap, which the
    /// bytes of a thread-local do not show.
    ///
    /// The function is called on the watched thread, before the task and after it. If the answers
    /// differ, that is a leak with the name of the probe; for what is not a number, return a hash.
    /// What the function touches itself is not watched. If it panics, the panic is swallowed, and
    /// nothing is compared.
    ///
    /// With the crate's feature `tracing` a new sentinel has a probe for the current span.
    ///
    /// ```
    /// use std::cell::Cell;
    /// use cleanslate_sentinel::Sentinel;
    ///
    /// // Nothing but the pointer lies in the thread-local, and that stays the same.
    /// thread_local! { static LEVEL: Box<Cell<u64>> = Box::new(Cell::new(0)); }
    ///
    /// # if cleanslate_sentinel::supported().is_err() { return; }
    /// let sentinel = Sentinel::new().probe("the level", || LEVEL.with(|level| level.get()));
    /// let ((), report) = sentinel.watch(|| LEVEL.with(|level| level.set(7)));
    /// assert_eq!(report.leaks()[0].path(), Some("the level"));
    /// ```
    pub fn probe(mut self, name: &str, read: fn() -> u64) -> Sentinel {
        Arc::make_mut(&mut self.policy).probes.push(Probe::new(name, read));
        self
    }

    /// Returns which of the patterns given to [`allow`](Self::allow) and
    /// [`allow_first_touch`](Self::allow_first_touch) match nothing in the program and in the
    /// libraries that are loaded now, perhaps because of a typing error, or a crate that is no
    /// longer there.
    ///
    /// Where a file has no symbols, no pattern for a name matches anything in it.
    ///
    /// # Errors
    ///
    /// Returns [`Unsupported`] on systems where the sentinel does not work, and while symbols
    /// cannot be read.
    ///
    /// ```
    /// use std::cell::Cell;
    /// use cleanslate_sentinel::Sentinel;
    ///
    /// thread_local! { static CACHE: Cell<u64> = const { Cell::new(0) }; }
    ///
    /// CACHE.set(1);
    /// let sentinel = Sentinel::new().allow("*::CACHE").allow("*::CAHCE");
    /// if let Ok(unused) = sentinel.unused_rules() {
    ///     assert_eq!(unused, ["*::CAHCE"]);
    /// }
    /// ```
    pub fn unused_rules(&self) -> Result<Vec<&str>, Unsupported> {
        tls::census()?;
        // This includes libraries of which this thread has no block yet.
        let modules = tls::list().modules.iter().map(Module::of).collect::<Result<Vec<_>, _>>()?;
        Ok(self.policy.rules().unused(&modules))
    }

    /// Returns a watcher of the calling thread, for your own executor.
    ///
    /// # Errors
    ///
    /// Returns [`Unsupported`] on systems where the sentinel does not work, and while symbols
    /// cannot be read.
    ///
    /// ```
    /// # #[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))] {
    /// let mut watcher = cleanslate_sentinel::Sentinel::new().watcher()?;
    /// watcher.begin();
    /// assert!(watcher.finish().is_none());
    /// # }
    /// # Ok::<(), cleanslate_sentinel::Unsupported>(())
    /// ```
    pub fn watcher(&self) -> Result<Watcher, Unsupported> {
        lease::watcher(&self.policy)
    }

    /// Runs a closure as [`watch`](crate::watch()) does, by the rules of this sentinel.
    ///
    /// # Panics
    ///
    /// A panic of the closure passes through, and no report is made.
    ///
    /// ```
    /// use cleanslate_sentinel::Sentinel;
    ///
    /// let (four, report) = Sentinel::new().allow("my_app::cache").watch(|| 2 + 2);
    /// assert_eq!((four, report.leaks().len()), (4, 0));
    /// ```
    pub fn watch<R>(&self, f: impl FnOnce() -> R) -> (R, Report) {
        lease::watch(&self.policy, f)
    }

    /// Runs a closure as [`try_watch`](crate::try_watch) does, by the rules of this
    /// sentinel.
    ///
    /// # Errors
    ///
    /// Returns [`WatchError`], with the closure, on systems where the sentinel does not work, and
    /// while symbols cannot be read.
    ///
    /// # Panics
    ///
    /// A panic of the closure passes through, and no report is made.
    ///
    /// ```
    /// use cleanslate_sentinel::Sentinel;
    ///
    /// let result = Sentinel::new().try_watch(|| 2 + 2);
    /// assert!(result.is_ok_and(|(four, _)| four == 4) || cfg!(not(target_env = "gnu")));
    /// ```
    pub fn try_watch<R, F: FnOnce() -> R>(&self, f: F) -> Result<(R, Report), WatchError<F>> {
        lease::try_watch(&self.policy, f)
    }

    /// Runs a closure as [`assert_clean`](crate::assert_clean) does, by the rules of
    /// this sentinel.
    ///
    /// # Panics
    ///
    /// Panics if a thread-local was left changed, or where the sentinel does not work. A panic of
    /// the closure passes through as it is.
    ///
    /// ```no_run
    /// use cleanslate_sentinel::Sentinel;
    ///
    /// assert_eq!(Sentinel::new().allow("my_app::cache").assert_clean(|| 2 + 2), 4);
    /// ```
    #[track_caller]
    pub fn assert_clean<R>(&self, f: impl FnOnce() -> R) -> R {
        let (value, report) = self.watch(f);
        if report.unsupported().is_none() && report.is_clean() {
            return value;
        }
        // Its drop may panic as well, but must not while this panic unwinds.
        let _panicked = contain(|| drop(value));
        if report.unsupported().is_some() {
            panic!("{report}");
        }
        panic!("{report}\n{ADVICE}");
    }
}

impl Default for Sentinel {
    fn default() -> Sentinel {
        Sentinel::new()
    }
}
