//! Copying a thread's blocks before a task and comparing them after it.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use crate::change::Change;
use crate::error::Unsupported;
use crate::ignore;
use crate::layout::{Layout, Past, Watched};
use crate::leak::Leak;
use crate::policy::Policy;
use crate::probe;
use crate::report::Report;
use crate::tls::{self, Identity};

/// Watches one thread, task by task, for your own executor.
///
/// [`Sentinel::watcher`](super::Sentinel::watcher) makes one for the calling thread, to which it is
/// bound. It is cheaper than [`watch`](super::watch()): while nothing leaks and no module is
/// loaded, neither [`begin`](Self::begin) nor [`finish`](Self::finish) allocates, takes a lock or
/// makes a system call, apart from what [probes](super::Sentinel::probe) do.
///
/// ```
/// use std::cell::Cell;
/// use cleanslate_sentinel::Sentinel;
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
/// # Ok::<(), cleanslate_sentinel::Unsupported>(())
/// ```
#[derive(Debug)]
pub struct Watcher {
    policy: Arc<Policy>,
    /// Addresses on this thread that are not watched.
    ignored: Vec<Range<usize>>,
    layout: Layout,
    before: Vec<u8>,
    after: Vec<u8>,
    /// What the probes returned before the task.
    answers: Vec<Option<u64>>,
    is_begun: bool,
    // Also on systems where nothing is watched.
    _here: PhantomData<*mut ()>,
}

impl Watcher {
    /// Looks up the calling thread's blocks and reads the symbols of modules not seen before.
    ///
    /// # Errors
    ///
    /// Returns [`Unsupported`] where the sentinel does not work at all, or while symbols cannot be
    /// read.
    pub(super) fn new(policy: Arc<Policy>) -> Result<Watcher, Unsupported> {
        let ignored = ignore::ranges();
        let layout = Layout::new(&policy, &ignored)?;
        let (before, after) = (vec![0; layout.len()], vec![0; layout.len()]);
        let answers = Vec::with_capacity(policy.probes.len());
        let (is_begun, _here) = (false, PhantomData);
        let watcher = Watcher { policy, ignored, layout, before, after, answers, is_begun, _here };
        watcher.unread().map_or(Ok(watcher), Err)
    }

    /// Returns why a module is not watched at the moment: its symbols could not be read.
    pub(super) fn unread(&self) -> Option<Unsupported> {
        self.layout.unread.clone()
    }

    pub(super) fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// Returns how many bytes of thread-locals are watched.
    ///
    /// ```
    /// # #[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
    /// assert!(cleanslate_sentinel::Sentinel::new().watcher()?.watched_bytes() < 1 << 20);
    /// # Ok::<(), cleanslate_sentinel::Unsupported>(())
    /// ```
    #[must_use]
    pub fn watched_bytes(&self) -> usize {
        self.layout.len()
    }

    /// Remembers what the thread's thread-locals hold now. A second call replaces the first.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate_sentinel::Sentinel;
    ///
    /// let Ok(mut watcher) = Sentinel::new().watcher() else { return };
    /// watcher.begin();
    /// assert!(watcher.finish().is_none(), "nothing happened");
    /// ```
    #[inline]
    pub fn begin(&mut self) {
        // Before the copy, so that what the probes touch is not attributed to the task.
        probe::ask(&self.policy.probes, &mut self.answers);
        self.is_begun = self.layout.unread.is_none() && self.layout.view.copy(&mut self.before);
        if !self.is_begun {
            self.begin_anew();
        }
    }

    #[cold]
    fn begin_anew(&mut self) {
        // What worked once on this thread works again: the way of glibc does not change.
        self.ignored = ignore::ranges();
        while let Ok(layout) = Layout::new(&self.policy, &self.ignored) {
            self.install(layout);
            // Reading a symbol table may itself give the thread a block.
            if self.layout.view.copy(&mut self.before) {
                self.is_begun = true;
                return;
            }
        }
    }

    fn install(&mut self, layout: Layout) {
        self.layout = layout;
        self.before.resize(self.layout.len(), 0);
        self.after.resize(self.layout.len(), 0);
    }

    /// Compares with what [`begin`](Self::begin) saw. Returns `None` if nothing leaked.
    ///
    /// If there was no `begin` since the last `finish`, there is nothing to compare, and it returns
    /// `None`. A library that is loaded while its symbols cannot be read (no file descriptor is
    /// free, say) is not watched until they can.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate_sentinel::Sentinel;
    ///
    /// let Ok(mut watcher) = Sentinel::new().watcher() else { return };
    /// watcher.begin();
    /// assert!(watcher.finish().is_none(), "nothing happened");
    /// ```
    #[inline]
    pub fn finish(&mut self) -> Option<Report> {
        if !std::mem::take(&mut self.is_begun) {
            return None;
        }
        let mut leaks = match self.layout.view.is_unchanged(&self.before) {
            true => Vec::new(),
            false => self.examine(),
        };
        probe::ask_again(&self.policy.probes, &self.answers, &mut leaks);
        (!leaks.is_empty()).then(|| Report::new(leaks))
    }

