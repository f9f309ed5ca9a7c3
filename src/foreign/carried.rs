//! What carriers have captured, and how a list of that is attached around a closure.
//!
//! Attaching recurses: carrier *n* keeps what it attached on the Rust stack while the rest runs
//! inside. So the order is right by construction (detached in reverse, and those before a failed
//! one are detached), and nothing is allocated per task.

use std::fmt;
use std::sync::Arc;

use super::attached;
use super::carrier::Identity;
use super::erased::{AnyCarrier, Erased};
use super::error::CarrierError;
use super::kinds::Hold;
use crate::panic::Drops;

/// A carrier and what it captured.
#[derive(Clone)]
pub(crate) struct Carried {
    load: Arc<dyn AnyLoad>,
    /// It comes from the process's list, and gives way to one of a pool or a context.
    is_installed: bool,
}

/// The same without its types.
trait AnyLoad: Send + Sync {
    fn name(&self) -> String;
    fn identity(&self) -> Identity;
    fn nothing(&self) -> Result<Option<Carried>, CarrierError>;
    /// Attaches this one and then the rest, calls `body` inside, and detaches. The body was called
    /// unless something could not be attached.
    fn around(&self, rest: &[Carried], body: Body<'_>) -> Option<CarrierError>;
}

type Body<'a> = &'a mut dyn FnMut();

/// Empty from its drop on.
struct Load<H: Hold>(Option<(Arc<Erased<H>>, H::Captured)>);

impl<H: Hold> Load<H> {
    fn parts(&self) -> (&Arc<Erased<H>>, &H::Captured) {
        let Some((carrier, captured)) = &self.0 else { unreachable!("only the drop empties it") };
        (carrier, captured)
    }
}

impl<H: Hold> Drop for Load<H> {
    /// Contained, since it is one of a list.
    fn drop(&mut self) {
        let Some((carrier, captured)) = self.0.take() else { return };
        let mut drops = Drops::default();
        drops.contain(|| drop(captured));
        drops.contain(|| drop(carrier));
        drops.resume();
    }
}

impl<H: Hold> AnyLoad for Load<H> {
    fn name(&self) -> String {
        self.parts().0.safe_name()
    }

    fn identity(&self) -> Identity {
        self.parts().0.identity
    }

    fn nothing(&self) -> Result<Option<Carried>, CarrierError> {
        AnyCarrier::nothing(Arc::clone(self.parts().0))
    }

    fn around(&self, rest: &[Carried], body: Body<'_>) -> Option<CarrierError> {
        let (carrier, captured) = self.parts();
        H::hold(carrier, captured, || around_all(rest, body))
    }
}

impl fmt::Debug for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Carried").field(&self.name()).finish()
    }
}

impl Carried {
    pub(super) fn new<H: Hold>(carrier: Arc<Erased<H>>, captured: H::Captured) -> Self {
        Self { load: Arc::new(Load(Some((carrier, captured)))), is_installed: false }
    }

    pub(super) fn installed(self) -> Self {
        Self { is_installed: true, ..self }
    }

    pub(super) fn is_installed(&self) -> bool {
        self.is_installed
    }

    pub(super) fn identity(&self) -> Identity {
        self.load.identity()
    }

    pub(super) fn nothing(&self) -> Result<Option<Self>, CarrierError> {
        self.load.nothing()
    }

    pub(crate) fn name(&self) -> String {
        self.load.name()
    }
}

/// Calls `body`, which must not unwind, with all carriers attached. It was called unless something
/// could not be attached.
#[inline]
pub(crate) fn attach_around(carriers: &[Carried], body: Body<'_>) -> Option<CarrierError> {
    attached::noted(carriers, || around_all(carriers, body))
}

fn around_all(carriers: &[Carried], body: Body<'_>) -> Option<CarrierError> {
    match carriers.split_first() {
        Some((first, rest)) => first.load.around(rest, body),
        None => {
            body();
            None
        }
    }
}
