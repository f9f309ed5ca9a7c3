//! The last requests, for the page.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::task::Asked;

/// How many of each kind are kept.
const KEPT: usize = 200;

/// One request that was answered.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) id: u64,
    pub(crate) asked_as: String,
    pub(crate) answered_as: Arc<str>,
    pub(crate) worker: String,
    /// What another request had left on the thread of the runtime, and on the worker.
    pub(crate) found_on_runtime: Option<Arc<str>>,
    pub(crate) found_on_worker: Option<Arc<str>>,
    is_leaky: bool,
}

impl Entry {
    pub(crate) fn new(asked: &Asked, answered_as: Arc<str>, worker: String) -> Self {
        Self {
            id: asked.id,
            asked_as: asked.name().to_owned(),
            answered_as,
            worker,
            found_on_runtime: asked.found.on_runtime.get().cloned(),
            found_on_worker: asked.found.on_worker.get().cloned(),
            is_leaky: asked.is_leaky,
        }
    }
}

/// Of both kinds.
#[derive(Default)]
pub(crate) struct History([Mutex<VecDeque<Entry>>; 2]);

impl History {
    pub(crate) fn add(&self, entry: Entry) {
        let list = &self.0[usize::from(entry.is_leaky)];
        let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
        if list.len() == KEPT {
            list.pop_front();
        }
        list.push_back(entry);
    }

    /// The newest first.
    pub(crate) fn entries(&self, is_leaky: bool) -> Vec<Entry> {
        let list = self.0[usize::from(is_leaky)].lock().unwrap_or_else(PoisonError::into_inner);
        list.iter().rev().cloned().collect()
    }
}
