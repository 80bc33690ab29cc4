//! A destination on trial: made of its entry, and sending to a server that answers by script.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;
use std::sync::Arc;

use millrace_connector::conformance::{self, Finding, Promise, Reply, Seen, Stub};
use millrace_connector::{
    Context, Destination, DestinationEntry, Document, HttpRequest, Item, ItemOutcome, Payload, Prepared,
};
use millrace_event_model::{ChangeOp, PartitionKey, Reason, testing};
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
        let destination = build(entry, &at(settings, stub.base()));
        destination.ignore_rate();
        Self { destination, stub }
    }

    /// Sends a batch; what became of each item in one word.
    pub(super) async fn deliver(&self, items: &[Item]) -> Vec<&'static str> {
        self.outcomes(items).await.iter().map(ItemOutcome::as_str).collect()
    }

    /// Sends a batch.
    pub(super) async fn outcomes(&self, items: &[Item]) -> Vec<ItemOutcome> {
        let prepare = |(number, item): (usize, &Item)| Prepared {
            id: number.to_string().into(),
            // Of another person each, so that all of them may be under way at once.
            key: PartitionKey((number as u128).to_be_bytes()),
            ..Prepared::of(item, self.destination.transform(item).unwrap())
        };
        self.destination.deliver(items.iter().enumerate().map(prepare).collect()).await
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

/// Settings that lead to a server of the test.
fn at(mut settings: Value, base: &str) -> Value {
    settings["origin"] = base.into();
    settings["allow_private"] = true.into();
    settings
}

/// Holds a destination that speaks HTTP against the conformance kit.
pub(super) async fn conforms(entry: &DestinationEntry, settings: Value) {
    conforms_at(entry, |base| at(settings.clone(), base)).await;
}

/// As [`conforms`], where it is not `origin` that leads to a server of the test.
pub(super) async fn conforms_at(entry: &DestinationEntry, settings: impl Fn(&str) -> Value) {
    let promises = conformance::destination(entry, settings).await;
    kept(&promises, &["D1", "D2", "D4", "D5", "D7", "D8", "D12", "D13", "D15"]);
}

/// No promise is broken, and these are not skipped either.
pub(super) fn kept(promises: &[Promise], codes: &[&str]) {
    assert!(conformance::broken(promises).is_empty(), "{promises:#?}");
    for code in codes {
        let kept = promises.iter().any(|one| one.code == *code && one.finding == Finding::Kept);
        assert!(kept, "{code} is not kept: {promises:#?}");
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
    Item { id: "web/1".to_owned().into(), key: PartitionKey([1; 16]), payload: Payload::Document(document) }
}

/// A row that reverse ETL found.
pub(super) fn change(op: ChangeOp, row: &Value) -> Item {
    let change = testing::change(op, &row.to_string());
    Item { id: change.idempotency_key(), key: change.key, payload: Payload::Change(change) }
}

/// A request's path, query and body, for comparing.
pub(super) fn shown(request: &HttpRequest) -> Value {
    let written = serde_json::to_value(request).unwrap();
    json!({"url": written["url"], "query": written["query"], "body": written["body"]})
}
