//! Which thread-locals may change, and why.

use std::fmt;
use std::sync::Arc;

use crate::module::Module;
use crate::name::{Name, is_std};

/// What may happen to a thread-local while a task runs, the most lenient last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// Any change is a leak.
    Watched,
    /// Anything is fine while it says, before and after, that nothing is set. For what is current
    /// on a thread, of which the first touch may already be the leak.
    Unset,
    /// Coming to life is fine, any later change is a leak.
    FirstTouch,
    /// Anything is fine but to set what was not set, or the other way round.
    SameKind,
    /// Anything is fine.
    Allowed,
}

impl Verdict {
    /// Returns what a rule says of the thread-locals that it applies to.
    fn says(self) -> &'static str {
        match self {
            Verdict::Watched => "must not change",
            Verdict::Unset => "may change while nothing is set",
            Verdict::FirstTouch => "may change at its first touch",
            Verdict::SameKind => "may change, but not from unset to set",
            Verdict::Allowed => "may change",
        }
    }
}

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
pub struct BuiltInRule(&'static Standing);

impl BuiltInRule {
    /// Returns what it applies to, as in [`Sentinel::allow`](super::Sentinel::allow).
    ///
    /// # Examples
    ///
    /// ```
    /// let mut rules = cleanslate_sentinel::Sentinel::built_in_rules();
    /// assert!(rules.all(|rule| !rule.pattern().is_empty()));
    /// ```
    #[must_use]
    pub fn pattern(&self) -> &'static str {
        self.0.pattern
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
        self.0.verdict == Verdict::FirstTouch
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
        self.0.reason
    }
}

impl fmt::Display for BuiltInRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Standing { pattern, verdict, reason } = self.0;
        write!(f, "{pattern} {}: {reason}", verdict.says())
    }
}

impl fmt::Debug for BuiltInRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Standing { pattern, verdict, reason } = self.0;
        f.debug_struct("BuiltInRule")
            .field("pattern", pattern)
            .field("says", &verdict.says())
            .field("reason", reason)
            .finish()
    }
}

pub(super) fn built_in_rules() -> impl Iterator<Item = BuiltInRule> {
    BUILT_IN.iter().map(BuiltInRule)
}

struct Standing {
    pattern: &'static str,
    verdict: Verdict,
    reason: &'static str,
}

impl Standing {
    const fn new(pattern: &'static str, verdict: Verdict, reason: &'static str) -> Standing {
        Standing { pattern, verdict, reason }
    }
}

