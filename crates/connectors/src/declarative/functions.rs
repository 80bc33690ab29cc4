//! What expressions and `apply:` can do to a value, besides minijinja's own filters.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::Md5;
use millrace_event_model::parse_moment;
use millrace_transform::Function;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::destinations::shared::flatten::flatten;
use crate::destinations::shared::{times, user_agent};

/// A function, and what it does, for the reference page.
pub(super) type Entry = (&'static str, Function, &'static str);

/// All of them. Those that need no argument may stand in `apply:` too.
pub const FUNCTIONS: &[Entry] = &[
    ("trim", |value, _| text(value, |text| json!(text.trim())), "without blanks at its ends"),
    ("lower", |value, _| text(value, |text| json!(text.to_lowercase())), "in lower case"),
    ("upper", |value, _| text(value, |text| json!(text.to_uppercase())), "in upper case"),
    ("string", |value, _| Ok(string(value)), "as a text; an object or list as JSON"),
    ("integer", |value, _| Ok(integer(value)), "as a whole number; nothing where it is none"),
    ("number", |value, _| Ok(number(value)), "as a number; nothing where it is none"),
    ("boolean", |value, _| Ok(boolean(value)), "as true or false; nothing where it is neither"),
    ("json", |value, _| Ok(Value::String(value.to_string())), "as JSON in a text"),
    (
        "sha256",
        |value, _| text(value, |text| json!(hex(&Sha256::digest(text)))),
        "its SHA-256 in hexadecimal digits",
    ),
    ("md5", |value, _| text(value, |text| json!(hex(&Md5::digest(text)))), "its MD5 in hexadecimal digits"),
    ("base64", |value, _| text(value, |text| json!(STANDARD.encode(text))), "in base64"),
    (
        "email",
        |value, _| text(value, |text| json!(text.trim().to_lowercase())),
        "an e-mail address as it is hashed: trimmed, in lower case",
    ),
    (
        "e164",
        |value, _| text(value, e164),
        "a phone number with its country code: `+` and digits; nothing where it has no country code",
    ),
    ("digits", |value, _| text(value, |text| json!(digits(text))), "its digits alone"),
    ("unix_seconds", |value, _| Ok(seconds(value)), "a time as seconds since 1970"),
    ("unix_millis", |value, _| Ok(millis(value)), "a time as milliseconds since 1970"),
    ("timestamp", |value, _| Ok(timestamp(value)), "a time as RFC 3339 in UTC with milliseconds"),
    (
        "flatten",
        |value, _| Ok(flat(value)),
        "an object whose inner objects are joined into its names by dots",
    ),
    ("keys", |value, _| Ok(keys(value)), "the names of an object"),
    ("values", |value, _| Ok(values(value)), "the values of an object"),
    (
        "only",
        |value, names| Ok(picked(value, names, true)),
        "an object with these names alone: `only('a', 'b')`",
    ),
    (
        "without",
        |value, names| Ok(picked(value, names, false)),
        "an object without these names: `without('a')`",
    ),
    (
        "merge",
        |value, more| Ok(merged(value, more)),
        "an object with the fields of others over its own: `merge(traits)`",
    ),
    (
        "get",
        |value, path| Ok(got(value, path)),
        "the value at a path, also one in a setting: `get('address.city')`",
    ),
    ("host", |value, _| Ok(host(value)), "the host of a URL, with its port"),
    (
        "browser",
        |value, _| Ok(browser(value, |(name, _)| json!(name))),
        "the browser's name, of a user agent",
    ),
    (
        "browser_version",
        |value, _| Ok(browser(value, |(_, version)| json!(version))),
        "the browser's version, of a user agent",
    ),
    ("os", |value, _| Ok(os(value)), "the operating system's name, of a user agent"),
];

/// A function by its name.
pub(crate) fn find(name: &str) -> Option<Function> {
    FUNCTIONS.iter().find(|(known, ..)| *known == name).map(|(_, function, _)| *function)
}

