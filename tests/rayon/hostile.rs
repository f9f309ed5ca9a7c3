//! Consumers and producers of third parties, written in safe code, that forget iterators, take
//! turns between several, and call `next` in nested tasks and inside borrows. Every call of a
//! closure is a task all the same, and borrowed values stay as they are.

#![expect(clippy::mem_forget, reason = "forgetting is what these tests are about")]

use cleanslate::rayon::ParallelIteratorExt;
use cleanslate::{Context, task_local};
use rayon::iter::plumbing::{
    Consumer, Folder, Producer, ProducerCallback, Reducer, UnindexedConsumer, bridge,
};
use rayon::prelude::*;
use std::cell::RefCell;
use std::sync::Arc;

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
    NextInTask,
    NextInBorrow,
    NextInMutBorrow,
    NextInScope,
}

const ALL: [Malice; 5] = [
    Malice::Forget,
    Malice::NextInTask,
    Malice::NextInBorrow,
    Malice::NextInMutBorrow,
    Malice::NextInScope,
];

fn abuse<I: Iterator<Item = bool>>(malice: Malice, mut iter: I, clean: &mut bool) {
    match malice {
        Malice::Forget => {
            *clean &= iter.next().unwrap_or(true);
            std::mem::forget(iter);
        }
        Malice::NextInTask => {
            while let Some(item) = Context::empty().run(|| iter.next()) {
                *clean &= item;
            }
        }
        Malice::NextInBorrow => {
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
                item
            }) {
                *clean &= item;
            }
        }
        Malice::NextInScope => {
            while let Some(item) = NAME.scope("bound".to_owned(), || {
                let item = iter.next();
                assert!(NAME.with(|name| name == "bound"));
                item
            }) {
                *clean &= item;
            }
        }
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

fn items() -> impl IndexedParallelIterator<Item = u64> {
    (0..40_usize).into_par_iter().map(|i| i as u64)
}

fn context() -> Context {
    TENANT.scope("acme".to_owned(), Context::capture)
}

fn check_clean(context: &Context) {
    assert!(context.run(|| touch(0)), "a task after the abuse is not fresh");
    assert!(items().isolated_in(context).map(touch).all(|clean| clean));
}

#[test]
fn pushed_iterators_survive_hostile_folders() {
    for malice in ALL {
        for threads in [1, 2, 4] {
            in_pool(threads, || {
                let context = context();
                for _ in 0..20 {
                    let chain = items().isolated_in(&context).map(touch);
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
                let context = context();
                for _ in 0..20 {
                    let chain = items().isolated_in(&context).map(touch).rev();
                    assert!(bridge(chain, Hostile(malice)), "{malice:?}, {threads} threads");
                }
                check_clean(&context);
            });
        }
    }
}

#[test]
fn a_forgotten_iterator_keeps_no_context_alive() {
    let name = Arc::new("acme".to_owned());
    in_pool(4, || {
        let context = SHARED.scope(Some(Arc::clone(&name)), Context::capture);
        for _ in 0..20 {
            let chain = items().isolated_in(&context).map(|_| SHARED.get().is_some());
            assert!(bridge(chain.rev(), Hostile(Malice::Forget)));
        }
    });
    assert_eq!(Arc::strong_count(&name), 1);
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
                // Many are open at once, and the first is dropped first.
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
                let clean = iter.next().unwrap();
                clean & Context::empty().run(|| iter.next().unwrap() & iter.next_back().unwrap())
            }
        }
    }
}

#[test]
fn producers_survive_hostile_callbacks() {
    for kind in 0..5 {
        for _ in 0..20 {
            let context = context();
            let outer = NAME.replace("outer".to_owned());
            NAME.with(|borrowed| {
                let chain = items().isolated_in(&context).map(touch);
                assert!(chain.with_producer(HostileCallback(kind)));
                assert_eq!(borrowed, "outer");
            });
            assert_eq!(NAME.replace(outer), "outer", "kind {kind}");
            check_clean(&context);
        }
    }
}
