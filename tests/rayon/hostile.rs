//! Consumers and producers of third parties, written in safe code, that forget iterators and folders,
//! call `next` in nested tasks and inside borrows, or panic anywhere. Nothing dangles, nothing leaks
//! into another task, and values are dropped once.

#![expect(clippy::mem_forget, reason = "forgetting is what these tests are about")]

use cleanslate::rayon::ParallelIteratorExt;
use cleanslate::{Context, task_local};
use rayon::iter::plumbing::{
    Consumer, Folder, Producer, ProducerCallback, Reducer, UnindexedConsumer, bridge,
};
use rayon::prelude::*;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

task_local! {
    static NAME: String = "fresh".to_owned();
    /// Without drop glue, so it takes the engine's short cut.
    static NUMBER: u64 = 0;
    #[inherit]
    static TENANT: String = "nobody".to_owned();
    #[inherit]
    static SHARED: Option<Arc<String>> = None;
    static ENDING: Option<RunsATask> = None;
}

/// Captures and runs a task when it is dropped, so in the middle of the end of another one.
struct RunsATask;

impl Drop for RunsATask {
    fn drop(&mut self) {
        Context::capture().run(|| NAME.set("at the end".to_owned()));
    }
}

fn in_pool<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

/// The same, and the threads have ended when it returns, their thread-locals included.
fn in_joined_pool<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    let mut handles = Vec::new();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .spawn_handler(|thread| {
            handles.push(std::thread::spawn(|| thread.run()));
            Ok(())
        })
        .build()
        .unwrap();
    let result = pool.install(f);
    drop(pool);
    handles.into_iter().for_each(|handle| handle.join().unwrap());
    result
}

/// Touches slots of every kind, and says whether one was not fresh.
fn touch(id: u64) -> bool {
    let before = NAME.replace(format!("item {id}"));
    let number = NUMBER.replace(id + 1);
    ENDING.set(Some(RunsATask));
    before == "fresh" && number == 0 && TENANT.with(|tenant| tenant == "acme")
}

/// What a hostile folder does with the iterator that it is given.
#[derive(Clone, Copy, Debug)]
enum Malice {
    Forget,
    ForgetAfterOne,
    NextInTask,
    NextInBorrow,
    NextInMutBorrow,
    NextInScope,
    DropInTask,
    LeakInScope,
}

const ALL: [Malice; 8] = [
    Malice::Forget,
    Malice::ForgetAfterOne,
    Malice::NextInTask,
    Malice::NextInBorrow,
    Malice::NextInMutBorrow,
    Malice::NextInScope,
    Malice::DropInTask,
    Malice::LeakInScope,
];

fn abuse<I: Iterator<Item = bool>>(malice: Malice, mut iter: I, clean: &mut bool) {
    // Within the first item, since touching a slot beside all items is reported.
    *clean &= iter.next().unwrap_or(true);
    match malice {
        Malice::Forget => std::mem::forget(iter),
        Malice::ForgetAfterOne => {
            *clean &= iter.next().unwrap_or(true);
            std::mem::forget(iter);
        }
        Malice::NextInTask => {
            while let Some(item) = Context::empty().run(|| iter.next()) {
                *clean &= item;
            }
        }
        Malice::NextInBorrow => {
            // Every `next` ends the task whose value is borrowed here.
            let mut next = |name: &String, number: &u64| {
                let before = (name.clone(), *number);
                let item = iter.next();
                assert_eq!((name, *number), (&before.0, before.1), "a borrowed value changed");
                item
            };
            while let Some(item) = NAME.with(|name| NUMBER.with(|number| next(name, number))) {
                *clean &= item;
            }
        }
        Malice::NextInMutBorrow => {
            while let Some(item) = NAME.with_mut(|name| {
                name.push('!');
                let item = NUMBER.with_mut(|number| {
                    *number = 77;
                    let item = iter.next();
                    assert_eq!(*number, 77);
                    item
                });
                assert!(name.ends_with('!'));
                name.push_str(" still mine");
                item
            }) {
                *clean &= item;
            }
        }
        Malice::NextInScope => {
            while let Some(item) = NAME.scope("bound".to_owned(), || {
                let item = iter.next();
                // The item's frame lies above the scope, if there is one.
                let own =
                    |name: &String| name == "bound" || name == "fresh" || name.starts_with("item");
                assert!(NAME.with(own));
                item
            }) {
                *clean &= item;
            }
        }
        Malice::DropInTask => {
            *clean &= iter.next().unwrap_or(true);
            Context::empty().run(|| drop(iter));
        }
        Malice::LeakInScope => NAME.scope("bound".to_owned(), || {
            *clean &= iter.next().unwrap_or(true);
            std::mem::forget(iter);
        }),
    }
}

