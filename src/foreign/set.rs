//! The carriers of a pool.

use std::fmt;
use std::sync::Arc;

use super::carried::{Carried, CarriedList};
use super::error::CarrierError;
use super::shared::SharedCarrier;
use crate::frame::contained;

/// The carriers of a pool that has some.
#[derive(Default)]
pub(crate) struct CarrierSet {
    /// All of them, in the order in which they were added.
    all: Vec<PoolCarrier>,
    /// What they say for contexts that inherit nothing: those that only keep tasks apart, and of
    /// the others what nothing is, as far as they can say so.
    nothing: CarriedList,
    /// Whether one of them captures anything.
    captures: bool,
}

enum PoolCarrier {
    /// Only keeps tasks apart: captured once, for every context of the pool.
    Stateless(Carried),
    /// Captures something at each submission.
    Capturing(SharedCarrier),
}

impl fmt::Debug for CarrierSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.all.iter().map(|member| match member {
            PoolCarrier::Stateless(carried) => carried.name(),
            PoolCarrier::Capturing(carrier) => carrier.name(),
        });
        f.debug_list().entries(names).finish()
    }
}

impl Drop for CarrierSet {
    /// Never unwinds, and in no task: a pool may end on any thread, long after the call that gave
    /// it its carriers.
    fn drop(&mut self) {
        for member in self.all.drain(..) {
            let _contained = contained(|| drop(member));
        }
        let nothing = std::mem::take(&mut self.nothing);
        let _contained = contained(|| drop(nothing));
    }
}

impl CarrierSet {
    pub(crate) fn add(&mut self, carrier: SharedCarrier) -> Result<(), CarrierError> {
        let nothing = if carrier.captures_state() {
            let nothing = carrier.nothing()?;
            self.captures = true;
            self.all.push(PoolCarrier::Capturing(carrier));
            nothing
        } else {
            let added = carrier.capture()?;
            self.all.push(PoolCarrier::Stateless(added.clone()));
            Some(added)
        };
        Arc::make_mut(&mut self.nothing).extend(nothing);
        Ok(())
    }

    /// Returns what a task has to attach, in order.
    pub(crate) fn capture(&self, inherits: bool) -> Result<CarriedList, CarrierError> {
        if !(inherits && self.captures) {
            return Ok(Arc::clone(&self.nothing));
        }
        let all = self.all.iter().map(|member| match member {
            PoolCarrier::Stateless(carried) => Ok(carried.clone()),
            PoolCarrier::Capturing(carrier) => carrier.capture(),
        });
        all.collect::<Result<_, _>>().map(Arc::new)
    }
}