/// What keeps something per thread by design, besides std.
///
/// The corpus runs each of these crates and fails without the crate's rule, or with one that is
/// not needed. What changes only at its first touch is held to that.
const BUILT_IN: &[Standing] = &[
    Standing::new(
        "module:libc.so*",
        Verdict::Allowed,
        "the C library: errno, the allocator's cache, the resolver, dlerror",
    ),
    Standing::new("__mi_*", Verdict::Allowed, "mimalloc: the thread's heap"),
    Standing::new(
        "arc_swap::debt::list::THREAD_HEAD",
        Verdict::Allowed,
        "the thread's node in a list of debts, with a generation",
    ),
    Standing::new(
        "chrono::offset::local::inner::TZ_INFO",
        Verdict::Allowed,
        "the time zone, read again when it is old",
    ),
    Standing::new(
        "crossbeam_channel::context",
        Verdict::Allowed,
        "the thread's place in a wait, taken out while it waits",
    ),
    Standing::new(
        "crossbeam_channel::waker::current_thread_id::THREAD_ID",
        Verdict::FirstTouch,
        "the thread's number",
    ),
    Standing::new(
        "crossbeam_epoch::default::HANDLE",
        Verdict::FirstTouch,
        "the thread's membership in the default collector",
    ),
    Standing::new(
        "crossbeam_utils::sync::sharded_lock::REGISTRATION",
        Verdict::FirstTouch,
        "the thread's number",
    ),
    Standing::new(
        "<env_logger::*Logger as log::Log>::log::FORMATTER",
        Verdict::Allowed,
        "the buffer in which a line is formatted",
    ),
    Standing::new("event_listener", Verdict::FirstTouch, "what wakes the thread"),
    Standing::new(
        "fastrand::global_rng::RNG",
        Verdict::Allowed,
        "the state of a random number generator; after `seed` the numbers of later tasks can be \
         predicted, and that passes, too",
    ),
    Standing::new(
        "futures_executor::local_pool::CURRENT_THREAD_NOTIFY",
        Verdict::FirstTouch,
        "what wakes the thread",
    ),
    Standing::new(
        "futures_lite::future::block_on::CACHE",
        Verdict::FirstTouch,
        "what wakes the thread",
    ),
    Standing::new(
        "metrics::recorder::LOCAL_RECORDER",
        Verdict::Unset,
        "the recorder of the closure around, with which it ends",
    ),
    Standing::new(
        "minijinja::compiler::codegen",
        Verdict::Allowed,
        "buffers that are there to be used again",
    ),
    Standing::new(
        "minijinja::macros::*::ENV",
        Verdict::FirstTouch,
        "an environment that nobody can change",
    ),
    Standing::new(
        "opentelemetry::context::CURRENT_CONTEXT",
        Verdict::FirstTouch,
        "the current context; one that stays attached passes, too, if nothing on the thread has \
         touched contexts before",
    ),
    Standing::new(
        "<parking_lot::*RawThreadId as lock_api::*",
        Verdict::FirstTouch,
        "the thread's number, for reentrant locks",
    ),
    Standing::new(
        "parking_lot_core",
        Verdict::Allowed,
        "the thread's place in a wait that is over",
    ),
    Standing::new(
        "rand::rngs::thread::THREAD_RNG_KEY",
        Verdict::FirstTouch,
        "a pointer to the thread's random number generator",
    ),
    Standing::new(
        "rayon_core::registry::Registry::in_worker_cold::LOCK_LATCH",
        Verdict::Allowed,
        "a lock on which a thread outside the pool waits",
    ),
    Standing::new("regex_automata::util::pool", Verdict::FirstTouch, "the thread's number"),
    Standing::new(
        "sdd::collector",
        Verdict::FirstTouch,
        "the thread's membership in the collector",
    ),
    Standing::new("seize::raw::tls", Verdict::FirstTouch, "the thread's number"),
    Standing::new("sharded_slab::tid::REGISTRATION", Verdict::FirstTouch, "the thread's number"),
    Standing::new(
        "slog_scope::TL_SCOPES",
        Verdict::FirstTouch,
        "the loggers of the scopes that surround the code; each ends with its closure",
    ),
    Standing::new("stacker::STACK_LIMIT", Verdict::FirstTouch, "where the thread's stack ends"),
    Standing::new(
        "textwrap::word_separators::LINE_SEGMENTER",
        Verdict::FirstTouch,
        "tables that nobody can change",
    ),
    Standing::new("thread_local::thread_id", Verdict::FirstTouch, "the thread's number"),
    Standing::new(
        "tokio::runtime::context::CONTEXT",
        Verdict::SameKind,
        "the current runtime, its budget and random numbers",
    ),
    Standing::new(
        "tokio::runtime::park::CURRENT_PARKER",
        Verdict::FirstTouch,
        "what wakes the thread",
    ),
    Standing::new("tokio::task::local::CURRENT", Verdict::Unset, "the current LocalSet"),
    Standing::new(
        "tracing_core::dispatcher::CURRENT_STATE",
        Verdict::Unset,
        "the current dispatcher",
    ),
    Standing::new(
        "<tracing_subscriber::*::on_event::BUF",
        Verdict::Allowed,
        "the buffer in which a line is formatted",
    ),
];

/// What no crate declares and a program may contain: the runtime of a sanitizer.
const LINKED_IN: &[&str] = &["*__sanitizer*", "*__asan*", "*__lsan*"];

/// What no crate declares and a file may contain that has a C library in it, the library's own or
/// that of a program which is linked statically. Elsewhere such a name is anybody's.
const OF_LIBC: &[&str] = &[
    "errno",
    "tcache",
    "tcache_shutting_down",
    "thread_arena",
    LIBC,
    "__h_errno",
    "__resp",
    "_nl_current_*",
];

