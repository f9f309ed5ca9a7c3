//! Contexts: what a task inherits, and closures that take it along to any executor.

mod error;
mod run;
mod wrap;

use std::fmt;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

pub(crate) use error::Origin;
pub use error::{CaptureError, RunError};
pub(crate) use run::{
    Call, Once, attached, call, call_attached, make_for_nobody, ready_for_next, run_several,
};
#[cfg(feature = "tower")]
pub(crate) use wrap::Wrapping;
pub use wrap::{is_isolated, isolated, isolated_fn, isolated_fn_in, isolated_in};

use crate::foreign::{Carried, CarrierError, CarrierSet, Carriers, Carry, INSTALLED, share};
use crate::frame::snapshot::{Copied, Inheritance, Item, Items, Snapshot};
use crate::frame::{self, Failure, capture, discard};

/// What tasks inherit: an immutable snapshot of the inheritable slots, and of carriers.
///
/// The pool captures one at every `submit`, on the submitting thread, so most programs never name
/// this type. Name it to run a closure as a task on another executor, to give several tasks the
/// same context, or to give a task a context other than the surrounding one.
///
/// Cloning and dropping cost a reference count each. A context keeps the captured values alive, and
/// nothing else. Avoid an inheritable slot that holds a `Context`: it is captured too, so if each
/// generation of tasks sets it, the contexts form a chain, and dropping the last one drops all of
/// them recursively, on one stack. A slot that is not inherited forms no such chain.
///
/// # Examples
///
/// ```
/// use cleanslate::{Context, task_local};
///
/// task_local! {
///     #[inherit]
///     static TENANT: String = "nobody".to_owned();
/// }
///
/// TENANT.set("acme".to_owned());
/// let context = Context::capture();
/// TENANT.set("other".to_owned());
///
/// let seen = std::thread::spawn(move || context.run(|| TENANT.get()));
/// assert_eq!(seen.join().unwrap(), "acme");
/// ```
#[doc(alias = "contextvar")]
#[doc(alias = "contextvars")]
#[doc(alias = "MDC")]
#[derive(Clone, Default)]
pub struct Context {
    /// `None`: there is nothing to inherit.
    snapshot: Option<Arc<Snapshot>>,
    /// `None`: it says nothing about carriers. See [`submitted`](Context::submitted).
    carriers: Option<Carriers>,
}

// Panics inside are contained, so nobody sees a value in the middle of a change.
impl UnwindSafe for Context {}
impl RefUnwindSafe for Context {}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items = self.snapshot.as_deref().map_or(&[][..], Snapshot::items);
        let slots: Vec<_> = items.iter().map(|item| item.slot.name()).collect();
        let carriers = self.carriers.as_ref().map_or(&[][..], Carriers::as_slice);
        let carriers: Vec<_> = carriers.iter().map(Carried::name).collect();
        f.debug_struct("Context").field("slots", &slots).field("carriers", &carriers).finish()
    }
}

impl Context {
    /// Captures the inheritable slots of the current task, and what
    /// [installed](crate::foreign::install) carriers carry.
    ///
    /// This is O(1) if none of them has changed since the last capture in this task. Otherwise it
    /// visits the inheritable slots that this thread has touched, and copies the values that this
    /// task holds.
    ///
    /// Where the thread is ending and its slots have ended (in the destructor of a thread-local),
    /// there is nothing to capture in them, also in the poll of a future that keeps values.
    ///
    /// # Panics
    ///
    /// Panics, with the text of a [`CaptureError`] that names it, if one of the slots is inside its
    /// own `with_mut` or an installed carrier fails. Also panics if a copy panics.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{Context, task_local};
    ///
    /// task_local! {
    ///     #[inherit]
    ///     static USER: u32 = 0;
    /// }
    ///
    /// let context = USER.scope(7, Context::capture);
    /// assert_eq!(context.run(|| USER.get()), 7);
    /// ```
    #[inline]
    #[must_use]
    #[track_caller]
    pub fn capture() -> Self {
        match Self::try_capture() {
            Ok(context) => context,
            Err(error) => error.raise(),
        }
    }

    /// Captures like [`capture`](Self::capture), or returns an error.
    ///
    /// # Errors
    ///
    /// Returns an error that names the slot or carrier, if one of the inheritable slots is inside
    /// its own `with_mut` or if an installed carrier fails.
    ///
    /// # Panics
    ///
    /// Panics if a value's `Clone`, or the function of its `#[inherit(with = f)]`, panics.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{Context, task_local};
    ///
    /// task_local! {
    ///     #[inherit]
    ///     static USER: u32 = 0;
    /// }
    ///
    /// assert!(USER.with_mut(|_| Context::try_capture()).is_err());
    /// assert!(Context::try_capture().is_ok());
    /// ```
    #[inline]
    pub fn try_capture() -> Result<Self, CaptureError> {
        if INSTALLED.get().is_none() {
            if let Some(snapshot) = capture::unchanged() {
                return Ok(Self { snapshot, carriers: None });
            }
        }
        Self::capture_slow()
    }

