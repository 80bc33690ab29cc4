//! Rows by key: which rows of a file a batch replaces, and what a merged row is. Pure functions over Arrow.

use std::collections::HashMap;
use std::sync::Arc;

use millrace_columnar::arrow::array::{
    Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array,
};
use millrace_columnar::arrow::compute::{
    CastOptions, cast_with_options, concat_batches, filter_record_batch, take,
};
use millrace_columnar::arrow::datatypes::{Schema, SchemaRef};
use millrace_columnar::arrow::error::ArrowError;
use millrace_columnar::arrow::row::{RowConverter, Rows, SortField};

/// A value that does not fit its column is an error, never a silent null.
const STRICT: CastOptions<'static> = CastOptions {
    safe: false,
    format_options: millrace_columnar::arrow::util::display::FormatOptions::new(),
};

/// The keys of a batch, each with the number of its row.
pub(crate) struct Keys {
    columns: Vec<String>,
    converter: RowConverter,
    rows: HashMap<Box<[u8]>, usize>,
}

impl Keys {
    /// The keys of a batch in which no key is there twice.
    pub(crate) fn of(batch: &RecordBatch, columns: &[String]) -> Result<Self, ArrowError> {
        let arrays = columns_of(batch, columns)?;
        let fields = arrays.iter().map(|array| SortField::new(array.data_type().clone())).collect();
        let converter = RowConverter::new(fields)?;
        let encoded = converter.convert_columns(&arrays)?;
        let rows = encoded.iter().enumerate().map(|(row, key)| (Box::from(key.as_ref()), row)).collect();
        Ok(Self { columns: columns.to_vec(), converter, rows })
    }

    /// For each row of a batch of the same column types, the row that has the same key.
    pub(crate) fn matches(&self, batch: &RecordBatch) -> Result<Vec<Option<usize>>, ArrowError> {
        let encoded: Rows = self.converter.convert_columns(&columns_of(batch, &self.columns)?)?;
        Ok(encoded.iter().map(|key| self.rows.get(key.as_ref()).copied()).collect())
    }
}

/// Rows of the table that have the key of an incoming row.
#[derive(Default)]
pub(crate) struct Matched {
    /// The rows.
    pub(crate) batches: Vec<RecordBatch>,
    /// For each, the incoming row.
    pub(crate) incoming: Vec<usize>,
}

/// Splits a batch of the table's rows: those that stay are returned, the others go to `matched`.
pub(crate) fn split(
    batch: &RecordBatch,
    matches: &[Option<usize>],
    matched: &mut Matched,
) -> Result<RecordBatch, ArrowError> {
    let stays: BooleanArray = matches.iter().map(|row| Some(row.is_none())).collect();
    let goes: BooleanArray = matches.iter().map(|row| Some(row.is_some())).collect();
    matched.batches.push(filter_record_batch(batch, &goes)?);
    matched.incoming.extend(matches.iter().flatten());
    filter_record_batch(batch, &stays)
}

/// Merges each incoming row with the rows of its key: column by column, the newest by `order` that is not
/// null wins. A row without an order is the oldest; of two alike, the incoming one is the newer. All
/// batches have one schema.
pub(crate) fn merge_latest(
    incoming: &RecordBatch,
    matched: &Matched,
    order: &str,
) -> Result<RecordBatch, ArrowError> {
    let all = concat_batches(&incoming.schema(), std::iter::once(incoming).chain(&matched.batches))?;
    let order_column = columns_of(&all, &[order.to_owned()])?;
    let fields = order_column.iter().map(|array| SortField::new(array.data_type().clone())).collect();
    // Encoded rows compare as their values do, nulls first.
    let moments = RowConverter::new(fields)?.convert_columns(&order_column)?;

    let mut candidates: Vec<Vec<usize>> = (0..incoming.num_rows()).map(|row| vec![row]).collect();
    for (place, row) in matched.incoming.iter().enumerate() {
        if let Some(of_row) = candidates.get_mut(*row) {
            of_row.push(incoming.num_rows() + place);
        }
    }
    for of_row in &mut candidates {
        // Stable: the incoming row, which is first, stays before its equals.
        of_row.sort_by(|a, b| moments.row(*b).cmp(&moments.row(*a)));
    }
    let columns = all.columns().iter().map(|column| take(column, &winners(column, &candidates), None));
    RecordBatch::try_new(incoming.schema(), columns.collect::<Result<_, _>>()?)
}

/// For each row, the first of its candidates that is not null in this column.
fn winners(column: &ArrayRef, candidates: &[Vec<usize>]) -> UInt32Array {
    let winner = |of_row: &Vec<usize>| {
        let not_null = of_row.iter().find(|row| column.is_valid(**row));
        // Arrow's batches have fewer rows than u32 can count: their text offsets are 32 bits too.
        not_null.or(of_row.first()).and_then(|row| u32::try_from(*row).ok())
    };
    candidates.iter().map(winner).collect()
}

/// The batch with these columns: cast where it has another type, null where it lacks one.
pub(crate) fn fit(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = schema.fields().iter().map(|field| match batch.column_by_name(field.name()) {
        None => Ok(new_null_array(field.data_type(), batch.num_rows())),
        Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
        Some(column) => cast_with_options(column, field.data_type(), &STRICT),
    });
    RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_, _>>()?)
}

/// The same columns as other types, by position: a query may give two columns one name.
pub(crate) fn recast(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| cast_with_options(column, field.data_type(), &STRICT));
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns.collect::<Result<_, _>>()?, &options)
}

/// The columns of the table that the batch has, in the table's order and types. `None`: the batch has one
/// that the table has not.
pub(crate) fn common_columns(table: &SchemaRef, batch: &RecordBatch) -> Option<SchemaRef> {
    let has = |name: &str| batch.column_by_name(name).is_some();
    let fields: Vec<_> = table.fields().iter().filter(|field| has(field.name())).cloned().collect();
    (fields.len() == batch.num_columns()).then(|| Arc::new(Schema::new(fields)))
}

fn columns_of(batch: &RecordBatch, names: &[String]) -> Result<Vec<ArrayRef>, ArrowError> {
    let column = |name: &String| {
        let found = batch.column_by_name(name).cloned();
        found.ok_or_else(|| ArrowError::SchemaError(format!("there is no column {name:?} to merge by")))
    };
    names.iter().map(column).collect()
}
