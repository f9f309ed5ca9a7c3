//! The command lines of the examples: help, and a sentence for everything that is odd.

use crate::cleanup_pattern::example as cleanup_pattern;
use crate::context_copies::example as context_copies;
use crate::database_switch::example as database_switch;
use crate::executor_leak::example as executor_leak;
use crate::initialised_local::example as initialised_local;
use crate::logging_context::example as logging_context;
use crate::own_copy::example as own_copy;
#[cfg(target_os = "linux")]
use crate::patience::ends;
use crate::program;
use crate::request_server::example as request_server;
use crate::spinner::example as spinner;
#[cfg(target_os = "linux")]
use crate::threads::with_threads;
use crate::transaction_scope::example as transaction_scope;
use crate::worker_database::example as worker_database;

/// Checks one example within this process, and as a program if it was built.
macro_rules! check {
    ($example:ident) => {{
        use $example::cli::{Asked, Opt};
        let (name, cli) = (stringify!($example), &$example::CLI);
        assert_eq!(cli.name, name);
        assert!(matches!(cli.parse::<&str>([]), Ok(Asked::Run(_))), "{name} needs no arguments");

        let Ok(Asked::Help(help)) = cli.parse(["--help"]) else { panic!("{name} has no help") };
        assert!(help.contains(cli.about) && help.contains(&format!("Usage: {name}")), "{help}");
        assert!(matches!(cli.parse(["-h"]), Ok(Asked::Help(_))));

        let refused = |arguments: &[&str]| match cli.parse(arguments) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{name} accepts {arguments:?}"),
        };
        assert_eq!(refused(&["--nonsense"]), "invalid option '--nonsense'");
        assert_eq!(refused(&["x", "--help"]), "unexpected argument \"x\"");
        assert_eq!(refused(&[""]), "unexpected argument \"\"");
        assert_eq!(refused(&["-x"]), "invalid option '-x'");
        for option in cli.options {
            match option {
                Opt::Flag { name: flag, help: what } | Opt::Mode { name: flag, help: what, .. } => {
                    assert!(help.contains(flag) && help.contains(what), "{help}");
                    let valued = refused(&[&format!("{flag}=1")]);
                    assert_eq!(valued, format!("unexpected argument for option '{flag}': \"1\""));
                    assert_eq!(refused(&[flag, flag]), format!("{flag} is given twice"));
                }
                Opt::Number { name: number, help: what, range, default } => {
                    assert!(help.contains(number) && help.contains(what), "{help}");
                    assert!(range.contains(default), "{name} {number}");
                    for odd in ["x", "", "-1", "1.5", "99999999999999999999", "--help"] {
                        let sentence = refused(&[number, odd]);
                        let expected = format!("{number} takes a number from {}", range.start());
                        assert!(sentence.contains(&expected), "{sentence}");
                    }
                    let without = refused(&[number]);
                    assert_eq!(without, format!("missing argument for option '{number}'"));
                    let value = default.to_string();
                    let twice = refused(&[number, &value, &format!("{number}={value}")]);
                    assert_eq!(twice, format!("{number} is given twice"));
                    let mode = cli.options.iter().find_map(|option| match option {
                        Opt::Mode { name, with, .. } if with.contains(number) => Some(*name),
                        _ => None,
                    });
                    for edge in [range.start(), range.end()] {
                        let edged = format!("{number}={edge}");
                        let arguments = mode.into_iter().chain([edged.as_str()]);
                        let Ok(Asked::Run(args)) = cli.parse(arguments) else {
                            panic!("{name} refuses {number} {edge}");
                        };
                        assert_eq!(args.number::<u64>(number), *edge);
                    }
                }
            }
        }

        if let Some(ran) = program::spawn(name, &["--help"]) {
            assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, help.as_str(), ""));
        }
        if let Some(ran) = program::spawn(name, &["--nonsense"]) {
            let sentence = format!("{name}: invalid option '--nonsense'; see --help\n");
            assert_eq!((ran.code, ran.out.as_str(), ran.err), (2, "", sentence));
        }
    }};
}

#[test]
fn one_is_in_the_singular() {
    use cleanup_pattern::cli::counted;
    assert_eq!([0, 1, 2].map(|n| counted(n, "task")), ["0 tasks", "1 task", "2 tasks"]);
}