    #[inline(never)]
    fn capture_slow() -> Result<Self, CaptureError> {
        let snapshot = capture::capture()?;
        match Carriers::capture() {
            Ok(carriers) => Ok(Self { snapshot, carriers }),
            Err(error) => {
                discard(snapshot);
                Err(error.into())
            }
        }
    }

    /// Captures what installed carriers carry, and nothing else.
    #[cfg(feature = "tower")]
    #[track_caller]
    pub(crate) fn capture_carriers() -> Self {
        match Carriers::capture() {
            Ok(carriers) => Self { snapshot: None, carriers },
            Err(error) => CaptureError::from(error).raise(),
        }
    }

    /// Returns a context from which nothing is inherited.
    ///
    /// An [installed](crate::foreign::install) carrier attaches what it calls
    /// [nothing](crate::foreign::Carrier::nothing), if it can say so.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{Context, task_local};
    ///
    /// task_local! {
    ///     #[inherit]
    ///     static USER: u32 = 0;
    /// }
    ///
    /// USER.set(7);
    /// assert_eq!(Context::empty().run(|| USER.get()), 0);
    /// ```
    #[must_use]
    pub const fn empty() -> Self {
        Self { snapshot: None, carriers: None }
    }

    /// Returns what is inherited, without what is attached.
    pub(crate) fn without_carriers(&self) -> Self {
        Self { snapshot: self.snapshot.clone(), carriers: None }
    }

    /// Gives an inheritable slot a value, in place of what was captured for it.
    pub(crate) fn given(self, slot: &'static dyn Inheritance, copied: Copied) -> Self {
        let Self { snapshot, carriers } = self;
        let mut items = Items::default();
        for item in snapshot.as_deref().map_or(&[][..], Snapshot::items) {
            if !item.is_of(slot) {
                items.push(item.clone());
            }
        }
        items.push(Item { slot, copied, is_given: true });
        let given = Snapshot::new(items);
        // Its drop may panic. What is in place to be returned by then would be leaked.
        drop(snapshot);
        Self { snapshot: given, carriers }
    }

    /// Adds a carrier, which captures here and now, on this thread.
    ///
    /// Tasks attach carriers in the order in which they were added, and detach them in reverse.
    ///
    /// # Panics
    ///
    /// Panics if the carrier cannot capture, or if the context was given 256 carriers already, with
    /// the text of a [`CarrierError`] that names it; and where [`try_carry`](Self::try_carry) does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{Context, foreign::adopt};
    /// use std::cell::Cell;
    ///
    /// thread_local! { static LEVEL: Cell<u8> = const { Cell::new(0) }; }
    ///
    /// let context = Context::empty().carry(adopt(&LEVEL));
    /// assert_eq!(context.run(|| LEVEL.replace(9)), 0);
    /// assert_eq!(LEVEL.get(), 0);
    /// ```
    #[track_caller]
    #[must_use = "the context with the carrier is returned"]
    pub fn carry<C: Carry>(self, carrier: C) -> Self {
        match self.try_carry(carrier) {
            Ok(context) => context,
            Err(error) => panic!("{error}"),
        }
    }

    /// Adds a carrier like [`carry`](Self::carry), or returns an error.
    ///
    /// # Errors
    ///
    /// Returns an error if the carrier's `capture` fails or panics, or if the context was given 256
    /// carriers already.
    ///
    /// # Panics
    ///
    /// Panics if this carrier comes in the place of an installed one, and the drop of what that has
    /// captured panics.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{Context, foreign::adopt};
    /// use std::cell::Cell;
    ///
    /// thread_local! { static LEVEL: Cell<u8> = const { Cell::new(0) }; }
    ///
    /// let context = Context::empty().try_carry(adopt(&LEVEL))?;
    /// assert_eq!(context.run(|| LEVEL.get()), 0);
    /// # Ok::<_, cleanslate::foreign::CarrierError>(())
    /// ```
    pub fn try_carry<C: Carry>(self, carrier: C) -> Result<Self, CarrierError> {
        let mut context = self.submitted();
        let carrier = share(carrier);
        match Carriers::with(context.carriers.as_ref(), &carrier) {
            Ok(all) => {
                // As in `given`.
                drop(context.carriers.replace(all));
                Ok(context)
            }
            Err(error) => {
                discard((context, carrier));
                Err(error)
            }
        }
    }

    /// Adds what the carriers of a pool say, before those that the context was given: the context
    /// decides what is inherited, so it has the last word. Also returns what was attached before,
    /// of which something may end with it: a capture of a carrier in whose place the pool's comes.
    #[cold]
    pub(crate) fn in_pool(
        mut self,
        set: &CarrierSet,
        inherits: bool,
    ) -> Result<(Self, Option<Carriers>), CarrierError> {
        match Carriers::in_pool(self.carriers.as_ref(), set, inherits) {
            Ok(all) => {
                let before = std::mem::replace(&mut self.carriers, all);
                Ok((self, before))
            }
            Err(error) => {
                discard(self);
                Err(error)
            }
        }
    }

