//! Why a slot could not be used.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use crate::foreign::{BoxError, RenderedCause};

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Reason {
    Gone,
    Borrowed,
    BorrowedMut,
    /// A worker-local that the same task is using.
    Leased,
    Recursive,
    /// The initialiser would run on top of this many others of worker-locals, perhaps its own.
    TooDeep(u32),
    Init(InitError),
}

/// The error of an initialiser that can fail.
#[derive(Clone)]
pub(super) struct InitError(Arc<RenderedCause>);

impl InitError {
    pub(super) fn new(error: BoxError) -> Self {
        Self(Arc::new(RenderedCause::new(error)))
    }
}

impl PartialEq for InitError {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for InitError {}

/// A slot could not be used. The error names the slot and the reason.
///
/// # Examples
///
/// ```
/// use cleanslate::task_local;
///
/// task_local! { static SLOT: u32 = 0; }
///
/// let error = SLOT.with(|_| SLOT.try_with_mut(|_| ()).unwrap_err());
/// assert!(error.to_string().contains("SLOT` is borrowed"), "{error}");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct AccessError {
    /// Boxed, so that a successful access returns in registers.
    refusal: Box<Refusal>,
}

#[derive(Clone, PartialEq, Eq)]
struct Refusal {
    slot: String,
    reason: Reason,
    /// What to look at besides the closure's own code.
    hint: &'static str,
}

impl AccessError {
    #[cold]
    pub(super) fn new(slot: String, reason: Reason) -> Self {
        let hint = match reason {
            Reason::Borrowed | Reason::BorrowedMut => rayon_hint(),
            _ => "",
        };
        Self { refusal: Box::new(Refusal { slot, reason, hint }) }
    }

    /// Returns the path of the slot or, for an [`OwnedLocal`](crate::OwnedLocal), its type and
    /// where it was made.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::task_local;
    ///
    /// task_local! { static SLOT: u32 = 0; }
    ///
    /// let error = SLOT.with(|_| SLOT.try_with_mut(|_| ()).unwrap_err());
    /// assert!(error.slot().ends_with("SLOT"));
    /// ```
    pub fn slot(&self) -> &str {
        &self.refusal.slot
    }

    /// Returns whether the thread is ending and its slots have been torn down.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::task_local;
    ///
    /// task_local! { static SLOT: u32 = 0; }
    ///
    /// let error = SLOT.with(|_| SLOT.try_with_mut(|_| ()).unwrap_err());
    /// assert!(!error.is_destroyed());
    /// ```
    pub fn is_destroyed(&self) -> bool {
        self.refusal.reason == Reason::Gone
    }

    /// Returns whether the value is borrowed by an enclosing `with` or `with_mut`.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::task_local;
    ///
    /// task_local! { static SLOT: u32 = 0; }
    ///
    /// let error = SLOT.with(|_| SLOT.try_with_mut(|_| ()).unwrap_err());
    /// assert!(error.is_borrowed());
    /// ```
    pub fn is_borrowed(&self) -> bool {
        matches!(self.refusal.reason, Reason::Borrowed | Reason::BorrowedMut | Reason::Leased)
    }

    /// Returns whether a fallible initialiser has failed. Its error is the
    /// [`source`](Error::source).
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::OwnedWorkerLocal;
    ///
    /// let ports = OwnedWorkerLocal::fallible(|| "x".parse::<u16>());
    /// assert!(ports.try_with(|_| ()).unwrap_err().is_init());
    /// ```
    pub fn is_init(&self) -> bool {
        matches!(self.refusal.reason, Reason::Init(_))
    }

    /// Returns whether the slot's initialiser needs the slot itself, or would run on top of 32
    /// other initialisers of worker-locals.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::task_local;
    ///
    /// task_local! { static SLOT: u32 = 0; }
    ///
    /// let error = SLOT.with(|_| SLOT.try_with_mut(|_| ()).unwrap_err());
    /// assert!(!error.is_recursive());
    /// ```
    pub fn is_recursive(&self) -> bool {
        matches!(self.refusal.reason, Reason::Recursive | Reason::TooDeep(_))
    }
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusal { slot, reason, hint } = &*self.refusal;
        match reason {
            Reason::Gone => write!(f, "slot `{slot}` cannot be used while its thread ends"),
            Reason::Borrowed => write!(f, "slot `{slot}` is borrowed by an enclosing with{hint}"),
            Reason::BorrowedMut => {
                write!(f, "slot `{slot}` is borrowed by an enclosing with_mut{hint}")
            }
            Reason::Leased => {
                write!(f, "worker-local `{slot}` is in use by an enclosing with")
            }
            Reason::Init(error) => {
                write!(f, "slot `{slot}` cannot be initialised: {}", error.0.text())
            }
            Reason::Recursive => write!(f, "slot `{slot}` is needed by its own initialiser"),
            Reason::TooDeep(making) => write!(
                f,
                "worker-local `{slot}` cannot be made on top of {making} initialisers that have \
                 not returned: perhaps one of them needs itself"
            ),
        }
    }
}

/// Returns the usual cause on a rayon thread: the borrow is not in the closure's own code.
fn rayon_hint() -> &'static str {
    #[cfg(feature = "rayon")]
    if rayon::current_thread_index().is_some() {
        return " (on a rayon thread: a nested parallel iterator or join that is not isolated runs \
                in the task around it)";
    }
    ""
}

debug_as_text!(AccessError);

impl Error for AccessError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.refusal.reason {
            Reason::Init(error) => error.0.source(),
            _ => None,
        }
    }
}

/// A value could not be put into a slot. The error hands it back.
///
/// # Examples
///
/// ```
/// use cleanslate::task_local;
///
/// task_local! { static SLOT: u32 = 0; }
///
/// let error = SLOT.with(|_| SLOT.try_set(7).unwrap_err());
/// assert_eq!(error.into_inner(), 7);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct SetError<T> {
    error: AccessError,
    value: T,
}

impl<T> SetError<T> {
    pub(super) fn new(error: AccessError, value: T) -> Self {
        Self { error, value }
    }

    /// Returns why the slot could not be used.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::task_local;
    ///
    /// task_local! { static SLOT: u32 = 0; }
    ///
    /// let error = SLOT.with(|_| SLOT.try_set(7).unwrap_err());
    /// assert!(error.error().is_borrowed());
    /// ```
    pub fn error(&self) -> &AccessError {
        &self.error
    }

    /// Returns the value.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::task_local;
    ///
    /// task_local! { static SLOT: u32 = 0; }
    ///
    /// let error = SLOT.with(|_| SLOT.try_set(7).unwrap_err());
    /// assert_eq!(error.into_inner(), 7);
    /// ```
    pub fn into_inner(self) -> T {
        self.value
    }
}

debug_as_text!(SetError<T>);

impl<T> fmt::Display for SetError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T> Error for SetError<T> {}

impl<T> From<SetError<T>> for AccessError {
    fn from(refused: SetError<T>) -> Self {
        refused.error
    }
}
