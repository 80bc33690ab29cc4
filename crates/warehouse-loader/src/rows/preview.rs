//! Rows for people and for comparison: RudderStack's transformer input in, JSON out.

use chrono::{DateTime, Utc};
use millrace_columnar::{Cell, Row, TableSchema, format_moment, text_of};
use millrace_connector::{Dialect, WriteMode};
use millrace_event_model::{FieldType, Reason};
use serde_json::{Map, json};
use sonic_rs::{JsonValueTrait, Value};
use uuid::Uuid;

use super::cells::NameTable;
use super::mapper::NewRow;
use super::message::{Message, MessageMetadata, last};
use super::{Mapping, MappingOptions, Nested, RowMapper, SourceContext};

/// A row for one table, as it is shown.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MappedRow {
    /// The table's name.
    pub(crate) table: String,
    /// The row's columns, and those that are set at load (`uuid_ts`) and have no cell here.
    pub(crate) columns: TableSchema,
    /// The values. A list in a column of text is a JSON cell.
    pub(crate) cells: Row,
    /// `Append`, but `MergeLatest` for `users`.
    pub(crate) write: WriteMode,
}

/// The rows of an event as RudderStack's transformer is given it.
///
/// # Errors
/// The event is rejected with this reason.
pub(crate) fn rows_of_message(
    message: &Value,
    metadata: &MessageMetadata<'_>,
    mapping: Mapping<'_>,
) -> Result<Vec<MappedRow>, Reason> {
    RowMapper::new(mapping).mapped(&Message::of_document(message, metadata))
}

/// The rows of a line of RudderStack's transformer input, `{message, metadata, destination: {Config}}`.
/// The destination's options apply, in RudderStack's names. `now` and `new_id` stand in for the time and
/// id of a message that has none.
///
/// # Errors
/// The event is rejected with this reason.
pub(crate) fn rows_of_transformer_input(
    input: &Value,
    dialect: &Dialect,
    now: DateTime<Utc>,
    new_id: Uuid,
) -> Result<Vec<MappedRow>, Reason> {
    let metadata = last(input, "metadata");
    let metadata = MessageMetadata {
        received_at: metadata.and_then(|metadata| last(metadata, "receivedAt")?.as_str()),
        record_id: metadata.and_then(|metadata| last(metadata, "recordId")),
        now,
        new_id,
    };
    let Some(message) = last(input, "message") else { return Err(Reason::new("no_message", "no message")) };
    rows_of_message(message, &metadata, Mapping::of_transformer_input(input, dialect))
}

impl<'a> Mapping<'a> {
    /// The mapping that a line of transformer input asks for.
    pub(super) fn of_transformer_input(input: &Value, dialect: &'a Dialect) -> Self {
        let metadata = |field: &str| {
            let text = last(last(input, "metadata")?, field)?.as_str()?;
            (!text.is_empty()).then(|| text.to_owned())
        };
        let config = last(input, "destination").and_then(|destination| last(destination, "Config"));
        Self {
            dialect,
            options: config.map(MappingOptions::from_rudder_config).unwrap_or_default(),
            source: SourceContext {
                id: metadata("sourceId"),
                source_type: metadata("sourceType"),
                category: metadata("sourceCategory"),
            },
            destination_id: metadata("destinationId"),
            destination_type: metadata("destinationType"),
            nested: Nested::default(),
        }
    }
}

impl RowMapper<'_> {
    pub(super) fn mapped(&mut self, message: &Message<'_>) -> Result<Vec<MappedRow>, Reason> {
        let rows = self.rows(message)?;
        Ok(rows.into_iter().map(|row| MappedRow::of(row, self.names())).collect())
    }
}

impl MappedRow {
    fn of(row: NewRow<'_>, names: &NameTable) -> Self {
        let (mut columns, mut cells) = (TableSchema::new(), Row::new());
        for column in row.all_columns() {
            let Some(cell) = &column.cell else { continue };
            let name = names.name(column.name).as_ref();
            columns.insert(name.to_owned(), column.field_type);
            cells.insert(name.to_owned(), cell.to_cell());
        }
        for column in row.at_load.iter() {
            columns.insert(names.name(*column).as_ref().to_owned(), FieldType::DateTime);
        }
        let write = WriteMode::clone(&row.write);
        Self { table: row.table.as_ref().to_owned(), columns, cells, write }
    }

    /// `{table, columns: {name: type}, data: {}}`, as `preview rows` prints it.
    pub(crate) fn preview(&self) -> serde_json::Value {
        let columns: Map<String, serde_json::Value> =
            self.columns.iter().map(|(name, column)| (name.clone(), column.as_str().into())).collect();
        json!({ "table": self.table, "columns": columns, "data": self.values() })
    }

    /// The values as RudderStack's transformer answers them: times to the millisecond, a list as a list, a
    /// JSON column as its text.
    pub(crate) fn values(&self) -> Map<String, serde_json::Value> {
        self.cells.iter().map(|(name, cell)| (name.clone(), self.value(name, cell))).collect()
    }

    fn value(&self, name: &str, cell: &Cell) -> serde_json::Value {
        match cell {
            Cell::Null => serde_json::Value::Null,
            Cell::Int(value) => serde_json::Value::from(*value),
            Cell::Float(value) => serde_json::Value::from(*value),
            Cell::Boolean(value) => serde_json::Value::from(*value),
            Cell::DateTime(micros) => serde_json::Value::from(format_moment(*micros)),
            Cell::Json(text) if self.columns.get(name) != Some(&FieldType::Json) => {
                serde_json::from_str(text).unwrap_or_else(|_| serde_json::Value::from(text.as_str()))
            }
            Cell::String(text) | Cell::Json(text) => serde_json::Value::from(text.as_str()),
            // Of ELT streams only.
            other => serde_json::Value::from(text_of(other.clone())),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use millrace_connector::dialect;

    use super::*;
    use crate::rows::parse_object;

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
        let input = parse_object(input.to_string().as_bytes()).unwrap();
        let rows = rows_of_transformer_input(&input, postgres, DateTime::UNIX_EPOCH, Uuid::nil()).unwrap();
        let previews: Vec<serde_json::Value> = rows.iter().map(MappedRow::preview).collect();
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
        assert_eq!(serde_json::Value::Array(previews), expected);
    }
}
