//! Misuse that must not compile, each beside a twin that does. Doctests only.
//!
//! Stable toolchains ignore the error codes; CI runs these tests with the codes enforced.

/// A slot's value travels with futures, so it is `Send`.
///
/// ```compile_fail,E0277
/// cleanslate::task_local! { static SLOT: std::rc::Rc<u8> = std::rc::Rc::new(1); }
/// SLOT.with(|_| ());
/// ```
///
/// ```
/// cleanslate::task_local! { static SLOT: std::sync::Arc<u8> = std::sync::Arc::new(1); }
/// SLOT.with(|_| ());
/// ```
///
/// ```compile_fail,E0277
/// cleanslate::OwnedLocal::new(|| std::rc::Rc::new(1));
/// ```
///
/// ```
/// cleanslate::OwnedLocal::new(|| std::sync::Arc::new(1));
/// ```
pub(crate) struct SlotsAreSend;

/// A value leaves a slot as the type with which it went in (L1), so a slot of one type is none of
/// another, not even of a subtype's.
///
/// ```compile_fail,E0308
/// cleanslate::task_local! { static SLOT: fn(&str) = |_| (); }
/// fn slot() -> &'static cleanslate::TaskLocal<fn(&'static str)> { &SLOT }
/// ```
///
/// ```
/// cleanslate::task_local! { static SLOT: fn(&str) = |_| (); }
/// fn slot() -> &'static cleanslate::TaskLocal<fn(&str)> { &SLOT }
/// assert!(!slot().is_set());
/// ```
///
/// ```compile_fail,E0308
/// fn owned(slot: &cleanslate::OwnedLocal<fn(&str)>) -> &cleanslate::OwnedLocal<fn(&'static str)> {
///     slot
/// }
/// ```
///
/// ```
/// fn owned(slot: &cleanslate::OwnedLocal<fn(&str)>) -> &cleanslate::OwnedLocal<fn(&str)> {
///     slot
/// }
/// let slot = cleanslate::OwnedLocal::<fn(&str)>::new(|| |_| ());
/// assert!(!owned(&slot).is_set());
/// ```
///
/// ```compile_fail,E0308
/// cleanslate::worker_local! { static WORKER: fn(&str) = |_| (); }
/// fn worker() -> &'static cleanslate::WorkerLocal<fn(&'static str)> { &WORKER }
/// ```
///
/// ```
/// cleanslate::worker_local! { static WORKER: fn(&str) = |_| (); }
/// fn worker() -> &'static cleanslate::WorkerLocal<fn(&str)> { &WORKER }
/// worker().with(|_| ());
/// ```
pub(crate) struct KeysAreInvariant;

/// The owner drops the instances of all threads, so they are `Send`. Those of a declared
/// worker-local end on their own thread, so they need not be.
///
/// ```compile_fail,E0277
/// cleanslate::OwnedWorkerLocal::new(|| std::rc::Rc::new(1));
/// ```
///
/// ```
/// cleanslate::worker_local! { static WORKER: std::rc::Rc<u8> = std::rc::Rc::new(1); }
/// cleanslate::OwnedWorkerLocal::new(|| std::cell::Cell::new(1)).with(|_| WORKER.with(|_| ()));
/// ```
pub(crate) struct OwnedWorkerLocalsAreSend;

/// `#[inherit]` clones.
///
/// ```compile_fail,E0277
/// struct Plain;
/// cleanslate::task_local! { #[inherit] static SLOT: Plain = Plain; }
/// SLOT.with(|_| ());
/// ```
///
/// ```
/// #[derive(Clone)]
/// struct Plain;
/// cleanslate::task_local! { #[inherit] static SLOT: Plain = Plain; }
/// SLOT.with(|_| ());
/// ```
///
/// ```compile_fail,E0277
/// struct Plain;
/// cleanslate::task_local! { #[inherit(with = |_| Plain)] static SLOT: Plain = Plain; }
/// SLOT.with(|_| ());
/// ```
///
/// ```
/// #[derive(Clone)]
/// struct Plain;
/// cleanslate::task_local! { #[inherit(with = |_| Plain)] static SLOT: Plain = Plain; }
/// SLOT.with(|_| ());
/// ```
pub(crate) struct InheritClones;

