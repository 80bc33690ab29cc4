//! `rudder_discards`: values that their columns cannot hold, kept as text with the reason
//! (warehouse schema rules §6). Under a contract that discards rows, whole rows are here too: as JSON, and
//! without a column's name.

use millrace_columnar::{Block, Cell, CellRef, ColumnId, Rows, text_of};
use millrace_connector::WriteMode;
use millrace_event_model::FieldType;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::plan::Stamp;

/// The table's name, before the warehouse's spelling.
pub(crate) const TABLE: &str = "rudder_discards";

/// Where a discarded value belongs.
#[derive(Debug, PartialEq)]
pub(crate) struct Place<'t> {
    table: &'t str,
    row_id: Option<String>,
    /// Microseconds.
    received_at: i64,
}

impl<'t> Place<'t> {
    /// The place of a row, whose `cell`s are without what was discarded.
    ///
    /// RudderStack keeps a discard only of rows that have `id` and `received_at`. A row of an ELT stream
    /// need not have them, and is not to lose a value for that: `row_id` is then its key or null, and
    /// `received_at` the load's time.
    pub(crate) fn of(table: &'t str, write: &WriteMode, stamp: Stamp, cell: impl Fn(&str) -> Cell) -> Self {
        let received_at = match cell(&stamp.name("received_at")) {
            Cell::DateTime(micros) => micros,
            _ => stamp.at.timestamp_micros(),
        };
        let id = [stamp.name("id")];
        let key = match write {
            WriteMode::Upsert { key } => key.as_slice(),
            WriteMode::MergeLatest { key, .. } => std::slice::from_ref(key),
            WriteMode::Append | WriteMode::Stage { .. } => &id,
        };
        let parts = key.iter().map(|column| cell(column)).filter(|cell| *cell != Cell::Null);
        let parts: Vec<String> = parts.map(text_of).collect();
        let row_id = (!parts.is_empty()).then(|| parts.join(","));
        Self { table, row_id, received_at }
    }
}

/// The discards of a load.
#[derive(Debug)]
pub(crate) struct Discards {
    rows: Rows,
    table_name: ColumnId,
    row_id: ColumnId,
    column_name: ColumnId,
    column_value: ColumnId,
    reason: ColumnId,
    received_at: ColumnId,
}

impl Discards {
    pub(crate) fn new(stamp: Stamp) -> Self {
        let mut rows = Rows::default();
        let mut column = |name, own| rows.column(&stamp.name(name), own);
        let table_name = column("table_name", FieldType::String);
        let row_id = column("row_id", FieldType::String);
        let column_name = column("column_name", FieldType::String);
        let column_value = column("column_value", FieldType::String);
        let reason = column("reason", FieldType::String);
        let received_at = column("received_at", FieldType::DateTime);
        column("uuid_ts", FieldType::DateTime);
        Self { rows, table_name, row_id, column_name, column_value, reason, received_at }
    }

    /// Keeps a value of a column, or with no column a whole row.
    pub(crate) fn add(&mut self, place: &Place<'_>, column: Option<&str>, value: &str, reason: &str) {
        self.rows.push([
            (self.table_name, CellRef::String(place.table)),
            (self.row_id, place.row_id.as_deref().map_or(CellRef::Null, CellRef::String)),
            (self.column_name, column.map_or(CellRef::Null, CellRef::String)),
            (self.column_value, CellRef::String(value)),
            (self.reason, CellRef::String(reason)),
            (self.received_at, CellRef::DateTime(place.received_at)),
        ]);
    }

    pub(crate) fn count(&self) -> u64 {
        self.rows.len() as u64
    }

    /// The rows, if there are any.
    pub(crate) fn finish(self) -> Option<Block> {
        (!self.rows.is_empty()).then(|| self.rows.finish())
    }
}

/// A row as JSON: what is discarded of it whole. Documents and numbers stand there as they are, digit by digit.
pub(crate) fn whole_row(block: &Block, row: usize) -> String {
    let mut fields = Vec::new();
    for column in &block.columns {
        let cell = column.cell(row);
        if cell != Cell::Null {
            fields.push(format!("{}:{}", Value::from(column.name.as_str()), json_of(cell)));
        }
    }
    format!("{{{}}}", fields.join(","))
}

fn json_of(cell: Cell) -> String {
    match cell {
        Cell::Int(_) | Cell::Boolean(_) => text_of(cell),
        Cell::Float(value) if value.is_finite() => Value::from(value).to_string(),
        // A document that is none is kept as the text it is.
        Cell::Json(text) if serde_json::from_str::<IgnoredAny>(&text).is_ok() => text,
        other => Value::String(text_of(other)).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_discarded_whole_keeps_every_digit() {
        let document = r#"{"n": 12345678901234567890123.40}"#;
        let mut rows = Rows::default();
        let types = [FieldType::Decimal, FieldType::Float, FieldType::Json, FieldType::String];
        let [d, f, j, t] = types.map(|own| rows.column(own.as_str(), own));
        rows.push([
            (d, CellRef::Decimal("1.50")),
            (f, CellRef::Float(f64::NAN)),
            (j, CellRef::Json(document)),
            (t, CellRef::String("a\"b")),
        ]);
        let expected = format!(r#"{{"decimal":"1.50","float":"NaN","json":{document},"string":"a\"b"}}"#);
        assert_eq!(whole_row(&rows.finish(), 0), expected);
    }
}
