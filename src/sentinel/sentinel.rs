//! [`Sentinel`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cleanslate_sentinel as watching;

use crate::panic::Guarded;

use super::{BuiltInRule, Incident, Report, Unsupported, WatchError, Watcher};

/// Says which thread-locals may change, and what a pool does when another one has.
///
/// A new one has the built-in rules, and only counts leaks. It is cheap to clone.
///
/// ```
/// use std::cell::Cell;
/// use cleanslate::{Pool, sentinel::Sentinel};
///
/// thread_local! { static TENANT: Cell<u64> = const { Cell::new(0) }; }
///
/// # if cleanslate::sentinel::supported().is_err() { return; }
/// let sentinel = Sentinel::new().allow("*::CACHE");
/// let pool = Pool::builder().workers(1).sentinel(sentinel).build().unwrap();
/// pool.submit(|| TENANT.set(7)).join().unwrap();
/// assert_eq!(pool.stats().leaks, 1);
/// ```
#[derive(Clone, Debug)]
#[must_use = "a sentinel does nothing until it is given to a pool or asked to watch"]
pub struct Sentinel {
    rules: watching::Sentinel,
    action: Action,
    callback: Option<Callback>,
}

/// What a pool calls for each task that leaked, whatever else it does.
#[derive(Clone)]
struct Callback(Arc<dyn Fn(&Incident<'_>) + Send + Sync>);

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Callback")
    }
}

/// What a pool does about a task that leaked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    /// Adds to the pool's figures.
    Count,
    /// Makes the task fail.
    Panic,
    /// Retires the worker, at most this many in this much time.
    Renew { at_most: u32, per: Duration },
    /// Retires the worker after each task, without looking.
    RenewAlways,
}

impl From<watching::Sentinel> for Sentinel {
    /// Takes over the rules, and only counts leaks.
    fn from(rules: watching::Sentinel) -> Sentinel {
        Sentinel { rules, action: Action::Count, callback: None }
    }
}

impl Default for Sentinel {
    fn default() -> Sentinel {
        Sentinel::new()
    }
}

impl Sentinel {
    /// Returns a sentinel with the built-in rules, which counts leaks.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{Pool, sentinel::Sentinel};
    ///
    /// let Ok(pool) = Pool::builder().workers(1).sentinel(Sentinel::new()).build() else { return };
    /// assert_eq!(pool.stats().leaks, 0);
    /// ```
    pub fn new() -> Sentinel {
        watching::Sentinel::new().into()
    }

    /// Returns a sentinel without the built-in rules, which counts leaks.
    ///
    /// It still allows what std and cleanslate keep, but not even the `errno` of the C library.
    ///
    /// ```
    /// use cleanslate::sentinel::Sentinel;
    ///
    /// let ((), report) = Sentinel::strict().allow("module:libc.so*").watch(|| ());
    /// assert!(report.leaks().is_empty());
    /// ```
    pub fn strict() -> Sentinel {
        watching::Sentinel::strict().into()
    }

    /// Returns the built-in rules.
    ///
    /// ```
    /// use cleanslate::sentinel::Sentinel;
    ///
    /// assert!(Sentinel::built_in_rules().all(|rule| !rule.reason().is_empty()));
    /// ```
    pub fn built_in_rules() -> impl Iterator<Item = BuiltInRule> {
        watching::Sentinel::built_in_rules()
    }

    /// Allows thread-locals to change.
    ///
    /// The pattern is a path, as a report shows it; `*` stands for any characters, and the name of
    /// a crate or a module stands for all that is in it. `module:libfoo.so*` stands for all that a
    /// shared library or program contains, for files without symbols.
    ///
    /// ```
    /// use cleanslate::sentinel::Sentinel;
    ///
    /// let sentinel = Sentinel::new()
    ///     .allow("my_app::cache")
    ///     .allow("*::CURRENT_*")
    ///     .allow("module:libcrypto.so*");
    /// assert!(format!("{sentinel:?}").contains("my_app::cache"));
    /// ```
    pub fn allow(mut self, pattern: &str) -> Sentinel {
        self.rules = self.rules.allow(pattern);
        self
    }

