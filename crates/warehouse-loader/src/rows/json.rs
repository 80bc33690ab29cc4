//! JSON in: parsed once, within bounds. And out again, in one form whatever the client's was.

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use sonic_rs::{JsonNumberTrait, JsonValueTrait, Object, Value, ValueRef};

/// How deep lists and objects may nest: the parser and the walk below it go down with them, and a stack is
/// small. An event that nests deeper is no event.
const MAX_DEPTH: usize = 128;

/// The JSON object that the bytes are; `None` where they are anything else.
pub(crate) fn parse_object(json: &[u8]) -> Option<Value> {
    if nests_too_deep(json) {
        return None;
    }
    sonic_rs::from_slice(json).ok().filter(Value::is_object)
}

/// Every level takes a bracket: most events do not have so many, wherever they stand.
fn nests_too_deep(json: &[u8]) -> bool {
    // Sums of one byte each, so that the compiler counts sixteen at a time.
    let brackets: usize =
        json.chunks(usize::from(u8::MAX)).map(|chunk| usize::from(brackets_in(chunk))).sum();
    brackets > MAX_DEPTH && depth(json) > MAX_DEPTH
}

/// `{` and `[` differ in one bit.
fn brackets_in(chunk: &[u8]) -> u8 {
    chunk.iter().map(|byte| u8::from(byte | 0x20 == b'{')).sum()
}

fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => skip_text(&mut bytes),
            _ => {}
        }
    }
    deepest
}

fn skip_text(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
}

/// The entries of an object in the order of their keys; of a key that comes twice, the last.
pub(super) fn sorted<'e>(
    object: &'e Object,
    more: Option<(&'e str, &'e Value)>,
) -> impl Iterator<Item = (&'e str, &'e Value)> {
    let mut entries: Vec<(&str, &Value)> = object.iter().chain(more).collect();
    // Stable: of equal keys, the last stays the last.
    entries.sort_by_key(|(key, _)| *key);
    let mut entries = entries.into_iter().peekable();
    std::iter::from_fn(move || {
        loop {
            let entry = entries.next()?;
            if entries.peek().is_none_or(|next| next.0 != entry.0) {
                return Some(entry);
            }
        }
    })
}

/// The value as compact JSON with its keys sorted.
pub(super) fn json_text(value: &Value) -> String {
    // Text, numbers that were JSON, and keys that are text: writing them cannot fail.
    serde_json::to_string(&Sorted(value)).unwrap_or_default()
}

struct Sorted<'v>(&'v Value);

impl Serialize for Sorted<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0.as_ref() {
            ValueRef::Null => to.serialize_unit(),
            ValueRef::Bool(value) => to.serialize_bool(value),
            ValueRef::String(text) => to.serialize_str(text),
            ValueRef::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(value), _) => to.serialize_i64(value),
                (_, Some(value)) => to.serialize_u64(value),
                _ => to.serialize_f64(number.as_f64().unwrap_or(f64::NAN)),
            },
            ValueRef::Array(values) => {
                let mut list = to.serialize_seq(Some(values.len()))?;
                for value in values.iter() {
                    list.serialize_element(&Sorted(value))?;
                }
                list.end()
            }
            ValueRef::Object(object) => {
                let mut map = to.serialize_map(None)?;
                for (key, value) in sorted(object, None) {
                    map.serialize_entry(key, &Sorted(value))?;
                }
                map.end()
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn json_text_has_its_keys_sorted_and_each_once() {
        let value = parse_object(br#"{ "b":{"z":1,"a":2.50}, "a":"old", "a":"<&>\u00e9\n" }"#).unwrap();
        assert_eq!(json_text(&value), r#"{"a":"<&>é\n","b":{"a":2.5,"z":1}}"#);
    }

    #[test]
    fn what_is_no_object_or_nests_without_end_is_refused() {
        for json in [&b"[]"[..], b"1", b"{", b"{\"a\":1}x", b"{\"a\":\"\xff\"}", b"{\"a\":1e999}", b""] {
            assert!(parse_object(json).is_none(), "{json:?}");
        }
        let nested = |levels: usize| format!("{{\"a\":{}1{}}}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse_object(nested(MAX_DEPTH - 1).as_bytes()).is_some());
        assert!(parse_object(nested(MAX_DEPTH).as_bytes()).is_none());
        assert!(parse_object("{\"a\":[".repeat(400_000).as_bytes()).is_none());
        let wide = format!("{{\"a\":[{}[]], \"b\":\"\\\"{}\"}}", "[],".repeat(1_000), "[".repeat(1_000));
        assert!(parse_object(wide.as_bytes()).is_some());
    }

    proptest! {
        #[test]
        fn json_text_is_what_serde_json_writes(json in any_json()) {
            let value = parse_object(json.to_string().as_bytes()).unwrap();
            prop_assert_eq!(json_text(&value), json.to_string());
        }
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<u64>().prop_map(Into::into),
            prop::num::f64::NORMAL.prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        let nested = leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::vec((any::<String>(), inner), 0..4)
                    .prop_map(|entries| serde_json::Value::Object(entries.into_iter().collect())),
            ]
        });
        prop::collection::vec(("[a-c]{1,2}", nested), 0..4)
            .prop_map(|entries| serde_json::Value::Object(entries.into_iter().collect()))
    }
}
