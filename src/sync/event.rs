//! [`Event`].

use std::fmt;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::seam::{
    Condvar, StdMutex, StdMutexGuard,
    atomic::{AtomicBool, Ordering},
};

/// A flag that threads can wait for.
///
/// It starts clear. [`set`](Event::set) raises it and wakes everybody who waits; from then on
/// [`wait`](Event::wait) returns at once, until it is [cleared](Event::clear).
///
/// No wake-up is lost: a thread that waits when `set` is called returns, even if `clear` follows
/// before it has run. What happened before `set` is visible to whoever saw the flag raised.
///
/// # Waiting in a task
///
/// A task that waits here keeps its worker. A pool knows which task a `join` waits for and runs it
/// on the spot; it cannot know who will set an event, so nothing runs meanwhile. If all workers
/// wait for an event that only a task in the queue would set, they wait for ever. So set events
/// from threads or from tasks that already run, give the wait a [limit](Event::wait_timeout), or
/// `join` the task instead.
///
/// # Examples
///
/// ```
/// use cleanslate::{Pool, sync::Event};
/// use std::sync::Arc;
///
/// let pool = Pool::new(1)?;
/// let stop = Arc::new(Event::new());
/// let seen = Arc::clone(&stop);
/// let task = pool.submit(move || {
///     seen.wait();
///     "stopped"
/// });
/// stop.set();
/// assert_eq!(task.join().unwrap(), "stopped");
/// # Ok::<_, cleanslate::BuildError>(())
/// ```
pub struct Event {
    /// How often the flag has changed, under the lock that waiters sleep with. Odd while it is set;
    /// so a waiter that saw an even count and finds another one knows of a `set`, whatever came
    /// after it.
    changes: StdMutex<u64>,
    changed: Condvar,
    /// Whether `changes` is odd, for reads without the lock. Written under the lock.
    is_set: AtomicBool,
}

/// Returns whether the event is set after so many changes.
const fn means_set(changes: u64) -> bool {
    changes % 2 == 1
}

impl Event {
    /// Makes an event that is not set.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::sync::Event;
    ///
    /// static STOP: Event = Event::new();
    /// assert!(!STOP.is_set());
    /// ```
    #[cfg(not(loom))]
    #[must_use]
    pub const fn new() -> Self {
        Self { changes: StdMutex::new(0), changed: Condvar::new(), is_set: AtomicBool::new(false) }
    }

    /// Makes an event that is not set. Loom's primitives cannot be made in a constant.
    #[cfg(loom)]
    #[must_use]
    pub fn new() -> Self {
        Self { changes: StdMutex::new(0), changed: Condvar::new(), is_set: AtomicBool::new(false) }
    }

    /// Sets the event and wakes everybody who waits for it. Does nothing if it is set already.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::sync::Event;
    ///
    /// let event = Event::new();
    /// event.set();
    /// event.set();
    /// assert!(event.is_set());
    /// ```
    pub fn set(&self) {
        let mut changes = self.lock();
        if !means_set(*changes) {
            *changes += 1;
            // Release: whoever sees this with the Acquire of `is_set` sees what came before `set`.
            self.is_set.store(true, Ordering::Release);
            self.changed.notify_all();
        }
    }

    /// Clears the event: from now on, [`wait`](Event::wait) waits for the next [`set`](Event::set).
    /// Threads that an earlier one has woken still return.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::sync::Event;
    ///
    /// let event = Event::new();
    /// event.set();
    /// event.clear();
    /// assert!(!event.is_set());
    /// ```
    pub fn clear(&self) {
        let mut changes = self.lock();
        if means_set(*changes) {
            *changes += 1;
            // Relaxed: a cleared event says nothing about what came before.
            self.is_set.store(false, Ordering::Relaxed);
        }
    }

    /// Returns whether the event is set. This is one load: a long task can look as often as it
    /// likes.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::sync::Event;
    ///
    /// let stop = Event::new();
    /// let mut rounds = 0;
    /// while !stop.is_set() {
    ///     rounds += 1;
    ///     if rounds == 3 {
    ///         stop.set();
    ///     }
    /// }
    /// assert_eq!(rounds, 3);
    /// ```
    #[must_use]
    pub fn is_set(&self) -> bool {
        // Acquire: pairs with the Release in `set`.
        self.is_set.load(Ordering::Acquire)
    }

