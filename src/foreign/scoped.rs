//! Carriers of state that is only set for the time of a call.

use super::carrier::Identity;
use super::error::BoxError;

/// Carries foreign thread state whose owner sets it only for the time of a call.
///
/// Some libraries offer no way to set their state now and take it away later: a `scoped_tls` key
/// has `set(value, f)`, a `salsa` database has `attach(f)`, and a guard that borrows cannot be
/// kept. [`around`](Self::around) makes that call, and the task runs inside it. If you have the
/// choice, [`Carrier`](super::Carrier) is better: it can tidy up between two items of a map, which
/// saves attaching it for each.
///
/// It is added like other carriers, wrapped in a [`Scoped`].
///
/// # Examples
///
/// ```
/// use cleanslate::Context;
/// use cleanslate::foreign::{BoxError, Scoped, ScopedCarrier};
/// use std::cell::Cell;
///
/// // Of a library that offers nothing else.
/// thread_local! { static LOCALE: Cell<&'static str> = const { Cell::new("C") }; }
/// fn with_locale<R>(locale: &'static str, f: impl FnOnce() -> R) -> R {
///     let before = LOCALE.replace(locale);
///     let result = f();
///     LOCALE.set(before);
///     result
/// }
///
/// struct LocaleCarrier;
///
/// impl ScopedCarrier for LocaleCarrier {
///     type Captured = &'static str;
///     fn name(&self) -> &str { "locale" }
///     fn capture(&self) -> Result<&'static str, BoxError> { Ok(LOCALE.get()) }
///     fn around<R>(&self, to: &&'static str, body: impl FnOnce() -> R) -> Result<R, BoxError> {
///         Ok(with_locale(to, body))
///     }
/// }
///
/// let context = with_locale("de", || Context::capture().carry(Scoped(LocaleCarrier)));
/// let there = std::thread::spawn(move || (context.run(|| LOCALE.get()), LOCALE.get()));
/// assert_eq!(there.join().unwrap(), ("de", "C"));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say how thread state is carried",
    label = "not a `ScopedCarrier`",
    note = "state that is attached and detached, not bound for a call, is for `Carrier`"
)]
pub trait ScopedCarrier: Send + Sync + 'static {
    /// What travels with the context. Several threads may read it at a time.
    type Captured: Send + Sync + 'static;

    /// Returns the carrier's name, for errors.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::foreign::{BoxError, ScopedCarrier};
    ///
    /// /// Binds nothing.
    /// struct Unit;
    ///
    /// impl ScopedCarrier for Unit {
    ///     type Captured = u32;
    ///     fn name(&self) -> &str { "unit" }
    ///     fn capture(&self) -> Result<u32, BoxError> { Ok(7) }
    ///     fn around<R>(&self, _: &u32, body: impl FnOnce() -> R) -> Result<R, BoxError> {
    ///         Ok(body())
    ///     }
    /// }
    ///
    /// assert_eq!(Unit.name(), "unit");
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
    /// use cleanslate::foreign::{BoxError, ScopedCarrier};
    ///
    /// /// Binds nothing.
    /// struct Unit;
    ///
    /// impl ScopedCarrier for Unit {
    ///     type Captured = u32;
    ///     fn name(&self) -> &str { "unit" }
    ///     fn capture(&self) -> Result<u32, BoxError> { Ok(7) }
    ///     fn around<R>(&self, _: &u32, body: impl FnOnce() -> R) -> Result<R, BoxError> {
    ///         Ok(body())
    ///     }
    /// }
    ///
    /// assert_eq!(Unit.capture()?, 7);
    /// # Ok::<_, BoxError>(())
    /// ```
    fn capture(&self) -> Result<Self::Captured, BoxError>;

    /// Calls `body` with the captured state on this thread, and returns what it returns.
    ///
    /// `body` never panics: a panic of the task is caught inside. The types ensure that `body` is
    /// called once, and on this thread.
    ///
    /// # Errors
    ///
    /// Returns an error if the state cannot be put on this thread: the task then does not run. An
    /// error after `body` was called means that the state could not be taken away: the task then
    /// fails, and a pool replaces the worker. A panic, before or after, counts as an error.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::foreign::{BoxError, ScopedCarrier};
    ///
    /// /// Binds nothing.
    /// struct Unit;
    ///
    /// impl ScopedCarrier for Unit {
    ///     type Captured = u32;
    ///     fn name(&self) -> &str { "unit" }
    ///     fn capture(&self) -> Result<u32, BoxError> { Ok(7) }
    ///     fn around<R>(&self, _: &u32, body: impl FnOnce() -> R) -> Result<R, BoxError> {
    ///         Ok(body())
    ///     }
    /// }
    ///
    /// assert_eq!(Unit.around(&7, || "ran")?, "ran");
    /// # Ok::<_, BoxError>(())
    /// ```
    fn around<R>(&self, captured: &Self::Captured, body: impl FnOnce() -> R)
    -> Result<R, BoxError>;

    /// Returns what code that runs for nobody in particular is to find: see
    /// [`Carrier::nothing`](super::Carrier::nothing).
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::foreign::{BoxError, ScopedCarrier};
    ///
    /// /// Binds nothing.
    /// struct Unit;
    ///
    /// impl ScopedCarrier for Unit {
    ///     type Captured = u32;
    ///     fn name(&self) -> &str { "unit" }
    ///     fn capture(&self) -> Result<u32, BoxError> { Ok(7) }
    ///     fn around<R>(&self, _: &u32, body: impl FnOnce() -> R) -> Result<R, BoxError> {
    ///         Ok(body())
    ///     }
    /// }
    ///
    /// assert_eq!(Unit.nothing(), None);
    /// ```
    fn nothing(&self) -> Option<Self::Captured> {
        None
    }

    /// Returns whether what was captured is the same as `nothing`: see
    /// [`Carrier::is_nothing`](super::Carrier::is_nothing).
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::foreign::{BoxError, ScopedCarrier};
    ///
    /// /// Binds nothing.
    /// struct Unit;
    ///
    /// impl ScopedCarrier for Unit {
    ///     type Captured = u32;
    ///     fn name(&self) -> &str { "unit" }
    ///     fn capture(&self) -> Result<u32, BoxError> { Ok(7) }
    ///     fn around<R>(&self, _: &u32, body: impl FnOnce() -> R) -> Result<R, BoxError> {
    ///         Ok(body())
    ///     }
    /// }
    ///
    /// assert!(!Unit.is_nothing(&7));
    /// ```
    fn is_nothing(&self, captured: &Self::Captured) -> bool {
        let _ = captured;
        false
    }

    /// Returns whether what `around` has set is on this thread as it was when `body` began, so that
    /// another task may follow inside the same call: see
    /// [`Carrier::reattach`](super::Carrier::reattach). The default is `false`.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::foreign::{BoxError, ScopedCarrier};
    ///
    /// /// Binds nothing.
    /// struct Unit;
    ///
    /// impl ScopedCarrier for Unit {
    ///     type Captured = u32;
    ///     fn name(&self) -> &str { "unit" }
    ///     fn capture(&self) -> Result<u32, BoxError> { Ok(7) }
    ///     fn around<R>(&self, _: &u32, body: impl FnOnce() -> R) -> Result<R, BoxError> {
    ///         Ok(body())
    ///     }
    /// }
    ///
    /// assert!(!Unit.reattach(&7));
    /// ```
    fn reattach(&self, captured: &Self::Captured) -> bool {
        let _ = captured;
        false
    }

    /// Returns what tells this carrier from others: see
    /// [`Carrier::identity`](super::Carrier::identity).
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::foreign::{BoxError, Identity, ScopedCarrier};
    ///
    /// /// Binds nothing.
    /// struct Unit;
    ///
    /// impl ScopedCarrier for Unit {
    ///     type Captured = u32;
    ///     fn name(&self) -> &str { "unit" }
    ///     fn capture(&self) -> Result<u32, BoxError> { Ok(7) }
    ///     fn around<R>(&self, _: &u32, body: impl FnOnce() -> R) -> Result<R, BoxError> {
    ///         Ok(body())
    ///     }
    /// }
    ///
    /// assert_eq!(Unit.identity(), Identity::of::<Unit>());
    /// ```
    fn identity(&self) -> Identity {
        Identity::of::<Self>()
    }
}

/// Makes a carrier of a [`ScopedCarrier`].
///
/// # Examples
///
/// ```
/// use cleanslate::foreign::{BoxError, Scoped, ScopedCarrier};
///
/// /// Binds nothing.
/// struct Unit;
///
/// impl ScopedCarrier for Unit {
///     type Captured = u32;
///     fn name(&self) -> &str { "unit" }
///     fn capture(&self) -> Result<u32, BoxError> { Ok(7) }
///     fn around<R>(&self, _: &u32, body: impl FnOnce() -> R) -> Result<R, BoxError> {
///         Ok(body())
///     }
/// }
///
/// let context = cleanslate::Context::empty().carry(Scoped(Unit));
/// assert_eq!(context.run(|| 1), 1);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scoped<C>(pub C);
