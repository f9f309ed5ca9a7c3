//! The carrier trait, and how a list of carriers is attached around a closure.
//!
//! Attaching recurses: carrier *n* keeps what it attached on the Rust stack while the rest runs inside.
//! So the order is right by construction (detached in reverse, and those before a failed one are
//! detached), and nothing is allocated per task.

use std::fmt;
use std::sync::Arc;

use super::error::{BoxError, CarrierError, Step};
use crate::panic::{Drops, Payload, catch};

/// Carries a piece of foreign thread state from the submitter to the thread that runs a task.
///
/// `capture` runs on the submitting thread, once per context (once per pool if `Captured` has no size,
/// since then there is nothing to capture); `attach` and `detach` on the thread that
/// runs the task, around every task. None of them may assume that the thread was clean before:
/// `attach` returns what has to be put back, and `detach` puts it back.
///
/// A carrier that fails, or panics, fails the task with a [`CarrierError`] that names it: those before
/// it are detached, and the task does not run half-switched. After a failed `detach` a pool replaces
/// the worker.
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
pub trait Carrier: Send + Sync + 'static {
    /// What travels with the context. Read by several threads at a time.
    type Captured: Send + Sync + 'static;
    /// What `attach` leaves for `detach`. It stays on its thread.
    type Attached;

    /// The carrier's name, for errors.
    fn name(&self) -> &str;

    /// Takes the state of the submitting thread.
    ///
    /// # Errors
    ///
    /// If it cannot be taken. The submission fails.
    fn capture(&self) -> Result<Self::Captured, BoxError>;

    /// Puts the captured state on this thread, and returns what was there.
    ///
    /// # Errors
    ///
    /// If it cannot be put there. The thread must be left as it was; the task does not run.
    fn attach(&self, captured: &Self::Captured) -> Result<Self::Attached, BoxError>;

    /// Puts back what was there.
    ///
    /// # Errors
    ///
    /// If it cannot be put back. The task fails, and a pool replaces the worker.
    fn detach(&self, attached: Self::Attached) -> Result<(), BoxError>;
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
}

/// A carrier without its types.
pub(crate) trait AnyCarrier: Send + Sync {
    fn name(&self) -> &str;
    fn capture(self: Arc<Self>) -> Result<Carried, CarrierError>;
    /// Whether anything travels. If not, it only keeps tasks apart.
    fn inherits(&self) -> bool;
}

pub(crate) type SharedCarrier = Arc<dyn AnyCarrier>;

pub(crate) fn shared<C: Carrier>(carrier: C) -> SharedCarrier {
    Arc::new(Erased(carrier))
}

struct Erased<C>(C);

impl<C: Carrier> Erased<C> {
    /// Calls one of the carrier's methods and names what went wrong.
    #[inline]
    fn guarded<T>(
        &self,
        step: Step,
        f: impl FnOnce(&C) -> Result<T, BoxError>,
    ) -> Result<T, CarrierError> {
        match catch(|| f(&self.0)) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(cause)) => Err(self.failed(step, cause)),
            Err(payload) => Err(self.panicked(step, &payload)),
        }
    }

    #[cold]
    fn failed(&self, step: Step, cause: BoxError) -> CarrierError {
        CarrierError::new(&self.safe_name(), step, cause)
    }

    #[cold]
    fn panicked(&self, step: Step, payload: &Payload) -> CarrierError {
        CarrierError::panicked(&self.safe_name(), step, payload)
    }

    /// Its name for an error. A name that panics must not keep the other carriers from being detached.
    fn safe_name(&self) -> String {
        catch(|| self.0.name().to_owned()).unwrap_or_else(|payload| {
            drop(payload);
            std::any::type_name::<C>().to_owned()
        })
    }
}

impl<C: Carrier> AnyCarrier for Erased<C> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn capture(self: Arc<Self>) -> Result<Carried, CarrierError> {
        let captured = self.guarded(Step::Capture, C::capture)?;
        Ok(Carried(Arc::new(Load(Some((self, captured))))))
    }

    fn inherits(&self) -> bool {
        size_of::<C::Captured>() != 0
    }
}

