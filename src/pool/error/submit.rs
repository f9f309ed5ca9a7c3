//! Why the pool lets nothing in, and [`SubmitError`].

use std::error::Error;
use std::fmt;

use super::{FORKED, SHUT_DOWN};

/// Why a submission was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    ShutDown,
    Forked,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the queue of the pool is full",
            Self::ShutDown => SHUT_DOWN,
            Self::Forked => FORKED,
        })
    }
}

/// Why a closure was not accepted by [`Pool::try_submit`](crate::Pool::try_submit); hands it back.
///
/// # Examples
///
/// ```
/// use cleanslate::Pool;
///
/// let pool = Pool::new(1).unwrap();
/// pool.shutdown().unwrap();
/// let error = pool.try_submit(|| "still here").unwrap_err();
/// assert!(error.is_shut_down());
/// assert_eq!(error.into_inner()(), "still here");
/// ```
pub struct SubmitError<F> {
    task: F,
    refused: Refused,
}

impl<F> SubmitError<F> {
    pub(crate) fn new(task: F, refused: Refused) -> Self {
        Self { task, refused }
    }

    /// Returns whether the pool's bounded queue was full.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::builder().workers(1).queue_capacity(1).build().unwrap();
    /// let _permit = pool.try_reserve().unwrap();
    /// assert!(pool.try_submit(|| 1).unwrap_err().is_full());
    /// ```
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.refused == Refused::Full
    }

    /// Returns whether the pool was shut down. (In a forked child, where it has no workers, a queue
    /// with room accepts a task, and it is the wait for that task which fails. A full one stays
    /// full.)
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(1).unwrap();
    /// pool.shutdown().unwrap();
    /// assert!(pool.try_submit(|| 1).unwrap_err().is_shut_down());
    /// ```
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        self.refused != Refused::Full
    }

    /// Returns the closure that was not accepted.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(1).unwrap();
    /// pool.shutdown().unwrap();
    /// let f = pool.try_submit(|| 1).unwrap_err().into_inner();
    /// assert_eq!(f(), 1);
    /// ```
    #[must_use]
    pub fn into_inner(self) -> F {
        self.task
    }
}

impl<F> fmt::Display for SubmitError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.refused.fmt(f)
    }
}

debug_as_text!(SubmitError<F>);

impl<F> Error for SubmitError<F> {}
