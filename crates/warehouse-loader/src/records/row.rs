//! A row of a stream to cells.

use std::borrow::Cow;
use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use millrace_columnar::{Cell, Row, TableSchema};
use millrace_connector::{Dialect, WriteMode};
use millrace_event_model::{FieldType, Reason};
use serde_json::value::RawValue;

use super::table::{Field, Fields, MAX_DEPTH, StreamTable, marked_by_path};
use super::value::{Unfit, declared, natural};
use crate::rows::Nested;

/// The fields of an object, each as it was written; of one that comes twice, the last.
type Object<'j> = BTreeMap<Cow<'j, str>, &'j RawValue>;

/// What a record comes to.
#[derive(Debug, PartialEq)]
pub(crate) struct RecordRows<'t> {
    /// The record's own row, then those of its lists.
    pub(crate) rows: Vec<TableRow<'t>>,
    /// How many values are null since they did not fit their columns; their rows' column `_meta` has them.
    pub(crate) nulled: u64,
}

/// A row and its table.
#[derive(Debug, PartialEq)]
pub(crate) struct TableRow<'t> {
    pub(crate) table: &'t StreamTable,
    pub(crate) cells: Row,
    /// Columns of fields that the stream's schema did not tell of.
    pub(crate) undeclared: TableSchema,
}

/// Which record it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) emitted_at: DateTime<Utc>,
}

/// The rows of a record.
///
/// # Errors
/// It is rejected: it is no JSON object, or has to be found by its primary key and lacks a part of it.
pub(crate) fn rows_of<'t>(
    table: &'t StreamTable,
    json: &[u8],
    origin: Origin,
    dialect: &Dialect,
) -> Result<RecordRows<'t>, Reason> {
    let fields: Object<'_> = serde_json::from_slice(json)
        .map_err(|_| Reason::new("invalid_json", "the row is not a JSON object"))?;
    let mut record = RecordRows { rows: Vec::new(), nulled: 0 };
    let mut reader = Reader::new(table, dialect, origin);
    if table.id.is_some() {
        reader.id = id_of(&[&origin.partition.to_le_bytes(), &origin.offset.to_le_bytes(), json]);
    }
    reader.object(&fields, &table.fields, &mut record);
    if matches!(table.write, WriteMode::Upsert { .. }) {
        for (path, column) in &table.key {
            let cell = key_cell(table, &fields, path, column, dialect)?;
            if let Some(own) = cell.field_type().filter(|_| !table.columns.contains_key(column)) {
                reader.undeclared.insert(column.clone(), own);
            }
            reader.row.insert(column.clone(), cell);
        }
    }
    let row = reader.finish(&mut record);
    record.rows.insert(0, row);
    Ok(record)
}

/// The same each time that the record is read.
fn id_of(parts: &[&[u8]]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    hasher.finalize().to_hex().chars().take(32).collect()
}

/// What a value that did not fit its column leaves in `_meta`: Airbyte's form, and the value.
#[derive(Debug, serde::Serialize)]
struct Change {
    field: String,
    change: &'static str,
    reason: &'static str,
    value: String,
}

/// How much of a value is kept in `_meta`: enough to see what it was.
const VALUE_BYTES: usize = 1_000;

struct Reader<'t, 'd> {
    table: &'t StreamTable,
    dialect: &'d Dialect,
    origin: Origin,
    /// Of the row, where lists refer to it.
    id: String,
    /// Where it is, from the row down.
    path: Vec<String>,
    row: Row,
    undeclared: TableSchema,
    changes: Vec<Change>,
}

impl<'t, 'd> Reader<'t, 'd> {
    fn new(table: &'t StreamTable, dialect: &'d Dialect, origin: Origin) -> Self {
        Self {
            table,
            dialect,
            origin,
            id: String::new(),
            path: Vec::new(),
            row: Row::new(),
            undeclared: TableSchema::new(),
            changes: Vec::new(),
        }
    }

