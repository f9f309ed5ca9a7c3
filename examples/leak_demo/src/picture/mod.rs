//! The picture of a run: a lane for each worker, a box for each request, an arrow for each leak.

mod layout;
pub(super) mod page;
pub(super) mod svg;

use super::rows::Done;
use super::{args, findings, job, json, rows, table};

/// The two runs that are drawn: one that leaks above, a clean one below.
pub(super) fn pictured(done: &[Done]) -> impl Iterator<Item = &Done> {
    done.iter().filter(|done| done.row.pictured)
}
