//! The threads of a pool: starting them, and waiting for the end of all.
//!
//! A successor is started while its predecessor still ends (thread-local destructors may wait for
//! what only the successor runs), and joins it at its own end. So whoever joins the youngest thread
//! of every worker has joined all of them. The handle of the youngest is kept in `youngest`;
//! whoever waits for the end joins what it finds there until it finds nothing.

#[cfg(all(loom, test))]
mod model;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{stack, wait};
use crate::sync::seam::{self, Builder, JoinHandle, Mutex, Thread};

#[derive(Debug)]
pub(crate) struct Threads {
    name: String,
    /// In bytes.
    pub(crate) stack_size: usize,
    state: Mutex<ThreadsState>,
}

#[derive(Debug)]
struct ThreadsState {
    youngest: Vec<Option<JoinHandle<()>>>,
    /// Whether somebody joins the threads on behalf of all that wait.
    joining: bool,
    joined: bool,
    /// Threads to unpark when all have been joined.
    waiting: Vec<Thread>,
}

impl Threads {
    pub(crate) fn new(name: String, stack_size: Option<usize>, workers: usize) -> Self {
        let youngest = (0..workers).map(|_| None).collect();
        let state = ThreadsState { youngest, joining: false, joined: false, waiting: Vec::new() };
        Self { name, stack_size: stack::size(stack_size), state: Mutex::new(state) }
    }

    /// Starts a thread for the worker with `index`, which runs `life`. That returns whether the
    /// other threads are there at its end: in a forked child they are not.
    pub(crate) fn start(
        &self,
        index: usize,
        life: impl FnOnce() -> bool + Send + 'static,
    ) -> io::Result<()> {
        // Held across the start, so that the predecessor's handle is found by its successor or by a
        // joiner, never by both.
        let mut state = self.state.lock();
        let predecessor = Arc::new(Mutex::new(state.youngest[index].take()));
        let theirs = Arc::clone(&predecessor);
        let thread = Builder::new().name(format!("{}-{index}", self.name));
        let started = thread.stack_size(self.stack_size).spawn(move || {
            let are_there = life();
            let predecessor = theirs.lock().take();
            match predecessor {
                Some(predecessor) if are_there => {
                    // A worker's panics are all caught; one in a thread-local's destructor aborts.
                    let _ended = predecessor.join();
                }
                predecessor => leave(predecessor),
            }
        });
        match started {
            Ok(handle) => {
                state.youngest[index] = Some(handle);
                Ok(())
            }
            Err(error) => {
                state.youngest[index] = predecessor.lock().take();
                Err(error)
            }
        }
    }

    fn join_all(&self) {
        loop {
            let next = self.state.lock().youngest.iter_mut().find_map(Option::take);
            match next {
                Some(handle) => {
                    let _ended = handle.join();
                }
                None => break,
            }
        }
        let waiting = {
            let mut state = self.state.lock();
            state.joined = true;
            std::mem::take(&mut state.waiting)
        };
        waiting.iter().for_each(Thread::unpark);
    }

    /// Waits until every thread is gone, its thread-local destructors included.
    pub(crate) fn join(&self) {
        if std::mem::replace(&mut self.state.lock().joining, true) {
            let _joined = self.wait(None);
        } else {
            self.join_all();
        }
    }

    /// Joins until `deadline`; returns whether the threads are gone. A destructor may hang, and a
    /// worker that waits runs what is directed to it meanwhile, so a thread of its own does the
    /// joining.
    pub(crate) fn join_until(self: &Arc<Self>, deadline: Option<Instant>) -> io::Result<bool> {
        again_until(deadline, || self.start_reaper())?;
        Ok(self.wait(deadline))
    }

    fn start_reaper(self: &Arc<Self>) -> io::Result<()> {
        let mut state = self.state.lock();
        if !state.joining {
            let this = Arc::clone(self);
            let reaper = Builder::new().name(format!("{}-reaper", self.name));
            let _detached = reaper.spawn(move || this.join_all())?;
            state.joining = true;
        }
        Ok(())
    }

    /// Waits for whoever joins the threads.
    fn wait(&self, deadline: Option<Instant>) -> bool {
        let mut state = self.state.lock();
        if state.joined {
            return true;
        }
        state.waiting.push(seam::current());
        drop(state);
        let joined = wait::wait_directed_until(|| self.state.lock().joined, deadline);
        if !joined {
            // Not there if they have been joined at this moment.
            let _found = seam::take_out(&mut self.state.lock().waiting, &seam::current());
        }
        joined
    }

    /// Lets go of the threads without waiting for them: they live in another process.
    pub(crate) fn forget(&self) {
        self.state.lock().youngest.iter_mut().map(Option::take).for_each(leave);
    }
}

#[expect(clippy::mem_forget, reason = "to detach a thread that is not there is an error")]
fn leave(thread: Option<JoinHandle<()>>) {
    std::mem::forget(thread);
}

/// Tries to start a thread, again and again if the system refuses: the threads that are to be
/// joined may be too many, and may end meanwhile. Gives up at the deadline, or after some two
/// seconds.
fn again_until(
    deadline: Option<Instant>,
    mut start: impl FnMut() -> io::Result<()>,
) -> io::Result<()> {
    let mut pause = Duration::from_millis(1);
    loop {
        let Err(error) = start() else { return Ok(()) };
        let now = Instant::now();
        if pause > Duration::from_secs(1) || deadline.is_some_and(|deadline| deadline <= now) {
            return Err(error);
        }
        let next = now + pause;
        let next = deadline.map_or(next, |deadline| deadline.min(next));
        let _time_is_over = wait::wait_directed_until(|| false, Some(next));
        pause *= 2;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::mpsc;

    use super::*;

    // Broke: each wait that gave up left an entry.
    #[test]
    fn whoever_gives_up_is_not_told() {
        let threads = Arc::new(Threads::new("test".to_owned(), None, 1));
        let (go, gate) = mpsc::channel::<()>();
        threads.start(0, move || gate.recv().is_err()).unwrap();
        for _ in 0..3 {
            assert!(!threads.join_until(Some(Instant::now())).unwrap());
            assert!(threads.state.lock().waiting.is_empty());
        }
        drop(go);
        assert!(threads.join_until(None).unwrap());
    }
    // Broke: a pool that had all threads that there may be could not be waited for inside a task.
    #[test]
    fn a_thread_that_the_system_refuses_is_tried_again_until_others_have_ended() {
        let start_after = |refusals: u32, deadline| {
            let mut calls = 0;
            let started = again_until(deadline, || {
                calls += 1;
                if calls > refusals { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
            });
            (started.is_ok(), calls)
        };
        assert_eq!(start_after(0, None), (true, 1));
        assert_eq!(start_after(3, None), (true, 4));
        let now = Instant::now();
        assert_eq!(start_after(1, Some(now)), (false, 1));
        let (started, calls) = start_after(u32::MAX, Some(now + Duration::from_millis(20)));
        assert!(!started && calls > 1 && now.elapsed() >= Duration::from_millis(20));
    }
}
