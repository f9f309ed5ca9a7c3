//! A carrier that refuses.

use cleanslate::foreign::{BoxError, Carrier};

/// Cannot be attached whenever its function says so.
pub(crate) struct Refuses<F>(pub(crate) F);

impl<F: Fn() -> bool + Send + Sync + 'static> Carrier for Refuses<F> {
    type Captured = ();
    type Attached = ();

    fn name(&self) -> &str {
        "refuses"
    }

    fn capture(&self) -> Result<(), BoxError> {
        Ok(())
    }

    fn attach(&self, (): &()) -> Result<(), BoxError> {
        if (self.0)() { Err("refused, on purpose".into()) } else { Ok(()) }
    }

    fn detach(&self, (): ()) -> Result<(), BoxError> {
        Ok(())
    }
}
