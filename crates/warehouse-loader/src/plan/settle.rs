//! Blocks to batches of their table: each column gets the table's type, or its values are discarded.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_columnar::arrow::array::{
    Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray, new_null_array,
};
use millrace_columnar::arrow::compute::filter_record_batch;
use millrace_columnar::arrow::datatypes::SchemaRef;
use millrace_columnar::arrow::error::ArrowError;
use millrace_columnar::{
    Block, BlockColumn, Cell, Coerced, Rows, TableSchema, arrow_type, coerce, schema_of, text_of, widen,
};
use millrace_connector::{Dialect, WriteMode};
use millrace_event_model::FieldType;

use super::exact::{is_beyond, loses};
use super::target::{Fate, Misfit, Target, key_of};
use super::{LOAD_TIME_COLUMNS, PlanError, Stamp};
use crate::discards::{Discards, Place, whole_row};

/// The time zone of moments, as the arrays of a [`Block`] have it.
const UTC: &str = "UTC";

/// The batches of one part, all of one schema; none is empty.
pub(super) fn settle(
    target: &Target<'_>,
    blocks: &[Block],
    write: &WriteMode,
    stamp: Stamp,
    discards: &mut Discards,
) -> Result<Vec<RecordBatch>, PlanError> {
    let columns = columns_of(target, blocks);
    let part = Part { target, write, stamp, schema: schema_of(&columns), columns };
    let mut batches = Vec::with_capacity(blocks.len());
    for block in blocks.iter().filter(|block| block.len > 0) {
        let mut settling = Settling::new(&part, block);
        settling.place();
        settling.lose_rows_without_key()?;
        settling.discard(discards);
        let batch = settling.batch();
        let batch = batch.map_err(|source| PlanError::Batch { table: target.table.to_owned(), source })?;
        if batch.num_rows() > 0 {
            batches.push(batch);
        }
    }
    Ok(batches)
}

/// The columns that the batches have: where the values of the blocks go.
fn columns_of(target: &Target<'_>, blocks: &[Block]) -> TableSchema {
    let mut columns = TableSchema::new();
    for column in blocks.iter().flat_map(|block| &block.columns) {
        let own = match target.fate(column) {
            Fate::Column(own) => own,
            Fate::Strict(own) => {
                let variants = target.variants_of(column).into_iter();
                columns.extend(variants.map(|(name, own)| (name.to_owned(), own)));
                own
            }
            Fate::None(_) => continue,
        };
        columns.insert(column.name.clone(), own);
    }
    columns
}

/// What the blocks of a part have in common.
struct Part<'a> {
    target: &'a Target<'a>,
    write: &'a WriteMode,
    stamp: Stamp,
    columns: TableSchema,
    schema: SchemaRef,
}

/// A value that stays behind.
struct Left {
    row: usize,
    column: String,
    value: String,
    reason: String,
}

/// A block on its way to a batch.
struct Settling<'a> {
    part: &'a Part<'a>,
    block: &'a Block,
    /// Columns of the table; one without any value is not here.
    arrays: BTreeMap<String, ArrayRef>,
    left: Vec<Left>,
    /// Rows that are discarded whole, with the reason.
    lost: BTreeMap<usize, String>,
}

impl<'a> Settling<'a> {
    fn new(part: &'a Part<'a>, block: &'a Block) -> Self {
        Self { part, block, arrays: BTreeMap::new(), left: Vec::new(), lost: BTreeMap::new() }
    }

    fn place(&mut self) {
        if let Some(reason) = self.part.target.refused() {
            self.lost = (0..self.block.len).map(|row| (row, reason.clone())).collect();
            return;
        }
        for column in &self.block.columns {
            self.place_column(column);
        }
        for name in LOAD_TIME_COLUMNS.map(|name| self.part.stamp.name(name)) {
            // A column of our name and another type is somebody else's.
            if self.part.columns.get(&name) == Some(&FieldType::DateTime) {
                self.fill(name);
            }
        }
    }

