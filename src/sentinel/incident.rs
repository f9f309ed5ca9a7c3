//! [`Incident`].

use std::fmt;
use std::panic::Location;

use super::Report;

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
    item: Option<usize>,
    worker: usize,
    report: &'a Report,
    renews: bool,
}

impl<'a> Incident<'a> {
    pub(crate) fn new(
        task: Option<&'a str>,
        submitted: &'static Location<'static>,
        item: Option<usize>,
        worker: usize,
        report: &'a Report,
        renews: bool,
    ) -> Incident<'a> {
        Incident { task, submitted, item, worker, report, renews }
    }

    /// Returns the name of the task, if it has one. A call of a reduction is named for what it is,
    /// too: `reduce` or, of a [`named`](crate::Pool::named) one, `sums: reduce`.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{Pool, sentinel::{Incident, Sentinel}};
    /// use std::{cell::Cell, sync::mpsc};
    ///
    /// thread_local! { static LEVEL: Cell<u8> = const { Cell::new(0) }; }
    ///
    /// let (tell, told) = mpsc::channel();
    /// let report = move |incident: &Incident<'_>| {
    ///     tell.send(incident.task().map(str::to_owned)).unwrap();
    /// };
    /// let sentinel = Sentinel::new().report(report);
    /// let Ok(pool) = Pool::builder().workers(1).sentinel(sentinel).build() else { return };
    /// pool.named("lookup").submit(|| LEVEL.set(1)).join().unwrap();
    /// assert_eq!(told.recv().unwrap().as_deref(), Some("lookup"));
    /// ```
    #[must_use]
    pub fn task(&self) -> Option<&'a str> {
        self.task
    }

    /// Returns where the task was submitted or, for an item, where the map was called.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{Pool, sentinel::{Incident, Sentinel}};
    /// use std::{cell::Cell, sync::mpsc};
    ///
    /// thread_local! { static LEVEL: Cell<u8> = const { Cell::new(0) }; }
    ///
    /// let (tell, told) = mpsc::channel();
    /// let report = move |incident: &Incident<'_>| tell.send(incident.submitted().line()).unwrap();
    /// let sentinel = Sentinel::new().report(report);
    /// let Ok(pool) = Pool::builder().workers(1).sentinel(sentinel).build() else { return };
    /// pool.named("lookup").submit(|| LEVEL.set(1)).join().unwrap();
    /// assert!(told.recv().unwrap() > 0);
    /// ```
    #[must_use]
    pub fn submitted(&self) -> &'static Location<'static> {
        self.submitted
    }

    /// Returns which item of its map the task was, counted from zero, or `None` if it was no item.
    ///
    /// What a map's iterator leaves when an item is pulled from it belongs to no item. What the
    /// `init` of a [`map_init`](crate::Pool::map_init) leaves is put down to the item that it was
    /// called for.
    ///
    /// ```
    /// use std::cell::Cell;
    /// use std::sync::mpsc;
    /// use cleanslate::{Pool, sentinel::{Incident, Sentinel}};
    ///
    /// thread_local! { static LAST: Cell<u32> = const { Cell::new(0) }; }
    ///
    /// # if cleanslate::sentinel::supported().is_err() { return; }
    /// let (tell, told) = mpsc::channel();
    /// let report = move |incident: &Incident<'_>| tell.send(incident.item()).unwrap();
    /// let sentinel = Sentinel::new().report(report);
    /// let pool = Pool::builder().workers(1).sentinel(sentinel).build().unwrap();
    /// pool.map(["a", "b", "c"], |text| if text == "c" { LAST.set(1) });
    /// assert_eq!(told.recv(), Ok(Some(2)));
    /// ```
    #[must_use]
    pub fn item(&self) -> Option<usize> {
        self.item
    }

    /// Returns the worker that ran the task, counted from zero.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{Pool, sentinel::{Incident, Sentinel}};
    /// use std::{cell::Cell, sync::mpsc};
    ///
    /// thread_local! { static LEVEL: Cell<u8> = const { Cell::new(0) }; }
    ///
    /// let (tell, told) = mpsc::channel();
    /// let report = move |incident: &Incident<'_>| tell.send(incident.worker()).unwrap();
    /// let sentinel = Sentinel::new().report(report);
    /// let Ok(pool) = Pool::builder().workers(1).sentinel(sentinel).build() else { return };
    /// pool.named("lookup").submit(|| LEVEL.set(1)).join().unwrap();
    /// assert_eq!(told.recv().unwrap(), 0);
    /// ```
    #[must_use]
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// Returns what the task left changed.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{Pool, sentinel::{Incident, Sentinel}};
    /// use std::{cell::Cell, sync::mpsc};
    ///
    /// thread_local! { static LEVEL: Cell<u8> = const { Cell::new(0) }; }
    ///
    /// let (tell, told) = mpsc::channel();
    /// let report = move |incident: &Incident<'_>| {
    ///     tell.send(incident.report().leaks().len()).unwrap();
    /// };
    /// let sentinel = Sentinel::new().report(report);
    /// let Ok(pool) = Pool::builder().workers(1).sentinel(sentinel).build() else { return };
    /// pool.named("lookup").submit(|| LEVEL.set(1)).join().unwrap();
    /// assert_eq!(told.recv().unwrap(), 1);
    /// ```
    pub fn report(&self) -> &'a Report {
        self.report
    }

    /// Returns whether the worker is replaced before its next outermost task. Returns `false` above
    /// the rate of [`Sentinel::renew`](super::Sentinel::renew), and with the other actions.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{Pool, sentinel::{Incident, Sentinel}};
    /// use std::{cell::Cell, sync::mpsc};
    ///
    /// thread_local! { static LEVEL: Cell<u8> = const { Cell::new(0) }; }
    ///
    /// let (tell, told) = mpsc::channel();
    /// let report = move |incident: &Incident<'_>| tell.send(incident.renews()).unwrap();
    /// let sentinel = Sentinel::new().report(report);
    /// let Ok(pool) = Pool::builder().workers(1).sentinel(sentinel).build() else { return };
    /// pool.named("lookup").submit(|| LEVEL.set(1)).join().unwrap();
    /// assert!(!told.recv().unwrap());
    /// ```
    #[must_use]
    pub fn renews(&self) -> bool {
        self.renews
    }
}

impl fmt::Display for Incident<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(item) = self.item {
            write!(f, "item {item} of ")?;
        }
        match self.task {
            Some(name) => write!(f, "task `{name}`")?,
            None => f.write_str("a task")?,
        }
        write!(f, " submitted at {} ran on worker {}: {}", self.submitted, self.worker, self.report)
    }
}
