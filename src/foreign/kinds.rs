//! The two kinds of carriers, and how each is attached around a call.

use super::carrier::{Carrier, Identity};
use super::erased::{Erased, InCarrier};
use super::error::{BoxError, CarrierError, Step};
use super::scoped::{Scoped, ScopedCarrier};

/// A carrier of either kind: what a [`Carrier`] and a [`ScopedCarrier`] have in common.
pub(super) trait Hold: Send + Sync + Sized + 'static {
    type Captured: Send + Sync + 'static;
    fn name(&self) -> &str;
    fn identity(&self) -> Identity;
    fn capture(&self) -> Result<Self::Captured, BoxError>;
    fn nothing(&self) -> Option<Self::Captured>;
    fn is_nothing(&self, captured: &Self::Captured) -> bool;
    /// Attaches, calls `inner`, which never unwinds, unless that failed, and detaches.
    fn hold(
        this: &Erased<Self>,
        captured: &Self::Captured,
        inner: impl FnOnce() -> Option<CarrierError>,
    ) -> Option<CarrierError>;
}

/// A [`Carrier`], which has one method to attach and one to detach.
pub(super) struct Attaching<C>(pub(super) C);

impl<C: Carrier> Hold for Attaching<C> {
    type Captured = C::Captured;

    fn name(&self) -> &str {
        self.0.name()
    }

    fn identity(&self) -> Identity {
        self.0.identity()
    }

    fn capture(&self) -> Result<C::Captured, BoxError> {
        self.0.capture()
    }

    fn nothing(&self) -> Option<C::Captured> {
        self.0.nothing()
    }

    fn is_nothing(&self, captured: &C::Captured) -> bool {
        self.0.is_nothing(captured)
    }

    fn hold(
        this: &Erased<Self>,
        captured: &C::Captured,
        inner: impl FnOnce() -> Option<CarrierError>,
    ) -> Option<CarrierError> {
        let attached = match this.call(Step::Attach, |Self(carrier)| carrier.attach(captured)) {
            Ok(attached) => attached,
            Err(error) => return Some(error),
        };
        let inner = inner();
        let own = this.call(Step::Detach, |Self(carrier)| carrier.detach(attached)).err();
        CarrierError::both(inner, own)
    }
}

impl<C: ScopedCarrier> Hold for Scoped<C> {
    type Captured = C::Captured;

    fn name(&self) -> &str {
        self.0.name()
    }

    fn identity(&self) -> Identity {
        self.0.identity()
    }

    fn capture(&self) -> Result<C::Captured, BoxError> {
        self.0.capture()
    }

    fn nothing(&self) -> Option<C::Captured> {
        self.0.nothing()
    }

    fn is_nothing(&self, captured: &C::Captured) -> bool {
        self.0.is_nothing(captured)
    }

    fn hold(
        this: &Erased<Self>,
        captured: &C::Captured,
        inner: impl FnOnce() -> Option<CarrierError>,
    ) -> Option<CarrierError> {
        /// Comes from the body, and from nowhere else.
        struct Called;
        let mut called = None;
        let body = || {
            let _user_code = InCarrier::interrupt();
            called = Some(inner());
            Called
        };
        let around = this.call(Step::Attach, |Self(carrier)| carrier.around(captured, body));
        match (called, around) {
            (None, Ok(Called)) => unreachable!("only the body makes one"),
            (None, Err(error)) => Some(error),
            (Some(inner), Ok(Called)) => inner,
            (Some(inner), Err(error)) => CarrierError::both(inner, Some(error.into_detach())),
        }
    }
}
