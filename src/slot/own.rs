//! What slots keep per thread besides their cells, for the sentinel to leave out.

use std::sync::Once;

use super::{stash, table};

/// Tells the sentinel where it is, once.
pub(crate) fn ignore() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        cleanslate_sentinel::ignore(|ignored| {
            stash::list(ignored);
            table::list(ignored);
        });
    });
}
