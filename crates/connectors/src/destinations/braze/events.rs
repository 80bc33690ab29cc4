//! Braze's custom events.

use millrace_connector::Document;
use millrace_event_model::Reason;
use serde_json::{Map, Value};

use crate::destinations::shared::fields::{missing, object, pick_text};
use crate::destinations::shared::times;

/// Names that Braze keeps for itself in an event's properties.
const RESERVED: &[&str] = &["time", "event_name"];

/// An event with its properties.
pub(super) fn custom(name: &str, document: &Document) -> Result<Map<String, Value>, Reason> {
    let mut properties = object(document, "properties");
    properties.retain(|name, _| !RESERVED.contains(&name.as_str()));
    let mut event = named(name, document)?;
    if !properties.is_empty() {
        event.insert("properties".to_owned(), Value::Object(properties));
    }
    Ok(event)
}

/// A page view.
pub(super) fn page(document: &Document) -> Result<Map<String, Value>, Reason> {
    custom(&viewed(document, "Page"), document)
}

/// A screen view.
pub(super) fn screen(document: &Document) -> Result<Map<String, Value>, Reason> {
    custom(&viewed(document, "Screen"), document)
}

fn viewed(document: &Document, what: &str) -> String {
    match pick_text(document, &["name", "properties.name"]) {
        Some(name) => format!("Viewed {name} {what}"),
        None => format!("{what} Viewed"),
    }
}

/// An event's name and time.
pub(super) fn named(name: &str, document: &Document) -> Result<Map<String, Value>, Reason> {
    let mut event = Map::new();
    event.insert("name".to_owned(), name.into());
    event.insert("time".to_owned(), time(document)?.into());
    Ok(event)
}

/// When it happened: Braze takes nothing without.
pub(super) fn time(document: &Document) -> Result<&str, Reason> {
    times::happened_as_written(document).ok_or_else(|| missing("a timestamp that is a moment"))
}
