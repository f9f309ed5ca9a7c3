//! Stand-in for the slot engine: catches panics, resets nothing.
#![allow(dead_code, missing_docs)]
use crate::context::Context;
use std::any::Any;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};

#[derive(Debug)]
pub struct CleanupError;
impl std::fmt::Display for CleanupError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("clean-up failed")
    }
}
impl std::error::Error for CleanupError {}
#[derive(Debug)]
pub struct CarrierError;
impl std::fmt::Display for CarrierError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("carrier failed")
    }
}
impl std::error::Error for CarrierError {}

pub(crate) struct Frame<'c>(PhantomData<(&'c Context, *mut ())>);
impl<'c> Frame<'c> {
    #[inline]
    pub(crate) fn enter(_ctx: &'c Context) -> Frame<'c> {
        Frame(PhantomData)
    }
    #[inline]
    pub(crate) fn next_task(&mut self) -> Result<(), CleanupError> {
        Ok(())
    }
    pub(crate) fn end(self) -> Result<(), CleanupError> {
        Ok(())
    }
}
pub(crate) enum Failure {
    Panic(Box<dyn Any + Send>),
    Cleanup(CleanupError),
    Carrier(CarrierError),
}
impl Failure {
    pub(crate) fn retires_worker(&self) -> bool {
        false
    }
}
pub(crate) fn run<R>(_ctx: &Context, f: impl FnOnce() -> R) -> Result<R, Failure> {
    catch_unwind(AssertUnwindSafe(f)).map_err(Failure::Panic)
}
pub(crate) fn contained(f: impl FnOnce()) -> Result<(), Failure> {
    catch_unwind(AssertUnwindSafe(f)).map_err(Failure::Panic)
}
