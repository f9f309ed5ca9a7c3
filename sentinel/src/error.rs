//! Why something could not be watched.

use std::fmt;
use std::path::Path;

/// The sentinel cannot work on this system, or not at the moment.
///
/// It needs Linux with glibc on x86-64 or AArch64. Its functions return this error everywhere else,
/// and where glibc keeps its thread-locals in a way that this version does not know. They also
/// return it while the names of the program's thread-locals cannot be read, because no file
/// descriptor is free, say; then [`is_temporary`](Self::is_temporary) is true.
///
/// ```
/// # #[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
/// assert!(cleanslate_sentinel::supported().is_ok());
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Unsupported(Why);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Why {
    System(&'static str),
    /// The file and the failure.
    Unread(Box<str>),
}

impl Unsupported {
    pub(crate) fn new(why: &'static str) -> Unsupported {
        Unsupported(Why::System(why))
    }

    /// Makes the error of a file that could not be read just now.
    pub(crate) fn unread(path: &Path, failure: &impl fmt::Display) -> Unsupported {
        Unsupported(Why::Unread(format!("{}: {failure}", path.display()).into()))
    }

    /// Returns whether it may work later: the symbols of a file could not be read just now.
    ///
    /// # Examples
    ///
    /// ```
    /// if let Err(unsupported) = cleanslate_sentinel::supported() {
    ///     assert!(!unsupported.is_temporary());
    /// }
    /// ```
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(self.0, Why::Unread(_))
    }
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Why::System(why) => write!(f, "the sentinel is not supported here: {why}"),
            Why::Unread(why) => write!(f, "the sentinel cannot work now: {why}"),
        }
    }
}

impl fmt::Debug for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unsupported({self})")
    }
}

impl std::error::Error for Unsupported {}

/// A closure could not be watched, and was not run.
///
/// # Examples
///
/// ```
/// use cleanslate_sentinel::Sentinel;
///
/// match Sentinel::new().try_watch(|| 1) {
///     Ok((result, _report)) => assert_eq!(result, 1),
///     Err(error) => assert_eq!(error.into_inner()(), 1, "the closure comes back"),
/// }
/// ```
pub struct WatchError<F> {
    unsupported: Unsupported,
    rejected: F,
}

impl<F> WatchError<F> {
    pub(crate) fn new(unsupported: Unsupported, rejected: F) -> WatchError<F> {
        WatchError { unsupported, rejected }
    }

    pub(crate) fn into_parts(self) -> (Unsupported, F) {
        (self.unsupported, self.rejected)
    }

    /// Returns the closure.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate_sentinel::Sentinel;
    ///
    /// match Sentinel::new().try_watch(|| 1) {
    ///     Ok((result, _report)) => assert_eq!(result, 1),
    ///     Err(error) => assert_eq!(error.into_inner()(), 1),
    /// }
    /// ```
    #[must_use]
    pub fn into_inner(self) -> F {
        self.rejected
    }

    /// Returns why it could not be watched.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate_sentinel::{Sentinel, supported};
    ///
    /// match Sentinel::new().try_watch(|| 1) {
    ///     Ok((result, _report)) => assert_eq!(result, 1),
    ///     Err(error) => assert_eq!(supported().as_ref(), Err(error.unsupported())),
    /// }
    /// ```
    #[must_use]
    pub fn unsupported(&self) -> &Unsupported {
        &self.unsupported
    }
}

impl<F> fmt::Debug for WatchError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WatchError({self})")
    }
}

impl<F> fmt::Display for WatchError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.unsupported, f)
    }
}

impl<F> std::error::Error for WatchError<F> {}
