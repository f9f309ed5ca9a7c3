//! What can be carried, and a carrier without its types.

use std::fmt;
use std::sync::Arc;

use super::carried::{Carried, Identified};
use super::carrier::{Carrier, Identity};
use super::code::in_carrier;
use super::error::{CarrierError, CarrierStep};
use super::kinds::{Attaching, Hold};
use super::scoped::{Scoped, ScopedCarrier};
use crate::frame::discard;
use crate::panic::Guarded;

/// What contexts, pools and the process can carry: every [`Carrier`], and every [`ScopedCarrier`]
/// in a [`Scoped`].
///
/// Sealed: implement one of the two.
///
/// # Examples
///
/// ```
/// use cleanslate::foreign::{Carry, adopt};
/// use std::cell::Cell;
///
/// thread_local! { static LEVEL: Cell<u8> = const { Cell::new(0) }; }
///
/// fn with(carrier: impl Carry) -> cleanslate::Context {
///     cleanslate::Context::empty().carry(carrier)
/// }
///
/// assert_eq!(with(adopt(&LEVEL)).run(|| LEVEL.replace(1)), 0);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be carried",
    label = "not a carrier",
    note = "implement `Carrier`, or `ScopedCarrier` and wrap it in `Scoped`",
    note = "for a `thread_local!` there is `foreign::adopt(&KEY)`"
)]
pub trait Carry: sealed::Share {}

impl<C: Carrier> Carry for C {}
impl<C: ScopedCarrier> Carry for Scoped<C> {}

/// Erases a carrier's types.
pub(crate) fn share(carrier: impl Carry) -> SharedCarrier {
    carrier.share()
}

mod sealed {
    use super::{Attaching, Carrier, Scoped, ScopedCarrier, SharedCarrier};

    #[expect(unnameable_types, reason = "seals `Carry`")]
    pub trait Share {
        fn share(self) -> SharedCarrier;
    }

    impl<C: Carrier> Share for C {
        fn share(self) -> SharedCarrier {
            SharedCarrier::new(Attaching(self))
        }
    }

    impl<C: ScopedCarrier> Share for Scoped<C> {
        fn share(self) -> SharedCarrier {
            SharedCarrier::new(self)
        }
    }
}

/// A carrier without its types.
trait AnyCarrier: Send + Sync {
    fn name(&self) -> String;
    fn identity(&self) -> Identity;
    fn capture(self: Arc<Self>) -> Result<Carried, CarrierError>;
    /// Captures, or returns `None` if that is nothing.
    fn capture_something(self: Arc<Self>) -> Result<Option<Carried>, CarrierError>;
    fn nothing(self: Arc<Self>) -> Result<Option<Carried>, CarrierError>;
    fn captures_state(&self) -> bool;
}

impl<H: Hold> AnyCarrier for Identified<H> {
    fn name(&self) -> String {
        Identified::name(self)
    }

    fn identity(&self) -> Identity {
        self.identity
    }

    fn capture(self: Arc<Self>) -> Result<Carried, CarrierError> {
        let captured = self.call(CarrierStep::Capture, H::capture)?;
        Ok(Carried::new(self, captured))
    }

    fn capture_something(self: Arc<Self>) -> Result<Option<Carried>, CarrierError> {
        let captured = self.call(CarrierStep::Capture, |carrier| {
            let captured = Guarded::new(carrier.capture()?);
            let is_nothing = carrier.is_nothing(&captured);
            let captured = captured.into_inner();
            if is_nothing {
                discard(captured);
                return Ok(None);
            }
            Ok(Some(captured))
        })?;
        Ok(captured.map(|captured| Carried::new(self, captured)))
    }

    fn nothing(self: Arc<Self>) -> Result<Option<Carried>, CarrierError> {
        Identified::nothing(self)
    }

    fn captures_state(&self) -> bool {
        size_of::<H::Captured>() != 0
    }
}

/// A carrier that is shared by all who capture with it.
#[derive(Clone)]
#[expect(unnameable_types, reason = "a part of what seals `Carry`")]
pub struct SharedCarrier(Arc<dyn AnyCarrier>);

impl SharedCarrier {
    pub(super) fn new(carrier: impl Hold) -> Self {
        Self(Arc::new(Identified::new(carrier)))
    }

    pub(crate) fn name(&self) -> String {
        self.0.name()
    }

    pub(super) fn identity(&self) -> Identity {
        self.0.identity()
    }

    /// Captures the state of this thread.
    pub(super) fn capture(&self) -> Result<Carried, CarrierError> {
        in_carrier(|| Arc::clone(&self.0).capture())
    }

    /// Captures the state of this thread, unless that is nothing.
    pub(super) fn capture_something(&self) -> Result<Option<Carried>, CarrierError> {
        in_carrier(|| Arc::clone(&self.0).capture_something())
    }

    /// Returns what code that runs for nobody finds, if the carrier can say so.
    pub(super) fn nothing(&self) -> Result<Option<Carried>, CarrierError> {
        in_carrier(|| Arc::clone(&self.0).nothing())
    }

    /// Returns whether it captures anything. If not, it only keeps tasks apart.
    pub(super) fn captures_state(&self) -> bool {
        self.0.captures_state()
    }
}

/// How many carriers a context or a pool can be given at most, and how many can be installed: what
/// each of them keeps lies on the stack of the thread that runs a task.
const MOST: usize = 256;

/// Refuses a carrier if there are as many as there can be.
pub(super) fn room_for(
    carrier: &SharedCarrier,
    there_are: usize,
    what: &str,
) -> Result<(), CarrierError> {
    if there_are < MOST {
        return Ok(());
    }
    let why = format!("a {what} {MOST} carriers at most");
    Err(CarrierError::new(carrier.name(), CarrierStep::Capture, why.into()))
}

impl fmt::Debug for SharedCarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedCarrier").field(&self.name()).finish()
    }
}