#[derive(Clone, Copy)]
struct Hostile(Malice);

impl Consumer<bool> for Hostile {
    type Folder = HostileFolder;
    type Reducer = And;
    type Result = bool;

    fn split_at(self, _: usize) -> (Self, Self, And) {
        (self, self, And)
    }

    fn into_folder(self) -> HostileFolder {
        HostileFolder { malice: self.0, clean: true }
    }

    fn full(&self) -> bool {
        false
    }
}

impl UnindexedConsumer<bool> for Hostile {
    fn split_off_left(&self) -> Self {
        *self
    }

    fn to_reducer(&self) -> And {
        And
    }
}

struct And;

impl Reducer<bool> for And {
    fn reduce(self, left: bool, right: bool) -> bool {
        left & right
    }
}

struct HostileFolder {
    malice: Malice,
    clean: bool,
}

impl Folder<bool> for HostileFolder {
    type Result = bool;

    fn consume(self, item: bool) -> Self {
        Self { clean: self.clean & item, ..self }
    }

    fn consume_iter<I: IntoIterator<Item = bool>>(mut self, iter: I) -> Self {
        abuse(self.malice, iter.into_iter(), &mut self.clean);
        self
    }

    fn complete(self) -> bool {
        self.clean
    }

    fn full(&self) -> bool {
        false
    }
}

/// What is left on this thread by forgotten frames must not reach another task.
fn check_clean(context: &Context) {
    context.run(|| assert!(touch(0), "a task after the abuse is not fresh"));
    assert!((0..50_u64).into_par_iter().isolated_in(context).map(touch).all(|clean| clean));
}

#[test]
fn pushed_iterators_survive_hostile_folders() {
    for malice in ALL {
        for threads in [1, 2, 4] {
            in_pool(threads, || {
                let context = TENANT.scope("acme".to_owned(), Context::capture);
                for _ in 0..20 {
                    let chain = (0..40_u64).into_par_iter().map(touch).isolated_in(&context);
                    assert!(
                        chain.drive_unindexed(Hostile(malice)),
                        "{malice:?}, {threads} threads"
                    );
                }
                check_clean(&context);
            });
        }
    }
}

#[test]
fn pulled_iterators_survive_hostile_folders() {
    for malice in ALL {
        for threads in [1, 2, 4] {
            in_pool(threads, || {
                let context = TENANT.scope("acme".to_owned(), Context::capture);
                for _ in 0..20 {
                    let chain = (0..40_usize).into_par_iter().map(|i| touch(i as u64));
                    let chain = chain.isolated_in(&context).map(|clean| clean).rev();
                    assert!(bridge(chain, Hostile(malice)), "{malice:?}, {threads} threads");
                }
                check_clean(&context);
            });
        }
    }
}

/// Forgets a producer, or an iterator of it, or plays with two halves at once.
struct HostileCallback(u8);

impl ProducerCallback<bool> for HostileCallback {
    type Output = bool;

