//! Which bytes of one thread are watched, and what they belong to.

use std::ops::Range;
use std::sync::Arc;

use crate::error::Unsupported;
use crate::module::Module;
use crate::plan::Plan;
use crate::policy::Policy;
use crate::tls::{self, Identity, Loaded, Loads, Span, View};

/// Which bytes of one thread are watched, and what they belong to.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) loads: Loads,
    /// The modules of which the thread has a block.
    pub(super) modules: Vec<Watched>,
    pub(super) view: View,
    /// Why a module is not watched at the moment.
    pub(super) unread: Option<Unsupported>,
}

#[derive(Debug)]
pub(super) struct Watched {
    pub(super) loaded: Loaded,
    /// `None` while the symbols of its file cannot be read. Without names, every variable that may
    /// change would be a false alarm.
    pub(super) plan: Option<Arc<Plan>>,
}

/// What a layout knows about a block in a later one.
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
    /// Looks up the calling thread's blocks, reads the symbols of modules not seen before, and
    /// watches what the rules say, except for what lies at `ignored`.
    pub(super) fn new(policy: &Policy, ignored: &[Range<usize>]) -> Result<Layout, Unsupported> {
        let (listing, view) = tls::census()?;
        let mut unread = None;
        let mut modules = Vec::new();
        for loaded in listing.modules {
            let plan = match Module::of(&loaded) {
                Ok(file) => Some(policy.plan(&file)),
                Err(why) => {
                    unread.get_or_insert(why);
                    None
                }
            };
            modules.push(Watched { loaded, plan });
        }
        let mut layout = Layout { loads: listing.loads, modules, view, unread };
        let spans = layout.spans(ignored);
        layout.view.watch(spans);
        Ok(layout)
    }

    /// Returns what there is to watch, except for what lies at `ignored`, in order of modules and
    /// offsets.
    pub(super) fn spans(&self, ignored: &[Range<usize>]) -> Vec<Span> {
        let (mut spans, mut at) = (Vec::new(), 0);
        for (module, watched) in self.modules.iter().enumerate() {
            let Some(plan) = &watched.plan else { continue };
            let in_module = |range: &Range<usize>| {
                let (place, offset) = self.view.find(range.start)?;
                (place == module).then(|| offset..offset + range.len())
            };
            let ignored: Vec<_> = ignored.iter().filter_map(in_module).collect();
            for (offset, len) in plan.runs(&ignored) {
                spans.push(Span { module, offset, len, at });
                at += len;
            }
        }
        spans
    }

    /// Returns how long a copy of the watched bytes is.
    pub(super) fn len(&self) -> usize {
        self.view.spans().last().map_or(0, |span| span.at + span.len)
    }

    /// Returns what this layout knows about the block that a module has in a later one.
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

    /// Copies what `buffer` has of a run of bytes of one module, and leaves the rest of `to` alone.
    pub(super) fn copy_of(&self, buffer: &[u8], module: usize, offset: usize, to: &mut [u8]) {
        let (spans, end) = (self.view.spans(), offset + to.len());
        let is_before = |span: &Span| (span.module, span.offset + span.len) <= (module, offset);
        let from_there = &spans[spans.partition_point(is_before)..];
        for span in from_there.iter().take_while(|it| it.module == module && it.offset < end) {
            let start = span.offset.max(offset);
            let end = (span.offset + span.len).min(end);
            let from = span.at + start - span.offset;
            let bytes = &buffer[from..from + end - start];
            to[start - offset..end - offset].copy_from_slice(bytes);
        }
    }
}
