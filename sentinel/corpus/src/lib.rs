//! What the corpus's tests share: the C parts, and running a case on threads of its own.

use std::ffi::CString;
use std::path::Path;
use std::thread;

use cleanslate_sentinel::{self as sentinel, Report};

#[link(name = "corpus_linked", kind = "static")]
unsafe extern "C" {
    pub safe fn c_set_zero(value: u64);
    pub safe fn c_set_initialised(value: u64);
    pub safe fn c_set_struct(value: u64);
    pub safe fn c_set_bytes(value: u64);
    pub safe fn c_set_in_function(value: u64);
    pub safe fn c_sum() -> i64;
}

unsafe extern "C" {
    pub safe fn shared_set_exported(value: u64);
    pub safe fn shared_set_initialised(value: u64);
    pub safe fn shared_set_hidden(value: u64);
    pub safe fn shared_sum() -> u64;
}

/// A shared library that is loaded while the program runs.
pub struct Library(*mut libc::c_void);

impl Library {
    /// Loads `libcorpus_{name}.so`.
    pub fn open(name: &str) -> Library {
        let file = Path::new(env!("CORPUS_LIBRARIES")).join(format!("libcorpus_{name}.so"));
        Library::open_file(&file)
    }

    pub fn open_file(file: &Path) -> Library {
        let file = CString::new(file.to_str().expect("a plain path")).expect("no NUL");
        // SAFETY: the library is the corpus's own and has no constructors.
        let handle = unsafe { libc::dlopen(file.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        assert!(!handle.is_null(), "{file:?} cannot be loaded");
        Library(handle)
    }

    /// Looks up one of the setters, which can be called while the library is loaded.
    pub fn setter(&self, name: &str) -> impl Fn(u64) + Sync + '_ {
        let name = CString::new(name).expect("no NUL");
        // SAFETY: the handle is open.
        let address = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        assert!(!address.is_null(), "{name:?} is not in the library");
        // SAFETY: all of the library's setters have this type.
        let set = unsafe { std::mem::transmute::<*mut libc::c_void, extern "C" fn(u64)>(address) };
        move |value| {
            let _loaded = self;
            set(value);
        }
    }
}

// SAFETY: a handle may be used on any thread.
unsafe impl Send for Library {}
// SAFETY: looking something up changes nothing.
unsafe impl Sync for Library {}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: the handle is open, and closed only here.
        unsafe { libc::dlclose(self.0) };
    }
}

/// Runs a body on a fresh thread and gives its result.
pub fn on_fresh_thread<R: Send>(body: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| scope.spawn(body).join().expect("the body does not panic"))
}

/// Watches a body several times on one thread.
pub fn watch_rounds(rounds: u64, body: impl Fn(u64)) -> Vec<Report> {
    (1..=rounds).map(|round| sentinel::watch(|| body(round)).1).collect()
}