    fn callback<P: Producer<Item = bool>>(self, producer: P) -> bool {
        match self.0 {
            0 => {
                std::mem::forget(producer);
                true
            }
            1 => {
                let mut iter = producer.into_iter();
                let clean = iter.next().unwrap();
                std::mem::forget(iter);
                clean
            }
            2 => {
                // Two iterators that overlap in every way: front, back, the other one first.
                let (left, right) = producer.split_at(20);
                let (mut left, mut right) = (left.into_iter(), right.into_iter());
                let mut clean = true;
                for _ in 0..4 {
                    clean &= left.next().unwrap() & right.next_back().unwrap();
                    clean &= right.next().unwrap() & left.next_back().unwrap();
                }
                let right = RefCell::new(Some(right));
                clean &= left.all(|item| {
                    let next = right.borrow_mut().as_mut().and_then(Iterator::next);
                    item & next.unwrap_or(true)
                });
                clean
            }
            3 => {
                // Many frames are left open at once, the lowest is ended first.
                let mut rest = Some(producer);
                let mut open = Vec::new();
                let mut clean = true;
                for _ in 0..39 {
                    let (one, others) = rest.take().unwrap().split_at(1);
                    let mut one = one.into_iter();
                    clean &= one.next().unwrap();
                    open.push(one);
                    rest = Some(others);
                }
                open.reverse();
                open.into_iter().rev().for_each(drop);
                clean
            }
            _ => {
                let mut iter = producer.into_iter();
                let mut clean = iter.next().unwrap();
                // A pinned frame lies above: the iterator's is only marked, and the item gets another.
                clean &= Context::empty().run(|| {
                    NAME.set("mine".to_owned());
                    let clean = iter.next().unwrap() & iter.next().unwrap();
                    drop(iter);
                    clean
                });
                clean
            }
        }
    }
}

#[test]
fn producers_survive_hostile_callbacks() {
    for kind in 0..5 {
        for _ in 0..20 {
            let context = TENANT.scope("acme".to_owned(), Context::capture);
            let outer = NAME.replace("outer".to_owned());
            NAME.with(|borrowed| {
                let chain = (0..40_usize).into_par_iter().map(|i| touch(i as u64));
                assert!(chain.isolated_in(&context).with_producer(HostileCallback(kind)));
                assert_eq!(borrowed, "outer");
            });
            assert_eq!(NAME.replace(outer), "outer", "kind {kind}");
            check_clean(&context);
        }
    }
}

/// A piece of a drive that was stolen during a `scope`, and forgot its iterator, left a frame above the
/// scope's value: the scope took that frame's value for its own, and freed it.
/// Runs the closure in an item of a parallel iterator, on top of the frame that this leaves open.
struct InAnItem<F>(F);

impl<F: FnOnce()> ProducerCallback<bool> for InAnItem<F> {
    type Output = ();

    fn callback<P: Producer<Item = bool>>(self, producer: P) {
        let mut iter = producer.into_iter();
        assert!(iter.next().unwrap());
        (self.0)();
    }
}

/// Drops an iterator inside a task, so that its frame is only marked.
struct DropInATask;

impl ProducerCallback<bool> for DropInATask {
    type Output = ();

    fn callback<P: Producer<Item = bool>>(self, producer: P) {
        let mut iter = producer.into_iter();
        assert!(iter.next().unwrap());
        Context::empty().run(|| drop(iter));
    }
}

// Broke: the task that a value ran at the end of a marked frame closed that frame too. So the one below,
// still in use, was taken for it, and gave up a count of a context that was not its own.
#[test]
fn a_marked_frame_is_closed_once_whatever_its_values_do() {
    let name = Arc::new("acme".to_owned());
    let items = || (0..2_usize).into_par_iter().map(|i| touch(i as u64));
    SHARED.set(Some(Arc::clone(&name)));
    TENANT.set("acme".to_owned());
    let context = Context::capture();
    SHARED.set(None);
    let held = Arc::strong_count(&name);
    let inside = || {
        context.run(|| {
            NUMBER.set(8);
            for _ in 0..3 {
                items().isolated_in(&context).with_producer(DropInATask);
                assert_eq!((NUMBER.get(), Arc::strong_count(&name)), (8, held));
            }
            assert!(SHARED.with(|shared| Arc::ptr_eq(shared.as_ref().unwrap(), &name)));
        });
        assert_eq!(NUMBER.get(), 1, "the item's own");
        items().isolated_in(&context).with_producer(DropInATask);
        assert_eq!((NUMBER.get(), NAME.get()), (1, "item 0".to_owned()));
    };
    items().isolated_in(&context).with_producer(InAnItem(inside));
    check_clean(&context);
    drop(context);
    assert_eq!(Arc::strong_count(&name), 1);
}

