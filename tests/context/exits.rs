//! A process that exits from within a task: what the thread's thread-locals own is dropped then,
//! while the task is still there.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::hint::black_box;
use std::pin::Pin;
use std::task::{Poll, Waker};

use cleanslate::future::FutureExt;
use cleanslate::{Context, Pool, isolated_fn_in, task_local, worker_local};

use crate::support::{Inert, OnDrop, exits_in_a_process_of_its_own};

/// Nobody else has it by the time of the exit.
const INHERITED: &str = "the user of the task, in a string that is long enough to be seen";

task_local! {
    #[inherit]
    static USER: String = String::new();
}

worker_local! { static LOG: Vec<u8> = Vec::new(); }

/// What is kept in a thread-local, and is dropped before what `AT_EXIT` keeps.
type Kept = Box<dyn FnMut()>;

thread_local! {
    static AT_EXIT: Cell<Option<AtExit>> = const { Cell::new(None) };
    static KEPT: RefCell<Option<Kept>> = const { RefCell::new(None) };
}

/// Uses, when it is dropped, what the task inherits and what is attached for it.
struct AtExit;

impl Drop for AtExit {
    fn drop(&mut self) {
        // What was freed is something else now.
        let junk: Vec<_> = (0..2_000).map(|n| vec![u64::MAX / 3; n % 40 + 1]).collect();
        let seen = (USER.try_get(), Context::capture().run(|| USER.get()));
        let is_logged = LOG.try_with(|log| log.is_empty());
        if seen != (Ok(INHERITED.into()), INHERITED.into()) || is_logged != Ok(true) {
            eprintln!("{seen:?}, {is_logged:?}");
            std::process::abort();
        }
        drop(black_box(junk));
    }
}

fn exit() {
    std::process::exit(0)
}

/// What runs a task that exits, in a context that it alone keeps.
fn kept(case: &str) -> Kept {
    let mut context = Context::capture();
    if case.contains("carrier") {
        context = context.carry(Inert(INHERITED.repeat(3)));
    }
    let case = case.split(',').next().unwrap();
    match case {
        "run" => Box::new(move || context.run(exit)),
        "try_run" => Box::new(move || context.try_run(exit).unwrap()),
        "wrap_fn" => Box::new(context.wrap_fn(exit)),
        "wrap_fn_mut" => Box::new(context.wrap_fn_mut(exit)),
        "isolated_fn_in" => {
            let f = isolated_fn_in(&context, |()| exit());
            Box::new(move || f(()))
        }
        "future" => {
            let ends = poll_fn(|_| -> Poll<()> { std::process::exit(0) });
            let mut future: Pin<Box<dyn Future<Output = ()>>> =
                Box::pin(ends.isolated_in(&context));
            Box::new(move || {
                let mut cx = std::task::Context::from_waker(Waker::noop());
                let _polled = future.as_mut().poll(&mut cx);
            })
        }
        "imap" => {
            let items = std::iter::repeat_with(exit);
            let pool = Pool::new(1).unwrap().in_context(&context);
            let mut results = pool.imap(items, |()| ());
            Box::new(move || results.next().unwrap())
        }
        "caller helps" => {
            let pool = Pool::builder().workers(1).caller_helps(true).build().unwrap();
            let pool = pool.in_context(&context);
            Box::new(move || drop(pool.map(0..1, |_| exit())))
        }
        _ => unreachable!("{case}"),
    }
}

// Broke: a frame, and the list of what is attached, led to what the context had owned. From safe
// code, a use after free.
#[test]
fn what_a_thread_local_owns_may_end_before_the_task_that_exits() {
    let cases = [
        "run",
        "run, carrier",
        "try_run",
        "try_run, carrier",
        "wrap_fn",
        "wrap_fn, carrier",
        "wrap_fn_mut",
        "wrap_fn_mut, carrier",
        "isolated_fn_in",
        "isolated_fn_in, carrier",
        "future",
        "future, carrier",
        "imap",
        "imap, carrier",
        "caller helps",
        "caller helps, carrier",
    ];
    let name = "exits::what_a_thread_local_owns_may_end_before_the_task_that_exits";
    exits_in_a_process_of_its_own(name, &cases, |case| {
        // Whatever was used last ends first: what is kept, then what asks, then the slots.
        USER.set(INHERITED.into());
        AT_EXIT.set(Some(AtExit));
        KEPT.set(Some(kept(case)));
        USER.set("the thread's own".into());
        KEPT.with_borrow_mut(|kept| kept.as_mut().unwrap()());
    });
}

// Without a drop it has no entry of its own by which it would be found again.
#[test]
fn a_task_keeps_its_plain_value_while_one_on_top_of_it_ends_with_the_process() {
    task_local! {
        static NUMBER: u32 = 0;
        static BELOW: Option<OnDrop> = None;
        static ON_TOP: Option<OnDrop> = None;
    }
    let name = "exits::a_task_keeps_its_plain_value_while_one_on_top_of_it_ends_with_the_process";
    exits_in_a_process_of_its_own(name, &["exit"], |_| {
        let found = |wanted: u32| {
            let found = NUMBER.replace(9);
            if found != wanted {
                eprintln!("{found} instead of {wanted}");
                std::process::abort();
            }
        };
        Context::empty().run(|| {
            NUMBER.set(7);
            BELOW.set(Some(OnDrop::new(move || found(7))));
            Context::empty().run(|| {
                ON_TOP.set(Some(OnDrop::new(move || found(0))));
                exit()
            });
        });
    });
}
