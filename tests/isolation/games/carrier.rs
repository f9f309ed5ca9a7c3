//! Foreign state, and its carrier, which fails where that state says so.

use std::cell::Cell;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};

use cleanslate::foreign::{BoxError, Carrier};

/// State with this bit cannot be captured.
pub(super) const NO_CAPTURE: u64 = 1 << 60;
/// State that was captured with this bit cannot be attached.
pub(super) const NO_ATTACH: u64 = 1 << 61;
/// A task that leaves this bit fails where its carriers are detached. Nobody inherits it.
pub(super) const NO_DETACH: u64 = 1 << 62;
/// What fails panics.
pub(super) const PANICS: u64 = 1 << 63;

thread_local! {
    /// Foreign state that tasks inherit where carriers are installed.
    pub(super) static AMBIENT: Cell<u64> = const { Cell::new(0) };
    /// How often [`Beside`] is attached.
    pub(super) static BESIDE: Cell<u32> = const { Cell::new(0) };
    /// Whether a carrier failed to detach on this thread.
    pub(super) static IS_STUCK: Cell<bool> = const { Cell::new(false) };
}

/// How much of what carriers have made there is.
static LIVE: AtomicUsize = AtomicUsize::new(0);

/// State that a carrier has captured, or has found on a thread.
pub(super) struct State(u64);

impl State {
    fn new(state: u64) -> Self {
        LIVE.fetch_add(1, Ordering::Relaxed);
        Self(state)
    }

    /// Returns how many there are.
    pub(super) fn live() -> usize {
        LIVE.load(Ordering::Relaxed)
    }
}

impl Drop for State {
    fn drop(&mut self) {
        LIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Carries [`AMBIENT`].
pub(super) struct Ambient;

/// The words of an error, and of a panic.
const FAILS: &str = "on purpose";

fn fails_if(step: u64, state: u64) -> Result<(), BoxError> {
    match (state & step != 0, state & PANICS != 0) {
        (false, _) => Ok(()),
        (true, false) => Err(FAILS.into()),
        (true, true) => resume_unwind(Box::new(FAILS)),
    }
}

impl Carrier for Ambient {
    type Captured = State;
    type Attached = State;

    fn name(&self) -> &str {
        "ambient"
    }

    fn capture(&self) -> Result<State, BoxError> {
        let state = AMBIENT.get();
        fails_if(NO_CAPTURE, state)?;
        Ok(State::new(state & !NO_DETACH))
    }

    fn attach(&self, captured: &State) -> Result<State, BoxError> {
        fails_if(NO_ATTACH, captured.0)?;
        Ok(State::new(AMBIENT.replace(captured.0)))
    }

    fn detach(&self, before: State) -> Result<(), BoxError> {
        let state = AMBIENT.replace(before.0);
        IS_STUCK.set(IS_STUCK.get() || state & NO_DETACH != 0);
        fails_if(NO_DETACH, state)
    }

    fn nothing(&self) -> Option<State> {
        match fails_if(NO_CAPTURE, AMBIENT.get()) {
            Ok(()) => Some(State::new(0)),
            Err(_) => resume_unwind(Box::new(FAILS)),
        }
    }

    fn is_nothing(&self, captured: &State) -> bool {
        captured.0 == 0
    }

    fn reattach(&self, captured: &State, _: &mut State) -> bool {
        let state = AMBIENT.get();
        if fails_if(NO_CAPTURE, state).is_err() || state & NO_DETACH != 0 || state % 2 == 1 {
            return false;
        }
        AMBIENT.set(captured.0);
        true
    }
}

/// Never fails, beside the other.
pub(super) struct Beside;

impl Carrier for Beside {
    type Captured = State;
    type Attached = State;

    fn name(&self) -> &str {
        "beside"
    }

    fn capture(&self) -> Result<State, BoxError> {
        Ok(State::new(1))
    }

    fn attach(&self, _: &State) -> Result<State, BoxError> {
        Ok(State::new(BESIDE.replace(BESIDE.get() + 1).into()))
    }

    fn detach(&self, before: State) -> Result<(), BoxError> {
        BESIDE.set(BESIDE.get() - 1);
        match before.0 == BESIDE.get().into() {
            true => Ok(()),
            false => Err("another one stayed".into()),
        }
    }

    fn nothing(&self) -> Option<State> {
        Some(State::new(0))
    }

    fn reattach(&self, _: &State, before: &mut State) -> bool {
        before.0 + 1 == BESIDE.get().into()
    }
}
