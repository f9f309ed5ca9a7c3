//! The threads of a pool: starting them, replacing one, waiting for the end of all.
//!
//! At most one thread sits on a seat at a time: a successor joins its predecessor, so that the
//! predecessor's thread-local destructors have run, before it sits down. The handle of the youngest
//! thread of a seat is kept in `handles`; whoever waits for the end joins what it finds there until it
//! finds nothing.

use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use super::core::Core;
use super::worker;
use crate::sync::seam::blocking::{Condvar, Mutex};

#[derive(Debug)]
pub(crate) struct Threads {
    name: String,
    stack_size: Option<usize>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    handles: Vec<Option<JoinHandle<()>>>,
    /// Whether somebody joins the threads on behalf of all that wait.
    joining: bool,
    joined: bool,
}

impl Threads {
    pub(crate) fn new(name: String, stack_size: Option<usize>, workers: usize) -> Self {
        let handles = (0..workers).map(|_| None).collect();
        Self {
            name,
            stack_size,
            state: Mutex::new(State { handles, joining: false, joined: false }),
            changed: Condvar::new(),
        }
    }

    fn builder(&self, index: usize) -> Builder {
        let builder = Builder::new().name(format!("{}-{index}", self.name));
        match self.stack_size {
            Some(bytes) => builder.stack_size(bytes),
            None => builder,
        }
    }

    /// Starts a thread on the seat with `index`, in place of the one that sits there, if any.
    pub(crate) fn start(core: &Arc<Core>, index: usize) -> io::Result<()> {
        let this = &core.threads;
        // Held across the start, so that the predecessor's handle is found by its successor or by a
        // joiner, never by both.
        let mut state = this.state.lock();
        let (give, receive) = std::sync::mpsc::sync_channel::<Option<JoinHandle<()>>>(1);
        let theirs = Arc::clone(core);
        let handle = this.builder(index).spawn(move || {
            // Fails only if the handle was never given, which the lines below rule out.
            let predecessor = receive.recv().ok().flatten();
            if let Some(predecessor) = predecessor {
                // A worker's panics are all caught; one in a thread-local's destructor aborts.
                let _ended = predecessor.join();
            }
            worker::work(&theirs, index);
        })?;
        // Cannot fail: the thread waits for it.
        let _given = give.send(state.handles[index].replace(handle));
        Ok(())
    }

    fn join_all(&self) {
        loop {
            let next = self.state.lock().handles.iter_mut().find_map(Option::take);
            match next {
                Some(handle) => {
                    let _ended = handle.join();
                }
                None => break,
            }
        }
        let mut state = self.state.lock();
        state.joined = true;
        self.changed.notify_all();
    }

    /// Waits until every thread is gone, its thread-local destructors included.
    pub(crate) fn join(&self) {
        let mut state = self.state.lock();
        if !state.joining {
            state.joining = true;
            drop(state);
            self.join_all();
            return;
        }
        while !state.joined {
            self.changed.wait(&mut state);
        }
    }

    /// The same until `deadline`; returns whether the threads are gone. A thread of its own does the
    /// joining, since a destructor may hang.
    pub(crate) fn join_until(core: &Arc<Core>, deadline: Option<Instant>) -> io::Result<bool> {
        let this = &core.threads;
        let mut state = this.state.lock();
        if !state.joining {
            let theirs = Arc::clone(core);
            let _detached = Builder::new()
                .name(format!("{}-reaper", this.name))
                .spawn(move || theirs.threads.join_all())?;
            state.joining = true;
        }
        while !state.joined {
            match deadline {
                None => this.changed.wait(&mut state),
                Some(deadline) => {
                    if this.changed.wait_until(&mut state, deadline).timed_out() {
                        return Ok(state.joined);
                    }
                }
            }
        }
        Ok(true)
    }
}
