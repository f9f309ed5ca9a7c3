//! What is known of a loaded module, and what the rules make of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

use super::rule::{Rules, Verdict};
use super::symbols::{Symbol, Symbols};
use super::tls::Loaded;

/// A loaded module with its thread-locals' names. The same for all threads.
#[derive(Debug)]
pub(super) struct Module {
    /// The name of its file, without folders.
    pub(super) file: String,
    pub(super) path: PathBuf,
    /// In order of their offsets, not overlapping; empty if the file names none.
    pub(super) symbols: Vec<Symbol>,
    /// Every thread-local has its name, as it has not in a stripped file.
    pub(super) is_named: bool,
    loaded: Loaded,
    file_version: Option<FileVersion>,
}

/// What tells a file from one that replaced it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileVersion {
    size: u64,
    modified: SystemTime,
}

/// Reading a symbol table takes milliseconds, so each is read once in a process.
static MODULES: Mutex<Vec<Arc<Module>>> = Mutex::new(Vec::new());

impl Module {
    /// Finds or reads what is known of a loaded module.
    pub(super) fn of(loaded: &Loaded) -> Arc<Module> {
        let path = file_of(loaded);
        let version = version_of(&path);
        let mut modules = MODULES.lock();
        let known = modules.iter().find(|module| {
            module.file_version == version && is_same_module(&module.loaded, loaded)
        });
        if let Some(known) = known {
            return Arc::clone(known);
        }
        let module = Arc::new(Module::read(loaded, path, version));
        // What replaces a module that was unloaded may be loaded where that one was.
        modules.retain(|old| old.loaded.base != loaded.base);
        modules.push(Arc::clone(&module));
        module
    }

    fn read(loaded: &Loaded, path: PathBuf, file_version: Option<FileVersion>) -> Module {
        // A file that was replaced since it was loaded would give wrong names; the program
        // headers tell. Any failure leaves the module unnamed.
        let symbols = Symbols::read(&path).ok().filter(|file| file.headers == loaded.headers);
        let (symbols, is_named) = match symbols {
            Some(symbols) => (symbols.list, symbols.complete),
            None => (Vec::new(), false),
        };
        // The program itself is read through /proc, where its name is a link.
        let shown = fs::read_link(&path).unwrap_or_else(|_| path.clone());
        let file = shown.file_name().unwrap_or(shown.as_os_str()).to_string_lossy().into_owned();
        Module { file, path: shown, symbols, is_named, loaded: loaded.clone(), file_version }
    }

    /// The size of the module's block, in bytes.
    pub(super) fn size(&self) -> usize {
        self.loaded.size
    }

    /// Copies what a fresh block has from `offset` on.
    pub(super) fn initial(&self, offset: usize, to: &mut [u8]) {
        let image = self.loaded.image.get(offset..).unwrap_or_default();
        let len = image.len().min(to.len());
        to[..len].copy_from_slice(&image[..len]);
        to[len..].fill(0);
    }

    /// Whether bytes that start at `offset` are as in a fresh block.
    pub(super) fn is_initial(&self, offset: usize, bytes: &[u8]) -> bool {
        let image = self.loaded.image.get(offset..).unwrap_or_default();
        let (old, zero) = bytes.split_at(image.len().min(bytes.len()));
        // In chunks, which the compiler turns into wide instructions.
        let is_zero = |chunk: &[u8]| chunk.iter().fold(0, |all, byte| all | byte) == 0;
        image[..old.len()] == *old && zero.chunks(64).all(is_zero)
    }
}

/// Whether two descriptions are of one module, whoever's thread they come from.
fn is_same_module(a: &Loaded, b: &Loaded) -> bool {
    (a.id, a.base, a.size) == (b.id, b.base, b.size)
        && a.name == b.name
        && a.headers == b.headers
        && a.image == b.image
}

fn file_of(loaded: &Loaded) -> PathBuf {
    if loaded.name.is_empty() {
        // The link works also when the file was moved or deleted.
        return PathBuf::from("/proc/self/exe");
    }
    path_of(&loaded.name)
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

fn version_of(path: &Path) -> Option<FileVersion> {
    let data = fs::metadata(path).ok()?;
    Some(FileVersion { size: data.len(), modified: data.modified().ok()? })
}

/// What a set of rules says about the bytes of one module.
#[derive(Debug)]
pub(super) struct Plan {
    module: Arc<Module>,
    /// Offset and length of each run of bytes that is watched.
    runs: Vec<(usize, usize)>,
    /// Which of the module's symbols may come to life.
    first_touch: Vec<bool>,
}

impl Plan {
    pub(super) fn new(module: Arc<Module>, rules: &Rules) -> Plan {
        let of_module = rules.on_module(&module.file);
        let mut runs = Vec::new();
        let mut first_touch = Vec::new();
        let mut start = 0;
        for symbol in &module.symbols {
            let verdict = match (of_module, rules.on_name(&symbol.name)) {
                (Verdict::Allowed, _) | (_, Verdict::Allowed) => Verdict::Allowed,
                (Verdict::FirstTouch, _) | (_, Verdict::FirstTouch) => Verdict::FirstTouch,
                _ => Verdict::Watched,
            };
            first_touch.push(verdict == Verdict::FirstTouch);
            if verdict == Verdict::Allowed {
                if symbol.offset > start {
                    runs.push((start, symbol.offset - start));
                }
                start = symbol.offset + symbol.size;
            }
        }
        if of_module == Verdict::Allowed {
            runs.clear();
        } else if module.size() > start {
            runs.push((start, module.size() - start));
        }
        if module.is_named {
            // Where every variable has a name, a run without one is padding.
            runs.retain(|&(offset, len)| {
                module.symbols.iter().any(|symbol| {
                    symbol.offset < offset + len && offset < symbol.offset + symbol.size
                })
            });
        }
        Plan { module, runs, first_touch }
    }

    pub(super) fn module(&self) -> &Arc<Module> {
        &self.module
    }

    pub(super) fn runs(&self) -> &[(usize, usize)] {
        &self.runs
    }

    /// The symbol that a byte belongs to, and whether it may come to life.
    pub(super) fn symbol_at(&self, offset: usize) -> Option<(&Symbol, bool)> {
        let after = self.module.symbols.partition_point(|symbol| symbol.offset <= offset);
        let place = after.checked_sub(1)?;
        let symbol = &self.module.symbols[place];
        (offset < symbol.offset + symbol.size).then(|| (symbol, self.first_touch[place]))
    }

    /// Where the bytes without a name around `offset` start and end.
    pub(super) fn gap_around(&self, offset: usize) -> (usize, usize) {
        let symbols = &self.module.symbols;
        let after = symbols.partition_point(|symbol| symbol.offset <= offset);
        let start =
            after.checked_sub(1).map_or(0, |last| symbols[last].offset + symbols[last].size);
        (start, symbols.get(after).map_or(self.module.size(), |symbol| symbol.offset))
    }
}
