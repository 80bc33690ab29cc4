//! Rows by table as they come together from rows one by one.

use std::collections::BTreeMap;

use millrace_columnar::{CellRef, ColumnId, Row, Rows, TableSchema};
use millrace_connector::WriteMode;

use crate::{RowsByTable, TableRows};

/// Rows by table. A table mostly has one part; where a source has changed how its rows are written, one for
/// each time, in the order of the log.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    tables: BTreeMap<String, Vec<Part>>,
}

#[derive(Debug)]
struct Part {
    write: WriteMode,
    rows: Rows,
    /// The columns of the row before, and their numbers in `rows`: those of the next are mostly the same.
    columns: TableSchema,
    ids: Vec<ColumnId>,
}

impl Gathered {
    /// A table with these columns, which may get no row.
    pub(crate) fn declare(&mut self, table: &str, write: &WriteMode, columns: &TableSchema) {
        let rows = &mut self.part(table, write).rows;
        for (name, own) in columns {
            rows.declare(name, *own);
        }
    }

    /// Adds a row. A cell that is none of the columns is left out.
    pub(crate) fn add(&mut self, table: &str, write: &WriteMode, columns: &TableSchema, row: &Row) {
        let part = self.part(table, write);
        if part.columns != *columns {
            part.ids = columns.iter().map(|(name, own)| part.rows.column(name, *own)).collect();
            part.columns.clone_from(columns);
        }
        // Both are sorted by name.
        let mut named = row.iter().peekable();
        let mut cells: Vec<(ColumnId, CellRef<'_>)> = Vec::with_capacity(row.len());
        for (column, id) in columns.keys().zip(&part.ids) {
            while named.next_if(|(name, _)| *name < column).is_some() {}
            if let Some((_, cell)) = named.next_if(|(name, _)| *name == column) {
                cells.push((*id, cell.into()));
            }
        }
        part.rows.push(cells);
    }

    fn part(&mut self, table: &str, write: &WriteMode) -> &mut Part {
        let parts = self.tables.entry(table.to_owned()).or_default();
        // Only the last part goes on: a row in an earlier one would be written before those it came after.
        if parts.last().is_none_or(|part| part.write != *write) {
            let (columns, ids) = (TableSchema::new(), Vec::new());
            parts.push(Part { write: write.clone(), rows: Rows::default(), columns, ids });
        }
        let last = parts.len() - 1;
        // It was the last, or has just been pushed.
        &mut parts[last]
    }

    /// The rows, with no more to come.
    pub(crate) fn finish(self) -> RowsByTable {
        let part = |part: Part| TableRows { write: part.write, blocks: vec![part.rows.finish()] };
        self.tables.into_iter().map(|(table, parts)| (table, parts.into_iter().map(part).collect())).collect()
    }
}

/// Adds the rows of a later part of the batch.
pub(crate) fn append(rows: &mut RowsByTable, later: RowsByTable) {
    for (table, parts) in later {
        let own = rows.entry(table).or_default();
        for part in parts {
            match own.last_mut().filter(|own| own.write == part.write) {
                Some(own) => own.blocks.extend(part.blocks),
                None => own.push(part),
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use millrace_columnar::{Block, Cell};
    use millrace_event_model::FieldType;

    use super::*;

    fn row(cells: &[(&str, i64)]) -> Row {
        cells.iter().map(|(name, value)| ((*name).to_owned(), Cell::Int(*value))).collect()
    }

    fn columns(names: &[&str]) -> TableSchema {
        names.iter().map(|name| ((*name).to_owned(), FieldType::Int)).collect()
    }

    #[test]
    fn rows_with_other_columns_share_their_table_and_cells_of_no_column_are_left_out() {
        let mut gathered = Gathered::default();
        gathered.declare("t", &WriteMode::Append, &columns(&["z"]));
        gathered.add("t", &WriteMode::Append, &columns(&["a", "c"]), &row(&[("a", 1), ("b", 2), ("c", 3)]));
        gathered.add("t", &WriteMode::Append, &columns(&["b", "c"]), &row(&[("b", 4), ("d", 5)]));
        let mut rows = gathered.finish();
        let later = RowsByTable::from([("t".to_owned(), rows["t"].clone())]);
        append(&mut rows, later);
        let parts = &rows["t"];
        assert_eq!((parts.len(), parts[0].blocks.len()), (1, 2));
        let block = &parts[0].blocks[0];
        assert_eq!(block.rows(), [row(&[("a", 1), ("c", 3)]), row(&[("b", 4)])]);
        assert_eq!(block.schema(), columns(&["a", "b", "c", "z"]));
    }

    #[test]
    fn rows_stay_in_their_order_when_the_way_they_are_written_changes() {
        let upsert = WriteMode::Upsert { key: vec!["a".to_owned()] };
        let ways = [&upsert, &WriteMode::Append, &upsert];
        let mut gathered = Gathered::default();
        for (value, write) in (1..).zip(ways) {
            gathered.add("t", write, &columns(&["a"]), &row(&[("a", value)]));
        }
        let mut rows = gathered.finish();
        let later = rows.clone();
        append(&mut rows, later);
        let parts = rows["t"].iter().map(|part| {
            let rows: Vec<Row> = part.blocks.iter().flat_map(Block::rows).collect();
            (part.write == upsert, rows)
        });
        let of = |values: &[i64]| values.iter().map(|value| row(&[("a", *value)])).collect::<Vec<_>>();
        let expected =
            [(true, of(&[1])), (false, of(&[2])), (true, of(&[3, 1])), (false, of(&[2])), (true, of(&[3]))];
        assert_eq!(parts.collect::<Vec<_>>(), expected);
    }
}
