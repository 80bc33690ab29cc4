//! Text and JSON as PostgreSQL can hold them.
//!
//! Any client can send what PostgreSQL refuses: U+0000, half of a surrogate pair, a number beyond
//! `numeric`, a document nested deeper than the server's stack. One such value would fail its whole batch
//! again and again, so each becomes the nearest thing that can be held:
//! - U+0000 is left out, in text and in JSON, as RudderStack does;
//! - half of a surrogate pair becomes U+FFFD;
//! - a number that `numeric` cannot hold becomes a string of the same characters;
//! - a document that is nested too deeply, or is no JSON, becomes a string that holds it.

use std::borrow::Cow;

use serde::de::IgnoredAny;

/// The longest way from the point that a digit of a JSON number may be. `numeric` takes 131,072 digits
/// before the point and 16,383 after it.
const MAX_NUMBER_REACH: usize = 16_000;

/// The server's parser recurses: with its default stack of 2 MB it gives up at some 6,000 levels.
const MAX_DEPTH: usize = 1_000;

/// Text for a column of type text.
pub(super) fn storable_text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "")) } else { Cow::Borrowed(text) }
}

/// A JSON document for a column of type json or jsonb.
pub(super) fn storable_json(json: &str) -> Cow<'_, str> {
    if serde_json::from_str::<IgnoredAny>(json).is_err() {
        return Cow::Owned(as_string(json));
    }
    match rewrite(json) {
        Some(rewritten) => rewritten,
        None => Cow::Owned(as_string(json)),
    }
}

/// The text as a JSON string.
fn as_string(text: &str) -> String {
    serde_json::Value::from(storable_text(text).as_ref()).to_string()
}

/// Replaces what cannot be held in valid JSON; `None` if it is nested too deeply.
fn rewrite(json: &str) -> Option<Cow<'_, str>> {
    let bytes = json.as_bytes();
    let mut output = Output { json, text: String::new(), copied: 0 };
    let (mut at, mut depth, mut in_string) = (0, 0_usize, false);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => in_string = !in_string,
            b'\\' => {
                let (length, replacement) = escape(&json[at..]);
                if let Some(replacement) = replacement {
                    output.replace(at, at + length, replacement);
                }
                at += length;
                continue;
            }
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth -= 1,
            b'-' | b'0'..=b'9' if !in_string => {
                let length = number_length(&bytes[at..]);
                if !fits_numeric(&json[at..at + length]) {
                    output.replace(at, at + length, &format!("\"{}\"", &json[at..at + length]));
                }
                at += length;
                continue;
            }
            _ => {}
        }
        if depth > MAX_DEPTH {
            return None;
        }
        at += 1;
    }
    Some(output.finish())
}

/// Copies only when something has to change.
struct Output<'a> {
    json: &'a str,
    text: String,
    copied: usize,
}

impl<'a> Output<'a> {
    fn replace(&mut self, from: usize, to: usize, with: &str) {
        self.text.push_str(&self.json[self.copied..from]);
        self.text.push_str(with);
        self.copied = to;
    }

    fn finish(mut self) -> Cow<'a, str> {
        if self.copied == 0 {
            return Cow::Borrowed(self.json);
        }
        self.text.push_str(&self.json[self.copied..]);
        Cow::Owned(self.text)
    }
}

/// How long the escape at the start of `text` is, and what is to stand in its place if it cannot stay.
fn escape(text: &str) -> (usize, Option<&'static str>) {
    const ESCAPE: usize = "\\uXXXX".len();
    match code_unit(text) {
        None => (2, None),
        Some(0) => (ESCAPE, Some("")),
        Some(0xD800..=0xDBFF) => match text.get(ESCAPE..).and_then(code_unit) {
            Some(0xDC00..=0xDFFF) => (2 * ESCAPE, None),
            _ => (ESCAPE, Some("\u{FFFD}")),
        },
        Some(0xDC00..=0xDFFF) => (ESCAPE, Some("\u{FFFD}")),
        Some(_) => (ESCAPE, None),
    }
}

/// The code unit of a `\uXXXX` at the start of `text`.
fn code_unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    u16::from_str_radix(digits, 16).ok()
}

fn number_length(bytes: &[u8]) -> usize {
    let ends = |byte: &u8| !matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
    bytes.iter().position(ends).unwrap_or(bytes.len())
}

fn fits_numeric(number: &str) -> bool {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let Ok(exponent) = exponent.parse::<i32>() else { return false };
    let reach = usize::try_from(exponent.unsigned_abs()).unwrap_or(usize::MAX);
    mantissa.len().saturating_add(reach) <= MAX_NUMBER_REACH
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn what_the_server_cannot_hold_becomes_the_nearest_thing_that_it_can() {
        let deep = format!("{}{}", "[".repeat(2_000), "]".repeat(2_000));
        let table = [
            (r#"{"a": 1}"#, r#"{"a": 1}"#),
            (r#""a\u0000b""#, r#""ab""#),
            (r#""a\\u0000b""#, r#""a\\u0000b""#),
            (r#"{"\u0000k\u0000": "\ud83d\ude00"}"#, r#"{"k": "\ud83d\ude00"}"#),
            (r#"["\ud83d", "\ude00\ud83d\u0000x"]"#, "[\"\u{FFFD}\", \"\u{FFFD}\u{FFFD}x\"]"),
            ("[1e200000, -1e-20000, 1e15, 5]", "[\"1e200000\", \"-1e-20000\", 1e15, 5]"),
            (r#""1e200000 [ {""#, r#""1e200000 [ {""#),
            ("no json \0", r#""no json ""#),
            (&deep, &format!("{deep:?}")),
        ];
        for (json, expected) in table {
            assert_eq!(storable_json(json), expected);
        }
        assert_eq!(storable_text("a\0b"), "ab");
    }

    proptest! {
        #[test]
        fn whatever_comes_in_json_goes_out(text in "[\\[\\]{}\",:\\\\u0d8e1+. -]{0,40}") {
            let stored = storable_json(&text);
            prop_assert!(serde_json::from_str::<Box<RawValue>>(&stored).is_ok(), "{stored}");
            prop_assert_eq!(storable_json(&stored), stored.as_ref(), "once is enough");
        }
    }
}
