//! The cells of one row as they come together, by the numbers of their columns' names.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use ahash::RandomState;
use millrace_columnar::{Cell, CellRef};
use millrace_event_model::FieldType;

/// A column's name as a number: of one [`NameTable`], worth nothing in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct NameId(u32);

/// Each name once.
#[derive(Debug, Default)]
pub(super) struct NameTable {
    names: Vec<Arc<str>>,
    ids: HashMap<Arc<str>, NameId, RandomState>,
}

impl NameTable {
    pub(super) fn id(&mut self, name: &str) -> NameId {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        // Memory ends long before 32 bits do.
        let id = NameId(u32::try_from(self.names.len()).unwrap_or(u32::MAX));
        let name: Arc<str> = name.into();
        self.names.push(Arc::clone(&name));
        self.ids.insert(name, id);
        id
    }

    pub(super) fn name(&self, id: NameId) -> &Arc<str> {
        // Ids are made above, with their names.
        &self.names[id.0 as usize]
    }
}

/// A value on its way into a row: text is borrowed from the event where it stands there as it is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum NewCell<'e> {
    Int(i64),
    Float(f64),
    Boolean(bool),
    /// Microseconds since 1970 UTC.
    DateTime(i64),
    String(Cow<'e, str>),
    /// Text that many rows have.
    Shared(Arc<str>),
    Json(Cow<'e, str>),
}

impl NewCell<'_> {
    pub(super) fn borrowed(&self) -> CellRef<'_> {
        match self {
            Self::Int(value) => CellRef::Int(*value),
            Self::Float(value) => CellRef::Float(*value),
            Self::Boolean(value) => CellRef::Boolean(*value),
            Self::DateTime(micros) => CellRef::DateTime(*micros),
            Self::String(text) => CellRef::String(text),
            Self::Shared(text) => CellRef::String(text),
            Self::Json(text) => CellRef::Json(text),
        }
    }

    pub(super) fn to_cell(&self) -> Cell {
        self.borrowed().to_cell()
    }
}

/// A value with the type of the column that it asks for.
pub(super) type Typed<'e> = (FieldType, NewCell<'e>);

/// A column of a row. Without a cell it was taken away again.
#[derive(Debug, Clone)]
pub(super) struct Column<'e> {
    pub(super) name: NameId,
    pub(super) field_type: FieldType,
    pub(super) cell: Option<NewCell<'e>>,
    pass: Pass,
}

/// Who sets columns: one walk through one object of an event, or the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pass(u64);

/// Rules say their columns in order, and the later wins.
pub(super) const RULES: Pass = Pass(0);

/// Counts the passes of a mapper.
#[derive(Debug)]
pub(super) struct Passes(u64);

impl Default for Passes {
    fn default() -> Self {
        Self(RULES.0)
    }
}

impl Passes {
    pub(super) fn next(&mut self) -> Pass {
        self.0 += 1;
        Pass(self.0)
    }
}

/// Where in the row under way each name stands.
#[derive(Debug, Default)]
pub(super) struct Places {
    row: u64,
    /// By name: the row that had it last, and where.
    of_name: Vec<(u64, u32)>,
}

impl Places {
    fn get(&self, name: NameId) -> Option<usize> {
        let (row, place) = *self.of_name.get(name.0 as usize)?;
        (row == self.row).then_some(place as usize)
    }

    fn put(&mut self, name: NameId, place: usize) {
        let index = name.0 as usize;
        if index >= self.of_name.len() {
            // Rows are counted from 1.
            self.of_name.resize(index + 1, (0, 0));
        }
        if let Some(slot) = self.of_name.get_mut(index) {
            *slot = (self.row, u32::try_from(place).unwrap_or(u32::MAX));
        }
    }
}

/// The columns of a row as they come together: a later value of the same name wins, with its type.
#[derive(Debug)]
pub(super) struct Columns<'e, 'm> {
    list: Vec<Column<'e>>,
    places: &'m mut Places,
}

/// Room for the columns of most events, so that a row grows at most once.
const ROOM: usize = 48;

/// Memory of rows that are done, for those of the next event.
#[derive(Debug, Default)]
pub(super) struct Spare(Vec<Vec<Column<'static>>>);

/// An event has two lists of columns; more are not kept.
const MAX_SPARE: usize = 2;

/// A list that one event has made larger is not kept: most need a fraction of it.
const MAX_KEPT_ROOM: usize = 16 * ROOM;

impl Spare {
    pub(super) fn keep(&mut self, columns: Vec<Column<'_>>) {
        let columns = emptied(columns);
        if (ROOM..=MAX_KEPT_ROOM).contains(&columns.capacity()) && self.0.len() < MAX_SPARE {
            self.0.push(columns);
        }
    }

    fn take(&mut self) -> Vec<Column<'static>> {
        self.0.pop().unwrap_or_else(|| Vec::with_capacity(ROOM))
    }
}

/// The memory of the list, for another event's. That collecting is done in place is std's choice; without it the list
/// would have no room, and not be kept.
fn emptied(columns: Vec<Column<'_>>) -> Vec<Column<'static>> {
    columns.into_iter().map_while(|_| None).collect()
}

impl<'e, 'm> Columns<'e, 'm> {
    /// A new row. Only one at a time uses `places`.
    pub(super) fn new(places: &'m mut Places, spare: &mut Spare) -> Self {
        places.row += 1;
        Self { list: spare.take(), places }
    }

    /// Sets a column. Says whether this very pass had set it before.
    pub(super) fn set(&mut self, name: NameId, (field_type, cell): Typed<'e>, pass: Pass) -> bool {
        let column = Column { name, field_type, cell: Some(cell), pass };
        let place = self.places.get(name).and_then(|place| self.list.get_mut(place));
        if let Some(before) = place {
            let again = before.pass == pass && before.cell.is_some();
            *before = column;
            return again;
        }
        self.places.put(name, self.list.len());
        self.list.push(column);
        false
    }

    pub(super) fn remove(&mut self, name: NameId) {
        if let Some(column) = self.places.get(name).and_then(|place| self.list.get_mut(place)) {
            column.cell = None;
        }
    }

    /// Takes away what another has as well, which wins.
    pub(super) fn leave_to(&mut self, later: &Columns<'e, '_>) {
        for column in later.list.iter().filter(|column| column.cell.is_some()) {
            self.remove(column.name);
        }
    }

    /// Takes all of another's; they win.
    pub(super) fn extend(&mut self, later: &Columns<'e, '_>) {
        for column in &later.list {
            if let Some(cell) = &column.cell {
                self.set(column.name, (column.field_type, cell.clone()), column.pass);
            }
        }
    }

    /// The columns that have a cell.
    pub(super) fn finish(mut self) -> Vec<Column<'e>> {
        self.list.retain(|column| column.cell.is_some());
        self.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_row_is_used_again_unless_it_is_large() {
        let (mut places, mut spare) = (Places::default(), Spare::default());
        let mut columns = Columns::new(&mut places, &mut spare);
        columns.set(NameId(0), (FieldType::Int, NewCell::Int(1)), RULES);
        let list = columns.finish();
        let memory = list.as_ptr().addr();
        spare.keep(list);
        let again = spare.take();
        assert_eq!((again.as_ptr().addr(), again.len()), (memory, 0));
        spare.keep(Vec::with_capacity(MAX_KEPT_ROOM + 1));
        spare.keep(Vec::new());
        assert_eq!(spare.0.len(), 0);
    }
}
