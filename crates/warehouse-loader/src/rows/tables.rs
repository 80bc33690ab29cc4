//! The rows of many events, by table.

use std::collections::HashMap;
use std::sync::Arc;

use ahash::RandomState;
use millrace_columnar::{Block, ColumnId, Rows};
use millrace_connector::WriteMode;
use millrace_event_model::FieldType;

use super::cells::{NameId, NameTable};
use super::mapper::NewRow;

/// Rows of all tables that a stretch of events fills, as a [`RowMapper`](super::RowMapper) makes them.
#[derive(Debug, Default)]
pub struct RowsOfTables {
    tables: HashMap<Arc<str>, Table, RandomState>,
    room: Room,
}

/// How many rows the tables of the stretch before had: the next one mostly has as many.
pub(super) type Room = HashMap<Arc<str>, usize, RandomState>;

/// The rows of one table, in the order of the events.
#[derive(Debug)]
pub struct TableBlock {
    /// The table's name.
    pub table: String,
    /// How they change it: `Append`, but `MergeLatest` for `users`.
    pub write: WriteMode,
    /// The rows. Columns that are set at load (`uuid_ts`) are there and empty.
    pub block: Block,
}

#[derive(Debug)]
struct Table {
    write: Arc<WriteMode>,
    rows: Rows,
    known: HashMap<NameId, Known, RandomState>,
    /// The columns of the last row, in its order: the next one mostly has the same.
    last: Vec<(NameId, Known)>,
}

/// A column that was found before. The name itself is kept, since another mapper, or the same after it has
/// forgotten its names, gives the number to another.
#[derive(Debug, Clone)]
struct Known {
    name: Arc<str>,
    column: ColumnId,
    field_type: FieldType,
}

impl RowsOfTables {
    pub(super) fn with_room(room: Room) -> Self {
        Self { room, ..Self::default() }
    }

    /// How many rows there are.
    pub(super) fn lens(&self) -> Room {
        self.tables.iter().map(|(table, rows)| (Arc::clone(table), rows.rows.len())).collect()
    }

    /// The rows, sorted by table.
    #[must_use]
    pub fn finish(self) -> Vec<TableBlock> {
        let block = |(table, rows): (Arc<str>, Table)| TableBlock {
            table: table.as_ref().to_owned(),
            write: WriteMode::clone(&rows.write),
            block: rows.rows.finish(),
        };
        let mut blocks: Vec<TableBlock> = self.tables.into_iter().map(block).collect();
        blocks.sort_by(|one, other| one.table.cmp(&other.table));
        blocks
    }

    pub(super) fn push(&mut self, row: &NewRow<'_>, names: &NameTable) {
        if let Some(table) = self.tables.get_mut(row.table.as_ref()) {
            return table.push(row, names);
        }
        let mut table = Table {
            write: Arc::clone(&row.write),
            rows: Rows::with_room(self.room.get(row.table.as_ref()).copied().unwrap_or_default()),
            known: HashMap::default(),
            last: Vec::new(),
        };
        for column in row.at_load.iter() {
            table.rows.declare(names.name(*column), FieldType::DateTime);
        }
        table.push(row, names);
        self.tables.insert(Arc::clone(&row.table), table);
    }
}

impl Table {
    fn push(&mut self, row: &NewRow<'_>, names: &NameTable) {
        for (nth, column) in row.all_columns().enumerate() {
            if let Some(cell) = &column.cell
                && !row.at_load.contains(&column.name)
            {
                let id = self.column(nth, column.name, names.name(column.name), column.field_type);
                self.rows.set(id, cell.borrowed());
            }
        }
        self.rows.end_row();
    }

    fn column(&mut self, nth: usize, id: NameId, name: &Arc<str>, field_type: FieldType) -> ColumnId {
        if let Some((guess, known)) = self.last.get(nth)
            && *guess == id
            && known.is(name, field_type)
        {
            return known.column;
        }
        let found = self.known.get(&id).filter(|known| known.is(name, field_type)).cloned();
        let known = found.unwrap_or_else(|| {
            let column = self.rows.column(name, field_type);
            let known = Known { name: Arc::clone(name), column, field_type };
            self.known.insert(id, known.clone());
            known
        });
        let column = known.column;
        match self.last.get_mut(nth) {
            Some(last) => *last = (id, known),
            None => self.last.push((id, known)),
        }
        column
    }
}

impl Known {
    /// Whether it is this column, and the type needs no look: a column of text stays one whatever comes
    /// later; else the first type stands.
    fn is(&self, name: &Arc<str>, field_type: FieldType) -> bool {
        Arc::ptr_eq(&self.name, name) && (self.field_type == field_type || field_type != FieldType::Text)
    }
}
