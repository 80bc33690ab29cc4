//! A row of the model as it goes out: key, hashes, body. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;
use millrace_event_model::topics::MAX_EVENT_BYTES;
use millrace_event_model::{KeyHasher, PartitionKey, Reason};
use millrace_transform::{FieldMap, FieldMapError};
use serde_json::{Map, Value};

use crate::{Mode, Sync};

/// Beyond this a double is no longer an exact integer.
const EXACT_FLOAT: f64 = 9_007_199_254_740_992.0;

/// Turns rows of one sync's model into what is compared and published.
#[derive(Debug, Clone)]
pub(crate) struct Mapper {
    sync: String,
    key: Vec<String>,
    map: FieldMap,
    /// Maps the key columns alone; none unless the sync deletes.
    key_map: Option<FieldMap>,
    hasher: KeyHasher,
}

/// A row, ready to be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MappedRow {
    pub(crate) key: PartitionKey,
    pub(crate) hash: PartitionKey,
    /// The mapped output: JSON with sorted keys.
    pub(crate) body: Bytes,
    /// The mapped key columns, or empty.
    pub(crate) key_body: Bytes,
    /// Too large to be published; the body is then empty.
    pub(crate) too_large: bool,
}

/// A row that cannot be synced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RejectedRow {
    pub(crate) reason: Reason,
    pub(crate) body: Bytes,
}

impl RejectedRow {
    /// The body goes to the dead letters, so it must fit there.
    pub(crate) fn new(reason: Reason, body: Bytes) -> Self {
        let body = if body.len() > MAX_EVENT_BYTES { Bytes::new() } else { body };
        Self { reason, body }
    }
}

impl Mapper {
    pub(crate) fn new(sync: &Sync, hasher: KeyHasher) -> Result<Self, FieldMapError> {
        let is_key = |column: &String| sync.key.contains(column);
        let of_key: BTreeMap<String, String> = if sync.map.is_empty() {
            sync.key.iter().map(|column| (column.clone(), column.clone())).collect()
        } else {
            sync.map
                .iter()
                .filter(|(_, column)| is_key(column))
                .map(|(to, from)| (to.clone(), from.clone()))
                .collect()
        };
        let deletes = sync.mode == Mode::Mirror && !of_key.is_empty();
        Ok(Self {
            sync: sync.id.to_string(),
            key: sync.key.clone(),
            map: FieldMap::compile(&sync.map)?,
            key_map: deletes.then(|| FieldMap::compile(&of_key)).transpose()?,
            hasher,
        })
    }

    /// The columns that the model must have.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &str> {
        self.key.iter().map(String::as_str).chain(self.map.columns())
    }

    /// Maps a row.
    pub(crate) fn map(&self, row: &Map<String, Value>) -> Result<MappedRow, Box<RejectedRow>> {
        let body = encode(self.map.apply(row));
        let key = match self.key_of(row) {
            Ok(key) => key,
            Err(reason) => return Err(Box::new(RejectedRow::new(reason, body))),
        };
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.map.version().as_bytes());
        hasher.update(&body);
        let mut hash = [0; 16];
        hasher.finalize_xof().fill(&mut hash);
        let key_body = self.key_map.as_ref().map(|map| encode(map.apply(row))).unwrap_or_default();
        let too_large = body.len() > MAX_EVENT_BYTES;
        let body = if too_large { Bytes::new() } else { body };
        Ok(MappedRow { key, hash: PartitionKey(hash), body, key_body, too_large })
    }

    /// The keyed hash of the key columns. The encoding is canonical: each value with its type and length,
    /// and a number is the same number whether the warehouse calls it an integer or a double.
    fn key_of(&self, row: &Map<String, Value>) -> Result<PartitionKey, Reason> {
        let mut encoded = Vec::with_capacity(32);
        for column in &self.key {
            let (tag, text) = match row.get(column) {
                None | Some(Value::Null) => {
                    let message = format!(
                        "the key column {column:?} is null; a row without a key cannot be told apart"
                    );
                    return Err(Reason::new("null_key", message));
                }
                Some(Value::Bool(value)) => (b'b', value.to_string()),
                Some(Value::Number(number)) => (b'n', canonical_number(number)),
                Some(Value::String(text)) => (b's', text.clone()),
                Some(document) => (b'j', sorted(document.clone()).to_string()),
            };
            encoded.push(tag);
            encoded.extend_from_slice(&(text.len() as u64).to_le_bytes());
            encoded.extend_from_slice(text.as_bytes());
        }
        Ok(self.hasher.row(&self.sync, &encoded))
    }
}