    fn place_column(&mut self, column: &BlockColumn) {
        let target = self.part.target;
        match target.fate(column) {
            Fate::Column(own) => {
                let misfits = self.put(&column.name, column, own, Loss::Allowed);
                let is = target.type_of(&column.name).unwrap_or(own);
                for (row, cell) in misfits {
                    let (value, reason) = match coerce(cell.clone(), is) {
                        Coerced::Discarded { value, reason } => (value, reason),
                        Coerced::Converted(_) => (text_of(cell), format!("it is beyond what {is} can hold")),
                    };
                    self.left.push(Left { row, column: column.name.clone(), value, reason });
                }
            }
            Fate::Strict(own) => {
                let mut by_type: BTreeMap<FieldType, Vec<(usize, Cell)>> = BTreeMap::new();
                for (row, cell) in self.put(&column.name, column, own, Loss::Refused) {
                    let own = cell.field_type().unwrap_or(own);
                    by_type.entry(own).or_default().push((row, cell));
                }
                for (own, cells) in by_type {
                    self.place_misfits(&column.name, cells, target.misfit(&column.name, own));
                }
            }
            Fate::None(misfit) => {
                let cells = (0..self.block.len).map(|row| (row, column.cell(row)));
                let cells = cells.filter(|(_, cell)| *cell != Cell::Null).collect();
                self.place_misfits(&column.name, cells, misfit);
            }
        }
    }

    fn place_misfits(&mut self, column: &str, cells: Vec<(usize, Cell)>, misfit: Misfit<'_>) {
        match misfit {
            Misfit::Value(reason) => self.leave(column, cells, &reason),
            Misfit::Row(reason) => {
                for (row, _) in cells {
                    self.lost.entry(row).or_insert_with(|| reason.clone());
                }
            }
            Misfit::Variant(variant, own) => {
                let name = variant.to_owned();
                let reason = format!("column {variant} cannot hold it");
                // The source has a field of that name too: its values stay, and ours are kept as text. And a key
                // beside its column would be none.
                let is_key = key_of(self.part.write).iter().any(|key| key == column);
                if is_key || self.block.column(variant).is_some() {
                    return self.leave(column, cells, &reason);
                }
                let aside = BlockColumn { name, field_type: own, values: None, misfits: cells };
                let misfits = self.put(variant, &aside, own, Loss::Allowed);
                self.leave(column, misfits, &reason);
            }
        }
    }

    fn leave(&mut self, column: &str, cells: Vec<(usize, Cell)>, reason: &str) {
        let left = |(row, cell)| Left {
            row,
            column: column.to_owned(),
            value: text_of(cell),
            reason: reason.to_owned(),
        };
        self.left.extend(cells.into_iter().map(left));
    }

    /// Converts a column and keeps it; returns what does not fit.
    fn put(&mut self, name: &str, column: &BlockColumn, own: FieldType, loss: Loss) -> Vec<(usize, Cell)> {
        let (array, misfits) = convert(column, own, self.block.len, loss, self.part.target.dialect());
        if let Some(array) = array {
            self.arrays.insert(name.to_owned(), array);
        }
        misfits
    }

    /// The load's time, in the rows that have no such value of their own.
    fn fill(&mut self, name: String) {
        let (micros, len) = (self.part.stamp.at.timestamp_micros(), self.block.len);
        let filled = match self.arrays.contains_key(&name) {
            false => TimestampMicrosecondArray::from_value(micros, len),
            true => {
                TimestampMicrosecondArray::from_iter_values((0..len).map(|row| match self.cell(&name, row) {
                    Cell::DateTime(given) => given,
                    _ => micros,
                }))
            }
        };
        self.arrays.insert(name, Arc::new(filled.with_timezone(UTC)));
    }

