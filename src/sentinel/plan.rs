//! What a set of rules makes of the thread-locals of one module.

use std::sync::Arc;

use super::module::Module;
use super::rule::{Rules, Verdict};
use super::symbols::Symbol;

/// What a set of rules makes of the thread-locals of one module.
#[derive(Debug)]
pub(super) struct Plan {
    module: Arc<Module>,
    /// Offset and length of each run of bytes that is watched. None cuts a symbol in two.
    runs: Vec<(usize, usize)>,
    /// Which of the module's symbols may come to life.
    first_touch: Vec<bool>,
}

impl Plan {
    pub(super) fn new(module: Arc<Module>, rules: &Rules) -> Plan {
        let of_module = rules.on_module(&module.file);
        let mut runs = Vec::new();
        let mut first_touch = Vec::new();
        let mut start = 0;
        for symbol in &module.symbols {
            let verdict = match (of_module, rules.on_name(&symbol.name)) {
                (Verdict::Allowed, _) | (_, Verdict::Allowed) => Verdict::Allowed,
                (Verdict::FirstTouch, _) | (_, Verdict::FirstTouch) => Verdict::FirstTouch,
                _ => Verdict::Watched,
            };
            first_touch.push(verdict == Verdict::FirstTouch);
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
        if module.is_named {
            // Where every variable has a name, a run without one is padding.
            runs.retain(|&(offset, len)| {
                module.symbols.iter().any(|symbol| {
                    symbol.offset < offset + len && offset < symbol.offset + symbol.size
                })
            });
        }
        Plan { module, runs, first_touch }
    }

    pub(super) fn module(&self) -> &Arc<Module> {
        &self.module
    }

    pub(super) fn runs(&self) -> &[(usize, usize)] {
        &self.runs
    }

    /// The symbol that a byte belongs to, and whether it may come to life.
    pub(super) fn symbol_at(&self, offset: usize) -> Option<(&Symbol, bool)> {
        let after = self.module.symbols.partition_point(|symbol| symbol.offset <= offset);
        let place = after.checked_sub(1)?;
        let symbol = &self.module.symbols[place];
        (offset < symbol.offset + symbol.size).then(|| (symbol, self.first_touch[place]))
    }

    /// Where the bytes without a name around `offset` start and end.
    pub(super) fn gap_around(&self, offset: usize) -> (usize, usize) {
        let symbols = &self.module.symbols;
        let after = symbols.partition_point(|symbol| symbol.offset <= offset);
        let start =
            after.checked_sub(1).map_or(0, |last| symbols[last].offset + symbols[last].size);
        (start, symbols.get(after).map_or(self.module.size, |symbol| symbol.offset))
    }
}
