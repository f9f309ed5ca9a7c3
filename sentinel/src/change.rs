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

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::Change;
    use crate::module::Module;
    use crate::name::Name;
    use crate::plan::Plan;
    use crate::rule::Rules;
    use crate::symbols::Symbol;
    use crate::tls::{Identity, Loaded};
    use crate::verdict::Verdict;

    const SIZE: usize = 40;

    /// Returns place and size of what is reported of a module that has a variable of four bytes at
    /// each end and names no other.
    fn found(
        rules: &Rules,
        image: &[u8],
        [before, after]: [[u8; SIZE]; 2],
        ignored: &[Range<usize>],
    ) -> Vec<(usize, usize)> {
        let (id, place, base, image) = (1, 0, 0, image.to_vec());
        let [name, headers] = [const { Vec::new() }; 2];
        let loaded = Loaded { id, place, base, name, headers, image, size: SIZE };
        let (file, path) = (String::new(), PathBuf::new());
        let symbol = |name, offset| Symbol { name: Name::of(name), offset, size: 4 };
        let symbols = vec![symbol("first", 0), symbol("last", 36)];
        let unnamed = std::iter::once(4..36).collect();
        let module = Module { file, path, symbols, unnamed, size: SIZE };
        let plan = Plan::new(Arc::new(module), rules);
        let mut leaks = Vec::new();
        for (offset, len) in plan.runs(ignored) {
            let (before, after) = (&before[offset..offset + len], &after[offset..offset + len]);
            let (loaded, plan, identity) = (&loaded, &plan, Identity::Same);
            Change { loaded, plan, offset, before, after, identity }.leaks(&mut leaks);
        }
        leaks.iter().map(|leak| (leak.offset(), leak.size())).collect()
    }

    #[test]
    fn without_names_whole_words_count_up_to_the_next_name_or_what_is_ignored() {
        let found = |changed: &[usize], ignored: &[Range<usize>]| {
            let mut after = [0; SIZE];
            changed.iter().for_each(|&at| after[at] = 1);
            found(&Rules::strict(), &[], [[0; SIZE], after], ignored)
        };
        assert_eq!(found(&[1], &[]), [(0, 4)]);
        assert_eq!(found(&[5, 9, 25], &[]), [(4, 12), (24, 8)]);
        assert_eq!(found(&[1, 33, 39], &[]), [(0, 4), (32, 4), (36, 4)]);
        let ignored = [18..20, 34..36];
        assert_eq!(found(&[17, 21, 33, 37], &ignored), [(16, 2), (20, 4), (32, 2), (36, 4)]);
        assert_eq!(found(&[2, 18, 19], &[17..25, 3..4]), []);
    }

    #[test]
    fn what_may_change_while_nothing_is_set_is_looked_at_before_and_after() {
        let leaks = |verdict, image: &[u8], before, after| {
            let mut rules = Rules::strict();
            rules.add("first", verdict);
            let whole = |bytes: [u8; 4]| {
                let mut whole = [0; SIZE];
                whole[..4].copy_from_slice(&bytes);
                whole
            };
            !found(&rules, image, [whole(before), whole(after)], &[]).is_empty()
        };
        // A one is std's note that there is a destructor.
        for (before, after, is_leak) in [
            ([0; 4], [0, 0, 1, 0], false),
            ([0; 4], [0, 0, 1, 1], true),
            ([0; 4], [0, 0, 2, 0], true),
            ([0, 7, 0, 0], [0, 0, 1, 0], true),
        ] {
            assert_eq!(leaks(Verdict::Unset, &[], before, after), is_leak, "{before:?} {after:?}");
        }
        // Where the image has a mark, that says whether something is set.
        let image = [0, 2, 0, 0];
        for (before, after, is_unset, is_same) in [
            ([0, 2, 0, 0], [5, 2, 5, 5], true, true),
            ([0, 2, 0, 0], [5, 3, 5, 5], false, false),
            ([5, 3, 5, 5], [0, 2, 0, 0], false, false),
            ([5, 3, 5, 5], [6, 3, 6, 6], false, true),
        ] {
            assert_eq!(leaks(Verdict::Unset, &image, before, after), !is_unset, "{after:?}");
            assert_eq!(leaks(Verdict::SameKind, &image, before, after), !is_same, "{after:?}");
        }
        // A one at the end of the image is such a note in newer versions of std; then it is a zero
        // that says that there is a destructor.
        for (image, before, after, is_unset, is_same) in [
            ([0, 0, 0, 1], [0, 0, 0, 1], [0; 4], true, true),
            ([0, 0, 0, 1], [0, 0, 0, 1], [0, 1, 0, 0], false, true),
            ([0, 0, 0, 1], [0, 1, 0, 0], [0; 4], false, true),
            ([0, 0, 1, 0], [0, 0, 1, 0], [0; 4], true, true),
            ([0, 1, 0, 0], [0, 1, 0, 0], [0; 4], false, false),
            ([2, 0, 1, 0], [2, 0, 1, 0], [2, 5, 0, 0], true, true),
            ([2, 0, 1, 0], [2, 0, 1, 0], [3, 5, 0, 0], false, false),
        ] {
            assert_eq!(leaks(Verdict::Unset, &image, before, after), !is_unset, "{after:?}");
            assert_eq!(leaks(Verdict::SameKind, &image, before, after), !is_same, "{after:?}");
        }
    }
}
