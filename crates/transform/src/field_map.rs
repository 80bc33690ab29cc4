//! A sync's `map:`: which column of the model goes where in what the destination gets.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A compiled mapping from target paths to source columns, such as `traits.email: email`.
///
/// A path with dots makes objects. A column that the row does not have is left out; a null stays a null,
/// since in a warehouse it says something. Without any entry the row goes out as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldMap {
    entries: Vec<Entry>,
    version: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    path: Vec<String>,
    column: String,
}

/// The deepest target path. Deeper is a mistake, and would let one line of config make a deep document.
const MAX_PATH_DEPTH: usize = 16;

/// A mapping that cannot be applied. The target is named so that the config's line can be found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldMapError {
    /// A target path has an empty part, or too many.
    #[error("target {target:?} is not a path: use names joined by dots, at most {MAX_PATH_DEPTH} of them")]
    MalformedTarget {
        /// As the config gives it.
        target: String,
    },
    /// One target is inside another.
    #[error("target {inner:?} lies inside target {outer:?}, which is a column itself")]
    Conflict {
        /// The shorter path.
        outer: String,
        /// The longer path.
        inner: String,
    },
    /// The source is no column name.
    #[error("target {target:?} has no source column")]
    MissingColumn {
        /// As the config gives it.
        target: String,
    },
    /// The source is an expression.
    #[error("target {target:?}: expressions in a map are not built yet, name a column")]
    Expression {
        /// As the config gives it.
        target: String,
    },
}

impl FieldMap {
    /// Compiles a map from target path to source column.
    ///
    /// # Errors
    /// See [`FieldMapError`].
    pub fn compile(map: &BTreeMap<String, String>) -> Result<Self, FieldMapError> {
        let mut entries = Vec::with_capacity(map.len());
        for (target, column) in map {
            entries.push(entry(target, column)?);
        }
        // In order of their parts a path stands right before those inside it.
        entries.sort_by(|left, right| left.path.cmp(&right.path));
        for pair in entries.windows(2) {
            if let [outer, inner] = pair
                && inner.path.starts_with(&outer.path)
            {
                return Err(FieldMapError::Conflict {
                    outer: outer.path.join("."),
                    inner: inner.path.join("."),
                });
            }
        }
        let version = version_of(&entries);
        Ok(Self { entries, version })
    }

    /// The columns it reads, so that a model without them is refused before it runs.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.column.as_str())
    }

    /// 32 hexadecimal digits that change when the mapping does: with them a snapshot knows that its
    /// hashes are of another mapping's output.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The mapped row.
    #[must_use]
    pub fn apply(&self, row: &Map<String, Value>) -> Map<String, Value> {
        if self.entries.is_empty() {
            return row.clone();
        }
        let mut mapped = Map::new();
        for entry in &self.entries {
            if let Some(value) = row.get(&entry.column) {
                insert(&mut mapped, &entry.path, value.clone());
            }
        }
        mapped
    }
}

fn entry(target: &str, column: &str) -> Result<Entry, FieldMapError> {
    let path = target.split('.').map(str::to_owned).collect::<Vec<_>>();
    if path.len() > MAX_PATH_DEPTH || path.iter().any(String::is_empty) {
        return Err(FieldMapError::MalformedTarget { target: target.to_owned() });
    }
    if column.trim().is_empty() {
        return Err(FieldMapError::MissingColumn { target: target.to_owned() });
    }
    if column.trim_start().starts_with("{{") {
        return Err(FieldMapError::Expression { target: target.to_owned() });
    }
    Ok(Entry { path, column: column.to_owned() })
}

/// Each part is preceded by its length, so that no two mappings hash the same text.
fn version_of(entries: &[Entry]) -> String {
    let mut hasher = blake3::Hasher::new();
    for entry in entries {
        hasher.update(&(entry.path.len() as u64).to_le_bytes());
        for part in entry.path.iter().chain([&entry.column]) {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
    }
    hasher.finalize().to_hex().chars().take(32).collect()
}

/// Compiling has ruled out that a part of the path is taken by a value, so nothing is ever overwritten.
fn insert(object: &mut Map<String, Value>, path: &[String], value: Value) {
    match path {
        [] => {}
        [name] => {
            object.insert(name.clone(), value);
        }
        [name, rest @ ..] => {
            let inner = object.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn compile(pairs: &[(&str, &str)]) -> Result<FieldMap, FieldMapError> {
        FieldMap::compile(&pairs.iter().map(|(to, from)| ((*to).to_owned(), (*from).to_owned())).collect())
    }

    fn apply(map: &FieldMap, row: Value) -> Value {
        Value::Object(map.apply(row.as_object().unwrap()))
    }

    #[test]
    fn a_path_with_dots_makes_objects() {
        let map = compile(&[("userId", "user_id"), ("traits.email", "email"), ("traits.plan.name", "plan")])
            .unwrap();
        let row = json!({"user_id": 7, "email": "a@b.co", "plan": "pro", "unused": true});
        let expected = json!({"userId": 7, "traits": {"email": "a@b.co", "plan": {"name": "pro"}}});
        assert_eq!(apply(&map, row), expected);
    }

    #[test]
    fn a_missing_column_is_left_out_and_a_null_stays() {
        let map = compile(&[("a", "x"), ("b.c", "y")]).unwrap();
        assert_eq!(apply(&map, json!({"x": null})), json!({"a": null}));
    }

    #[test]
    fn without_entries_the_row_goes_out_as_it_is() {
        let map = compile(&[]).unwrap();
        assert_eq!(apply(&map, json!({"x": 1})), json!({"x": 1}));
    }

    #[test]
    fn what_cannot_be_applied_is_refused_when_compiled() {
        let conflict = compile(&[("a", "x"), ("a.b", "y"), ("a-b", "z")]).unwrap_err();
        assert_eq!(conflict, FieldMapError::Conflict { outer: "a".to_owned(), inner: "a.b".to_owned() });
        for target in ["", ".", "a.", ".a", "a..b", &vec!["a"; 17].join(".")] {
            let error = compile(&[(target, "x")]).unwrap_err();
            assert!(matches!(error, FieldMapError::MalformedTarget { .. }), "{target}");
        }
        assert!(matches!(compile(&[("a", " ")]), Err(FieldMapError::MissingColumn { .. })));
        assert!(matches!(compile(&[("a", "{{ b }}")]), Err(FieldMapError::Expression { .. })));
    }

    #[test]
    fn the_version_changes_with_the_mapping_alone() {
        let version = |pairs: &[(&str, &str)]| compile(pairs).unwrap().version().to_owned();
        let base = version(&[("a", "x"), ("b", "y")]);
        assert_eq!(base.len(), 32);
        assert_eq!(version(&[("b", "y"), ("a", "x")]), base);
        for other in [&[("a", "x")][..], &[("a", "y"), ("b", "x")], &[("a.b", "x"), ("b", "y")]] {
            assert_ne!(version(other), base);
        }
    }

    proptest! {
        #[test]
        fn every_column_arrives_at_its_path(
            pairs in prop::collection::btree_map("[a-c](\\.[a-c]){0,3}", "[p-z]", 1..8)
        ) {
            let Ok(map) = FieldMap::compile(&pairs) else { return Ok(()) };
            let row: Map<_, _> =
                ('p'..='z').map(|name| (name.to_string(), json!(name.to_string()))).collect();
            let mapped = Value::Object(map.apply(&row));
            for (target, column) in &pairs {
                let pointer = format!("/{}", target.replace('.', "/"));
                prop_assert_eq!(mapped.pointer(&pointer), Some(&json!(column)));
            }
        }
    }
}
