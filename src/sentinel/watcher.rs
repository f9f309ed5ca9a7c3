//! Copying a thread's blocks before a task and comparing them after it.

use std::marker::PhantomData;
use std::sync::Arc;

use super::leak::Leak;
use super::module::{Module, Plan};
use super::report::Report;
use super::rule::Rules;
use super::tls::{self, Compared, Loaded, Loads, Span, Unsupported, View};

/// Watches one thread, task by task, for an executor of one's own.
///
/// [`Sentinel::watcher`](super::Sentinel::watcher) makes one for the calling thread, to which it
/// is bound. It is cheaper than [`watch`](super::watch()): neither [`begin`](Self::begin) nor
/// [`finish`](Self::finish) allocates, takes a lock or makes a system call while nothing leaks and
/// no module is loaded.
///
/// ```
/// use std::cell::Cell;
/// use cleanslate::sentinel::Sentinel;
///
/// thread_local! { static DIRTY: Cell<u32> = const { Cell::new(0) }; }
///
/// # #[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))] {
/// let mut watcher = Sentinel::new().watcher()?;
/// let mut leaks = 0;
/// for task in [|| (), || DIRTY.set(5), || ()] {
///     watcher.begin();
///     task();
///     leaks += watcher.finish().map_or(0, |report| report.leaks().len());
/// }
/// assert_eq!(leaks, 1);
/// # }
/// # Ok::<(), cleanslate::sentinel::Unsupported>(())
/// ```
#[derive(Debug)]
pub struct Watcher {
    rules: Arc<Rules>,
    layout: Layout,
    before: Vec<u8>,
    after: Vec<u8>,
    is_begun: bool,
    // On systems where nothing is watched, too.
    _here: PhantomData<*mut ()>,
}

#[derive(Debug)]
struct Layout {
    loads: Loads,
    modules: Vec<Loaded>,
    /// One for each of `modules`.
    plans: Vec<Arc<Plan>>,
    view: View,
}

impl Layout {
    fn new(rules: &Rules) -> Result<Layout, Unsupported> {
        let (loads, modules, view) = tls::census()?;
        let plans = modules.iter().map(|loaded| rules.plan(&Module::of(loaded))).collect();
        let mut layout = Layout { loads, modules, plans, view };
        let mut spans = Vec::new();
        let mut at = 0;
        for (place, (loaded, plan)) in layout.modules.iter().zip(&layout.plans).enumerate() {
            // A block that this thread does not have yet is as its image says.
            if loaded.block == 0 {
                continue;
            }
            for &(offset, len) in plan.runs() {
                spans.push(Span { module: place, offset, len, at });
                at += len;
            }
        }
        layout.view.watch(spans);
        Ok(layout)
    }

    /// How long a copy of the watched bytes is.
    fn len(&self) -> usize {
        self.view.spans().last().map_or(0, |span| span.at + span.len)
    }
}

impl Watcher {
    /// Looks up the calling thread's blocks and reads the symbols of modules not seen before.
    ///
    /// # Errors
    ///
    /// Where the sentinel does not work at all.
    pub(super) fn new(rules: Arc<Rules>) -> Result<Watcher, Unsupported> {
        let layout = Layout::new(&rules)?;
        let (before, after) = (vec![0; layout.len()], vec![0; layout.len()]);
        Ok(Watcher { rules, layout, before, after, is_begun: false, _here: PhantomData })
    }

    pub(super) fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    /// How many bytes of thread-locals are watched.
    ///
    /// ```
    /// # #[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
    /// assert!(cleanslate::sentinel::Sentinel::new().watcher()?.watched_bytes() < 1 << 20);
    /// # Ok::<(), cleanslate::sentinel::Unsupported>(())
    /// ```
    pub fn watched_bytes(&self) -> usize {
        self.layout.len()
    }

    /// Remembers what the thread's thread-locals hold now. A second call replaces the first.
    #[inline]
    pub fn begin(&mut self) {
        if !self.layout.view.copy(&mut self.before) {
            self.begin_anew();
        }
        self.is_begun = true;
    }

    #[cold]
    fn begin_anew(&mut self) {
        // Reading a symbol table may itself touch a thread-local for the first time.
        loop {
            self.renew_layout();
            if self.layout.view.copy(&mut self.before) {
                return;
            }
        }
    }

    fn renew_layout(&mut self) {
        // What worked once on this thread works again: the layout of glibc does not change.
        if let Ok(layout) = Layout::new(&self.rules) {
            self.layout = layout;
        }
        self.before.resize(self.layout.len(), 0);
        self.after.resize(self.layout.len(), 0);
    }

