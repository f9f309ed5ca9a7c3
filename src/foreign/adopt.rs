//! A carrier for a `std::thread_local!` of code that cannot be changed.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::mem::needs_drop;
use std::thread::LocalKey;

use super::carrier::{Carrier, Identity};
use super::code::not_in_carrier;
use super::error::BoxError;
use crate::frame::leak;
use crate::panic::{Drops, Payload, catch};

/// How many times the contents of a key are dropped before the surrounding value is put back: what
/// the task left, what the drop of that left, and so on. An empty key cannot be told from one that
/// was filled again, so there are always this many rounds; each costs an initialiser and an
/// exchange.
const ROUNDS: usize = 3;

/// Makes a carrier that empties a foreign thread-local for each task and puts it back afterwards.
///
/// Takes a `&'static LocalKey<Cell<T>>` or `&'static LocalKey<RefCell<T>>`. Each task finds
/// `T::default()` in it (but not the pulls from the iterator of a pool's map, around which no
/// carrier is attached, except for those of an `imap`). What the task leaves there is dropped when
/// the task ends, after its slots and before its completion can be observed; what the surrounding
/// code had there is put back.
///
/// The key is initialised by the first task on a thread, if nobody did so before: std offers no way
/// to ask whether it is. What the drop of a left value puts into the key is dropped in the same
/// way, and so is what that drop puts there; only after that is the surrounding value put back. (A
/// value whose drop puts another one into the key each time ends up there in place of the
/// surrounding value.) A `RefCell` that the surrounding code has borrowed cannot be emptied, and a
/// task that is to run there fails with an error that gives the key's type, or the name set by
/// [`named`](Adopted::named).
///
/// A task inherits nothing from the key: [`inherited`](Adopted::inherited) is for that. **In a
/// future each poll finds it fresh**, so what is put there does not last beyond the next `.await`:
/// keep such a value in a slot, or set it before the future is isolated and hand it down.
///
/// Two carriers of one key may count as different ones: a `thread_local!` is a constant, and the
/// compiler may give each use of it an address of its own. So make the carrier in one place; two of
/// them take twice the time, but do no harm.
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
///
/// # Examples
///
/// ```
/// use cleanslate::foreign::{Adopted, adopt};
/// use std::cell::Cell;
///
/// thread_local! { static LEVEL: Cell<u8> = const { Cell::new(0) }; }
///
/// let carrier: Adopted<Cell<u8>> = adopt(&LEVEL);
/// let context = cleanslate::Context::empty().carry(carrier);
/// assert_eq!(context.run(|| LEVEL.replace(1)), 0);
/// assert_eq!(LEVEL.get(), 0);
/// ```
pub struct Adopted<K: Adoptable> {
    pub(super) key: &'static LocalKey<K>,
    pub(super) init: fn() -> K::Value,
    name: &'static str,
}

impl<K: Adoptable> Adopted<K> {
    /// Names the key for errors, which otherwise give its type.
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
    #[must_use]
    pub fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }
}

impl<K: Adoptable> Copy for Adopted<K> {}

impl<K: Adoptable> Clone for Adopted<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K: Adoptable> fmt::Debug for Adopted<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adopted").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A cell whose value can be exchanged through a shared reference: `Cell<T>` and `RefCell<T>`.
///
/// Sealed: [`adopt`] takes no other type.
///
/// # Examples
///
/// ```
/// use cleanslate::foreign::{Adoptable, Adopted, adopt};
/// use std::cell::Cell;
///
/// thread_local! { static LEVEL: Cell<u8> = const { Cell::new(0) }; }
///
/// fn of_any_cell<K>(key: &'static std::thread::LocalKey<K>) -> Adopted<K>
/// where
///     K: Adoptable<Value: Default>,
/// {
///     adopt(key)
/// }
///
/// let context = cleanslate::Context::empty().carry(of_any_cell(&LEVEL));
/// assert_eq!(context.run(|| LEVEL.replace(1)), 0);
/// assert_eq!(LEVEL.get(), 0);
/// ```
#[diagnostic::on_unimplemented(
    message = "a thread-local `{Self}` cannot be adopted",
    label = "neither a `Cell` nor a `RefCell`",
    note = "implement `Carrier` for a type of your own: it can capture, attach and detach any state"
)]
pub trait Adoptable: sealed::Exchange + 'static {}

impl<T: 'static> Adoptable for Cell<T> {}
impl<T: 'static> Adoptable for RefCell<T> {}

mod sealed {
    use super::{BoxError, Cell, RefCell};

