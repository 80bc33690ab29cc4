//! The key of a row: what orders its versions.

use std::collections::BTreeMap;

use millrace_event_model::{KeyHasher, PartitionKey, StreamSpec};
use serde_json::value::RawValue;

/// A row is not a JSON object.
#[derive(Debug, thiserror::Error)]
#[error("a row of stream {stream:?} is not a JSON object, at line {line} column {column}")]
pub(crate) struct NotAnObject {
    stream: String,
    /// Where, but not what: the texts of serde_json quote the row.
    line: usize,
    column: usize,
}

/// Hash of the stream and the row's primary key; of the whole row where the stream has no key, or the row
/// lacks a field of it. The latter keeps the row flowing; whether it may be loaded is the loader's word.
///
/// # Errors
/// [`NotAnObject`].
pub(crate) fn row_key(
    hasher: &KeyHasher,
    spec: &StreamSpec,
    json: &[u8],
) -> Result<PartitionKey, NotAnObject> {
    let malformed = |error: serde_json::Error| NotAnObject {
        stream: spec.name.clone(),
        line: error.line(),
        column: error.column(),
    };
    let fields: BTreeMap<&str, &RawValue> = match serde_json::from_slice(json) {
        Ok(fields) => fields,
        // A key with an escape in it cannot be borrowed; such rows are rare, and their own text serves.
        Err(_) => {
            serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(json).map_err(malformed)?;
            return Ok(hasher.row(&spec.name, json));
        }
    };
    let mut key = Vec::new();
    for path in &spec.primary_key {
        let Some(value) = field(&fields, path) else { return Ok(hasher.row(&spec.name, json)) };
        // Each part ends in a byte that JSON text cannot hold, so ("a", "bc") and ("ab", "c") differ.
        key.extend_from_slice(value.as_bytes());
        key.push(0);
    }
    if key.is_empty() {
        return Ok(hasher.row(&spec.name, json));
    }
    Ok(hasher.row(&spec.name, &key))
}

/// The JSON text of the value at a path, absent and null alike being none.
fn field(fields: &BTreeMap<&str, &RawValue>, path: &[String]) -> Option<String> {
    let (first, rest) = path.split_first()?;
    let value = fields.get(first.as_str())?;
    if rest.is_empty() {
        return (value.get() != "null").then(|| value.get().to_owned());
    }
    let inner: BTreeMap<&str, &RawValue> = serde_json::from_str(value.get()).ok()?;
    field(&inner, rest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use millrace_event_model::LoadMode;
    use serde_json::json;

    use super::*;

    fn key(primary_key: &[&[&str]], json: &str) -> PartitionKey {
        let spec = StreamSpec {
            name: "s".to_owned(),
            namespace: None,
            json_schema: json!({}),
            primary_key: primary_key
                .iter()
                .map(|path| path.iter().map(|p| (*p).to_owned()).collect())
                .collect(),
            mode: LoadMode::Upsert,
            generation: 0,
        };
        row_key(&KeyHasher::new(&[1; 32]), &spec, json.as_bytes()).unwrap()
    }

    #[test]
    fn versions_of_a_row_share_a_key() {
        let id: &[&[&str]] = &[&["id"]];
        assert_eq!(key(id, r#"{"id":1,"a":2}"#), key(id, r#"{"a":3, "id": 1}"#));
        assert_ne!(key(id, r#"{"id":1}"#), key(id, r#"{"id":"1"}"#));
        let nested: &[&[&str]] = &[&["meta", "id"], &["b"]];
        assert_eq!(
            key(nested, r#"{"meta":{"id":7},"b":1,"c":1}"#),
            key(nested, r#"{"meta":{"id":7},"b":1,"c":2}"#)
        );
    }

    #[test]
    fn a_row_without_its_key_is_keyed_by_itself() {
        let id: &[&[&str]] = &[&["id"]];
        assert_eq!(key(id, r#"{"id":null,"a":1}"#), key(&[], r#"{"id":null,"a":1}"#));
        assert_ne!(key(id, r#"{"a":1}"#), key(id, r#"{"a":2}"#));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        let spec = StreamSpec {
            name: "s".to_owned(),
            namespace: None,
            json_schema: json!({}),
            primary_key: Vec::new(),
            mode: LoadMode::Append,
            generation: 0,
        };
        for json in ["[1]", "1", "{", ""] {
            assert!(row_key(&KeyHasher::new(&[1; 32]), &spec, json.as_bytes()).is_err(), "{json}");
        }
        let refused = row_key(&KeyHasher::new(&[1; 32]), &spec, br#""Ann Lee""#).unwrap_err();
        assert!(!refused.to_string().contains("Ann"), "an error never quotes a row: {refused}");
        assert!(row_key(&KeyHasher::new(&[1; 32]), &spec, br#"{"\u0061":1}"#).is_ok());
    }
}
