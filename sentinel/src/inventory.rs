//! What a binary keeps per thread.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::symbols::{Failure, Symbol, Symbols};

/// The thread-locals that a binary declares.
///
/// It reads ELF files of any architecture, on any system, and runs nothing of the file.
///
/// ```
/// use cleanslate_sentinel::Inventory;
///
/// # #[cfg(target_os = "linux")] {
/// let inventory = Inventory::read(std::env::current_exe().unwrap()).unwrap();
/// let names: Vec<_> = inventory.variables().iter().map(|v| v.path()).collect();
/// assert!(names.iter().any(|path| path.starts_with("std::thread::")));
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Inventory {
    variables: Vec<Variable>,
    size: usize,
    is_complete: bool,
}

impl Inventory {
    /// Reads a program's or shared library's thread-locals from its symbol table.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be read, is no regular file (a named pipe, say), is no
    /// ELF file or an unlinked one (an object file), is truncated or malformed, or has
    /// thread-locals but no name for any of them.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate_sentinel::Inventory;
    ///
    /// # #[cfg(target_os = "linux")] {
    /// let inventory = Inventory::read(std::env::current_exe().unwrap()).unwrap();
    /// assert!(!inventory.variables().is_empty());
    /// # }
    /// ```
    pub fn read(path: impl AsRef<Path>) -> Result<Inventory, InventoryError> {
        let path = path.as_ref();
        let error = |failure| InventoryError { path: path.to_owned(), failure };
        let symbols = Symbols::read(path).map_err(error)?;
        if symbols.list.is_empty() && symbols.block > 0 {
            return Err(error(Failure::Stripped));
        }
        let initialised = symbols.initialised;
        let to_variable = |symbol: Symbol| Variable {
            crate_name: symbol.name.crate_name().map(Into::into),
            path: symbol.name.path,
            offset: symbol.offset,
            size: symbol.size,
            is_initialised: symbol.offset < initialised,
        };
        Ok(Inventory {
            variables: symbols.list.into_iter().map(to_variable).collect(),
            size: symbols.block,
            is_complete: symbols.unnamed.is_empty(),
        })
    }

    /// Returns the thread-locals in the order in which they lie in memory.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate_sentinel::Inventory;
    ///
    /// # #[cfg(target_os = "linux")] {
    /// let inventory = Inventory::read(std::env::current_exe().unwrap()).unwrap();
    /// assert!(inventory.variables().is_sorted_by_key(|variable| variable.offset()));
    /// # }
    /// ```
    #[must_use]
    pub fn variables(&self) -> &[Variable] {
        &self.variables
    }

    /// Returns how many bytes they take in each thread, padding included.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate_sentinel::Inventory;
    ///
    /// # #[cfg(target_os = "linux")] {
    /// let inventory = Inventory::read(std::env::current_exe().unwrap()).unwrap();
    /// assert!(inventory.size() > 0);
    /// # }
    /// ```
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Returns whether every thread-local has a name, as far as can be told; in a stripped library
    /// only exported ones have.
    ///
    /// Also returns `false` for a file that has lost other names and has bytes between its
    /// thread-locals that may or may not be there for alignment: `strip -g` removes the names of
    /// source files.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate_sentinel::Inventory;
    ///
    /// # #[cfg(target_os = "linux")] {
    /// let inventory = Inventory::read(std::env::current_exe().unwrap()).unwrap();
    /// assert!(inventory.is_complete());
    /// # }
    /// ```
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }
}

/// A thread-local in a binary.
///
/// # Examples
///
/// ```
/// use cleanslate_sentinel::Inventory;
///
/// # #[cfg(target_os = "linux")] {
/// let inventory = Inventory::read(std::env::current_exe().unwrap()).unwrap();
/// let variable = &inventory.variables()[0];
/// assert!(!variable.path().is_empty());
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    path: Box<str>,
    crate_name: Option<Box<str>>,
    offset: usize,
    size: usize,
    is_initialised: bool,
}

impl Variable {
    /// Returns the thread-local's path, as in `my_app::REQUEST_ID`; for one declared in C, its
    /// symbol.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate_sentinel::Inventory;
    ///
    /// # #[cfg(target_os = "linux")] {
    /// let inventory = Inventory::read(std::env::current_exe().unwrap()).unwrap();
    /// let variable = &inventory.variables()[0];
    /// assert!(!variable.path().is_empty());
    /// # }
    /// ```
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the crate that declares it, or `None` if it is not declared in Rust, or if the
    /// symbol does not say which of two crates it is from.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate_sentinel::Inventory;
    ///
    /// # #[cfg(target_os = "linux")] {
    /// let inventory = Inventory::read(std::env::current_exe().unwrap()).unwrap();
    /// let variable = &inventory.variables()[0];
    /// assert!(variable.crate_name().is_none_or(|name| !name.is_empty()));
    /// # }
    /// ```
    #[must_use]
    pub fn crate_name(&self) -> Option<&str> {
        self.crate_name.as_deref()
    }

