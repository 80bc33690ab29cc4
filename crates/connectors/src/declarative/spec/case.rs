//! The tests that stand in a file.

use std::collections::BTreeMap;

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{Deserializer, Error, IntoDeserializer, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::ChangeMode;

/// A test: an event in, requests and answers out.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestCase {
    /// What it shows.
    pub name: String,
    /// Settings that differ from `test_settings`.
    #[serde(default)]
    pub settings: Map<String, Value>,
    /// The event, or a list of them for a batch.
    pub given: Value,
    /// The events are changes of reverse ETL of this kind.
    #[serde(default)]
    pub change: Option<ChangeMode>,
    /// The one request that is made of the events: fields that are not named are not compared.
    #[serde(default)]
    pub expect_request: Option<ExpectedRequest>,
    /// All requests that are made of the events, in the order of events and actions, before those that belong
    /// together are joined.
    #[serde(default)]
    pub expect_requests: Option<Vec<ExpectedRequest>>,
    /// All requests that are sent when the events share a batch, as they are joined, if all goes well.
    #[serde(default)]
    pub expect_sent: Option<Vec<ExpectedRequest>>,
    /// Each item is rejected, by the mapping or by the vendor's answer, and the reason holds this text.
    #[serde(default)]
    pub expect_error: Option<String>,
    /// What the vendor answers, in order; 200 when that is over. The requests are then sent, and sent again
    /// as long as the outcome asks for it and there is another answer.
    #[serde(default)]
    pub respond: Vec<Respond>,
    /// What becomes of the items when they are sent: one outcome for all, or a list with one for each.
    #[serde(default)]
    pub expect: Option<Expected>,
}

/// What a request has to be.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpectedRequest {
    /// The verb.
    #[serde(default)]
    pub method: Option<String>,
    /// The whole address, without the query.
    #[serde(default)]
    pub url: Option<String>,
    /// Headers, lower case; others may be there.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Query parameters; others may be there.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    /// The whole body.
    #[serde(default)]
    pub body: Option<Value>,
}

/// An answer of the vendor.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Respond {
    /// The status.
    pub status: u16,
    /// Headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The body.
    #[serde(default)]
    pub body: Option<Value>,
}

/// One outcome for all items, or one for each.
#[derive(Debug, Clone)]
pub enum Expected {
    /// Of all.
    All(OutcomeName),
    /// Of each.
    Each(Vec<OutcomeName>),
}

impl JsonSchema for Expected {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Expected".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let one = generator.subschema_for::<OutcomeName>();
        schemars::json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

impl<'de> Deserialize<'de> for Expected {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ExpectedVisitor)
    }
}

struct ExpectedVisitor;

impl<'de> Visitor<'de> for ExpectedVisitor {
    type Value = Expected;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an outcome such as delivered, or a list of them")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Expected, E> {
        OutcomeName::deserialize(name.into_deserializer()).map(Expected::All)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut elements: S) -> Result<Expected, S::Error> {
        let mut each = Vec::new();
        while let Some(outcome) = elements.next_element()? {
            each.push(outcome);
        }
        Ok(Expected::Each(each))
    }
}

/// What becomes of an item: what the classes of answers make of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeName {
    /// The vendor has it, or had it: class `success`, which may be written as well.
    #[serde(alias = "success")]
    Delivered,
    /// No action takes it, or the vendor leaves it out on purpose.
    Filtered,
    /// It goes to the dead letters: the mapping has no use for it, or the vendor refused it.
    Rejected,
    /// It is tried again, after `Retry-After` where the answer has it, and all others are slowed down.
    Throttled,
    /// It is tried again, after `Retry-After` where the answer has it.
    Transient,
    /// The destination pauses and keeps everything: the credentials are refused.
    Auth,
    /// The destination pauses and keeps everything: a setting is wrong.
    Config,
    /// The call was too large: it is tried with fewer items, and rejected when it is alone.
    Oversize,
    /// Nothing says which item of the batch is bad: it is tried with fewer, and rejected when it is alone.
    Unclear,
}

impl fmt::Display for OutcomeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Delivered => "delivered",
            Self::Filtered => "filtered",
            Self::Rejected => "rejected",
            Self::Throttled => "throttled",
            Self::Transient => "transient",
            Self::Auth => "auth",
            Self::Config => "config",
            Self::Oversize => "oversize",
            Self::Unclear => "unclear",
        })
    }
}
