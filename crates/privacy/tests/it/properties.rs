//! The scanner's laws over any JSON: text made of what it looks for, nested at random.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::Value;

use super::{scan, scanner};

/// Pieces that meet at random: values to find, near misses, and what joins them.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("jane@example.com".to_owned()),
        Just("+14155552671".to_owned()),
        Just("(415) 555-2671".to_owned()),
        Just("4111 1111 1111 1111".to_owned()),
        Just("4111111111111111".to_owned()),
        Just("501800000009".to_owned()),
        Just("203.0.113.7".to_owned()),
        Just("%40".to_owned()),
        Just("\\u0040".to_owned()),
        Just("2026-11-24".to_owned()),
        "[0-9]{1,12}",
        "[ .,@+()/%_-]{1,3}",
        "[a-z]{1,5}",
        any::<String>().prop_map(|text| text.chars().take(5).collect()),
    ];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("phone".to_owned()),
        Just("ip".to_owned()),
        Just("card".to_owned()),
        Just("userId".to_owned()),
        Just("number".to_owned()),
        text(),
    ]
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        text().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (4_111_111_111_111_000_u64..4_111_111_111_112_000).prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((key(), inner), 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// The same document, each character of its strings escaped or not as `escapes` says.
fn written(value: &Value, escapes: u64) -> String {
    let plain = value.to_string();
    let mut text = String::new();
    for (index, ch) in plain.chars().enumerate() {
        let escaped = escapes.rotate_left(index as u32 % 64) & 1 == 1 && matches!(ch, '@' | '/' | '%' | '(');
        if escaped {
            text.push_str(&format!("\\u{:04x}", u32::from(ch)));
        } else {
            text.push(ch);
        }
    }
    text
}

/// The document without what a policy may change: strings and numbers, and the names of keys.
fn shape(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(bool) => bool.to_string(),
        Value::Number(_) | Value::String(_) => "leaf".to_owned(),
        Value::Array(values) => format!("[{}]", values.iter().map(shape).collect::<Vec<_>>().join(",")),
        Value::Object(fields) => {
            let mut shapes: Vec<String> = fields.values().map(shape).collect();
            shapes.sort();
            format!("{{{}}}", shapes.join(","))
        }
    }
}

proptest! {
    // The same cases in each run; they were explored with 100,000 random ones. Another seed explores further.
    #![proptest_config(ProptestConfig { cases: 1000, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_output_is_json_of_the_same_shape(value in json(), escapes in any::<u64>()) {
        let input = written(&value, escapes);
        for action in ["mask", "redact", "hash"] {
            let strict = scanner(&format!(r#"{{"detect":"all","action":"{action}"}}"#));
            let (output, findings) = scan(&strict, &input);
            let parsed: Value = serde_json::from_str(&output).unwrap();
            // Two spellings of one value have one hash: two such keys of one object become one.
            if action != "hash" {
                prop_assert_eq!(shape(&parsed), shape(&serde_json::from_str(&input).unwrap()));
            }
            prop_assert_eq!(findings.is_empty(), output == input, "{}", output);
        }
    }

    #[test]
    fn scanning_twice_finds_nothing_new(value in json(), escapes in any::<u64>()) {
        let input = written(&value, escapes);
        for action in ["mask", "redact", "hash"] {
            let strict = scanner(&format!(r#"{{"detect":"all","action":"{action}"}}"#));
            let (once, _) = scan(&strict, &input);
            let (twice, findings) = scan(&strict, &once);
            prop_assert_eq!(&twice, &once, "{} {:?}", input, findings);
        }
    }

    #[test]
    fn every_planted_value_is_gone(before in "[ a-z]{0,9}", after in "[ a-z]{0,9}", local in "[a-z][a-z0-9]{4,9}", tail in 1000_u32..9999) {
        let strict = scanner(r#"{"detect":"all","action":"mask"}"#);
        let input = format!(
            r#"{{"a":"{before} {local}@example.com {after}","{local}@example.com":1,"b":{{"phone":"+1415555{tail}"}},"c":["{before} 4111-1111-1111-1111 {after}",4111111111111111]}}"#
        );
        let (output, findings) = scan(&strict, &input);
        prop_assert_eq!(findings.len(), 5);
        for planted in [local.as_str(), &format!("1415555{tail}"), "4111-1111", "41111111"] {
            prop_assert!(!output.contains(&format!("{planted}@")) && !output.contains("4111-") && !output.contains(&format!("5555{tail}")), "{} in {}", planted, output);
        }
    }

    #[test]
    fn it_accepts_what_serde_json_accepts(bytes in r#"[\[\]{}:,"0-9.eE+\-truefalsn \\u]{0,24}"#) {
        let strict = scanner(r#"{"detect":"all","action":"mask"}"#);
        let theirs = serde_json::from_str::<serde::de::IgnoredAny>(&bytes).is_ok();
        prop_assert_eq!(strict.scan(bytes.as_bytes()).is_ok(), theirs, "{}", bytes);
    }

    #[test]
    fn a_damaged_document_never_panics(value in json(), cut in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let strict = scanner(r#"{"detect":"all","action":"mask"}"#);
        let mut bytes = value.to_string().into_bytes();
        let at = cut.index(bytes.len());
        bytes[at] = byte;
        let theirs = std::str::from_utf8(&bytes).is_ok_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok());
        prop_assert_eq!(strict.scan(&bytes).is_ok(), theirs);
    }
}
