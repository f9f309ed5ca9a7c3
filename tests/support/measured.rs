//! An input that notices when it is asked for its size.

use std::sync::Mutex;

/// Has no items. Calls a closure when it is first asked for its size, which a map does on the
/// thread of its caller.
pub(crate) struct WhenMeasured(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl WhenMeasured {
    pub(crate) fn new(f: impl FnOnce() + Send + 'static) -> Self {
        Self(Mutex::new(Some(Box::new(f))))
    }
}

impl Iterator for WhenMeasured {
    type Item = ();

    fn next(&mut self) -> Option<()> {
        None
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let call = self.0.lock().unwrap().take();
        if let Some(call) = call {
            call();
        }
        (0, None)
    }
}
