//! Which bytes of one thread are watched, and what they belong to.

use std::sync::Arc;

use super::module::{Module, Unread};
use super::plan::Plan;
use super::rule::Rules;
use super::tls::{self, Identity, Loaded, Loads, Span, View};
use super::unsupported::Unsupported;

/// Which bytes of one thread are watched, and what they belong to.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) loads: Loads,
    /// The modules of which the thread has a block.
    pub(super) modules: Vec<Watched>,
    pub(super) view: View,
    /// Why a module is not watched at the moment.
    pub(super) unread: Option<Unread>,
}

#[derive(Debug)]
pub(super) struct Watched {
    pub(super) loaded: Loaded,
    /// `None` while the symbols of its file cannot be read. Without names every variable that may
    /// change would be a false alarm.
    pub(super) plan: Option<Arc<Plan>>,
}

/// What a layout knows of a block in a later one.
#[derive(Clone, Copy, Debug)]
pub(super) enum Past {
    /// It was not there.
    New,
    /// It belonged to the module at this place.
    Seen(usize, Identity),
    /// It may have been there.
    Unknown,
}

impl Layout {
    /// Looks up the calling thread's blocks and reads the symbols of modules not seen before.
    pub(super) fn new(rules: &Rules) -> Result<Layout, Unsupported> {
        let (listing, mut view) = tls::census()?;
        let (mut modules, mut spans) = (Vec::new(), Vec::new());
        let (mut unread, mut at) = (None, 0);
        for (module, loaded) in listing.modules.into_iter().enumerate() {
            let plan = match Module::of(&loaded) {
                Ok(file) => Some(rules.plan(&file)),
                Err(why) => {
                    unread.get_or_insert(why);
                    None
                }
            };
            for &(offset, len) in plan.iter().flat_map(|plan| plan.runs()) {
                spans.push(Span { module, offset, len, at });
                at += len;
            }
            modules.push(Watched { loaded, plan });
        }
        view.watch(spans);
        Ok(Layout { loads: listing.loads, modules, view, unread })
    }

    /// How long a copy of the watched bytes is.
    pub(super) fn len(&self) -> usize {
        self.view.spans().last().map_or(0, |span| span.at + span.len)
    }

    /// What this layout knows of the block that a module has in a later one.
    pub(super) fn past_of(&self, module: usize, now: &Layout) -> Past {
        let loaded = &now.modules[module].loaded;
        let is_it = |&place: &usize| {
            self.modules[place].loaded.is_like(loaded)
                && now.view.shares_block(module, &self.view, place)
        };
        match (0..self.modules.len()).find(is_it) {
            Some(place) => Past::Seen(place, loaded.identity(now.loads, self.loads)),
            None if now.view.was_hidden(module, loaded.id, &self.view) => Past::Unknown,
            None => Past::New,
        }
    }

    /// Copies what `buffer` has of a run of bytes of one module; leaves the rest of `to` alone.
    pub(super) fn copy_of(&self, buffer: &[u8], module: usize, offset: usize, to: &mut [u8]) {
        for span in self.view.spans().iter().filter(|span| span.module == module) {
            let start = span.offset.max(offset);
            let end = (span.offset + span.len).min(offset + to.len());
            if start < end {
                let from = span.at + start - span.offset;
                let bytes = &buffer[from..from + end - start];
                to[start - offset..end - offset].copy_from_slice(bytes);
            }
        }
    }
}