/// Workers read a snapshot at the same time, so what is inherited is `Sync`.
///
/// ```compile_fail,E0277
/// use std::cell::Cell;
/// cleanslate::task_local! { #[inherit] static SLOT: Cell<u8> = Cell::new(1); }
/// SLOT.with(|_| ());
/// ```
///
/// ```compile_fail,E0277
/// use std::cell::Cell;
/// cleanslate::task_local! {
///     #[inherit(with = |c| c.clone())]
///     static SLOT: Cell<u8> = Cell::new(1);
/// }
/// SLOT.with(|_| ());
/// ```
///
/// ```
/// use std::cell::Cell;
/// cleanslate::task_local! { static SLOT: Cell<u8> = Cell::new(1); }
/// SLOT.with(|_| ());
/// ```
pub(crate) struct InheritedIsSync;

/// The function of `with = f` captures nothing and fits the type.
///
/// ```compile_fail,E0308
/// cleanslate::task_local! { #[inherit(with = |n| n + 0.5)] static SLOT: f32 = 1.0; }
/// fn outer(add: f32) {
///     cleanslate::task_local! { #[inherit(with = |n: &f32| -> u8 { 1 })] static SLOT: f32 = 1.0; }
/// }
/// ```
///
/// ```
/// cleanslate::task_local! { #[inherit(with = |n| n + 0.5)] static SLOT: f32 = 1.0; }
/// SLOT.with(|_| ());
/// ```
///
/// ```compile_fail
/// cleanslate::task_local! { #[inherit] #[inherit] static SLOT: u8 = 1; }
/// ```
///
/// ```compile_fail
/// cleanslate::task_local! { #[inherit(clone)] static SLOT: u8 = 1; }
/// ```
///
/// ```compile_fail
/// cleanslate::task_local! { #[inherited] static SLOT: u8 = 1; }
/// ```
///
/// ```
/// cleanslate::task_local! { #[inherit] static SLOT: u8 = 1; }
/// ```
pub(crate) struct Policies;

/// A declaration has an initialiser.
///
/// ```compile_fail
/// cleanslate::task_local! { static SLOT: u8; }
/// ```
///
/// ```compile_fail
/// cleanslate::worker_local! { static WORKER: u8; }
/// ```
///
/// ```
/// cleanslate::task_local! { static SLOT: u8 = 1; }
/// cleanslate::worker_local! { static WORKER: u8 = 1; }
/// ```
pub(crate) struct Initialisers;

/// A declaration ends with a semicolon.
///
/// ```compile_fail
/// cleanslate::task_local! { static FIRST: u8 = 1, static SECOND: u8 = 2 }
/// ```
///
/// ```compile_fail
/// cleanslate::worker_local! { static FIRST: u8 = 1, static SECOND: u8 = 2 }
/// ```
///
/// ```
/// cleanslate::task_local! { static FIRST: u8 = 1; static SECOND: u8 = 2 }
/// cleanslate::worker_local! { static THIRD: u8 = 1; static FOURTH: u8 = 2 }
/// ```
pub(crate) struct Semicolons;

/// A borrow ends with its closure.
///
/// ```compile_fail
/// cleanslate::task_local! { static SLOT: String = String::new(); }
/// let escaped: &String = SLOT.with(|text| text);
/// ```
///
/// ```compile_fail
/// cleanslate::task_local! { static SLOT: String = String::new(); }
/// let escaped: &mut String = SLOT.with_mut(|text| text);
/// ```
///
/// ```compile_fail,E0521
/// cleanslate::task_local! { static SLOT: String = String::new(); }
/// let mut escaped: Option<&String> = None;
/// SLOT.with(|text| escaped = Some(text));
/// ```
///
/// ```compile_fail,E0521
/// cleanslate::worker_local! { static WORKER: String = String::new(); }
/// let mut escaped: Option<&mut String> = None;
/// WORKER.with(|text| escaped = Some(text));
/// ```
///
/// ```
/// cleanslate::task_local! { static SLOT: String = String::new(); }
/// let mut copied: Option<String> = None;
/// SLOT.with(|text| copied = Some(text.clone()));
/// ```
pub(crate) struct BorrowsEnd;

