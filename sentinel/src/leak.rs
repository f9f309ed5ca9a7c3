//! One thread-local that a task left changed.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::module::Module;
use crate::symbols::Symbol;

/// A thread-local that a task left changed, or a [probe](crate::Sentinel::probe) whose answer has
/// changed.
///
/// Its `Display` is one line.
///
/// ```
/// use std::cell::Cell;
/// use cleanslate_sentinel as sentinel;
///
/// thread_local! { static TENANT: Cell<u32> = const { Cell::new(0) }; }
///
/// # if sentinel::supported().is_err() { return; }
/// let ((), report) = sentinel::watch(|| TENANT.set(7));
/// let leak = &report.leaks()[0];
/// assert!(leak.path().is_some_and(|path| path.ends_with("TENANT")));
/// assert_eq!((leak.size(), leak.after()), (4, &7_u32.to_ne_bytes()[..]));
/// ```
#[derive(Clone)]
pub struct Leak {
    /// `None` for a probe.
    module: Option<Arc<Module>>,
    path: Option<Box<str>>,
    crate_name: Option<Box<str>>,
    offset: usize,
    before: Box<[u8]>,
    after: Box<[u8]>,
    is_first_touch: bool,
}

impl Leak {
    pub(super) fn new(
        module: &Arc<Module>,
        symbol: Option<&Symbol>,
        offset: usize,
        before: &[u8],
        after: &[u8],
        is_first_touch: bool,
    ) -> Leak {
        Leak {
            module: Some(Arc::clone(module)),
            path: symbol.map(|symbol| symbol.name.path.clone()),
            crate_name: symbol.and_then(|symbol| symbol.name.crate_name()).map(Into::into),
            offset,
            before: before.into(),
            after: after.into(),
            is_first_touch,
        }
    }

    pub(super) fn of_probe(name: &str, before: u64, after: u64) -> Leak {
        Leak {
            module: None,
            path: Some(name.into()),
            crate_name: None,
            offset: 0,
            before: before.to_ne_bytes().into(),
            after: after.to_ne_bytes().into(),
            is_first_touch: false,
        }
    }

