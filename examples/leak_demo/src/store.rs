//! Where the handler keeps who is logged in: the same session, in each kind of thread-scoped state.

use std::cell::RefCell;

use super::place;

/// Who is being served on this thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) request: Option<u32>,
    pub(super) login: Option<Login>,
    pub(super) part: Option<u32>,
}

/// A login, and where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) user: &'static str,
    pub(super) request: u32,
}

/// The session is borrowed by a request further down the stack. Most programs panic here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Borrowed {
    /// Which request that is.
    pub(super) by: Option<u32>,
}

impl Borrowed {
    fn here() -> Self {
        Self { by: place::lender() }
    }
}

/// A place that holds one [`Session`].
pub(super) trait Store: 'static {
    /// Whether a handler may hold the session borrowed while it waits for its parts.
    const LENDS: bool = true;

    /// Nobody holds the session mutably while other code runs, so this cannot fail.
    fn read<R>(f: impl FnOnce(&Session) -> R) -> R;
    fn write<R>(f: impl FnOnce(&mut Session) -> R) -> Result<R, Borrowed>;
}

thread_local! {
    /// What application code has today.
    static PLAIN: RefCell<Session> = RefCell::default();
    /// The same, in code that cannot be changed; `foreign::adopt` tells the executor of it.
    pub(super) static FOREIGN: RefCell<Session> = RefCell::default();
}

cleanslate::task_local! {
    /// The same, declared to cleanslate.
    static DECLARED: Session = Session::default();
}

/// A `std::thread_local!`.
pub(super) struct Plain;

impl Store for Plain {
    fn read<R>(f: impl FnOnce(&Session) -> R) -> R {
        PLAIN.with_borrow(f)
    }

    fn write<R>(f: impl FnOnce(&mut Session) -> R) -> Result<R, Borrowed> {
        PLAIN
            .with(|cell| cell.try_borrow_mut().map(|mut s| f(&mut s)).map_err(|_| Borrowed::here()))
    }
}

/// A `std::thread_local!` that was adopted.
pub(super) struct Foreign;

impl Store for Foreign {
    /// A carrier can put a value aside, but not a borrow: cleanslate would refuse to run a part on
    /// top of it, with an error that names the cell. So this handler copies what it lends.
    const LENDS: bool = false;

    fn read<R>(f: impl FnOnce(&Session) -> R) -> R {
        FOREIGN.with_borrow(f)
    }

    fn write<R>(f: impl FnOnce(&mut Session) -> R) -> Result<R, Borrowed> {
        FOREIGN
            .with(|cell| cell.try_borrow_mut().map(|mut s| f(&mut s)).map_err(|_| Borrowed::here()))
    }
}

/// A `cleanslate::task_local!`.
pub(super) struct Declared;

impl Store for Declared {
    fn read<R>(f: impl FnOnce(&Session) -> R) -> R {
        DECLARED.with(f)
    }

    fn write<R>(f: impl FnOnce(&mut Session) -> R) -> Result<R, Borrowed> {
        DECLARED.try_with_mut(f).map_err(|_| Borrowed::here())
    }
}
