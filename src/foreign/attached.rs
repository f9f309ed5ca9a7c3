//! What is attached on this thread: the lists of the contexts whose tasks run on it, one on top of
//! the other.
//!
//! # Invariants
//!
//! - **C1 (lexical).** `INNERMOST` and each level's `outer` are null, or point to a level on this
//!   thread's stack whose call of [`noted`] has not returned. That call borrows the level's list.

#![expect(unsafe_code, reason = "levels are found through pointers into the stack")]

use std::cell::Cell;
use std::ptr::null;

use super::carried::Carried;

struct Level {
    carriers: *const [Carried],
    outer: *const Level,
}

thread_local! {
    static INNERMOST: Cell<*const Level> = const { Cell::new(null()) };
}

/// Takes the innermost level away, also when the call unwinds.
struct Leave {
    outer: *const Level,
}

impl Drop for Leave {
    #[inline]
    fn drop(&mut self) {
        INNERMOST.set(self.outer);
    }
}

/// Calls `f`, which attaches `carriers`; meanwhile [`on_this_thread`] finds them.
#[inline]
pub(super) fn noted<R>(carriers: &[Carried], f: impl FnOnce() -> R) -> R {
    let level = Level { carriers, outer: INNERMOST.get() };
    let _leave = Leave { outer: level.outer };
    INNERMOST.set(&raw const level);
    f()
}

/// Returns the carriers that are attached on this thread, the outermost first.
pub(super) fn on_this_thread() -> Vec<Carried> {
    let mut all = Vec::new();
    let mut next = INNERMOST.get();
    while !next.is_null() {
        // SAFETY: C1: a level whose call lasts, on this thread's stack; nobody changes it.
        let level = unsafe { &*next };
        // SAFETY: C1: that call borrows the list.
        let carriers = unsafe { &*level.carriers };
        all.extend(carriers.iter().rev().cloned());
        next = level.outer;
    }
    all.reverse();
    all
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::foreign::carried::attach_around;
    use crate::foreign::{BoxError, Carrier, attach_nothing_around, share};

    thread_local! {
        static USER: Cell<&'static str> = const { Cell::new("nobody") };
        static LEVEL: Cell<u8> = const { Cell::new(0) };
    }

    /// Carries the user; nobody in particular is `system`.
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
        fn nothing(&self) -> Option<&'static str> {
            match USER.get() {
                "mallory" => panic!("nothing, on purpose"),
                _ => Some("system"),
            }
        }
    }

    /// Cannot say what nothing is.
    struct Level;

    impl Carrier for Level {
        type Captured = u8;
        type Attached = u8;
        fn name(&self) -> &str {
            "level"
        }
        fn capture(&self) -> Result<u8, BoxError> {
            Ok(LEVEL.get())
        }
        fn attach(&self, level: &u8) -> Result<u8, BoxError> {
            Ok(LEVEL.replace(*level))
        }
        fn detach(&self, before: u8) -> Result<(), BoxError> {
            LEVEL.set(before);
            Ok(())
        }
    }

    fn carried(carrier: impl Carrier) -> Carried {
        share(carrier).capture().unwrap()
    }

    fn nothing_attached() -> (&'static str, u8) {
        let mut seen = None;
        let failed = attach_nothing_around(&mut || seen = Some((USER.get(), LEVEL.get())));
        assert!(failed.is_none(), "{failed:?}");
        seen.unwrap()
    }

    #[test]
    fn what_is_attached_at_any_depth_is_hidden_from_code_that_runs_for_nobody() {
        assert_eq!(nothing_attached(), ("nobody", 0), "no carrier, no change");
        USER.set("alice");
        LEVEL.set(3);
        let alice = [carried(User), carried(Level)];
        USER.set("bob");
        let bob = [carried(User)];
        attach_around(&alice, &mut || {
            assert_eq!(nothing_attached(), ("system", 3));
            attach_around(&bob, &mut || {
                assert_eq!(on_this_thread().len(), 3);
                assert_eq!(nothing_attached(), ("system", 3));
                assert_eq!(USER.get(), "bob");
            });
            let caught = crate::panic::catch(|| noted(&bob, || panic!("on purpose")));
            assert!(caught.is_err());
            assert_eq!(on_this_thread().len(), 2, "unwinding takes it away, too");
        });
        assert_eq!((nothing_attached(), on_this_thread().len()), (("bob", 3), 0));
    }

    #[test]
    fn a_carrier_that_cannot_say_what_nothing_is_keeps_the_code_from_running() {
        USER.set("mallory");
        let list = [carried(User)];
        attach_around(&list, &mut || {
            let failed = attach_nothing_around(&mut || unreachable!());
            let error = failed.expect("it panics").to_string();
            assert!(error.contains("carrier `user` panicked to say what nothing is"), "{error}");
        });
    }
}
