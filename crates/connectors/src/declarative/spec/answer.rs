//! What answers mean.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

use crate::http::Class;

/// Where an answer tells of each item by itself. Expressions see the fields of an entry by name, and the
/// whole of it as `entry`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResultSpec {
    /// Statuses whose bodies tell it: `207`, or `200-299`, which it is unless said.
    #[serde(default)]
    pub status: Statuses,
    /// Path of the array.
    pub per_record: String,
    /// Path in the entry of the element's number, from 0. Without it and `id` the n-th entry is about the
    /// n-th element.
    #[serde(default)]
    pub index: Option<String>,
    /// Path of a value that stands in the entry and in the element alike.
    #[serde(default)]
    pub id: Option<IdPaths>,
    /// An expression that is true of the entry of an item that was taken; without it each entry is a failure.
    #[serde(default)]
    pub ok: Option<String>,
    /// Path in the entry of the vendor's message. It is shown to people: no field that repeats what was sent.
    #[serde(default)]
    pub error: Option<String>,
    /// What failures mean: the first that fits counts, and rejected where none does.
    #[serde(default)]
    pub classes: Vec<ClassRule>,
}

/// Where the same value stands.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdPaths {
    /// In the entry of the answer.
    pub entry: String,
    /// In the element that was sent.
    pub element: String,
}

/// What a failure means.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassRule {
    /// An expression over the entry.
    pub when: String,
    /// The meaning.
    pub class: Class,
}

/// What an answer means.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ErrorRule {
    /// Statuses: `409`, `[400, 422]`, `500-599`; any unless said.
    #[serde(default)]
    pub status: Statuses,
    /// An expression over the answer's JSON: it sees the body's fields by name, and the whole as `body`.
    #[serde(default)]
    pub when: Option<String>,
    /// The meaning.
    pub class: Class,
    /// Path in the body of the vendor's message. It is shown to people: no field that repeats what was sent.
    #[serde(default)]
    pub message: Option<String>,
}

/// A status, a range such as `500-599`, or a list of both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statuses(pub Vec<(u16, u16)>);

impl JsonSchema for Statuses {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Statuses".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A status, a range such as `500-599`, or a list of both.",
            "type": ["integer", "string", "array"],
            "items": { "type": ["integer", "string"] }
        })
    }
}

impl<'de> Deserialize<'de> for Statuses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StatusVisitor)
    }
}

struct StatusVisitor;

impl<'de> Visitor<'de> for StatusVisitor {
    type Value = Statuses;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a status such as 409, a range such as 500-599, or a list of them")
    }

    fn visit_i64<E: Error>(self, status: i64) -> Result<Statuses, E> {
        let status = u16::try_from(status).ok().filter(|status| (100..600).contains(status));
        let status = status.ok_or_else(|| E::custom("a status has three digits"))?;
        Ok(Statuses(vec![(status, status)]))
    }

    fn visit_u64<E: Error>(self, status: u64) -> Result<Statuses, E> {
        self.visit_i64(i64::try_from(status).unwrap_or(i64::MAX))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Statuses, E> {
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        match (from.trim().parse(), to.trim().parse()) {
            (Ok(from), Ok(to)) if from <= to => Ok(Statuses(vec![(from, to)])),
            _ => Err(E::custom(format_args!("{text:?} is no status and no range such as 500-599"))),
        }
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut elements: S) -> Result<Statuses, S::Error> {
        let mut ranges = Vec::new();
        while let Some(Statuses(more)) = elements.next_element()? {
            ranges.extend(more);
        }
        Ok(Statuses(ranges))
    }
}
