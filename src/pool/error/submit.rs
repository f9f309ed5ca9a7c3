//! [`SubmitError`].

use std::error::Error;
use std::fmt;

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
    full: bool,
}

impl<F> SubmitError<F> {
    pub(crate) fn full(task: F) -> Self {
        Self { task, full: true }
    }

    pub(crate) fn shut_down(task: F) -> Self {
        Self { task, full: false }
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
        self.full
    }

    /// Returns whether the pool was shut down.
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
        !self.full
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
        f.write_str(if self.full {
            "the queue of the pool is full"
        } else {
            "the pool is shut down"
        })
    }
}

debug_as_text!(SubmitError<F>);

impl<F> Error for SubmitError<F> {}
