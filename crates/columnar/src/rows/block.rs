//! Rows of one table that are complete.

use arrow::array::{Array, ArrayRef};
use millrace_event_model::FieldType;

use crate::batch::cell_at;
use crate::{Cell, Row, TableSchema};

/// Rows of one table, by column. What [`Rows::finish`](crate::Rows::finish) makes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Block {
    /// The columns, by name.
    pub columns: Vec<BlockColumn>,
    /// How many rows there are.
    pub len: usize,
}

/// A column of a [`Block`].
#[derive(Debug, Clone, PartialEq)]
pub struct BlockColumn {
    /// Its name.
    pub name: String,
    /// The type that the rows ask for.
    pub field_type: FieldType,
    /// Values of that type, as long as the block; `None` where no row has one.
    pub values: Option<ArrayRef>,
    /// Values of other types with their rows, in order; `values` is null there.
    pub misfits: Vec<(usize, Cell)>,
}

impl Block {
    /// The columns with their types.
    #[must_use]
    pub fn schema(&self) -> TableSchema {
        self.columns.iter().map(|column| (column.name.clone(), column.field_type)).collect()
    }

    /// A column by its name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&BlockColumn> {
        let found = self.columns.binary_search_by(|column| column.name.as_str().cmp(name));
        self.columns.get(found.ok()?)
    }

    /// The rows one by one, for tests and rare paths. Nulls are left out.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = vec![Row::new(); self.len];
        for column in &self.columns {
            for (row, cell) in column.cells() {
                if let Some(row) = rows.get_mut(row) {
                    row.insert(column.name.clone(), cell);
                }
            }
        }
        rows
    }
}

impl BlockColumn {
    /// The value of a row.
    #[must_use]
    pub fn cell(&self, row: usize) -> Cell {
        let values = self.values.as_ref().filter(|values| row < values.len() && values.is_valid(row));
        if let Some(values) = values {
            return cell_at(values, self.field_type, row);
        }
        let misfit = self.misfits.binary_search_by_key(&row, |(row, _)| *row).ok();
        misfit.and_then(|index| self.misfits.get(index)).map_or(Cell::Null, |(_, cell)| cell.clone())
    }

    fn cells(&self) -> impl Iterator<Item = (usize, Cell)> + '_ {
        let len = self.values.as_ref().map_or(0, |values| values.len());
        let len = self.misfits.last().map_or(len, |(row, _)| len.max(row + 1));
        (0..len).map(|row| (row, self.cell(row))).filter(|(_, cell)| *cell != Cell::Null)
    }

    pub(super) fn into_cells(self) -> Vec<(usize, Cell)> {
        self.cells().collect()
    }
}
