//! A carrier for a `std::thread_local!` of code that cannot be changed, whose value is handed down.

use std::fmt;
use std::mem::needs_drop;

use super::adopt::{Adoptable, Adopted};
use super::carrier::{Carrier, Identity};
use super::error::BoxError;
use crate::panic::{Guarded, catch};

impl<K: Adoptable> Adopted<K>
where
    K::Value: Clone + Send + Sync,
{
    /// Hands the value down, as `#[inherit]` does for a slot: each task starts with a clone of what
    /// the key held where the task was submitted, and each poll of a future with a clone of what it
    /// held where the future was isolated.
    ///
    /// As before, what the task leaves there ends with the task. Tasks of a pool with this carrier
    /// that inherit nothing ([`detached`](crate::Pool::detached),
    /// [`in_context`](crate::Pool::in_context)) start with what [`adopt_with`] was given. The same
    /// value is in the key while a value that a task has left is dropped, so making it must not
    /// fail.
    ///
    /// A capture clones the value and allocates; each task clones what was captured. The value of a
    /// `Cell` is taken out to be cloned. A `RefCell` that is mutably borrowed cannot be captured;
    /// the error names the key.
    ///
    /// [`adopt_with`]: super::adopt_with
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{Context, foreign::adopt};
    /// use std::cell::RefCell;
    ///
    /// thread_local! { static TENANT: RefCell<String> = const { RefCell::new(String::new()) }; }
    ///
    /// TENANT.set("acme".to_owned());
    /// let context = Context::empty().carry(adopt(&TENANT).inherited());
    /// TENANT.set("other".to_owned());
    /// let there = std::thread::spawn(move || context.run(|| TENANT.take()));
    /// assert_eq!(there.join().unwrap(), "acme");
    /// ```
    #[must_use]
    pub fn inherited(self) -> Inherited<K> {
        Inherited(self)
    }
}

/// The carrier that [`Adopted::inherited`] makes.
///
/// # Examples
///
/// ```
/// use cleanslate::foreign::{Inherited, adopt};
/// use std::cell::Cell;
///
/// thread_local! { static LEVEL: Cell<u8> = const { Cell::new(0) }; }
///
/// LEVEL.set(3);
/// let carrier: Inherited<Cell<u8>> = adopt(&LEVEL).inherited();
/// let context = cleanslate::Context::empty().carry(carrier);
/// assert_eq!(context.run(|| LEVEL.replace(9)), 3);
/// assert_eq!(LEVEL.get(), 3);
/// ```
pub struct Inherited<K: Adoptable>(Adopted<K>);

impl<K: Adoptable> Inherited<K> {
    /// Names the key for errors, as [`Adopted::named`] does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::foreign::{Carrier, adopt};
    /// use std::cell::Cell;
    ///
    /// thread_local! { static LEVEL: Cell<u8> = const { Cell::new(0) }; }
    ///
    /// assert_eq!(adopt(&LEVEL).inherited().named("level").name(), "level");
    /// ```
    #[must_use]
    pub fn named(self, name: &'static str) -> Self {
        Self(self.0.named(name))
    }
}

impl<K: Adoptable> Copy for Inherited<K> {}

impl<K: Adoptable> Clone for Inherited<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K: Adoptable> fmt::Debug for Inherited<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Inherited").field(&self.0).finish()
    }
}

impl<K: Adoptable> Inherited<K>
where
    K::Value: Clone,
{
    /// Puts a copy of what was captured into the key, and returns what was there.
    fn put(&self, captured: Option<&K::Value>) -> Result<K::Value, BoxError> {
        self.0.exchange(captured.cloned().unwrap_or_else(self.0.init))
    }
}

impl<K: Adoptable> Carrier for Inherited<K>
where
    K::Value: Clone + Send + Sync,
{
    /// `None` is nothing: each task then starts with the initial value.
    type Captured = Option<K::Value>;
    type Attached = K::Value;

    fn name(&self) -> &str {
        self.0.name()
    }

    fn capture(&self) -> Result<Option<K::Value>, BoxError> {
        let Adopted { key, init, .. } = self.0;
        let mut copied = Ok(None);
        let looked = key.try_with(|cell| {
            let mut copy = |value: &K::Value| copied = catch(|| Some(value.clone()));
            cell.look(init, &mut copy).map(Guarded::new)
        });
        // A thread whose key has ended has nothing to hand down.
        let Ok(left) = looked else { return Ok(None) };
        let copied = match copied {
            Ok(copied) => Guarded::new(copied),
            Err(payload) => payload.resume(),
        };
        // Its drop is user code, and may panic.
        drop(left?);
        Ok(copied.into_inner())
    }

    fn attach(&self, captured: &Option<K::Value>) -> Result<K::Value, BoxError> {
        self.put(captured.as_ref())
    }

    fn detach(&self, before: K::Value) -> Result<(), BoxError> {
        self.0.detach(before)
    }

    /// If what the task left needs no drop, putting in another copy is all there is to do.
    fn reattach(&self, captured: &Option<K::Value>, _: &mut K::Value) -> bool {
        !needs_drop::<K::Value>() && self.put(captured.as_ref()).is_ok()
    }

    fn nothing(&self) -> Option<Option<K::Value>> {
        Some(None)
    }

    fn is_nothing(&self, captured: &Option<K::Value>) -> bool {
        captured.is_none()
    }

    /// The identity of the carrier that it was made of, since the two are for the same state.
    fn identity(&self) -> Identity {
        self.0.identity()
    }
}
