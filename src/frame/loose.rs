//! A frame whose owner can be moved, dropped late or forgotten.
//!
//! The owner says where one task ends and the next begins. It need not know what has become of the
//! frame meanwhile: if it was closed with one below it, or lies buried under a pinned one or under a
//! clean-up, the next task gets a new frame.

use std::cell::Cell;
use std::fmt;

use super::cell::NEVER;
use super::failure::CleanupError;
use super::stack::Token;
use super::thread::{self, TOUCHED, TRAILED, Thread};
use crate::context::Context;

/// A loose frame, or none yet.
///
/// Dropping it ends its task. If that fails the drop panics with the clean-up's payload, unless the
/// thread is unwinding already.
pub(crate) struct Loose {
    token: Cell<Token>,
    /// The epoch of the frame's task. While it is the thread's, the frame is the innermost one.
    epoch: Cell<u64>,
}

impl Loose {
    /// A frame that is opened by the first task.
    pub(crate) const fn new() -> Self {
        Self { token: Cell::new(Token::dead()), epoch: Cell::new(NEVER) }
    }

    /// Ends the task and begins the next one. Costs two loads and two comparisons if the task touched
    /// nothing.
    ///
    /// The next task has begun also when this says that the clean-up of the last one failed.
    #[inline]
    pub(crate) fn next_task(&self, context: &Context) -> Result<(), CleanupError> {
        thread::with(|thread| {
            let innermost = thread.epoch.get() == self.epoch.get();
            if innermost && thread.flags.get() & (TOUCHED | TRAILED) == 0 {
                return Ok(());
            }
            self.turn(thread, context)
        })
    }

    #[cold]
    fn turn(&self, thread: &Thread, context: &Context) -> Result<(), CleanupError> {
        let token = self.token.get();
        let ended = token.next_task(thread);
        // In any case: a drop may have begun a task here too, and got a frame that is gone by now.
        self.token.set(match ended {
            Some(_) => token,
            None => Token::open_loose(thread, context),
        });
        self.epoch.set(thread.epoch.get());
        ended.unwrap_or(Ok(()))
    }

    /// Ends the task, if one has begun. The frame stays, or is closed, as is cheaper.
    #[inline]
    pub(crate) fn end_task(&self) -> Result<(), CleanupError> {
        thread::with(|thread| {
            let innermost = thread.epoch.get() == self.epoch.get();
            if innermost && thread.flags.get() & (TOUCHED | TRAILED) == 0 {
                return Ok(());
            }
            self.close_on(thread)
        })
    }

    /// Ends the task and closes the frame.
    pub(crate) fn close(self) -> Result<(), CleanupError> {
        thread::with(|thread| self.close_on(thread))
    }

    fn close_on(&self, thread: &Thread) -> Result<(), CleanupError> {
        self.epoch.set(NEVER);
        self.token.get().close(thread)
    }
}

impl Drop for Loose {
    fn drop(&mut self) {
        if let Err(error) = thread::with(|thread| self.close_on(thread)) {
            let payload = error.to_panic();
            payload.resume_unless_panicking();
        }
    }
}