    /// Returns whether it is a [probe](crate::Sentinel::probe) whose answer has changed, not a
    /// thread-local.
    ///
    /// Its [path](Self::path) is then the probe's name, and the bytes are those of its answers.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate_sentinel as sentinel;
    /// use std::cell::Cell;
    ///
    /// thread_local! { static TENANT: Cell<u32> = const { Cell::new(0) }; }
    ///
    /// # if sentinel::supported().is_err() { return; }
    /// let ((), report) = sentinel::watch(|| TENANT.set(7));
    /// let leak = &report.leaks()[0];
    /// assert!(!leak.is_probe());
    /// ```
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.module.is_none()
    }

    /// Returns the thread-local's path, as in `my_app::REQUEST_ID`; for one declared in C, its
    /// symbol.
    ///
    /// Returns `None` if the module's file has no symbol for it, as after `strip`.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate_sentinel as sentinel;
    /// use std::cell::Cell;
    ///
    /// thread_local! { static TENANT: Cell<u32> = const { Cell::new(0) }; }
    ///
    /// # if sentinel::supported().is_err() { return; }
    /// let ((), report) = sentinel::watch(|| TENANT.set(7));
    /// let leak = &report.leaks()[0];
    /// assert!(leak.path().unwrap().ends_with("TENANT"));
    /// ```
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// Returns the crate that declares it, or `None` if it has no name, is not declared in Rust, or
    /// has a name that does not say which of two crates it is from (see
    /// [`Sentinel::allow`](crate::Sentinel::allow)).
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate_sentinel as sentinel;
    /// use std::cell::Cell;
    ///
    /// thread_local! { static TENANT: Cell<u32> = const { Cell::new(0) }; }
    ///
    /// # if sentinel::supported().is_err() { return; }
    /// let ((), report) = sentinel::watch(|| TENANT.set(7));
    /// let leak = &report.leaks()[0];
    /// assert!(leak.crate_name().is_some());
    /// ```
    #[must_use]
    pub fn crate_name(&self) -> Option<&str> {
        self.crate_name.as_deref()
    }

    /// Returns the file name of the program or shared library that contains it, or `probe` for a
    /// probe.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate_sentinel as sentinel;
    /// use std::cell::Cell;
    ///
    /// thread_local! { static TENANT: Cell<u32> = const { Cell::new(0) }; }
    ///
    /// # if sentinel::supported().is_err() { return; }
    /// let ((), report) = sentinel::watch(|| TENANT.set(7));
    /// let leak = &report.leaks()[0];
    /// assert!(!leak.module().is_empty());
    /// ```
    #[must_use]
    pub fn module(&self) -> &str {
        self.module.as_ref().map_or("probe", |module| &module.file)
    }

    /// Returns the path of the program or shared library that contains it, which is empty for a
    /// probe.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate_sentinel as sentinel;
    /// use std::cell::Cell;
    ///
    /// thread_local! { static TENANT: Cell<u32> = const { Cell::new(0) }; }
    ///
    /// # if sentinel::supported().is_err() { return; }
    /// let ((), report) = sentinel::watch(|| TENANT.set(7));
    /// let leak = &report.leaks()[0];
    /// assert!(leak.module_path().is_absolute());
    /// ```
    #[must_use]
    pub fn module_path(&self) -> &Path {
        self.module.as_ref().map_or(Path::new(""), |module| &module.path)
    }

    /// Returns where it starts in its module's block of thread-locals, in bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate_sentinel as sentinel;
    /// use std::cell::Cell;
    ///
    /// thread_local! { static TENANT: Cell<u32> = const { Cell::new(0) }; }
    ///
    /// # if sentinel::supported().is_err() { return; }
    /// let ((), report) = sentinel::watch(|| TENANT.set(7));
    /// let leak = &report.leaks()[0];
    /// assert_eq!(leak.offset() % 4, 0);
    /// ```
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Returns its size in bytes or, without a name, the length of the run of words that changed.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate_sentinel as sentinel;
    /// use std::cell::Cell;
    ///
    /// thread_local! { static TENANT: Cell<u32> = const { Cell::new(0) }; }
    ///
    /// # if sentinel::supported().is_err() { return; }
    /// let ((), report) = sentinel::watch(|| TENANT.set(7));
    /// let leak = &report.leaks()[0];
    /// assert_eq!(leak.size(), 4);
    /// ```
    #[must_use]
    pub fn size(&self) -> usize {
        self.after.len()
    }

    /// Returns its bytes before the task. They may include padding.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate_sentinel as sentinel;
    /// use std::cell::Cell;
    ///
    /// thread_local! { static TENANT: Cell<u32> = const { Cell::new(0) }; }
    ///
    /// # if sentinel::supported().is_err() { return; }
    /// let ((), report) = sentinel::watch(|| TENANT.set(7));
    /// let leak = &report.leaks()[0];
    /// assert_eq!(leak.before(), 0_u32.to_ne_bytes());
    /// ```
    #[must_use]
    pub fn before(&self) -> &[u8] {
        &self.before
    }

    /// Returns its bytes after the task. They may include padding.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate_sentinel as sentinel;
    /// use std::cell::Cell;
    ///
    /// thread_local! { static TENANT: Cell<u32> = const { Cell::new(0) }; }
    ///
    /// # if sentinel::supported().is_err() { return; }
    /// let ((), report) = sentinel::watch(|| TENANT.set(7));
    /// let leak = &report.leaks()[0];
    /// assert_eq!(leak.after(), 7_u32.to_ne_bytes());
    /// ```
    #[must_use]
    pub fn after(&self) -> &[u8] {
        &self.after
    }

    /// Returns the parts of it that differ, as byte ranges counted from its start.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate_sentinel as sentinel;
    /// use std::cell::Cell;
    ///
    /// thread_local! { static TENANT: Cell<u32> = const { Cell::new(0) }; }
    ///
    /// # if sentinel::supported().is_err() { return; }
    /// let ((), report) = sentinel::watch(|| TENANT.set(7));
    /// let leak = &report.leaks()[0];
    /// assert_eq!(leak.changed().map(|bytes| bytes.len()).sum::<usize>(), 1);
    /// ```
    pub fn changed(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let differs = |at: &usize| self.before[*at] != self.after[*at];
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = (at..self.after.len()).find(differs)?;
            at = (start..self.after.len()).find(|at| !differs(at)).unwrap_or(self.after.len());
            Some(start..at)
        })
    }

    /// Returns how many of its bytes differ.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate_sentinel as sentinel;
    /// use std::cell::Cell;
    ///
    /// thread_local! { static TENANT: Cell<u32> = const { Cell::new(0) }; }
    ///
    /// # if sentinel::supported().is_err() { return; }
    /// let ((), report) = sentinel::watch(|| TENANT.set(7));
    /// let leak = &report.leaks()[0];
    /// assert_eq!(leak.changed_bytes(), 1);
    /// ```
    #[must_use]
    pub fn changed_bytes(&self) -> usize {
        self.changed().map(|range| range.len()).sum()
    }

    /// Returns whether it was as in a fresh thread before: the task may only have initialised it.
    ///
    /// Without a name, this covers only the words that changed, not others beside them that may
    /// belong to it.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate_sentinel as sentinel;
    /// use std::cell::Cell;
    ///
    /// thread_local! { static TENANT: Cell<u32> = const { Cell::new(0) }; }
    ///
    /// # if sentinel::supported().is_err() { return; }
    /// let ((), report) = sentinel::watch(|| TENANT.set(7));
    /// let leak = &report.leaks()[0];
    /// assert!(leak.is_first_touch(), "it was as at the start of the thread");
    /// ```
    #[must_use]
    pub fn is_first_touch(&self) -> bool {
        self.is_first_touch
    }

    /// Returns a description of how it differs.
    pub(super) fn change(&self) -> String {
        let number = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_ne_bytes);
        match self.is_probe() {
            true => format!("from {} to {}", number(&self.before), number(&self.after)),
            false => format!("{} of {} bytes", self.changed_bytes(), self.size()),
        }
    }

    /// Returns its name in the table: the path, or where it is.
    pub(super) fn label(&self) -> String {
        match &self.path {
            Some(path) => path.to_string(),
            None => format!("{}+{:#x} (no symbol)", self.module(), self.offset),
        }
    }
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_probe() {
            true => return write!(f, "{}: changed {}", self.label(), self.change()),
            false => write!(f, "{}: {} changed", self.label(), self.change())?,
        }
        if self.is_first_touch {
            f.write_str(" at its first touch")?;
        }
        if self.path.is_some() {
            write!(f, " ({}+{:#x})", self.module(), self.offset)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leak")
            .field("path", &self.path)
            .field("crate_name", &self.crate_name)
            .field("module", &self.module_path())
            .field("offset", &self.offset)
            .field("before", &self.before)
            .field("after", &self.after)
            .field("is_first_touch", &self.is_first_touch)
            .finish()
    }
}
