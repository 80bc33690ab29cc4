//! The tests that stand in a file.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
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
    /// The one request that is made: fields that are not named are not compared.
    #[serde(default)]
    pub expect_request: Option<ExpectedRequest>,
    /// All requests that are made.
    #[serde(default)]
    pub expect_requests: Option<Vec<ExpectedRequest>>,
    /// The item is rejected, and the reason holds this text.
    #[serde(default)]
    pub expect_error: Option<String>,
    /// What the vendor answers, in order; 200 when that is over. The requests are then sent, and sent again
    /// as long as the outcome asks for it and there is another answer.
    #[serde(default)]
    pub respond: Vec<Respond>,
    /// What becomes of the items: one outcome for all, or a list with one for each.
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
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Expected {
    /// Of all.
    All(OutcomeName),
    /// Of each.
    Each(Vec<OutcomeName>),
}

/// The name of an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "they are the classes, and `delivered`")]
pub enum OutcomeName {
    Delivered,
    Filtered,
    Rejected,
    Throttled,
    Transient,
    Auth,
    Config,
    Oversize,
    Unclear,
}
