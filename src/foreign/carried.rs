//! Carriers without their types, and how a list of them is attached around a closure.
//!
//! Attaching recurses: carrier *n* keeps what it attached on the Rust stack while the rest runs inside.
//! So the order is right by construction (detached in reverse, and those before a failed one are
//! detached), and nothing is allocated per task.
//!
//! Everything of a carrier that runs here is user code: it is called under [`catch`], its errors are
//! rendered where that can be contained ([`CarrierError`]), and what it owns is dropped piece by piece.

use std::fmt;
use std::sync::Arc;

use super::attached;
use super::carrier::Carrier;
use super::error::{BoxError, CarrierError, Step};
use crate::panic::{Drops, Payload, catch};

/// A carrier without its types.
pub(crate) trait AnyCarrier: Send + Sync {
    fn name(&self) -> String;
    fn capture(self: Arc<Self>) -> Result<Carried, CarrierError>;
    /// What code finds that runs for nobody, if the carrier can say so.
    fn nothing(self: Arc<Self>) -> Result<Option<Carried>, CarrierError>;
    /// Whether anything travels. If not, it only keeps tasks apart.
    fn inherits(&self) -> bool;
}

pub(crate) type SharedCarrier = Arc<dyn AnyCarrier>;

pub(crate) fn shared<C: Carrier>(carrier: C) -> SharedCarrier {
    Arc::new(Erased(Some(carrier)))
}

/// Empty from its drop on.
struct Erased<C: Carrier>(Option<C>);

impl<C: Carrier> Drop for Erased<C> {
    /// Contained, since it is one of a list.
    fn drop(&mut self) {
        let carrier = self.0.take();
        let mut drops = Drops::default();
        drops.contain(|| drop(carrier));
        drops.resume();
    }
}

impl<C: Carrier> Erased<C> {
    /// Calls one of the carrier's methods and names what went wrong.
    #[inline]
    fn guarded<T>(
        &self,
        step: Step,
        f: impl FnOnce(&C) -> Result<T, BoxError>,
    ) -> Result<T, CarrierError> {
        let Some(carrier) = &self.0 else { unreachable!("only the drop empties it") };
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
    fn safe_name(&self) -> String {
        let name = catch(|| self.0.as_ref().map(|carrier| carrier.name().to_owned()));
        match name {
            Ok(Some(name)) => name,
            _ => std::any::type_name::<C>().to_owned(),
        }
    }

    fn load(self: Arc<Self>, captured: C::Captured) -> Carried {
        Carried(Arc::new(Load(Some((self, captured)))))
    }
}

impl<C: Carrier> AnyCarrier for Erased<C> {
    fn name(&self) -> String {
        self.safe_name()
    }

    fn capture(self: Arc<Self>) -> Result<Carried, CarrierError> {
        let captured = self.guarded(Step::Capture, C::capture)?;
        Ok(self.load(captured))
    }

    fn nothing(self: Arc<Self>) -> Result<Option<Carried>, CarrierError> {
        let nothing = self.guarded(Step::Nothing, |carrier| Ok(carrier.nothing()))?;
        Ok(nothing.map(|nothing| self.load(nothing)))
    }

    fn inherits(&self) -> bool {
        size_of::<C::Captured>() != 0
    }
}

/// A carrier and what it captured.
#[derive(Clone)]
pub(crate) struct Carried(Arc<dyn AnyLoad>);

/// The same without its types.
trait AnyLoad: Send + Sync {
    fn name(&self) -> String;
    /// Attaches this one and then the rest, calls `body` inside, and detaches. The body was called unless
    /// something could not be attached.
    fn around(&self, rest: &[Carried], body: &mut dyn FnMut()) -> Option<CarrierError>;
    fn nothing(&self) -> Result<Option<Carried>, CarrierError>;
}

/// Empty from its drop on.
struct Load<C: Carrier>(Option<(Arc<Erased<C>>, C::Captured)>);

impl<C: Carrier> Load<C> {
    fn parts(&self) -> (&Arc<Erased<C>>, &C::Captured) {
        let Some((carrier, captured)) = &self.0 else { unreachable!("only the drop empties it") };
        (carrier, captured)
    }
}

impl<C: Carrier> Drop for Load<C> {
    /// Contained, since it is one of a list.
    fn drop(&mut self) {
        let Some((carrier, captured)) = self.0.take() else { return };
        let mut drops = Drops::default();
        drops.contain(|| drop(captured));
        drops.contain(|| drop(carrier));
        drops.resume();
    }
}

impl<C: Carrier> AnyLoad for Load<C> {
    fn name(&self) -> String {
        self.parts().0.safe_name()
    }

    fn around(&self, rest: &[Carried], body: &mut dyn FnMut()) -> Option<CarrierError> {
        let (carrier, captured) = self.parts();
        let attached = match carrier.guarded(Step::Attach, |carrier| carrier.attach(captured)) {
            Ok(attached) => attached,
            Err(error) => return Some(error),
        };
        let inner = around_all(rest, body);
        let own = carrier.guarded(Step::Detach, |carrier| carrier.detach(attached));
        match (inner, own) {
            (inner, Ok(())) => inner,
            (None, Err(own)) => Some(own),
            (Some(inner), Err(own)) => Some(inner.with_stuck(own)),
        }
    }

    fn nothing(&self) -> Result<Option<Carried>, CarrierError> {
        AnyCarrier::nothing(Arc::clone(self.parts().0))
    }
}

impl fmt::Debug for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Carried").field(&self.name()).finish()
    }
}

impl Carried {
    pub(crate) fn capture(carrier: &SharedCarrier) -> Result<Self, CarrierError> {
        Arc::clone(carrier).capture()
    }

    pub(crate) fn name(&self) -> String {
        self.0.name()
    }
}

/// Calls `body`, which must not unwind, with all carriers attached. It was called unless something could
/// not be attached.
#[inline]
pub(crate) fn attach_around(carriers: &[Carried], body: &mut dyn FnMut()) -> Option<CarrierError> {
    attached::noted(carriers, || around_all(carriers, body))
}

fn around_all(carriers: &[Carried], body: &mut dyn FnMut()) -> Option<CarrierError> {
    match carriers.split_first() {
        Some((first, rest)) => first.0.around(rest, body),
        None => {
            body();
            None
        }
    }
}

/// Calls `body`, which must not unwind, as if it ran for nobody: each carrier that is attached on this
/// thread attaches its [`nothing`](Carrier::nothing), unless it has none. It was called unless something
/// could not be attached. Never unwinds.
#[cfg_attr(not(test), expect(dead_code, reason = "for initialisers of what is kept"))]
pub(crate) fn attach_nothing_around(body: &mut dyn FnMut()) -> Option<CarrierError> {
    let mut nothing = Vec::new();
    let mut failed = None;
    for carried in attached::on_this_thread() {
        match carried.0.nothing() {
            Ok(one) => nothing.extend(one),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    let failed = failed.or_else(|| attach_around(&nothing, body));
    let _contained = catch(|| drop(nothing));
    failed
}
