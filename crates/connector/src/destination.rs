//! Where deliver sends to.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use millrace_event_model::{Change, Event, PartitionKey, Reason};
use serde::Serialize;
use serde_json::Value;

use crate::ConnectorError;

/// One configured destination.
#[async_trait]
pub trait Destination: Send + Sync {
    /// Whether the settings work: reaches the other side without changing anything there.
    async fn check(&self) -> Result<(), ConnectorError>;

    /// What a batch may be.
    fn limits(&self) -> Limits;

    /// The requests that one item makes: pure, so that a preview shows exactly what would be sent.
    /// Nothing to send is an empty list: the item is then filtered.
    ///
    /// # Errors
    /// The item is rejected with this reason.
    fn transform(&self, item: &Item) -> Result<Vec<HttpRequest>, Reason>;

    /// Sends a batch and returns one outcome per item, in the same order. Never an error for the whole
    /// batch: what is true of all is said of each.
    async fn deliver(&self, batch: Vec<Prepared>) -> Vec<ItemOutcome>;
}

/// What goes out: an event or a change.
#[derive(Debug, Clone)]
pub struct Item {
    /// Idempotency key: stable over retries, restarts and replays of the same item.
    pub id: String,
    /// Items of one key are sent in order.
    pub key: PartitionKey,
    /// What it is.
    pub payload: Payload,
}

/// What an [`Item`] carries.
#[derive(Debug, Clone)]
pub enum Payload {
    /// A fact a user caused.
    Event(Event),
    /// A row that reverse ETL found changed.
    Change(Change),
}

/// An item with its requests.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The item's idempotency key.
    pub id: String,
    /// What [`Destination::transform`] made of it.
    pub requests: Vec<HttpRequest>,
}

/// An HTTP request before signing. `Serialize` gives the form of `millrace preview requests`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HttpRequest {
    /// The verb, upper case.
    pub method: String,
    /// The address, without the query.
    pub url: String,
    /// Headers in sending order, names lower case.
    #[serde(serialize_with = "as_map")]
    pub headers: Vec<(String, String)>,
    /// Query parameters.
    #[serde(serialize_with = "as_map")]
    pub query: Vec<(String, String)>,
    /// The body with its format.
    #[serde(flatten)]
    pub body: RequestBody,
}

/// A body in the terms of `preview requests`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "body_format", content = "body", rename_all = "snake_case")]
pub enum RequestBody {
    /// No body.
    None,
    /// A JSON document, sent as these very bytes.
    #[serde(serialize_with = "as_json")]
    Json(Bytes),
    /// Form fields.
    #[serde(serialize_with = "as_map")]
    Form(Vec<(String, String)>),
}

fn as_map<S: serde::Serializer>(pairs: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(name, value)| (name, value)))
}

fn as_json<S: serde::Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serde_json::from_slice::<Value>(bytes).map_err(serde::ser::Error::custom)?.serialize(serializer)
}

/// What a batch may be. Deliver never exceeds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Items in one call of [`Destination::deliver`].
    pub max_items: usize,
    /// Calls under way at once.
    pub concurrency: usize,
    /// The longest a call may take; after it the items are tried again.
    pub timeout: Duration,
}

/// How the sending of one item went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemOutcome {
    /// The other side has it.
    Delivered,
    /// Try again: after this long where the other side said so, else with backoff.
    Retry {
        /// What the other side asked for.
        after: Option<Duration>,
        /// Why it did not work.
        reason: Reason,
    },
    /// The other side will never take it.
    Reject(Reason),
    /// Nothing will work until a person acts; the item is kept.
    Pause(Reason),
}
