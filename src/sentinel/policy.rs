//! What a pool, or a test, does about leaks.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::report::Report;
use super::rule::{BuiltInRule, Rules, Verdict, built_in_rules};
use super::unsupported::Unsupported;
use super::watch::{ADVICE, BUILT_IN, WatchError, try_watch_by, watch_by};
use super::watcher::Watcher;

/// Which thread-locals may change, and what a pool does when another one did.
///
/// A new one allows what [the built-in rules](crate::sentinel#what-is-allowed) allow and counts.
/// It is cheap to clone.
///
/// ```
/// use std::cell::Cell;
/// use cleanslate::sentinel::Sentinel;
///
/// thread_local! { static CACHE: Cell<u64> = const { Cell::new(0) }; }
///
/// let sentinel = Sentinel::new().allow("*::CACHE");
/// let ((), report) = sentinel.watch(|| CACHE.set(1));
/// assert!(report.leaks().is_empty());
/// ```
#[derive(Clone, Debug)]
#[must_use = "a sentinel does nothing until it is given to a pool or asked to watch"]
pub struct Sentinel {
    rules: Arc<Rules>,
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
    /// Retires the worker, at most so many in so much time.
    Renew { at_most: u32, per: Duration },
    /// Retires the worker after each task, without looking.
    RenewAlways,
}

impl Sentinel {
    /// Makes a sentinel with the built-in rules that counts.
    pub fn new() -> Sentinel {
        Sentinel { rules: Arc::clone(&BUILT_IN), action: Action::Count, callback: None }
    }

    /// Makes a sentinel without the built-in rules, that counts.
    ///
    /// It still lets pass what std and cleanslate keep, but not even the `errno` of the C library.
    ///
    /// ```
    /// use cleanslate::sentinel::Sentinel;
    ///
    /// let ((), report) = Sentinel::strict().allow("module:libc.so*").watch(|| ());
    /// assert!(report.leaks().is_empty());
    /// ```
    pub fn strict() -> Sentinel {
        Sentinel { rules: Arc::new(Rules::strict()), action: Action::Count, callback: None }
    }

    /// Lists the built-in rules.
    ///
    /// ```
    /// use cleanslate::sentinel::Sentinel;
    ///
    /// assert!(Sentinel::built_in_rules().all(|rule| !rule.reason().is_empty()));
    /// ```
    pub fn built_in_rules() -> impl Iterator<Item = BuiltInRule> {
        built_in_rules()
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
        Arc::make_mut(&mut self.rules).add(pattern, Verdict::Allowed);
        self
    }

