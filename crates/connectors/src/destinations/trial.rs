//! A destination on trial: made of its entry, and sending to a server that answers by script.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use chrono::DateTime;
use millrace_connector::conformance::{Reply, Seen, Stub};
use millrace_connector::{
    Context, Destination, DestinationEntry, Document, HttpRequest, Item, ItemOutcome, Payload, Prepared,
};
use millrace_event_model::{Change, ChangeOp, PartitionKey, Reason};
use serde_json::{Value, json};

/// A destination and the server it sends to.
pub(super) struct Trial {
    destination: Arc<dyn Destination>,
    stub: Stub,
}

impl Trial {
    /// Of an entry with these settings, and the server's answers in their order.
    pub(super) async fn start(
        entry: &DestinationEntry,
        settings: Value,
        replies: impl IntoIterator<Item = Reply>,
    ) -> Self {
        let stub = Stub::start(replies).await.unwrap();
        let mut settings = settings;
        settings["origin"] = stub.base().into();
        settings["allow_private"] = true.into();
        let destination = build(entry, &settings);
        destination.ignore_rate();
        Self { destination, stub }
    }

    /// Sends a batch; what became of each item in one word.
    pub(super) async fn deliver(&self, items: &[Item]) -> Vec<&'static str> {
        let prepare = |(number, item): (usize, &Item)| Prepared {
            id: number.to_string(),
            // Of another person each, so that all of them may be under way at once.
            key: PartitionKey((number as u128).to_be_bytes()),
            ..Prepared::of(item, self.destination.transform(item).unwrap())
        };
        let batch = items.iter().enumerate().map(prepare).collect();
        self.destination.deliver(batch).await.iter().map(word).collect()
    }

    /// The requests that came.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.stub.seen()
    }

    /// Whether the settings work.
    pub(super) async fn check(&self) -> Result<(), String> {
        self.destination.check().await.map_err(|error| error.code)
    }
}

/// The requests of an item, and nothing is sent.
pub(super) fn requests(
    entry: &DestinationEntry,
    settings: &Value,
    item: &Item,
) -> Result<Vec<HttpRequest>, Reason> {
    build(entry, settings).transform(item)
}

fn build(entry: &DestinationEntry, settings: &Value) -> Arc<dyn Destination> {
    let context = Context { id: "trial".to_owned(), work_dir: PathBuf::new() };
    (entry.build)(settings, &context).unwrap()
}

/// An event as a mapping gets it.
pub(super) fn event(fields: Value) -> Item {
    let document = Document::complete(fields.as_object().unwrap().clone());
    Item { id: "web/1".to_owned(), key: PartitionKey([1; 16]), payload: Payload::Document(document) }
}

/// A row that reverse ETL found.
pub(super) fn change(op: ChangeOp, row: &Value) -> Item {
    let change = Change {
        sync: "big-spenders".parse().unwrap(),
        run: 12,
        destination: "trial".parse().unwrap(),
        op,
        key: PartitionKey([2; 16]),
        row_hash: PartitionKey([3; 16]),
        published_at: DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
        body: Bytes::from(row.to_string()),
    };
    Item { id: change.idempotency_key(), key: change.key, payload: Payload::Change(change) }
}

/// A request's path, query and body, for comparing.
pub(super) fn shown(request: &HttpRequest) -> Value {
    let written = serde_json::to_value(request).unwrap();
    json!({"url": written["url"], "query": written["query"], "body": written["body"]})
}

fn word(outcome: &ItemOutcome) -> &'static str {
    match outcome {
        ItemOutcome::Delivered => "delivered",
        ItemOutcome::Filtered(_) => "filtered",
        ItemOutcome::Rejected(_) => "rejected",
        ItemOutcome::Throttled { .. } => "throttled",
        ItemOutcome::Transient { .. } => "transient",
        ItemOutcome::NotSent { .. } => "not_sent",
        ItemOutcome::Auth(_) => "auth",
        ItemOutcome::Config(_) => "config",
        ItemOutcome::Oversize(_) => "oversize",
        ItemOutcome::Unclear(_) => "unclear",
    }
}