/// Nothing stays nothing; a number counts as its digits.
fn text(value: &Value, make: impl Fn(&str) -> Value) -> Result<Value, &'static str> {
    match value {
        Value::Null => Ok(Value::Null),
        Value::String(text) => Ok(make(text)),
        Value::Number(number) => Ok(make(&number.to_string())),
        _ => Err("a text was expected, and it is none"),
    }
}

pub(super) fn string(value: &Value) -> Value {
    match value {
        Value::Null | Value::String(_) => value.clone(),
        other => Value::String(other.to_string()),
    }
}

pub(super) fn integer(value: &Value) -> Value {
    match value {
        Value::Number(number) if number.is_i64() || number.is_u64() => value.clone(),
        Value::Number(number) => {
            // Beyond 2^53 a float no longer says which integer is meant.
            let whole = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 9.0e15);
            #[expect(clippy::cast_possible_truncation, reason = "whole and within the range of i64")]
            whole.map_or(Value::Null, |float| json!(float as i64))
        }
        Value::String(text) => text.trim().parse::<i64>().map_or(Value::Null, |number| json!(number)),
        Value::Bool(yes) => json!(i64::from(*yes)),
        _ => Value::Null,
    }
}

pub(super) fn number(value: &Value) -> Value {
    match value {
        Value::Number(_) => value.clone(),
        Value::String(text) => match serde_json::from_str(text.trim()) {
            Ok(number @ Value::Number(_)) => number,
            _ => Value::Null,
        },
        _ => Value::Null,
    }
}

pub(super) fn boolean(value: &Value) -> Value {
    match value {
        Value::Bool(_) => value.clone(),
        Value::String(text) => match text.trim().to_lowercase().as_str() {
            "true" | "yes" | "1" => Value::Bool(true),
            "false" | "no" | "0" => Value::Bool(false),
            _ => Value::Null,
        },
        Value::Number(number) => match number.as_i64() {
            Some(1) => Value::Bool(true),
            Some(0) => Value::Bool(false),
            _ => Value::Null,
        },
        _ => Value::Null,
    }
}

/// Numbers are taken for seconds up to the year 5138, and for milliseconds beyond it.
const LATEST_SECONDS: u64 = 100_000_000_000;

pub(super) fn seconds(value: &Value) -> Value {
    moment(value, |millis| json!(millis.div_euclid(1000)))
}

pub(super) fn millis(value: &Value) -> Value {
    moment(value, |millis| json!(millis))
}

pub(super) fn timestamp(value: &Value) -> Value {
    moment(value, |millis| json!(times::rfc3339(millis)))
}

fn moment(value: &Value, make: impl Fn(i64) -> Value) -> Value {
    let millis = match value {
        Value::String(text) => parse_moment(text).map(|micros| micros.div_euclid(1000)),
        Value::Number(number) => number.as_i64().map(|number| match number.unsigned_abs() < LATEST_SECONDS {
            true => number * 1000,
            false => number,
        }),
        _ => None,
    };
    millis.map_or(Value::Null, make)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

/// E.164 has at most 15 digits, and the shortest numbers with a country code have 7.
fn e164(text: &str) -> Value {
    let text = text.trim();
    let number = digits(text);
    let international = text.strip_prefix('+').is_some() || text.starts_with("00");
    let number = if text.starts_with("00") { number.trim_start_matches('0') } else { &number };
    match international && (7..=15).contains(&number.len()) {
        true => json!(format!("+{number}")),
        false => Value::Null,
    }
}

fn flat(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(flatten(fields.clone())),
        other => other.clone(),
    }
}

fn keys(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields.keys().cloned().map(Value::String).collect(),
        _ => Value::Null,
    }
}

fn values(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields.values().cloned().collect(),
        _ => Value::Null,
    }
}

fn picked(value: &Value, names: &[Value], keep: bool) -> Value {
    let Value::Object(fields) = value else { return value.clone() };
    let named = |name: &str| {
        names.iter().any(|one| match one {
            Value::Array(list) => list.iter().any(|one| one.as_str() == Some(name)),
            one => one.as_str() == Some(name),
        })
    };
    let fields = fields.iter().filter(|(name, _)| named(name) == keep);
    Value::Object(fields.map(|(name, value)| (name.clone(), value.clone())).collect())
}