    /// A value of the row as it is settled.
    fn cell(&self, column: &str, row: usize) -> Cell {
        let settled = (self.arrays.get(column), self.part.columns.get(column));
        let (Some(values), Some(own)) = settled else { return Cell::Null };
        let values = Some(Arc::clone(values));
        BlockColumn { name: String::new(), field_type: *own, values, misfits: Vec::new() }.cell(row)
    }

    /// A row whose key does not say which it is cannot be found again.
    ///
    /// # Errors
    /// [`PlanError::KeyDoesNotFit`]: it has a key, and the column cannot hold it.
    fn lose_rows_without_key(&mut self) -> Result<(), PlanError> {
        for column in key_of(self.part.write) {
            let array = self.arrays.get(column);
            if array.is_some_and(|array| array.null_count() == 0) {
                continue;
            }
            for row in 0..self.block.len {
                if array.is_some_and(|array| array.is_valid(row)) || self.lost.contains_key(&row) {
                    continue;
                }
                if self.left.iter().any(|left| left.row == row && left.column == *column) {
                    let is = self.part.columns.get(column).copied().unwrap_or(FieldType::String);
                    let (table, column) = (self.part.target.table.to_owned(), column.clone());
                    return Err(PlanError::KeyDoesNotFit { table, column, is });
                }
                self.lost.insert(row, format!("the row has no {column}, its key"));
            }
        }
        Ok(())
    }

    fn discard(&mut self, discards: &mut Discards) {
        self.left.sort_by_key(|left| left.row);
        let place = |row: usize| {
            let cell = |column: &str| self.cell(column, row);
            Place::of(self.part.target.table, self.part.write, self.part.stamp, cell)
        };
        for left in self.left.iter().filter(|left| !self.lost.contains_key(&left.row)) {
            discards.add(&place(left.row), Some(&left.column), &left.value, &left.reason);
        }
        for (row, reason) in &self.lost {
            discards.add(&place(*row), None, &whole_row(self.block, *row), reason);
        }
    }

    fn batch(mut self) -> Result<RecordBatch, ArrowError> {
        let len = self.block.len;
        let mut array = |(name, own): (&String, &FieldType)| {
            self.arrays.remove(name).unwrap_or_else(|| new_null_array(&arrow_type(*own), len))
        };
        let arrays = self.part.columns.iter().map(&mut array).collect();
        // Without columns the count of rows would be lost.
        let options = RecordBatchOptions::new().with_row_count(Some(len));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.part.schema), arrays, &options)?;
        if self.lost.is_empty() {
            return Ok(batch);
        }
        let kept: BooleanArray = (0..len).map(|row| Some(!self.lost.contains_key(&row))).collect();
        filter_record_batch(&batch, &kept)
    }
}

/// Whether a conversion may lose a part of a value: of events it may, as RudderStack's does.
#[derive(Clone, Copy, PartialEq)]
enum Loss {
    Allowed,
    Refused,
}

/// The column as of a type, and the values that it cannot be.
fn convert(
    column: &BlockColumn,
    own: FieldType,
    len: usize,
    loss: Loss,
    dialect: &Dialect,
) -> (Option<ArrayRef>, Vec<(usize, Cell)>) {
    let same = column.field_type == own || (widen::is_text(column.field_type) && widen::is_text(own));
    if same && column.misfits.is_empty() {
        return (column.values.clone(), Vec::new());
    }
    let mut misfits = Vec::new();
    let mut rows = Rows::default();
    let id = rows.column(&column.name, own);
    for row in 0..len {
        let cell = column.cell(row);
        if (loss == Loss::Refused && loses(&cell, own)) || is_beyond(&cell, own, dialect) {
            misfits.push((row, cell));
            rows.push([]);
            continue;
        }
        // A copy, since a misfit may have to go elsewhere as it came.
        match coerce(cell.clone(), own) {
            Coerced::Converted(fitting) => rows.push([(id, (&fitting).into())]),
            Coerced::Discarded { .. } => {
                misfits.push((row, cell));
                rows.push([]);
            }
        }
    }
    (rows.finish().columns.pop().and_then(|made| made.values), misfits)
}
