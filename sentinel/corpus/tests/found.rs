//! Thread-locals of every shape, each set by a task: which are found and named.

#![allow(dead_code, reason = "values are written to be seen by the sentinel, not to be read")]
#![allow(non_upper_case_globals, reason = "a raw identifier is among the shapes")]

use std::cell::{Cell, LazyCell, OnceCell, RefCell, UnsafeCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

use corpus::{Library, on_fresh_thread, watch_rounds};
use sentinel_corpus as corpus;

/// Sets a thread-local to something else in each round; rounds count from one.
struct Case {
    path: &'static str,
    set: fn(u64),
}

macro_rules! cases {
    ($($(@$const:tt)? $name:ident: $type:ty = $init:expr,
        |$it:ident, $round:ident| $set:expr;)*) => {
        thread_local! { $(static $name: $type = cases!(@init $($const)? $init);)* }
        const DECLARED: &[Case] = &[$(Case {
            path: concat!("found::", stringify!($name)),
            set: |$round| $name.with(|$it| {
                let $it = black_box($it);
                $set;
            }),
        }),*];
    };
    (@init const $init:expr) => { const { $init } };
    (@init $init:expr) => { $init };
}

#[derive(Clone, Copy)]
enum Shape {
    Point,
    Circle(u32),
}

#[derive(Clone, Copy)]
#[repr(align(128))]
struct Aligned(u64);

/// Has a destructor, so that std registers one.
struct Loud(u64);

impl Drop for Loud {
    fn drop(&mut self) {
        black_box(self.0);
    }
}

fn zero() {}

fn one() {
    black_box(1);
}

fn two() {
    black_box(2);
}

cases! {
    @const CONST_U8: Cell<u8> = Cell::new(0), |it, round| it.set(round as u8);
    @const CONST_U16: Cell<u16> = Cell::new(9), |it, round| it.set(round as u16);
    @const CONST_U32: Cell<u32> = Cell::new(0), |it, round| it.set(round as u32);
    @const CONST_U64: Cell<u64> = Cell::new(0), |it, round| it.set(round);
    @const CONST_U128: Cell<u128> = Cell::new(u128::MAX), |it, round| it.set(round.into());
    @const CONST_BOOL: Cell<bool> = Cell::new(false), |it, round| it.set(round % 2 == 1);
    @const CONST_CHAR: Cell<char> = Cell::new('a'),
        |it, round| it.set(if round == 1 { 'ä' } else { 'b' });
    @const CONST_F64: Cell<f64> = Cell::new(0.5), |it, round| it.set(round as f64);
    @const CONST_ARRAY: Cell<[u8; 100]> = Cell::new([0; 100]),
        |it, round| it.set([round as u8; 100]);
    @const CONST_LARGE: Cell<[u64; 2048]> = Cell::new([0; 2048]), |it, round| {
        let words: &Cell<[u64]> = it;
        words.as_slice_of_cells()[2047].set(round)
    };
    @const CONST_TUPLE: Cell<(u8, u64)> = Cell::new((1, 2)), |it, round| it.set((1, round + 2));
    @const CONST_OPTION: Cell<Option<u32>> = Cell::new(None),
        |it, round| it.set(Some(round as u32));
    @const CONST_NICHE: Cell<Option<NonZeroU32>> = Cell::new(None),
        |it, round| it.set(NonZeroU32::new(round as u32));
    @const CONST_POINTER: Cell<*const u8> = Cell::new(std::ptr::null()),
        |it, round| it.set(round as *const u8);
    @const CONST_FN: Cell<fn()> = Cell::new(zero),
        |it, round| it.set(if round % 2 == 1 { one } else { two });
    @const CONST_ENUM: Cell<Shape> = Cell::new(Shape::Point),
        |it, round| it.set(Shape::Circle(round as u32));
    @const CONST_ALIGNED: Cell<Aligned> = Cell::new(Aligned(0)), |it, round| it.set(Aligned(round));
    @const CONST_ATOMIC: AtomicU32 = AtomicU32::new(0),
        |it, round| it.store(round as u32, Ordering::Relaxed);
    @const CONST_UNSAFE: UnsafeCell<u64> = UnsafeCell::new(0), |it, round| {
        // SAFETY: nobody else has a pointer to it.
        unsafe { it.get().write(round) }
    };
    @const CONST_REF_PLAIN: RefCell<u32> = RefCell::new(0),
        |it, round| *it.borrow_mut() = round as u32;
    @const CONST_REF_STRING: RefCell<String> = RefCell::new(String::new()),
        |it, _round| it.borrow_mut().push('x');
    @const CONST_REF_VEC: RefCell<Vec<u64>> = RefCell::new(Vec::new()),
        |it, round| it.borrow_mut().push(round);
    @const CONST_REF_BOX: RefCell<Option<Box<u64>>> = RefCell::new(None), |it, round| {
        // The new one is made before the old one is freed, so that the address differs.
        let new = Box::new(round);
        *it.borrow_mut() = Some(new)
    };
    @const CONST_REF_LEAKED: RefCell<u64> = RefCell::new(0),
        |it, _round| std::mem::forget(it.borrow());
    @const CONST_ONCE_PLAIN: OnceCell<u32> = OnceCell::new(),
        |it, round| set_or_replace(it, round as u32);
    @const CONST_ONCE_STRING: OnceCell<String> = OnceCell::new(),
        |it, round| set_or_replace(it, "x".repeat(round as usize));
    @const CONST_DROP: RefCell<Option<Loud>> = RefCell::new(None),
        |it, round| *it.borrow_mut() = Some(Loud(round));
    LAZY_CELL: Cell<u64> = Cell::new(black_box(3)), |it, round| it.set(round + 3);
    LAZY_BOOL: Cell<bool> = Cell::new(black_box(false)), |it, round| it.set(round % 2 == 1);
    LAZY_REF_STRING: RefCell<String> = RefCell::new("initial".to_owned()),
        |it, _round| it.borrow_mut().push('x');
    LAZY_REF_MAP: RefCell<HashMap<u64, u64>> = RefCell::default(),
        |it, round| it.borrow_mut().insert(round, round);
    LAZY_REF_TREE: RefCell<BTreeMap<u64, u64>> = RefCell::default(),
        |it, round| it.borrow_mut().insert(round, round);
    LAZY_REF_QUEUE: RefCell<VecDeque<u64>> = RefCell::default(),
        |it, round| it.borrow_mut().push_back(round);
    LAZY_ONCE: OnceCell<Vec<u64>> = black_box(OnceCell::new()),
        |it, round| set_or_replace(it, vec![round; round as usize]);
    LAZY_RC: RefCell<Rc<u64>> = RefCell::new(Rc::new(0)), |it, round| {
        let new = Rc::new(round);
        *it.borrow_mut() = new
    };
    LAZY_DROP: Cell<Option<Loud>> = Cell::new(Some(Loud(0))), |it, round| it.set(Some(Loud(round)));
    LAZY_DYN: RefCell<Box<dyn Fn() -> u64>> = RefCell::new(Box::new(|| 0)), |it, round| {
        let new = Box::new(move || round);
        *it.borrow_mut() = new
    };
    r#type: Cell<u64> = Cell::new(black_box(0)), |it, round| it.set(round);
    @const GRÖSSE: Cell<u64> = Cell::new(0), |it, round| it.set(round);
}

/// Fills an empty cell. A full one is put back to empty and filled anew, through its bytes.
fn set_or_replace<T>(cell: &OnceCell<T>, value: T) {
    if let Err(value) = cell.set(value) {
        // SAFETY: no reference into the cell is alive, and the thread is its only owner.
        let cell = unsafe { &mut *(&raw const *cell).cast_mut() };
        *cell = OnceCell::from(value);
    }
}

mod place {
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

    use super::{Case, Cell, black_box};

    pub fn set_in_function(round: u64) {
        thread_local! { static IN_FUNCTION: Cell<u64> = const { Cell::new(0) }; }
        IN_FUNCTION.with(|it| black_box(it).set(round));
    }

    pub fn set_in_closure(round: u64) {
        let closure = || {
            thread_local! { static IN_CLOSURE: Cell<u64> = const { Cell::new(0) }; }
            IN_CLOSURE.with(|it| black_box(it).set(round));
        };
        closure();
    }

    pub fn set_in_generic<T: Into<u64>>(round: T) {
        thread_local! { static IN_GENERIC: Cell<u64> = const { Cell::new(0) }; }
        IN_GENERIC.with(|it| black_box(it).set(round.into()));
    }

    pub struct Own<T>(pub T);

    impl<T: Into<u64>> Own<T> {
        pub fn set(self) {
            thread_local! { static IN_IMPL: Cell<u64> = const { Cell::new(0) }; }
            IN_IMPL.with(|it| black_box(it).set(self.0.into()));
        }
    }

    pub trait Set {
        fn set(self);
    }

    impl Set for Vec<u64> {
        fn set(self) {
            thread_local! { static IN_TRAIT: Cell<u64> = const { Cell::new(0) }; }
            IN_TRAIT.with(|it| black_box(it).set(self[0]));
        }
    }

    /// Broke: what lies in here passed for a part of the type's crate, or of the trait's, and a
    /// rule for that hid it.
    pub trait Audit {
        fn audit(&self, round: u64);
    }

    impl Audit for env_logger::Logger {
        fn audit(&self, round: u64) {
            thread_local! { static FORMATTER: Cell<u64> = const { Cell::new(0) }; }
            FORMATTER.with(|it| black_box(it).set(round));
        }
    }

    struct Mine;

    impl<S: tracing::Subscriber> Layer<S> for Mine {
        fn on_event(&self, _: &tracing::Event<'_>, _: Context<'_, S>) {
            thread_local! { static BUF: Cell<u64> = const { Cell::new(0) }; }
            BUF.with(|it| black_box(it).set(it.get() + 1));
        }
    }

    pub fn set_in_layer(round: u64) {
        let layered = tracing_subscriber::registry().with(Mine);
        tracing::subscriber::with_default(layered, || tracing::info!(round));
    }

    macro_rules! declare {
        ($name:ident) => {
            thread_local! { static $name: Cell<u64> = const { Cell::new(0) }; }
            pub fn set_in_macro(round: u64) {
                $name.with(|it| black_box(it).set(round));
            }
        };
    }
    declare!(IN_MACRO);

    pub mod a {
        pub mod b {
            use super::super::{Cell, black_box};
            thread_local! { static IN_MODULE: Cell<u64> = const { Cell::new(0) }; }
            pub fn set(round: u64) {
                IN_MODULE.with(|it| black_box(it).set(round));
            }
        }
    }

    pub const CASES: &[Case] = &[
        Case { path: "found::place::set_in_function::IN_FUNCTION", set: set_in_function },
        Case { path: "found::place::set_in_closure::IN_CLOSURE", set: set_in_closure },
        Case { path: "found::place::set_in_generic::IN_GENERIC", set: set_in_generic::<u64> },
        Case { path: "found::place::*::set::IN_IMPL", set: |round| Own(round).set() },
        Case { path: "*found::place::Set>::set::IN_TRAIT", set: |round| vec![round].set() },
        Case {
            path: "<env_logger::*found::place::Audit>::audit::FORMATTER",
            set: |round| env_logger::Builder::new().build().audit(round),
        },
        Case {
            path: "<found::place::Mine as tracing_subscriber::*::on_event::BUF",
            set: set_in_layer,
        },
        Case { path: "found::place::IN_MACRO", set: set_in_macro },
        Case { path: "found::place::a::b::IN_MODULE", set: a::b::set },
    ];
}

const ELSEWHERE: &[Case] = &[
    Case { path: "corpus_dep::PRIVATE", set: corpus_dep::set_private },
    Case { path: "corpus_dep::LAZY", set: corpus_dep::push_lazy },
    Case { path: "corpus_dep::PUBLIC", set: |round| corpus_dep::PUBLIC.set(round) },
    Case { path: "corpus_dep::set_generic::IN_GENERIC", set: corpus_dep::set_generic::<u64> },
    Case { path: "corpus_dep::nested::DEEP", set: corpus_dep::nested::set_deep },
    Case { path: "c_zero", set: |round| corpus::c_set_zero(round) },
    Case { path: "c_initialised", set: |round| corpus::c_set_initialised(round) },
    Case { path: "c_struct", set: |round| corpus::c_set_struct(round) },
    Case { path: "c_bytes", set: |round| corpus::c_set_bytes(round) },
    Case { path: "c_in_function*", set: |round| corpus::c_set_in_function(round) },
    Case { path: "shared_exported", set: |round| corpus::shared_set_exported(round) },
    Case { path: "shared_initialised", set: |round| corpus::shared_set_initialised(round) },
    Case { path: "shared_hidden", set: |round| corpus::shared_set_hidden(round) },
];

/// Whether `path` is the one expected, where one `*` stands for what differs between manglings.
fn is_expected(expected: &str, path: &str) -> bool {
    match expected.split_once('*') {
        Some((start, end)) => path.starts_with(start) && path.ends_with(end),
        // A raw identifier is the same name.
        None => path == expected.replace("r#", ""),
    }
}

/// Two rounds on a fresh thread: coming to life with a change, and a change of what was there.
fn is_found(case: &Case) -> bool {
    let reports = on_fresh_thread(|| watch_rounds(2, case.set));
    let mut all = true;
    for (round, report) in reports.iter().enumerate() {
        let paths: Vec<_> = report.leaks().iter().map(|leak| leak.path()).collect();
        let good = matches!(paths[..], [Some(path)] if is_expected(case.path, path));
        if !good {
            println!("{} in round {}: {report}", case.path, round + 1);
        }
        all &= good;
    }
    all
}

#[test]
fn every_shape_of_thread_local_is_found_and_named() {
    assert!(corpus::c_sum() > 0 && corpus::shared_sum() > 0);
    let library = Library::open("opened");
    let mut cases = 0;
    let mut found = 0;
    for case in DECLARED.iter().chain(place::CASES).chain(ELSEWHERE) {
        cases += 1;
        found += usize::from(is_found(case));
    }
    for name in ["exported", "initialised", "hidden"] {
        let set = library.setter(&format!("opened_set_{name}"));
        let reports = on_fresh_thread(|| watch_rounds(2, &set));
        cases += 1;
        let expected = format!("opened_{name}");
        let good = reports.iter().all(|report| {
            matches!(report.leaks(), [leak] if leak.path() == Some(&expected)
                && leak.module() == "libcorpus_opened.so"
                && leak.crate_name().is_none())
        });
        if !good {
            println!("{expected}: {} / {}", reports[0], reports[1]);
        }
        found += usize::from(good);
    }
    println!("found and named: {found} of {cases} thread-locals");
    assert!(cases >= 40);
    assert_eq!(found, cases);
}

/// What the sentinel cannot see, as its documentation says. If one of these starts to be found,
/// the documentation is out of date.
#[test]
fn the_documented_blind_spots_are_blind_spots() {
    thread_local! {
        static BOXED: Box<Cell<u64>> = Box::new(Cell::new(0));
        static SHARED: Rc<RefCell<Vec<u64>>> = Rc::default();
        static ROOMY: RefCell<Vec<u64>> = RefCell::new(vec![0; 8]);
        static SAME: Cell<u64> = const { Cell::new(1) };
        static BOXED_LAZILY: LazyCell<Box<Cell<u64>>> =
            const { LazyCell::new(|| Box::new(Cell::new(0))) };
    }
    let key = {
        let mut key = 0;
        // SAFETY: `key` is valid for a write, and no destructor is given.
        assert_eq!(unsafe { libc::pthread_key_create(&raw mut key, None) }, 0);
        key
    };
    let per_thread = thread_local::ThreadLocal::<Cell<u64>>::new();
    // SAFETY: the name is a C string.
    let locale = unsafe { libc::newlocale(libc::LC_ALL_MASK, c"C".as_ptr(), std::ptr::null_mut()) };
    assert!(!locale.is_null());
    let locale = locale.addr();

    type Blind<'a> = (&'a str, &'a (dyn Fn(u64) + Sync));
    let spots: [Blind<'_>; 9] = [
        ("heap data behind a Box", &|round| BOXED.with(|it| it.set(round))),
        ("heap data behind an Rc", &|round| SHARED.with(|it| it.borrow_mut().push(round))),
        ("heap data behind a LazyCell", &|round| BOXED_LAZILY.with(|it| it.set(round))),
        ("an element of a Vec", &|round| ROOMY.with_borrow_mut(|it| it[0] = round)),
        ("an entry of a map", &|round| drop(log_mdc::insert("user", round.to_string()))),
        ("the same bytes again", &|_| SAME.set(black_box(1))),
        ("pthread_setspecific", &|round| {
            let value = std::ptr::without_provenance(round as usize);
            // SAFETY: the key exists.
            assert_eq!(unsafe { libc::pthread_setspecific(key, value) }, 0);
        }),
        ("the thread_local crate", &|round| per_thread.get_or_default().set(round)),
        ("uselocale", &|_| {
            let locale = std::ptr::without_provenance_mut(locale);
            // SAFETY: the locale exists.
            assert!(!unsafe { libc::uselocale(locale) }.is_null());
        }),
    ];
    let mut unseen = 0;
    for (name, set) in &spots {
        let reports = on_fresh_thread(|| watch_rounds(2, set));
        // Coming to life may be seen; the change afterwards is not.
        if reports[1].is_clean() {
            unseen += 1;
        } else {
            println!("{name} is found: {}", reports[1]);
        }
    }
    println!("not seen, as documented: {unseen} of {} places", spots.len());
    assert_eq!(unseen, spots.len());
}

/// What is equal for the program and not for the sentinel, as its documentation says.
#[test]
fn the_documented_false_alarms_are_false_alarms() {
    thread_local! {
        static OPTION: Cell<Option<u64>> = const { Cell::new(None) };
        static SHAPE: Cell<Shape> = const { Cell::new(Shape::Point) };
        static UNINIT: Cell<MaybeUninit<u64>> = const { Cell::new(MaybeUninit::uninit()) };
        static ROOM: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
        static LAZY: RefCell<String> = RefCell::new("as it is".to_owned());
        static POINTER: RefCell<Option<Box<u64>>> = const { RefCell::new(None) };
    }
    let alarms: [(&str, &(dyn Fn(u64) + Sync)); 5] = [
        ("an option that was set and cleared", &|round| {
            OPTION.set(black_box(Some(round)));
            OPTION.set(None);
        }),
        ("an enum that had another variant", &|round| {
            SHAPE.set(black_box(Shape::Circle(round as u32)));
            SHAPE.set(Shape::Point);
        }),
        ("a value that is no longer held", &|round| {
            UNINIT.set(black_box(MaybeUninit::new(round)));
            UNINIT.set(MaybeUninit::uninit());
            black_box(UNINIT.get());
        }),
        ("a vector that was emptied", &|round| {
            ROOM.with_borrow_mut(|room| {
                room.extend(0..round * 100);
                room.clear();
            });
        }),
        ("a variable that was only read", &|_| assert!(LAZY.with_borrow(|it| !it.is_empty()))),
    ];
    for (name, leave) in alarms {
        let [report] = &on_fresh_thread(|| watch_rounds(1, leave))[..] else { unreachable!() };
        assert_eq!(report.leaks().len(), 1, "{name}: {report}");
    }
    let reports = on_fresh_thread(|| {
        watch_rounds(2, |round| {
            POINTER.set(Some(Box::new(round)));
            POINTER.take();
        })
    });
    // The first time std notes that there is a destructor to run.
    assert!(reports[1].is_clean(), "an option of a pointer: {}", reports[1]);
}
