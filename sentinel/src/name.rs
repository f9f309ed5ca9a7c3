//! From a symbol to the path that a person wrote.

use std::fmt::{self, Write};

use rustc_demangle::try_demangle;

/// What `thread_local!` calls the static inside the one that the user named.
const STD_INNER: &str = "__RUST_STD_INTERNAL_VAL";

/// What older versions of std call it. A user may give any other static that name, too.
const OLD_STD_INNER: &str = "VAL";

/// The readable name of a thread-local.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// `my_app::REQUEST_ID`, or the plain symbol if it comes from C.
    pub(super) path: Box<str>,
    /// The crates one of which contains the declaration; none if it comes from no Rust crate. There
    /// are two if the symbol does not say which: in rustc's legacy scheme, either crate may have
    /// the implementation `<a::Type as b::Trait>`.
    crates: Vec<Box<str>>,
}

impl Name {
    /// Reads a symbol in rustc's legacy or v0 mangling, or of C. Returns `None` if it is longer
    /// than the allowance.
    pub(super) fn within(allowance: &mut Allowance, symbol: &str) -> Option<Name> {
        if allowance.left() == 0 {
            return None;
        }
        let Ok(demangled) = try_demangle(symbol) else {
            let name = || Name { path: symbol.into(), crates: Vec::new() };
            return allowance.spend(symbol.len()).then(name);
        };
        let mut full = Text { written: String::new(), allowance };
        write!(full, "{demangled}").ok()?;
        let full = full.written;
        let short = format!("{demangled:#}");
        let components = split(&short, "::");
        let path = tidy(&components);
        let crates = if symbol.starts_with("_R") {
            v0_crate(symbol).map_or_else(|| crates(components[0]), |name| vec![name])
        } else if full != short {
            crates(components[0])
        } else {
            // C++ mangles like rustc's legacy scheme, but without the hash.
            Vec::new()
        };
        Some(Name { path: path.into(), crates: crates.into_iter().map(Into::into).collect() })
    }

    /// Reads a symbol, for tests.
    #[cfg(test)]
    pub(super) fn of(symbol: &str) -> Name {
        Name::within(&mut Allowance::new(), symbol).unwrap()
    }

    /// Makes the name of something in a crate, for tests.
    #[cfg(test)]
    pub(super) fn of_crate(path: &str, crate_name: Option<&str>) -> Name {
        Name { path: path.into(), crates: crate_name.map(Into::into).into_iter().collect() }
    }

    /// Returns the crate that contains the declaration, or `None` if it comes from no Rust crate,
    /// or if the symbol does not say from which of two.
    pub(super) fn crate_name(&self) -> Option<&str> {
        match &*self.crates {
            [name] => Some(name),
            _ => None,
        }
    }

    /// If the declaration is in a trait's implementation, returns the path of the implementing
    /// type, without parameters. Returns `None` if the declaration may be in another crate than the
    /// type.
    pub(super) fn implementor(&self) -> Option<&str> {
        let [of, _] = implementation(split(&self.path, "::")[0])[..] else { return None };
        let mut path = of.trim_start_matches('&');
        path = path.strip_prefix("mut ").unwrap_or(path);
        path = path.split_once('<').map_or(path, |(path, _)| path);
        let (name, _) = path.split_once("::")?;
        (self.crate_name() == Some(name)).then_some(path)
    }

    /// Returns whether it comes from a Rust crate for which `is_it` returns true.
    pub(super) fn is_of(&self, is_it: impl Fn(&str) -> bool) -> bool {
        !self.crates.is_empty() && self.crates.iter().all(|name| is_it(name))
    }

    /// Returns whether it comes from a Rust crate.
    pub(super) fn is_rust(&self) -> bool {
        !self.crates.is_empty()
    }
}

/// How many bytes the symbols of one file may have together, or the paths that they stand for.
///
/// Symbols may share their text, and a short one may stand for a long path: a small file can have
/// more names than fit into memory.
pub(super) struct Allowance(usize);

impl Allowance {
    pub(super) fn new() -> Allowance {
        // Enough for a hundred thousand names of a hundred bytes.
        Allowance(16 << 20)
    }

