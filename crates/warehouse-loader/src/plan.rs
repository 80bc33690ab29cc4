//! What a batch asks of a warehouse, decided without touching it: from the tables as they are and the rows
//! to load, the schema changes and the rows of each table, ready to be written as they stand.
//!
//! Rows come column by column ([`Block`]). A column that has its table's type already goes into the load as
//! the array it is; only the others are looked at value by value.
//!
//! - `target`: the columns that a table will have, and where the values of each column go;
//! - `exact`: whether a column holds a value whole;
//! - `settle`: a block to a batch of its table;
//! - `reduce`: several rows of one key to one; `keys`: which keys are one to the warehouse;
//! - `discards`: what no column holds.
//!
//! # Laws
//! Each is a property test of the same name in `plan/tests.rs`.
//! - `a_plan_only_widens`: it makes schemas, tables and columns, and gives a column of an ELT stream a type
//!   that holds all that it held; it never narrows or drops one.
//! - `a_plan_never_drops`: every row, and every value of it, is in the plan's loads or, as text with the
//!   reason, in `rudder_discards`; of records it is whole there, of events a fraction or digits beyond a float may go.
//!   (Only where rows replace each other by key does the newer one stand for the older.)
//! - `the_same_input_gives_the_same_plan`: a load that is repeated after a crash writes the same rows.
//! - `planning_an_applied_plan_is_empty`: once the changes are made, the same batch asks for none, and its
//!   loads are the same.
//! - `a_load_fits_its_table`: each column has its type in the table or in the changes, and no key comes
//!   twice where rows replace each other.
//! - `only_evolve_changes_tables`: under any other contract the only table that is made is `rudder_discards`.

mod exact;
mod keys;
mod reduce;
mod settle;
mod target;

use std::collections::BTreeMap;

use chrono::{DateTime, SubsecRound, Utc};
use millrace_columnar::arrow::array::RecordBatch;
use millrace_columnar::arrow::error::ArrowError;
use millrace_columnar::{Block, TableSchema, field_type_of, widen};
use millrace_connector::{Dialect, SchemaChange, TableLoad, TableName, TableSchemas, WriteMode};
use millrace_event_model::FieldType;

use crate::discards::{self, Discards};
use crate::{Contract, Kind};
use target::Target;

/// Rows of one table before planning: cells have the types of their values.
#[derive(Debug, Clone, PartialEq)]
pub struct TableRows {
    /// How they change the table.
    pub write: WriteMode,
    /// The rows, in the order of the log.
    pub blocks: Vec<Block>,
}

/// Rows by table name. A table mostly has one part; where a source has changed how its rows are written,
/// one for each time, in the order of the log.
pub type RowsByTable = BTreeMap<String, Vec<TableRows>>;

/// Rows of one table as planned: cells have the types of the columns.
#[derive(Debug, Clone, PartialEq)]
pub struct TableBatches {
    /// How they change the table.
    pub write: WriteMode,
    /// The rows, in batches of one schema; none is empty.
    pub batches: Vec<RecordBatch>,
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

/// What a plan goes by, besides the tables and the rows.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// See [`Stamp`].
    pub stamp: Stamp,
    /// What may be changed.
    pub contract: Contract,
    /// Columns of events keep their type for ever; those of records may widen.
    pub kind: Kind,
    /// What the warehouse can.
    pub dialect: &'static Dialect,
}

/// Columns that are filled at load with the load's time, where a table has them.
const LOAD_TIME_COLUMNS: [&str; 2] = ["uuid_ts", "loaded_at"];

/// What to do: the changes first, then the loads.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// What the warehouse lacks, in the order in which it can be made.
    pub changes: Vec<SchemaChange>,
    /// The rows to write; no table without rows.
    pub loads: BTreeMap<String, Vec<TableBatches>>,
    /// How many values and whole rows went to `rudder_discards`.
    pub discarded: u64,
}

/// A batch that cannot be loaded until a person acts. Nothing of it is lost: it stays in Kafka.
#[derive(Debug, thiserror::Error)]
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
    /// The contract is `freeze`, and the batch asks for a change.
    #[error(
        "{what}, and the connection's contract is freeze; make the change in the warehouse by hand, or set \
         contract: evolve to have it made, or discard_row or discard_value to load without it"
    )]
    Frozen {
        /// The table.
        table: String,
        /// The column; `None` where the table is not there.
        column: Option<String>,
        /// What would have been changed, in words that name both.
        what: String,
    },
    /// The planned rows are not what their columns say: a mistake in the program.
    #[error("cannot make a batch for table {table:?}")]
    Batch {
        /// The table.
        table: String,
        /// Why.
        source: ArrowError,
    },
}