fn canonical_number(number: &serde_json::Number) -> String {
    match number.as_f64() {
        Some(value) if number.is_f64() && value.fract() == 0.0 && value.abs() < EXACT_FLOAT => {
            format!("{value:.0}")
        }
        _ => number.to_string(),
    }
}

/// Sorted keys: the same output is the same bytes, in whatever order the model names its columns.
fn encode(object: Map<String, Value>) -> Bytes {
    Bytes::from(sorted(Value::Object(object)).to_string())
}

fn sorted(mut value: Value) -> Value {
    value.sort_all_objects();
    value
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;
    use crate::options::tests::sync;

    fn mapper(mode: Mode, map: &[(&str, &str)]) -> Mapper {
        let map = map.iter().map(|(to, from)| ((*to).to_owned(), (*from).to_owned())).collect();
        let sync = Sync { mode, map, key: vec!["id".to_owned()], ..sync() };
        Mapper::new(&sync, KeyHasher::new(&[1; 32])).unwrap()
    }

    fn map(mapper: &Mapper, row: Value) -> Result<MappedRow, Box<RejectedRow>> {
        mapper.map(row.as_object().unwrap())
    }

    #[test]
    fn the_body_is_the_mapped_row_with_sorted_keys() {
        let mapper = mapper(Mode::Mirror, &[("userId", "id"), ("traits.email", "email")]);
        let row = map(&mapper, json!({ "email": "a@b.co", "id": 7, "more": 1 })).unwrap();
        assert_eq!(row.body, r#"{"traits":{"email":"a@b.co"},"userId":7}"#);
        assert_eq!(row.key_body, r#"{"userId":7}"#);
    }

    #[test]
    fn key_columns_are_kept_only_by_what_deletes() {
        let row = json!({ "id": 7 });
        assert!(map(&mapper(Mode::Upsert, &[]), row.clone()).unwrap().key_body.is_empty());
        assert_eq!(map(&mapper(Mode::Mirror, &[]), row).unwrap().key_body, r#"{"id":7}"#);
    }

    #[test]
    fn a_key_is_the_same_whatever_the_warehouse_calls_its_number() {
        let mapper = mapper(Mode::Upsert, &[]);
        let key = |id: Value| map(&mapper, json!({ "id": id })).unwrap().key;
        assert_eq!(key(json!(7)), key(json!(7.0)));
        assert_ne!(key(json!(7)), key(json!(7.5)));
        assert_ne!(key(json!(7)), key(json!("7")));
        assert_ne!(key(json!(true)), key(json!("true")));
    }

    #[test]
    fn a_null_key_is_rejected_with_the_row() {
        for row in [json!({ "id": null, "x": 1 }), json!({ "x": 1 })] {
            let rejected = map(&mapper(Mode::Upsert, &[]), row.clone()).unwrap_err();
            assert_eq!(rejected.reason.code, "null_key");
            assert_eq!(rejected.body, row.to_string());
        }
    }

    #[test]
    fn a_row_that_is_too_large_has_a_key_but_no_body() {
        let row = json!({ "id": 1, "x": "y".repeat(MAX_EVENT_BYTES) });
        let mapped = map(&mapper(Mode::Upsert, &[]), row).unwrap();
        assert!(mapped.too_large && mapped.body.is_empty());
    }

    #[test]
    fn the_hash_is_of_the_output_and_the_mapping() {
        let row = json!({ "id": 1, "a": 1, "b": 1 });
        let hash = |mapper: &Mapper, row: &Value| map(mapper, row.clone()).unwrap().hash;
        let first = mapper(Mode::Upsert, &[("x", "a")]);
        assert_eq!(hash(&first, &row), hash(&first, &json!({ "b": 2, "a": 1, "id": 1 })), "b is not mapped");
        assert_ne!(hash(&first, &row), hash(&first, &json!({ "id": 1, "a": 2 })));
        assert_ne!(hash(&first, &row), hash(&mapper(Mode::Upsert, &[("x", "b")]), &row));
    }
}
