//! Having a worker replaced.

use cleanslate::Context;
use cleanslate::foreign::{BoxError, Carrier};

/// Cannot be detached, so that whoever runs a task with it is replaced.
pub(crate) struct Stuck;

impl Carrier for Stuck {
    type Captured = ();
    type Attached = ();

    fn name(&self) -> &str {
        "stuck"
    }

    fn capture(&self) -> Result<(), BoxError> {
        Ok(())
    }

    fn attach(&self, (): &()) -> Result<(), BoxError> {
        Ok(())
    }

    fn detach(&self, (): ()) -> Result<(), BoxError> {
        Err("stuck on purpose".into())
    }
}

/// A context whose tasks run, fail when they are cleaned up, and cost their worker its thread.
pub(crate) fn retiring() -> Context {
    Context::empty().carry(Stuck)
}