impl fmt::Debug for Loose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loose")
            .field("is_open", &(self.epoch.get() != NEVER))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame;

    crate::task_local! { static SLOT: Option<Again> = None; }

    /// Sets its slot again when it is dropped, in a loose frame that it leaves behind.
    struct Again;

    /// Where the leaked value is, so that a leak checker finds a pointer to it.
    static LAST: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

    static DROPS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

    impl Drop for Again {
        fn drop(&mut self) {
            DROPS.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let left = std::mem::ManuallyDrop::new(Loose::new());
            assert!(left.next_task(&Context::empty()).is_ok());
            SLOT.set(Some(Self));
            let last = SLOT.with(|value| std::ptr::from_ref(value).addr());
            LAST.store(last, std::sync::atomic::Ordering::SeqCst);
        }
    }

    // Broke: each loose frame began a new count of rounds, so only the limit on all drops ended it.
    #[test]
    fn a_drop_that_leaves_a_loose_frame_behind_comes_to_an_end() {
        let before = frame::leaked_values();
        let ended = frame::run(&Context::empty(), || SLOT.set(Some(Again)));
        let Err(frame::Failure::Cleanup(error)) = ended else { panic!("it ended well") };
        assert!(error.to_string().contains("SLOT"), "{error}");
        assert_eq!(frame::leaked_values() - before, error.leaked() as u64);
        let rounds = DROPS.load(std::sync::atomic::Ordering::SeqCst);
        assert!(rounds < 100, "{rounds} rounds");
        assert!(!SLOT.is_set());
    }

    crate::task_local! {
        static ONCE: Option<LeavesOne> = None;
        static PLAIN: u64 = 0;
    }

    /// Leaves a loose frame with a value behind when it is dropped.
    struct LeavesOne;

    impl Drop for LeavesOne {
        fn drop(&mut self) {
            let left = std::mem::ManuallyDrop::new(Loose::new());
            assert!(left.next_task(&Context::empty()).is_ok());
            PLAIN.set(1);
        }
    }

    // Broke: what one task's drop left behind made the next ones of the same frame start as a link in its
    // chain, so that after some rounds healthy values passed for recurring ones.
    #[test]
    fn what_a_drop_leaves_behind_is_no_matter_of_the_next_tasks() {
        let context = Context::empty();
        let mut frame = frame::Frame::enter(&context);
        let loose = Loose::new();
        for _ in 0..20 {
            ONCE.set(Some(LeavesOne));
            assert!(frame.next_task().is_ok());
            PLAIN.set(2);
            assert!(frame.next_task().is_ok());
            assert!(!PLAIN.is_set());
        }
        for _ in 0..20 {
            assert!(loose.next_task(&context).is_ok());
            ONCE.set(Some(LeavesOne));
            assert!(loose.next_task(&context).is_ok());
            PLAIN.set(2);
        }
        assert!(loose.close().is_ok() && frame.end().is_ok());
    }

    thread_local! { static SHARED: Loose = const { Loose::new() }; }

    crate::task_local! { static ENDS: Option<EndsItsFrame> = None; }

    /// When it is dropped it ends the frame of `SHARED`, so the very one that drops it, or its task, and
    /// leaves another one behind.
    struct EndsItsFrame {
        begins: bool,
    }

    impl Drop for EndsItsFrame {
        fn drop(&mut self) {
            if self.begins {
                assert!(SHARED.with(|shared| shared.next_task(&Context::empty())).is_ok());
                PLAIN.set(3);
            } else {
                assert!(SHARED.with(Loose::end_task).is_ok());
            }
            let left = std::mem::ManuallyDrop::new(Loose::new());
            assert!(left.next_task(&Context::empty()).is_ok());
        }
    }

    // Broke: the next task began in a frame that was not its own, and stayed when it ended.
    #[test]
    fn a_frame_that_its_own_clean_up_ends_goes_on() {
        let context = Context::empty();
        let around = frame::Frame::enter(&context);
        PLAIN.set(1);
        let frame = frame::Frame::enter(&context);
        for begins in [false, true, false, true] {
            assert!(SHARED.with(|shared| shared.next_task(&context)).is_ok());
            ENDS.set(Some(EndsItsFrame { begins }));
            assert!(SHARED.with(|shared| shared.next_task(&context)).is_ok());
            assert!(!PLAIN.is_set());
            PLAIN.set(2);
            assert!(SHARED.with(Loose::end_task).is_ok());
            assert!(!PLAIN.is_set());
        }
        assert!(frame.end().is_ok());
        assert_eq!(PLAIN.get(), 1);
        assert!(around.end().is_ok());
    }

    crate::task_local! {
        #[inherit]
        static TENANT: Option<std::sync::Arc<()>> = None;
        static RUNS: Option<RunsATask> = None;
    }

    /// Runs a task when it is dropped.
    struct RunsATask;

    impl Drop for RunsATask {
        fn drop(&mut self) {
            Context::empty().run(|| PLAIN.set(4));
        }
    }

    // Broke: the task on top of the clean-up closed the frame as well, and the one below passed for it.
    #[test]
    fn a_marked_frame_is_not_closed_by_what_its_clean_up_runs() {
        let tenant = std::sync::Arc::new(());
        TENANT.set(Some(std::sync::Arc::clone(&tenant)));
        let (context, empty) = (Context::capture(), Context::empty());
        TENANT.set(None);
        let lowest = Loose::new();
        assert!(lowest.next_task(&empty).is_ok());
        PLAIN.set(1);
        let pinned = frame::Frame::enter(&context);
        PLAIN.set(2);
        let marked = Loose::new();
        assert!(marked.next_task(&empty).is_ok());
        RUNS.set(Some(RunsATask));
        let pinned_above = frame::Frame::enter(&empty);
        assert!(marked.close().is_ok());
        assert!(pinned_above.end().is_ok());
        let depth = thread::with(Thread::depth);
        assert_eq!(
            (depth, PLAIN.get(), TENANT.get().is_some()),
            (2, 2, true),
            "the pinned frame's"
        );
        assert!(pinned.end().is_ok());
        assert_eq!(PLAIN.get(), 1, "the lowest frame's");
        assert!(lowest.close().is_ok());
        assert_eq!(thread::with(Thread::depth), 0);
        drop(context);
        assert_eq!(std::sync::Arc::strong_count(&tenant), 1);
    }

    crate::task_local! {
        #[inherit]
        static LOOKS: Option<std::sync::Arc<Looks>> = None;
    }

    /// Notes whether slots can be used when it is dropped.
    struct Looks;

    static LOOKED: std::sync::Mutex<Vec<bool>> = std::sync::Mutex::new(Vec::new());

    impl Drop for Looks {
        fn drop(&mut self) {
            LOOKED.lock().unwrap().push(PLAIN.try_with(|_| ()).is_ok());
        }
    }

    // Broke: a thread's own capture was not given up while its slots ended, if a value's drop left a frame
    // behind then.
    #[test]
    fn a_capture_ends_with_its_threads_slots_whatever_frames_are_left() {
        std::thread::scope(|s| {
            let thread = s.spawn(|| {
                LOOKS.set(Some(std::sync::Arc::new(Looks)));
                drop(Context::capture());
                // Dropped first, so a loose frame is the innermost when the other one's turn comes.
                ONCE.set(Some(LeavesOne));
            });
            // Its thread-locals have ended then, too.
            assert!(thread.join().is_ok());
        });
        assert_eq!(*LOOKED.lock().unwrap(), [true]);
    }

    // Broke: the count of the pinned frame's context, which is only borrowed, was given up for the loose
    // frame's. So ends a thread from within whose tasks the process exits.
    #[test]
    fn a_thread_that_ends_within_frames_gives_up_its_own_counts() {
        let tenant = std::sync::Arc::new(());
        TENANT.set(Some(std::sync::Arc::clone(&tenant)));
        let context = Context::capture();
        TENANT.set(None);
        let held = std::sync::Arc::strong_count(&tenant);
        std::thread::scope(|s| {
            let thread = s.spawn(|| {
                let loose = std::mem::ManuallyDrop::new(Loose::new());
                assert!(loose.next_task(&Context::empty()).is_ok());
                PLAIN.set(1);
                let _pinned = std::mem::ManuallyDrop::new(frame::Frame::enter(&context));
                PLAIN.set(2);
            });
            assert!(thread.join().is_ok());
        });
        assert_eq!(std::sync::Arc::strong_count(&tenant), held);
        assert!(context.run(|| TENANT.get().is_some()));
        drop(context);
        assert_eq!(std::sync::Arc::strong_count(&tenant), 1);
    }

    crate::task_local! {
        #[inherit]
        static COPIED: Option<LeavesOneWhenCloned> = None;
    }

    struct LeavesOneWhenCloned;

    impl Clone for LeavesOneWhenCloned {
        fn clone(&self) -> Self {
            let left = std::mem::ManuallyDrop::new(Loose::new());
            assert!(left.next_task(&Context::empty()).is_ok());
            Self
        }
    }

    // Broke: the capture was kept for the frame that the copy had left behind, which handed it down.
    #[test]
    fn a_capture_is_kept_for_the_task_that_made_it_only() {
        let context = Context::empty();
        let frame = frame::Frame::enter(&context);
        COPIED.set(Some(LeavesOneWhenCloned));
        let captured = Context::capture();
        assert!(
            !Context::capture().run(|| COPIED.is_set()),
            "the left frame's task inherits nothing"
        );
        assert!(captured.run(|| COPIED.is_set()));
        assert!(frame.end().is_ok());
    }
}
