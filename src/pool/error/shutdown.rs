//! [`ShutdownError`].

use std::error::Error;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

/// Why a shutdown did not wait until every worker was gone. The pool is closed all the same, unless
/// the call came from one of its own tasks or threads, or from a forked child.
///
/// # Examples
///
/// ```
/// use cleanslate::Pool;
///
/// let pool = Pool::new(1).unwrap();
/// let error = pool.scope(|s| s.submit(|| pool.shutdown()).join().unwrap()).unwrap_err();
/// assert!(error.is_on_worker());
/// ```
pub struct ShutdownError(ShutdownErrorKind);

pub(crate) enum ShutdownErrorKind {
    OnWorker,
    TimedOut,
    NoReaper(std::io::Error),
    Forked,
}

impl From<ShutdownErrorKind> for ShutdownError {
    fn from(refused: ShutdownErrorKind) -> Self {
        Self(refused)
    }
}

// Nobody changes what it holds.
impl UnwindSafe for ShutdownError {}
impl RefUnwindSafe for ShutdownError {}

impl ShutdownError {
    /// Returns whether the call came from a task or thread of the pool itself, which would have
    /// waited for itself. Nothing was changed.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(1).unwrap();
    /// let inner = pool.clone();
    /// let ended = pool.submit(move || inner.shutdown()).join().unwrap();
    /// assert!(ended.unwrap_err().is_on_worker());
    /// ```
    #[must_use]
    pub fn is_on_worker(&self) -> bool {
        matches!(self.0, ShutdownErrorKind::OnWorker)
    }

    /// Returns whether this process is a child after a `fork`: the workers are the parent's.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(1).unwrap();
    /// assert!(!pool.shutdown().is_err_and(|error| error.is_forked()), "this is no child");
    /// ```
    #[must_use]
    pub fn is_forked(&self) -> bool {
        matches!(self.0, ShutdownErrorKind::Forked)
    }

    /// Returns whether the time was up before the workers were gone. They go on draining.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    /// use std::{sync::mpsc, time::Duration};
    ///
    /// let pool = Pool::new(1).unwrap();
    /// let (go, gate) = mpsc::channel::<()>();
    /// let _busy = pool.submit(move || gate.recv());
    /// assert!(pool.shutdown_timeout(Duration::ZERO).unwrap_err().is_timed_out());
    /// drop(go);
    /// ```
    #[must_use]
    pub fn is_timed_out(&self) -> bool {
        matches!(self.0, ShutdownErrorKind::TimedOut)
    }
}

impl fmt::Display for ShutdownError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            ShutdownErrorKind::OnWorker => {
                "a task cannot wait for the shutdown of the pool that runs it"
            }
            ShutdownErrorKind::TimedOut => "the workers of the pool did not end in time",
            ShutdownErrorKind::Forked => {
                "the workers of the pool live in the parent of this forked process"
            }
            ShutdownErrorKind::NoReaper(_) => {
                "the thread that waits for the workers could not be started"
            }
        })
    }
}

debug_as_text!(ShutdownError);

impl Error for ShutdownError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0 {
            ShutdownErrorKind::NoReaper(error) => Some(error),
            ShutdownErrorKind::OnWorker
            | ShutdownErrorKind::TimedOut
            | ShutdownErrorKind::Forked => None,
        }
    }
}