#[test]
fn a_scope_finds_its_own_value_above_forgotten_frames() {
    let stolen = AtomicUsize::new(0);
    in_pool(2, || {
        let context = TENANT.scope("acme".to_owned(), Context::capture);
        let scoped = AtomicUsize::new(usize::MAX);
        let [started, done] = [const { AtomicBool::new(false) }; 2];
        rayon::join(
            || {
                scoped.store(rayon::current_thread_index().unwrap(), SeqCst);
                while !started.load(SeqCst) {
                    // Else the first yield below would run the whole drive here.
                    std::thread::yield_now();
                }
                while !done.load(SeqCst) {
                    NAME.scope("bound".to_owned(), || {
                        for _ in 0..10 {
                            rayon::yield_now();
                        }
                        // What was forgotten is still open here, and closed when the scope ends.
                    });
                    assert!(!NAME.is_set());
                }
            },
            || {
                started.store(true, SeqCst);
                while stolen.load(SeqCst) < 50 {
                    let chain = (0..16_usize).into_par_iter().map(|i| {
                        let here = rayon::current_thread_index().unwrap();
                        stolen.fetch_add(usize::from(here == scoped.load(SeqCst)), SeqCst);
                        touch(i as u64)
                    });
                    let chain = chain.with_max_len(1).isolated_in(&context).map(|clean| clean);
                    assert!(bridge(chain.rev(), Hostile(Malice::Forget)));
                }
                done.store(true, SeqCst);
            },
        );
    });
    assert!(stolen.into_inner() >= 50);
}

struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, SeqCst);
        Self(Arc::clone(alive))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        assert!(self.0.fetch_sub(1, SeqCst) > 0, "dropped twice");
    }
}

task_local! {
    static COUNTED: Option<Counted> = None;
}

#[test]
fn a_held_borrow_outlives_its_task() {
    let alive = Arc::new(AtomicUsize::new(0));
    struct Keep<'a>(&'a Arc<AtomicUsize>);
    impl ProducerCallback<usize> for Keep<'_> {
        type Output = ();
        fn callback<P: Producer<Item = usize>>(self, producer: P) {
            let mut iter = producer.into_iter();
            iter.next();
            COUNTED.set(Some(Counted::new(self.0)));
            COUNTED.with(|counted| {
                iter.next();
                // Its task has ended, but we still look at it.
                assert_eq!(self.0.load(SeqCst), 1);
                assert!(counted.is_some());
                assert!(!COUNTED.is_set());
            });
            assert_eq!(self.0.load(SeqCst), 0, "freed by the last borrow");
        }
    }
    (0..4_usize).into_par_iter().isolated().with_producer(Keep(&alive));
    assert_eq!(Arc::strong_count(&alive), 1);
}

#[test]
fn a_forgotten_frame_keeps_its_context_alive() {
    task_local! {
        #[inherit]
        static LONG: Arc<str> = Arc::from("default");
    }
    struct ForgetOne;
    impl Consumer<bool> for ForgetOne {
        type Folder = ForgetFolder;
        type Reducer = And;
        type Result = bool;
        fn split_at(self, _: usize) -> (Self, Self, And) {
            (Self, Self, And)
        }
        fn into_folder(self) -> ForgetFolder {
            ForgetFolder
        }
        fn full(&self) -> bool {
            false
        }
    }
    struct ForgetFolder;
    impl Folder<bool> for ForgetFolder {
        type Result = bool;
        fn consume(self, _: bool) -> Self {
            self
        }
        fn consume_iter<I: IntoIterator<Item = bool>>(self, iter: I) -> Self {
            let mut iter = iter.into_iter();
            iter.next();
            std::mem::forget(iter);
            self
        }
        fn complete(self) -> bool {
            true
        }
        fn full(&self) -> bool {
            false
        }
    }
    let text: Arc<str> = Arc::from("captured");
    in_joined_pool(4, || {
        let context = LONG.scope(Arc::clone(&text), Context::capture);
        for _ in 0..50 {
            let chain = (0..64_usize).into_par_iter().map(|_| LONG.is_set());
            bridge(chain.isolated_in(&context).map(|set| set).rev(), ForgetOne);
        }
        drop(context);
        // Bare jobs now run on threads where frames may be open, and read what those inherit.
        let seen = rayon::broadcast(|_| LONG.get());
        assert!(seen.iter().all(|seen| matches!(&**seen, "captured" | "default")));
    });
    assert_eq!(Arc::strong_count(&text), 1, "the threads' ends close what was forgotten");
}
