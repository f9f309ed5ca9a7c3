//! The carriers of the process.
//!
//! A list that only grows, so that reading it takes no lock: each entry has a place for the next
//! one, which is set once.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, OnceLock};

use super::carried::{Carried, CarriedList, Source};
use super::error::CarrierError;
use super::shared::{Carry, SharedCarrier, room_for, share};
use crate::frame::discard;

/// The first of them, if any is installed.
pub(crate) static INSTALLED: OnceLock<Box<Installed>> = OnceLock::new();

/// An entry of the list.
pub(crate) struct Installed {
    pub(super) carrier: SharedCarrier,
    /// What code that runs for nobody finds: of the carriers up to this one, as far as they can say
    /// so.
    pub(super) nothing: CarriedList,
    /// The carrier's own, if it can say so.
    pub(super) own_nothing: Option<Carried>,
    next: OnceLock<Box<Self>>,
}

/// Returns all of them, in the order in which they were installed.
pub(super) fn all_installed() -> impl Iterator<Item = &'static Installed> {
    let first = INSTALLED.get().map(|first| &**first);
    std::iter::successors(first, |entry| entry.next.get().map(|next| &**next))
}

/// Makes a carrier part of every context that is captured from now on, in the whole process.
///
/// So `isolated(f)` on somebody else's executor keeps what the carrier carries, as does a
/// submission to any pool, a future, or a task on rayon. Tasks that inherit nothing, which are
/// those of a [detached](crate::Pool::detached) pool and of
/// [`Context::empty`](crate::Context::empty), find what it calls
/// [nothing](super::Carrier::nothing), if it can say so. Leaky pools leave it out.
///
/// Call it once, early in `main`; a library should leave that to the program. The carrier stays for
/// the life of the process. Installed carriers attach first, in the order in which they were
/// installed. If a pool or a context has a carrier with the same
/// [identity](super::Carrier::identity), by default one of the same type, that one is attached
/// instead. What a carrier's own code captures carries no installed carriers. (If that code waits
/// on rayon, its thread may run work that has nothing to do with it. In that work, tasks of
/// `cleanslate::rayon` capture as they do anywhere, so a carrier should start none itself; other
/// closures, including those of chains and of `isolated`, capture as the carrier's own code does.)
///
/// # Costs
///
/// Each capture asks each installed carrier. One that has nothing to carry and says so
/// ([`is_nothing`](super::Carrier::is_nothing)) costs no allocation; any other costs one, and their
/// list costs two.
///
/// # Errors
///
/// Returns an error if a carrier with the same identity is installed already, if the carrier's
/// [`nothing`](super::Carrier::nothing) panics, or if 256 are installed.
///
/// # Examples
///
/// ```
/// use cleanslate::{foreign, isolated};
/// use std::cell::Cell;
/// # use foreign::{BoxError, Carrier};
///
/// thread_local! { static LOCALE: Cell<&'static str> = const { Cell::new("C") }; }
///
/// struct LocaleCarrier;
/// # impl Carrier for LocaleCarrier {
/// #     type Captured = &'static str;
/// #     type Attached = &'static str;
/// #     fn name(&self) -> &str { "locale" }
/// #     fn capture(&self) -> Result<&'static str, BoxError> { Ok(LOCALE.get()) }
/// #     fn attach(&self, captured: &&'static str) -> Result<&'static str, BoxError> {
/// #         Ok(LOCALE.replace(captured))
/// #     }
/// #     fn detach(&self, before: &'static str) -> Result<(), BoxError> {
/// #         LOCALE.set(before);
/// #         Ok(())
/// #     }
/// # }
/// // impl Carrier for LocaleCarrier { … }
///
/// foreign::install(LocaleCarrier)?;
/// LOCALE.set("de");
/// let there = std::thread::spawn(isolated(|| LOCALE.get()));
/// assert_eq!(there.join().unwrap(), "de");
/// assert!(foreign::install(LocaleCarrier).unwrap_err().is_duplicate());
/// # Ok::<_, foreign::InstallError>(())
/// ```
pub fn install<C: Carry>(carrier: C) -> Result<(), InstallError> {
    let carrier = share(carrier);
    match carrier.nothing() {
        Ok(own) => {
            let installed = append(&carrier, own.as_ref());
            discard((carrier, own));
            installed
        }
        Err(error) => {
            discard(carrier);
            Err(InstallError::carrier(error))
        }
    }
}