    /// Compares with what [`begin`](Self::begin) saw; `None` if nothing leaked.
    ///
    /// Without a `begin` before it there is nothing to compare, and the answer is `None`; so it is
    /// again until the next `begin`.
    #[inline]
    pub fn finish(&mut self) -> Option<Report> {
        if !std::mem::take(&mut self.is_begun) {
            return None;
        }
        match self.layout.view.compare(&self.before) {
            Compared::Same => None,
            Compared::Different => self.examine(),
            Compared::Stale => self.examine_moved(),
        }
    }

    /// The usual case: the blocks are where they were.
    #[cold]
    fn examine(&mut self) -> Option<Report> {
        // First of all, so that what the examination itself touches does not count.
        if !self.layout.view.copy(&mut self.after) {
            return self.examine_moved();
        }
        if tls::loads() != self.layout.loads {
            // A module was replaced, perhaps where another one was.
            return self.examine_moved();
        }
        let mut leaks = Vec::new();
        for span in self.layout.view.spans() {
            let bytes = span.at..span.at + span.len;
            let (before, after) = (&self.before[bytes.clone()], &self.after[bytes]);
            differences(&self.layout.plans[span.module], span.offset, before, after, &mut leaks);
        }
        self.report(leaks)
    }

    /// Modules came or went, or the thread got a block that it did not have.
    #[cold]
    fn examine_moved(&mut self) -> Option<Report> {
        let Ok(now) = Layout::new(&self.rules) else { return None };
        self.after.resize(now.len().max(self.after.len()), 0);
        if !now.view.copy(&mut self.after) {
            // Only this thread changes its blocks, and it did nothing in between.
            return None;
        }
        let old = std::mem::replace(&mut self.layout, now);
        let now = &self.layout;
        let mut leaks = Vec::new();
        let mut initial = Vec::new();
        for span in now.view.spans() {
            let loaded = &now.modules[span.module];
            let plan = &now.plans[span.module];
            // A block that is new was as its image says before the task.
            initial.resize(span.len, 0);
            plan.module().initial(span.offset, &mut initial);
            let earlier = old.view.spans().iter().find(|earlier| {
                old.modules[earlier.module].block == loaded.block
                    && Arc::ptr_eq(old.plans[earlier.module].module(), plan.module())
                    && (earlier.offset, earlier.len) == (span.offset, span.len)
            });
            let before = match earlier {
                Some(earlier) => &self.before[earlier.at..earlier.at + earlier.len],
                None => &initial[..],
            };
            let after = &self.after[span.at..span.at + span.len];
            differences(plan, span.offset, before, after, &mut leaks);
        }
        self.before.resize(self.layout.len(), 0);
        self.after.resize(self.layout.len(), 0);
        self.report(leaks)
    }

    fn report(&self, leaks: Vec<Leak>) -> Option<Report> {
        (!leaks.is_empty()).then(|| Report::new(leaks))
    }
}

/// Adds a leak for each thread-local in which a byte differs.
fn differences(plan: &Plan, offset: usize, before: &[u8], after: &[u8], leaks: &mut Vec<Leak>) {
    let module = plan.module();
    let mut at = 0;
    while let Some(further) = first_difference(&before[at..], &after[at..]) {
        let place = offset + at + further;
        let (start, end, symbol) = match plan.symbol_at(place) {
            Some((symbol, may_come_to_life)) => {
                let (start, end) = (symbol.offset, symbol.offset + symbol.size);
                let old = &before[start - offset..end - offset];
                if may_come_to_life && module.is_initial(start, old) {
                    at = end - offset;
                    continue;
                }
                (start, end, Some(symbol))
            }
            // Without a name, a run of words that all differ passes for one variable.
            None => {
                let (first, limit) = plan.gap_around(place);
                let limit = limit.min(offset + before.len());
                let start = (place & !7).max(offset).max(first);
                let mut end = ((place & !7) + 8).min(limit);
                while end < limit {
                    let next = (end + 8).min(limit);
                    let word = end - offset..next - offset;
                    if before[word.clone()] == after[word] {
                        break;
                    }
                    end = next;
                }
                (start, end, None)
            }
        };
        let bytes = start - offset..end - offset;
        let (old, new) = (&before[bytes.clone()], &after[bytes]);
        leaks.push(Leak::new(module, symbol, start, old, new));
        at = end - offset;
    }
}

/// Where two slices of the same length start to differ.
fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    // Slices are compared much faster as wholes than byte by byte.
    const CHUNK: usize = 64;
    let chunk = a.chunks(CHUNK).zip(b.chunks(CHUNK)).position(|(a, b)| a != b)?;
    let start = chunk * CHUNK;
    let within = a[start..].iter().zip(&b[start..]).position(|(a, b)| a != b)?;
    Some(start + within)
}
