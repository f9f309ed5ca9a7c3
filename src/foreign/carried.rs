//! What carriers have captured, and how a list of it is attached around a closure.
//!
//! Attaching recurses: carrier *n* keeps what it attached on the Rust stack while the rest runs
//! inside. So the order is right by construction (carriers are detached in reverse, and if one
//! fails, those before it are detached), and nothing is allocated per task.
//!
//! There are two ways: around one task, and around several. For several, a linked list on the stack
//! is used to find what is attached between two of them. One task does not pay for that list.

use std::cell::Cell;
use std::sync::Arc;

use super::carrier::Identity;
use super::code::{OfCarrier, in_carrier};
use super::error::{BoxError, CarrierError, CarrierStep};
use super::kinds::{self, Hold};
use crate::panic::catch;

/// A carrier and what it captured.
#[derive(Clone)]
pub(crate) struct Carried {
    load: Arc<dyn AnyLoad>,
    source: Source,
}

/// Where it comes from. Of two with the same identity one may have to give way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// It was given to a context, or to a pool.
    Given,
    /// It comes from the process's list, and gives way to a given one.
    Installed,
    /// It is what a pool's carrier calls nothing, and gives way to both.
    Nothing,
}

/// A list that contexts share. Not `Arc<[Carried]>`, which is two words.
pub(crate) type CarriedList = Arc<Vec<Carried>>;

/// A [`Load`] without its types.
trait AnyLoad: Send + Sync {
    fn name(&self) -> String;
    fn identity(&self) -> Identity;
    /// Returns the carrier's address, which tells it from all others.
    fn carrier(&self) -> *const ();
    fn nothing(&self) -> Result<Option<Carried>, CarrierError>;
    /// Attaches this one and then the rest, calls the body inside, and detaches. The body is not
    /// called if one cannot be attached.
    fn around_one(
        &self,
        rest: &[Carried],
        progress: &Progress,
        body: OneTask<'_>,
    ) -> Option<CarrierError>;
    /// Does the same for a body that makes the thread ready for further tasks, inside of `outer`.
    fn around_several(
        &self,
        outer: Attached<'_>,
        rest: &[Carried],
        progress: &Progress,
        body: SeveralTasks<'_>,
    ) -> Option<CarrierError>;
}

type OneTask<'a> = &'a mut dyn FnMut();
type SeveralTasks<'a> = &'a mut dyn FnMut(Attached<'_>);

/// What is attached around a body: a linked list on the stack, the innermost first.
#[derive(Clone, Copy)]
pub(crate) struct Attached<'a>(Option<&'a Link<'a>>);

struct Link<'a> {
    reattach: &'a dyn Fn() -> bool,
    outer: Attached<'a>,
}

impl Attached<'_> {
    pub(super) const NOTHING: Self = Self(None);

    /// Makes the thread ready for the next task in the same context, as detaching and attaching
    /// would, the innermost carrier first. `false`: one of them cannot, and all have to be detached
    /// and attached.
    pub(crate) fn reattach(self) -> bool {
        in_carrier(|| {
            let mut links = std::iter::successors(self.0, |link| link.outer.0);
            links.all(|link| (link.reattach)())
        })
    }
}

/// How many of a list are attached, counted from the first.
#[derive(Default)]
pub(super) struct Progress(Cell<usize>);

impl Progress {
    pub(super) fn get(&self) -> usize {
        self.0.get()
    }

    /// Calls `f`, which must not unwind, with one more attached.
    #[inline]
    fn with_one_more<R>(&self, f: impl FnOnce() -> R) -> R {
        let before = self.0.get();
        self.0.set(before + 1);
        let result = f();
        self.0.set(before);
        result
    }
}

/// A carrier, shared by everything that it has captured.
pub(super) struct Identified<H: Hold> {
    carrier: OfCarrier<H>,
    pub(super) identity: Identity,
}

impl<H: Hold> Identified<H> {
    pub(super) fn new(carrier: H) -> Self {
        let identity = catch(|| carrier.identity()).unwrap_or_else(|_| Identity::of::<H>());
        Self { carrier: OfCarrier::new(carrier), identity }
    }

