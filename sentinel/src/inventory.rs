//! What a binary keeps per thread.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::symbols::{Failure, Symbols};

/// The thread-locals that a binary declares.
///
/// It reads ELF files of any architecture, on any system; nothing of the file is run.
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
    /// Returns an error if the file cannot be read, is no ELF file, is truncated or malformed, or
    /// has thread-locals but no name for any of them.
    pub fn read(path: impl AsRef<Path>) -> Result<Inventory, InventoryError> {
        let path = path.as_ref();
        let error = |failure| InventoryError { path: path.to_owned(), failure };
        let symbols = Symbols::read(path).map_err(|it| error(InventoryFailure::Unreadable(it)))?;
        if symbols.list.is_empty() && symbols.block > 0 && !symbols.complete {
            return Err(error(InventoryFailure::Stripped));
        }
        let initialised = symbols.initialised;
        let to_variable = |symbol: super::symbols::Symbol| Variable {
            path: symbol.name.path,
            crate_name: symbol.name.crate_name,
            offset: symbol.offset,
            size: symbol.size,
            is_initialised: symbol.offset < initialised,
        };
        Ok(Inventory {
            variables: symbols.list.into_iter().map(to_variable).collect(),
            size: symbols.block,
            is_complete: symbols.complete,
        })
    }

    /// Returns the thread-locals in the order in which they lie in memory.
    #[must_use]
    pub fn variables(&self) -> &[Variable] {
        &self.variables
    }

    /// Returns how many bytes each thread has for them, padding included.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Returns whether every thread-local has a name; in a stripped library only exported ones
    /// have.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }
}

/// A thread-local in a binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    path: Box<str>,
    crate_name: Option<Box<str>>,
    offset: usize,
    size: usize,
    is_initialised: bool,
}

impl Variable {
    /// Returns its path, as in `my_app::REQUEST_ID`; for one declared in C, its symbol.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the crate that declares it; `None` if it is not declared in Rust.
    #[must_use]
    pub fn crate_name(&self) -> Option<&str> {
        self.crate_name.as_deref()
    }

    /// Returns where it starts in the block of thread-locals, in bytes.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Returns its size in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Returns whether a fresh thread's copy comes from the file; otherwise it starts as zeros.
    #[must_use]
    pub fn is_initialised(&self) -> bool {
        self.is_initialised
    }
}

/// A file's thread-locals could not be listed; its `Display` names the file and the reason.
#[derive(Debug)]
pub struct InventoryError {
    path: PathBuf,
    failure: InventoryFailure,
}

#[derive(Debug)]
enum InventoryFailure {
    Unreadable(Failure),
    Stripped,
}

impl InventoryError {
    /// Returns whether the file has thread-locals but is stripped of their names.
    #[must_use]
    pub fn is_stripped(&self) -> bool {
        matches!(self.failure, InventoryFailure::Stripped)
    }

    /// Returns whether the file is something else than ELF.
    #[must_use]
    pub fn is_not_elf(&self) -> bool {
        matches!(self.failure, InventoryFailure::Unreadable(Failure::NotElf))
    }

    /// Returns whether the file is ELF, but cut off or broken.
    #[must_use]
    pub fn is_malformed(&self) -> bool {
        matches!(self.failure, InventoryFailure::Unreadable(Failure::Malformed(_)))
    }
}

impl fmt::Display for InventoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path.display())?;
        match &self.failure {
            InventoryFailure::Unreadable(failure) => write!(f, "{failure}"),
            InventoryFailure::Stripped => {
                f.write_str("stripped: it has thread-locals, but no names for them")
            }
        }
    }
}

impl std::error::Error for InventoryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.failure {
            InventoryFailure::Unreadable(Failure::Io(error)) => Some(error),
            InventoryFailure::Unreadable(Failure::Malformed(error)) => Some(error),
            InventoryFailure::Unreadable(Failure::NotElf) | InventoryFailure::Stripped => None,
        }
    }
}
