//! The two kinds of carriers, and how each is attached around a call.
//!
//! All of it is user code: it is called under [`catch`], and its errors are rendered where that can
//! be contained ([`CarrierError`]).

use std::any::type_name;
use std::cell::RefCell;

use super::carrier::{Carrier, Identity};
use super::error::{BoxError, CarrierError, CarrierStep};
use super::scoped::{Scoped, ScopedCarrier};
use crate::panic::{Payload, catch};

/// A carrier of either kind: what a [`Carrier`] and a [`ScopedCarrier`] have in common.
pub(super) trait Hold: Send + Sync + Sized + 'static {
    type Captured: Send + Sync + 'static;
    /// Returns the name of the user's type.
    fn type_name() -> &'static str;
    fn name(&self) -> &str;
    fn identity(&self) -> Identity;
    fn capture(&self) -> Result<Self::Captured, BoxError>;
    fn nothing(&self) -> Option<Self::Captured>;
    fn is_nothing(&self, captured: &Self::Captured) -> bool;
    /// Attaches, calls `inner` (which never unwinds) unless that failed, and detaches. `inner` gets
    /// a function that makes the thread ready for another task, and returns whether it did.
    fn hold(
        &self,
        captured: &Self::Captured,
        inner: impl FnOnce(&dyn Fn() -> bool) -> Option<CarrierError>,
    ) -> Option<CarrierError>;
}

/// Calls a carrier's code, which the caller has marked as such, and names what went wrong.
#[inline]
pub(super) fn call<H: Hold, T>(
    carrier: &H,
    step: CarrierStep,
    f: impl FnOnce(&H) -> Result<T, BoxError>,
) -> Result<T, CarrierError> {
    match catch(|| f(carrier)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(cause)) => Err(failed(carrier, step, cause)),
        Err(payload) => Err(panicked(carrier, step, &payload)),
    }
}

/// Asks a carrier whether the thread is ready. A panic counts as a no.
#[inline]
fn is_ready(reattach: impl FnOnce() -> bool) -> bool {
    catch(reattach).unwrap_or(false)
}

#[cold]
fn failed(carrier: &impl Hold, step: CarrierStep, cause: BoxError) -> CarrierError {
    CarrierError::new(name_of(carrier), step, cause)
}

#[cold]
fn panicked(carrier: &impl Hold, step: CarrierStep, payload: &Payload) -> CarrierError {
    CarrierError::panicked(name_of(carrier), step, payload)
}

/// Returns a carrier's name. If that panics, it must not keep other carriers from being detached.
#[cold]
pub(super) fn name_of<H: Hold>(carrier: &H) -> String {
    catch(|| carrier.name().to_owned()).unwrap_or_else(|_| H::type_name().to_owned())
}

/// What both kinds leave to the user's carrier, which a tuple struct wraps.
macro_rules! as_the_carrier_says {
    () => {
        fn type_name() -> &'static str {
            type_name::<C>()
        }

        fn name(&self) -> &str {
            self.0.name()
        }

        fn identity(&self) -> Identity {
            self.0.identity()
        }

        fn capture(&self) -> Result<Self::Captured, BoxError> {
            self.0.capture()
        }

        fn nothing(&self) -> Option<Self::Captured> {
            self.0.nothing()
        }

        fn is_nothing(&self, captured: &Self::Captured) -> bool {
            self.0.is_nothing(captured)
        }
    };
}

/// A [`Carrier`], which has one method to attach and one to detach.
pub(super) struct Attaching<C>(pub(super) C);

impl<C: Carrier> Hold for Attaching<C> {
    type Captured = C::Captured;

    as_the_carrier_says!();

    #[inline]
    fn hold(
        &self,
        captured: &C::Captured,
        inner: impl FnOnce(&dyn Fn() -> bool) -> Option<CarrierError>,
    ) -> Option<CarrierError> {
        let attached =
            match call(self, CarrierStep::Attach, |Self(carrier)| carrier.attach(captured)) {
                Ok(attached) => RefCell::new(attached),
                Err(error) => return Some(error),
            };
        let inner = inner(&|| is_ready(|| self.0.reattach(captured, &mut attached.borrow_mut())));
        let attached = attached.into_inner();
        let own = call(self, CarrierStep::Detach, |Self(carrier)| carrier.detach(attached)).err();
        CarrierError::both(inner, own)
    }
}

impl<C: ScopedCarrier> Hold for Scoped<C> {
    type Captured = C::Captured;

    as_the_carrier_says!();

    #[inline]
    fn hold(
        &self,
        captured: &C::Captured,
        inner: impl FnOnce(&dyn Fn() -> bool) -> Option<CarrierError>,
    ) -> Option<CarrierError> {
        /// Comes from the body, and from nowhere else.
        struct Called;
        let mut called = None;
        let body = || {
            called = Some(inner(&|| is_ready(|| self.0.reattach(captured))));
            Called
        };
        let around =
            call(self, CarrierStep::Attach, |Self(carrier)| carrier.around(captured, body));
        match (called, around) {
            (None, Ok(Called)) => unreachable!("only the body makes one"),
            (None, Err(error)) => Some(error),
            (Some(inner), Ok(Called)) => inner,
            (Some(inner), Err(error)) => CarrierError::both(inner, Some(error.into_detach())),
        }
    }
}
