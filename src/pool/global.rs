//! The pool of the process.

use std::sync::OnceLock;

use super::builder::PoolBuilder;
use super::error::{BuildError, BuildErrorKind};
use super::pool::Pool;

/// Never dropped: at the end of the process its workers end with it.
static GLOBAL: OnceLock<Pool> = OnceLock::new();

impl Pool {
    /// Returns the pool of the process, and builds it with default settings if nobody has.
    ///
    /// It has as many workers as the environment variable `CLEANSLATE_NUM_THREADS` says, or as
    /// there are processors; [`PoolBuilder::build_global`] builds it with other settings. It is
    /// never dropped, so at the end of `main` its tasks end wherever they are;
    /// [`shutdown`](Pool::shutdown) closes it for everybody.
    ///
    /// # Panics
    ///
    /// Panics if the system refuses the threads, or if `CLEANSLATE_NUM_THREADS` asks for more than
    /// a pool can have.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// assert_eq!(Pool::global().map([1, 2, 3], |n| n * n), [1, 4, 9]);
    /// ```
    #[track_caller]
    pub fn global() -> &'static Self {
        // Not under a lock: carriers of the whole process are user code, which may come here. If
        // two threads build one at the same time, one of the two pools ends at once.
        loop {
            if let Some(pool) = GLOBAL.get() {
                return pool;
            }
            match Self::builder().build_global() {
                Ok(()) => {}
                Err(error) if error.is_global() => {}
                Err(error) => panic!("the global pool could not be built: {error}"),
            }
        }
    }
}

impl PoolBuilder {
    /// Builds the pool that [`Pool::global`] returns.
    ///
    /// # Errors
    ///
    /// Returns a [`BuildError`] that [`is_global`](BuildError::is_global) if there is one already:
    /// built by this method, or by a call of [`Pool::global`]. Otherwise returns an error as
    /// [`build`](Self::build) does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// Pool::builder().workers(3).build_global().unwrap();
    /// assert_eq!(Pool::global().workers(), 3);
    /// assert!(Pool::builder().build_global().unwrap_err().is_global());
    /// ```
    pub fn build_global(self) -> Result<(), BuildError> {
        let taken = || BuildError::from(BuildErrorKind::Global);
        if GLOBAL.get().is_some() {
            return Err(taken());
        }
        GLOBAL.set(self.build()?).map_err(|_another| taken())
    }
}
