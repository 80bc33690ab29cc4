//! A row of a stream to cells.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use millrace_columnar::{Cell, Coerced, Row, TableSchema, coerce};
use millrace_connector::{Dialect, WriteMode};
use millrace_event_model::{FieldType, Reason};
use serde_json::{Map, Value};

use super::table::StreamTable;
use crate::rows::stream_column;

/// The cells of a row, and the columns of those fields that the stream's schema did not tell of.
///
/// # Errors
/// The row is rejected: it is no JSON object, or has to be found by its primary key and lacks a part of it.
pub(crate) fn cells_of(
    table: &StreamTable,
    json: &[u8],
    emitted_at: DateTime<Utc>,
    dialect: &Dialect,
) -> Result<(Row, TableSchema), Reason> {
    let fields: Map<String, Value> = serde_json::from_slice(json)
        .map_err(|_| Reason::new("invalid_json", "the row is not a JSON object"))?;
    let mut row = Row::new();
    let mut undeclared = TableSchema::new();
    for (field, value) in &fields {
        if let Some((column, own)) = table.fields.get(field) {
            set(&mut row, column, declared(value, *own));
            continue;
        }
        let Some(column) = stream_column(dialect, field) else { continue };
        let cell = natural(value, dialect);
        if let Some(own) = cell.field_type().filter(|_| !table.columns.contains_key(&column)) {
            undeclared.insert(column.clone(), own);
        }
        set(&mut row, &column, cell);
    }
    if matches!(table.write, WriteMode::Upsert { .. }) {
        for (path, column) in &table.key {
            let cell = key_cell(table, &fields, path, column, dialect)?;
            if let Some(own) = cell.field_type().filter(|_| !table.columns.contains_key(column)) {
                undeclared.insert(column.clone(), own);
            }
            row.insert(column.clone(), cell);
        }
    }
    row.insert(table.extracted_at.clone(), Cell::DateTime(emitted_at.timestamp_micros()));
    Ok((row, undeclared))
}

fn set(row: &mut Row, column: &str, cell: Cell) {
    if cell != Cell::Null {
        row.insert(column.to_owned(), cell);
    }
}

/// A part of the primary key, of its column's type: a key that its column cannot hold is no key.
fn key_cell(
    table: &StreamTable,
    fields: &Map<String, Value>,
    path: &[String],
    column: &str,
    dialect: &Dialect,
) -> Result<Cell, Reason> {
    let missing = || {
        let path = path.join(".");
        Reason::new("missing_primary_key", format!("the row has no value for its primary key {path:?}"))
    };
    let (first, rest) = path.split_first().ok_or_else(missing)?;
    let mut value = fields.get(first).ok_or_else(missing)?;
    for part in rest {
        value = value.get(part).ok_or_else(missing)?;
    }
    let own = table.columns.get(column).copied();
    let cell = own.map_or_else(|| natural(value, dialect), |own| declared(value, own));
    match own.map_or(Coerced::Converted(cell.clone()), |own| coerce(cell, own)) {
        Coerced::Converted(Cell::Null) => Err(missing()),
        Coerced::Converted(cell) => Ok(cell),
        Coerced::Discarded { reason, .. } => Err(Reason::new(
            "invalid_primary_key",
            format!("the primary key {:?} is not of its declared type: {reason}", path.join(".")),
        )),
    }
}

/// A value in a column of a declared type; where it is of another type, as it is, for the plan to convert
/// or to discard.
fn declared(value: &Value, own: FieldType) -> Cell {
    match (own, value) {
        (_, Value::Null) => Cell::Null,
        (FieldType::Json, value) => Cell::Json(value.to_string()),
        (FieldType::DateTime, Value::String(text)) => {
            moment(text).map_or_else(|| Cell::String(text.clone()), Cell::DateTime)
        }
        (_, Value::Array(_) | Value::Object(_)) => Cell::Json(value.to_string()),
        (_, Value::String(text)) => Cell::String(text.clone()),
        (_, Value::Bool(value)) => Cell::Boolean(*value),
        (_, Value::Number(number)) => of_number(number),
    }
}

/// A value in a column that nobody declared.
fn natural(value: &Value, dialect: &Dialect) -> Cell {
    match value {
        Value::Array(_) | Value::Object(_) if dialect.json_columns => Cell::Json(value.to_string()),
        Value::Array(_) | Value::Object(_) => Cell::String(value.to_string()),
        value => declared(value, FieldType::String),
    }
}

