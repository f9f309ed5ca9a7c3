//! What is kept per thread by design, and may change.

use std::fmt;

use crate::verdict::Verdict;

/// A rule that every new [`Sentinel`](crate::Sentinel) has.
///
/// ```
/// use cleanslate_sentinel::Sentinel;
///
/// let mut rules = Sentinel::built_in_rules();
/// let rng = rules.find(|rule| rule.pattern().starts_with("rand::")).unwrap();
/// assert!(rng.is_first_touch_only());
/// assert!(rng.to_string().contains("may change at its first touch"));
/// ```
#[derive(Clone, Copy)]
pub struct BuiltInRule {
    pub(super) pattern: &'static str,
    pub(super) verdict: Verdict,
    reason: &'static str,
}

impl BuiltInRule {
    /// Returns what the rule applies to, as in [`Sentinel::allow`](super::Sentinel::allow).
    ///
    /// # Examples
    ///
    /// ```
    /// let mut rules = cleanslate_sentinel::Sentinel::built_in_rules();
    /// assert!(rules.all(|rule| !rule.pattern().is_empty()));
    /// ```
    #[must_use]
    pub fn pattern(&self) -> &'static str {
        self.pattern
    }

    /// Returns whether only a first touch is allowed, and a later change is a leak.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut rules = cleanslate_sentinel::Sentinel::built_in_rules();
    /// assert!(rules.any(|rule| !rule.is_first_touch_only()));
    /// ```
    #[must_use]
    pub fn is_first_touch_only(&self) -> bool {
        self.verdict == Verdict::FirstTouch
    }

    /// Returns what is kept there per thread by design.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut rules = cleanslate_sentinel::Sentinel::built_in_rules();
    /// assert!(rules.all(|rule| !rule.reason().is_empty()));
    /// ```
    #[must_use]
    pub fn reason(&self) -> &'static str {
        self.reason
    }
}

impl fmt::Display for BuiltInRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BuiltInRule { pattern, verdict, reason } = self;
        write!(f, "{pattern} {}: {reason}", verdict.says())
    }
}

impl fmt::Debug for BuiltInRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BuiltInRule { pattern, verdict, reason } = self;
        f.debug_struct("BuiltInRule")
            .field("pattern", pattern)
            .field("says", &verdict.says())
            .field("reason", reason)
            .finish()
    }
}

const fn rule(pattern: &'static str, verdict: Verdict, reason: &'static str) -> BuiltInRule {
    BuiltInRule { pattern, verdict, reason }
}

