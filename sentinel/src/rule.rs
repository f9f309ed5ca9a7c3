//! Which thread-locals may change, by patterns of names.

use std::sync::Arc;

use crate::built_in::{BUILT_IN, LIBC, LINKED_IN, OF_LIBC};
use crate::module::Module;
use crate::name::{Name, is_std};
use crate::verdict::Verdict;

/// A glob over paths: `*` stands for any characters, and a match may end at any `::`, so that the
/// name of a crate or module stands for everything in it, and that of a type for traits implemented
/// for it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern(Box<str>);

impl Pattern {
    fn matches(&self, name: &Name) -> bool {
        if name.is_of(|it| glob(&self.0, it)) {
            return true;
        }
        let mut paths = [Some(&*name.path), name.implementor()].into_iter().flatten();
        paths.any(|path| {
            let mut ends = path.match_indices("::").map(|(at, _)| at).chain([path.len()]);
            ends.any(|end| glob(&self.0, &path[..end]))
        })
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

/// Returns whether `pattern` describes the whole of `text`.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut last = None;
    for part in parts {
        if let Some(earlier) = last.replace(part) {
            // Taking the first place where a middle part fits leaves the most for those after it.
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

    /// Returns only what holds in any case: std, and what is linked in besides all crates.
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

    /// Returns the user's patterns that apply to none of these modules' thread-locals.
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

    /// Returns the most lenient verdict of all rules that match a thread-local of a file, which has
    /// a C library in it or not.
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

/// Returns whether a file with these names has a C library in it. (Before 2.34, glibc's own file
/// has no name that is like [`LIBC`].)
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

    // Broke: its path starts with `<`, and no name of a module does.
    #[test]
    fn the_name_of_a_type_or_its_module_stands_for_traits_implemented_for_it() {
        let dropped = "<app::cache::Store as core::ops::drop::Drop>::drop::DROPPED";
        for (pattern, verdict) in [
            ("app::cache", Verdict::Allowed),
            ("app::cache::Store", Verdict::Allowed),
            ("app::cach", Verdict::Watched),
            ("app::cache::Store::drop", Verdict::Watched),
            ("core::ops", Verdict::Watched),
        ] {
            let mut rules = Rules::strict();
            rules.add(pattern, Verdict::Allowed);
            let of = |crate_name| rules.on_name(&Name::of_crate(dropped, crate_name), false);
            assert_eq!(of(Some("app")), verdict, "{pattern}");
            // It may be another crate's.
            assert_eq!(of(None), Verdict::Watched, "{pattern}");
        }
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
        // Broke: the last five, of ThreadSanitizer, MemorySanitizer and others, were watched.
        for name in [
            "_ZN11__sanitizerL4dtlsE",
            "_ZN6__asanL14fake_stack_tlsE",
            "_ZN6__lsan15disable_counterE",
            "_ZN6__tsan22cur_thread_placeholderE",
            "__msan_retval_tls",
            "__dfsan_arg_tls",
            "__sancov_lowest_stack",
            "_ZL14scandir_filter",
        ] {
            assert_eq!(rules.on_name(&Name::of(name), false), Verdict::Allowed, "{name}");
        }
    }
}