/// What tells such a file: glibc's names that nobody else has.
const LIBC: &str = "__libc_*";

/// A glob over paths: `*` stands for any characters, and a match may end at any `::`, so that
/// the name of a crate or module stands for all that is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern(Box<str>);

impl Pattern {
    fn matches(&self, name: &Name) -> bool {
        if !self.0.contains("::") && name.is_of(|it| glob(&self.0, it)) {
            return true;
        }
        let path = &*name.path;
        if glob(&self.0, path) {
            return true;
        }
        path.match_indices("::").any(|(at, _)| glob(&self.0, &path[..at]))
    }
}

/// What a pattern is about.
enum Target {
    /// The file name of a module.
    Module(Pattern),
    Name(Pattern),
}

impl Target {
    fn of(pattern: &str) -> Target {
        match pattern.strip_prefix("module:") {
            Some(file) => Target::Module(Pattern(file.into())),
            None => Target::Name(Pattern(pattern.strip_suffix("::").unwrap_or(pattern).into())),
        }
    }
}

/// Returns whether `text` is what `pattern` describes, from end to end.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut last = None;
    for part in parts {
        if let Some(earlier) = last.replace(part) {
            // Taking the first place where a middle part fits leaves most for those after it.
            let Some(at) = rest.find(earlier) else { return false };
            rest = &rest[at + earlier.len()..];
        }
    }
    match last {
        Some(last) => rest.ends_with(last),
        None => rest.is_empty(),
    }
}

/// The rules in force: the built-in ones and those that a user added.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    modules: Vec<(Pattern, Verdict)>,
    names: Vec<(Pattern, Verdict)>,
    /// What the user added, as it was given.
    added: Vec<Box<str>>,
}

impl Rules {
    pub(super) fn built_in() -> Rules {
        let mut rules = Rules::strict();
        for rule in BUILT_IN {
            rules.insert(rule.pattern, rule.verdict);
        }
        rules
    }

    /// Returns only what holds in any case: std, and what is linked in beside all crates.
    pub(super) fn strict() -> Rules {
        Rules { modules: Vec::new(), names: Vec::new(), added: Vec::new() }
    }

    pub(super) fn add(&mut self, pattern: &str, verdict: Verdict) {
        self.added.push(pattern.into());
        self.insert(pattern, verdict);
    }

    fn insert(&mut self, pattern: &str, verdict: Verdict) {
        match Target::of(pattern) {
            Target::Module(pattern) => self.modules.push((pattern, verdict)),
            Target::Name(pattern) => self.names.push((pattern, verdict)),
        }
    }

    /// Returns which of the patterns that a user added apply to none of these modules'
    /// thread-locals.
    pub(super) fn unused(&self, modules: &[Arc<Module>]) -> Vec<&str> {
        let is_used = |pattern: &str| match Target::of(pattern) {
            Target::Module(pattern) => modules.iter().any(|it| glob(&pattern.0, &it.file)),
            Target::Name(pattern) => modules
                .iter()
                .flat_map(|it| &it.symbols)
                .any(|symbol| pattern.matches(&symbol.name)),
        };
        self.added.iter().map(|pattern| &**pattern).filter(|pattern| !is_used(pattern)).collect()
    }

    /// Returns the most lenient verdict of all rules that match a module's file name.
    pub(super) fn on_module(&self, file: &str) -> Verdict {
        let matching = self.modules.iter().filter(|(pattern, _)| glob(&pattern.0, file));
        lenient(matching.map(|&(_, verdict)| verdict))
    }

    /// Returns the most lenient verdict of all rules that match a thread-local of a file, in which
    /// there is a C library or not.
    pub(super) fn on_name(&self, name: &Name, beside_libc: bool) -> Verdict {
        // The path of a trait's implementation for a type of std starts with std, too.
        let is_linked_in = is_any_of(LINKED_IN, name) || beside_libc && is_any_of(OF_LIBC, name);
        if name.is_of(is_std) || is_linked_in {
            return Verdict::Allowed;
        }
        let matching = self.names.iter().filter(|(pattern, _)| pattern.matches(name));
        lenient(matching.map(|&(_, verdict)| verdict))
    }
}

