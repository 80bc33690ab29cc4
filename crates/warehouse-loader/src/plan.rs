//! What a batch asks of a warehouse, decided without touching it: from the tables as they are and the rows
//! to load, the schema changes and the rows of each table, ready to be written as they stand.
//!
//! # Laws
//! Each is a property test of the same name in `plan/tests.rs`.
//! - `a_plan_only_widens`: it makes schemas, tables and columns; it never alters or drops one.
//! - `a_plan_never_drops`: every row, and every value of it, is in the plan's loads or, as text with the
//!   reason, in `rudder_discards`. (Only where rows replace each other by key does the newer one stand for
//!   the older.)
//! - `the_same_input_gives_the_same_plan`: a load that is repeated after a crash writes the same rows.
//! - `planning_an_applied_plan_is_empty`: once the changes are made, the same batch asks for none, and its
//!   loads are the same.
//! - `a_load_fits_its_table`: each cell has its column's type, each column is in the table or in the
//!   changes, and no key comes twice where rows replace each other.

use std::collections::BTreeMap;

use chrono::{DateTime, SubsecRound, Utc};
use millrace_columnar::{Cell, Coerced, Row, TableSchema, coerce, widen};
use millrace_connector::{Dialect, SchemaChange, TableSchemas, WriteMode};
use millrace_event_model::FieldType;

use crate::discards;
use crate::reduce::{null_key, reduce};

/// Rows of one table. Before planning, cells have the types of their values; afterwards, of the columns.
#[derive(Debug, Clone, PartialEq)]
pub struct TableRows {
    /// The columns that the rows may have.
    pub columns: TableSchema,
    /// The rows, in the order of the log. A cell that is no column is left out: whoever makes the rows
    /// names their columns.
    pub rows: Vec<Row>,
    /// How they change the table.
    pub write: WriteMode,
}

/// Rows by table name. A table mostly has one part; where a source has changed how its rows are written,
/// one for each way, in the order of the log.
pub type RowsByTable = BTreeMap<String, Vec<TableRows>>;

/// The part of a table that is written in a way; added where it is missing.
pub(crate) fn part_of<'r>(rows: &'r mut RowsByTable, table: &str, write: &WriteMode) -> &'r mut TableRows {
    let parts = rows.entry(table.to_owned()).or_default();
    let index = parts.iter().position(|part| part.write == *write).unwrap_or(parts.len());
    if index == parts.len() {
        parts.push(TableRows { columns: TableSchema::new(), rows: Vec::new(), write: write.clone() });
    }
    // It was found there, or has just been pushed.
    &mut parts[index]
}

/// What is the same for every row of a load.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    /// When the load was made, in whole milliseconds: fills `uuid_ts` (and BigQuery's `loaded_at`).
    pub at: DateTime<Utc>,
    /// The warehouse's identifiers are upper case.
    pub upper_case: bool,
}

impl Stamp {
    /// The stamp of a load that is made at `at` for a warehouse of this dialect.
    #[must_use]
    pub fn new(at: DateTime<Utc>, dialect: &Dialect) -> Self {
        Self { at: at.trunc_subsecs(3), upper_case: dialect.upper_case }
    }

    /// A name of ours as this warehouse spells it.
    #[must_use]
    pub fn name(self, name: &str) -> String {
        if self.upper_case { name.to_ascii_uppercase() } else { name.to_owned() }
    }
}

/// Columns that are filled at load with the load's time, where a table has them.
const LOAD_TIME_COLUMNS: [&str; 2] = ["uuid_ts", "loaded_at"];

/// What to do: the changes first, then the loads.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What the warehouse lacks, in the order in which it can be made.
    pub changes: Vec<SchemaChange>,
    /// The rows to write; no table without rows.
    pub loads: RowsByTable,
}

/// A batch that cannot be loaded until a person acts. Nothing of it is lost: it stays in Kafka.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Without its key a row could not be found again.
    #[error(
        "table {table:?} is keyed by {column:?}, which is {is} in the warehouse and cannot hold the keys that \
         come now; change the column's type, or load into another schema"
    )]
    KeyDoesNotFit {
        /// The table.
        table: String,
        /// The key column.
        column: String,
        /// Its type in the warehouse.
        is: FieldType,
    },
}

/// Plans a batch for a schema whose tables are `existing`.
///
/// # Errors
/// [`PlanError::KeyDoesNotFit`].
pub fn plan(existing: &TableSchemas, batch: RowsByTable, stamp: Stamp) -> Result<Plan, PlanError> {
    let mut plan = Plan { changes: Vec::new(), loads: RowsByTable::new() };
    let mut discarded = Vec::new();
    for (table, parts) in batch {
        let present = existing.get(&table);
        plan.add(table, parts, present, stamp, &mut discarded)?;
    }
    if !discarded.is_empty() {
        plan.add_discards(discarded, existing, stamp)?;
    }
    // A schema without tables may not be there at all; making it again is harmless.
    if existing.is_empty() && !plan.changes.is_empty() {
        plan.changes.insert(0, SchemaChange::CreateSchema);
    }
    Ok(plan)
}