    pub(super) fn left(&self) -> usize {
        self.0
    }

    /// Returns whether this much was left; if not, nothing is left from now on.
    pub(super) fn spend(&mut self, len: usize) -> bool {
        let is_enough = len <= self.0;
        self.0 = self.0.saturating_sub(len);
        is_enough
    }
}

/// What is written of a path while the allowance lasts, and no more.
struct Text<'a> {
    written: String,
    allowance: &'a mut Allowance,
}

impl Write for Text<'_> {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        if !self.allowance.spend(more.len()) {
            return Err(fmt::Error);
        }
        self.written.push_str(more);
        Ok(())
    }
}

/// Splits a path at the separators that are not inside brackets.
fn split<'p>(path: &'p str, separator: &str) -> Vec<&'p str> {
    let mut components = Vec::new();
    let (mut depth, mut start) = (0_usize, 0);
    let bytes = path.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'<' | b'{' | b'(' | b'[' => depth += 1,
            b'>' if is_arrow(bytes, at) => {}
            b'>' | b'}' | b')' | b']' => depth = depth.saturating_sub(1),
            _ if depth == 0 && at >= start && bytes[at..].starts_with(separator.as_bytes()) => {
                components.push(&path[start..at]);
                start = at + separator.len();
            }
            _ => {}
        }
    }
    components.push(&path[start..]);
    components
}

/// Returns whether the `>` at `at` is that of a function type, which closes nothing: `->`, which
/// the legacy scheme turns into `.>`.
fn is_arrow(bytes: &[u8], at: usize) -> bool {
    at > 0 && matches!(bytes[at - 1], b'-' | b'.')
}

/// Drops what only the compiler and std's macro have put there.
fn tidy(mut components: &[&str]) -> String {
    if let [.., outer, closure, inner] = components {
        // A suffix from the linker may follow the name. v0 does not show the `{constant}`.
        let is_old = inner.split('.').next() == Some(OLD_STD_INNER);
        let is_inside = outer.contains("{constant") || is_item(outer);
        if is_old && closure.starts_with('{') && is_inside {
            components = &components[..components.len() - 1];
        }
    }
    let mut kept: Vec<&str> = Vec::with_capacity(components.len());
    for (place, component) in components.iter().enumerate() {
        let inner = component.starts_with('{') || component.starts_with(STD_INNER);
        if inner && place > 0 {
            continue;
        }
        kept.push(component);
    }
    // Other macros do the same: the item that the user named contains the thread-local.
    if let [.., outer, inner] = kept[..] {
        if inner.starts_with("__") && is_item(inner) && is_item(outer) {
            kept.pop();
        }
    }
    // `<my_app::Cache<_>>::get` reads better as `my_app::Cache<_>::get`.
    if let [inherent] = implementation(kept[0])[..] {
        kept[0] = inherent;
    }
    kept.join("::")
}

/// Returns whether a name is written like those of statics and constants.
fn is_item(name: &str) -> bool {
    !name.contains(char::is_lowercase)
}

/// Returns `A` for `<A>`, both for `<A as B>`, and nothing for others.
fn implementation(component: &str) -> Vec<&str> {
    let inner = component.strip_prefix('<').and_then(|rest| rest.strip_suffix('>'));
    inner.map_or_else(Vec::new, |inner| split(inner, " as "))
}

/// Returns the crates one of which holds what a demangled path's first component names.
fn crates(component: &str) -> Vec<&str> {
    if let [left, right] = implementation(component)[..] {
        // The implementation lies beside one of the two; in std only if both are std's. What is no
        // path is a primitive type or a parameter, such as `str` or `T`.
        let crate_of = |path| leading_identifier(path).filter(|(_, is_path)| *is_path);
        let mut both: Vec<_> =
            [left, right].into_iter().filter_map(crate_of).map(|(name, _)| name).collect();
        both.dedup();
        if both.iter().any(|name| !is_std(name)) {
            both.retain(|name| !is_std(name));
        } else {
            both.truncate(1);
        }
        return both;
    }
    leading_identifier(component).map(|(name, _)| name).into_iter().collect()
}