    pub(super) fn name(&self) -> String {
        kinds::name_of(&*self.carrier)
    }

    /// Calls the carrier's code, which the caller has marked as such, and names what went wrong.
    pub(super) fn call<T>(
        &self,
        step: CarrierStep,
        f: impl FnOnce(&H) -> Result<T, BoxError>,
    ) -> Result<T, CarrierError> {
        kinds::call(&*self.carrier, step, f)
    }

    /// Returns what code that runs for nobody finds, if the carrier can say so.
    pub(super) fn nothing(self: Arc<Self>) -> Result<Option<Carried>, CarrierError> {
        let nothing = self.call(CarrierStep::Nothing, |carrier| Ok(carrier.nothing()))?;
        Ok(nothing.map(|nothing| Carried::new(self, nothing)))
    }
}

/// What a carrier has captured. It is dropped before the carrier, and each drop is contained.
struct Load<H: Hold> {
    captured: OfCarrier<H::Captured>,
    carrier: Arc<Identified<H>>,
}

impl<H: Hold> AnyLoad for Load<H> {
    fn name(&self) -> String {
        self.carrier.name()
    }

    fn identity(&self) -> Identity {
        self.carrier.identity
    }

    fn carrier(&self) -> *const () {
        Arc::as_ptr(&self.carrier).cast()
    }

    fn nothing(&self) -> Result<Option<Carried>, CarrierError> {
        Arc::clone(&self.carrier).nothing()
    }

    fn around_one(
        &self,
        rest: &[Carried],
        progress: &Progress,
        body: OneTask<'_>,
    ) -> Option<CarrierError> {
        self.carrier
            .carrier
            .hold(&self.captured, |_| progress.with_one_more(|| around_one(rest, progress, body)))
    }

    fn around_several(
        &self,
        outer: Attached<'_>,
        rest: &[Carried],
        progress: &Progress,
        body: SeveralTasks<'_>,
    ) -> Option<CarrierError> {
        self.carrier.carrier.hold(&self.captured, |reattach| {
            let link = Link { reattach, outer };
            let inside = Attached(Some(&link));
            progress.with_one_more(|| around_several(inside, rest, progress, body))
        })
    }
}

impl Carried {
    pub(super) fn new<H: Hold>(carrier: Arc<Identified<H>>, captured: H::Captured) -> Self {
        let load = Load { captured: OfCarrier::new(captured), carrier };
        Self { load: Arc::new(load), source: Source::Given }
    }

    pub(super) fn with_source(self, source: Source) -> Self {
        Self { source, ..self }
    }

    pub(super) fn is_from(&self, source: Source) -> bool {
        self.source == source
    }

    pub(super) fn identity(&self) -> Identity {
        self.load.identity()
    }

    /// Returns whether both were captured by the same carrier.
    pub(super) fn is_by_the_carrier_of(&self, other: &Self) -> bool {
        self.load.carrier() == other.load.carrier()
    }

    pub(super) fn nothing(&self) -> Result<Option<Self>, CarrierError> {
        self.load.nothing()
    }

    pub(crate) fn name(&self) -> String {
        self.load.name()
    }
}

/// Calls `body`, which must not unwind, with all carriers attached. `body` is not called if one
/// cannot be attached.
#[inline]
pub(super) fn around_one(
    carriers: &[Carried],
    progress: &Progress,
    body: OneTask<'_>,
) -> Option<CarrierError> {
    match carriers.split_first() {
        Some((first, rest)) => first.load.around_one(rest, progress, body),
        None => {
            body();
            None
        }
    }
}

/// Does the same for a body that makes the thread ready for further tasks, inside of `outer`.
#[inline]
pub(super) fn around_several(
    outer: Attached<'_>,
    carriers: &[Carried],
    progress: &Progress,
    body: SeveralTasks<'_>,
) -> Option<CarrierError> {
    match carriers.split_first() {
        Some((first, rest)) => first.load.around_several(outer, rest, progress, body),
        None => {
            body(outer);
            None
        }
    }
}