impl Plan {
    /// Whether the tables as they are now can take the loads as planned. Another connection may have made
    /// the same column with another type between this plan and its changes: then plan again.
    #[must_use]
    pub fn fits(&self, actual: &TableSchemas) -> bool {
        self.loads.iter().all(|(table, parts)| {
            let Some(columns) = actual.get(table) else { return false };
            let is_there = |(column, planned): (&String, &FieldType)| {
                columns.get(column).is_some_and(|is| holds(*is, *planned))
            };
            parts.iter().flat_map(|part| &part.columns).all(is_there)
        })
    }

    /// Plans a table whose columns are `present` now.
    fn add(
        &mut self,
        table: String,
        parts: Vec<TableRows>,
        present: Option<&TableSchema>,
        stamp: Stamp,
        discarded: &mut Vec<Row>,
    ) -> Result<(), PlanError> {
        let mut columns = present.cloned().unwrap_or_default();
        let mut settled = Vec::with_capacity(parts.len());
        for part in parts {
            let part = settle(&table, part, &columns, stamp, discarded)?;
            widen::extend(&mut columns, &part.columns);
            settled.push(part);
        }
        self.changes.extend(change(&table, present, &columns));
        settled.retain(|part| !part.rows.is_empty());
        if !settled.is_empty() {
            self.loads.entry(table).or_default().extend(settled);
        }
        Ok(())
    }

    /// Discards are rows like others, in a table that is made when the first one comes.
    fn add_discards(
        &mut self,
        discarded: Vec<Row>,
        existing: &TableSchemas,
        stamp: Stamp,
    ) -> Result<(), PlanError> {
        let table = stamp.name(discards::TABLE);
        let columns = discards::columns(stamp);
        let part = TableRows { columns, rows: discarded, write: WriteMode::Append };
        // An event may be called `rudder discards`: then its rows and ours share the table.
        let mut present = existing.get(&table).cloned();
        for theirs in self.loads.get(&table).into_iter().flatten() {
            widen::extend(present.get_or_insert_default(), &theirs.columns);
        }
        // All its columns are text or our own moments, so nothing of it can be discarded in turn, but into
        // a table of the same name that somebody else made; there is no place left for that.
        self.add(table, vec![part], present.as_ref(), stamp, &mut Vec::new())
    }
}

/// Text is text, however long: what tells the two apart is for the dialect.
fn holds(is: FieldType, planned: FieldType) -> bool {
    is == planned || (widen::is_text(is) && widen::is_text(planned))
}

/// Brings rows to the types that their columns have, or will have.
fn settle(
    table: &str,
    batch: TableRows,
    present: &TableSchema,
    stamp: Stamp,
    discarded: &mut Vec<Row>,
) -> Result<TableRows, PlanError> {
    let columns = widen::with_existing(&batch.columns, present);
    let load_time: Vec<String> = LOAD_TIME_COLUMNS
        .iter()
        .map(|column| stamp.name(column))
        .filter(|column| columns.contains_key(column))
        .collect();
    let mut rows = Vec::with_capacity(batch.rows.len());
    for mut row in batch.rows {
        for column in &load_time {
            row.entry(column.clone()).or_insert(Cell::DateTime(stamp.at.timestamp_micros()));
        }
        rows.push(settle_row(table, row, &columns, &batch.write, stamp, discarded));
    }
    if let Some(column) = null_key(&rows, &batch.write) {
        let is = columns.get(&column).copied().unwrap_or(FieldType::String);
        return Err(PlanError::KeyDoesNotFit { table: table.to_owned(), column, is });
    }
    let rows = reduce(rows, &batch.write);
    Ok(TableRows { columns, rows, write: batch.write })
}

fn settle_row(
    table: &str,
    row: Row,
    columns: &TableSchema,
    write: &WriteMode,
    stamp: Stamp,
    discarded: &mut Vec<Row>,
) -> Row {
    let mut settled = Row::new();
    let mut misfits = Vec::new();
    for (column, cell) in row {
        let Some(wanted) = columns.get(&column).copied() else { continue };
        match coerce(cell, wanted) {
            Coerced::Converted(Cell::Null) => {}
            Coerced::Converted(cell) => {
                settled.insert(column, cell);
            }
            Coerced::Discarded { value, reason } => misfits.push((column, value, reason)),
        }
    }
    for (column, value, reason) in misfits {
        discarded.push(discards::row(table, &column, value, reason, &settled, write, stamp));
    }
    settled
}

/// What a table lacks of these columns.
fn change(table: &str, present: Option<&TableSchema>, columns: &TableSchema) -> Option<SchemaChange> {
    let table = table.to_owned();
    let Some(present) = present else {
        return Some(SchemaChange::CreateTable { table, columns: columns.clone() });
    };
    let missing = widen::missing(columns, present);
    (!missing.is_empty()).then_some(SchemaChange::AddColumns { table, columns: missing })
}

#[cfg(test)]
mod tests;