    /// Returns where it starts in the block of thread-locals, in bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate_sentinel::Inventory;
    ///
    /// # #[cfg(target_os = "linux")] {
    /// let inventory = Inventory::read(std::env::current_exe().unwrap()).unwrap();
    /// let variable = &inventory.variables()[0];
    /// assert!(variable.offset() < inventory.size());
    /// # }
    /// ```
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Returns its size in bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate_sentinel::Inventory;
    ///
    /// # #[cfg(target_os = "linux")] {
    /// let inventory = Inventory::read(std::env::current_exe().unwrap()).unwrap();
    /// let variable = &inventory.variables()[0];
    /// assert!(variable.size() <= inventory.size());
    /// # }
    /// ```
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Returns whether a fresh thread's copy comes from the file; otherwise it starts as zeros.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate_sentinel::Inventory;
    ///
    /// # #[cfg(target_os = "linux")] {
    /// let inventory = Inventory::read(std::env::current_exe().unwrap()).unwrap();
    /// let from_file = inventory.variables().iter().filter(|variable| variable.is_initialised());
    /// assert!(from_file.count() <= inventory.variables().len());
    /// # }
    /// ```
    #[must_use]
    pub fn is_initialised(&self) -> bool {
        self.is_initialised
    }
}

/// A file's thread-locals could not be listed. Its `Display` names the file and the reason.
///
/// # Examples
///
/// ```
/// use cleanslate_sentinel::Inventory;
///
/// let file = std::env::temp_dir().join(format!("cleanslate-{}-named", std::process::id()));
/// std::fs::write(&file, "no program")?;
/// let error = Inventory::read(&file).unwrap_err();
/// std::fs::remove_file(&file)?;
/// assert!(error.to_string().contains("-named"), "{error}");
/// # Ok::<_, std::io::Error>(())
/// ```
pub struct InventoryError {
    path: PathBuf,
    failure: Failure,
}

impl InventoryError {
    /// Returns whether the file has thread-locals but is stripped of their names.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate_sentinel::Inventory;
    ///
    /// let file = std::env::temp_dir().join(format!("cleanslate-{}-stripped", std::process::id()));
    /// std::fs::write(&file, "no program")?;
    /// let error = Inventory::read(&file).unwrap_err();
    /// std::fs::remove_file(&file)?;
    /// assert!(!error.is_stripped());
    /// # Ok::<_, std::io::Error>(())
    /// ```
    #[must_use]
    pub fn is_stripped(&self) -> bool {
        matches!(self.failure, Failure::Stripped)
    }

    /// Returns whether the file is something other than ELF.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate_sentinel::Inventory;
    ///
    /// let file = std::env::temp_dir().join(format!("cleanslate-{}-other", std::process::id()));
    /// std::fs::write(&file, "no program")?;
    /// let error = Inventory::read(&file).unwrap_err();
    /// std::fs::remove_file(&file)?;
    /// assert!(error.is_not_elf());
    /// # Ok::<_, std::io::Error>(())
    /// ```
    #[must_use]
    pub fn is_not_elf(&self) -> bool {
        matches!(self.failure, Failure::NotElf)
    }

    /// Returns whether the file is ELF, but truncated or malformed.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate_sentinel::Inventory;
    ///
    /// let file = std::env::temp_dir().join(format!("cleanslate-{}-broken", std::process::id()));
    /// std::fs::write(&file, "no program")?;
    /// let error = Inventory::read(&file).unwrap_err();
    /// std::fs::remove_file(&file)?;
    /// assert!(!error.is_malformed());
    /// # Ok::<_, std::io::Error>(())
    /// ```
    #[must_use]
    pub fn is_malformed(&self) -> bool {
        matches!(self.failure, Failure::Malformed(_))
    }
}

impl fmt::Display for InventoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.failure)
    }
}

impl fmt::Debug for InventoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InventoryError({self})")
    }
}

impl std::error::Error for InventoryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.failure {
            Failure::Io(error) => Some(error),
            Failure::Malformed(error) => Some(error),
            Failure::NotAFile | Failure::NotElf | Failure::NotLinked | Failure::Stripped => None,
        }
    }
}
