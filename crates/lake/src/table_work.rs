//! What a load does to one table, so that it happens once.
//!
//! All of it is one Delta commit: a swap, then appended, replaced and merged rows, and the mark
//! `txn(app id, N)`. A table that carries N, or a later number, of this app id has had its part of load N
//! and is left alone; one that does not has had none of it. Two loaders that do the same N at once both
//! start from a version without the mark, and the Delta log takes one of the two commits: the other
//! conflicts, looks again, and finds the mark (`two_that_do_the_same_load_at_once_do_it_once`).

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use deltalake_core::DeltaTable;
use millrace_columnar::arrow::array::RecordBatch;
use millrace_connector::{ConnectorError, Swap, TableLoad, TableName, WriteMode};
use tokio::runtime::Handle;

use crate::edit::{Edit, Mark};
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
    /// The generation that becomes the table, before anything is written to it.
    swap: Option<u64>,
    writes: Vec<(RecordBatch, WriteMode)>,
}

/// Sorts a load by table. Batches without rows do nothing.
pub(crate) fn by_table(loads: Vec<TableLoad>, swaps: Vec<Swap>) -> BTreeMap<TableName, TableWork> {
    let mut works: BTreeMap<TableName, TableWork> = BTreeMap::new();
    for load in loads {
        for rows in load.rows.into_iter().filter(|rows| rows.num_rows() > 0) {
            let work = works.entry(load.name.clone()).or_default();
            match &load.write {
                WriteMode::Stage { generation } => work.staged.push((*generation, rows)),
                write => work.writes.push((rows, write.clone())),
            }
        }
    }
    for swap in swaps {
        let work = works.entry(swap.name).or_default();
        // Of two that are complete, the newer holds.
        work.swap = work.swap.max(Some(swap.generation));
    }
    works
}

impl TableWork {
    /// Does it, or finds that it is done. `again`: the load began before, perhaps in another process.
    pub(crate) async fn run(
        self,
        tables: Arc<Tables>,
        stage: Stage,
        name: TableName,
        mark: Mark,
        again: bool,
    ) -> Result<()> {
        // Encoding and merging rows is work of many milliseconds.
        on_blocking_thread(async move { self.run_here(&tables, &stage, &name, &mark, again).await }).await
    }

    async fn run_here(
        &self,
        tables: &Tables,
        stage: &Stage,
        name: &TableName,
        mark: &Mark,
        again: bool,
    ) -> Result<()> {
        for (part, (generation, rows)) in self.staged.iter().enumerate() {
            stage.write(name, *generation, mark.number, part, rows).await?;
        }
        if self.swap.is_some() || !self.writes.is_empty() {
            self.commit(tables, stage, name, mark, again).await?;
        }
        // Only now, for the swap read them.
        let swapped = self.swap.map(|generation| generation + 1);
        let staged = self.staged.iter().map(|(generation, _)| *generation).max();
        match swapped.max(staged) {
            Some(keep_from) => stage.discard(name, keep_from).await,
            None => Ok(()),
        }
    }

    async fn commit(
        &self,
        tables: &Tables,
        stage: &Stage,
        name: &TableName,
        mark: &Mark,
        again: bool,
    ) -> Result<()> {
        let mut look_first = again;
        for _ in 0..COMMIT_ATTEMPTS {
            let table = if look_first { tables.latest(name).await? } else { tables.any(name).await? };
            let table = table.ok_or_else(|| missing(name))?;
            if look_first && has_mark(name, &table, mark).await? {
                return Ok(());
            }
            let mut edit = Edit::new(name, table)?;
            if let Err(error) = self.plan(&mut edit, stage).await {
                // The version in memory may be too old: a column or a file has come or gone since.
                if look_first {
                    return Err(error);
                }
                look_first = true;
                continue;
            }
            match edit.commit(Some(mark)).await {
                Ok(table) => {
                    tables.keep(name, table);
                    return Ok(());
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

    async fn plan(&self, edit: &mut Edit, stage: &Stage) -> Result<()> {
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

async fn has_mark(name: &TableName, table: &DeltaTable, mark: &Mark) -> Result<bool> {
    let unreadable = |error| error::delta(format!("cannot read the marks of table {}", display(name)), error);
    let state = table.snapshot().map_err(unreadable)?;
    let found = state.transaction_version(&table.log_store(), &mark.app_id).await.map_err(unreadable)?;
    Ok(found.and_then(|number| u64::try_from(number).ok()).is_some_and(|number| number >= mark.number))
}

/// Runs a future that computes for long on a thread that may be blocked. If the caller goes away, it runs
/// to its end all the same, which is why every step of a load may be done by two at once.
pub(crate) async fn on_blocking_thread<T: Send + 'static>(
    future: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let runtime = Handle::current();
    match tokio::task::spawn_blocking(move || runtime.block_on(future)).await {
        Ok(result) => result,
        Err(error) => Err(ConnectorError::retry("aborted", "work on the lake was cut off").caused_by(error)),
    }
}
