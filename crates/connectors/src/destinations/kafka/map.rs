//! One item to one record: pure.
//!
//! The record's value is what the webhook sends as its body. Its key is the person's: `userId`, else
//! `anonymousId`; of a change it is the row's, the same in all its changes. The header `millrace-id` is the
//! same in all repetitions of a record.

use millrace_connector::{Document, HttpRequest, Item, Payload, RequestBody};
use millrace_event_model::{ChangeOp, Reason};
use serde_json::Value;

use super::config::{Settings, is_topic};
use crate::destinations::shared::fields::{integration, pick_text};
use crate::destinations::webhook;

/// The record, in the terms of a request.
pub(super) fn record(settings: &Settings, item: &Item) -> Result<HttpRequest, Reason> {
    let document = Document::of(item)?;
    let mut request =
        HttpRequest::new("PRODUCE", topic(settings, &document)?).header("millrace-id", item.id.to_string());
    let key = match &item.payload {
        Payload::Change(change) => Some(change.key.to_hex()),
        Payload::Event(_) | Payload::Document(_) => pick_text(&document, &["userId", "anonymousId"]),
    };
    if let Some(key) = key {
        request = request.query("key", key);
    }
    if document.op() != Some(ChangeOp::Delete) || !settings.tombstones {
        request.body = RequestBody::Json(webhook::body(item)?);
    }
    Ok(request)
}

fn topic(settings: &Settings, document: &Document) -> Result<String, Reason> {
    let asked =
        integration(document, "kafka").and_then(|options| options.get("topic")).and_then(Value::as_str);
    if let (true, Some(name)) = (settings.event_topics, asked) {
        return match is_topic(name) {
            true => Ok(name.to_owned()),
            // The name is the client's, and may be anything.
            false => Err(Reason::new("invalid_field", "integrations.Kafka.topic is not the name of a topic")),
        };
    }
    let by_name = document.text("event").and_then(|name| settings.topics.get(name));
    let found = by_name.or_else(|| settings.topics.get(&document.event_type()));
    Ok(found.unwrap_or(&settings.topic).clone())
}