/// A value outlives every borrow, so it borrows nothing; nor does an owner's initialiser.
///
/// ```compile_fail,E0597
/// let local = String::from("local");
/// let owner = cleanslate::OwnedLocal::<&'static str>::new(|| "static");
/// owner.set(&local);
/// ```
///
/// ```compile_fail,E0373
/// let local = String::from("local");
/// let owner = cleanslate::OwnedLocal::new(|| local.len());
/// ```
///
/// ```
/// let local = String::from("local");
/// let owner = cleanslate::OwnedLocal::new(move || local.len());
/// assert_eq!(owner.get(), 5);
/// ```
pub(crate) struct ValuesAreStatic;

/// An owner is not dropped while a value of it is borrowed.
///
/// ```compile_fail,E0505
/// let owner = cleanslate::OwnedLocal::new(|| 1);
/// owner.with(|_| drop(owner));
/// ```
///
/// ```
/// let owner = cleanslate::OwnedLocal::new(|| 1);
/// owner.with(|_| ());
/// drop(owner);
/// ```
pub(crate) struct OwnersOutliveBorrows;

/// What is bound to a thread does not go to another one in a wrapped closure or future.
///
/// ```compile_fail,E0277
/// let bound = std::rc::Rc::new(1);
/// std::thread::spawn(cleanslate::isolated(move || drop(bound)));
/// ```
///
/// ```
/// let shared = std::sync::Arc::new(1);
/// std::thread::spawn(cleanslate::isolated(move || drop(shared))).join().unwrap();
/// ```
///
/// ```compile_fail
/// use cleanslate::future::FutureExt;
/// fn spawn(_: impl Future + Send) {}
/// let bound = std::rc::Rc::new(1);
/// spawn(async move { std::future::ready(()).await; drop(bound) }.isolated());
/// ```
///
/// ```
/// use cleanslate::future::FutureExt;
/// fn spawn(_: impl Future + Send) {}
/// let shared = std::sync::Arc::new(1);
/// spawn(async move { std::future::ready(()).await; drop(shared) }.isolated());
/// ```
pub(crate) struct BoundToAThread;

/// A wrapped closure may borrow, for as long as what it borrows lives.
///
/// ```compile_fail,E0505
/// let text = String::from("text");
/// let job = cleanslate::isolated(|| text.len());
/// drop(text);
/// job();
/// ```
///
/// ```
/// let text = String::from("text");
/// let job = cleanslate::isolated(|| text.len());
/// assert_eq!(job(), 4);
/// drop(text);
/// ```
pub(crate) struct WrappedClosuresBorrow;

/// Only cells whose value can be exchanged can be adopted, and a carrier's captures travel.
///
/// ```compile_fail,E0277
/// thread_local! { static PLAIN: u8 = const { 1 }; }
/// cleanslate::foreign::adopt(&PLAIN);
/// ```
///
/// ```
/// thread_local! { static CELL: std::cell::Cell<u8> = const { std::cell::Cell::new(1) }; }
/// cleanslate::foreign::adopt(&CELL);
/// ```
///
/// ```compile_fail,E0277
/// use cleanslate::foreign::{BoxError, Carrier};
/// struct Bound;
/// impl Carrier for Bound {
///     type Captured = std::rc::Rc<u8>;
///     type Attached = ();
///     fn name(&self) -> &str { "bound" }
///     fn capture(&self) -> Result<std::rc::Rc<u8>, BoxError> { Ok(std::rc::Rc::new(1)) }
///     fn attach(&self, _: &std::rc::Rc<u8>) -> Result<(), BoxError> { Ok(()) }
///     fn detach(&self, _: ()) -> Result<(), BoxError> { Ok(()) }
/// }
/// ```
pub(crate) struct Carriers;
