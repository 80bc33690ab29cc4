//! `rudder_discards`: values that their columns cannot hold, kept as text with the reason
//! (warehouse schema rules §6).

use millrace_columnar::{Cell, Row, TableSchema, text_of};
use millrace_connector::WriteMode;
use millrace_event_model::FieldType;

use crate::plan::Stamp;

/// The table's name, before the warehouse's spelling.
pub(crate) const TABLE: &str = "rudder_discards";

/// Its columns.
const COLUMNS: [(&str, FieldType); 7] = [
    ("table_name", FieldType::String),
    ("row_id", FieldType::String),
    ("column_name", FieldType::String),
    ("column_value", FieldType::String),
    ("reason", FieldType::String),
    ("received_at", FieldType::DateTime),
    ("uuid_ts", FieldType::DateTime),
];

/// The table's columns in the warehouse's spelling.
pub(crate) fn columns(stamp: Stamp) -> TableSchema {
    COLUMNS.iter().map(|(name, column)| (stamp.name(name), *column)).collect()
}

/// The discard of one value. `settled` is the row without it: its id and its time say where it belongs.
///
/// RudderStack keeps a discard only of rows that have `id` and `received_at`. A row of an ELT stream
/// need not have them, and is not to lose a value for that: `row_id` is then its key or null, and
/// `received_at` the load's time.
pub(crate) fn row(
    table: &str,
    column: &str,
    value: String,
    reason: String,
    settled: &Row,
    write: &WriteMode,
    stamp: Stamp,
) -> Row {
    let received_at = match settled.get(&stamp.name("received_at")) {
        Some(moment @ Cell::DateTime(_)) => moment.clone(),
        _ => Cell::DateTime(stamp.at.timestamp_micros()),
    };
    let cells = [
        ("table_name", Cell::String(table.to_owned())),
        ("row_id", row_id(settled, write, stamp)),
        ("column_name", Cell::String(column.to_owned())),
        ("column_value", Cell::String(value)),
        ("reason", Cell::String(reason)),
        ("received_at", received_at),
    ];
    cells.into_iter().map(|(name, cell)| (stamp.name(name), cell)).collect()
}

fn row_id(settled: &Row, write: &WriteMode, stamp: Stamp) -> Cell {
    let key = match write {
        WriteMode::Upsert { key } => key.clone(),
        WriteMode::MergeLatest { key, .. } => vec![key.clone()],
        WriteMode::Append | WriteMode::Stage { .. } => vec![stamp.name("id")],
    };
    let parts: Vec<String> =
        key.iter().filter_map(|column| settled.get(column).cloned()).map(text_of).collect();
    if parts.is_empty() { Cell::Null } else { Cell::String(parts.join(",")) }
}
