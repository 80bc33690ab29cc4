//! What comes of RudderStack's input for a transformer: an event and the `Config` of a destination, in
//! their names.

use millrace_connector::{Context, DestinationEntry, Document, HttpRequest, Item, Payload};
use millrace_event_model::PartitionKey;
use serde_json::{Map, Value};

/// The requests of an event under a `Config` of theirs. Nothing is sent, and nothing is signed.
///
/// # Errors
/// The destination has no translation of their options, refuses these ones, or rejects the event; as a
/// sentence without values.
pub fn requests(
    entry: &DestinationEntry,
    config: &Value,
    message: Map<String, Value>,
) -> Result<Vec<HttpRequest>, String> {
    let Some(rudder) = &entry.rudder else {
        return Err(format!("destination kind {:?} has no translation of RudderStack's Config", entry.kind));
    };
    let settings = (rudder.settings)(config).map_err(|reason| reason.message)?;
    let context = Context { id: "preview".to_owned(), work_dir: std::env::temp_dir() };
    let destination = (entry.build)(&settings, &context).map_err(|error| error.full())?;
    let id = message.get("messageId").and_then(Value::as_str).unwrap_or_default().to_owned();
    let payload = Payload::Document(Document::complete(message));
    let item = Item { id: id.into(), key: PartitionKey([0; 16]), payload };
    destination.transform(&item).map_err(|reason| reason.message)
}