pub(super) fn is_std(crate_name: &str) -> bool {
    matches!(crate_name, "std" | "core" | "alloc")
}

/// Returns the name that a path starts with, and whether more of the path follows.
fn leading_identifier(mut path: &str) -> Option<(&str, bool)> {
    loop {
        let rest = path.trim_start_matches(['<', '&', '*', '(', '[']);
        let prefixes = ["mut ", "const ", "dyn "];
        let rest = prefixes.iter().find_map(|prefix| rest.strip_prefix(prefix)).unwrap_or(rest);
        if rest.len() == path.len() {
            break;
        }
        path = rest;
    }
    let (name, rest) =
        path.split_at(path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len()));
    let is_path = rest.starts_with("::");
    (!name.is_empty() && (is_path || rest.is_empty())).then_some((name, is_path))
}

/// Returns the crate in whose namespace a v0 symbol was defined.
///
/// The mangling is a prefix notation whose leftmost leaf is that crate: an implementation starts
/// with the path of the module that holds it, which the demangled text leaves out.
fn v0_crate(symbol: &str) -> Option<&str> {
    let mut rest = symbol.strip_prefix("_R")?;
    loop {
        let (tag, after) = rest.split_at_checked(1)?;
        rest = match tag {
            "N" => after.get(1..)?,
            "M" | "X" => skip_disambiguator(after)?,
            "I" => after,
            "C" => return identifier(skip_disambiguator(after)?),
            _ => return None,
        };
    }
}

fn skip_disambiguator(text: &str) -> Option<&str> {
    match text.strip_prefix('s') {
        Some(number) => Some(number.split_once('_')?.1),
        None => Some(text),
    }
}

fn identifier(text: &str) -> Option<&str> {
    // A name in punycode starts with `u`; the demangled text has it decoded.
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let len: usize = text[..digits].parse().ok()?;
    let name = text[digits..].strip_prefix('_').unwrap_or(&text[digits..]);
    name.get(..len)
}

#[cfg(test)]
mod tests {
    use super::{Allowance, Name};

    #[track_caller]
    fn check(symbol: &str, path: &str, crate_name: Option<&str>) {
        let name = Name::of(symbol);
        assert_eq!((&*name.path, name.crate_name()), (path, crate_name), "{symbol}");
    }

    #[test]
    fn both_manglings_give_the_path_that_was_written() {
        let inner = "29_$u7b$$u7b$constant$u7d$$u7d$28_$u7b$$u7b$closure$u7d$$u7d$\
                     23__RUST_STD_INTERNAL_VAL17h247a34da8ef26c24E";
        check(&format!("_ZN1t6CONSTV{inner}"), "t::CONSTV", Some("t"));
        check(&format!("_ZN1t5inner1f5IN_FN{inner}"), "t::inner::f::IN_FN", Some("t"));
        check(
            "_RNvNCNKNvCsjMaewn57Afh_1t6CONSTV0s_023___RUST_STD_INTERNAL_VAL",
            "t::CONSTV",
            Some("t"),
        );
        check(
            "_RNvNCNKNvNvNtCsjMaewn57Afh_1t5inner1f5IN_FN0023___RUST_STD_INTERNAL_VAL",
            "t::inner::f::IN_FN",
            Some("t"),
        );
        check(
            "_RNvNtNtNtCsjrHSEGnQ3l9_3std6thread7current2id2ID",
            "std::thread::current::id::ID",
            Some("std"),
        );
    }

