//! The carriers of a context.

use std::sync::Arc;

use super::attached;
use super::carried::{Carried, attach_around};
use super::erased::SharedCarrier;
use super::error::CarrierError;
use super::installed::{self, Installed};
use super::set::CarrierSet;
use crate::panic::catch;

/// What a context carries besides the snapshot of its slots.
///
/// There are three sources, and of carriers with one identity the nearest one counts: what the
/// context was given, else what its pool has, else what is installed. They are attached in the
/// opposite order, so that the nearest one has the last word where they overlap.
#[derive(Clone)]
pub(crate) enum Carriers {
    /// Those that are installed, none of which has captured anything. `None`: none is.
    Nothing(Option<&'static Installed>),
    Some(Arc<[Carried]>),
}

impl Default for Carriers {
    fn default() -> Self {
        Self::none()
    }
}

impl Carriers {
    pub(crate) const fn none() -> Self {
        Self::Nothing(None)
    }

    /// What the carriers that are installed capture on this thread.
    #[inline]
    pub(crate) fn capture() -> Result<Self, CarrierError> {
        installed::capture()
    }

    /// Adds a carrier, which captures here and now.
    pub(crate) fn with(self, carrier: &SharedCarrier) -> Result<Self, CarrierError> {
        let added = carrier.capture()?;
        Ok(self.merged([], [added]))
    }

    /// Adds what the carriers of a pool say, before those that the context was given.
    pub(crate) fn in_pool(self, set: &CarrierSet, inherits: bool) -> Result<Self, CarrierError> {
        let of_pool = set.capture(inherits)?;
        match &self {
            Self::Nothing(None) if of_pool.is_empty() => Ok(self),
            Self::Nothing(None) => Ok(Self::Some(of_pool)),
            _ => Ok(self.merged(of_pool.iter().cloned(), [])),
        }
    }

    /// Puts `of_pool` between the installed ones and the given ones, and `last` behind.
    fn merged(
        &self,
        of_pool: impl IntoIterator<Item = Carried>,
        last: impl IntoIterator<Item = Carried>,
    ) -> Self {
        let (installed, given): (Vec<_>, Vec<_>) =
            self.as_slice().iter().cloned().partition(Carried::is_installed);
        let added: Vec<_> = of_pool.into_iter().chain(given).chain(last).collect();
        let identities: Vec<_> = added.iter().map(Carried::identity).collect();
        let left = installed.into_iter().filter(|one| !identities.contains(&one.identity()));
        Self::Some(left.chain(added).collect())
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Nothing(None))
    }

    pub(crate) fn as_slice(&self) -> &[Carried] {
        match self {
            Self::Nothing(None) => &[],
            Self::Nothing(Some(installed)) => installed.nothing(),
            Self::Some(list) => list,
        }
    }

    /// Calls `body`, which must not unwind, with all of them attached. It was called unless
    /// something could not be attached.
    #[inline]
    pub(crate) fn around(&self, body: &mut dyn FnMut()) -> Option<CarrierError> {
        attach_around(self.as_slice(), body)
    }
}

/// Calls `body`, which must not unwind, as if it ran for nobody: each carrier that is installed or
/// attached on this thread attaches its [`nothing`](super::Carrier::nothing), unless it has none.
/// The body was called unless something could not be attached. Never unwinds.
pub(crate) fn attach_nothing_around(body: &mut dyn FnMut()) -> Option<CarrierError> {
    let here = attached::on_this_thread();
    let identities: Vec<_> = here.iter().map(Carried::identity).collect();
    let installed = installed::nothing().iter().filter(|one| !identities.contains(&one.identity()));
    let mut nothing: Vec<_> = installed.cloned().collect();
    let mut failed = None;
    for carried in here {
        match carried.nothing() {
            Ok(one) => nothing.extend(one),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    let failed = failed.or_else(|| attach_around(&nothing, body));
    let _contained = catch(|| drop(nothing));
    failed
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::Carriers;

    // Every queued task has a context.
    #[test]
    fn a_contexts_carriers_are_two_words() {
        assert_eq!(size_of::<Carriers>(), 2 * size_of::<usize>());
    }
}