    /// Waits until the event is set. Returns at once if it is.
    ///
    /// In a task of a pool this keeps the worker: see [above](Event#waiting-in-a-task).
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::sync::Event;
    ///
    /// let ready = Event::new();
    /// std::thread::scope(|s| {
    ///     s.spawn(|| ready.set());
    ///     ready.wait();
    /// });
    /// assert!(ready.is_set());
    /// ```
    pub fn wait(&self) {
        let changes = self.lock();
        let ticket = *changes;
        self.sleep(changes, ticket, None);
    }

    /// Waits until the event is set, for at most `limit`. Returns whether it was set in time; an
    /// event that is already set counts, even with a limit of zero.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::sync::Event;
    /// use std::time::Duration;
    ///
    /// let event = Event::new();
    /// assert!(!event.wait_timeout(Duration::from_millis(1)));
    /// event.set();
    /// assert!(event.wait_timeout(Duration::ZERO));
    /// ```
    #[must_use = "it says whether the event was set or the time was up"]
    pub fn wait_timeout(&self, limit: Duration) -> bool {
        // A limit beyond the clock's range is no limit.
        let deadline = Instant::now().checked_add(limit);
        let changes = self.lock();
        let ticket = *changes;
        self.sleep(changes, ticket, deadline)
    }

    fn lock(&self) -> StdMutexGuard<'_, u64> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps until the event is, or was, set since the count was `ticket`. Returns whether it was.
    fn sleep(
        &self,
        mut changes: StdMutexGuard<'_, u64>,
        ticket: u64,
        deadline: Option<Instant>,
    ) -> bool {
        // Only a `set` can follow on an even count.
        while !means_set(ticket) && *changes == ticket {
            let Some(deadline) = deadline else {
                changes = self.changed.wait(changes).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let woken = self.changed.wait_timeout(changes, left);
            changes = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        means_set(ticket) || *changes != ticket
    }
}

impl Default for Event {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("is_set", &self.is_set()).finish()
    }
}

#[cfg(all(loom, test))]
mod models {
    use super::{Event, means_set};
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    /// An event, and data that it guards.
    struct Published {
        event: Event,
        data: UnsafeCell<u32>,
    }

    fn ticket(event: &Event) -> u64 {
        *event.lock()
    }

    #[test]
    fn model_event_set_wakes_all_waiters_and_publishes() {
        loom::model(|| {
            let shared = Arc::new(Published { event: Event::new(), data: UnsafeCell::new(0) });
            let waiters: Vec<_> = (0..2)
                .map(|_| {
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || {
                        shared.event.wait();
                        read(&shared.data)
                    })
                })
                .collect();
            write(&shared.data, 7);
            shared.event.set();
            for waiter in waiters {
                assert_eq!(waiter.join().unwrap(), 7);
            }
        });
    }

    #[test]
    fn model_event_that_is_seen_set_publishes() {
        loom::model(|| {
            let shared = Arc::new(Published { event: Event::new(), data: UnsafeCell::new(0) });
            let looker = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.event.is_set().then(|| read(&shared.data)))
            };
            write(&shared.data, 7);
            shared.event.set();
            assert!(matches!(looker.join().unwrap(), None | Some(7)));
        });
    }

    #[test]
    fn model_event_set_and_cleared_at_once_still_wakes() {
        loom::model(|| {
            let event = Arc::new(Event::new());
            // As if `wait` had been called here, and its thread had not run since.
            let ticket = ticket(&event);
            let setter = {
                let event = Arc::clone(&event);
                thread::spawn(move || {
                    event.set();
                    event.clear();
                })
            };
            assert!(event.sleep(event.lock(), ticket, None));
            setter.join().unwrap();
            assert!(!event.is_set());
        });
    }

    #[test]
    fn model_event_race_of_two_setters_and_a_clear() {
        loom::model(|| {
            let event = Arc::new(Event::new());
            let ticket = ticket(&event);
            let setters: Vec<_> = (0..2)
                .map(|_| {
                    let event = Arc::clone(&event);
                    thread::spawn(move || event.set())
                })
                .collect();
            assert!(event.sleep(event.lock(), ticket, None));
            event.clear();
            for setter in setters {
                setter.join().unwrap();
            }
            assert_eq!(event.is_set(), means_set(*event.lock()));
        });
    }

    #[expect(unsafe_code, reason = "loom's cell checks the access")]
    fn read(data: &UnsafeCell<u32>) -> u32 {
        // SAFETY: loom panics if a write could happen at the same time.
        data.with(|data| unsafe { *data })
    }

    #[expect(unsafe_code, reason = "loom's cell checks the access")]
    fn write(data: &UnsafeCell<u32>, value: u32) {
        // SAFETY: loom panics if another access could happen at the same time.
        data.with_mut(|data| unsafe { *data = value });
    }
}
