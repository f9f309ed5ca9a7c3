//! A directory for the databases of an example, which is removed when the example ends, even if
//! Ctrl-C ends it.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

static DIRECTORY: Mutex<PathBuf> = Mutex::new(PathBuf::new());

fn directory() -> MutexGuard<'static, PathBuf> {
    DIRECTORY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `f` with a directory that is removed afterwards. To be called once.
///
/// Ctrl-C and a SIGTERM remove it, too, and end the process.
pub(crate) fn in_a_directory<E: Into<Box<dyn Error + Send + Sync>>>(
    f: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    ctrlc::set_handler(|| {
        // Held to the end, so that nobody gets to report missing files.
        let directory = directory();
        // Code that is still at work may put a new file there meanwhile.
        let _removed = (0..100).any(|_| std::fs::remove_dir_all(&*directory).is_ok());
        // What a shell returns for a program that SIGINT ended. (For SIGTERM, too: the handler is
        // not told which it was.)
        std::process::exit(130);
    })?;
    let made = {
        let mut directory = directory();
        let made = tempfile::tempdir()?;
        made.path().clone_into(&mut directory);
        made
    };
    let done = f(made.path());
    // Waits for the end of the process after Ctrl-C.
    let _directory = directory();
    done.map_err(Into::into)?;
    Ok(made.close()?)
}
