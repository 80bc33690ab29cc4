//! Where a value comes from, and what is done to it.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// Where a value comes from. A path alone is short for `{ from: path }`.
#[derive(Debug, Clone, Default)]
pub struct Field {
    /// See [`LongField::from`]; the others likewise.
    pub from: Vec<String>,
    #[expect(missing_docs, reason = "as in the long form")]
    pub expr: Option<String>,
    #[expect(missing_docs, reason = "as in the long form")]
    pub value: Option<Value>,
    #[expect(missing_docs, reason = "as in the long form")]
    pub default: Option<Value>,
    #[expect(missing_docs, reason = "as in the long form")]
    pub apply: Vec<String>,
    #[expect(missing_docs, reason = "as in the long form")]
    pub kind: Option<FieldKind>,
    #[expect(missing_docs, reason = "as in the long form")]
    pub required: bool,
    #[expect(missing_docs, reason = "as in the long form")]
    pub omit: Vec<String>,
}

/// What a value has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FieldKind {
    /// A text; numbers and booleans are written as one.
    String,
    /// A whole number, also of a text.
    Integer,
    /// A number, also of a text.
    Number,
    /// True or false, also of a text.
    Boolean,
    /// Seconds since 1970, of an RFC 3339 time or date.
    UnixSeconds,
    /// Milliseconds since 1970, of an RFC 3339 time or date.
    UnixMillis,
    /// RFC 3339 in UTC with milliseconds.
    Timestamp,
}

/// Where a value comes from.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LongField {
    /// A path in the event such as `traits.email`, or a list of them: the first that has a value counts.
    #[serde(default)]
    from: Paths,
    /// An expression. What is null or missing in the event is the empty text within a longer one, and a text
    /// that comes out empty counts as missing: `traits.firstName ~ ' ' ~ traits.lastName` with `apply: [trim]`.
    #[serde(default)]
    expr: Option<String>,
    /// A fixed value.
    #[serde(default)]
    value: Option<Value>,
    /// Its value where there is none.
    #[serde(default)]
    default: Option<Value>,
    /// What is done to it, in order: names of functions that take no arguments, such as `trim`.
    #[serde(default)]
    apply: Vec<String>,
    /// What it has to be: a value that cannot be made so counts as missing.
    #[serde(default, rename = "type")]
    kind: Option<FieldKind>,
    /// Without a value the item is rejected.
    #[serde(default)]
    required: bool,
    /// Names that are left out of an object.
    #[serde(default)]
    omit: Vec<String>,
}

/// How a field is written.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum FieldForm {
    /// A path in the event.
    Path(String),
    /// All of it.
    Long(LongField),
}

impl JsonSchema for Field {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Field".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        FieldForm::json_schema(generator)
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor)
    }
}

struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a path, or a mapping with from, expr or value")
    }

    fn visit_str<E: Error>(self, path: &str) -> Result<Field, E> {
        if let Some(inner) = path.trim().strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")) {
            let inner = inner.trim();
            return Err(E::custom(format_args!(
                "a path stands here, such as traits.email; an expression is written {{ expr: {inner:?} }}"
            )));
        }
        Ok(Field { from: vec![path.to_owned()], ..Field::default() })
    }

    fn visit_map<M: MapAccess<'de>>(self, entries: M) -> Result<Field, M::Error> {
        let long = LongField::deserialize(MapAccessDeserializer::new(entries))?;
        let LongField { from, expr, value, default, apply, kind, required, omit } = long;
        Ok(Field { from: from.0, expr, value, default, apply, kind, required, omit })
    }
}

/// A path, or a list of them.
#[derive(Default)]
struct Paths(Vec<String>);

/// How [`Paths`] is written.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl JsonSchema for Paths {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Paths".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        OneOrMany::json_schema(generator)
    }
}

impl<'de> Deserialize<'de> for Paths {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PathsVisitor)
    }
}

struct PathsVisitor;

impl<'de> Visitor<'de> for PathsVisitor {
    type Value = Paths;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a path or a list of paths")
    }

    fn visit_str<E: Error>(self, path: &str) -> Result<Paths, E> {
        Ok(Paths(vec![path.to_owned()]))
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut elements: S) -> Result<Paths, S::Error> {
        let mut paths = Vec::new();
        while let Some(path) = elements.next_element()? {
            paths.push(path);
        }
        Ok(Paths(paths))
    }
}