/// Puts a carrier, and what it calls nothing, at the end of the list.
fn append(carrier: &SharedCarrier, own: Option<&Carried>) -> Result<(), InstallError> {
    let own = own.cloned().map(|nothing| nothing.with_source(Source::Installed));
    let mut nothing = Vec::new();
    let mut place = &INSTALLED;
    let mut there_are = 0;
    loop {
        while let Some(entry) = place.get() {
            if entry.carrier.identity() == carrier.identity() {
                return Err(InstallError { kind: InstallErrorKind::Duplicate(carrier.name()) });
            }
            nothing = entry.nothing.to_vec();
            place = &entry.next;
            there_are += 1;
        }
        room_for(carrier, there_are, "process has").map_err(InstallError::carrier)?;
        let entry = Installed {
            carrier: carrier.clone(),
            nothing: Arc::new(nothing.iter().cloned().chain(own.clone()).collect()),
            own_nothing: own.clone(),
            next: OnceLock::new(),
        };
        // It fails if somebody was faster: then the place is not the last one any more.
        if place.set(Box::new(entry)).is_ok() {
            return Ok(());
        }
    }
}

/// A carrier could not be installed.
///
/// # Examples
///
/// ```
/// use cleanslate::foreign::{InstallError, adopt, install};
/// use std::cell::Cell;
///
/// thread_local! { static LEVEL: Cell<u8> = const { Cell::new(0) }; }
///
/// install(adopt(&LEVEL).named("level"))?;
/// let error: InstallError = install(adopt(&LEVEL).named("level again")).unwrap_err();
/// assert!(error.is_duplicate());
/// # Ok::<_, InstallError>(())
/// ```
pub struct InstallError {
    kind: InstallErrorKind,
}

enum InstallErrorKind {
    Duplicate(String),
    Carrier(CarrierError),
}

impl InstallError {
    fn carrier(error: CarrierError) -> Self {
        Self { kind: InstallErrorKind::Carrier(error) }
    }

    /// Returns whether a carrier with the same identity is installed already.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::foreign::{InstallError, adopt, install};
    /// use std::cell::Cell;
    ///
    /// thread_local! { static LEVEL: Cell<u8> = const { Cell::new(0) }; }
    ///
    /// install(adopt(&LEVEL).named("level"))?;
    /// let error: InstallError = install(adopt(&LEVEL).named("level again")).unwrap_err();
    /// assert!(error.is_duplicate());
    /// # Ok::<_, InstallError>(())
    /// ```
    #[must_use]
    pub fn is_duplicate(&self) -> bool {
        matches!(self.kind, InstallErrorKind::Duplicate(_))
    }

    /// Returns the name of the carrier.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::foreign::{InstallError, adopt, install};
    /// use std::cell::Cell;
    ///
    /// thread_local! { static LEVEL: Cell<u8> = const { Cell::new(0) }; }
    ///
    /// install(adopt(&LEVEL).named("level"))?;
    /// let error: InstallError = install(adopt(&LEVEL).named("level again")).unwrap_err();
    /// assert_eq!(error.name(), "level again");
    /// # Ok::<_, InstallError>(())
    /// ```
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.kind {
            InstallErrorKind::Duplicate(name) => name,
            InstallErrorKind::Carrier(error) => error.carrier(),
        }
    }
}

impl fmt::Display for InstallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            InstallErrorKind::Duplicate(name) => write!(f, "carrier `{name}` is installed already"),
            InstallErrorKind::Carrier(error) => error.fmt(f),
        }
    }
}

debug_as_text!(InstallError);

impl Error for InstallError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.kind {
            InstallErrorKind::Duplicate(_) => None,
            InstallErrorKind::Carrier(error) => error.source(),
        }
    }
}