fn merged(value: &Value, more: &[Value]) -> Value {
    let mut fields: Map<String, Value> = value.as_object().cloned().unwrap_or_default();
    for other in more.iter().filter_map(Value::as_object) {
        fields.extend(other.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
    Value::Object(fields)
}

fn got(value: &Value, path: &[Value]) -> Value {
    let path = path.first().and_then(Value::as_str);
    path.and_then(|path| crate::http::path::get(value, path)).cloned().unwrap_or(Value::Null)
}

fn host(value: &Value) -> Value {
    let url = value.as_str().and_then(|text| url::Url::parse(text).ok());
    let Some((host, port)) = url.as_ref().and_then(|url| Some((url.host_str()?, url.port()))) else {
        return Value::Null;
    };
    json!(port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

fn browser(value: &Value, part: impl Fn((&'static str, String)) -> Value) -> Value {
    value.as_str().and_then(user_agent::browser).map_or(Value::Null, part)
}

/// In the order in which they are looked for: Android's user agents name Linux, the iPhone's Mac OS X.
const SYSTEMS: &[(&str, &str)] = &[
    ("Windows Phone", "Windows Phone"),
    ("Windows", "Windows"),
    ("iPhone", "iOS"),
    ("iPad", "iOS"),
    ("Android", "Android"),
    ("CrOS", "Chrome OS"),
    ("Mac OS X", "Mac OS"),
    ("Linux", "Linux"),
];

fn os(value: &Value) -> Value {
    let text = value.as_str().unwrap_or_default();
    SYSTEMS.iter().find(|(mark, _)| text.contains(mark)).map_or(Value::Null, |(_, name)| json!(name))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn every_function_does_what_its_line_says() {
        let cases = [
            ("trim", json!(" a "), json!("a")),
            ("lower", json!("Ab"), json!("ab")),
            ("upper", json!(12), json!("12")),
            ("trim", json!(null), json!(null)),
            ("integer", json!("12"), json!(12)),
            ("integer", json!(12.5), json!(null)),
            ("number", json!("1.5"), json!(1.5)),
            ("number", json!("x"), json!(null)),
            ("boolean", json!("Yes"), json!(true)),
            ("string", json!({"a": 1}), json!(r#"{"a":1}"#)),
            ("email", json!(" Ann@Example.com"), json!("ann@example.com")),
            ("e164", json!("+44 20 7946-0018"), json!("+442079460018")),
            ("e164", json!("0049 30 901820"), json!("+4930901820")),
            ("e164", json!("020 7946 0018"), json!(null)),
            ("unix_seconds", json!("2023-11-14T22:13:20.999Z"), json!(1_700_000_000)),
            ("unix_millis", json!(1_700_000_000), json!(1_700_000_000_000_i64)),
            ("timestamp", json!("2023-11-14T23:13:20+01:00"), json!("2023-11-14T22:13:20.000Z")),
            ("unix_seconds", json!("soon"), json!(null)),
            ("unix_millis", json!(i64::MIN), json!(i64::MIN)),
            ("flatten", json!({"a": {"b": 1}}), json!({"a.b": 1})),
            ("keys", json!({"a": 1, "b": 2}), json!(["a", "b"])),
            ("host", json!("http://localhost:1112/x"), json!("localhost:1112")),
            ("os", json!("Mozilla/5.0 (Linux; Android 12)"), json!("Android")),
        ];
        for (name, value, expected) in cases {
            assert_eq!(find(name).unwrap()(&value, &[]), Ok(expected), "{name} of {value}");
        }
        assert!(find("trim").unwrap()(&json!([1]), &[]).is_err());
        let object = json!({"a": 1, "b": 2});
        assert_eq!(find("only").unwrap()(&object, &[json!("a")]).unwrap(), json!({"a": 1}));
        assert_eq!(find("without").unwrap()(&object, &[json!(["a"])]).unwrap(), json!({"b": 2}));
        assert_eq!(find("merge").unwrap()(&object, &[json!({"b": 3})]).unwrap(), json!({"a": 1, "b": 3}));
    }
}
