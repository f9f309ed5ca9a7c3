//! What the engine keeps per thread, for the sentinel to leave out.

use std::sync::Once;

/// Tells the sentinel where it is, once.
pub(super) fn ignore() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        cleanslate_sentinel::ignore(|ignored| super::thread::current().list(ignored))
    });
}
