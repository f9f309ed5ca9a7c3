//! What a panic leaves behind: its payload, a value of the user's whose `Drop` may panic in turn.
//!
//! This needs nothing of the crate. Everything that catches a panic does so through [`catch`], so
//! that a payload is a [`Payload`] from the first moment on: wherever one is dropped, that is
//! contained, and in no task.
//!
//! Wrappers hold a value of the user's so that a panic of its drop does no harm; all but the last
//! are [`UserValue`]s:
//!
//! | | is dropped | that panic |
//! |---|---|---|
//! | [`Guarded`] | in the task that drops it | goes on, unless the thread unwinds already |
//! | `Framed`, of `frame` | the same; where there is none, in a frame of its own | the same |
//! | `Alone`, of `frame`, and `OfCarrier`, of `foreign` | in a frame of its own | the same |
//! | `ContainedItem`, of `rayon` | in a frame of its own | is contained |
//! | [`Contained`], which can be empty | in a frame of its own | is contained |

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::io::Write;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, needs_drop};
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// A value of the user's that the crate may have to drop anywhere. Its drop, which is in
/// `frame/discard.rs`, never unwinds, and is no part of the task around it. `None` from then on.
pub(crate) struct Contained<T>(pub(crate) Option<T>);

impl<T> Contained<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }

    /// Hands the value on; the receiver answers for its drop.
    pub(crate) fn into_inner(mut self) -> T {
        self.0.take().unwrap_or_else(|| unreachable!("only the drop empties it"))
    }
}

/// The payload of a panic.
pub(crate) struct Payload(Contained<Box<dyn Any + Send>>);

impl Payload {
    /// Takes charge of what `catch_unwind` or the user gave.
    pub(crate) fn new(payload: Box<dyn Any + Send>) -> Self {
        Self(Contained::new(payload))
    }

    /// Makes the payload of a panic with this message.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::new(Box::new(text.into()))
    }

    /// Hands the payload to the user, who then answers for its drop.
    pub(crate) fn into_inner(self) -> Box<dyn Any + Send> {
        self.0.into_inner()
    }

    /// Unwinds with it.
    pub(crate) fn resume(self) -> ! {
        resume_unwind(self.into_inner())
    }

    /// Unwinds with it, unless the thread is unwinding already: a second panic that left a `Drop`
    /// would abort the process.
    pub(crate) fn resume_unless_panicking(self) {
        if !std::thread::panicking() {
            self.resume();
        }
    }

    /// Unwinds with it or, if the thread is unwinding already, returns its message: below this call
    /// there may be a `Drop`, or a whole task that a `Drop` runs, which has failed.
    #[cold]
    #[inline(never)]
    pub(crate) fn resume_or_say(self) -> String {
        if !std::thread::panicking() {
            self.resume();
        }
        self.words().into_owned()
    }

    /// Returns the panic's message, if it is a string.
    pub(crate) fn message(&self) -> Option<Cow<'static, str>> {
        let payload = self.0.0.as_deref()?;
        if let Some(text) = payload.downcast_ref::<&'static str>() {
            Some(Cow::Borrowed(text))
        } else {
            payload.downcast_ref::<String>().map(|text| Cow::Owned(text.clone()))
        }
    }

    /// Returns the panic's message, or a text that says that it is no string.
    pub(crate) fn words(&self) -> Cow<'static, str> {
        self.message().unwrap_or(Cow::Borrowed("a payload that is no string"))
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Payload").field(&self.words()).finish()
    }
}

/// Calls `f` and catches its panic.
#[inline]
pub(crate) fn catch<R>(f: impl FnOnce() -> R) -> Result<R, Payload> {
    catch_unwind(AssertUnwindSafe(f)).map_err(Payload::new)
}

/// Drops several things one by one: the second panic of two that unwind together would abort the
/// process.
#[derive(Default)]
pub(crate) struct Drops {
    first: Option<Payload>,
}

impl Drops {
    /// Calls `drop`, which drops one of them. The first panic is kept, later ones are discarded.
    pub(crate) fn contain(&mut self, drop: impl FnOnce()) {
        self.add(catch(drop));
    }

