//! Rows of one table as they come together, column by column.
//!
//! A stage that makes a row knows its columns by small numbers and its cells by reference; [`Rows`] copies each
//! value once, into the Arrow array that will be written. Nothing is decided here: a value that is not of its
//! column's type is kept beside the column exactly as it came ([`BlockColumn::misfits`]), for the plan to
//! convert or to discard. [`Rows::finish`] closes the arrays.

mod block;
mod column;

use std::collections::BTreeMap;

use millrace_event_model::FieldType;

pub use block::{Block, BlockColumn};
use column::Column;

use crate::{Cell, Row, TableSchema, widen};

/// A column of one [`Rows`]; worth nothing in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ColumnId(u32);

/// A [`Cell`] whose text is borrowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum CellRef<'a> {
    /// No value.
    Null,
    /// See [`Cell::Int`].
    Int(i64),
    /// See [`Cell::Float`].
    Float(f64),
    /// See [`Cell::Boolean`].
    Boolean(bool),
    /// See [`Cell::DateTime`].
    DateTime(i64),
    /// See [`Cell::String`].
    String(&'a str),
    /// See [`Cell::Json`].
    Json(&'a str),
    /// See [`Cell::Decimal`].
    Decimal(&'a str),
    /// See [`Cell::Date`].
    Date(i32),
    /// See [`Cell::Time`].
    Time(&'a str),
    /// See [`Cell::LocalDateTime`].
    LocalDateTime(i64),
    /// See [`Cell::Uuid`].
    Uuid(&'a str),
}

impl<'a> CellRef<'a> {
    /// The text of a cell that is one.
    pub(crate) fn text(self) -> Option<&'a str> {
        match self {
            Self::String(text)
            | Self::Json(text)
            | Self::Decimal(text)
            | Self::Time(text)
            | Self::Uuid(text) => Some(text),
            _ => None,
        }
    }

    /// A copy that owns its text.
    #[must_use]
    pub fn to_cell(self) -> Cell {
        match self {
            Self::Null => Cell::Null,
            Self::Int(value) => Cell::Int(value),
            Self::Float(value) => Cell::Float(value),
            Self::Boolean(value) => Cell::Boolean(value),
            Self::DateTime(micros) => Cell::DateTime(micros),
            Self::String(text) => Cell::String(text.to_owned()),
            Self::Json(text) => Cell::Json(text.to_owned()),
            Self::Decimal(text) => Cell::Decimal(text.to_owned()),
            Self::Date(days) => Cell::Date(days),
            Self::Time(text) => Cell::Time(text.to_owned()),
            Self::LocalDateTime(micros) => Cell::LocalDateTime(micros),
            Self::Uuid(text) => Cell::Uuid(text.to_owned()),
        }
    }
}

impl<'a> From<&'a Cell> for CellRef<'a> {
    fn from(cell: &'a Cell) -> Self {
        match cell {
            Cell::Null => Self::Null,
            Cell::Int(value) => Self::Int(*value),
            Cell::Float(value) => Self::Float(*value),
            Cell::Boolean(value) => Self::Boolean(*value),
            Cell::DateTime(micros) => Self::DateTime(*micros),
            Cell::String(text) => Self::String(text),
            Cell::Json(text) => Self::Json(text),
            Cell::Decimal(text) => Self::Decimal(text),
            Cell::Date(days) => Self::Date(*days),
            Cell::Time(text) => Self::Time(text),
            Cell::LocalDateTime(micros) => Self::LocalDateTime(*micros),
            Cell::Uuid(text) => Self::Uuid(text),
        }
    }
}

/// Rows of one table, growing.
#[derive(Debug, Default)]
pub struct Rows {
    columns: Vec<Column>,
    ids: BTreeMap<String, ColumnId>,
    len: usize,
    room: usize,
}

impl Rows {
    /// Rows of which there will be about so many: their columns do not grow bit by bit, and not at all for some more.
    #[must_use]
    pub fn with_room(rows: usize) -> Self {
        Self { room: rows + rows / 8, ..Self::default() }
    }

    /// Finds or adds a column. It keeps the type it was first asked for with, as [`widen::union`] says.
    pub fn column(&mut self, name: &str, field_type: FieldType) -> ColumnId {
        if let Some(id) = self.ids.get(name) {
            if let Some(column) = self.columns.get_mut(id.0 as usize) {
                column.retype(widen::union(column.field_type(), field_type));
            }
            return *id;
        }
        // No warehouse has as many columns as 32 bits count.
        let id = ColumnId(u32::try_from(self.columns.len()).unwrap_or(u32::MAX));
        self.columns.push(Column::new(field_type));
        self.ids.insert(name.to_owned(), id);
        id
    }

    /// A column that no row has a cell in: it is filled later.
    pub fn declare(&mut self, name: &str, field_type: FieldType) {
        self.column(name, field_type);
    }

    /// Adds a row. Columns that it does not name are null; it names each at most once.
    pub fn push<'c>(&mut self, cells: impl IntoIterator<Item = (ColumnId, CellRef<'c>)>) {
        for (id, cell) in cells {
            self.set(id, cell);
        }
        self.end_row();
    }

    /// Sets a cell of the row under way, which [`Self::end_row`] must end before the next one or [`Self::finish`]. Each
    /// column is set at most once in a row; an id of other rows is ignored.
    pub fn set(&mut self, id: ColumnId, cell: CellRef<'_>) {
        if let Some(column) = self.columns.get_mut(id.0 as usize) {
            column.push(self.len, cell, self.room);
        }
    }

    /// Ends a row. Columns that were not set are null.
    pub fn end_row(&mut self) {
        self.len += 1;
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The columns with their types.
    #[must_use]
    pub fn columns(&self) -> TableSchema {
        let of_id = |id: &ColumnId| self.columns.get(id.0 as usize).map(Column::field_type);
        self.ids.iter().filter_map(|(name, id)| Some((name.clone(), of_id(id)?))).collect()
    }

    /// Rows that are there one by one, for tests and rare paths. A cell that is no column is left out.
    #[must_use]
    pub fn of(columns: &TableSchema, rows: &[Row]) -> Self {
        let mut all = Self::default();
        for (name, field_type) in columns {
            all.declare(name, *field_type);
        }
        let ids = all.ids.clone();
        for row in rows {
            all.push(row.iter().filter_map(|(name, cell)| Some((*ids.get(name)?, cell.into()))));
        }
        all
    }

    /// The rows, with no more to come.
    #[must_use]
    pub fn finish(self) -> Block {
        let len = self.len;
        let mut columns: Vec<Option<Column>> = self.columns.into_iter().map(Some).collect();
        let mut take = |id: ColumnId| columns.get_mut(id.0 as usize)?.take();
        let named = self.ids.into_iter().filter_map(|(name, id)| Some(take(id)?.finish(name, len)));
        Block { columns: named.collect(), len }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
