//! An event to rows: which tables it fills, with which columns, of which types.
//!
//! The rules are RudderStack's (warehouse schema rules §1 to §5), so that tables it has made go on being
//! filled. All of it is pure, and the same functions answer a preview: [`rows_of_message`] takes an event
//! as a document, [`rows_of_event`] one from Kafka, where what the server decided wins.
//!
//! - `events`: the rows of each type of event; `rules`: the columns a row has by rule;
//! - `flatten`: nested properties to columns; `datatype`: a value's type;
//! - `names`, `words`: names that a warehouse takes; `options`: what changes all this;
//! - `preview`: rows as JSON, and RudderStack's transformer input.

mod datatype;
mod events;
mod flatten;
mod names;
mod options;
mod preview;
mod rules;
mod words;

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use millrace_columnar::{Row, TableSchema};
use millrace_connector::{Dialect, WriteMode};
use millrace_event_model::{Event, EventTimes, Geo, Reason};
use serde_json::{Map, Value, json};
use uuid::Uuid;

pub(crate) use names::{stream_column, stream_table};
pub use options::MappingOptions;
pub use preview::rows_of_transformer_input;

/// What rows depend on besides the event.
#[derive(Debug, Clone)]
pub struct Mapping<'a> {
    /// The warehouse's.
    pub dialect: &'a Dialect,
    /// The destination's.
    pub options: MappingOptions,
    /// Where the event came in.
    pub source: SourceContext,
    /// Becomes the column `context_destination_id`.
    pub destination_id: Option<String>,
    /// Becomes the column `context_destination_type`.
    pub destination_type: Option<String>,
}

impl<'a> Mapping<'a> {
    /// A mapping without options.
    #[must_use]
    pub fn new(dialect: &'a Dialect) -> Self {
        Self {
            dialect,
            options: MappingOptions::default(),
            source: SourceContext::default(),
            destination_id: None,
            destination_type: None,
        }
    }
}

/// Where an event came in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceContext {
    /// Becomes the column `context_source_id`.
    pub id: Option<String>,
    /// Becomes the column `context_source_type`.
    pub source_type: Option<String>,
    /// `cloud` and `singer-protocol` have rules of their own.
    pub category: Option<String>,
}

/// What stands in for fields that an event lacks.
#[derive(Debug, Clone, Copy)]
pub struct MessageMetadata<'a> {
    /// When the server had the event, as RudderStack's metadata says it.
    pub received_at: Option<&'a str>,
    /// The record of a cloud source; the event's own `recordId` where there is none.
    pub record_id: Option<&'a Value>,
    /// When nobody says when the event was received.
    pub now: DateTime<Utc>,
    /// The id of an event without `messageId`, after `auto-`.
    pub new_id: Uuid,
}

/// A row for one table.
#[derive(Debug, Clone, PartialEq)]
pub struct MappedRow {
    /// The table's name.
    pub table: String,
    /// The row's columns, and those that are set at load (`uuid_ts`) and have no cell here.
    pub columns: TableSchema,
    /// The values. A list in a column of text is a JSON cell.
    pub cells: Row,
    /// `Append`, but `MergeLatest` for `users`.
    pub write: WriteMode,
}

/// The rows of an event from Kafka.
///
/// # Errors
/// The event is rejected with this reason: it is no JSON object, or breaks a rule of its type.
pub fn rows_of_event(event: &Event, mapping: &Mapping<'_>) -> Result<Vec<MappedRow>, Reason> {
    let invalid = || Reason::new("invalid_json", "the event is not a JSON object");
    let mut message: Map<String, Value> = serde_json::from_slice(&event.body).map_err(|_| invalid())?;
    for (field, value) in event.decided() {
        message.insert(field.to_owned(), Value::String(value));
    }
    let given = |name: &str| message.get(name).and_then(Value::as_str);
    let times = EventTimes::of(given, event.received_at, event.sent_at.as_deref());
    if let Some(place) = event.place() {
        add_place(&mut message, &place);
    }
    message.extend(times.fields().map(|(name, text)| (name.to_owned(), Value::String(text))));
    let metadata = MessageMetadata {
        received_at: None,
        record_id: None,
        now: event.received_at,
        // Of the content: a load that is done again after a crash makes the same rows.
        new_id: id_of(&event.body),
    };
    rows_of_message(&Value::Object(message), &metadata, mapping)
}

/// Where the client is, unless it says so itself.
fn add_place(message: &mut Map<String, Value>, place: &Geo) {
    let context = message.entry("context").or_insert(Value::Null);
    if context.is_null() {
        *context = Value::Object(Map::new());
    }
    if let Value::Object(context) = context
        && context.get("geo").is_none_or(Value::is_null)
    {
        context.insert("geo".to_owned(), json!(place));
    }
}

fn id_of(body: &[u8]) -> Uuid {
    let mut id = [0; 16];
    blake3::Hasher::new().update(body).finalize_xof().fill(&mut id);
    Uuid::from_bytes(id)
}

/// The rows of an event as RudderStack's transformer is given it.
///
/// # Errors
/// The event is rejected with this reason.
pub fn rows_of_message(
    message: &Value,
    metadata: &MessageMetadata<'_>,
    mapping: &Mapping<'_>,
) -> Result<Vec<MappedRow>, Reason> {
    events::EventRows::new(message, metadata, mapping).rows()
}
