//! What a set of rules makes of the thread-locals of one module.

use std::ops::Range;
use std::sync::Arc;

use crate::module::Module;
use crate::rule::{Rules, has_libc};
use crate::symbols::Symbol;
use crate::verdict::Verdict;

/// What a set of rules makes of the thread-locals of one module.
#[derive(Debug)]
pub(super) struct Plan {
    module: Arc<Module>,
    /// Offset and length of each run of bytes that is watched. None cuts a symbol in two.
    runs: Vec<(usize, usize)>,
    /// What the rules say of each of the module's symbols.
    verdicts: Vec<Verdict>,
    /// What they say of the module, and so of bytes without a name.
    pub(super) of_module: Verdict,
}

impl Plan {
    pub(super) fn new(module: Arc<Module>, rules: &Rules) -> Plan {
        let of_module = rules.on_module(&module.file);
        let has_libc = has_libc(&module.file, module.symbols.iter().map(|symbol| &symbol.name));
        let mut runs = Vec::new();
        let mut verdicts = Vec::new();
        let mut start = 0;
        for symbol in &module.symbols {
            let verdict = of_module.max(rules.on_name(&symbol.name, has_libc));
            verdicts.push(verdict);
            if verdict == Verdict::Allowed {
                if symbol.offset > start {
                    runs.push((start, symbol.offset - start));
                }
                start = symbol.offset + symbol.size;
            }
        }
        if of_module == Verdict::Allowed {
            runs.clear();
        } else if module.size > start {
            runs.push((start, module.size - start));
        }
        let mut plan = Plan { module, runs: Vec::new(), verdicts, of_module };
        plan.runs = plan.without_padding(runs);
        plan
    }

    /// Leaves out runs that contain no variable, named or not: they are padding.
    fn without_padding(&self, mut runs: Vec<(usize, usize)>) -> Vec<(usize, usize)> {
        runs.retain(|&(offset, len)| {
            let Module { symbols, unnamed, .. } = &*self.module;
            let symbol = symbols.partition_point(|it| it.offset + it.size <= offset);
            let gap = unnamed.partition_point(|it| it.end <= offset);
            symbols.get(symbol).is_some_and(|it| it.offset < offset + len)
                || unnamed.get(gap).is_some_and(|it| it.start < offset + len)
        });
        runs
    }

    pub(super) fn module(&self) -> &Arc<Module> {
        &self.module
    }

    /// Returns which runs of bytes are watched if those at `ignored` are not. Of a variable with a
    /// name, either all bytes are watched or none.
    pub(super) fn runs(&self, ignored: &[Range<usize>]) -> Vec<(usize, usize)> {
        if ignored.is_empty() {
            return self.runs.clone();
        }
        let mut holes: Vec<_> = ignored.iter().map(|range| self.to_symbols(range)).collect();
        holes.sort_unstable_by_key(|hole| hole.start);
        let mut runs = Vec::new();
        for &(offset, len) in &self.runs {
            let (mut start, end) = (offset, offset + len);
            for hole in &holes {
                if hole.end <= start || end <= hole.start {
                    continue;
                }
                if start < hole.start {
                    runs.push((start, hole.start - start));
                }
                start = hole.end;
            }
            if start < end {
                runs.push((start, end - start));
            }
        }
        self.without_padding(runs)
    }

    /// Extends a range, which is not empty, to the whole of the variables that it touches.
    fn to_symbols(&self, range: &Range<usize>) -> Range<usize> {
        let of = |offset| self.symbol_at(offset).map(|(symbol, _)| symbol);
        let start = of(range.start).map_or(range.start, |symbol| symbol.offset);
        let end = of(range.end - 1).map_or(range.end, |symbol| symbol.offset + symbol.size);
        start..end
    }

    /// Returns the symbol that a byte belongs to, and what the rules say of it.
    pub(super) fn symbol_at(&self, offset: usize) -> Option<(&Symbol, Verdict)> {
        let after = self.module.symbols.partition_point(|symbol| symbol.offset <= offset);
        let place = after.checked_sub(1)?;
        let symbol = &self.module.symbols[place];
        (offset < symbol.offset + symbol.size).then(|| (symbol, self.verdicts[place]))
    }

    /// Returns where the unnamed bytes around `offset` start and end.
    pub(super) fn gap_around(&self, offset: usize) -> (usize, usize) {
        let symbols = &self.module.symbols;
        let after = symbols.partition_point(|symbol| symbol.offset <= offset);
        let start =
            after.checked_sub(1).map_or(0, |last| symbols[last].offset + symbols[last].size);
        (start, symbols.get(after).map_or(self.module.size, |symbol| symbol.offset))
    }
}