    #[expect(unnameable_types, reason = "seals `Adoptable`")]
    pub trait Exchange {
        type Value: 'static;
        /// Hands the value back with the error, which is `borrowed` if the cell is.
        fn exchange(
            &self,
            value: Self::Value,
            borrowed: &str,
        ) -> Result<Self::Value, (Self::Value, BoxError)>;
        /// Calls `look`, which must not unwind, with the value. If the value has to be taken out
        /// for that, a `stand_in` takes its place, and what is there afterwards is returned.
        fn look(
            &self,
            stand_in: fn() -> Self::Value,
            look: &mut dyn FnMut(&Self::Value),
        ) -> Result<Option<Self::Value>, BoxError>;
    }

    impl<T: 'static> Exchange for Cell<T> {
        type Value = T;

        fn exchange(&self, value: T, _: &str) -> Result<T, (T, BoxError)> {
            Ok(self.replace(value))
        }

        fn look(
            &self,
            stand_in: fn() -> T,
            look: &mut dyn FnMut(&T),
        ) -> Result<Option<T>, BoxError> {
            let value = self.replace(stand_in());
            look(&value);
            Ok(Some(self.replace(value)))
        }
    }

    impl<T: 'static> Exchange for RefCell<T> {
        type Value = T;

        fn exchange(&self, value: T, borrowed: &str) -> Result<T, (T, BoxError)> {
            match self.try_borrow_mut() {
                Ok(mut place) => Ok(std::mem::replace(&mut place, value)),
                Err(_) => Err((value, borrowed.into())),
            }
        }

        fn look(&self, _: fn() -> T, look: &mut dyn FnMut(&T)) -> Result<Option<T>, BoxError> {
            match self.try_borrow() {
                Ok(value) => look(&value),
                Err(_) => return Err("it is mutably borrowed by the code that submits".into()),
            }
            Ok(None)
        }
    }
}

/// Drops what belongs to no carrier.
fn drop_what_a_task_left<T>(value: T) {
    not_in_carrier(|| drop(value));
}

impl<K: Adoptable> Adopted<K> {
    /// Puts `value` into the key, where a task begins, and returns what was there.
    pub(super) fn exchange(&self, value: K::Value) -> Result<K::Value, BoxError> {
        self.exchange_unless(value, "it is borrowed by the code around the task")
    }

    /// Puts `value` into the key and returns what was there. If it cannot, `value` is dropped,
    /// contained. `borrowed` is the error if the key is borrowed.
    fn exchange_unless(&self, value: K::Value, borrowed: &str) -> Result<K::Value, BoxError> {
        let mut value = Some(value);
        // The first access runs the key's own initialiser, which may panic.
        let exchanged = catch(|| {
            self.key.try_with(|cell| match value.take() {
                Some(value) => cell.exchange(value, borrowed),
                None => unreachable!("it is called once"),
            })
        });
        let (rejected, error) = match exchanged {
            Ok(Ok(Ok(before))) => return Ok(before),
            Ok(Ok(Err((value, error)))) => (Some(value), Ok(error)),
            Ok(Err(gone)) => (value, Ok(gone.into())),
            Err(payload) => (value, Err(payload)),
        };
        let _contained = catch(|| drop(rejected));
        match error {
            Ok(error) => Err(error),
            Err(payload) => payload.resume(),
        }
    }

    /// Drops what the task left, while its task's state is still there: the drop must neither see
    /// the surrounding value nor put another one in its place. What it puts into the key itself is
    /// dropped as well. Returns whether each round had an initial value to take its place.
    fn drop_what_is_left(&self, drops: &mut Drops) -> bool {
        for _ in 0..ROUNDS {
            match catch(self.init) {
                Ok(initial) => drops.contain(|| drop_what_a_task_left(self.exchange(initial))),
                Err(payload) => {
                    drops.add(Err(payload));
                    return false;
                }
            }
        }
        true
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
        self.exchange((self.init)())
    }

    fn detach(&self, before: K::Value) -> Result<(), BoxError> {
        let mut drops = Drops::default();
        let is_dropped = !needs_drop::<K::Value>() || self.drop_what_is_left(&mut drops);
        let restored = self.exchange_unless(before, "it was left borrowed").map(|last| {
            if is_dropped {
                drops.contain(|| drop_what_a_task_left(last));
            } else {
                // Its drop would find the surrounding value.
                leak(last);
            }
        });
        drops.into_result().map_err(Payload::resume_or_say)?;
        restored
    }

    /// If what the task left needs no drop, putting in a fresh value is all there is to do.
    fn reattach(&self, (): &(), _: &mut K::Value) -> bool {
        !needs_drop::<K::Value>() && self.exchange((self.init)()).is_ok()
    }

    /// Returns what [`adopt_with`] was given: every task starts with it.
    fn nothing(&self) -> Option<()> {
        Some(())
    }

    fn is_nothing(&self, (): &()) -> bool {
        true
    }

    fn identity(&self) -> Identity {
        Identity::of::<Self>().at(self.key)
    }
}
