//! What a program's or library's file says about its thread-locals.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;
use std::{fs, iter};

use crate::error::Unsupported;
use crate::symbols::{Symbol, Symbols};
use crate::tls::Loaded;

/// What a file says about its thread-locals, wherever and however often it is loaded.
#[derive(Debug)]
pub(super) struct Module {
    /// The name of its file, without folders.
    pub(super) file: String,
    pub(super) path: PathBuf,
    /// In order of their offsets, not overlapping; empty if the file names none.
    pub(super) symbols: Vec<Symbol>,
    /// The bytes that may belong to a thread-local without a name, as after `strip`.
    pub(super) unnamed: Vec<Range<usize>>,
    /// The size of a block, in bytes.
    pub(super) size: usize,
}

/// What was read of a file, and when.
#[derive(Debug)]
struct Known {
    origin: Origin,
    /// The file's current version, which may not be what was read: see [`Module::of`].
    version: Option<Version>,
    module: Arc<Module>,
}

/// What tells a file from others, and from most files that replace it.
#[derive(Debug, PartialEq, Eq)]
struct Origin {
    path: PathBuf,
    /// The program headers, byte for byte.
    headers: Vec<u8>,
    size: usize,
}

#[derive(Debug, PartialEq, Eq)]
struct Version {
    len: u64,
    modified: SystemTime,
}

/// Reading a symbol table takes milliseconds, so each is read once in a process.
static MODULES: Mutex<Memory> = Mutex::new(Memory(Vec::new()));

/// The files that were asked for, the most recent one last.
struct Memory(Vec<Known>);

/// How many files are remembered. A program may go on loading new plugins.
const REMEMBERED: usize = 256;

impl Memory {
    fn of(&mut self, loaded: &Loaded) -> Result<Arc<Module>, Unsupported> {
        let path = file_of(loaded);
        let version = version_of(&path);
        let origin = Origin { path, headers: loaded.headers.clone(), size: loaded.size };
        let place = self.0.iter().position(|known| known.origin == origin);
        let known = place.map(|place| self.0.remove(place));
        let known = match known {
            Some(known) if known.version == version => known,
            known => match (Module::read(&origin), known) {
                (Err(why), before) => {
                    self.0.extend(before);
                    return Err(why);
                }
                (Ok(read), before) => {
                    let before = before.map(|known| known.module);
                    let before = before.filter(|_| read.symbols.is_empty());
                    Known { origin, version, module: before.unwrap_or_else(|| Arc::new(read)) }
                }
            },
        };
        let module = Arc::clone(&known.module);
        if self.0.len() == REMEMBERED {
            self.0.remove(0);
        }
        self.0.push(known);
        Ok(module)
    }
}

impl Module {
    /// Finds or reads what is known of a loaded module.
    ///
    /// A file that has no symbols, is no longer there or is not the one that was loaded gives a
    /// module without names, if it had none when it was read before: what is removed, replaced or
    /// stripped under a program stays loaded as it was. A file with the same program headers counts
    /// as the one that was loaded.
    ///
    /// # Errors
    ///
    /// Returns a temporary error if the file may be readable later. That is not remembered: a name
    /// that is missing for a moment must not be missing for the life of the process.
    pub(super) fn of(loaded: &Loaded) -> Result<Arc<Module>, Unsupported> {
        MODULES.lock().unwrap_or_else(PoisonError::into_inner).of(loaded)
    }

    fn read(origin: &Origin) -> Result<Module, Unsupported> {
        let (symbols, unnamed) = match Symbols::read(&origin.path) {
            // A file that was replaced since it was loaded would give wrong names.
            Ok(file) if file.headers == origin.headers => (file.list, file.unnamed),
            Err(failure) if failure.is_temporary() => {
                return Err(Unsupported::unread(&origin.path, &failure));
            }
            Ok(_) | Err(_) => (Vec::new(), iter::once(0..origin.size).collect()),
        };
        // A library goes by the name under which it was loaded, which may be a link: before glibc
        // 2.34 `libc.so.6` was one to `libc-2.31.so`.
        let path = match origin.path.to_str() {
            Some(EXE) => fs::read_link(EXE).map_or_else(|_| EXE.into(), before_deletion),
            _ => origin.path.clone(),
        };
        let file = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Ok(Module { file, path, symbols, unnamed, size: origin.size })
    }
}

/// The program itself. The link works even if the file was moved or deleted.
const EXE: &str = "/proc/self/exe";

fn file_of(loaded: &Loaded) -> PathBuf {
    if loaded.name.is_empty() {
        return EXE.into();
    }
    path_of(&loaded.name)
}

/// Returns the path that a file had before, if the kernel says that it was deleted: another file
/// may have taken its place, and rules still name it.
fn before_deletion(path: PathBuf) -> PathBuf {
    match path.to_str().and_then(|text| text.strip_suffix(" (deleted)")) {
        Some(before) if !path.exists() => before.into(),
        _ => path,
    }
}

