//! Rows for people and for comparison: RudderStack's transformer input in, JSON out.

use chrono::{DateTime, Utc};
use millrace_columnar::{Cell, format_moment, text_of};
use millrace_connector::Dialect;
use millrace_event_model::{FieldType, Reason};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{MappedRow, Mapping, MappingOptions, MessageMetadata, SourceContext, rows_of_message};

/// The rows of a line of RudderStack's transformer input, `{message, metadata, destination: {Config}}`.
/// The destination's options apply, in RudderStack's names. `now` and `new_id` stand in for the time and
/// id of a message that has none.
///
/// # Errors
/// The event is rejected with this reason.
pub fn rows_of_transformer_input(
    input: &Value,
    dialect: &Dialect,
    now: DateTime<Utc>,
    new_id: Uuid,
) -> Result<Vec<MappedRow>, Reason> {
    let metadata = MessageMetadata {
        received_at: input.pointer("/metadata/receivedAt").and_then(Value::as_str),
        record_id: input.pointer("/metadata/recordId"),
        now,
        new_id,
    };
    let message = input.get("message").unwrap_or(&Value::Null);
    rows_of_message(message, &metadata, &Mapping::of_transformer_input(input, dialect))
}

impl<'a> Mapping<'a> {
    /// The mapping that a line of transformer input asks for.
    #[must_use]
    pub fn of_transformer_input(input: &Value, dialect: &'a Dialect) -> Self {
        let metadata = |field: &str| {
            let value = input.get("metadata").and_then(|metadata| metadata.get(field));
            value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let config = input.pointer("/destination/Config").unwrap_or(&Value::Null);
        Self {
            dialect,
            options: MappingOptions::from_rudder_config(config),
            source: SourceContext {
                id: metadata("sourceId"),
                source_type: metadata("sourceType"),
                category: metadata("sourceCategory"),
            },
            destination_id: metadata("destinationId"),
            destination_type: metadata("destinationType"),
        }
    }
}

impl MappedRow {
    /// `{table, columns: {name: type}, data: {}}`, as `preview rows` prints it.
    #[must_use]
    pub fn preview(&self) -> Value {
        let columns: Map<String, Value> =
            self.columns.iter().map(|(name, column)| (name.clone(), column.as_str().into())).collect();
        json!({ "table": self.table, "columns": columns, "data": self.values() })
    }

    /// The values as RudderStack's transformer answers them: times to the millisecond, a list as a list, a
    /// JSON column as its text.
    #[must_use]
    pub fn values(&self) -> Map<String, Value> {
        self.cells.iter().map(|(name, cell)| (name.clone(), self.value(name, cell))).collect()
    }

    fn value(&self, name: &str, cell: &Cell) -> Value {
        match cell {
            Cell::Null => Value::Null,
            Cell::Int(value) => Value::from(*value),
            Cell::Float(value) => Value::from(*value),
            Cell::Boolean(value) => Value::from(*value),
            Cell::DateTime(micros) => Value::from(format_moment(*micros)),
            Cell::Json(text) if self.columns.get(name) != Some(&FieldType::Json) => {
                serde_json::from_str(text).unwrap_or_else(|_| Value::from(text.as_str()))
            }
            Cell::String(text) | Cell::Json(text) => Value::from(text.as_str()),
            // Of ELT streams only.
            other => Value::from(text_of(other.clone())),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use millrace_connector::dialect;

    use super::*;

    #[test]
    fn a_line_of_transformer_input_brings_its_options_along() {
        let input = json!({
            "message": {"type": "track", "event": "Sale v2", "messageId": "m",
                        "properties": {"lines": [1], "cart": {"a": [1]}}},
            "metadata": {"sourceId": "s1", "receivedAt": "2024-05-01T12:00:10+02:00"},
            "destination": {"Config": {
                "skipTracksTable": true, "underscoreDivideNumbers": true, "jsonPaths": "cart",
            }},
        });
        let postgres = dialect("postgres").unwrap();
        let rows = rows_of_transformer_input(&input, postgres, DateTime::UNIX_EPOCH, Uuid::nil()).unwrap();
        let previews: Vec<Value> = rows.iter().map(MappedRow::preview).collect();
        let expected = json!([{
            "table": "sale_v_2",
            "columns": {
                "cart": "json", "context_source_id": "string", "event": "string", "event_text": "string",
                "id": "string", "lines": "string", "received_at": "datetime", "uuid_ts": "datetime",
            },
            "data": {
                "cart": "{\"a\":[1]}", "context_source_id": "s1", "event": "sale_v_2",
                "event_text": "Sale v2", "id": "m", "lines": [1], "received_at": "2024-05-01T10:00:10.000Z",
            },
        }]);
        assert_eq!(Value::Array(previews), expected);
    }
}
