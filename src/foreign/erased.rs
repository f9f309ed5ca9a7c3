//! A carrier without its types.
//!
//! All of it is user code: it is called under [`catch`], its errors are rendered where that can be
//! contained ([`CarrierError`]), and its drop is contained.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use super::carried::Carried;
use super::carrier::Identity;
use super::error::{BoxError, CarrierError, Step};
use super::kinds::Hold;
use crate::panic::{Drops, Payload, catch};

thread_local! {
    static IN_CARRIER: Cell<bool> = const { Cell::new(false) };
}

/// Whether a carrier's code runs on this thread: then installed carriers stay out of what it
/// captures, since they would carry themselves for ever.
pub(super) fn is_in_carrier() -> bool {
    IN_CARRIER.get()
}

/// Marks that a carrier's code runs, or, inside a scoped one, that it does not.
pub(super) struct InCarrier {
    before: bool,
}

impl InCarrier {
    #[inline]
    fn enter() -> Self {
        Self { before: IN_CARRIER.replace(true) }
    }

    pub(super) fn interrupt() -> Self {
        Self { before: IN_CARRIER.replace(false) }
    }
}

impl Drop for InCarrier {
    #[inline]
    fn drop(&mut self) {
        IN_CARRIER.set(self.before);
    }
}

/// One carrier, of either kind.
pub(super) struct Erased<H: Hold> {
    /// `None` from its drop on.
    carrier: Option<H>,
    pub(super) identity: Identity,
}

impl<H: Hold> Drop for Erased<H> {
    /// Contained, since it is one of a list.
    fn drop(&mut self) {
        let carrier = self.carrier.take();
        let mut drops = Drops::default();
        drops.contain(|| drop(carrier));
        drops.resume();
    }
}

impl<H: Hold> Erased<H> {
    fn new(carrier: H) -> Self {
        let identity = catch(|| carrier.identity()).unwrap_or_else(|_| Identity::of::<H>());
        Self { carrier: Some(carrier), identity }
    }

    #[inline]
    fn carrier(&self) -> &H {
        match &self.carrier {
            Some(carrier) => carrier,
            None => unreachable!("only the drop empties it"),
        }
    }

    /// Calls the carrier's code and names what went wrong.
    #[inline]
    pub(super) fn call<T>(
        &self,
        step: Step,
        f: impl FnOnce(&H) -> Result<T, BoxError>,
    ) -> Result<T, CarrierError> {
        let carrier = self.carrier();
        let _marked = InCarrier::enter();
        match catch(|| f(carrier)) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(cause)) => Err(self.failed(step, cause)),
            Err(payload) => Err(self.panicked(step, &payload)),
        }
    }

    #[cold]
    fn failed(&self, step: Step, cause: BoxError) -> CarrierError {
        CarrierError::new(self.safe_name(), step, cause)
    }

    #[cold]
    fn panicked(&self, step: Step, payload: &Payload) -> CarrierError {
        CarrierError::panicked(self.safe_name(), step, payload)
    }

    /// Its name. One that panics must not keep the other carriers from being detached.
    #[cold]
    pub(super) fn safe_name(&self) -> String {
        catch(|| self.carrier().name().to_owned())
            .unwrap_or_else(|_| std::any::type_name::<H>().to_owned())
    }
}

/// A carrier without its types.
pub(super) trait AnyCarrier: Send + Sync {
    fn name(&self) -> String;
    fn identity(&self) -> Identity;
    fn capture(self: Arc<Self>) -> Result<Carried, CarrierError>;
    /// The same, or `None` if that is nothing.
    fn capture_something(self: Arc<Self>) -> Result<Option<Carried>, CarrierError>;
    fn nothing(self: Arc<Self>) -> Result<Option<Carried>, CarrierError>;
    fn travels(&self) -> bool;
}

impl<H: Hold> AnyCarrier for Erased<H> {
    fn name(&self) -> String {
        self.safe_name()
    }

    fn identity(&self) -> Identity {
        self.identity
    }

    fn capture(self: Arc<Self>) -> Result<Carried, CarrierError> {
        let captured = self.call(Step::Capture, H::capture)?;
        Ok(Carried::new(self, captured))
    }

    fn capture_something(self: Arc<Self>) -> Result<Option<Carried>, CarrierError> {
        let captured = self.call(Step::Capture, |carrier| {
            let captured = carrier.capture()?;
            Ok(if carrier.is_nothing(&captured) { None } else { Some(captured) })
        })?;
        Ok(captured.map(|captured| Carried::new(self, captured)))
    }

    fn nothing(self: Arc<Self>) -> Result<Option<Carried>, CarrierError> {
        let nothing = self.call(Step::Nothing, |carrier| Ok(carrier.nothing()))?;
        Ok(nothing.map(|nothing| Carried::new(self, nothing)))
    }

    fn travels(&self) -> bool {
        size_of::<H::Captured>() != 0
    }
}

/// A carrier that is shared by all who capture with it.
#[derive(Clone)]
#[expect(unnameable_types, reason = "a part of what seals `Carry`")]
pub struct SharedCarrier(Arc<dyn AnyCarrier>);

impl SharedCarrier {
    pub(super) fn new(carrier: impl Hold) -> Self {
        Self(Arc::new(Erased::new(carrier)))
    }

    pub(crate) fn name(&self) -> String {
        self.0.name()
    }

    pub(super) fn identity(&self) -> Identity {
        self.0.identity()
    }

    /// Takes the state of this thread.
    pub(super) fn capture(&self) -> Result<Carried, CarrierError> {
        Arc::clone(&self.0).capture()
    }

    /// Takes the state of this thread, unless that is nothing.
    pub(super) fn capture_something(&self) -> Result<Option<Carried>, CarrierError> {
        Arc::clone(&self.0).capture_something()
    }

    /// What code finds that runs for nobody, if the carrier can say so.
    pub(super) fn nothing(&self) -> Result<Option<Carried>, CarrierError> {
        Arc::clone(&self.0).nothing()
    }

    /// Whether anything travels. If not, it only keeps tasks apart.
    pub(super) fn travels(&self) -> bool {
        self.0.travels()
    }
}

impl fmt::Debug for SharedCarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedCarrier").field(&self.name()).finish()
    }
}
