//! The trait of a carrier.

use std::any::TypeId;
use std::sync::Arc;

use super::error::BoxError;

/// Carries a piece of foreign thread state from the submitter to the thread that runs a task.
///
/// `capture` runs on the submitting thread, once per context (once per pool if `Captured` has no
/// size, since then there is nothing to capture). `attach` and `detach` run on the thread that runs
/// the task, around every task. None of them may assume that the thread was clean before: `attach`
/// returns what has to be put back, and `detach` puts it back.
///
/// A carrier that fails, or panics, fails the task with a [`CarrierError`](super::CarrierError)
/// that names it: those before it are detached, and the task does not run half-switched. After a
/// failed `detach` a pool replaces the worker. A panic in any other code of the carrier (its name,
/// the text of its error, a drop) is contained. There is one exception: when the user drops a
/// `Context`, gives it a carrier in the place of an installed one, or calls or drops a closure that
/// was wrapped in one, a panic of the drop of what was captured goes on.
///
/// # Examples
///
/// ```
/// use cleanslate::Context;
/// use cleanslate::foreign::{BoxError, Carrier};
/// use std::cell::Cell;
///
/// thread_local! { static LOCALE: Cell<&'static str> = const { Cell::new("C") }; }
///
/// struct LocaleCarrier;
///
/// impl Carrier for LocaleCarrier {
///     type Captured = &'static str;
///     type Attached = &'static str;
///     fn name(&self) -> &str { "locale" }
///     fn capture(&self) -> Result<&'static str, BoxError> { Ok(LOCALE.get()) }
///     fn attach(&self, captured: &&'static str) -> Result<&'static str, BoxError> {
///         Ok(LOCALE.replace(captured))
///     }
///     fn detach(&self, before: &'static str) -> Result<(), BoxError> {
///         LOCALE.set(before);
///         Ok(())
///     }
/// }
///
/// LOCALE.set("de");
/// let context = Context::empty().carry(LocaleCarrier);
/// let there = std::thread::spawn(move || (context.run(|| LOCALE.get()), LOCALE.get()));
/// assert_eq!(there.join().unwrap(), ("de", "C"));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say how thread state is carried",
    label = "not a `Carrier`",
    note = "`foreign::adopt(&KEY)` makes a carrier of a `thread_local!` of a `Cell` or a `RefCell`"
)]
pub trait Carrier: Send + Sync + 'static {
    /// What travels with the context. Several threads may read it at a time.
    type Captured: Send + Sync + 'static;
    /// What `attach` leaves for `detach`. It stays on its thread.
    type Attached;

    /// Returns the carrier's name, for errors.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::foreign::{Carrier, adopt};
    /// use std::cell::Cell;
    ///
    /// thread_local! { static LEVEL: Cell<u8> = const { Cell::new(0) }; }
    ///
    /// assert_eq!(adopt(&LEVEL).named("level").name(), "level");
    /// ```
    fn name(&self) -> &str;

    /// Captures the state of the submitting thread.
    ///
    /// # Errors
    ///
    /// Returns an error if it cannot be captured. The submission fails.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::foreign::{Carrier, adopt};
    /// use std::cell::Cell;
    ///
    /// thread_local! { static LEVEL: Cell<u8> = const { Cell::new(0) }; }
    ///
    /// // What `adopt` makes has nothing to capture: each task starts with the initial value.
    /// adopt(&LEVEL).capture()?;
    /// assert_eq!(LEVEL.get(), 0);
    /// # Ok::<_, cleanslate::foreign::BoxError>(())
    /// ```
    fn capture(&self) -> Result<Self::Captured, BoxError>;

    /// Puts the captured state on this thread, and returns what was there.
    ///
    /// # Errors
    ///
    /// Returns an error if it cannot be put there. The thread must be left as it was; the task does
    /// not run.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::foreign::{Carrier, adopt};
    /// use std::cell::Cell;
    ///
    /// thread_local! { static LEVEL: Cell<u8> = const { Cell::new(0) }; }
    ///
    /// let carrier = adopt(&LEVEL);
    /// LEVEL.set(3);
    /// let before = carrier.attach(&carrier.capture()?)?;
    /// assert_eq!(LEVEL.replace(9), 0);
    /// carrier.detach(before)?;
    /// assert_eq!(LEVEL.get(), 3);
    /// # Ok::<_, cleanslate::foreign::BoxError>(())
    /// ```
    fn attach(&self, captured: &Self::Captured) -> Result<Self::Attached, BoxError>;

    /// Puts back what was there.
    ///
    /// # Errors
    ///
    /// Returns an error if it cannot be put back. The task fails, and a pool replaces the worker.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::foreign::{Carrier, adopt};
    /// use std::cell::Cell;
    ///
    /// thread_local! { static LEVEL: Cell<u8> = const { Cell::new(0) }; }
    ///
    /// let carrier = adopt(&LEVEL);
    /// LEVEL.set(3);
    /// let before = carrier.attach(&carrier.capture()?)?;
    /// carrier.detach(before)?;
    /// assert_eq!(LEVEL.get(), 3);
    /// # Ok::<_, cleanslate::foreign::BoxError>(())
    /// ```
    fn detach(&self, attached: Self::Attached) -> Result<(), BoxError>;

    /// Returns what code that runs for nobody in particular is to find, or `None`, the default, if
    /// this carrier has no such state.
    ///
    /// It is attached around tasks that inherit nothing ([`Pool::detached`](crate::Pool::detached),
    /// [`Context::empty`](crate::Context::empty)), so that they see neither what surrounds them nor
    /// what others of their kind have left. It is also attached around code that makes something
    /// for everybody, such as the initialiser of a [`worker_local!`](crate::worker_local), which
    /// must not see the user or the span of the task that happens to come first. A carrier without
    /// such a state is left out of both. Any carrier is left out of the latter if its own code, or
    /// what that code waits for, is the first to use the worker-local: the initialiser then finds
    /// its state as it is.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::foreign::{BoxError, Carrier};
    ///
    /// /// Carries a number, of which 0 stands for nobody's.
    /// struct Number;
    ///
    /// impl Carrier for Number {
    ///     type Captured = u32;
    ///     type Attached = ();
    ///     fn name(&self) -> &str { "number" }
    ///     fn capture(&self) -> Result<u32, BoxError> { Ok(7) }
    ///     fn attach(&self, _: &u32) -> Result<(), BoxError> { Ok(()) }
    ///     fn detach(&self, (): ()) -> Result<(), BoxError> { Ok(()) }
    ///     fn nothing(&self) -> Option<u32> { Some(0) }
    ///     fn is_nothing(&self, captured: &u32) -> bool { *captured == 0 }
    /// }
    ///
    /// assert_eq!(Number.nothing(), Some(0));
    /// ```
    fn nothing(&self) -> Option<Self::Captured> {
        None
    }

    /// Returns whether what was captured is the same as [`nothing`](Self::nothing). The default is
    /// `false`.
    ///
    /// If it is, an [installed](super::install) carrier shares one `nothing` between all
    /// submissions, which then allocate nothing. It is attached all the same: the thread that runs
    /// the task may have something that the task must not see.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::foreign::{BoxError, Carrier};
    ///
    /// /// Carries a number, of which 0 stands for nobody's.
    /// struct Number;
    ///
    /// impl Carrier for Number {
    ///     type Captured = u32;
    ///     type Attached = ();
    ///     fn name(&self) -> &str { "number" }
    ///     fn capture(&self) -> Result<u32, BoxError> { Ok(7) }
    ///     fn attach(&self, _: &u32) -> Result<(), BoxError> { Ok(()) }
    ///     fn detach(&self, (): ()) -> Result<(), BoxError> { Ok(()) }
    ///     fn nothing(&self) -> Option<u32> { Some(0) }
    ///     fn is_nothing(&self, captured: &u32) -> bool { *captured == 0 }
    /// }
    ///
    /// assert!(Number.is_nothing(&0) && !Number.is_nothing(&7));
    /// ```
    fn is_nothing(&self, captured: &Self::Captured) -> bool {
        let _ = captured;
        false
    }

    /// Makes this thread ready for the next of several tasks with the same captured state, and
    /// returns whether it did. The default does nothing and returns `false`.
    ///
    /// It is called between the items of a map, each of which is a task. `true` promises that the
    /// thread is as `detach` and then `attach` would have left it, and saves both: an item then
    /// costs one call of this method. After `false`, or a panic, what is attached is detached and
    /// attached again; so a carrier that finds anything out of the ordinary returns `false` and
    /// leaves it to `detach`, which can report it.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::foreign::{BoxError, Carrier};
    ///
    /// /// Carries a number, of which 0 stands for nobody's.
    /// struct Number;
    ///
    /// impl Carrier for Number {
    ///     type Captured = u32;
    ///     type Attached = ();
    ///     fn name(&self) -> &str { "number" }
    ///     fn capture(&self) -> Result<u32, BoxError> { Ok(7) }
    ///     fn attach(&self, _: &u32) -> Result<(), BoxError> { Ok(()) }
    ///     fn detach(&self, (): ()) -> Result<(), BoxError> { Ok(()) }
    ///     fn nothing(&self) -> Option<u32> { Some(0) }
    ///     fn is_nothing(&self, captured: &u32) -> bool { *captured == 0 }
    /// }
    ///
    /// // It does not say how, so it is detached and attached between two items.
    /// assert!(!Number.reattach(&7, &mut ()));
    /// ```
    fn reattach(&self, captured: &Self::Captured, attached: &mut Self::Attached) -> bool {
        let _ = (captured, attached);
        false
    }

    /// Returns what tells this carrier from others that carry different state. The default is its
    /// type.
    ///
    /// If a pool or a context has a carrier with the same identity as an
    /// [installed](super::install) one, only the pool's or the context's is attached; if both have
    /// one, only the context's is. (In a context that is [given](crate::Pool::in_context) to a
    /// pool, what an installed carrier captured comes before what the pool's calls nothing.) If one
    /// context, or one pool, is given several, all of them are attached.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::foreign::{BoxError, Carrier, Identity};
    ///
    /// /// Carries a number, of which 0 stands for nobody's.
    /// struct Number;
    ///
    /// impl Carrier for Number {
    ///     type Captured = u32;
    ///     type Attached = ();
    ///     fn name(&self) -> &str { "number" }
    ///     fn capture(&self) -> Result<u32, BoxError> { Ok(7) }
    ///     fn attach(&self, _: &u32) -> Result<(), BoxError> { Ok(()) }
    ///     fn detach(&self, (): ()) -> Result<(), BoxError> { Ok(()) }
    ///     fn nothing(&self) -> Option<u32> { Some(0) }
    ///     fn is_nothing(&self, captured: &u32) -> bool { *captured == 0 }
    /// }
    ///
    /// assert_eq!(Number.identity(), Identity::of::<Number>());
    /// ```
    fn identity(&self) -> Identity {
        Identity::of::<Self>()
    }
}

