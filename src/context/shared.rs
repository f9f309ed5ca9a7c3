//! A reference-counted pointer whose counts one thread can pay for in advance.
//!
//! A submitter takes a count of the same snapshot at every `submit`. With [`Arc`](std::sync::Arc) each of
//! them is an atomic addition, which costs as much as the rest of a capture together. Here the thread
//! that made the value has a [`Purse`] of counts, bought a thousand at a time, and hands them out with a
//! subtraction of its own. Whoever gets one gives it back as to an `Arc`.
//!
//! # Invariants
//!
//! - **K1 (counted).** `count` is the number of `Shared`s, plus `1 + left` while there is a purse. The
//!   value is freed by whoever takes the count to zero.
//! - **K2 (one purse).** A value has at most one purse, which is made with it and stays on its thread. So
//!   `left` is used by one thread only.

#![expect(unsafe_code, reason = "a counted pointer")]

use std::cell::Cell;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::process::abort;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering, fence};

/// Counts that a purse buys at a time.
const BATCH: usize = 1024;

struct Inner<T> {
    count: AtomicUsize,
    /// What the purse has left to hand out (K2).
    left: Cell<usize>,
    value: T,
}

impl<T> Inner<T> {
    fn add(&self, counts: usize) {
        // Relaxed: whoever adds has a count already, so nothing can be freed meanwhile.
        if self.count.fetch_add(counts, Ordering::Relaxed) > isize::MAX as usize {
            // As `Arc` does: only a program that forgets counts gets here, and the count must not wrap.
            abort();
        }
    }
}

/// One count of a value that is shared between threads.
pub(crate) struct Shared<T> {
    inner: NonNull<Inner<T>>,
    owns: PhantomData<Inner<T>>,
}

// SAFETY: as for `Arc`; `left` is used by the purse only, which stays on its thread (K2).
unsafe impl<T: Send + Sync> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// Shares a value. The purse is for the calling thread.
    pub(crate) fn new(value: T) -> (Self, Purse<T>) {
        let inner = Inner { count: AtomicUsize::new(2), left: Cell::new(0), value };
        let inner = NonNull::from(Box::leak(Box::new(inner)));
        (Self { inner, owns: PhantomData }, Purse { inner, owns: PhantomData })
    }

    /// The value's address as one word, without a count.
    #[inline]
    pub(crate) fn as_raw(this: &Self) -> *const () {
        this.inner.as_ptr().cast_const().cast()
    }

    /// The value's address, with the count.
    pub(crate) fn into_raw(this: Self) -> *const () {
        Self::as_raw(&ManuallyDrop::new(this))
    }

    /// The count that [`into_raw`](Self::into_raw) gave.
    ///
    /// # Safety
    ///
    /// - `raw` comes from this type, with a count that the caller gives up.
    #[inline]
    pub(crate) unsafe fn from_raw(raw: *const ()) -> Self {
        // SAFETY: it came from a `NonNull`.
        let inner = unsafe { NonNull::new_unchecked(raw.cast_mut().cast()) };
        Self { inner, owns: PhantomData }
    }

    /// A look at a value through its address.
    ///
    /// # Safety
    ///
    /// - `raw` comes from this type, and somebody keeps a count of it while the result is used.
    #[inline]
    pub(crate) unsafe fn borrow_raw(raw: *const ()) -> ManuallyDrop<Self> {
        // SAFETY: the caller's; the count is not given up, since the result is never dropped.
        ManuallyDrop::new(unsafe { Self::from_raw(raw) })
    }

    /// The value, if this was the last count.
    pub(crate) fn into_inner(this: Self) -> Option<T> {
        let this = ManuallyDrop::new(this);
        // SAFETY: this is a count, which is given up here.
        let last = unsafe { give_up(this.inner, 1) };
        // SAFETY: as `give_up` says.
        last.then(|| unsafe { take(this.inner) })
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: K1: alive while there is a count, and this is one.
        &unsafe { self.inner.as_ref() }.value
    }
}

impl<T> Clone for Shared<T> {
    #[inline]
    fn clone(&self) -> Self {
        // SAFETY: K1: alive while there is a count, and this is one.
        unsafe { self.inner.as_ref() }.add(1);
        Self { ..*self }
    }
}

impl<T> Drop for Shared<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: this is a count, which is given up here.
        if unsafe { give_up(self.inner, 1) } {
            // SAFETY: as `give_up` says.
            drop(unsafe { take(self.inner) });
        }
    }
}

/// Hands out counts of a value without an atomic operation, on one thread.
pub(crate) struct Purse<T> {
    inner: NonNull<Inner<T>>,
    /// It stays on its thread (K2).
    owns: PhantomData<*const Inner<T>>,
}

impl<T> Purse<T> {
    /// One count of the value.
    #[inline]
    pub(crate) fn draw(&self) -> Shared<T> {
        // SAFETY: K1: alive while there is a purse.
        let inner = unsafe { self.inner.as_ref() };
        if inner.left.get() == 0 {
            self.fill();
        }
        inner.left.set(inner.left.get() - 1);
        Shared { inner: self.inner, owns: PhantomData }
    }

