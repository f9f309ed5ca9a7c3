//! A carrier for a `std::thread_local!` of code that cannot be changed.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::mem::needs_drop;
use std::thread::LocalKey;

use super::Carrier;
use super::error::BoxError;
use crate::panic::catch;

/// Makes a carrier that empties a foreign thread-local for each task and puts it back afterwards.
///
/// Takes a `&'static LocalKey<Cell<T>>` or `&'static LocalKey<RefCell<T>>`. Each task finds
/// `T::default()` in it. What the task leaves there is dropped when the task ends, after its slots
/// and before its completion can be observed; what the surrounding code had there is put back.
///
/// The key is initialised by the first task on a thread, if nobody did before: std offers no way to
/// ask whether it is. A `RefCell` that the surrounding code has borrowed cannot be emptied, and a task
/// that is to run there fails with an error naming the key's type.
///
/// # Examples
///
/// ```
/// use cleanslate::{Context, foreign::adopt};
/// use std::cell::RefCell;
///
/// thread_local! { static USER: RefCell<Option<String>> = const { RefCell::new(None) }; }
///
/// USER.set(Some("alice".to_owned()));
/// let context = Context::empty().carry(adopt(&USER).named("USER"));
/// let inside = context.run(|| USER.replace(Some("bob".to_owned())));
/// assert_eq!((inside, USER.take().as_deref()), (None, Some("alice")));
/// ```
pub fn adopt<K: Adoptable>(key: &'static LocalKey<K>) -> Adopted<K>
where
    K::Value: Default,
{
    adopt_with(key, K::Value::default)
}

/// Makes a carrier like [`adopt`], with the value that each task is to find.
///
/// # Examples
///
/// ```
/// use cleanslate::{Context, foreign::adopt_with};
/// use std::cell::Cell;
///
/// thread_local! { static LEVEL: Cell<u8> = const { Cell::new(3) }; }
///
/// let context = Context::empty().carry(adopt_with(&LEVEL, || 3));
/// LEVEL.set(9);
/// assert_eq!(context.run(|| LEVEL.replace(5)), 3);
/// assert_eq!(LEVEL.get(), 9);
/// ```
pub fn adopt_with<K: Adoptable>(key: &'static LocalKey<K>, init: fn() -> K::Value) -> Adopted<K> {
    Adopted { key, init, name: std::any::type_name::<K>() }
}

/// The carrier that [`adopt`] makes.
pub struct Adopted<K: Adoptable> {
    key: &'static LocalKey<K>,
    init: fn() -> K::Value,
    name: &'static str,
}

impl<K: Adoptable> Adopted<K> {
    /// Names the key for errors, which otherwise give its type.
    #[must_use]
    pub fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }
}

impl<K: Adoptable> fmt::Debug for Adopted<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adopted").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A cell whose value can be exchanged through a shared reference: `Cell<T>` and `RefCell<T>`.
///
/// Sealed: [`adopt`] takes no other.
pub trait Adoptable: sealed::Exchange + 'static {}

impl<T: 'static> Adoptable for Cell<T> {}
impl<T: 'static> Adoptable for RefCell<T> {}

mod sealed {
    use super::{BoxError, Cell, RefCell};

    #[expect(unnameable_types, reason = "seals `Adoptable`")]
    pub trait Exchange {
        type Value: 'static;
        /// Gives the value back with the error.
        fn exchange(&self, value: Self::Value) -> Result<Self::Value, (Self::Value, BoxError)>;
    }

    impl<T: 'static> Exchange for Cell<T> {
        type Value = T;

        fn exchange(&self, value: T) -> Result<T, (T, BoxError)> {
            Ok(self.replace(value))
        }
    }

    impl<T: 'static> Exchange for RefCell<T> {
        type Value = T;

        fn exchange(&self, value: T) -> Result<T, (T, BoxError)> {
            match self.try_borrow_mut() {
                Ok(mut place) => Ok(std::mem::replace(&mut place, value)),
                Err(_) => Err((value, "it is borrowed by the code around the task".into())),
            }
        }
    }
}

impl<K: Adoptable> Adopted<K> {
    fn exchange(&self, value: K::Value) -> Result<K::Value, (Option<K::Value>, BoxError)> {
        let mut value = Some(value);
        let exchanged = self.key.try_with(|cell| match value.take() {
            Some(value) => cell.exchange(value).map_err(|(value, error)| (Some(value), error)),
            None => Err((None, "it was exchanged twice".into())),
        });
        match exchanged {
            Ok(result) => result,
            Err(gone) => Err((value, Box::new(gone))),
        }
    }
}

impl<K: Adoptable> Carrier for Adopted<K> {
    type Captured = ();
    type Attached = K::Value;

    fn name(&self) -> &str {
        self.name
    }

    fn capture(&self) -> Result<(), BoxError> {
        Ok(())
    }

    fn attach(&self, (): &()) -> Result<K::Value, BoxError> {
        self.exchange((self.init)()).map_err(|(_, error)| error)
    }

    fn detach(&self, before: K::Value) -> Result<(), BoxError> {
        // What the task left ends while its task's state is still there: its drop must neither see the
        // surrounding value nor put another one in its place.
        let ended = if needs_drop::<K::Value>() {
            catch(|| drop(self.exchange((self.init)())))
        } else {
            Ok(())
        };
        // Also after a panic, which the caller contains.
        let restored = self.exchange(before).map(drop).map_err(|(_, error)| error);
        match ended {
            Ok(()) => restored,
            Err(payload) => payload.resume(),
        }
    }
}
