//! Finding the thread-locals in which bytes differ.

use crate::leak::Leak;
use crate::plan::Plan;
use crate::symbols::Symbol;
use crate::tls::{Identity, Loaded};
use crate::verdict::Verdict;

/// A run of bytes of one module, before a task and after it.
#[derive(Debug)]
pub(super) struct Change<'a> {
    pub(super) loaded: &'a Loaded,
    pub(super) plan: &'a Plan,
    /// Where the run starts in the module's block.
    pub(super) offset: usize,
    pub(super) before: &'a [u8],
    pub(super) after: &'a [u8],
    /// Whether `before` is of the same module as `after`.
    pub(super) identity: Identity,
}

/// A thread-local that was left changed.
struct Found<'a> {
    symbol: Option<&'a Symbol>,
    start: usize,
    old: &'a [u8],
    new: &'a [u8],
    is_first_touch: bool,
}

impl Change<'_> {
    /// Adds a leak for each thread-local in which a byte differs.
    pub(super) fn leaks(&self, leaks: &mut Vec<Leak>) {
        let mut at = 0;
        while let Some(found) = self.next_leak(&mut at) {
            let Found { symbol, start, old, new, is_first_touch } = found;
            leaks.push(Leak::new(self.plan.module(), symbol, start, old, new, is_first_touch));
        }
    }

    /// Returns whether there is a leak. It allocates nothing.
    pub(super) fn is_leak(&self) -> bool {
        self.next_leak(&mut 0).is_some()
    }

    /// Looks for a leak from `at` on, counted from the start of the run, and moves `at` behind it.
    fn next_leak(&self, at: &mut usize) -> Option<Found<'_>> {
        loop {
            let place =
                self.offset + *at + first_difference(&self.before[*at..], &self.after[*at..])?;
            let symbol = self.plan.symbol_at(place);
            let (start, end) = match symbol {
                Some((symbol, _)) => (symbol.offset, symbol.offset + symbol.size),
                None => self.unnamed_at(place),
            };
            *at = end - self.offset;
            let bytes = start - self.offset..*at;
            let (old, new) = (&self.before[bytes.clone()], &self.after[bytes]);
            // If it is another module after all, its bytes had their initial value before.
            if self.identity == Identity::PerhapsAnother && self.loaded.is_initial(start, new) {
                continue;
            }
            let is_first_touch = self.loaded.is_initial(start, old);
            let is_unset = |bytes| self.loaded.is_unset(start, bytes);
            let passes = match symbol.map_or(self.plan.of_module, |(_, verdict)| verdict) {
                Verdict::Watched => false,
                Verdict::Unset => is_unset(old) && is_unset(new),
                Verdict::FirstTouch => is_first_touch,
                Verdict::SameKind => self.loaded.has_same_marks(start, old, new),
                Verdict::Allowed => true,
            };
            if !passes {
                let symbol = symbol.map(|(symbol, _)| symbol);
                return Some(Found { symbol, start, old, new, is_first_touch });
            }
        }
    }

    /// Returns where the differing words around `place` start and end. Without a name, a run of
    /// them counts as one variable.
    fn unnamed_at(&self, place: usize) -> (usize, usize) {
        const WORD: usize = 8;
        let (first, limit) = self.plan.gap_around(place);
        let limit = limit.min(self.offset + self.before.len());
        let word = place / WORD * WORD;
        let start = word.max(self.offset).max(first);
        let mut end = (word + WORD).min(limit);
        while end < limit {
            let next = (end + WORD).min(limit);
            let bytes = end - self.offset..next - self.offset;
            if self.before[bytes.clone()] == self.after[bytes] {
                break;
            }
            end = next;
        }
        (start, end)
    }
}

/// Returns where two slices of the same length start to differ.
fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    // Slices are compared much faster as wholes than byte by byte.
    const CHUNK: usize = 64;
    let chunk = a.chunks(CHUNK).zip(b.chunks(CHUNK)).position(|(a, b)| a != b)?;
    let start = chunk * CHUNK;
    let within = a[start..].iter().zip(&b[start..]).position(|(a, b)| a != b)?;
    Some(start + within)
}