    // Broke: with an older compiler the path of every thread-local of Rust ended in `::VAL`.
    #[test]
    fn the_inner_static_of_an_older_std_is_left_out_and_one_of_that_name_is_kept() {
        let inner = "29_$u7b$$u7b$constant$u7d$$u7d$28_$u7b$$u7b$closure$u7d$$u7d$3VAL\
                     17h247a34da8ef26c24E";
        check(&format!("_ZN1t5CONST{inner}"), "t::CONST", Some("t"));
        check(&format!("_ZN1t5CONST{inner}.0.llvm.9875488600633596104"), "t::CONST", Some("t"));
        check(&format!("_ZN1t3VAL1f3VAL{inner}"), "t::VAL::f::VAL", Some("t"));
        check("_RNvNCNkNvCskwYJOxzdtX6_1t4LAZY0s_03VAL", "t::LAZY", Some("t"));
        check(
            "_RNvNCNkNvNvMs_CskwYJOxzdtX6_1tNtBc_3VAL1f3VAL0s_03VAL",
            "t::VAL::f::VAL",
            Some("t"),
        );
        // One that is declared in a closure, by this std and by an older one.
        let closure = "_ZN1t1f28_$u7b$$u7b$closure$u7d$$u7d$3VAL";
        check(&format!("{closure}{inner}"), "t::f::VAL", Some("t"));
        // And one in a function, or of another name, in a constant.
        check("_ZN1t5CONST1f3VAL17h247a34da8ef26c24E", "t::CONST::f::VAL", Some("t"));
        check(&format!("_ZN1t5CONST{}", inner.replace("3VAL", "3OWN")), "t::CONST::OWN", Some("t"));
        let new = inner.replace("3VAL", "23__RUST_STD_INTERNAL_VAL");
        check(&format!("{closure}{new}"), "t::f::VAL", Some("t"));
        check(&format!("{closure}17h247a34da8ef26c24E"), "t::f::VAL", Some("t"));
    }

    #[test]
    fn closures_and_impl_brackets_are_left_out() {
        check(
            "_RNvNCNKNvNvMNtCsjMaewn57Afh_1t5innerINtBa_1SpE2go7IN_IMPL0s_0\
             23___RUST_STD_INTERNAL_VAL",
            "t::inner::S<_>::go::IN_IMPL",
            Some("t"),
        );
        check(
            "_RNvNCNKNvNCNvNtCsjMaewn57Afh_1t5inner4clos05IN_CL0023___RUST_STD_INTERNAL_VAL",
            "t::inner::clos::IN_CL",
            Some("t"),
        );
    }

    #[test]
    fn a_trait_implemented_for_a_std_type_belongs_to_the_crate_that_did_so() {
        check(
            "_ZN50_$LT$alloc..vec..Vec$LT$T$GT$$u20$as$u20$t..Tr$GT$2go1X17h247a34da8ef26c24E",
            "<alloc::vec::Vec<T> as t::Tr>::go::X",
            Some("t"),
        );
        check(
            "_ZN60_$LT$alloc..vec..Vec$LT$T$GT$$u20$as$u20$core..ops..Drop$GT$4drop1X\
             17h247a34da8ef26c24E",
            "<alloc::vec::Vec<T> as core::ops::Drop>::drop::X",
            Some("alloc"),
        );
        check("_RNvXs_Cs1_1tNtC3log4SpanNtCs1_1t2Tr1X", "<log::Span as t::Tr>::X", Some("t"));
    }

    #[test]
    fn a_crate_may_have_any_name_that_rust_allows_and_no_other() {
        check("_RNvC4__abc1X", "_abc::X", Some("_abc"));
        for (mangled, path) in [("$u7b$", "{"), (":::", ":::"), ("a$u20$b", "a b")] {
            let len = mangled.len();
            check(&format!("_ZN{len}{mangled}17h247a34da8ef26c24E"), path, None);
        }
    }

    // Broke: such a type passed for a crate of its name, to which the rules for the real one did
    // not apply.
    #[test]
    fn a_trait_implemented_for_what_has_no_path_belongs_to_the_crate_that_did_so() {
        for (mangled, of) in [
            ("$RF$str", "&str"),
            ("u8", "u8"),
            ("T", "T"),
            ("fn$LP$u8$RP$$u20$.$GT$$u20$u8", "fn(u8) .> u8"),
        ] {
            let implementation = format!("_$LT${mangled}$u20$as$u20$t..Tr$GT$");
            let symbol =
                format!("_ZN{}{implementation}2go1X17h247a34da8ef26c24E", implementation.len());
            check(&symbol, &format!("<{of} as t::Tr>::go::X"), Some("t"));
        }
    }

