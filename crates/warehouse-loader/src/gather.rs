//! Rows by table as they come together from rows one by one.

use std::collections::BTreeMap;

use millrace_columnar::{CellRef, ColumnId, Row, Rows, TableSchema};
use millrace_connector::WriteMode;

use crate::{RowsByTable, TableRows};

/// Rows by table. A table mostly has one part; where a source has changed how its rows are written, one for
/// each way, in the order of the log.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    tables: BTreeMap<String, Vec<(WriteMode, Rows)>>,
}

impl Gathered {
    /// A table with these columns, which may get no row.
    pub(crate) fn declare(&mut self, table: &str, write: &WriteMode, columns: &TableSchema) {
        let rows = self.part(table, write);
        for (name, own) in columns {
            rows.declare(name, *own);
        }
    }

    /// Adds a row. A cell that is none of the columns is left out.
    pub(crate) fn add(&mut self, table: &str, write: &WriteMode, columns: &TableSchema, row: &Row) {
        let rows = self.part(table, write);
        let ids: Vec<(&String, ColumnId)> =
            columns.iter().map(|(name, own)| (name, rows.column(name, *own))).collect();
        let cells: Vec<(ColumnId, CellRef<'_>)> =
            ids.into_iter().filter_map(|(name, id)| Some((id, row.get(name)?.into()))).collect();
        rows.push(&cells);
    }

    fn part(&mut self, table: &str, write: &WriteMode) -> &mut Rows {
        let parts = self.tables.entry(table.to_owned()).or_default();
        let index = parts.iter().position(|(own, _)| own == write).unwrap_or(parts.len());
        if index == parts.len() {
            parts.push((write.clone(), Rows::default()));
        }
        // It was found there, or has just been pushed.
        &mut parts[index].1
    }

    /// The rows, with no more to come.
    pub(crate) fn finish(self) -> RowsByTable {
        let part = |(write, rows): (WriteMode, Rows)| TableRows { write, blocks: vec![rows.finish()] };
        self.tables.into_iter().map(|(table, parts)| (table, parts.into_iter().map(part).collect())).collect()
    }
}

/// Adds the rows of a later part of the batch.
pub(crate) fn append(rows: &mut RowsByTable, later: RowsByTable) {
    for (table, parts) in later {
        let own = rows.entry(table).or_default();
        for part in parts {
            match own.iter_mut().find(|own| own.write == part.write) {
                Some(own) => own.blocks.extend(part.blocks),
                None => own.push(part),
            }
        }
    }
}
