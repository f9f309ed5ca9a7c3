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
    /// the key held where the task was submitted, and each poll of a future with what it held where
    /// the future was isolated.
    ///
    /// What the task leaves there ends with it as before. Where nothing is inherited, as in a
    /// [detached](crate::Pool::detached) pool, a task starts with what [`adopt_with`] was given.
    ///
    /// A capture clones the value and allocates once; each task clones what was captured. The value
    /// of a `Cell` is taken out to be cloned. A `RefCell` that is mutably borrowed cannot be
    /// captured: an error that names the key.
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
        Inherited { adopted: self }
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
pub struct Inherited<K: Adoptable> {
    adopted: Adopted<K>,
}

impl<K: Adoptable> fmt::Debug for Inherited<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Inherited").field(&self.adopted).finish()
    }
}

impl<K: Adoptable> Carrier for Inherited<K>
where
    K::Value: Clone + Send + Sync,
{
    type Captured = K::Value;
    type Attached = K::Value;

    fn name(&self) -> &str {
        self.adopted.name()
    }

    fn capture(&self) -> Result<K::Value, BoxError> {
        let Adopted { key, init, .. } = &self.adopted;
        let mut copied = Ok(None);
        let looked = key.try_with(|cell| {
            let mut copy = |value: &K::Value| copied = catch(|| Some(value.clone()));
            let (left, looked) = cell.look(init(), &mut copy);
            (Guarded::new(left), looked)
        });
        // A thread whose key has ended has nothing to hand down.
        let Ok((left, looked)) = looked else { return Ok(init()) };
        let copied = match copied {
            Ok(copied) => Guarded::new(copied),
            Err(payload) => payload.resume(),
        };
        looked?;
        drop(left);
        match copied.into_inner() {
            Some(copy) => Ok(copy),
            None => unreachable!("it was looked at"),
        }
    }

    fn attach(&self, captured: &K::Value) -> Result<K::Value, BoxError> {
        self.adopted.exchange(captured.clone())
    }

    fn detach(&self, before: K::Value) -> Result<(), BoxError> {
        self.adopted.detach(before)
    }

    /// If what the task left needs no drop, putting in another clone is all there is to do.
    fn reattach(&self, captured: &K::Value, _: &mut K::Value) -> bool {
        !needs_drop::<K::Value>() && self.adopted.exchange(captured.clone()).is_ok()
    }

    fn nothing(&self) -> Option<K::Value> {
        Some((self.adopted.init)())
    }

    /// That of the carrier which it was made of: the two are for the same state.
    fn identity(&self) -> Identity {
        self.adopted.identity()
    }
}