/// What keeps something per thread by design, apart from std.
///
/// The corpus runs each of these crates, and fails without the crate's rule or with a rule that is
/// not needed. What changes only at its first touch is held to that.
pub(super) const BUILT_IN: &[BuiltInRule] = &[
    rule(
        "module:libc.so*",
        Verdict::Allowed,
        "the C library: errno, the allocator's cache, the resolver, dlerror",
    ),
    rule("__mi_*", Verdict::Allowed, "mimalloc: the thread's heap"),
    rule(
        "arc_swap::debt::list::THREAD_HEAD",
        Verdict::Allowed,
        "the thread's node in a list of debts, with a generation",
    ),
    rule(
        "chrono::offset::local::inner::TZ_INFO",
        Verdict::Allowed,
        "the time zone, read again when it is old",
    ),
    rule(
        "crossbeam_channel::context",
        Verdict::Allowed,
        "the thread's place in a wait, taken out while it waits",
    ),
    rule(
        "crossbeam_channel::waker::current_thread_id::THREAD_ID",
        Verdict::FirstTouch,
        "the thread's number",
    ),
    rule(
        "crossbeam_epoch::default::HANDLE",
        Verdict::FirstTouch,
        "the thread's membership in the default collector",
    ),
    rule(
        "crossbeam_utils::sync::sharded_lock::REGISTRATION",
        Verdict::FirstTouch,
        "the thread's number",
    ),
    rule(
        "<env_logger::*Logger as log::Log>::log::FORMATTER",
        Verdict::Allowed,
        "the buffer in which a line is formatted",
    ),
    rule("event_listener", Verdict::FirstTouch, "what wakes the thread"),
    rule(
        "fastrand::global_rng::RNG",
        Verdict::Allowed,
        "the state of a random number generator; after `seed` the numbers of later tasks can be \
         predicted, and that passes, too",
    ),
    rule(
        "futures_executor::local_pool::CURRENT_THREAD_NOTIFY",
        Verdict::FirstTouch,
        "what wakes the thread",
    ),
    rule("futures_lite::future::block_on::CACHE", Verdict::FirstTouch, "what wakes the thread"),
    rule(
        "metrics::recorder::LOCAL_RECORDER",
        Verdict::Unset,
        "the recorder of the closure around, with which it ends",
    ),
    rule(
        "minijinja::compiler::codegen",
        Verdict::Allowed,
        "buffers that are there to be used again",
    ),
    rule("minijinja::macros::*::ENV", Verdict::FirstTouch, "an environment that nobody can change"),
    rule(
        "opentelemetry::context::CURRENT_CONTEXT",
        Verdict::FirstTouch,
        "the current context; one that stays attached passes, too, if nothing on the thread has \
         touched contexts before",
    ),
    rule(
        "<parking_lot::*RawThreadId as lock_api::*",
        Verdict::FirstTouch,
        "the thread's number, for reentrant locks",
    ),
    rule("parking_lot_core", Verdict::Allowed, "the thread's place in a wait that is over"),
    rule(
        "rand::rngs::thread::THREAD_RNG_KEY",
        Verdict::FirstTouch,
        "a pointer to the thread's random number generator",
    ),
    rule(
        "rayon_core::registry::Registry::in_worker_cold::LOCK_LATCH",
        Verdict::Allowed,
        "a lock on which a thread outside the pool waits",
    ),
    rule("regex_automata::util::pool", Verdict::FirstTouch, "the thread's number"),
    rule("sdd::collector", Verdict::FirstTouch, "the thread's membership in the collector"),
    rule("seize::raw::tls", Verdict::FirstTouch, "the thread's number"),
    rule("sharded_slab::tid::REGISTRATION", Verdict::FirstTouch, "the thread's number"),
    rule(
        "slog_scope::TL_SCOPES",
        Verdict::FirstTouch,
        "the loggers of the scopes that surround the code; each ends with its closure",
    ),
    rule("stacker::STACK_LIMIT", Verdict::FirstTouch, "where the thread's stack ends"),
    rule(
        "textwrap::word_separators::LINE_SEGMENTER",
        Verdict::FirstTouch,
        "tables that nobody can change",
    ),
    rule("thread_local::thread_id", Verdict::FirstTouch, "the thread's number"),
    rule(
        "tokio::runtime::context::CONTEXT",
        Verdict::SameKind,
        "the current runtime, its budget and random numbers",
    ),
    rule("tokio::runtime::park::CURRENT_PARKER", Verdict::FirstTouch, "what wakes the thread"),
    rule("tokio::task::local::CURRENT", Verdict::Unset, "the current LocalSet"),
    rule("tracing_core::dispatcher::CURRENT_STATE", Verdict::Unset, "the current dispatcher"),
    rule(
        "<tracing_subscriber::*::on_event::BUF",
        Verdict::Allowed,
        "the buffer in which a line is formatted",
    ),
];

/// What no crate declares but a program may contain: the runtime of a sanitizer. Names that are not
/// marked as its own belong to functions of the C library that it replaces.
pub(super) const LINKED_IN: &[&str] = &[
    "*__asan*",
    "*__dfsan*",
    "*__hwasan*",
    "*__lsan*",
    "*__msan*",
    "*__rtsan*",
    "*__sancov*",
    "*__sanitizer*",
    "*__tsan*",
    "_ZL10pglob_copy",
    "_ZL14scandir_*",
    "_ZL15msan_expect_umr",
    "_ZL16scandir64_*",
    "_ZL20dfsan_current_thread",
    "_ZL20in_interceptor_scope",
    "_ZL23msan_expected_umr_found",
];

/// What no crate declares but a file may contain if it has a C library in it: the library's own
/// file, or that of a statically linked program. Elsewhere such a name may be anybody's.
pub(super) const OF_LIBC: &[&str] = &[
    "errno",
    "tcache",
    "tcache_shutting_down",
    "thread_arena",
    LIBC,
    "__h_errno",
    "__resp",
    "_nl_current_*",
];

/// What identifies such a file: glibc's names that nobody else has.
pub(super) const LIBC: &str = "__libc_*";