/// Tells carriers that carry different state apart: see [`Carrier::identity`].
///
/// # Examples
///
/// ```
/// use cleanslate::foreign::Identity;
///
/// let (a, b) = (&1u8, &2u8);
/// let identity = Identity::of::<String>();
/// assert_eq!(identity.at(a), identity.at(a));
/// assert_ne!(identity.at(a), identity.at(b));
/// assert_ne!(identity, Identity::of::<str>());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    of: TypeId,
    at: usize,
}

impl Identity {
    /// Returns the identity of all carriers of one type.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::foreign::Identity;
    ///
    /// assert_ne!(Identity::of::<u8>(), Identity::of::<u16>());
    /// ```
    #[must_use]
    pub fn of<C: ?Sized + 'static>() -> Self {
        Self { of: TypeId::of::<C>(), at: 0 }
    }

    /// Returns the identity of those among them that carry the state in this place.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::foreign::Identity;
    ///
    /// static HERE: u8 = 0;
    /// let identity = Identity::of::<String>();
    /// assert_ne!(identity.at(&HERE), identity);
    /// ```
    #[must_use]
    pub fn at<T>(self, place: &'static T) -> Self {
        Self { at: std::ptr::from_ref(place).addr(), ..self }
    }
}

impl<C: Carrier + ?Sized> Carrier for Arc<C> {
    type Captured = C::Captured;
    type Attached = C::Attached;

    fn name(&self) -> &str {
        (**self).name()
    }

    fn capture(&self) -> Result<Self::Captured, BoxError> {
        (**self).capture()
    }

    fn attach(&self, captured: &Self::Captured) -> Result<Self::Attached, BoxError> {
        (**self).attach(captured)
    }

    fn detach(&self, attached: Self::Attached) -> Result<(), BoxError> {
        (**self).detach(attached)
    }

    fn nothing(&self) -> Option<Self::Captured> {
        (**self).nothing()
    }

    fn is_nothing(&self, captured: &Self::Captured) -> bool {
        (**self).is_nothing(captured)
    }

    fn reattach(&self, captured: &Self::Captured, attached: &mut Self::Attached) -> bool {
        (**self).reattach(captured, attached)
    }

    fn identity(&self) -> Identity {
        (**self).identity()
    }
}
