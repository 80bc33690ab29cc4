//! Rows into tables, inside the load's transaction: one function for each [`WriteMode`].
//!
//! Rows that are only added go straight into their table. Rows that are matched go into a temporary table
//! first, and one statement merges that: it has no WAL, and goes with the transaction.

use std::collections::BTreeSet;

use millrace_columnar::arrow::datatypes::Schema;
use millrace_connector::{TableLoad, TableName, WriteMode};

use super::copy::copy_rows;
use super::ddl::{quote, quote_all, quote_table};
use super::error::Failure;
use super::keys::Key;
use super::positions::OwnTables;
use super::swap::{catch_up, staged_table};
use super::targets::{Targets, Types};
use super::work::Work;
use millrace_service::crash_point;

/// The batch of one table with what each statement needs of it.
struct Batch<'a> {
    load: &'a TableLoad,
    targets: &'a Targets,
    /// The table, quoted.
    table: String,
    /// Its columns that the batch has, quoted.
    names: Vec<String>,
    /// The same as a list.
    columns: String,
    /// The types they really have.
    types: Types,
}

/// The batch as a temporary table. One per transaction and table; it goes with the transaction.
const STAGE: &str = "pg_temp.millrace_stage";

/// Writes one table's rows.
pub(super) async fn write_table(
    work: &mut Work<'_>,
    own: &OwnTables,
    targets: &Targets,
    load: &TableLoad,
) -> Result<(), Failure> {
    let Some(first) = load.rows.first().filter(|_| has_rows(load)) else { return Ok(()) };
    let batch = Batch::new(targets, load, &first.schema())?;
    match &load.write {
        WriteMode::Append => batch.copy_into(work, &batch.table).await,
        WriteMode::Upsert { key } => batch.upsert(work, key).await,
        WriteMode::MergeLatest { key, order } => batch.merge_latest(work, key, order).await,
        WriteMode::Stage { generation } => {
            let staged = staged_table(work, own, &load.name, *generation).await?;
            catch_up(work, &batch.table, &staged).await?;
            batch.copy_into(work, &staged).await
        }
    }
}

/// Whether there is anything to write.
pub(super) fn has_rows(load: &TableLoad) -> bool {
    load.rows.iter().any(|rows| rows.num_rows() > 0 && rows.num_columns() > 0)
}

/// Waits until no other connection merges into these tables, to the end of the transaction.
///
/// Two merges of one user at once would each see the row as it was before the other, and the later one
/// would insert it twice or lose a value. Everybody waits in the order of names, so nobody waits in a circle.
pub(super) async fn one_merge_at_a_time<'a>(
    work: &mut Work<'_>,
    tables: impl Iterator<Item = &'a TableName>,
) -> Result<(), Failure> {
    const WAIT: &str = "SELECT pg_advisory_xact_lock(hashtextextended('millrace merge ' || name, 0))
        FROM unnest($1::text[]) AS name";
    let names: BTreeSet<String> = tables.map(quote_table).collect::<Result<_, _>>()?;
    if !names.is_empty() {
        work.query(WAIT, &[&names.into_iter().collect::<Vec<_>>()]).await?;
    }
    Ok(())
}

impl<'a> Batch<'a> {
    fn new(targets: &'a Targets, load: &'a TableLoad, schema: &Schema) -> Result<Self, Failure> {
        let table = quote_table(&load.name)?;
        let fields = || schema.fields().iter().map(|field| field.name().as_str());
        let names: Vec<String> = fields().map(quote).collect::<Result<_, _>>()?;
        let columns = quote_all(fields())?;
        let types = targets.types(&load.name, fields())?;
        Ok(Self { load, targets, table, names, columns, types })
    }

    async fn copy_into(&self, work: &mut Work<'_>, table: &str) -> Result<(), Failure> {
        crash_point("before-copy");
        copy_rows(work, table, &self.columns, &self.types, &self.load.rows).await?;
        crash_point("after-copy");
        Ok(())
    }

    async fn stage(&self, work: &mut Work<'_>, key: &str) -> Result<(), Failure> {
        let Self { table, columns, .. } = self;
        let create = format!(
            "DROP TABLE IF EXISTS {STAGE};
             CREATE TEMP TABLE millrace_stage ON COMMIT DROP AS SELECT {columns} FROM {table} WITH NO DATA"
        );
        work.run(&create).await?;
        self.copy_into(work, STAGE).await?;
        // Without it the planner takes the batch for a thousand rows, however many they are.
        work.run(&format!("ANALYZE {STAGE} ({key})")).await
    }

    /// Delete and insert: a row that is there twice, from before our time, becomes one.
    async fn upsert(&self, work: &mut Work<'_>, key: &[String]) -> Result<(), Failure> {
        self.stage(work, &quote_all(key.iter().map(String::as_str))?).await?;
        let Self { table, columns, .. } = self;
        let types = self.targets.types(&self.load.name, key.iter().map(String::as_str))?;
        let matches = Key::new(key, &types)?.matches();
        crash_point("before-merge");
        let delete = format!("DELETE FROM {table} t USING {STAGE} s WHERE {matches}");
        work.run(&delete).await?;
        work.run(&format!("INSERT INTO {table} ({columns}) SELECT {columns} FROM {STAGE}")).await?;
        crash_point("after-merge");
        Ok(())
    }

    /// An update column by column, so that columns which the batch lacks keep what they hold.
    async fn merge_latest(&self, work: &mut Work<'_>, key: &str, order: &str) -> Result<(), Failure> {
        let (key, order) = (quote(key)?, quote(order)?);
        self.stage(work, &key).await?;
        let Self { table, columns, .. } = self;
        let newer = format!("(t.{order} IS NULL OR s.{order} >= t.{order})");
        let merged: Vec<String> = self
            .names
            .iter()
            .filter(|name| **name != key)
            .map(|name| {
                format!(
                    "{name} = CASE WHEN {newer} THEN coalesce(s.{name}, t.{name}) ELSE coalesce(t.{name}, s.{name}) END"
                )
            })
            .collect();
        crash_point("before-merge");
        if !merged.is_empty() {
            let update =
                format!("UPDATE {table} t SET {} FROM {STAGE} s WHERE t.{key} = s.{key}", merged.join(", "));
            work.run(&update).await?;
        }
        let insert = format!(
            "INSERT INTO {table} ({columns}) SELECT {columns} FROM {STAGE} s
             WHERE NOT EXISTS (SELECT FROM {table} t WHERE t.{key} = s.{key})"
        );
        work.run(&insert).await?;
        crash_point("after-merge");
        Ok(())
    }
}