    // Broke: behind two references it passed for std's, of which anything is allowed.
    #[test]
    fn a_trait_of_std_implemented_for_a_reference_to_a_reference_belongs_to_the_types_crate() {
        let implementation = "_$LT$$RF$mut$u20$$RF$t..Mine$u20$as$u20$core..ops..Add$GT$";
        let len = implementation.len();
        let symbol = format!("_ZN{len}{implementation}3add1X17h247a34da8ef26c24E");
        check(&symbol, "<&mut &t::Mine as core::ops::Add>::add::X", Some("t"));
    }

    // Broke: it passed for the type's crate, whose rules hid what another one had left.
    #[test]
    fn a_trait_of_one_crate_implemented_for_a_type_of_another_may_be_either_ones() {
        let symbol = |of: &str| {
            let implementation = format!("_$LT${of}..Span$u20$as$u20$app..Audit$GT$");
            let len = implementation.len();
            format!("_ZN{len}{implementation}5audit1X17h247a34da8ef26c24E")
        };
        check(&symbol("log"), "<log::Span as app::Audit>::audit::X", None);
        let name = Name::of(&symbol("log"));
        assert!(name.is_rust() && name.is_of(|name| ["log", "app"].contains(&name)));
        assert!(!name.is_of(|name| name == "log") && !name.is_of(|name| name == "app"));
        check(&symbol("app"), "<app::Span as app::Audit>::audit::X", Some("app"));
    }

    #[test]
    fn an_implementation_in_the_types_crate_is_found_by_the_type() {
        let implementor = |path: &str, crate_name| {
            Name::of_crate(path, Some(crate_name)).implementor().map(str::to_owned)
        };
        let store = Some("app::cache::Store".to_owned());
        for of in ["Store", "Store<log::Span>", "Store<T>"] {
            let path = format!("<app::cache::{of} as core::ops::drop::Drop>::drop::X");
            assert_eq!(implementor(&path, "app"), store);
            let path = format!("<&mut app::cache::{of} as core::ops::Add<u8>>::add::X");
            assert_eq!(implementor(&path, "app"), store);
            assert_eq!(implementor(&path, "log"), None);
        }
        for of in ["(app::A, app::B)", "[app::A]", "u8", "T", "<app::A as app::B>::C"] {
            assert_eq!(implementor(&format!("<{of} as app::Tr>::f::X"), "app"), None);
        }
        assert_eq!(implementor("app::cache::X", "app"), None);
    }

    #[test]
    fn what_is_not_rust_keeps_its_symbol_and_has_no_crate() {
        check("errno", "errno", None);
        check("_ZN3foo3barE", "foo::bar", None);
        check("_ZZ4funcvE1x", "_ZZ4funcvE1x", None);
    }

    #[test]
    fn the_inner_static_of_a_macro_is_called_by_the_name_that_the_user_gave() {
        let hash = "17h247a34da8ef26c24E";
        check(&format!("_ZN3app4USER17__CLEANSLATE_CELL{hash}"), "app::USER", Some("app"));
        check(&format!("_ZN3app4user6__HERE{hash}"), "app::user::__HERE", Some("app"));
        check(&format!("_ZN3app6__HERE{hash}"), "app::__HERE", Some("app"));
        check(&format!("_ZN3app4USER6__here{hash}"), "app::USER::__here", Some("app"));
    }

    // Broke: some hundred of them took minutes.
    #[test]
    fn a_short_symbol_that_stands_for_a_long_path_is_left_out() {
        // Pairs of pairs; each refers to what it repeats by a place in the symbol.
        let digits = "0123456789abcdefghijklmnopqrstuvwxyz";
        let pairs = (7..22).rev().map(|place| format!("B{}_E", &digits[place..=place]));
        let symbol = format!("_RINvC1a1f{}p{}E", "T".repeat(15), pairs.collect::<String>());
        let path = Name::of(&symbol).path;
        assert!(path.len() > symbol.len() << 10, "{path}");
        let mut allowance = Allowance(10 << 10);
        assert_eq!(Name::within(&mut allowance, "errno"), Some(Name::of("errno")));
        assert_eq!(Name::within(&mut allowance, &symbol), None);
        assert_eq!(Name::within(&mut allowance, "errno"), None);
    }
}
