//! Panics on purpose, and their messages.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

/// Prints nothing for panics whose message says that they happen on purpose, or lie too deep.
pub(crate) fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let is_bomb = info.payload().is::<Bomb>();
            let said = message(info.payload());
            // Of those that lie too deep some have no room for a backtrace.
            let is_expected = said.contains("on purpose") || said.contains("on top of one another");
            if !is_bomb && !is_expected {
                before(info);
            }
        }));
    });
}

/// The message of a panic, or of the error that it was raised with.
pub(crate) fn message(payload: &(dyn Any + Send)) -> String {
    if let Some(message) = payload.downcast_ref::<&'static str>() {
        (*message).to_owned()
    } else if let Some(message) = payload.downcast_ref::<String>() {
        message.clone()
    } else if let Some(error) = payload.downcast_ref::<cleanslate::RunError>() {
        error.to_string()
    } else {
        "no message".to_owned()
    }
}

/// The message of the panic that `f` has to end with.
#[track_caller]
pub(crate) fn panic_of<R>(f: impl FnOnce() -> R) -> String {
    quiet();
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(_) => panic!("it did not panic"),
        Err(payload) => message(&*payload),
    }
}

/// Calls `f` in a drop while the thread unwinds.
pub(crate) fn while_unwinding<R>(f: impl FnOnce() -> R) -> R {
    struct Calls<'c>(&'c mut dyn FnMut());
    impl Drop for Calls<'_> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    let (mut f, mut result) = (Some(f), None);
    panic_of(|| {
        let mut call = || result = f.take().map(|f| f());
        let _unwinding = Calls(&mut call);
        panic!("around it, on purpose");
    });
    result.unwrap()
}

/// A payload whose drop panics with the next one, this many times.
#[derive(Debug)]
pub(crate) struct Bomb(pub(crate) u32);

impl Bomb {
    /// Panics with one.
    pub(crate) fn explode() -> ! {
        std::panic::panic_any(Self(2))
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.0 > 0 {
            std::panic::panic_any(Self(self.0 - 1));
        }
    }
}
