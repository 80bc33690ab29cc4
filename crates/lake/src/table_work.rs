//! What a load does to one table, so that it happens once.
//!
//! All of it is one Delta commit: a replacement or a swap, then appended, replaced and merged rows, and the mark
//! `txn(app id, N)`. A table that carries N, or a later number, of this app id has had its part of load N
//! and is left alone; one that does not has had none of it. Two loaders that do the same N at once both
//! start from a version without the mark, and the Delta log takes one of the two commits: the other
//! conflicts, looks again, and finds the mark (`two_that_do_the_same_load_at_once_do_it_once`).

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use millrace_columnar::arrow::array::RecordBatch;
use millrace_columnar::arrow::compute::concat_batches;
use millrace_connector::{ConnectorError, LoadReport, Replacement, Swap, TableLoad, TableName, WriteMode};
use millrace_service::{crash_point, spawn_busy};

use crate::commit::{Known, Mark};
use crate::edit::Edit;
use crate::error::{self, Result};
use crate::stage::Stage;
use crate::tables::{Tables, display, missing};

/// How often a table's part of a load is planned anew because another writer's commit came first. A
/// table has few writers: the connections that share its schema.
const COMMIT_ATTEMPTS: usize = 8;

/// One table's part of a load.
#[derive(Debug, Clone, Default)]
pub(crate) struct TableWork {
    /// Rows for hidden generations.
    staged: Vec<(u64, RecordBatch)>,
    /// The table whose rows become those of this one, before anything else.
    replaced_by: Option<TableName>,
    /// The generation that becomes the table, before anything is written to it.
    swap: Option<u64>,
    writes: Vec<(RecordBatch, WriteMode)>,
}

/// Sorts a load by table. Batches without rows do nothing.
pub(crate) fn by_table(
    loads: Vec<TableLoad>,
    swaps: Vec<Swap>,
    replacements: Vec<Replacement>,
) -> Result<BTreeMap<TableName, TableWork>> {
    let mut works: BTreeMap<TableName, TableWork> = BTreeMap::new();
    for load in loads {
        let batches: Vec<RecordBatch> = load.rows.into_iter().filter(|rows| rows.num_rows() > 0).collect();
        let Some(first) = batches.first() else { continue };
        let work = works.entry(load.name.clone()).or_default();
        match load.write {
            WriteMode::Stage { generation } => {
                work.staged.extend(batches.into_iter().map(|rows| (generation, rows)));
            }
            WriteMode::Append => {
                work.writes.extend(batches.into_iter().map(|rows| (rows, WriteMode::Append)));
            }
            // By key, every batch reads the keys of the table: once is enough.
            keyed => {
                let rows = concat_batches(&first.schema(), &batches).map_err(|error| {
                    error::rows(format!("cannot join the rows for table {}", display(&load.name)), error)
                })?;
                work.writes.push((rows, keyed));
            }
        }
    }
    for swap in swaps {
        let work = works.entry(swap.name).or_default();
        // Of two that are complete, the newer holds.
        work.swap = work.swap.max(Some(swap.generation));
    }
    for replacement in replacements {
        works.entry(replacement.to).or_default().replaced_by = Some(replacement.from);
    }
    Ok(works)
}

/// Before a load is announced: without what it reads it could never be done, and nothing else could come after it.
pub(crate) async fn sources_are_there(tables: &Tables, replacements: &[Replacement]) -> Result<()> {
    for Replacement { from, .. } in replacements {
        if tables.fresh(from).await?.is_none() {
            return Err(missing(from));
        }
    }
    Ok(())
}

impl TableWork {
    /// Whether it reads another table, which must have had its own part first.
    pub(crate) fn is_replaced(&self) -> bool {
        self.replaced_by.is_some()
    }

    /// Does it, or finds that it is done. `again`: the load began before, perhaps in another process.
    pub(crate) async fn run(
        self,
        tables: Arc<Tables>,
        stage: Stage,
        name: TableName,
        mark: Mark,
        again: bool,
    ) -> Result<LoadReport> {
        let statement = format!("{} (load {})", self.statement(&name), mark.number);
        // Encoding and merging rows is work of many milliseconds.
        let done = on_busy_thread(async move { self.run_here(&tables, &stage, &name, &mark, again).await });
        let report = done.await.map_err(|error| match error.statement {
            Some(_) => error,
            None => error.in_statement(statement),
        })?;
        crash_point("between-tables");
        Ok(report)
    }