fn of_number(number: &serde_json::Number) -> Cell {
    if let Some(value) = number.as_i64() {
        return Cell::Int(value);
    }
    match number.as_f64() {
        // An integer beyond 64 bits keeps its digits as text.
        Some(value) if !number.is_u64() => Cell::Float(value),
        _ => Cell::String(number.to_string()),
    }
}

/// RFC 3339; without an offset, UTC; a date, its midnight.
fn moment(text: &str) -> Option<i64> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Some(at.timestamp_micros());
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"] {
        if let Ok(at) = NaiveDateTime::parse_from_str(text, format) {
            return Some(at.and_utc().timestamp_micros());
        }
    }
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some(date.and_time(NaiveTime::MIN).and_utc().timestamp_micros())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use millrace_connector::dialect;
    use millrace_event_model::{LoadMode, StreamSpec};
    use serde_json::json;

    use super::*;

    fn table(primary_key: &[&[&str]]) -> StreamTable {
        let spec = StreamSpec {
            name: "s".into(),
            namespace: None,
            json_schema: json!({"properties": {
                "id": {"type": "integer"},
                "at": {"type": "string", "format": "date-time"},
                "tags": {"type": "array"},
                "name": {"type": "string"},
            }}),
            primary_key: primary_key
                .iter()
                .map(|path| path.iter().map(|part| (*part).to_owned()).collect())
                .collect(),
            mode: LoadMode::Upsert,
            generation: 0,
        };
        StreamTable::of(&spec, dialect("postgres").unwrap()).unwrap()
    }

    fn cells(table: &StreamTable, json: &str) -> Result<(Row, TableSchema), Reason> {
        cells_of(table, json.as_bytes(), DateTime::UNIX_EPOCH, dialect("postgres").unwrap())
    }

    #[test]
    fn fields_become_cells_of_their_declared_types() {
        let json = r#"{"id": 7, "at": "2026-01-01T00:00:00.000001+01:00", "tags": ["a"], "name": null, "extra": 1.5}"#;
        let (row, undeclared) = cells(&table(&[]), json).unwrap();
        let expected = [
            (EXTRACTED, Cell::DateTime(0)),
            ("at", Cell::DateTime(1_767_222_000_000_001)),
            ("id", Cell::Int(7)),
            ("extra", Cell::Float(1.5)),
            ("tags", Cell::Json("[\"a\"]".into())),
        ];
        assert_eq!(row, expected.map(|(name, cell)| (name.to_owned(), cell)).into());
        assert_eq!(undeclared, TableSchema::from([("extra".into(), FieldType::Float)]));
    }

    const EXTRACTED: &str = super::super::table::EXTRACTED_AT;

    #[test]
    fn a_value_of_another_type_stays_as_it_is() {
        let (row, _) =
            cells(&table(&[]), r#"{"id": "x", "at": "soon", "name": 18446744073709551615}"#).unwrap();
        assert_eq!(row["id"], Cell::String("x".into()));
        assert_eq!(row["at"], Cell::String("soon".into()));
        assert_eq!(row["name"], Cell::String("18446744073709551615".into()));
    }

    #[test]
    fn dates_and_local_times_are_utc() {
        let day = 1_767_225_600_000_000;
        for text in ["2026-01-01", "2026-01-01T00:00:00", "2026-01-01 00:00:00.0", "2026-01-01T00:00:00Z"] {
            assert_eq!(moment(text), Some(day), "{text}");
        }
        assert_eq!(moment("01.01.2026"), None);
    }

    #[test]
    fn a_row_is_rejected_when_it_lacks_its_key() {
        let by_id = table(&[&["id"]]);
        let code = |json| cells(&by_id, json).unwrap_err().code;
        assert_eq!(code(r#"{"name": "a"}"#), "missing_primary_key");
        assert_eq!(code(r#"{"id": null}"#), "missing_primary_key");
        assert_eq!(code(r#"{"id": "x"}"#), "invalid_primary_key");
        assert_eq!(code("[1]"), "invalid_json");
        assert!(cells(&by_id, r#"{"id": 1}"#).is_ok());
    }

    #[test]
    fn a_nested_key_is_a_column_of_its_own() {
        let nested = table(&[&["meta", "key"]]);
        let (row, undeclared) = cells(&nested, r#"{"meta": {"key": "k"}}"#).unwrap();
        assert_eq!(row["meta_key"], Cell::String("k".into()));
        assert_eq!(undeclared["meta_key"], FieldType::String);
        assert!(cells(&nested, r#"{"meta": {}}"#).is_err());
    }
}
