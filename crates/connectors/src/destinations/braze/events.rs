//! Braze's custom events.

use millrace_connector::Document;
use millrace_event_model::Reason;
use serde_json::{Map, Value};

use crate::destinations::shared::fields::{object, pick, pick_text, set};
use crate::destinations::shared::times::HAPPENED;

/// Names that Braze keeps for itself in an event's properties.
const RESERVED: &[&str] = &["time", "event_name"];

/// An event with its properties.
pub(super) fn custom(name: &str, document: &Document) -> Map<String, Value> {
    let mut properties = object(document, "properties");
    properties.retain(|name, _| !RESERVED.contains(&name.as_str()));
    let mut event = named(name, document);
    if !properties.is_empty() {
        event.insert("properties".to_owned(), Value::Object(properties));
    }
    event
}

/// A page view.
pub(super) fn page(document: &Document) -> Result<Map<String, Value>, Reason> {
    Ok(custom(&viewed(document, "Page"), document))
}

/// A screen view.
pub(super) fn screen(document: &Document) -> Result<Map<String, Value>, Reason> {
    Ok(custom(&viewed(document, "Screen"), document))
}

fn viewed(document: &Document, what: &str) -> String {
    match pick_text(document, &["name", "properties.name"]) {
        Some(name) => format!("Viewed {name} {what}"),
        None => format!("{what} Viewed"),
    }
}

/// An event's name and time.
pub(super) fn named(name: &str, document: &Document) -> Map<String, Value> {
    let mut event = Map::new();
    event.insert("name".to_owned(), name.into());
    set(&mut event, "time", pick(document, HAPPENED).cloned());
    event
}