    /// What is done, in the words of SQL, for the text of an error.
    fn statement(&self, name: &TableName) -> String {
        let table = display(name);
        let mut parts = Vec::new();
        if let Some(from) = &self.replaced_by {
            parts.push(format!("INSERT OVERWRITE {table} SELECT * FROM {}", display(from)));
        }
        if let Some(generation) = self.swap {
            parts.push(format!("INSERT OVERWRITE {table} FROM generation {generation}"));
        }
        for (_, write) in &self.writes {
            let part = match write {
                WriteMode::Append | WriteMode::Stage { .. } => format!("INSERT INTO {table}"),
                WriteMode::Upsert { key } => format!("MERGE INTO {table} ON {}", key.join(", ")),
                WriteMode::MergeLatest { key, order } => format!("MERGE INTO {table} ON {key} BY {order}"),
            };
            if parts.last() != Some(&part) {
                parts.push(part);
            }
        }
        if !self.staged.is_empty() {
            parts.push(format!("STAGE {table}"));
        }
        parts.join("; ")
    }

    async fn run_here(
        &self,
        tables: &Tables,
        stage: &Stage,
        name: &TableName,
        mark: &Mark,
        again: bool,
    ) -> Result<LoadReport> {
        let mut report = LoadReport::default();
        for (part, (generation, rows)) in self.staged.iter().enumerate() {
            report.bytes += stage.write(name, *generation, mark.number, part, rows).await?;
        }
        if self.replaced_by.is_some() || self.swap.is_some() || !self.writes.is_empty() {
            report.bytes += self.commit(tables, stage, name, mark, again).await?;
            report.statements += 1;
        }
        // Only now, for the swap read them.
        let swapped = self.swap.map(|generation| generation + 1);
        let staged = self.staged.iter().map(|(generation, _)| *generation).max();
        if let Some(keep_from) = swapped.max(staged) {
            stage.discard(name, keep_from).await?;
        }
        Ok(report)
    }

    async fn commit(
        &self,
        tables: &Tables,
        stage: &Stage,
        name: &TableName,
        mark: &Mark,
        again: bool,
    ) -> Result<u64> {
        let mut look_first = again;
        for _ in 0..COMMIT_ATTEMPTS {
            let known = if look_first {
                tables.latest(name).await?.map(Known::from)
            } else {
                tables.any(name).await?
            };
            let known = known.ok_or_else(|| missing(name))?;
            let unread =
                |error| error::delta(format!("cannot read the marks of table {}", display(name)), error);
            if look_first && mark.is_in(&known.table).await.map_err(unread)? {
                return Ok(0);
            }
            let mut edit = Edit::new(name, known)?;
            if let Err(error) = self.plan(&mut edit, tables, stage).await {
                // The version in memory may be too old: a column or a file has come or gone since.
                if look_first {
                    return Err(error);
                }
                look_first = true;
                continue;
            }
            if i64::try_from(edit.age().as_secs()).is_ok_and(|age| age >= tables.kept().num_seconds() / 2) {
                // Upkeep takes files for abandoned that no version has after `kept`: this process slept.
                let text = format!("the files for table {} are too old to be committed", display(name));
                return Err(ConnectorError::retry("too_late", text));
            }
            match edit.commit(Some(mark)).await {
                Ok(committed) => {
                    tables.keep(name, committed.known);
                    return Ok(committed.bytes);
                }
                Err(error) if error::is_conflict(&error) => look_first = true,
                Err(error) => {
                    return Err(error::delta(format!("cannot commit to table {}", display(name)), error));
                }
            }
        }
        let text = format!("other writers of table {} were first {COMMIT_ATTEMPTS} times", display(name));
        Err(ConnectorError::retry("conflict", text))
    }

    async fn plan(&self, edit: &mut Edit, tables: &Tables, stage: &Stage) -> Result<()> {
        if let Some(from) = &self.replaced_by {
            let table = tables.fresh(from).await?.ok_or_else(|| missing(from))?;
            edit.replace_by(from, &table).await?;
        }
        if let Some(generation) = self.swap {
            edit.swap(stage, generation).await?;
        }
        for (rows, write) in &self.writes {
            match write {
                WriteMode::Append => edit.append(rows).await?,
                WriteMode::Upsert { key } => edit.upsert(rows, key).await?,
                WriteMode::MergeLatest { key, order } => edit.merge_latest(rows, key, order).await?,
                // `by_table` has put these elsewhere.
                WriteMode::Stage { .. } => {}
            }
        }
        Ok(())
    }
}

/// Runs a future that computes for long on a thread for that. If the caller goes away, it runs to its end all the
/// same, which is why every step of a load may be done by two at once.
pub(crate) async fn on_busy_thread<T: Send + 'static>(
    future: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    match spawn_busy(future).await {
        Ok(result) => result,
        Err(error) => Err(ConnectorError::retry("aborted", "work on the lake was cut off").caused_by(error)),
    }
}
