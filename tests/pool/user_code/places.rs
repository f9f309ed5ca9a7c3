//! The places of a pool's life where user code runs, and how a case gets it to run there.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc;
use std::task::{Context as Polling, Waker};

use super::actors::{Acting, ActsWhenCloned, ActsWhenWoken, IgnoresWakes};
use super::triggers::{closing, holds, occupy, or_cancelled, replaced, submitted};
use super::world::{ActsOnDrop, ActsQuietly, World};
use crate::support::Counted;
use cleanslate::{Context, JoinHandle, Pool, PoolBuilder, task_local, worker_local};

/// Where the user code runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    // On a worker that serves.
    Task,
    DropOfAClosureThatRan,
    DropOfADetachedResult,
    DropOfASlotsValue,
    DropOfAnInheritedValue,
    DropOfAPanicsPayload,
    PanicHook,
    Wake,
    Attach,
    Detach,
    DropOfACarriersCapture,
    ItemOfAMap,
    PullOfAMap,
    DropOfAnUnstartedItem,
    ReductionOfAMap,
    DropOfAPartOfAFailedReduction,
    InitOfAMap,
    DropOfAMapsScratch,
    HalfOfAJoin,
    Visit,
    ItemOfAnImap,
    InitialiserOfAWorkerLocal,
    CancelInsideATask,
    #[cfg(feature = "sentinel")]
    SentinelsCallback,
    // On a worker that starts.
    StartHook,
    PanicHookOfTheStartHook,
    // On one that is to be replaced.
    StopHookOfAReplaced,
    PanicHookOfItsStopHook,
    WorkerLocalOfAReplaced,
    ThreadLocalOfAReplaced,
    // On the last worker of a pool that is closed.
    StopHookOfTheLast,
    PanicHookOfTheLast,
    WorkerLocalOfTheLast,
    ThreadLocalOfTheLast,
    // On a plain thread.
    Capture,
    CloneAtACapture,
    CancelByTheHandle,
    CancelByAShutdown,
    DropOfARefusedClosure,
    DropOfAFinishedResult,
    DropOfAReplacedWaker,
    PullOfAnImap,
    DropOfAnImapsInput,
    DropOfAResultOfAFailedMap,
    DropOfAResultOfAFailedBroadcast,
    DropOfABroadcastsClosure,
    DropOfAResultOfAFailedScope,
    DropOfAResultOfAFailedJoin,
    PanicHookOnAPlainThread,
    DropOfAHooksCaptures,
}

use Place as P;

pub(crate) const PLACES: &[Place] = &[
    P::Task,
    P::DropOfAClosureThatRan,
    P::DropOfADetachedResult,
    P::DropOfASlotsValue,
    P::DropOfAnInheritedValue,
    P::DropOfAPanicsPayload,
    P::PanicHook,
    P::Wake,
    P::Attach,
    P::Detach,
    P::DropOfACarriersCapture,
    P::ItemOfAMap,
    P::PullOfAMap,
    P::DropOfAnUnstartedItem,
    P::ReductionOfAMap,
    P::DropOfAPartOfAFailedReduction,
    P::InitOfAMap,
    P::DropOfAMapsScratch,
    P::HalfOfAJoin,
    P::Visit,
    P::ItemOfAnImap,
    P::InitialiserOfAWorkerLocal,
    P::CancelInsideATask,
    #[cfg(feature = "sentinel")]
    P::SentinelsCallback,
    P::StartHook,
    P::PanicHookOfTheStartHook,
    P::StopHookOfAReplaced,
    P::PanicHookOfItsStopHook,
    P::WorkerLocalOfAReplaced,
    P::ThreadLocalOfAReplaced,
    P::StopHookOfTheLast,
    P::PanicHookOfTheLast,
    P::WorkerLocalOfTheLast,
    P::ThreadLocalOfTheLast,
    P::Capture,
    P::CloneAtACapture,
    P::CancelByTheHandle,
    P::CancelByAShutdown,
    P::DropOfARefusedClosure,
    P::DropOfAFinishedResult,
    P::DropOfAReplacedWaker,
    P::PullOfAnImap,
    P::DropOfAnImapsInput,
    P::DropOfAResultOfAFailedMap,
    P::DropOfAResultOfAFailedBroadcast,
    P::DropOfABroadcastsClosure,
    P::DropOfAResultOfAFailedScope,
    P::DropOfAResultOfAFailedJoin,
    P::PanicHookOnAPlainThread,
    P::DropOfAHooksCaptures,
];