/// Returns whether a C library is in a file with these names. (glibc's own names none of them
/// itself before 2.34.)
pub(super) fn has_libc<'n>(file: &str, mut names: impl Iterator<Item = &'n Name>) -> bool {
    file.starts_with("libc.so") || names.any(|name| is_any_of(&[LIBC], name))
}

fn is_any_of(patterns: &[&str], name: &Name) -> bool {
    !name.is_rust() && patterns.iter().any(|pattern| glob(pattern, &name.path))
}

fn lenient(verdicts: impl Iterator<Item = Verdict>) -> Verdict {
    verdicts.max().unwrap_or(Verdict::Watched)
}

#[cfg(test)]
mod tests {
    use super::{Name, Rules, Verdict, glob, has_libc};

    fn name(path: &str) -> Name {
        Name::of_crate(path, path.split_once("::").map(|(first, _)| first))
    }

    #[test]
    fn a_star_stands_for_any_characters_and_nothing_else_does() {
        for (pattern, text, expected) in [
            ("a::B", "a::B", true),
            ("a::B", "a::BC", false),
            ("a::*", "a::b::C", true),
            ("*::C", "a::b::C", true),
            ("a*b*c", "a1b2b3c", true),
            ("a*b*c", "a1c2b", false),
            ("*", "", true),
            ("a*a", "a", false),
            ("", "a", false),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn the_name_of_a_crate_or_module_stands_for_all_that_is_in_it() {
        let mut rules = Rules::built_in();
        rules.add("app::cache", Verdict::Allowed);
        rules.add("other", Verdict::FirstTouch);
        assert_eq!(rules.on_name(&name("app::cache::X"), false), Verdict::Allowed);
        assert_eq!(rules.on_name(&name("app::cached::X"), false), Verdict::Watched);
        assert_eq!(rules.on_name(&name("other::a::b::X"), false), Verdict::FirstTouch);
        assert_eq!(rules.on_name(&name("another::X"), false), Verdict::Watched);
    }

    #[test]
    fn the_most_lenient_rule_wins() {
        let mut rules = Rules::built_in();
        rules.add("app::X", Verdict::Allowed);
        rules.add("app", Verdict::FirstTouch);
        assert_eq!(rules.on_name(&name("app::X"), false), Verdict::Allowed);
        assert_eq!(rules.on_name(&name("app::Y"), false), Verdict::FirstTouch);
    }

    #[test]
    fn std_is_allowed_by_crate_not_by_text() {
        let rules = Rules::built_in();
        assert_eq!(rules.on_name(&name("std::thread::current::ID"), false), Verdict::Allowed);
        let user = Name::of_crate("<alloc::vec::Vec<T> as app::Tr>::go::X", Some("app"));
        assert_eq!(rules.on_name(&user, false), Verdict::Watched);
        assert_eq!(rules.on_name(&Name::of_crate("errno", None), true), Verdict::Allowed);
        assert_eq!(rules.on_name(&Name::of_crate("errno", Some("app")), true), Verdict::Watched);
        // Broke: what glibc keeps beside the first three was watched in a static program.
        for name in [
            "errno",
            "tcache",
            "thread_arena",
            "tcache_shutting_down",
            "__libc_dlerror_result",
            "__libc_tsd_CTYPE_B",
            "__h_errno",
            "__resp",
            "_nl_current_LC_CTYPE",
        ] {
            assert_eq!(rules.on_name(&Name::of(name), true), Verdict::Allowed, "{name}");
            // Broke: such names were allowed in every library.
            assert_eq!(rules.on_name(&Name::of(name), false), Verdict::Watched, "{name}");
            let is_there = has_libc("program", [Name::of(name)].iter());
            assert_eq!(is_there, name.starts_with("__libc"));
            assert!(has_libc("libc.so.6", [Name::of(name)].iter()));
        }
        assert_eq!(rules.on_name(&Name::of("_ZN11__sanitizerL4dtlsE"), false), Verdict::Allowed);
    }
}