    /// Adds the columns that every row has.
    fn finish(mut self, record: &mut RecordRows<'t>) -> TableRow<'t> {
        let table = self.table;
        let extracted_at = Cell::DateTime(self.origin.emitted_at.timestamp_micros());
        self.row.insert(table.extracted_at.clone(), extracted_at);
        if let Some(id) = &table.id {
            self.row.insert(id.clone(), Cell::String(self.id));
        }
        if !self.changes.is_empty() {
            record.nulled += self.changes.len() as u64;
            let text = serde_json::json!({ "changes": self.changes }).to_string();
            let is_json = table.columns.get(&table.meta) == Some(&FieldType::Json);
            self.row.insert(table.meta.clone(), if is_json { Cell::Json(text) } else { Cell::String(text) });
        }
        TableRow { table, cells: self.row, undeclared: self.undeclared }
    }

    fn object(&mut self, object: &Object<'_>, fields: &'t Fields, record: &mut RecordRows<'t>) {
        for (name, raw) in object {
            self.path.push(name.clone().into_owned());
            match fields.get(name.as_ref()) {
                Some(Field::Column { name, field_type }) => self.column(name, *field_type, raw),
                Some(Field::Object(inner)) => self.inner(raw, inner, record),
                Some(Field::List(table)) => self.list(raw, table, record),
                None => self.undeclared(raw),
            }
            self.path.pop();
        }
    }

    /// A list whose values are rows of a table of their own.
    fn list(&mut self, raw: &RawValue, table: &'t StreamTable, record: &mut RecordRows<'t>) {
        let values = match serde_json::from_str::<Option<Vec<&RawValue>>>(raw.get()) {
            Ok(values) => values.unwrap_or_default(),
            Err(_) => return self.note(Unfit::Type, raw),
        };
        let Some(of_list) = &table.of_list else { return };
        for (index, value) in values.into_iter().enumerate() {
            let mut reader = Reader::new(table, self.dialect, self.origin);
            if table.id.is_some() {
                let parts = [self.id.as_bytes(), table.name.as_bytes(), &index.to_le_bytes()];
                reader.id = id_of(&parts);
            }
            match &of_list.value {
                Some((column, own)) => reader.column(column, *own, value),
                None => reader.inner(value, &table.fields, record),
            }
            reader.row.insert(of_list.parent_id.clone(), Cell::String(self.id.clone()));
            reader.row.insert(of_list.index.clone(), Cell::Int(i64::try_from(index).unwrap_or(i64::MAX)));
            let row = reader.finish(record);
            record.rows.push(row);
        }
    }

    fn column(&mut self, column: &str, own: FieldType, raw: &RawValue) {
        match declared(raw, own, self.dialect) {
            Ok(cell) => self.set(column, cell),
            Err(unfit) => self.note(unfit, raw),
        }
    }

    /// A declared object whose fields are columns.
    fn inner(&mut self, raw: &RawValue, fields: &'t Fields, record: &mut RecordRows<'t>) {
        match serde_json::from_str::<Object<'_>>(raw.get()) {
            Ok(object) => self.object(&object, fields, record),
            Err(_) if raw.get() == "null" => {}
            Err(_) => self.note(Unfit::Type, raw),
        }
    }

    /// A field that the schema did not tell of has a column of the type that its value shows.
    fn undeclared(&mut self, raw: &RawValue) {
        let is_flat = self.table.nested != Nested::Json && self.path.len() < MAX_DEPTH;
        if is_flat && let Ok(object) = serde_json::from_str::<Object<'_>>(raw.get()) {
            for (name, raw) in object {
                self.path.push(name.into_owned());
                self.undeclared(raw);
                self.path.pop();
            }
            return;
        }
        let mut column = self.table.column_of_undeclared(&self.path, self.dialect);
        if self.row.contains_key(&column) {
            // Another undeclared field of the row is called nearly so.
            column = marked_by_path(self.dialect, &column, &self.path);
        }
        let cell = natural(raw, self.dialect);
        if let Some(own) = cell.field_type().filter(|_| !self.table.columns.contains_key(&column)) {
            self.undeclared.insert(column.clone(), own);
        }
        self.set(&column, cell);
    }

    fn set(&mut self, column: &str, cell: Cell) {
        if cell != Cell::Null {
            self.row.insert(column.to_owned(), cell);
        }
    }

    fn note(&mut self, unfit: Unfit, raw: &RawValue) {
        let value = raw.get();
        let value = value.get(..value.floor_char_boundary(VALUE_BYTES)).unwrap_or_default();
        let field = self.path.join(".");
        self.changes.push(Change {
            field,
            change: "NULLED",
            reason: unfit.as_str(),
            value: value.to_owned(),
        });
    }
}