/// Plans a batch for a schema whose tables are `existing`.
///
/// # Errors
/// [`PlanError`].
pub fn plan(existing: &TableSchemas, batch: RowsByTable, rules: &Rules) -> Result<Plan, PlanError> {
    let mut plan = Plan::default();
    let mut discards = Discards::new(rules.stamp);
    for (table, parts) in batch {
        plan.add(table.clone(), parts, existing.get(&table), rules, &mut discards)?;
    }
    plan.discarded = discards.count();
    if let Some(block) = discards.finish() {
        plan.add_discards(block, existing, rules)?;
    }
    // A schema without tables may not be there at all; making it again is harmless.
    if existing.is_empty() && !plan.changes.is_empty() {
        plan.changes.insert(0, SchemaChange::CreateSchema);
    }
    Ok(plan)
}

impl Plan {
    /// The loads of the tables of this schema.
    pub(crate) fn into_table_loads(self, schema: &str) -> Vec<TableLoad> {
        let of_table = |(table, parts): (String, Vec<TableBatches>)| {
            let name = TableName { schema: schema.to_owned(), table };
            let load = move |part: TableBatches| TableLoad {
                name: name.clone(),
                rows: part.batches,
                write: part.write,
            };
            parts.into_iter().map(load)
        };
        self.loads.into_iter().flat_map(of_table).collect()
    }

    /// Whether the tables as they are now can take the loads as planned. Another connection may have made
    /// the same column with another type between this plan and its changes: then plan again.
    #[must_use]
    pub fn fits(&self, actual: &TableSchemas, dialect: &Dialect) -> bool {
        self.loads.iter().all(|(table, parts)| {
            let Some(columns) = actual.get(table) else { return false };
            let schemas = parts.iter().flat_map(|part| part.batches.first()).map(RecordBatch::schema);
            schemas.into_iter().all(|schema| {
                schema.fields().iter().all(|field| {
                    let planned = field_type_of(field);
                    columns.get(field.name()).is_some_and(|is| holds(*is, planned, dialect))
                })
            })
        })
    }

    /// Plans a table whose columns are `present` now.
    fn add(
        &mut self,
        table: String,
        parts: Vec<TableRows>,
        present: Option<&TableSchema>,
        rules: &Rules,
        discards: &mut Discards,
    ) -> Result<(), PlanError> {
        let mut target = Target::new(&table, present, rules);
        for part in &parts {
            part.blocks.iter().try_for_each(|block| target.absorb(block, &part.write))?;
        }
        for part in &parts {
            part.blocks.iter().try_for_each(|block| target.weigh(block, &part.write))?;
        }
        self.changes.extend(target.changes());
        for TableRows { write, blocks } in parts {
            let batches = settle::settle(&target, &blocks, &write, rules.stamp, discards)?;
            let reduced = reduce::reduce(batches, &write, rules.dialect);
            let batches = reduced.map_err(|source| PlanError::Batch { table: table.clone(), source })?;
            if !batches.is_empty() {
                self.loads.entry(table.clone()).or_default().push(TableBatches { write, batches });
            }
        }
        Ok(())
    }

    /// Discards are rows like others, in a table that is made when the first one comes, whatever the
    /// contract says of the others.
    fn add_discards(
        &mut self,
        block: Block,
        existing: &TableSchemas,
        rules: &Rules,
    ) -> Result<(), PlanError> {
        let table = rules.stamp.name(discards::TABLE);
        let part = TableRows { write: WriteMode::Append, blocks: vec![block] };
        // An event may be called `rudder discards`: then its rows and ours share the table.
        let mut present = existing.get(&table).cloned();
        for theirs in self.loads.get(&table).into_iter().flatten().flat_map(|part| part.batches.first()) {
            let columns = theirs
                .schema()
                .fields()
                .iter()
                .map(|field| (field.name().clone(), field_type_of(field)))
                .collect();
            widen::extend(present.get_or_insert_default(), &columns);
        }
        // All its columns are text or our own moments, so nothing of it can be discarded in turn, but into
        // a table of the same name that somebody else made; there is no place left for that.
        let rules = Rules { contract: Contract::Evolve, kind: Kind::Events, ..*rules };
        self.add(table, vec![part], present.as_ref(), &rules, &mut Discards::new(rules.stamp))
    }
}

/// Whether a column takes values as they were planned. Text is text, however long; and where floats are exact,
/// a column of decimals reads back as one of floats, and takes whole numbers too.
pub(crate) fn holds(is: FieldType, planned: FieldType, dialect: &Dialect) -> bool {
    is == planned
        || (widen::is_text(is) && widen::is_text(planned))
        || (dialect.exact_floats
            && is == FieldType::Float
            && matches!(planned, FieldType::Decimal | FieldType::Int))
}

#[cfg(test)]
mod tests;
