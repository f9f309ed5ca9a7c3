//! Contexts as a `baggage` header of W3C, against the parser of OpenTelemetry.

use std::collections::HashMap;

use cleanslate::{Context, task_local};
use cleanslate_jobs::Wire;
use opentelemetry::baggage::{BaggageExt, KeyValueMetadata};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry_sdk::propagation::BaggagePropagator;
use proptest::prelude::*;

task_local! {
    #[inherit]
    static TENANT: String = "nobody".to_owned();
    #[inherit]
    static LANG: Option<String> = None;
}

fn wire() -> Wire {
    Wire::new().slot("tenant", &TENANT).slot("lang", &LANG)
}

/// Captures in a task that holds these values.
fn header(tenant: &str, lang: &str) -> String {
    Context::empty().run(|| {
        TENANT.set(tenant.to_owned());
        LANG.set(Some(lang.to_owned()));
        wire().capture_baggage().unwrap()
    })
}

fn found(header: &str) -> (String, Option<String>) {
    wire().restore_baggage(header).unwrap().run(|| (TENANT.get(), LANG.get()))
}

/// What OpenTelemetry makes of a header.
fn parsed(header: &str) -> HashMap<String, String> {
    let headers = HashMap::from([("baggage".to_owned(), header.to_owned())]);
    let context = BaggagePropagator::new().extract(&headers);
    let members = context.baggage().iter();
    members.map(|(key, (value, _))| (key.to_string(), value.to_string())).collect()
}

/// The header that OpenTelemetry makes.
fn written(members: &[(&str, &str)]) -> String {
    let members = members.iter().map(|(key, value)| {
        KeyValueMetadata::new((*key).to_owned(), (*value).to_owned(), "origin=test")
    });
    let context = opentelemetry::Context::new().with_baggage(members);
    let mut headers = HashMap::<String, String>::new();
    BaggagePropagator::new().inject_context(&context, &mut headers);
    headers.remove("baggage").unwrap()
}

