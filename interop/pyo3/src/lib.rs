//! Stands for PyO3 in the examples of the pages: with an interpreter that many threads may hold.

use std::marker::PhantomData;

/// Stands for `pyo3::Python`.
#[derive(Debug)]
pub struct Python<'py>(PhantomData<&'py ()>);

impl Python<'_> {
    /// Calls `f` as if the thread held the interpreter.
    pub fn attach<R>(f: impl for<'py> FnOnce(Python<'py>) -> R) -> R {
        f(Python(PhantomData))
    }

    /// Calls `f` as if the thread did not.
    pub fn detach<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        f()
    }
}