    /// Allows thread-locals to come to life, but not to change later.
    ///
    /// This is for caches that a thread fills once: the change is allowed if the thread-local was
    /// as in a fresh thread before the task. Patterns are those of [`allow`](Self::allow).
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
        Arc::make_mut(&mut self.rules).add(pattern, Verdict::FirstTouch);
        self
    }

    /// Makes a pool only count leaking tasks, in [`Stats::leaks`](crate::Stats::leaks). This is what a
    /// new sentinel does, and every other action counts as well.
    ///
    /// Of `count`, [`panic`](Self::panic), [`renew`](Self::renew) and
    /// [`renew_always`](Self::renew_always) the last one that was asked for holds.
    ///
    /// ```
    /// let sentinel = cleanslate::sentinel::Sentinel::new().count();
    /// assert!(format!("{sentinel:?}").contains("Count"));
    /// ```
    pub fn count(mut self) -> Sentinel {
        self.action = Action::Count;
        self
    }

    /// Makes a pool call a function for each task that leaked, on the worker that ran it, before the
    /// task's end can be seen.
    ///
    /// It comes in addition to what else is done: with [`renew`](Self::renew) it tells which leaks
    /// there were, and which of them were above the rate. The function may submit tasks and wait for
    /// them. A panic of it is contained and goes to the pool's
    /// [`panic_hook`](crate::PoolBuilder::panic_hook); what it leaves in thread-locals itself is not
    /// watched.
    ///
    /// ```
    /// use cleanslate::sentinel::Sentinel;
    ///
    /// let sentinel = Sentinel::new().report(|incident| eprintln!("{incident}"));
    /// assert!(format!("{sentinel:?}").contains("Callback"));
    /// ```
    pub fn report(mut self, f: impl Fn(&Incident<'_>) + Send + Sync + 'static) -> Sentinel {
        self.callback = Some(Callback(Arc::new(f)));
        self
    }

    /// Makes a task that leaked fail with a panic, whose message is the report. For tests.
    ///
    /// The task's result is dropped. A task that fails by itself keeps its own failure. In a map the
    /// panic is that of the item: it stops the others, or in
    /// [`map_results`](crate::Pool::map_results) is the result of its item. The panic starts after the
    /// task's end, so the process's panic hook does not print it.
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
    /// replaced for leaks in any stretch of time `per` long; above that rate the worker runs on, and
    /// the leak is only counted and reported.
    ///
    /// A fresh thread is one on which nothing was initialised. So a cache that tasks fill at their
    /// first touch must be allowed ([`allow_first_touch`](Self::allow_first_touch)), or it makes
    /// each new thread leak once more, until the rate is used up.
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
    /// pthread keys and files without symbols are covered too, on every system. The price is a thread
    /// for each task. Nothing is counted as a leak or reported either.
    ///
    /// ```
    /// let sentinel = cleanslate::sentinel::Sentinel::new().renew_always();
    /// assert!(format!("{sentinel:?}").contains("RenewAlways"));
    /// ```
    pub fn renew_always(mut self) -> Sentinel {
        self.action = Action::RenewAlways;
        self
    }

    pub(crate) fn action(&self) -> Action {
        self.action
    }

    pub(crate) fn callback(&self) -> Option<&(dyn Fn(&Incident<'_>) + Send + Sync)> {
        self.callback.as_ref().map(|callback| &*callback.0)
    }

    /// Makes a watcher of the calling thread, for an executor of one's own.
    ///
    /// The action is for pools and plays no part here.
    ///
    /// # Errors
    ///
    /// [`Unsupported`] on systems where the sentinel does not work.
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
        Watcher::new(Arc::clone(&self.rules))
    }

    /// Runs a closure as [`watch`](crate::sentinel::watch()) does, by the rules of this sentinel.
    ///
    /// The action is for pools and plays no part here.
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
        watch_by(&self.rules, f)
    }

    /// Runs a closure as [`try_watch`](crate::sentinel::try_watch) does, by the rules of this
    /// sentinel.
    ///
    /// # Errors
    ///
    /// [`WatchError`], with the closure, on systems where the sentinel does not work.
    ///
    /// # Panics
    ///
    /// A panic of the closure passes through, and no report is made.
    ///
    /// ```
    /// use cleanslate::sentinel::Sentinel;
    ///
    /// let result = Sentinel::new().try_watch(|| 2 + 2);
    /// assert!(result.is_ok_and(|(four, _)| four == 4) || cfg!(not(target_env = "gnu")));
    /// ```
    pub fn try_watch<R, F: FnOnce() -> R>(&self, f: F) -> Result<(R, Report), WatchError<F>> {
        try_watch_by(&self.rules, f)
    }

    /// Runs a closure as [`assert_clean`](crate::sentinel::assert_clean) does, by the rules of
    /// this sentinel.
    ///
    /// # Panics
    ///
    /// If a thread-local was left changed, or where the sentinel does not work. A panic of the
    /// closure passes through as it is.
    ///
    /// ```no_run
    /// use cleanslate::sentinel::Sentinel;
    ///
    /// assert_eq!(Sentinel::new().allow("my_app::cache").assert_clean(|| 2 + 2), 4);
    /// ```
    #[track_caller]
    pub fn assert_clean<R>(&self, f: impl FnOnce() -> R) -> R {
        let (value, report) = self.watch(f);
        if report.unsupported().is_some() {
            panic!("{report}");
        }
        assert!(report.is_clean(), "{report}\n{ADVICE}");
        value
    }
}

impl Default for Sentinel {
    fn default() -> Sentinel {
        Sentinel::new()
    }
}

/// A task of a pool that left thread-locals changed.
///
/// ```
/// use cleanslate::sentinel::{Incident, Sentinel};
///
/// fn log(incident: &Incident<'_>) {
///     for leak in incident.report().leaks() {
///         eprintln!("worker {}: {leak}", incident.worker());
///     }
/// }
/// let sentinel = Sentinel::new().report(log);
/// assert!(format!("{sentinel:?}").contains("Callback"));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Incident<'a> {
    task: Option<&'a str>,
    submitted: &'static Location<'static>,
    worker: usize,
    report: &'a Report,
    renews: bool,
}

impl<'a> Incident<'a> {
    pub(crate) fn new(
        task: Option<&'a str>,
        submitted: &'static Location<'static>,
        worker: usize,
        report: &'a Report,
        renews: bool,
    ) -> Incident<'a> {
        Incident { task, submitted, worker, report, renews }
    }

    /// The name of the task, if it has one.
    pub fn task(&self) -> Option<&'a str> {
        self.task
    }

    /// Where the task was submitted.
    pub fn submitted(&self) -> &'static Location<'static> {
        self.submitted
    }

    /// The worker that ran it, counted from zero.
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// What it left changed.
    pub fn report(&self) -> &'a Report {
        self.report
    }

    /// Whether the worker is replaced before its next outermost task; false above the rate of
    /// [`Sentinel::renew`], and with the other actions.
    pub fn renews(&self) -> bool {
        self.renews
    }
}

impl fmt::Display for Incident<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.task {
            Some(name) => write!(f, "task `{name}`")?,
            None => f.write_str("a task")?,
        }
        write!(f, " submitted at {} ran on worker {}: {}", self.submitted, self.worker, self.report)
    }
}

#[cfg(test)]
mod tests {
    use std::panic::Location;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::{Action, Incident, Sentinel};
    use crate::sentinel::report::Report;

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
        let report = Report::new(Vec::new());
        let here = Location::caller();
        call(&Incident::new(Some("mail"), here, 3, &report, true));
        let (name, worker, renews, text) = receiver.recv().unwrap();
        assert_eq!((name.as_deref(), worker, renews), (Some("mail"), 3, true));
        assert!(text.starts_with(&format!("task `mail` submitted at {here} ran on worker 3: ")));
    }
}