    /// Allows the first touch of thread-locals, but no later change.
    ///
    /// This is for caches that a thread fills once: the change is allowed if the thread-local was
    /// as in a fresh thread before the task. Patterns are those of [`allow`](Self::allow).
    ///
    /// The first touch of something that holds a pointer (an `Arc`, a map) may be all that you will
    /// ever see of a leak: look at what it is before you allow it.
    ///
    /// ```
    /// use std::cell::Cell;
    /// use cleanslate::sentinel::Sentinel;
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
        self.rules = self.rules.allow_first_touch(pattern);
        self
    }

    /// Also compares what a function returns, for per-thread state that lies on the heap, which the
    /// bytes of a thread-local do not show.
    ///
    /// The function is called on the worker, before the task and after it. If the answers differ,
    /// that is a leak with the name of the probe; for what is not a number, return a hash. What the
    /// function touches itself is not watched. If it panics, the panic is swallowed, and nothing is
    /// compared.
    ///
    /// With the feature `tracing` a new sentinel has a probe for the current span.
    ///
    /// ```
    /// use std::cell::Cell;
    /// use cleanslate::{Pool, sentinel::Sentinel};
    ///
    /// // Nothing but the pointer lies in the thread-local, and that stays the same.
    /// thread_local! { static LEVEL: Box<Cell<u64>> = Box::new(Cell::new(0)); }
    ///
    /// # if cleanslate::sentinel::supported().is_err() { return; }
    /// let sentinel = Sentinel::new().probe("the level", || LEVEL.with(|level| level.get()));
    /// let pool = Pool::builder().workers(1).sentinel(sentinel).build().unwrap();
    /// pool.submit(|| LEVEL.with(|level| level.set(7))).join().unwrap();
    /// assert_eq!(pool.stats().leaks, 1);
    /// ```
    pub fn probe(mut self, name: &str, read: fn() -> u64) -> Sentinel {
        self.rules = self.rules.probe(name, read);
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
    /// Returns [`Unsupported`] where the sentinel does not work, or cannot read a file just now.
    ///
    /// ```
    /// use cleanslate::sentinel::Sentinel;
    ///
    /// let sentinel = Sentinel::new().allow("log_mcd");
    /// if let Ok(unused) = sentinel.unused_rules() {
    ///     assert_eq!(unused, ["log_mcd"]);
    /// }
    /// ```
    pub fn unused_rules(&self) -> Result<Vec<&str>, Unsupported> {
        self.rules.unused_rules()
    }

    /// Makes a pool only count leaking tasks, in [`Stats::leaks`](crate::Stats::leaks). A new
    /// sentinel does this, and every other action counts as well.
    ///
    /// Of `count`, [`panic`](Self::panic), [`renew`](Self::renew) and
    /// [`renew_always`](Self::renew_always), the last one that was asked for applies.
    ///
    /// ```
    /// let sentinel = cleanslate::sentinel::Sentinel::new().count();
    /// assert!(format!("{sentinel:?}").contains("Count"));
    /// ```
    pub fn count(mut self) -> Sentinel {
        self.action = Action::Count;
        self
    }

    /// Makes a pool call a function for each task that leaked, on the worker that ran it, before
    /// the task's end can be observed.
    ///
    /// It comes in addition to the action: with [`renew`](Self::renew) it tells which leaks there
    /// were, and which of them were above the rate. The function may submit tasks and wait for
    /// them. If it panics, the panic is contained and goes to the pool's
    /// [`panic_hook`](crate::PoolBuilder::panic_hook); what the function leaves in thread-locals
    /// itself is not watched.
    ///
    /// ```
    /// use cleanslate::sentinel::Sentinel;
    ///
    /// let sentinel = Sentinel::new().report(|incident| eprintln!("{incident}"));
    /// assert!(format!("{sentinel:?}").contains("Callback"));
    /// ```
    pub fn report(mut self, f: impl Fn(&Incident<'_>) + Send + Sync + 'static) -> Sentinel {
        let f = Guarded::new(f);
        self.callback = Some(Callback(Arc::new(move |incident| f(incident))));
        self
    }

    /// Makes a task that leaked fail with a panic, whose message is the report. For tests.
    ///
    /// The task's result is dropped. A task that fails by itself keeps its own failure. In a map
    /// the panic is that of the item: it stops the others or, in
    /// [`map_results`](crate::Pool::map_results), is the result of its item. The panic starts after
    /// the task's end, so the process's panic hook does not print it; of a task that nobody joins,
    /// in a [`scope`](crate::Pool::scope) or detached, only the pool's
    /// [`panic_hook`](crate::PoolBuilder::panic_hook) gets the report. (The scope then panics as it
    /// does for any task that has failed.)
    ///
    /// ```
    /// let sentinel = cleanslate::sentinel::Sentinel::new().panic();
    /// assert!(format!("{sentinel:?}").contains("Panic"));
    /// ```
    pub fn panic(mut self) -> Sentinel {
        self.action = Action::Panic;
        self
    }

    /// Makes a pool replace a worker before its next outermost task when a task leaked on it.
    ///
    /// The thread ends, so that every thread-local's destructor runs, and a fresh one takes its
    /// place ([`Stats::renewed`](crate::Stats::renewed)). At most `at_most` workers of the pool are
    /// replaced for leaks in any stretch of time `per` long; above that rate the worker runs on,
    /// and the leak is only counted and reported.
    ///
    /// On a fresh thread nothing is initialised. So a cache that tasks fill at their first touch
    /// must be allowed ([`allow_first_touch`](Self::allow_first_touch)), or it makes each new
    /// thread leak once more, until the rate is used up.
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanslate::sentinel::Sentinel;
    ///
    /// let sentinel = Sentinel::new().renew(10, Duration::from_secs(1));
    /// assert!(format!("{sentinel:?}").contains("Renew"));
    /// ```
    pub fn renew(mut self, at_most: u32, per: Duration) -> Sentinel {
        self.action = Action::Renew { at_most, per };
        self
    }

    /// Makes a pool replace a worker after every outermost task, whether it leaked or not.
    ///
    /// Nothing is watched, so nothing can be overlooked: heap data behind an unchanged pointer,
    /// pthread keys and files without symbols are covered too, on every system. The price is a
    /// thread for each task. Nothing is counted as a leak or reported either.
    ///
    /// ```
    /// let sentinel = cleanslate::sentinel::Sentinel::new().renew_always();
    /// assert!(format!("{sentinel:?}").contains("RenewAlways"));
    /// ```
    pub fn renew_always(mut self) -> Sentinel {
        self.action = Action::RenewAlways;
        self
    }

    /// Returns a watcher of the calling thread, by the rules of this sentinel. The action plays no
    /// part.
    ///
    /// # Errors
    ///
    /// Returns [`Unsupported`] where the sentinel does not work, or cannot read a file just now.
    ///
    /// ```
    /// # #[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))] {
    /// let mut watcher = cleanslate::sentinel::Sentinel::new().watcher()?;
    /// watcher.begin();
    /// assert!(watcher.finish().is_none());
    /// # }
    /// # Ok::<(), cleanslate::sentinel::Unsupported>(())
    /// ```
    pub fn watcher(&self) -> Result<Watcher, Unsupported> {
        self.rules.watcher()
    }

    /// Runs a closure as [`watch`](crate::sentinel::watch()) does, by the rules of this sentinel.
    /// The action plays no part.
    ///
    /// # Panics
    ///
    /// A panic of the closure passes through, and no report is made.
    ///
    /// ```
    /// use cleanslate::sentinel::Sentinel;
    ///
    /// let (four, report) = Sentinel::new().allow("my_app::cache").watch(|| 2 + 2);
    /// assert_eq!((four, report.leaks().len()), (4, 0));
    /// ```
    pub fn watch<R>(&self, f: impl FnOnce() -> R) -> (R, Report) {
        self.rules.watch(f)
    }

    /// Runs a closure as [`try_watch`](crate::sentinel::try_watch) does, by the rules of this
    /// sentinel. The action plays no part.
    ///
    /// # Errors
    ///
    /// Returns [`WatchError`], with the closure, where the sentinel does not work, or cannot read a
    /// file just now.
    ///
    /// # Panics
    ///
    /// A panic of the closure passes through, and no report is made.
    ///
    /// ```
    /// use cleanslate::sentinel::{Sentinel, supported};
    ///
    /// let result = Sentinel::new().try_watch(|| 2 + 2);
    /// assert_eq!(result.is_ok(), supported().is_ok());
    /// ```
    pub fn try_watch<R, F: FnOnce() -> R>(&self, f: F) -> Result<(R, Report), WatchError<F>> {
        self.rules.try_watch(f)
    }

    /// Runs a closure as [`assert_clean`](crate::sentinel::assert_clean) does, by the rules of this
    /// sentinel. The action plays no part.
    ///
    /// # Panics
    ///
    /// Panics if a thread-local was left changed, or where the sentinel does not work. A panic of
    /// the closure passes through as it is.
    ///
    /// ```no_run
    /// use cleanslate::sentinel::Sentinel;
    ///
    /// assert_eq!(Sentinel::new().allow("my_app::cache").assert_clean(|| 2 + 2), 4);
    /// ```
    #[track_caller]
    pub fn assert_clean<R>(&self, f: impl FnOnce() -> R) -> R {
        self.rules.assert_clean(f)
    }

    pub(crate) fn action(&self) -> Action {
        self.action
    }

    pub(crate) fn callback(&self) -> Option<&(dyn Fn(&Incident<'_>) + Send + Sync)> {
        self.callback.as_ref().map(|callback| &*callback.0)
    }
}

#[cfg(test)]
mod tests {
    use std::panic::Location;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::{Action, Incident, Sentinel};

    #[test]
    fn the_last_action_that_was_asked_for_counts() {
        let sentinel = Sentinel::new();
        assert!(matches!(sentinel.action(), Action::Count));
        let sentinel = sentinel.panic().renew(3, Duration::from_secs(2));
        let Action::Renew { at_most: 3, per } = sentinel.action() else { panic!("{sentinel:?}") };
        assert_eq!(per, Duration::from_secs(2));
        let sentinel = sentinel.allow("x").renew_always();
        assert!(matches!(sentinel.action(), Action::RenewAlways));
    }

    #[test]
    fn a_callback_comes_in_addition_to_the_action() {
        let sentinel = Sentinel::new().panic().report(|_| ()).allow("x");
        assert!(matches!(sentinel.action(), Action::Panic));
        assert!(sentinel.count().callback().is_some());
    }

    #[test]
    fn a_callback_learns_of_task_place_worker_and_report() {
        let (sender, receiver) = mpsc::channel();
        let sentinel = Sentinel::new().report(move |incident| {
            let name = incident.task().map(str::to_owned);
            sender
                .send((name, incident.worker(), incident.renews(), incident.to_string()))
                .unwrap();
        });
        let Some(call) = sentinel.callback() else { panic!("{sentinel:?}") };
        let ((), report) = sentinel.watch(|| ());
        let here = Location::caller();
        call(&Incident::new(Some("mail"), here, Some(12), 3, &report, true));
        let (name, worker, renews, text) = receiver.recv().unwrap();
        assert_eq!((name.as_deref(), worker, renews), (Some("mail"), 3, true));
        assert!(
            text.starts_with(&format!(
                "item 12 of task `mail` submitted at {here} ran on worker 3: "
            ))
        );
    }
}
