//! The command lines of the examples: help, and a sentence for everything that is odd.

#![expect(
    clippy::duplicate_mod,
    reason = "the examples are programs, and each has its command line"
)]

#[expect(dead_code, reason = "examples are called through their own code here")]
mod program;

#[expect(dead_code, reason = "only its command line is looked at here")]
#[path = "../examples/cleanup_pattern.rs"]
mod cleanup_pattern;
#[expect(dead_code, reason = "only its command line is looked at here")]
#[path = "../examples/context_copies.rs"]
mod context_copies;
#[expect(dead_code, reason = "only its command line is looked at here")]
#[path = "../examples/database_switch.rs"]
mod database_switch;
#[expect(dead_code, reason = "only its command line is looked at here")]
#[path = "../examples/executor_leak.rs"]
mod executor_leak;
#[expect(dead_code, reason = "only its command line is looked at here")]
#[path = "../examples/initialised_local.rs"]
mod initialised_local;
#[cfg(feature = "tracing")]
#[expect(dead_code, reason = "only its command line is looked at here")]
#[path = "../examples/logging_context.rs"]
mod logging_context;
#[expect(dead_code, reason = "only its command line is looked at here")]
#[path = "../examples/own_copy.rs"]
mod own_copy;
#[expect(dead_code, reason = "only its command line is looked at here")]
#[path = "../examples/request_server/main.rs"]
mod request_server;
#[expect(dead_code, reason = "only its command line is looked at here")]
#[path = "../examples/spinner.rs"]
mod spinner;
#[expect(dead_code, reason = "only its command line is looked at here")]
#[path = "../examples/transaction_scope.rs"]
mod transaction_scope;
#[expect(dead_code, reason = "only its command line is looked at here")]
#[path = "../examples/worker_database.rs"]
mod worker_database;

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
            Err(sentence) => sentence,
            Ok(_) => panic!("{name} accepts {arguments:?}"),
        };
        assert_eq!(refused(&["--nonsense"]), "there is no `--nonsense`");
        assert_eq!(refused(&["x", "--help"]), "there is no `x`");
        assert_eq!(refused(&[""]), "there is no ``");
        for option in cli.options {
            match option {
                Opt::Flag { name: flag, help: what } => {
                    assert!(help.contains(flag) && help.contains(what), "{help}");
                    assert_eq!(refused(&[&format!("{flag}=1")]), format!("{flag} takes no value"));
                }
                Opt::Number { name: number, help: what, range, default } => {
                    assert!(help.contains(number) && help.contains(what), "{help}");
                    assert!(range.contains(default), "{name} {number}");
                    for odd in ["x", "", "-1", "1.5", "99999999999999999999", "--help"] {
                        let sentence = refused(&[number, odd]);
                        let expected = format!("{number} takes a number from {}", range.start());
                        assert!(sentence.starts_with(&expected), "{sentence}");
                    }
                    assert!(refused(&[number]).starts_with(&format!("{number} needs a number")));
                    let value = default.to_string();
                    let twice = refused(&[number, &value, &format!("{number}={value}")]);
                    assert_eq!(twice, format!("{number} is given twice"));
                    for edge in [range.start(), range.end()] {
                        let Ok(Asked::Run(args)) = cli.parse([format!("{number}={edge}")]) else {
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
            let sentence = format!("{name}: there is no `--nonsense`; see --help\n");
            assert_eq!((ran.code, ran.out.as_str(), ran.err), (2, "", sentence));
        }
    }};
}

#[test]
fn every_example_has_help_and_refuses_what_is_odd() {
    check!(cleanup_pattern);
    check!(context_copies);
    check!(database_switch);
    check!(executor_leak);
    check!(initialised_local);
    #[cfg(feature = "tracing")]
    check!(logging_context);
    check!(own_copy);
    check!(request_server);
    check!(spinner);
    check!(transaction_scope);
    check!(worker_database);
}