    #[cold]
    fn fill(&self) {
        // SAFETY: K1: alive while there is a purse.
        let inner = unsafe { self.inner.as_ref() };
        inner.add(BATCH);
        inner.left.set(BATCH);
    }

    /// The value, if nobody else has a count.
    pub(crate) fn into_inner(this: Self) -> Option<T> {
        let this = ManuallyDrop::new(this);
        // SAFETY: K1: alive while there is a purse.
        let counts = 1 + unsafe { this.inner.as_ref() }.left.replace(0);
        // SAFETY: K1: these are the purse's counts, and the purse ends here.
        let last = unsafe { give_up(this.inner, counts) };
        // SAFETY: as `give_up` says.
        last.then(|| unsafe { take(this.inner) })
    }
}

impl<T> Drop for Purse<T> {
    fn drop(&mut self) {
        // SAFETY: the purse is not used afterwards.
        drop(Self::into_inner(unsafe { std::ptr::read(self) }));
    }
}

/// Gives up counts, and says whether they were the last: then the value is the caller's, see [`take`].
///
/// # Safety
///
/// - The caller owns these counts (K1), and does not use `inner` afterwards unless they were the last.
#[inline]
unsafe fn give_up<T>(inner: NonNull<Inner<T>>, counts: usize) -> bool {
    // Release, and Acquire for the last one: what anybody did with the value happens before it is freed.
    // SAFETY: the caller's counts keep it alive up to here.
    let last = unsafe { inner.as_ref() }.count.fetch_sub(counts, Ordering::Release) == counts;
    if last {
        fence(Ordering::Acquire);
    }
    last
}

/// The value of which the last count was given up.
///
/// # Safety
///
/// - [`give_up`] has just said so to the caller.
#[cold]
#[inline(never)]
unsafe fn take<T>(inner: NonNull<Inner<T>>) -> T {
    // SAFETY: nobody has a count any more (K1); it came from a `Box`.
    let inner = unsafe { Box::from_raw(inner.as_ptr()) };
    inner.value
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;

    /// A value that is counted by its `Arc`s.
    fn value() -> (Arc<u32>, Shared<Arc<u32>>, Purse<Arc<u32>>) {
        let counted = Arc::new(7);
        let (shared, purse) = Shared::new(Arc::clone(&counted));
        (counted, shared, purse)
    }

    fn is_alive(counted: &Arc<u32>) -> bool {
        Arc::strong_count(counted) == 2
    }

    #[test]
    fn it_ends_with_the_last_count_whoever_has_it() {
        let (counted, shared, purse) = value();
        let drawn: Vec<_> = (0..3 * BATCH + 5).map(|_| purse.draw()).collect();
        drop(purse);
        drop(shared);
        assert!(is_alive(&counted));
        let last = drawn[0].clone();
        drop(drawn);
        assert!(is_alive(&counted) && **last == 7);
        drop(last);
        assert!(!is_alive(&counted));

        let (counted, shared, purse) = value();
        drop(purse.draw());
        drop(shared);
        assert!(is_alive(&counted), "the purse keeps it");
        assert_eq!(Purse::into_inner(purse).as_deref(), Some(&7));
        assert!(!is_alive(&counted));

        let (counted, shared, purse) = value();
        assert!(Purse::into_inner(purse).is_none());
        assert!(is_alive(&counted));
        assert_eq!(Shared::into_inner(shared).as_deref(), Some(&7));
        assert!(!is_alive(&counted));
    }

    #[test]
    fn words_keep_their_counts() {
        let (counted, shared, purse) = value();
        let drawn = purse.draw();
        let word = Shared::into_raw(shared);
        assert_eq!(word, Shared::as_raw(&drawn), "one address");
        drop((purse, drawn));
        // SAFETY: the word has a count.
        assert_eq!(***unsafe { Shared::<Arc<u32>>::borrow_raw(word) }, 7);
        assert!(is_alive(&counted));
        // SAFETY: the word is given up here.
        drop(unsafe { Shared::<Arc<u32>>::from_raw(word) });
        assert!(!is_alive(&counted));
    }

    #[test]
    fn counts_may_be_given_up_by_any_thread_while_others_are_drawn() {
        for round in 0..20 {
            let (counted, shared, purse) = value();
            let (send, receive) = crossbeam_channel::unbounded::<Shared<Arc<u32>>>();
            thread::scope(|s| {
                for _ in 0..2 {
                    let receive = receive.clone();
                    s.spawn(move || receive.into_iter().filter(|it| ***it == 7).count());
                }
                for _ in 0..BATCH + round {
                    send.send(purse.draw()).unwrap();
                }
                drop((send, purse, shared));
            });
            assert!(!is_alive(&counted));
        }
    }
}
