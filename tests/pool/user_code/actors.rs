//! Values that do the deed in one of their methods.

use std::sync::Arc;
use std::task::Wake;

use super::places::Place;
use super::world::{ActsOnDrop, World};
use cleanslate::foreign::{BoxError, Carrier};

pub(super) struct ActsWhenCloned(pub(super) World);

impl Clone for ActsWhenCloned {
    fn clone(&self) -> Self {
        // The deed may capture again.
        if self.0.acts() == 0 {
            self.0.act();
        }
        Self(self.0.clone())
    }
}

/// Acts in one of its methods.
pub(super) struct Acting {
    pub(super) world: World,
    pub(super) at: Place,
}

impl Carrier for Acting {
    type Captured = Option<ActsOnDrop>;
    type Attached = ();

    fn name(&self) -> &str {
        "acting"
    }

    fn capture(&self) -> Result<Option<ActsOnDrop>, BoxError> {
        match self.at {
            Place::Capture => self.world.act(),
            Place::DropOfACarriersCapture => return Ok(Some(self.world.bomb())),
            _ => {}
        }
        Ok(None)
    }

    fn attach(&self, _: &Option<ActsOnDrop>) -> Result<(), BoxError> {
        if self.at == Place::Attach {
            self.world.act();
        }
        Ok(())
    }

    fn detach(&self, (): ()) -> Result<(), BoxError> {
        if self.at == Place::Detach {
            self.world.act();
        }
        Ok(())
    }
}

pub(super) struct ActsWhenWoken(pub(super) World);

impl Wake for ActsWhenWoken {
    fn wake(self: Arc<Self>) {
        self.0.act();
    }
}

pub(super) struct IgnoresWakes(
    #[expect(dead_code, reason = "acts when it is dropped")] pub(super) ActsOnDrop,
);

impl Wake for IgnoresWakes {
    fn wake(self: Arc<Self>) {
        drop(self);
    }
}
