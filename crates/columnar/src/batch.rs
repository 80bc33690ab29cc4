//! Rows to Arrow and back.
//!
//! `string`, `text`, `json`, `decimal`, `time` and `uuid` are all Utf8 in Arrow: all but the first say which they
//! are in the field's metadata under [`TYPE_KEY`], so that a warehouse can tell.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanBuilder, Date32Builder, Float64Builder, Int64Builder, RecordBatch,
    RecordBatchOptions, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{
    DataType, Date32Type, Field, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit,
    TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use millrace_event_model::FieldType;

use crate::{Cell, Row, TableSchema};

/// The key of the field metadata that tells the other kinds of text from `string`.
pub const TYPE_KEY: &str = "millrace.type";

/// The time zone of every moment.
pub(crate) const UTC: &str = "UTC";

/// Rows and columns do not fit together.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// A cell is not of its column's type: it was not coerced.
    #[error("column {column:?} is {expected}, but a row holds {found}")]
    WrongType {
        /// The column.
        column: String,
        /// Its type.
        expected: FieldType,
        /// The cell's type.
        found: FieldType,
    },
    /// An Arrow column is not of a type that [`schema_of`] makes.
    #[error("column {column:?} has the Arrow type {found}, which no row has")]
    ForeignType {
        /// The column.
        column: String,
        /// Its type.
        found: DataType,
    },
    /// Arrow refused.
    #[error("cannot make an Arrow batch")]
    Arrow(#[from] ArrowError),
}

/// The Arrow schema of a table: columns sorted by name, all nullable.
#[must_use]
pub fn schema_of(columns: &TableSchema) -> SchemaRef {
    let fields: Vec<Field> = columns.iter().map(|(name, column)| field_of(name, *column)).collect();
    Arc::new(Schema::new(fields))
}

fn field_of(name: &str, column: FieldType) -> Field {
    let field = Field::new(name, arrow_type(column), true);
    match column {
        FieldType::Text | FieldType::Json | FieldType::Decimal | FieldType::Time | FieldType::Uuid => {
            field.with_metadata(HashMap::from([(TYPE_KEY.to_owned(), column.as_str().to_owned())]))
        }
        _ => field,
    }
}

/// The Arrow type of a column.
#[must_use]
pub fn arrow_type(column: FieldType) -> DataType {
    match column {
        FieldType::Int => DataType::Int64,
        FieldType::Float => DataType::Float64,
        FieldType::Boolean => DataType::Boolean,
        FieldType::DateTime => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        FieldType::LocalDateTime => DataType::Timestamp(TimeUnit::Microsecond, None),
        FieldType::Date => DataType::Date32,
        FieldType::String
        | FieldType::Text
        | FieldType::Json
        | FieldType::Decimal
        | FieldType::Time
        | FieldType::Uuid => DataType::Utf8,
    }
}

/// The columns of an Arrow schema: the inverse of [`schema_of`]. A foreign type becomes the one that
/// holds its values: whole numbers `int`, lists and structs `json`, all else that no type is made for `string`.
#[must_use]
pub fn table_schema_of(schema: &Schema) -> TableSchema {
    schema.fields().iter().map(|field| (field.name().clone(), field_type_of(field))).collect()
}

/// The column type of one Arrow field; see [`table_schema_of`].
#[must_use]
pub fn field_type_of(field: &Field) -> FieldType {
    match field.metadata().get(TYPE_KEY).map(String::as_str) {
        Some("json") => return FieldType::Json,
        Some("text") => return FieldType::Text,
        Some("decimal") => return FieldType::Decimal,
        Some("time") => return FieldType::Time,
        Some("uuid") => return FieldType::Uuid,
        _ => {}
    }
    let data_type = field.data_type();
    match data_type {
        DataType::Boolean => FieldType::Boolean,
        DataType::Date32 => FieldType::Date,
        DataType::Timestamp(_, None) => FieldType::LocalDateTime,
        DataType::Date64 | DataType::Timestamp(_, Some(_)) => FieldType::DateTime,
        DataType::Time32(_) | DataType::Time64(_) => FieldType::Time,
        _ if data_type.is_integer() => FieldType::Int,
        _ if data_type.is_decimal() => FieldType::Decimal,
        _ if data_type.is_floating() => FieldType::Float,
        _ if data_type.is_nested() => FieldType::Json,
        _ => FieldType::String,
    }
}

/// The rows as an Arrow batch with the schema of [`schema_of`]. A column that a row lacks is null; a cell
/// that is no column of the table is left out.
///
/// # Errors
/// A cell is not of its column's type: [`coerce`](crate::coerce()) it first.
pub fn batch_of(columns: &TableSchema, rows: &[Row]) -> Result<RecordBatch, BatchError> {
    let arrays: Vec<ArrayRef> =
        columns.iter().map(|(name, column)| array_of(name, *column, rows)).collect::<Result<_, _>>()?;
    // Without columns the count of rows would be lost.
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    Ok(RecordBatch::try_new_with_options(schema_of(columns), arrays, &options)?)
}

/// One loop for all types: `$unwrap` takes the cell of the right type apart.
macro_rules! build {
    ($builder:expr, $name:expr, $column:expr, $rows:expr, $unwrap:pat => $value:expr) => {{
        let mut builder = $builder;
        for row in $rows {
            match row.get($name) {
                None | Some(Cell::Null) => builder.append_null(),
                Some($unwrap) => builder.append_value($value),
                Some(other) => return Err(wrong_type($name, $column, other)),
            }
        }
        Arc::new(builder.finish())
    }};
}

fn array_of(name: &str, column: FieldType, rows: &[Row]) -> Result<ArrayRef, BatchError> {
    let count = rows.len();
    Ok(match column {
        FieldType::Int => {
            build!(Int64Builder::with_capacity(count), name, column, rows, Cell::Int(value) => *value)
        }
        FieldType::Float => {
            build!(Float64Builder::with_capacity(count), name, column, rows, Cell::Float(value) => *value)
        }
        FieldType::Boolean => {
            build!(BooleanBuilder::with_capacity(count), name, column, rows, Cell::Boolean(value) => *value)
        }
        FieldType::DateTime => {
            let builder = TimestampMicrosecondBuilder::with_capacity(count).with_timezone(UTC);
            build!(builder, name, column, rows, Cell::DateTime(micros) => *micros)
        }
        FieldType::String | FieldType::Text => {
            build!(StringBuilder::new(), name, column, rows, Cell::String(text) => text)
        }
        FieldType::Json => build!(StringBuilder::new(), name, column, rows, Cell::Json(text) => text),
        FieldType::Decimal => build!(StringBuilder::new(), name, column, rows, Cell::Decimal(text) => text),
        FieldType::Time => build!(StringBuilder::new(), name, column, rows, Cell::Time(text) => text),
        FieldType::Uuid => build!(StringBuilder::new(), name, column, rows, Cell::Uuid(text) => text),
        FieldType::Date => {
            build!(Date32Builder::with_capacity(count), name, column, rows, Cell::Date(days) => *days)
        }
        FieldType::LocalDateTime => {
            let builder = TimestampMicrosecondBuilder::with_capacity(count);
            build!(builder, name, column, rows, Cell::LocalDateTime(micros) => *micros)
        }
    })
}

fn wrong_type(column: &str, expected: FieldType, cell: &Cell) -> BatchError {
    // Null fits every column, so a cell that does not fit has a type.
    let found = cell.field_type().unwrap_or(expected);
    BatchError::WrongType { column: column.to_owned(), expected, found }
}

/// The rows of a batch whose schema [`schema_of`] made. Nulls are left out.
///
/// # Errors
/// A column has an Arrow type that [`schema_of`] does not make.
pub fn rows_of(batch: &RecordBatch) -> Result<Vec<Row>, BatchError> {
    let mut rows = vec![Row::new(); batch.num_rows()];
    for (field, array) in batch.schema().fields().iter().zip(batch.columns()) {
        let column = field_type_of(field);
        if *field.data_type() != arrow_type(column) {
            return Err(BatchError::ForeignType {
                column: field.name().clone(),
                found: field.data_type().clone(),
            });
        }
        for (index, row) in rows.iter_mut().enumerate().filter(|(index, _)| array.is_valid(*index)) {
            row.insert(field.name().clone(), cell_at(array, column, index));
        }
    }
    Ok(rows)
}

/// The caller has checked that the array is of the column's Arrow type and valid at the index.
pub(crate) fn cell_at(array: &ArrayRef, column: FieldType, index: usize) -> Cell {
    match column {
        FieldType::Int => Cell::Int(array.as_primitive::<Int64Type>().value(index)),
        FieldType::Float => Cell::Float(array.as_primitive::<Float64Type>().value(index)),
        FieldType::Boolean => Cell::Boolean(array.as_boolean().value(index)),
        FieldType::DateTime => Cell::DateTime(array.as_primitive::<TimestampMicrosecondType>().value(index)),
        FieldType::String | FieldType::Text => Cell::String(array.as_string::<i32>().value(index).to_owned()),
        FieldType::Json => Cell::Json(array.as_string::<i32>().value(index).to_owned()),
        FieldType::Decimal => Cell::Decimal(array.as_string::<i32>().value(index).to_owned()),
        FieldType::Time => Cell::Time(array.as_string::<i32>().value(index).to_owned()),
        FieldType::Uuid => Cell::Uuid(array.as_string::<i32>().value(index).to_owned()),
        FieldType::Date => Cell::Date(array.as_primitive::<Date32Type>().value(index)),
        FieldType::LocalDateTime => {
            Cell::LocalDateTime(array.as_primitive::<TimestampMicrosecondType>().value(index))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
pub(crate) mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn any_type() -> impl Strategy<Value = FieldType> {
        prop_oneof![
            Just(FieldType::Int),
            Just(FieldType::Float),
            Just(FieldType::Boolean),
            Just(FieldType::DateTime),
            Just(FieldType::String),
            Just(FieldType::Text),
            Just(FieldType::Json),
            Just(FieldType::Decimal),
            Just(FieldType::Date),
            Just(FieldType::Time),
            Just(FieldType::LocalDateTime),
            Just(FieldType::Uuid),
        ]
    }

    pub(crate) fn any_cell() -> impl Strategy<Value = Cell> {
        prop_oneof![Just(Cell::Null), any_type().prop_flat_map(cell_of)]
    }

    fn cell_of(column: FieldType) -> BoxedStrategy<Cell> {
        match column {
            FieldType::Int => any::<i64>().prop_map(Cell::Int).boxed(),
            FieldType::Float => any::<f64>().prop_map(Cell::Float).boxed(),
            FieldType::Boolean => any::<bool>().prop_map(Cell::Boolean).boxed(),
            FieldType::DateTime => any::<i64>().prop_map(Cell::DateTime).boxed(),
            FieldType::String | FieldType::Text => any::<String>().prop_map(Cell::String).boxed(),
            FieldType::Json => any::<i64>().prop_map(|value| Cell::Json(format!("[{value}]"))).boxed(),
            FieldType::Decimal => {
                any::<(i64, u32)>().prop_map(|(whole, part)| Cell::Decimal(format!("{whole}.{part}"))).boxed()
            }
            FieldType::Date => any::<i32>().prop_map(Cell::Date).boxed(),
            FieldType::Time => {
                (0..24_u8, 0..60_u8).prop_map(|(h, m)| Cell::Time(format!("{h:02}:{m:02}:00"))).boxed()
            }
            FieldType::LocalDateTime => any::<i64>().prop_map(Cell::LocalDateTime).boxed(),
            FieldType::Uuid => any::<u64>()
                .prop_map(|n| Cell::Uuid(format!("{:08x}-0000-4000-8000-{:012x}", n >> 32, n & 0xFFFF_FFFF)))
                .boxed(),
        }
    }

    /// A table with rows that fit it; cells are missing here and there.
    pub(crate) fn any_rows() -> impl Strategy<Value = (TableSchema, Vec<Row>)> {
        btree_map("[a-z]{1,3}", any_type(), 0..5).prop_flat_map(|columns: TableSchema| {
            let cells: Vec<_> = columns
                .iter()
                .map(|(name, column)| (Just(name.clone()), option::of(cell_of(*column))))
                .collect();
            let row = cells.prop_map(|cells| {
                cells.into_iter().filter_map(|(name, cell)| Some((name, cell?))).collect::<Row>()
            });
            (Just(columns), vec(row, 0..20))
        })
    }

    proptest! {
        #[test]
        fn rows_survive_the_way_to_arrow_and_back((columns, rows) in any_rows()) {
            let batch = batch_of(&columns, &rows).unwrap();
            prop_assert_eq!(batch.num_rows(), rows.len());
            prop_assert_eq!(rows_of(&batch).unwrap(), rows);
        }

        #[test]
        fn a_table_survives_the_way_to_arrow_and_back(
            columns in btree_map("[a-z]{1,3}", any_type(), 0..5),
        ) {
            prop_assert_eq!(table_schema_of(&schema_of(&columns)), columns);
        }
    }

    #[test]
    fn a_cell_of_another_type_is_an_error_that_names_the_column() {
        let columns = TableSchema::from([("total".to_owned(), FieldType::Int)]);
        let row = Row::from([("total".to_owned(), Cell::String("3".to_owned()))]);
        let error = batch_of(&columns, &[row]).unwrap_err();
        assert_eq!(error.to_string(), "column \"total\" is int, but a row holds string");
    }

    #[test]
    fn foreign_arrow_types_have_a_column_type() {
        let schema = Schema::new(vec![
            Field::new("u", DataType::UInt16, false),
            Field::new("d", DataType::Decimal128(10, 2), true),
            Field::new("day", DataType::Date32, true),
            Field::new("l", DataType::new_list(DataType::Int64, true), true),
            Field::new("v", DataType::Utf8View, true),
            Field::new("b", DataType::Binary, true),
        ]);
        let expected = [
            ("u", FieldType::Int),
            ("d", FieldType::Decimal),
            ("day", FieldType::Date),
            ("l", FieldType::Json),
            ("v", FieldType::String),
            ("b", FieldType::String),
        ];
        let expected: TableSchema = expected.into_iter().map(|(name, own)| (name.to_owned(), own)).collect();
        assert_eq!(table_schema_of(&schema), expected);
    }
}