    /// Notes how one went that was contained elsewhere.
    #[inline]
    pub(crate) fn add(&mut self, dropped: Result<(), Payload>) {
        if let Err(payload) = dropped {
            self.first.get_or_insert(payload);
        }
    }

    /// Returns the first panic, if there was one.
    #[inline]
    pub(crate) fn into_result(self) -> Result<(), Payload> {
        self.first.map_or(Ok(()), Err)
    }

    /// Resumes the first panic, unless the thread is unwinding already.
    #[inline]
    pub(crate) fn resume(self) {
        if let Some(payload) = self.first {
            payload.resume_unless_panicking();
        }
    }
}

/// A value of the user's that is dropped in place, since it may be larger than what is left of the
/// stack. `D` says how.
pub(crate) struct UserValue<T, D: HowDropped>(ManuallyDrop<T>, PhantomData<D>);

/// How the drop of a user's value is called.
pub(crate) trait HowDropped {
    /// Calls `drop`, and never twice: it drops a value in its place. Through a pointer, so that it
    /// is compiled once and not for each type.
    fn call(drop: &mut dyn FnMut());
}

impl<T, D: HowDropped> UserValue<T, D> {
    #[inline]
    pub(crate) const fn new(value: T) -> Self {
        Self(ManuallyDrop::new(value), PhantomData)
    }

    #[inline]
    #[expect(unsafe_code, reason = "moves out of a type that has a drop")]
    pub(crate) fn into_inner(self) -> T {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: it is not used again, since `this` is not dropped.
        unsafe { ManuallyDrop::take(&mut this.0) }
    }
}

impl<T, D: HowDropped> Deref for UserValue<T, D> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T, D: HowDropped> DerefMut for UserValue<T, D> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T, D: HowDropped> Drop for UserValue<T, D> {
    #[inline]
    #[expect(unsafe_code, reason = "drops the value where a panic of that can be caught")]
    fn drop(&mut self) {
        if const { needs_drop::<T>() } {
            D::call(&mut || {
                // SAFETY: it is not used again: it is being dropped, and `call` calls this once.
                unsafe { ManuallyDrop::drop(&mut self.0) };
            });
        }
    }
}

/// A value of the user's that is dropped on every way out. If the thread unwinds already, a panic
/// of its drop is contained: a second panic would abort the process.
pub(crate) type Guarded<T> = UserValue<T, Guard>;

/// See [`Guarded`].
pub(crate) struct Guard;

impl HowDropped for Guard {
    fn call(drop: &mut dyn FnMut()) {
        if let Err(payload) = catch(drop) {
            payload.resume_unless_panicking();
        }
    }
}

/// Aborts the process if it is dropped. It stands where a promise to other threads has to be kept,
/// which an unwinding past it would break.
pub(crate) struct AbortOnUnwind(&'static str);

impl AbortOnUnwind {
    /// Makes a promise; `broken` says what would no longer hold.
    pub(crate) fn new(broken: &'static str) -> Self {
        Self(broken)
    }

    /// Notes that the promise was kept.
    pub(crate) fn disarm(self) {
        let _kept = ManuallyDrop::new(self);
    }
}

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        say(format_args!("{}: aborting", self.0));
        std::process::abort();
    }
}

/// Prints a line on standard error. If that does not work, nothing is printed: `eprintln!` would
/// panic, in places that must not.
pub(crate) fn say(line: fmt::Arguments<'_>) {
    let _unsaid = writeln!(std::io::stderr(), "cleanslate: {line}");
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_the_panic_said() {
        assert_eq!(catch(|| panic!("plain")).unwrap_err().message().as_deref(), Some("plain"));
        assert_eq!(catch(|| panic!("{}", 7)).unwrap_err().message().as_deref(), Some("7"));
        assert_eq!(catch(|| panic!("")).unwrap_err().message().as_deref(), Some(""));
        assert_eq!(catch(|| std::panic::panic_any(7)).unwrap_err().message(), None);
    }

    #[test]
    fn of_several_drops_the_first_panic_goes_on() {
        let mut drops = Drops::default();
        drops.contain(|| ());
        drops.contain(|| panic!("first"));
        drops.contain(|| panic!("second"));
        assert_eq!(catch(|| drops.resume()).unwrap_err().words(), "first");
    }
}
