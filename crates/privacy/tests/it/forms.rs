//! What stands in the place of a value, what is reported of it, and what is refused.

use std::time::{Duration, Instant};

use millrace_privacy::{MAX_DEPTH, ScanError};

use super::{scan, scanner};

const EVENT: &str = r#"{"traits":{"email":"Jane@Example.com","phone":"(415) 555-2671"},"items":[{"pan":4111111111111111}],"context":{"ip":"203.0.113.7"}}"#;

#[test]
fn each_action_has_its_form() {
    for (action, expected) in [
        (
            "mask",
            r#"{"traits":{"email":"j***@e***.com","phone":"[phone *71]"},"items":[{"pan":"[card *1111]"}],"context":{"ip":"203.0.113.0"}}"#,
        ),
        (
            "redact",
            r#"{"traits":{"email":"[email]","phone":"[phone]"},"items":[{"pan":"[card]"}],"context":{"ip":"[ip]"}}"#,
        ),
    ] {
        let strict = scanner(&format!(r#"{{"detect":"all","action":"{action}"}}"#));
        let (output, findings) = scan(&strict, EVENT);
        assert_eq!(output, expected);
        let paths = ["traits.email email", "traits.phone phone", "items.0.pan card", "context.ip ip"];
        assert_eq!(findings, paths.map(|path| format!("{path} {action}")));
    }
}

#[test]
fn a_short_address_shows_nothing_of_itself() {
    let mask = scanner(r#"{"email":"mask"}"#);
    for (address, masked) in [
        ("a@b.co", "***@***.co"),
        ("ann@b.co", "a***@***.co"),
        ("4155@sms.example.com", "***@s***.com"),
        ("иван@почта.рф", "***@***.***"),
    ] {
        assert_eq!(scan(&mask, &format!("[\"{address}\"]")).0, format!("[\"{masked}\"]"));
    }
}

#[test]
fn all_spellings_of_a_value_have_one_hash() {
    let hash = scanner(r#"{"detect":"all","action":"hash"}"#);
    for spellings in [
        &[
            r#""jane@example.com""#,
            r#""JANE@example.COM""#,
            r#""jane\u0040example.com""#,
            r#""jane%40example.com""#,
        ][..],
        &[r#""+14155552671""#, r#""(415) 555-2671""#, r#""+1 415 555 2671""#, r#""415.555.2671""#],
        &[r#""4111111111111111""#, r#""4111 1111 1111 1111""#, "4111111111111111", "4.111111111111111E15"],
    ] {
        let hashes: Vec<String> = spellings.iter().map(|json| scan(&hash, json).0).collect();
        assert!(hashes.iter().all(|other| *other == hashes[0]), "{hashes:?}");
        assert!(hashes[0].starts_with("\"h1_") && hashes[0].len() == 37, "{}", hashes[0]);
    }
    let (keys, _) = scan(&hash, r#"{"a@b.co":1,"c@d.co":2}"#);
    assert_eq!(keys.matches("\"h1_").count(), 2, "hashed keys need no number: {keys}");
    let other =
        millrace_privacy::Scanner::new(hash.policy().clone(), millrace_privacy::HashKey::derive(&[8; 32]));
    assert_ne!(scan(&hash, "\"a@b.co\"").0, scan(&other, "\"a@b.co\"").0, "another workspace, another hash");
}

#[test]
fn a_kind_that_is_kept_is_not_looked_for() {
    let cards = scanner(r#"{"card":"redact"}"#);
    let (output, findings) = scan(&cards, r#"{"a":"jane@example.com","b":"4111111111111111"}"#);
    assert_eq!(output, r#"{"a":"jane@example.com","b":"[card]"}"#);
    assert_eq!(findings, ["b card redact"]);
}

#[test]
fn a_masked_key_is_masked_in_the_path_too() {
    let strict = scanner(r#"{"detect":"all","action":"mask"}"#);
    let (_, findings) = scan(&strict, r#"{"by":{"jane@example.com":["x@y.io"]}}"#);
    assert_eq!(findings, ["by.masked_email email mask", "by.masked_email.0 email mask"]);
}

#[test]
fn the_request_address_follows_the_policy() {
    for (policy, address, expected) in [
        (r#"{"ip":"truncate"}"#, "203.0.113.7", Some("203.0.113.0")),
        (r#"{"ip":"mask"}"#, "2001:db8:1:2:3:4:5:6", Some("2001:db8:1::")),
        (r#"{"ip":"mask"}"#, "::ffff:203.0.113.7", Some("203.0.113.0")),
        (r#"{"ip":"mask"}"#, "203.0.113.7:8080", Some("203.0.113.0")),
        (r#"{"ip":"mask"}"#, "jane@example.com", None),
        (r#"{"ip":"redact"}"#, "203.0.113.7", None),
        (r#"{"ip":"keep"}"#, "unknown", Some("unknown")),
        ("{}", "203.0.113.7", Some("203.0.113.7")),
    ] {
        assert_eq!(scanner(policy).request_ip(address).as_deref(), expected, "{policy} {address}");
    }
    let hashed = scanner(r#"{"ip":"hash"}"#).request_ip("203.0.113.7").unwrap();
    assert!(hashed.starts_with("h1_"), "{hashed}");
}

#[test]
fn text_outside_the_body_is_masked_too() {
    let strict = scanner(r#"{"detect":"all","action":"redact"}"#);
    assert_eq!(strict.text("from jane@example.com, é"), "from [email], é");
    assert_eq!(strict.text("track"), "track");
}

#[test]
fn what_is_not_json_is_refused() {
    let strict = scanner(r#"{"detect":"all","action":"mask"}"#);
    for bad in [
        "",
        " ",
        "{",
        "}",
        "[1,]",
        "{\"a\"}",
        "{\"a\":}",
        "{a:1}",
        "{\"a\":1,}",
        "nul",
        "tru",
        "01",
        "1.",
        "-",
        "1e",
        "+1",
        ".5",
        "\"a",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"\u{1}\"",
        "{} {}",
        "[1 2]",
        "{\"a\":1 \"b\":2}",
        "NaN",
        "'a'",
        "[1}",
        "{\"a\":1]",
    ] {
        assert!(matches!(strict.scan(bad.as_bytes()), Err(ScanError::Invalid { .. })), "{bad}");
    }
    assert!(matches!(strict.scan(b"\"\xff\""), Err(ScanError::Invalid { at: 1, .. })));
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(strict.scan(nested(MAX_DEPTH).as_bytes()).is_ok());
    assert_eq!(strict.scan(nested(MAX_DEPTH + 1).as_bytes()), Err(ScanError::TooDeep));
    assert_eq!(strict.scan("[".repeat(1_000_000).as_bytes()), Err(ScanError::TooDeep));
}

/// Generous, for a busy machine and a build without optimisation: what takes quadratic time takes hours.
const ADVERSARIAL_LIMIT: Duration = Duration::from_secs(20);

#[test]
fn no_input_takes_more_than_linear_time() {
    let strict = scanner(r#"{"detect":"all","action":"mask"}"#);
    const SIZE: usize = 500_000;
    let repeated = |part: &str| part.repeat(SIZE / part.len());
    let deep_keys =
        format!("{}[{}1]{}", "{\"phone\":{\"no\":".repeat(60), "4155552671,".repeat(20_000), "}".repeat(120));
    for text in [
        format!("\"{}\"", repeated("a")),
        format!("\"{}@\"", repeated("a.")),
        format!("\"{}\"", repeated("a@")),
        format!("\"{}\"", repeated("a@b.")),
        format!("\"{}\"", repeated("1")),
        format!("\"{}\"", repeated("4111 ")),
        format!("\"{}\"", repeated("1-")),
        format!("\"{}\"", repeated("+1 ")),
        format!("\"{}\"", repeated("%25")),
        format!("\"{}\"", repeated("\\u0025")),
        format!("\"{}\"", repeated("a@b.co ")),
        format!("{{\"{}\":\"a@b.co\"}}", repeated("k")),
        format!("[{}1]", repeated("4111111111111111,")),
        deep_keys,
    ] {
        let started = Instant::now();
        strict.scan(text.as_bytes()).unwrap();
        let start: String = text.chars().take(20).collect();
        assert!(started.elapsed() < ADVERSARIAL_LIMIT, "{start}: {:?}", started.elapsed());
    }
}