    #[cold]
    fn examine(&mut self) -> Vec<Leak> {
        // First of all, so that what the examination itself touches does not count.
        if self.layout.view.copy(&mut self.after) {
            self.examine_in_place()
        } else {
            self.examine_moved()
        }
    }

    /// Examines blocks that are still where they were: the usual case.
    fn examine_in_place(&mut self) -> Vec<Leak> {
        // What passes when all modules are taken for the same passes in any case: what is asked
        // below can only let more pass. tokio changes what is current at nearly every poll, which
        // its rule lets pass.
        if !self.changes(|_| Some(Identity::Same)).any(|change| change.is_leak()) {
            return Vec::new();
        }
        let ignored = ignore::ranges();
        if ignored != self.ignored {
            self.ignored = ignored;
            self.watch_anew();
        }
        let Layout { loads, modules, .. } = &self.layout;
        // Modules may have been unloaded and others loaded all the same. This thread has not used
        // any thread-local of a new one, since that would have changed its blocks.
        let changed = (tls::loads() != *loads).then(tls::list);
        let identity = |watched: &Watched| match &changed {
            None => Some(Identity::Same),
            Some(now) => now.find(&watched.loaded, *loads),
        };
        let identities: Vec<_> = modules.iter().map(identity).collect();
        let mut leaks = Vec::new();
        self.changes(|module| identities[module]).for_each(|change| change.leaks(&mut leaks));
        leaks
    }

    /// Returns the watched bytes before the task and after it. A module without an identity was
    /// unloaded: nobody misses what is left of it.
    fn changes(
        &self,
        identity: impl Fn(usize) -> Option<Identity>,
    ) -> impl Iterator<Item = Change<'_>> {
        let Layout { modules, view, .. } = &self.layout;
        view.spans().iter().filter_map(move |span| {
            let Watched { loaded, plan: Some(plan) } = &modules[span.module] else { return None };
            let identity = identity(span.module)?;
            let bytes = span.at..span.at + span.len;
            let (before, after) = (&self.before[bytes.clone()], &self.after[bytes]);
            Some(Change { loaded, plan, offset: span.offset, before, after, identity })
        })
    }

    /// Leaves out what is ignored by now, also in both copies.
    fn watch_anew(&mut self) {
        let spans = self.layout.spans(&self.ignored);
        let len = spans.last().map_or(0, |span| span.at + span.len);
        let (mut before, mut after) = (vec![0; len], vec![0; len]);
        for span in &spans {
            let (module, offset, bytes) = (span.module, span.offset, span.at..span.at + span.len);
            self.layout.copy_of(&self.before, module, offset, &mut before[bytes.clone()]);
            self.layout.copy_of(&self.after, module, offset, &mut after[bytes]);
        }
        self.layout.view.watch(spans);
        (self.before, self.after) = (before, after);
    }

    /// Examines blocks that differ from those that the thread had: modules came or went, or the
    /// thread used one for the first time.
    fn examine_moved(&mut self) -> Vec<Leak> {
        self.ignored = ignore::ranges();
        let Ok(now) = Layout::new(&self.policy, &self.ignored) else { return Vec::new() };
        self.after.resize(now.len(), 0);
        if !now.view.copy(&mut self.after) {
            // Reading a symbol table has changed the blocks once more: there is nothing to compare.
            return Vec::new();
        }
        let past_of = |module| self.layout.past_of(module, &now);
        let pasts: Vec<_> = (0..now.modules.len()).map(past_of).collect();
        let mut leaks = Vec::new();
        let mut before = Vec::new();
        for span in now.view.spans() {
            let Watched { loaded, plan: Some(plan) } = &now.modules[span.module] else { continue };
            let after = &self.after[span.at..span.at + span.len];
            before.clear();
            before.extend_from_slice(after);
            let identity = match pasts[span.module] {
                // What was not watched before counts as unchanged.
                Past::Seen(module, identity) => {
                    self.layout.copy_of(&self.before, module, span.offset, &mut before);
                    identity
                }
                // Before the task, a new block was as its image says.
                Past::New => {
                    loaded.initial(span.offset, &mut before);
                    Identity::Same
                }
                Past::Unknown => continue,
            };
            let before = &before[..];
            Change { loaded, plan, offset: span.offset, before, after, identity }.leaks(&mut leaks);
        }
        self.install(now);
        leaks
    }
}
