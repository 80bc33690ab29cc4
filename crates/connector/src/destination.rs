//! Where deliver sends to.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use millrace_event_model::{Change, Event, IdempotencyKey, PartitionKey, Reason};
use serde::Serialize;
use serde_json::Value;

use crate::{ConnectorError, Document, Rate};

/// One configured destination.
#[async_trait]
pub trait Destination: Send + Sync {
    /// Whether the settings work: reaches the other side without changing anything there.
    async fn check(&self) -> Result<(), ConnectorError>;

    /// What a [`Self::check`] that went well leaves open, for people. Nothing: it has been answered by those
    /// who know the credentials.
    fn unchecked(&self) -> Option<&'static str> {
        None
    }

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

    /// From now on [`Limits::rate`] is left to the caller alone. For tests: the server that answers them is
    /// nobody's vendor. One that keeps no rate itself has nothing to do.
    fn ignore_rate(&self) {}

    /// While it is `true` the caller only waits for what is in flight: no item is begun any more, and what waits for
    /// a turn of the rate comes back as [`ItemOutcome::NotSent`] at once. One that lets nothing wait has nothing
    /// to do.
    fn drain(&self, _is_draining: bool) {}
}

/// What goes out: an event or a change.
#[derive(Debug, Clone)]
pub struct Item {
    /// Stable over retries, restarts and replays of the same item.
    pub id: IdempotencyKey,
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
    /// A whole event as somebody else's transformer gets it; only previews have it.
    Document(Document),
}

/// An item with its requests.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The item's own.
    pub id: IdempotencyKey,
    /// The item's key, for its order.
    pub key: PartitionKey,
    /// What [`Destination::transform`] made of it.
    pub requests: Vec<HttpRequest>,
}

impl Prepared {
    /// An item with what was made of it.
    #[must_use]
    pub fn of(item: &Item, requests: Vec<HttpRequest>) -> Self {
        Self { id: item.id.clone(), key: item.key, requests }
    }
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

impl HttpRequest {
    /// A POST without query and body.
    #[must_use]
    pub fn post(url: impl Into<String>) -> Self {
        Self::new("POST", url)
    }

    /// A request without headers, query and body. The method in upper case.
    #[must_use]
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            method: method.into(),
            url: url.into(),
            headers: Vec::new(),
            query: Vec::new(),
            body: RequestBody::None,
        }
    }

    /// With a header; the name in lower case.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// With a query parameter, not yet encoded.
    #[must_use]
    pub fn query(mut self, name: &str, value: impl Into<String>) -> Self {
        self.query.push((name.to_owned(), value.into()));
        self
    }

    /// With a JSON body and its content type.
    #[must_use]
    pub fn json(mut self, body: &Value) -> Self {
        self.body = RequestBody::Json(Bytes::from(body.to_string()));
        self.header("content-type", "application/json")
    }
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
    /// A JSON array, sent as these very bytes.
    #[serde(serialize_with = "as_json")]
    JsonArray(Bytes),
    /// Form fields, not yet encoded.
    #[serde(serialize_with = "as_map")]
    Form(Vec<(String, String)>),
    /// An XML document.
    Xml(String),
}

impl RequestBody {
    /// How long it is, near enough for the limits on batches.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Json(bytes) | Self::JsonArray(bytes) => bytes.len(),
            Self::Form(fields) => fields.iter().map(|(name, value)| name.len() + value.len() + 2).sum(),
            Self::Xml(text) => text.len(),
        }
    }

    /// Whether nothing is sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn as_map<S: serde::Serializer>(pairs: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(name, value)| (name, value)))
}

fn as_json<S: serde::Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serde_json::from_slice::<Value>(bytes).map_err(serde::ser::Error::custom)?.serialize(serializer)
}

/// What a batch may be. Deliver never exceeds it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Items in one call of [`Destination::deliver`].
    pub max_items: usize,
    /// Bytes of the bodies of one call together; an item that is larger by itself goes alone.
    pub max_bytes: usize,
    /// How long a batch that is not full waits for more items.
    pub max_wait: Duration,
    /// Calls under way at once.
    pub concurrency: usize,
    /// The longest a call may take; after it the items are tried again.
    pub timeout: Duration,
    /// How often the other side may be called. Deliver counts calls of [`Destination::deliver`]; of a call
    /// that makes several requests the connector keeps it for each of them.
    pub rate: Option<Rate>,
    /// Whether items of one key are sent one after the other. Where the other side does not care, they may
    /// be in several calls at once.
    pub ordered: bool,
    /// Whether items of one key may share a call: [`Destination::deliver`] sends them in their order, and sends none
    /// after one of its key that has to be tried again, unless both were in one request.
    pub together: bool,
}

impl Limits {
    /// One item a call, in order, without a rate: the least that every destination takes.
    #[must_use]
    pub fn single(concurrency: usize, timeout: Duration) -> Self {
        Self {
            max_items: 1,
            max_bytes: usize::MAX,
            max_wait: Duration::ZERO,
            concurrency,
            timeout,
            rate: None,
            ordered: true,
            together: false,
        }
    }
}

/// How the sending of one item went. Nothing else decides what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemOutcome {
    /// The other side has it.
    Delivered,
    /// The other side, or the connector, leaves it out on purpose: it needs no sending.
    Filtered(Reason),
    /// The other side will never take it: it goes to the dead letters.
    Rejected(Reason),
    /// Too many calls: try again, after this long where the other side said so, and slow down.
    Throttled {
        /// What the other side asked for.
        after: Option<Duration>,
        /// What it said.
        reason: Reason,
    },
    /// It did not work and may work later: try again, after this long where the other side said so.
    Transient {
        /// What the other side asked for.
        after: Option<Duration>,
        /// Why it did not work.
        reason: Reason,
    },
    /// Nothing was sent for it: the rate leaves no room until this long from now, or one before it of its key has
    /// to be tried again first. It is no attempt.
    NotSent {
        /// How long nothing needs to be tried.
        after: Duration,
    },
    /// The time of the batch was over when some of the item had been sent: all of it is sent again, with fewer items;
    /// one that is by itself has failed.
    OutOfTime(Reason),
    /// The credentials are refused: nothing will work until a person acts; the item is kept.
    Auth(Reason),
    /// A setting is wrong: nothing will work until a person acts; the item is kept.
    Config(Reason),
    /// The call was too large: try with fewer items; one that is too large by itself is rejected.
    Oversize(Reason),
    /// The call was refused and nothing says for which item: try with fewer; one by itself is rejected.
    Unclear(Reason),
}

impl ItemOutcome {
    /// How long the other side asked to wait, where it did.
    #[must_use]
    pub fn after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { after, .. } | Self::Transient { after, .. } => *after,
            _ => None,
        }
    }

    /// In one word: `delivered`, `filtered` and so on.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Filtered(_) => "filtered",
            Self::Rejected(_) => "rejected",
            Self::Throttled { .. } => "throttled",
            Self::Transient { .. } => "transient",
            Self::NotSent { .. } => "not_sent",
            Self::OutOfTime(_) => "out_of_time",
            Self::Auth(_) => "auth",
            Self::Config(_) => "config",
            Self::Oversize(_) => "oversize",
            Self::Unclear(_) => "unclear",
        }
    }
}
