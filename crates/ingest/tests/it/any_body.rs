//! Any body at all: what ingest makes of it is what another reader of JSON sees in it (`oracle.rs`).

use std::path::Path;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::oracle;

/// What the fuzz target `ingest_body` starts from, and what it once found.
const CORPUS: &str = "../../integration-tests/fuzz/corpus/ingest_body";

#[test]
fn every_body_of_the_corpus_is_read_as_serde_json_reads_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(CORPUS);
    let (mut bodies, mut events) = (0, 0);
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        eprintln!("{}", path.display());
        events += oracle::check(&std::fs::read(path).unwrap());
        bodies += 1;
    }
    assert!(bodies > 30 && events > 30, "only {events} events of {bodies} bodies");
}

/// A generator whose bodies are all refused would prove little.
#[test]
fn many_of_the_generated_bodies_are_accepted() {
    let mut runner = TestRunner::deterministic();
    let mut accepted = 0;
    for _ in 0..200 {
        accepted +=
            usize::from(oracle::check(body().new_tree(&mut runner).unwrap().current().as_bytes()) > 0);
    }
    assert!(accepted > 60, "only {accepted} of 200");
}

/// White space as JSON has it.
fn space() -> impl Strategy<Value = String> {
    prop_oneof![4 => Just(String::new()), 1 => "[ \t\n\r]{1,3}"]
}

/// A string as a client may write it: plain, or with every kind of escape, halves of pairs included.
fn string() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-zA-Z0-9 .@:/_-]{0,8}",
        1 => any::<char>().prop_map(|ch| serde_json::to_string(&ch).unwrap().trim_matches('"').to_owned()),
        1 => r#"\\["\\/bfnrt]"#,
        1 => "\\\\u[0-9a-fA-F]{4}",
        1 => Just("jane@example.com".to_owned()),
        1 => Just("4111111111111111".to_owned()),
    ];
    prop::collection::vec(piece, 0..4).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

fn number() -> impl Strategy<Value = String> {
    "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?"
}

/// Keys that are decided upon, also escaped, and any others.
fn key() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "userId",
        "anonymousId",
        "messageId",
        "type",
        "sentAt",
        "receivedAt",
        "request_ip",
        "context",
        "integrations",
        "batch",
        "event",
    ]);
    let escaped =
        (known.clone(), any::<prop::sample::Index>(), any::<bool>()).prop_map(|(name, at, upper)| {
            let at = at.index(name.len());
            let code = u32::from(name.as_bytes()[at]);
            let digits = if upper { format!("{code:04X}") } else { format!("{code:04x}") };
            format!("\"{}\\u{digits}{}\"", &name[..at], &name[at + 1..])
        });
    prop_oneof![4 => known.prop_map(|name| format!("\"{name}\"")), 1 => escaped, 2 => string()]
}

/// Any JSON as text: with white space anywhere, and fields that stand twice.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        3 => string(),
        2 => number(),
        1 => prop::sample::select(vec!["null", "true", "false", "\"\""]).prop_map(str::to_owned),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| prop_oneof![object(inner.clone()), list(inner)].boxed())
}

fn object(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let field = (space(), key(), space(), value, space())
        .prop_map(|(before, key, behind, value, after)| format!("{before}{key}{behind}:{value}{after}"));
    prop::collection::vec(field, 0..5).prop_map(|fields| format!("{{{}}}", fields.join(",")))
}

fn list(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let element =
        (space(), value, space()).prop_map(|(before, value, after)| format!("{before}{value}{after}"));
    prop::collection::vec(element, 0..5).prop_map(|elements| format!("[{}]", elements.join(",")))
}

/// An event, most often with somebody in it.
fn event() -> impl Strategy<Value = String> {
    let somebody =
        prop::sample::select(vec!["\"userId\":\"u\"", "\"anonymousId\" : 7", "\"type\":\"record\""]);
    let event = (somebody, object(json())).prop_map(|(somebody, rest)| match rest.as_str() {
        "{}" => format!("{{{somebody}}}"),
        _ => format!("{{{somebody},{}", &rest[1..]),
    });
    prop_oneof![8 => event, 1 => object(json()), 1 => json()]
}

fn batch() -> impl Strategy<Value = String> {
    let events = prop::collection::vec((space(), event()), 0..8).prop_map(|events| {
        let events: Vec<_> = events.into_iter().map(|(space, event)| format!("{space}{event}")).collect();
        format!("[{}]", events.join(","))
    });
    let batch = prop_oneof![8 => events, 1 => event()].prop_map(|events| format!("\"batch\":{events}"));
    let beside = (key(), json()).prop_map(|(key, value)| format!("{key}:{value}"));
    let fields = prop::collection::vec(prop_oneof![1 => batch.clone().boxed(), 3 => beside.boxed()], 0..3);
    (fields, batch).prop_map(|(mut fields, batch)| {
        fields.insert(fields.len() / 2, batch);
        format!("{{{}}}", fields.join(","))
    })
}

/// Something that may be what a path wants.
fn body() -> impl Strategy<Value = String> {
    prop_oneof![2 => event(), 3 => batch(), 1 => json()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_json_comes_out_as_the_events_that_serde_json_sees_in_it(before in space(), body in body(), after in space()) {
        oracle::check(format!("{before}{body}{after}").as_bytes());
    }

    #[test]
    fn what_is_nearly_json_is_refused_where_serde_json_refuses_it(
        body in body(),
        at in any::<prop::sample::Index>(),
        instead in prop_oneof![prop::collection::vec(any::<u8>(), 0..3), "[\\[\\]{}:,\"\\\\0-9eE.+-]".prop_map(String::into_bytes)],
        removed in 0_usize..3,
    ) {
        let mut bytes = body.into_bytes();
        let at = at.index(bytes.len());
        bytes.splice(at..(at + removed).min(bytes.len()), instead);
        oracle::check(&bytes);
    }

    #[test]
    fn any_bytes_have_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        oracle::check(&bytes);
    }
}