/// A part of the primary key, of its column's type: a key that its column cannot hold is no key.
fn key_cell(
    table: &StreamTable,
    fields: &Object<'_>,
    path: &[String],
    column: &str,
    dialect: &Dialect,
) -> Result<Cell, Reason> {
    let missing = || {
        let path = path.join(".");
        Reason::new("missing_primary_key", format!("the row has no value for its primary key {path:?}"))
    };
    let (first, rest) = path.split_first().ok_or_else(missing)?;
    let mut value: &RawValue = fields.get(first.as_str()).ok_or_else(missing)?;
    for part in rest {
        let object: Object<'_> = serde_json::from_str(value.get()).map_err(|_| missing())?;
        value = object.get(part.as_str()).ok_or_else(missing)?;
    }
    let own = table.columns.get(column).copied();
    match own.map_or_else(|| Ok(natural(value, dialect)), |own| declared(value, own, dialect)) {
        Ok(Cell::Null) => Err(missing()),
        Ok(cell) => Ok(cell),
        Err(_) => {
            let (path, own) = (path.join("."), own.unwrap_or(FieldType::String));
            let message = format!("the primary key {path:?} is not of its declared type, {own}");
            Err(Reason::new("invalid_primary_key", message))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use millrace_connector::dialect;
    use millrace_event_model::{LoadMode, StreamSpec};
    use serde_json::json;

    use super::*;

    fn table_with(primary_key: &[&[&str]], nested: Nested) -> StreamTable {
        let spec = StreamSpec {
            name: "s".into(),
            namespace: None,
            json_schema: json!({"properties": {
                "id": {"type": "integer"},
                "at": {"type": "string", "format": "date-time"},
                "tags": {"type": "array"},
                "name": {"type": "string"},
                "address": {"type": ["null", "object"], "properties": {
                    "city": {"type": "string"}, "geo": {"type": "object", "properties": {"lat": {"type": "number"}}},
                }},
            }}),
            primary_key: primary_key
                .iter()
                .map(|path| path.iter().map(|part| (*part).to_owned()).collect())
                .collect(),
            mode: LoadMode::Upsert,
            generation: 0,
        };
        StreamTable::of(&spec, dialect("postgres").unwrap(), nested).unwrap()
    }

    fn table(primary_key: &[&[&str]]) -> StreamTable {
        table_with(primary_key, Nested::Json)
    }

    const ORIGIN: Origin = Origin { partition: 0, offset: 7, emitted_at: DateTime::UNIX_EPOCH };

    /// The one row of a record, and how many of its values are null.
    struct OneRow {
        cells: Row,
        undeclared: TableSchema,
        nulled: u64,
    }

    fn row(table: &StreamTable, json: &str) -> Result<OneRow, Reason> {
        let mut record = rows_of(table, json.as_bytes(), ORIGIN, dialect("postgres").unwrap())?;
        assert_eq!(record.rows.len(), 1);
        let TableRow { cells, undeclared, .. } = record.rows.remove(0);
        Ok(OneRow { cells, undeclared, nulled: record.nulled })
    }

    fn cells(expected: &[(&str, Cell)]) -> Row {
        let extracted_at = (super::super::table::EXTRACTED_AT, Cell::DateTime(0));
        let all = expected.iter().chain([&extracted_at]);
        all.map(|(name, cell)| ((*name).to_owned(), cell.clone())).collect()
    }

    #[test]
    fn fields_become_cells_of_their_declared_types() {
        let json = r#"{"id": 7, "at": "2026-01-01T00:00:00.000001+01:00", "tags": ["a"], "name": null, "extra": 1.5}"#;
        let row = row(&table(&[]), json).unwrap();
        let expected = cells(&[
            ("at", Cell::DateTime(1_767_222_000_000_001)),
            ("id", Cell::Int(7)),
            ("extra", Cell::Float(1.5)),
            ("tags", Cell::Json("[\"a\"]".into())),
        ]);
        assert_eq!(row.cells, expected);
        assert_eq!(row.undeclared, TableSchema::from([("extra".into(), FieldType::Float)]));
        assert_eq!(row.nulled, 0);
    }

    #[test]
    fn a_value_that_does_not_fit_is_null_and_stands_in_meta() {
        let json = r#"{"id": "x", "at": "soon", "name": 18446744073709551615}"#;
        let row = row(&table(&[]), json).unwrap();
        let meta = json!({"changes": [
            {"field": "at", "change": "NULLED", "reason": "DESTINATION_TYPECAST_ERROR", "value": "\"soon\""},
            {"field": "id", "change": "NULLED", "reason": "DESTINATION_TYPECAST_ERROR", "value": "\"x\""},
        ]});
        let expected = cells(&[
            ("_meta", Cell::Json(meta.to_string())),
            ("name", Cell::String("18446744073709551615".into())),
        ]);
        assert_eq!((row.cells, row.nulled), (expected, 2));
    }

    #[test]
    fn nested_objects_are_json_or_columns() {
        let json = r#"{"id": 1, "address": {"city": "Boxford", "geo": {"lat": 51.5, "Lon": 1}}, "more": {"a": {"b": true}}}"#;
        let whole = row(&table(&[]), json).unwrap().cells;
        assert_eq!(whole["more"], Cell::Json(r#"{"a": {"b": true}}"#.into()));
        assert!(matches!(&whole["address"], Cell::Json(text) if text.contains("Boxford")));
        let flat = row(&table_with(&[], Nested::Flatten), json).unwrap();
        let expected = cells(&[
            ("id", Cell::Int(1)),
            ("address_city", Cell::String("Boxford".into())),
            ("address_geo_lat", Cell::Float(51.5)),
            ("address_geo_lon", Cell::Int(1)),
            ("more_a_b", Cell::Boolean(true)),
        ]);
        assert_eq!(flat.cells, expected);
        let names: Vec<&str> = flat.undeclared.keys().map(String::as_str).collect();
        assert_eq!(names, ["address_geo_lon", "more_a_b"]);
        let no_object = row(&table_with(&[], Nested::Flatten), r#"{"address": "Boxford"}"#).unwrap();
        assert_eq!(no_object.nulled, 1);
    }

    #[test]
    fn lists_become_tables_whose_rows_know_their_parents() {
        let order = json!({"type": "object", "properties": {
            "sku": {"type": "string"}, "marks": {"type": "array", "items": {"type": "integer"}},
        }});
        let spec = StreamSpec {
            name: "Orders".into(),
            namespace: None,
            json_schema: json!({"properties": {
                "id": {"type": "integer"}, "lines": {"type": ["null", "array"], "items": order},
            }}),
            primary_key: vec![vec!["id".into()]],
            mode: LoadMode::Append,
            generation: 0,
        };
        let postgres = dialect("postgres").unwrap();
        let table = StreamTable::of(&spec, postgres, Nested::Tables).unwrap();
        let names: Vec<&str> = table.with_lists().iter().map(|table| table.name.as_str()).collect();
        assert_eq!(names, ["orders", "orders__lines", "orders__lines__marks"]);
        let json =
            br#"{"id": 1, "lines": [{"sku": "a", "marks": [4, "x"]}, null, {"sku": "b", "extra": true}]}"#;
        let record = rows_of(&table, json, ORIGIN, postgres).unwrap();
        let text = |row: &TableRow<'_>, column: &str| row.cells.get(column).cloned();
        let shown: Vec<_> =
            record.rows.iter().map(|row| (row.table.name.as_str(), text(row, "_millrace_index"))).collect();
        let index = |place| Some(Cell::Int(place));
        assert_eq!(
            shown,
            [
                ("orders", None),
                ("orders__lines__marks", index(0)),
                ("orders__lines__marks", index(1)),
                ("orders__lines", index(0)),
                ("orders__lines", index(1)),
                ("orders__lines", index(2)),
            ]
        );
        let [order, four, bad, first, _, last] = <&[_; 6]>::try_from(record.rows.as_slice()).unwrap();
        assert!(text(order, "_millrace_id").is_some());
        assert_eq!(text(first, "_millrace_parent_id"), text(order, "_millrace_id"));
        assert_eq!(text(four, "_millrace_parent_id"), text(first, "_millrace_id"));
        assert_eq!((text(four, "value"), text(bad, "value")), (Some(Cell::Int(4)), None));
        assert!(text(bad, "_meta").is_some());
        assert_eq!(last.undeclared["extra"], FieldType::Boolean);
        assert_eq!(record.nulled, 1);
        assert_eq!(rows_of(&table, json, ORIGIN, postgres).unwrap(), record, "the same each time");
        let by_key = StreamSpec { mode: LoadMode::Upsert, ..spec };
        let table = StreamTable::of(&by_key, postgres, Nested::Tables).unwrap();
        assert_eq!((table.with_lists().len(), table.columns["lines"]), (1, FieldType::Json));
    }

    #[test]
    fn a_row_is_rejected_when_it_lacks_its_key() {
        let by_id = table(&[&["id"]]);
        let code = |json| row(&by_id, json).map(|_| ()).unwrap_err().code;
        assert_eq!(code(r#"{"name": "a"}"#), "missing_primary_key");
        assert_eq!(code(r#"{"id": null}"#), "missing_primary_key");
        assert_eq!(code(r#"{"id": "x"}"#), "invalid_primary_key");
        assert_eq!(code("[1]"), "invalid_json");
        assert!(row(&by_id, r#"{"id": 1}"#).is_ok());
    }

    #[test]
    fn a_nested_key_is_a_column_of_its_own() {
        let nested = table(&[&["meta", "key"]]);
        let found = row(&nested, r#"{"meta": {"key": "k"}}"#).unwrap();
        assert_eq!(found.cells["meta_key"], Cell::String("k".into()));
        assert_eq!(found.undeclared["meta_key"], FieldType::String);
        assert!(row(&nested, r#"{"meta": {}}"#).is_err());
        let flat = table_with(&[&["address", "city"]], Nested::Flatten);
        assert_eq!(
            row(&flat, r#"{"address": {"city": "c"}}"#).unwrap().cells["address_city"],
            Cell::String("c".into())
        );
    }
}
