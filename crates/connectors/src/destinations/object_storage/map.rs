//! One item to one row, and the folder of its file: pure.
//!
//! A row is what the webhook sends as its body, on one line. Events are by source, day and hour of their
//! receipt, changes by sync and run: names that Spark, DuckDB and others read as columns.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use millrace_connector::{Document, HttpRequest, Item, Payload, RequestBody};
use millrace_event_model::{Reason, parse_moment};

use crate::destinations::webhook;

/// The row, in the terms of a request.
pub(super) fn row(item: &Item) -> Result<HttpRequest, Reason> {
    let body = RequestBody::Json(on_one_line(webhook::body(item)?));
    Ok(HttpRequest { body, ..HttpRequest::new("PUT", folder(&item.payload)) })
}

fn folder(payload: &Payload) -> String {
    match payload {
        Payload::Event(event) => format!("source={}/{}", event.source, hour(event.received_at)),
        Payload::Change(change) => format!("sync={}/run={}", change.sync, change.run),
        Payload::Document(document) => received(document).map_or_else(|| "date=unknown".to_owned(), hour),
    }
}

fn hour(at: DateTime<Utc>) -> String {
    at.format("date=%Y-%m-%d/hour=%H").to_string()
}

fn received(document: &Document) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_micros(parse_moment(document.text("receivedAt")?)?)
}

/// Line breaks in JSON stand between its tokens alone: those in texts are escaped.
fn on_one_line(json: Bytes) -> Bytes {
    if !json.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return json;
    }
    let blank = |byte: &u8| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte };
    json.iter().map(blank).collect()
}
