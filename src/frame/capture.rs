//! What a task hands down: capturing it, and finding it in the task that inherits.

#![expect(
    unsafe_code,
    reason = "reaches the innermost frame's snapshot by pointer, and the captures unguarded"
)]

use std::sync::Arc;

use super::snapshot::{Borrowed, Inheritance, Item, Items, Snapshot};
use super::task::{check_order, discard, forget_capture};
use super::thread::{self, CAPTURED, DIVERGED, ONE_DEEPER, Thread};
use super::thread_end::register;

/// Returns what the innermost frame's tasks inherit, for a call that is made in this frame.
fn inherited_by(thread: &Thread) -> Option<&Arc<Snapshot>> {
    // SAFETY: S3: alive while the frame is open. The callers use it in one call, and it is `Lent`
    // to the user code that they run, which therefore ends before the frame does (S1).
    unsafe { thread.inherits.get().as_ref() }
}

/// Counts as a frame on top while user code runs with what the innermost frame's tasks inherit. If
/// a coroutine is suspended in that code, the end of the frame notices it (S1). So does the drop of
/// this if another coroutine is suspended on top.
struct Lent<'t> {
    thread: &'t Thread,
    flags: u32,
}

impl<'t> Lent<'t> {
    fn new(thread: &'t Thread) -> Self {
        let flags = thread.flags.get().wrapping_add(ONE_DEEPER);
        thread.flags.set(flags);
        Self { thread, flags }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        check_order(self.thread, self.flags);
        self.thread.flags.set(self.thread.flags.get().wrapping_sub(ONE_DEEPER));
    }
}

/// Calls `f`, which may be user code, with what the current task inherits for this slot.
pub(crate) fn with_inherited<R>(
    thread: &Thread,
    slot: &dyn Inheritance,
    f: impl FnOnce(&Item) -> R,
) -> Option<R> {
    let item = inherited_by(thread)?.find(slot)?;
    let _lent = Lent::new(thread);
    Some(f(item))
}

/// Returns whether the current task inherits something for this slot.
pub(crate) fn inherits(thread: &Thread, slot: &dyn Inheritance) -> bool {
    inherited_by(thread).is_some_and(|snapshot| snapshot.find(slot).is_some())
}

/// Notes that an inheritable slot no longer holds what the task's snapshot or its last capture
/// says.
// A call, so that what is done for most slots, which are not inheritable, stays short enough to be
// inlined.
#[inline(never)]
pub(crate) fn diverge(thread: &Thread) {
    thread.leave(DIVERGED);
    thread.changes.set(thread.changes.get().wrapping_add(1));
    forget_capture(thread);
}

/// Returns what the current task would hand down, if a look is enough to tell: nothing inheritable
/// has changed since the last [`capture`], or ever. Runs no user code.
#[inline]
pub(crate) fn unchanged() -> Option<Option<Arc<Snapshot>>> {
    let thread = thread::current();
    let flags = thread.flags.get();
    if flags & CAPTURED != 0 {
        // Unguarded: counting the borrow takes two stores, for which the locked instruction would
        // wait.
        // SAFETY: T3: nobody else borrows the captures while this looks at the last one.
        let captures = unsafe { thread.captures.try_borrow_unguarded() };
        return captures.ok().map(|captures| captures.last().cloned());
    }
    if flags & DIVERGED == 0 && thread.inherits.get().is_null() { Some(None) } else { None }
}

/// Captures what the current task would hand down, if there is anything. This is O(1) if nothing
/// inheritable has changed since the last time, otherwise O(inheritable slots that this thread has
/// ever touched) times those that the task inherits.
///
/// It runs user code: `Clone`, and the functions of slots that derive.
pub(crate) fn capture() -> Result<Option<Arc<Snapshot>>, Borrowed> {
    if let Some(snapshot) = unchanged() {
        return Ok(snapshot);
    }
    let thread = thread::current();
    let parent = inherited_by(thread);
    let has_diverged = thread.flags.get() & DIVERGED != 0;
    if !has_diverged && !parent.is_some_and(|parent| parent.derives()) {
        return Ok(parent.cloned());
    }
    let (snapshot, is_current) = match parent {
        None => rebuild(thread, &[]),
        Some(parent) => {
            let _lent = Lent::new(thread);
            rebuild(thread, parent.items())
        }
    }?;
    // A copy is user code: it may have made a capture, which is dropped in favour of this one.
    forget_capture(thread);
    if let Some(snapshot) = snapshot.as_ref().filter(|_| is_current) {
        if register(thread).is_ok() {
            thread.keep_capture(Arc::clone(snapshot));
        }
    }
    Ok(snapshot)
}

/// Copies what the current task holds, and shares what it has `inherited` and not touched. Also
/// returns whether a later capture would give the same: making a copy may have changed a slot.
#[cold]
fn rebuild(thread: &Thread, inherited: &[Item]) -> Result<(Option<Arc<Snapshot>>, bool), Borrowed> {
    let derived = || inherited.iter().map(|item| item.slot).filter(|slot| slot.derives());
    derived().for_each(Inheritance::materialise);
    // If a value is not made, this runs in the code that makes it: the capture then has what it is
    // made of.
    let are_all_made = derived().all(Inheritance::is_touched);
    let changes = thread.changes.get();
    let mut items = Items::default();
    let mut touched: Vec<&'static dyn Inheritance> = Vec::new();
    for slot in thread.inheritable() {
        if slot.is_touched() {
            // Needed only for the lookup below.
            if !inherited.is_empty() {
                touched.push(slot);
            }
            match slot.copy_current() {
                Ok(None) => {}
                Ok(Some(copied)) => items.push(Item { slot, copied, is_given: false }),
                Err(borrowed) => {
                    discard(items);
                    return Err(borrowed);
                }
            }
        }
    }
    for item in inherited {
        if !touched.iter().any(|slot| item.is_of(*slot)) {
            items.push(item.clone());
        }
    }
    Ok((Snapshot::new(items), are_all_made && thread.changes.get() == changes))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::panic::catch;
    use crate::{Context, task_local};

    fn depth() -> u32 {
        thread::current().depth()
    }

    /// Knows how deep it was made.
    struct Deep(u32);

    impl Clone for Deep {
        fn clone(&self) -> Self {
            Self(depth())
        }
    }

    task_local! {
        #[inherit]
        static CLONED: Deep = Deep(0);
        #[inherit(with = |_| Deep(depth()))]
        static DERIVED: Deep = Deep(0);
        #[inherit(with = |_| panic!("on purpose"))]
        static FAILS: Deep = Deep(0);
    }

    // Broke: a coroutine that was suspended in a clone went on with it after its original was gone.
    #[test]
    fn what_is_made_of_what_a_frame_inherits_counts_as_a_frame_on_top() {
        let context = Context::empty().run(|| {
            CLONED.set(Deep(0));
            DERIVED.set(Deep(0));
            FAILS.set(Deep(0));
            Context::capture()
        });
        context.run(|| {
            let own = depth();
            assert!(CLONED.with(|deep| deep.0) > own);
            assert!(DERIVED.with(|deep| deep.0) > own);
            assert!(catch(|| FAILS.with(|_| ())).is_err());
            assert_eq!(depth(), own);
            FAILS.set(Deep(0));
            CLONED.set(Deep(0));
            let copied = capture().unwrap().unwrap();
            let copies = copied.items().iter().filter_map(|item| {
                item.copied.downcast_ref::<crate::frame::Alone<Deep>>().map(|deep| deep.0)
            });
            assert!(copies.eq([own + ONE_DEEPER; 3]));
            assert_eq!(depth(), own);
        });
    }
}
