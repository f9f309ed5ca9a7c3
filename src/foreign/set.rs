//! The carriers of a pool.

use std::sync::Arc;

use super::carried::{Carried, CarriedList, Source};
use super::error::CarrierError;
use super::shared::{SharedCarrier, room_for};
use crate::frame::discard;

/// The carriers of a pool that has some.
#[derive(Default)]
pub(crate) struct CarrierSet {
    /// All of them, in the order in which they were added.
    all: Vec<PoolCarrier>,
    /// Those that only keep tasks apart.
    pub(super) stateless: CarriedList,
    /// The same, and what the others call nothing: for tasks that inherit nothing.
    nothing: CarriedList,
}

enum PoolCarrier {
    /// Only keeps tasks apart: captured once, for every task of the pool.
    Stateless(Carried),
    /// Captures something at each submission.
    Capturing(SharedCarrier),
}

impl Drop for CarrierSet {
    /// Never unwinds, and runs in no task: a pool may end on any thread, long after the call that
    /// gave it its carriers.
    fn drop(&mut self) {
        for member in self.all.drain(..) {
            discard(member);
        }
        for list in [std::mem::take(&mut self.stateless), std::mem::take(&mut self.nothing)] {
            discard(list);
        }
    }
}

impl CarrierSet {
    /// Makes a set of these, if there are any.
    pub(crate) fn of(carriers: Vec<SharedCarrier>) -> Result<Option<Self>, CarrierError> {
        let mut set = Self::default();
        match carriers.iter().try_for_each(|carrier| set.add(carrier)) {
            Ok(()) => Ok((!set.all.is_empty()).then_some(set)),
            Err(error) => {
                discard(carriers);
                Err(error)
            }
        }
    }

    fn add(&mut self, carrier: &SharedCarrier) -> Result<(), CarrierError> {
        room_for(carrier, self.all.len(), "pool has")?;
        if carrier.captures_state() {
            let nothing = carrier.nothing()?.map(|nothing| nothing.with_source(Source::Nothing));
            Arc::make_mut(&mut self.nothing).extend(nothing);
            self.all.push(PoolCarrier::Capturing(carrier.clone()));
        } else {
            let added = carrier.capture()?;
            Arc::make_mut(&mut self.stateless).push(added.clone());
            Arc::make_mut(&mut self.nothing).push(added.clone());
            self.all.push(PoolCarrier::Stateless(added));
        }
        Ok(())
    }

    /// Returns what a task has to attach, in order. If it is to inherit nothing, nothing travels.
    pub(crate) fn capture(&self, inherits: bool) -> Result<CarriedList, CarrierError> {
        if !inherits || self.stateless.len() == self.all.len() {
            return Ok(Arc::clone(&self.nothing));
        }
        let mut all = Vec::with_capacity(self.all.len());
        for member in &self.all {
            let captured = match member {
                PoolCarrier::Stateless(carried) => Ok(carried.clone()),
                PoolCarrier::Capturing(carrier) => carrier.capture(),
            };
            match captured {
                Ok(captured) => all.push(captured),
                Err(error) => {
                    discard(all);
                    return Err(error);
                }
            }
        }
        Ok(Arc::new(all))
    }
}
