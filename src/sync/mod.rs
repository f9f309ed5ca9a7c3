//! Synchronisation: [`seam`] is the one place through which the crate reaches atomics, locks and
//! threads.

pub(crate) mod seam;
