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

impl TableRows {
    /// A table without rows: it is made if it is missing.
    #[must_use]
    pub fn none(columns: TableSchema, write: WriteMode) -> Self {
        Self { columns, rows: Vec::new(), write }
    }
}

/// Rows by table name.
pub type RowsByTable = BTreeMap<String, TableRows>;

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
    let mut changes = Vec::new();
    let mut loads = RowsByTable::new();
    let mut discarded = Vec::new();
    for (table, rows) in batch {
        let settled = settle(&table, rows, existing.get(&table), stamp, &mut discarded)?;
        changes.extend(change(&table, existing.get(&table), &settled.columns));
        if !settled.rows.is_empty() {
            loads.insert(table, settled);
        }
    }
    if !discarded.is_empty() {
        add_discards(discarded, existing, stamp, &mut changes, &mut loads)?;
    }
    // A schema without tables may not be there at all; making it again is harmless.
    if existing.is_empty() && !changes.is_empty() {
        changes.insert(0, SchemaChange::CreateSchema);
    }
    Ok(Plan { changes, loads })
}

impl Plan {
    /// Whether the tables as they are now can take the loads as planned. Another connection may have made
    /// the same column with another type between this plan and its changes: then plan again.
    #[must_use]
    pub fn fits(&self, actual: &TableSchemas) -> bool {
        self.loads.iter().all(|(table, load)| {
            let Some(columns) = actual.get(table) else { return false };
            load.columns
                .iter()
                .all(|(column, planned)| columns.get(column).is_some_and(|is| holds(*is, *planned)))
        })
    }
}

/// Text is text, however long: what tells the two apart is for the dialect.
fn holds(is: FieldType, planned: FieldType) -> bool {
    let text = |own| matches!(own, FieldType::String | FieldType::Text);
    is == planned || (text(is) && text(planned))
}

/// Brings rows to the types that their columns have, or will have.
fn settle(
    table: &str,
    batch: TableRows,
    existing: Option<&TableSchema>,
    stamp: Stamp,
    discarded: &mut Vec<Row>,
) -> Result<TableRows, PlanError> {
    let no_columns = TableSchema::new();
    let columns = widen::with_existing(&batch.columns, existing.unwrap_or(&no_columns));
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

/// Discards are rows like others, in a table that is made when the first one comes.
fn add_discards(
    discarded: Vec<Row>,
    existing: &TableSchemas,
    stamp: Stamp,
    changes: &mut Vec<SchemaChange>,
    loads: &mut RowsByTable,
) -> Result<(), PlanError> {
    let table = stamp.name(discards::TABLE);
    let batch = TableRows { columns: discards::columns(stamp), rows: discarded, write: WriteMode::Append };
    // An event may be called `rudder discards`: then its rows and ours share the table.
    let mut present = existing.get(&table).cloned();
    if let Some(theirs) = loads.get(&table) {
        widen::extend(present.get_or_insert_default(), &theirs.columns);
    }
    // All its columns are text or our own moments, so nothing of it can be discarded in turn, but into a
    // table of the same name that somebody else made; there is no place left for that.
    let mut nowhere = Vec::new();
    let settled = settle(&table, batch, present.as_ref(), stamp, &mut nowhere)?;
    match loads.get_mut(&table) {
        Some(theirs) => {
            let theirs_before = theirs.columns.clone();
            widen::extend(&mut theirs.columns, &settled.columns);
            theirs.rows.extend(settled.rows);
            let made = with(existing.get(&table), &theirs_before);
            changes.extend(change(&table, Some(&made), &theirs.columns));
        }
        None => {
            changes.extend(change(&table, existing.get(&table), &settled.columns));
            loads.insert(table, settled);
        }
    }
    Ok(())
}

fn with(existing: Option<&TableSchema>, made: &TableSchema) -> TableSchema {
    let mut columns = existing.cloned().unwrap_or_default();
    widen::extend(&mut columns, made);
    columns
}

/// What a table lacks of these columns.
fn change(table: &str, existing: Option<&TableSchema>, columns: &TableSchema) -> Option<SchemaChange> {
    let table = table.to_owned();
    let Some(existing) = existing else {
        return Some(SchemaChange::CreateTable { table, columns: columns.clone() });
    };
    let missing = widen::missing(columns, existing);
    (!missing.is_empty()).then_some(SchemaChange::AddColumns { table, columns: missing })
}

#[cfg(test)]
mod tests;
