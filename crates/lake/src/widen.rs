//! Rows with columns of wider types. Pure functions over Arrow.

use std::sync::Arc;

use millrace_columnar::arrow::array::{ArrayRef, RecordBatch};
use millrace_columnar::arrow::compute::cast;
use millrace_columnar::arrow::datatypes::{DataType, Schema};
use millrace_columnar::arrow::error::ArrowError;
use millrace_columnar::{Cell, Coerced, Row, TableSchema, batch_of, coerce, rows_of, schema_of};
use millrace_event_model::FieldType;

use crate::columns::stored_schema;
use crate::merge::fit;

/// The rows of a table with columns `from`, as a table with columns `to` has them. A value becomes what the
/// loader would have made of it had the column been wider from the start.
///
/// # Errors
/// A value does not fit the new type: it is not wider.
pub(crate) fn widened(
    rows: &RecordBatch,
    from: &TableSchema,
    to: &TableSchema,
) -> Result<RecordBatch, ArrowError> {
    let target = stored_schema(to);
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(target.fields().len());
    for field in target.fields() {
        let own = (from.get(field.name()), to.get(field.name()));
        let (Some(array), (Some(from), Some(to))) = (rows.column_by_name(field.name()), own) else {
            return Err(ArrowError::SchemaError(format!("there is no column {:?} to widen", field.name())));
        };
        let wide = if from == to { Arc::clone(array) } else { convert(field.name(), array, *from, *to)? };
        columns.push(wide);
    }
    fit(&RecordBatch::try_new(untyped(&target, &columns), columns)?, &target)
}

fn convert(name: &str, array: &ArrayRef, from: FieldType, to: FieldType) -> Result<ArrayRef, ArrowError> {
    let column = |field_type| TableSchema::from([(name.to_owned(), field_type)]);
    let plain =
        if array.data_type().is_decimal() { cast(array, &DataType::Utf8)? } else { Arc::clone(array) };
    let narrow = RecordBatch::try_new(schema_of(&column(from)), vec![plain])?;
    let misfit = || ArrowError::CastError(format!("a value of column {name:?} does not fit type {to}"));
    let rows = rows_of(&narrow).map_err(|error| ArrowError::ExternalError(error.into()))?;
    let mut wide = Vec::with_capacity(rows.len());
    for row in rows {
        let mut wider = Row::new();
        for (name, cell) in row {
            match coerce(shortest(cell), to) {
                Coerced::Converted(cell) => wider.insert(name, cell),
                Coerced::Discarded { .. } => return Err(misfit()),
            };
        }
        wide.push(wider);
    }
    let batch = batch_of(&column(to), &wide).map_err(|error| ArrowError::ExternalError(error.into()))?;
    batch.column_by_name(name).cloned().ok_or_else(misfit)
}

/// A decimal without the zeros that its column put at its end.
fn shortest(cell: Cell) -> Cell {
    match cell {
        Cell::Decimal(text) if text.contains('.') => {
            Cell::Decimal(text.trim_end_matches('0').trim_end_matches('.').to_owned())
        }
        other => other,
    }
}

/// The schema of arrays as they are; decimals are still text.
fn untyped(target: &Schema, columns: &[ArrayRef]) -> Arc<Schema> {
    let fields = target
        .fields()
        .iter()
        .zip(columns)
        .map(|(field, array)| Arc::new(field.as_ref().clone().with_data_type(array.data_type().clone())));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