fn json(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

#[test]
fn values_are_percent_encoded() {
    assert_eq!(
        header("a b", "100%,;=\\ü"),
        "tenant=%22a%20b%22,lang=%22100%25%2C%3B%3D%5C%5C%C3%BC%22"
    );
    let nothing = Context::empty().run(|| wire().capture_baggage().unwrap());
    assert_eq!(nothing, "");
    assert_eq!(found(""), ("nobody".to_owned(), None));
}

#[test]
fn spaces_properties_and_members_of_others_are_passed_over() {
    let header =
        "\tother = 1 ;p=2 , tenant \t=\t %22acme%22 ; ttl=3;secret, nonsense,,=x ,TENANT=1";
    assert_eq!(found(header), ("acme".to_owned(), None));
    assert_eq!(found("tenant=%22a%22,tenant=%22b%22").0, "b");
    assert_eq!(found("tenant=\"raw\"").0, "raw");
}

#[test]
fn malformed_encodings_do_no_harm() {
    for (value, text) in [
        ("%22a%2%22", "a%2"),
        ("%22%zz%22", "%zz"),
        ("%22%22%", ""),
        ("%22%ff%22", "\u{fffd}"),
        ("%22%E2%82%AC%22", "€"),
        ("%22%e2%82%22", "\u{fffd}"),
    ] {
        match wire().restore_baggage(&format!("tenant={value}")) {
            Ok(context) => assert_eq!(context.run(|| TENANT.get()), text, "{value}"),
            // What is left is no JSON.
            Err(error) => assert!(error.is_decode() && text.is_empty(), "{value}: {error}"),
        }
    }
}

#[test]
fn the_limits_of_the_specification_hold() {
    let fill = |count| {
        Context::empty().run(|| {
            TENANT.set("t".repeat(count));
            wire().limit(usize::MAX).capture_baggage()
        })
    };
    let rest = "tenant=%22%22".len();
    let full = fill(8192 - rest).unwrap();
    assert_eq!(full.len(), 8192);
    let unlimited = wire().limit(usize::MAX);
    assert_eq!(unlimited.restore_baggage(&full).unwrap().run(|| TENANT.get().len()), 8192 - rest);
    let error = fill(8192 - rest + 1).unwrap_err();
    assert!(error.is_too_large() && error.slot() == Some("tenant"), "{error}");
    let error = unlimited.restore_baggage(&format!("{full} ")).unwrap_err();
    assert!(error.is_too_large() && error.slot().is_none(), "{error}");
    assert!(error.to_string().contains("8193 bytes"), "{error}");

    let members = |count| vec!["a=1"; count].join(",");
    assert!(unlimited.restore_baggage(&members(64)).is_ok());
    let error = unlimited.restore_baggage(&members(65)).unwrap_err();
    assert!(error.is_too_large() && error.to_string().contains("65 members"), "{error}");
    // Broke: what is no member counted as one.
    for other in ["=1", "a b=1", "a\"=1", "a"] {
        let header = format!("{},tenant=%22acme%22", vec![other; 100].join(","));
        assert_eq!(found(&header).0, "acme");
    }
}

// One slot under many names: a wire with that many slots is a long declaration.
#[test]
fn more_slots_than_members_are_refused() {
    const NAMES: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
    let wire = |count| (0..count).fold(Wire::new(), |wire, at| wire.slot(&NAMES[at..=at], &TENANT));
    Context::empty().run(|| {
        TENANT.set("acme".to_owned());
        assert!(wire(64).capture_baggage().is_ok());
        let error = wire(65).capture_baggage().unwrap_err();
        assert!(error.is_too_large() && error.slot().is_none(), "{error}");
        assert!(wire(65).capture().is_ok());
    });
}

/// A value in one of the many ways to write it.
fn any_writing() -> impl Strategy<Value = (String, String)> {
    ("\\PC{0,12}", any::<u64>()).prop_map(|(text, mut choices)| {
        let mut written = String::new();
        for byte in json(&text).bytes() {
            choices = choices.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let is_plain =
                byte.is_ascii_alphanumeric() || b"!#$&'()*+-./:<>?@[]^_`{|}~".contains(&byte);
            match choices >> 62 {
                0 => written += &format!("%{byte:02x}"),
                _ if is_plain => written.push(byte.into()),
                _ => written += &format!("%{byte:02X}"),
            }
        }
        (text, written)
    })
}

proptest! {
    #[test]
    fn others_read_what_we_write(tenant in "\\PC{0,40}", lang in any::<String>()) {
        // Every byte of it may take three.
        prop_assume!(lang.len() < 600);
        let header = header(&tenant, &lang);
        let parsed = parsed(&header);
        prop_assert_eq!(&parsed["tenant"], &json(&tenant));
        prop_assert_eq!(&parsed["lang"], &json(&lang));
        prop_assert_eq!(found(&header), (tenant, Some(lang)));
    }

    #[test]
    fn we_read_what_others_write(tenant in "[^%]{0,40}", lang in "[^%]{0,40}") {
        // OpenTelemetry does not encode a `%`.
        let members = [("first", "1"), ("tenant", &json(&tenant)), ("lang", &json(&lang))];
        prop_assert_eq!(found(&written(&members)), (tenant, Some(lang)));
    }

    #[test]
    fn we_read_as_others_do(
        members in prop::collection::vec(
            ("(tenant|lang|other)", any_writing(), "[ \t]{0,2}", "(;p=[0-9]|; secret|)"), 1..20),
    ) {
        let header: Vec<_> = members.iter().map(|(key, (_, written), space, property)| {
            format!("{space}{key}{space}={space}{written}{space}{property}{space}")
        }).collect();
        let header = header.join(",");
        let parsed = parsed(&header);
        let (tenant, lang) = found(&header);
        // OpenTelemetry keeps the last of two, as well.
        let tenant = (tenant != "nobody").then(|| json(&tenant));
        prop_assert_eq!(parsed.get("tenant"), tenant.as_ref());
        let lang = lang.map(|lang| json(&lang));
        prop_assert_eq!(parsed.get("lang"), lang.as_ref());
    }

    #[test]
    fn no_header_does_harm(header in any::<String>(), near in "[ten=%2;, \"a\\\\]{0,40}") {
        for header in [header, format!("tenant={near}")] {
            if let Err(error) = wire().restore_baggage(&header) {
                prop_assert!(error.is_decode() && error.slot().is_some());
            }
        }
    }
}
