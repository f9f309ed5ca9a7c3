//! A carrier that carries nothing.

use cleanslate::foreign::{BoxError, Carrier};

/// Owns something, for its drop. Tasks with a carrier go another way than those without.
pub(crate) struct Inert<T>(pub(crate) T);

impl<T: Send + Sync + 'static> Carrier for Inert<T> {
    type Captured = ();
    type Attached = ();

    fn name(&self) -> &str {
        "inert"
    }

    fn capture(&self) -> Result<(), BoxError> {
        Ok(())
    }

    fn attach(&self, (): &()) -> Result<(), BoxError> {
        Ok(())
    }

    fn detach(&self, (): ()) -> Result<(), BoxError> {
        Ok(())
    }
}