// Broke: it was as if the option had not been given.
#[test]
fn an_option_without_effect_is_refused() {
    let refused = |arguments: &[&str]| request_server::CLI.parse(arguments).err().unwrap();
    for (arguments, sentence) in [
        (&["--port", "8080"][..], "--port has no effect without --serve"),
        (&["--port=0", "--leaky"], "--port has no effect without --serve"),
        (&["--serve", "--requests=1"], "--requests has no effect with --serve"),
        (&["--clients", "1", "--serve"], "--clients has no effect with --serve"),
    ] {
        assert_eq!(refused(arguments).to_string(), sentence);
    }
    assert!(request_server::CLI.parse(["--port=80", "--leaky", "--workers=2", "--serve"]).is_ok());
    if let Some(ran) = program::spawn("request_server", &["--port", "8080"]) {
        let sentence = "request_server: --port has no effect without --serve; see --help\n";
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (2, "", sentence));
    }
}

#[test]
fn every_example_has_help_and_refuses_what_is_odd() {
    check!(cleanup_pattern);
    check!(context_copies);
    check!(database_switch);
    check!(executor_leak);
    check!(initialised_local);
    check!(logging_context);
    check!(own_copy);
    check!(request_server);
    check!(spinner);
    check!(transaction_scope);
    check!(worker_database);
}

#[cfg(target_os = "linux")]
#[test]
fn no_example_panics_where_nothing_can_be_written() {
    use std::fs::File;
    use std::process::{Command, Stdio};

    let full = || File::options().write(true).open("/dev/full").expect("Linux has it");
    for (example, args) in [
        ("cleanup_pattern", &[][..]),
        ("context_copies", &[]),
        ("database_switch", &[]),
        ("executor_leak", &[]),
        ("initialised_local", &[]),
        ("logging_context", &[]),
        ("own_copy", &[]),
        ("request_server", &["--requests", "100"]),
        ("request_server", &["--serve"]),
        ("spinner", &["--below", "100"]),
        ("tls_inventory", &["/proc/self/exe"]),
        ("transaction_scope", &[]),
        ("word_index", &[env!("CARGO_MANIFEST_DIR")]),
        ("worker_database", &[]),
    ] {
        let Some(path) = program::beside_this_test(example) else { continue };
        for args in [args, &["--help"], &["--nonsense"]] {
            let mut command = Command::new(&path);
            let status = command.args(args).stdout(full()).stderr(full()).status();
            let code = status.expect("the example starts").code();
            assert!(matches!(code, Some(1..=3)), "{example} {args:?}: {code:?}");
        }
        let told = Command::new(&path).args(args).stdout(full()).output();
        let said = String::from_utf8(told.expect("the example starts").stderr).expect("text");
        // Broke: it was not said what there is no space for.
        assert!(said.contains(&format!("{example}: cannot write: ")), "{example} {args:?}: {said}");
        if args != ["--serve"] {
            let mut command = Command::new(&path);
            let status = command.args(args).stdout(Stdio::null()).stderr(full()).status();
            assert_eq!(status.expect("the example starts").code(), Some(0), "{example} {args:?}");
        }
    }
}

// Broke: they panicked, and some hung.
#[cfg(target_os = "linux")]
#[test]
fn every_example_says_so_where_there_are_too_few_threads() {
    for (example, args) in [
        ("cleanup_pattern", &[][..]),
        ("context_copies", &[]),
        ("database_switch", &["--tasks=10"]),
        ("executor_leak", &[]),
        ("initialised_local", &[]),
        ("logging_context", &[]),
        ("own_copy", &[]),
        ("request_server", &["--requests=100"]),
        ("spinner", &["--below=100"]),
        ("transaction_scope", &[]),
        ("word_index", &["--top=0", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")]),
        ("worker_database", &["--tasks=10"]),
    ] {
        let Some(path) = program::beside_this_test(example) else { continue };
        for threads in (0..8).chain([20]) {
            let ended = ends(with_threads(threads, &path).args(args));
            let said = String::from_utf8(ended.stderr).expect("text");
            let sentence = said.starts_with(&format!("{example}: ")) && said.lines().count() == 1;
            match ended.status.code() {
                Some(0) => assert!(threads > 0 && said.is_empty(), "{example}: {said}"),
                Some(1 | 3) => assert!(sentence, "{example}, {threads}: {said}"),
                code => panic!("{example}, {threads}: {code:?}: {said}"),
            }
        }
    }
}

#[test]
fn every_example_is_in_the_list_of_examples() {
    let (list, manifest) = (include_str!("../README.md"), include_str!("../Cargo.toml"));
    let (_, examples) = manifest.split_once("[[example]]").expect("there are some");
    let names: Vec<_> = examples.lines().filter_map(|line| line.strip_prefix("name = ")).collect();
    let named = |name: &str| list.contains(&format!("--example {}", name.trim_matches('"')));
    // The last one is that of the tests.
    for name in &names[..names.len() - 1] {
        assert!(named(name), "{name}");
    }
}