impl Place {
    /// Whether the pool is closed when the user code runs.
    pub(crate) fn is_closed(self) -> bool {
        matches!(
            self,
            P::StopHookOfTheLast
                | P::PanicHookOfTheLast
                | P::WorkerLocalOfTheLast
                | P::ThreadLocalOfTheLast
                | P::CancelByAShutdown
                | P::DropOfARefusedClosure
                | P::DropOfAHooksCaptures
        )
    }
}

task_local! {
    static SLOT: Option<ActsOnDrop> = None;
    #[inherit]
    static INHERITED: Option<ActsOnDrop> = None;
    #[inherit]
    static CLONED: Option<ActsWhenCloned> = None;
}

worker_local! {
    static KEPT: Option<ActsOnDrop> = None;
    static MADE: () = MAKING.with(|making| if let Some(world) = &*making.borrow() { world.act() });
}

thread_local! {
    #[cfg(feature = "sentinel")]
    static FOREIGN: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
    static LAST: RefCell<Option<ActsQuietly>> = const { RefCell::new(None) };
    static MAKING: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// Adds what the place needs to the pool.
pub(crate) fn build(place: Place, world: &World, builder: PoolBuilder) -> PoolBuilder {
    let token = world.census().token();
    let hook = |token: Counted| {
        let world = world.clone();
        move |_: usize| {
            let _token = &token;
            world.act();
        }
    };
    let fails = |_: usize| panic!("a hook, on purpose");
    match place {
        P::StartHook => builder.on_worker_start(hook(token)),
        P::StopHookOfAReplaced | P::StopHookOfTheLast => builder.on_worker_stop(hook(token)),
        P::PanicHookOfTheStartHook => panic_hook(world, token, builder.on_worker_start(fails)),
        P::PanicHookOfItsStopHook | P::PanicHookOfTheLast => {
            panic_hook(world, token, builder.on_worker_stop(fails))
        }
        P::PanicHook | P::PanicHookOnAPlainThread => panic_hook(world, token, builder),
        #[cfg(feature = "sentinel")]
        P::SentinelsCallback => {
            let world = world.clone();
            let sentinel = cleanslate::sentinel::Sentinel::new().report(move |_| {
                let _token = &token;
                world.act();
            });
            builder.sentinel(sentinel)
        }
        P::DropOfAHooksCaptures => {
            let (start, stop, panic) = (world.bomb(), world.bomb(), world.bomb());
            builder
                .on_worker_start(move |_| holds(&(&start, &token)))
                .on_worker_stop(move |_| holds(&stop))
                .panic_hook(move |_| holds(&panic))
        }
        _ => builder.on_worker_start(move |_| holds(&token)),
    }
}

fn panic_hook(world: &World, token: Counted, builder: PoolBuilder) -> PoolBuilder {
    let world = world.clone();
    builder.panic_hook(move |_| {
        let _token = &token;
        world.act();
    })
}

/// Has the user code run at the place, as soon as the returned closure is called and the world
/// goes. The closure keeps no handle, unless it borrows one all the time.
pub(crate) fn set_up(place: Place, world: &World, pool: &Pool) -> Box<dyn FnOnce()> {
    let shared = pool.clone();
    let own = world.clone();
    let bomb = || world.bomb();
    match place {
        P::Task => submitted(pool, move || own.act()),
        P::DropOfAClosureThatRan => {
            let bomb = bomb();
            submitted(pool, move || holds(&bomb))
        }
        P::DropOfADetachedResult => {
            drop(pool.submit(move || {
                own.wait_for_go();
                own.bomb()
            }));
            Box::new(|| ())
        }
        P::DropOfASlotsValue => submitted(pool, move || SLOT.set(Some(own.bomb()))),
        P::DropOfAnInheritedValue => {
            INHERITED.set(Some(world.egg()));
            let trigger = submitted(pool, move || own.wait_for_go());
            INHERITED.set(None);
            trigger
        }
        P::DropOfAPanicsPayload => {
            drop(pool.submit(move || {
                own.wait_for_go();
                std::panic::panic_any(own.bomb())
            }));
            Box::new(|| ())
        }
        P::PanicHook => {
            drop(pool.submit(move || {
                own.wait_for_go();
                panic!("a task, on purpose")
            }));
            Box::new(|| ())
        }
        #[cfg(feature = "sentinel")]
        P::SentinelsCallback => submitted(pool, || FOREIGN.set(FOREIGN.get() + 1)),
        P::PanicHookOnAPlainThread => {
            let handle = pool.submit(|| panic!("a task, on purpose"));
            while !handle.is_finished() {
                std::thread::yield_now();
            }
            Box::new(move || drop(handle))
        }
        P::Wake => {
            let mut handle = pool.submit(move || own.wait_for_go());
            let waker = Waker::from(Arc::new(ActsWhenWoken(world.clone())));
            let poll = Pin::new(&mut handle).poll(&mut Polling::from_waker(&waker));
            assert!(poll.is_pending());
            let world = world.clone();
            Box::new(move || {
                // To join would take the waker away.
                world.wait_for_deed();
                handle.join().unwrap();
            })
        }
        P::DropOfAReplacedWaker => {
            let mut handle = pool.submit(move || own.wait_for_deed());
            let waker = Waker::from(Arc::new(IgnoresWakes(world.bomb())));
            let poll = Pin::new(&mut handle).poll(&mut Polling::from_waker(&waker));
            assert!(poll.is_pending());
            drop(waker);
            Box::new(move || or_cancelled(handle.join()))
        }
        P::Attach | P::Detach | P::DropOfACarriersCapture => {
            let context = Context::empty().carry(Acting { world: own, at: place });
            let world = world.clone();
            submitted(&pool.in_context(&context), move || world.wait_for_go())
        }
        P::Capture => Box::new(move || {
            let context = Context::empty().carry(Acting { world: own, at: place });
            or_cancelled(shared.in_context(&context).submit(|| ()).join());
        }),
        P::CloneAtACapture => Box::new(move || {
            CLONED.set(Some(ActsWhenCloned(own)));
            drop(shared.submit(|| ()));
        }),
        P::ItemOfAMap => Box::new(move || {
            drop(shared.map(0..3, |n| {
                if n == 1 {
                    own.act()
                }
            }))
        }),
        P::PullOfAMap => Box::new(move || {
            let items = (0..3).inspect(|n| {
                if *n == 1 {
                    own.act()
                }
            });
            drop(shared.map(items, |n| n));
        }),
        P::DropOfAnUnstartedItem => Box::new(move || {
            // Those of the first's chunk do not start; the others may, and are dropped by their
            // tasks.
            let items = (0..40).map(|n| (n != 9).then(|| own.bomb()));
            drop(shared.map(items, |item| assert!(item.is_some(), "on purpose")));
        }),
        P::DropOfAResultOfAFailedMap => Box::new(move || {
            drop(shared.map_range(0..40, |n| {
                assert_ne!(n, 30, "on purpose");
                own.bomb()
            }));
        }),
        P::Visit => Box::new(move || drop(shared.broadcast(|| own.act()))),
        P::DropOfAResultOfAFailedBroadcast => Box::new(move || {
            // With one worker it does not fail.
            let fails = Some(shared.workers() - 1).filter(|last| *last != 0);
            drop(shared.broadcast(|| {
                assert!(fails.is_none() || shared.worker_index() != fails, "on purpose");
                own.bomb()
            }));
        }),
        P::DropOfABroadcastsClosure => Box::new(move || {
            let bomb = own.bomb();
            drop(shared.broadcast(move || holds(&bomb)));
        }),
        P::DropOfAResultOfAFailedScope => Box::new(move || {
            let result = shared.scope(|s| {
                s.submit(|| panic!("a task, on purpose"));
                own.bomb()
            });
            drop(result);
        }),
        P::ReductionOfAMap => Box::new(move || {
            let reduce = |n: u32, more: u32| {
                if n == 0 {
                    own.act();
                }
                n + more
            };
            assert_eq!(shared.reduce(0..3, || 0, reduce), 3);
        }),
        P::DropOfAPartOfAFailedReduction => Box::new(move || {
            let item = |n| {
                assert_ne!(n, 30, "on purpose");
                own.bomb()
            };
            let first = |bomb, more: ActsOnDrop| {
                drop(more.defused());
                bomb
            };
            drop(shared.map_reduce(0..40, item, || own.bomb(), first));
        }),
        P::InitOfAMap => Box::new(move || {
            drop(shared.map_init(0..3, || own.act(), |(), n| n));
        }),
        P::DropOfAMapsScratch => Box::new(move || {
            drop(shared.map_init(0..3, || own.bomb(), |_, n| n));
        }),
        P::HalfOfAJoin => Box::new(move || {
            assert_eq!(shared.join(|| 1, || own.act()), (1, ()));
        }),
        P::DropOfAResultOfAFailedJoin => Box::new(move || {
            drop(shared.join(|| own.bomb(), || panic!("a half, on purpose")));
        }),
        P::ItemOfAnImap => Box::new(move || {
            shared
                .imap_unordered(0..3, move |n| {
                    if n == 1 {
                        own.act()
                    }
                })
                .for_each(drop);
        }),
        P::PullOfAnImap => Box::new(move || {
            let items = (0..3).inspect(|n| {
                if *n == 1 {
                    own.act()
                }
            });
            shared.imap(items, |n| n).for_each(drop);
        }),
        P::DropOfAnImapsInput => Box::new(move || {
            let (items, f) = (own.bomb(), own.bomb());
            let items = (0..3).inspect(move |_| holds(&items));
            let mut results = shared.imap(items, move |n| (n, holds(&f)).0);
            assert_eq!(results.next(), Some(0));
            drop(shared);
            drop(results);
        }),
        P::InitialiserOfAWorkerLocal => submitted(pool, move || {
            MAKING.set(Some(own));
            MADE.with(|()| ());
        }),
        P::CancelInsideATask => {
            let busy = occupy(pool, world, pool.workers() - 1);
            let (tell, told) = mpsc::channel::<JoinHandle<()>>();
            let trigger = submitted(pool, move || assert!(told.recv().unwrap().cancel()));
            let bomb = bomb();
            tell.send(pool.submit(move || holds(&bomb))).unwrap();
            Box::new(move || {
                trigger();
                drop(busy);
            })
        }
        P::CancelByTheHandle => {
            let busy = occupy(pool, world, pool.workers());
            let bomb = bomb();
            let handle = pool.submit(move || holds(&bomb));
            Box::new(move || {
                assert!(handle.cancel());
                drop(busy);
            })
        }
        P::CancelByAShutdown => {
            let busy = occupy(pool, world, pool.workers());
            let bomb = bomb();
            drop(pool.submit(move || holds(&bomb)));
            let pool = pool.downgrade();
            Box::new(move || {
                // Else the handle is gone already, and nothing is cancelled.
                if let Some(pool) = pool.upgrade() {
                    pool.shutdown_background_now();
                }
                drop(busy);
            })
        }
        P::DropOfARefusedClosure => {
            pool.shutdown_background();
            let bomb = bomb();
            Box::new(move || {
                assert!(shared.submit(move || drop(bomb)).join().unwrap_err().is_cancelled());
            })
        }
        P::DropOfAFinishedResult => {
            let handle = pool.submit(move || own.bomb());
            while !handle.is_finished() {
                std::thread::yield_now();
            }
            Box::new(move || drop(handle))
        }
        P::StartHook | P::PanicHookOfTheStartHook => Box::new(|| ()),
        P::StopHookOfAReplaced | P::PanicHookOfItsStopHook => replaced(pool, || ()),
        P::WorkerLocalOfAReplaced => {
            replaced(pool, move || KEPT.with(|kept| *kept = Some(own.bomb())))
        }
        P::ThreadLocalOfAReplaced => {
            replaced(pool, move || LAST.set(Some(ActsQuietly(Some(own.bomb())))))
        }
        P::WorkerLocalOfTheLast => {
            pool.submit(move || KEPT.with(|kept| *kept = Some(own.bomb()))).join().unwrap();
            closing(pool)
        }
        P::ThreadLocalOfTheLast => {
            let last = move || LAST.set(Some(ActsQuietly(Some(own.bomb()))));
            pool.submit(last).join().unwrap();
            closing(pool)
        }
        P::StopHookOfTheLast | P::PanicHookOfTheLast => closing(pool),
        P::DropOfAHooksCaptures => {
            world.go();
            drop(shared);
            let world = world.clone();
            Box::new(move || {
                if let Some(pool) = world.take() {
                    pool.shutdown().unwrap();
                }
            })
        }
    }
}