#[cfg(unix)]
fn path_of(name: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    PathBuf::from(std::ffi::OsStr::from_bytes(name))
}

#[cfg(not(unix))]
fn path_of(name: &[u8]) -> PathBuf {
    PathBuf::from(&*String::from_utf8_lossy(name))
}

fn version_of(path: &Path) -> Option<Version> {
    let data = fs::metadata(path).ok()?;
    Some(Version { len: data.len(), modified: data.modified().ok()? })
}

#[cfg(all(test, unix))]
mod tests {
    use std::path::{Path, PathBuf};
    use std::sync::Arc;
    use std::{env, fs, os, process};

    use super::{Memory, Module, REMEMBERED, before_deletion};
    use crate::symbols::Symbols;
    use crate::tls::Loaded;

    /// Returns a path for a test's file.
    fn place(name: &str) -> PathBuf {
        env::temp_dir().join(format!("cleanslate-{}-{name}", process::id()))
    }

    fn loaded(path: &Path, headers: Vec<u8>, size: usize) -> Loaded {
        let name = path.to_str().unwrap().into();
        Loaded { id: 1, place: 0, base: 0, name, headers, image: Vec::new(), size }
    }

    // Broke: what was watched by another thread from then on had no names.
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    #[test]
    fn the_names_of_a_file_that_is_removed_or_replaced_are_kept() {
        let file = place("library");
        fs::copy(env::current_exe().unwrap(), &file).unwrap();
        let Symbols { headers, block, .. } = Symbols::read(&file).unwrap();
        let names = || {
            let module = Module::of(&loaded(&file, headers.clone(), block)).unwrap();
            module.symbols.iter().map(|symbol| symbol.name.path.clone()).collect::<Vec<_>>()
        };
        let before = names();
        assert!(before.iter().any(|name| name.starts_with("std::thread::")), "{before:?}");
        let mut stripped = fs::read(&file).unwrap();
        stripped[0x28..0x30].fill(0);
        stripped[0x3C..0x40].fill(0);
        fs::write(&file, &stripped).unwrap();
        assert_eq!(names(), before);
        fs::remove_file(&file).unwrap();
        assert_eq!(names(), before);
        fs::write(&file, "another one").unwrap();
        assert_eq!(names(), before);
        // One that was not seen before has none.
        let other = Module::of(&loaded(&file, headers.clone(), block + 8)).unwrap();
        fs::remove_file(&file).unwrap();
        assert!(other.symbols.is_empty());
    }

    // Broke: the one that was read first was, also if it had just been asked for.
    #[test]
    fn the_file_that_nobody_has_asked_for_for_longest_is_forgotten() {
        let mut memory = Memory(Vec::new());
        let mut of = |number| memory.of(&loaded(&place("gone"), Vec::new(), number)).unwrap();
        let first = of(1);
        let second = of(2);
        for number in 3..3 + REMEMBERED {
            assert!(Arc::ptr_eq(&of(1), &first), "before {number}");
            of(number);
        }
        assert!(Arc::ptr_eq(&of(1), &first));
        assert!(!Arc::ptr_eq(&of(2), &second));
    }

    // Broke: nothing was watched any more, since each such path might have led somewhere later.
    #[test]
    fn a_path_that_leads_nowhere_gives_a_module_without_names() {
        let link = place("link");
        os::unix::fs::symlink(&link, &link).unwrap();
        let circle = Module::of(&loaded(&link, Vec::new(), 8));
        fs::remove_file(&link).unwrap();
        assert!(circle.unwrap().symbols.is_empty());
        let long = Module::of(&loaded(&place(&"x".repeat(10_000)), Vec::new(), 8));
        assert!(long.unwrap().symbols.is_empty());
    }

    // Broke: it went by the name of the file behind the link, to which no rule for the C library
    // applied.
    #[test]
    fn a_library_goes_by_the_name_that_it_was_loaded_by() {
        let (file, link) = (place("libc-2.31.so"), place("libc.so.6"));
        fs::write(&file, "no library").unwrap();
        os::unix::fs::symlink(file.file_name().unwrap(), &link).unwrap();
        let module = Module::of(&loaded(&link, Vec::new(), 8)).unwrap();
        fs::remove_file(&link).unwrap();
        fs::remove_file(&file).unwrap();
        assert!(module.file.ends_with("-libc.so.6"), "{module:?}");
        assert_eq!(module.path, link);
    }

    // Broke: once the file was replaced, no rule for the program's name applied.
    #[test]
    fn a_program_whose_file_was_deleted_keeps_its_name() {
        let file = place("program");
        let deleted = PathBuf::from(format!("{} (deleted)", file.display()));
        assert_eq!(before_deletion(deleted.clone()), file);
        fs::write(&deleted, "it is called so").unwrap();
        assert_eq!(before_deletion(deleted.clone()), deleted);
        fs::remove_file(&deleted).unwrap();
        assert_eq!(before_deletion(deleted), file);
        assert_eq!(before_deletion(PathBuf::from("/")), Path::new("/"));
    }
}