/// A carrier and what it captured.
#[derive(Clone)]
pub(crate) struct Carried(Arc<dyn AnyLoad>);

/// The same without its types.
trait AnyLoad: Send + Sync {
    fn name(&self) -> &str;
    /// Attaches this one and then the rest, calls `body` inside, and detaches. The body was called unless
    /// something could not be attached.
    fn around(&self, rest: &[Carried], body: &mut dyn FnMut()) -> Option<CarrierError>;
}

/// Empty from its drop on.
struct Load<C: Carrier>(Option<(Arc<Erased<C>>, C::Captured)>);

impl<C: Carrier> Drop for Load<C> {
    /// Contained, since it is one of a list.
    fn drop(&mut self) {
        let Some((carrier, captured)) = self.0.take() else { return };
        let mut drops = Drops::default();
        drops.contain(|| drop(captured));
        drops.contain(|| drop(carrier));
        drops.resume();
    }
}

impl<C: Carrier> AnyLoad for Load<C> {
    fn name(&self) -> &str {
        self.0.as_ref().map_or("", |(carrier, _)| carrier.0.name())
    }

    fn around(&self, rest: &[Carried], body: &mut dyn FnMut()) -> Option<CarrierError> {
        let (carrier, captured) = self.0.as_ref()?;
        let attached = match carrier.guarded(Step::Attach, |carrier| carrier.attach(captured)) {
            Ok(attached) => attached,
            Err(error) => return Some(error),
        };
        let inner = attach_around(rest, body);
        let own = carrier.guarded(Step::Detach, |carrier| carrier.detach(attached));
        match (inner, own) {
            (inner, Ok(())) => inner,
            (None, Err(own)) => Some(own),
            (Some(inner), Err(own)) => Some(inner.with_stuck(own)),
        }
    }
}

impl fmt::Debug for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Carried").field(&self.name()).finish()
    }
}

impl Carried {
    pub(crate) fn capture(carrier: &SharedCarrier) -> Result<Self, CarrierError> {
        Arc::clone(carrier).capture()
    }

    pub(crate) fn name(&self) -> &str {
        self.0.name()
    }
}

/// Calls `body`, which must not unwind, with all carriers attached. It was called unless something could
/// not be attached.
#[inline]
pub(crate) fn attach_around(carriers: &[Carried], body: &mut dyn FnMut()) -> Option<CarrierError> {
    match carriers.split_first() {
        Some((first, rest)) => first.0.around(rest, body),
        None => {
            body();
            None
        }
    }
}

/// The carriers of a pool.
#[derive(Default)]
pub(crate) struct CarrierSet {
    /// All of them, in the order in which they were added.
    all: Vec<Member>,
    /// Those that only keep tasks apart, for contexts that inherit nothing.
    apart: Arc<[Carried]>,
}

enum Member {
    /// Only keeps tasks apart: captured once, for every context of the pool.
    Apart(Carried),
    /// Captures something at each submission.
    Travelling(SharedCarrier),
}

impl fmt::Debug for CarrierSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.all.iter().map(|member| match member {
            Member::Apart(carried) => carried.name(),
            Member::Travelling(carrier) => carrier.name(),
        });
        f.debug_list().entries(names).finish()
    }
}

impl CarrierSet {
    pub(crate) fn add(&mut self, carrier: SharedCarrier) -> Result<(), CarrierError> {
        if carrier.inherits() {
            self.all.push(Member::Travelling(carrier));
        } else {
            let added = Carried::capture(&carrier)?;
            self.apart = self.apart.iter().cloned().chain([added.clone()]).collect();
            self.all.push(Member::Apart(added));
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// What a task has to attach, in order. What travels is left out if it is to inherit nothing.
    pub(crate) fn capture(&self, inherits: bool) -> Result<Arc<[Carried]>, CarrierError> {
        if !inherits || self.apart.len() == self.all.len() {
            return Ok(Arc::clone(&self.apart));
        }
        let all = self.all.iter().map(|member| match member {
            Member::Apart(carried) => Ok(carried.clone()),
            Member::Travelling(carrier) => Carried::capture(carrier),
        });
        all.collect()
    }
}