    /// Returns the context of a task that is submitted in this one, here and now: if it says
    /// nothing about carriers, the installed ones attach what they call nothing. (But what a
    /// carrier's own code submits carries none of them, or that would go on for ever.)
    #[inline(always)]
    pub(crate) fn submitted(self) -> Self {
        let Self { snapshot, carriers } = self;
        Self { snapshot, carriers: carriers.or_else(Carriers::nothing) }
    }

    /// Returns whether there is nothing to inherit and nothing to attach.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.snapshot.is_none() && self.carriers.is_none()
    }

    /// Returns whether a task in this context has carriers to attach.
    #[inline]
    pub(crate) fn has_carriers(&self) -> bool {
        self.carriers.is_some()
    }

    /// Returns what a task in this context inherits.
    #[inline]
    pub(crate) fn inherits(&self) -> Option<&Arc<Snapshot>> {
        self.snapshot.as_ref()
    }

    /// Runs a closure as a task in this context, here and now.
    ///
    /// The closure finds every slot fresh (inherited slots as captured), whatever the surrounding
    /// task holds. Afterwards the closure's values are dropped, and the surrounding ones are as
    /// before.
    ///
    /// If something is inherited from the context, the call counts a reference to it, which takes
    /// about 20 ns, or 100 where two threads do so at once; an empty context costs 2.
    ///
    /// # Panics
    ///
    /// Panics if the closure does, or, with a [`RunError`] as the payload, if a carrier or the
    /// clean-up fails.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{Context, task_local};
    ///
    /// task_local! { static DEPTH: u32 = 0; }
    ///
    /// DEPTH.set(7);
    /// let inside = Context::empty().run(|| DEPTH.replace(9));
    /// assert_eq!((inside, DEPTH.get()), (0, 7));
    /// ```
    #[inline]
    #[track_caller]
    pub fn run<R>(&self, f: impl FnOnce() -> R) -> R {
        match self.try_run(f) {
            Ok(result) => result,
            Err(error) => error.raise(Some(Origin::Run(Location::caller()))),
        }
    }

    /// Runs a closure as a task like [`run`](Self::run), or returns an error if a carrier or the
    /// clean-up fails.
    ///
    /// # Errors
    ///
    /// Returns an error if a carrier cannot be attached, in which case the closure was not called,
    /// or if the clean-up fails, in which case its result was dropped.
    ///
    /// # Panics
    ///
    /// Panics if the closure does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Context;
    ///
    /// assert_eq!(Context::empty().try_run(|| 1)?, 1);
    /// # Ok::<_, cleanslate::RunError>(())
    /// ```
    #[inline]
    pub fn try_run<R>(&self, f: impl FnOnce() -> R) -> Result<R, RunError> {
        let is_empty = self.is_empty() && INSTALLED.get().is_none();
        self.run_unless_empty(is_empty, f)
    }

    /// Runs a closure like [`try_run`](Self::try_run) in a context that is a [submitted
    /// task's](Self::submitted).
    #[inline]
    pub(crate) fn try_call<R>(&self, f: impl FnOnce() -> R) -> Result<R, RunError> {
        self.run_unless_empty(self.is_empty(), f)
    }

    /// Runs a closure as a task: in this context or, if that `is_empty`, in none.
    #[inline]
    fn run_unless_empty<R>(&self, is_empty: bool, f: impl FnOnce() -> R) -> Result<R, RunError> {
        if is_empty {
            // A panic passes through: the frame's drop resets the slots.
            return frame::run(None, f).map_err(RunError::cleanup);
        }
        let mut task = Once::Closure(f);
        self.run_counted(&mut task)?;
        Ok(task.into_result())
    }

    /// Runs a task in a context of which this call holds a count: the owner of this one may be
    /// dropped before the frame is closed, if the process exits from within the task (S3).
    #[inline(never)]
    fn run_counted(&self, task: &mut dyn Call) -> Result<(), RunError> {
        let context = self.clone().submitted();
        if !context.has_carriers() {
            // A panic passes through: the frame's drop resets the slots.
            let ran = frame::run(context.inherits(), || task.call());
            return ran
                .map_err(|error| RunError::cleanup(frame::give_up(|| task.give_up(), error)));
        }
        match call_attached(&context, task) {
            Ok(()) => Ok(()),
            Err(Failure::Panic(payload)) => payload.resume(),
            Err(Failure::Cleanup(error)) => Err(RunError::cleanup(error)),
            Err(Failure::Carrier(error)) => Err(RunError::carrier(error)),
        }
    }
}
