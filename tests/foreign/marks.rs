//! Carriers' code and what is not: what tasks hand down where carriers submit, wait, or run a task
//! in a context of their own.

use std::cell::Cell;
use std::sync::{Arc, Mutex, mpsc};

use cleanslate::foreign::{BoxError, Carrier, Scoped, ScopedCarrier, adopt};
use cleanslate::{Context, Pool, task_local};

use crate::support::Inert;

thread_local! {
    static USER: Cell<&'static str> = const { Cell::new("nobody") };
    static KEY: Cell<u8> = const { Cell::new(0) };
}

struct User;

impl Carrier for User {
    type Captured = &'static str;
    type Attached = &'static str;

    fn name(&self) -> &str {
        "user"
    }

    fn capture(&self) -> Result<&'static str, BoxError> {
        Ok(USER.get())
    }

    fn attach(&self, user: &&'static str) -> Result<&'static str, BoxError> {
        Ok(USER.replace(user))
    }

    fn detach(&self, before: &'static str) -> Result<(), BoxError> {
        USER.set(before);
        Ok(())
    }
}

/// Runs each task in a context.
struct Within(Context);

impl ScopedCarrier for Within {
    type Captured = ();

    fn name(&self) -> &str {
        "within"
    }

    fn capture(&self) -> Result<(), BoxError> {
        Ok(())
    }

    fn around<R>(&self, (): &(), body: impl FnOnce() -> R) -> Result<R, BoxError> {
        Ok(self.0.run(body))
    }
}

/// Submits a task, waits in a way in which nobody runs it on this thread, and returns what it saw.
fn seen_by_another(pool: &Pool) -> &'static str {
    let (tell, told) = mpsc::channel();
    drop(pool.submit(move || tell.send(USER.get())));
    told.recv().unwrap()
}

// Broke: inside of a scoped carrier that had called its body in a context with carriers, the task
// counted as the carrier's code, and what it submitted lost the other carriers.
#[test]
fn a_task_in_a_context_of_a_carrier_is_no_carriers_code() {
    for inner in [Context::empty(), Context::empty().carry(adopt(&KEY))] {
        for workers in [2, 5] {
            let pool = Pool::builder().workers(workers).carry(User);
            let pool = pool.carry(Scoped(Within(inner.clone()))).build().unwrap();
            let again = pool.clone();
            USER.set("alice");
            let seen = pool.submit(move || (USER.get(), seen_by_another(&again))).join().unwrap();
            assert_eq!(seen, ("alice", "alice"));
        }
    }
}

task_local! {
    #[inherit]
    static TENANT: u8 = 0;
}

// The carriers' frame is untouched, but it is not the innermost: the task needs one of its own.
#[test]
fn a_task_in_a_context_of_a_carrier_inherits_from_its_own() {
    let tenant = |id| Context::empty().run(|| TENANT.scope(id, Context::capture));
    for inner in [Context::empty(), tenant(9)] {
        let context = tenant(7).carry(Scoped(Within(inner)));
        for _ in 0..2 {
            assert_eq!(context.run(|| TENANT.replace(8)), 7);
        }
        for workers in [1, 2] {
            let pool = Pool::new(workers).unwrap().in_context(&context);
            assert_eq!(pool.submit(|| TENANT.replace(8)).join().unwrap(), 7);
            assert_eq!(pool.map(0..9, |_| TENANT.replace(8)), [7; 9]);
        }
    }
    assert!(!TENANT.is_set());
}

/// Waits for a task of the first pool, which submits one to the second.
struct Joins {
    first: Pool,
    second: Pool,
    seen: Arc<Mutex<Vec<&'static str>>>,
}

impl Carrier for Joins {
    type Captured = u8;
    type Attached = ();

    fn name(&self) -> &str {
        "joins"
    }

    fn capture(&self) -> Result<u8, BoxError> {
        let (second, seen) = (self.second.clone(), Arc::clone(&self.seen));
        let task = move || {
            let before = USER.replace("bob");
            let theirs = seen_by_another(&second);
            USER.set(before);
            seen.lock().unwrap().push(theirs);
        };
        self.first.map([()], |()| task());
        self.first.submit(task).join()?;
        Ok(1)
    }

    fn attach(&self, _: &u8) -> Result<(), BoxError> {
        Ok(())
    }

    fn detach(&self, (): ()) -> Result<(), BoxError> {
        Ok(())
    }
}

// Broke: a task that ran on top of a waiting carrier counted as the carrier's code, so what it
// handed down depended on who ran it.
#[test]
fn a_task_on_top_of_a_carrier_is_no_carriers_code() {
    let first = Pool::new(1).unwrap();
    let second = Pool::builder().workers(1).carry(User).build().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let joins = Joins { first: first.clone(), second, seen: Arc::clone(&seen) };
    let pool = Pool::builder().workers(1).carry(joins).build().unwrap();
    pool.submit(|| ()).join().unwrap();
    // The worker is busy, so whoever waits in a task runs it.
    let (go, gate) = mpsc::channel::<()>();
    let busy = first.submit(move || gate.recv());
    let again = pool.clone();
    let (tell, told) = mpsc::channel();
    let other = Pool::new(1).unwrap();
    let waits = other.submit(move || {
        again.submit(|| ()).join().unwrap();
        tell.send(()).unwrap();
    });
    told.recv().unwrap();
    go.send(()).unwrap();
    waits.join().unwrap();
    busy.join().unwrap().unwrap();
    assert_eq!(*seen.lock().unwrap(), ["bob"; 4]);
}

// Broke: a carrier that went with the last context found the slots of the task that had it, and
// left its own there.
#[test]
fn a_carrier_is_dropped_in_no_task_of_others() {
    task_local! { static AROUND: u32 = 0; }

    struct Tells(Arc<Mutex<Vec<u32>>>);

    impl Drop for Tells {
        fn drop(&mut self) {
            self.0.lock().unwrap().push(AROUND.replace(9));
        }
    }

    let seen = Arc::new(Mutex::new(Vec::new()));
    let wrapped = Context::empty().carry(Inert(Tells(Arc::clone(&seen)))).wrap(|| ());
    let left = Context::empty().run(|| {
        AROUND.set(7);
        drop(wrapped);
        AROUND.get()
    });
    assert_eq!((left, &*seen.lock().unwrap()), (7, &vec![0]));
}
