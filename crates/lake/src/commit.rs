//! How an edit becomes a version of the table, and what this process knows of the table then.
//!
//! After a commit the Delta library brings the state of the table up to date, for which it goes through what the
//! log says of each file: a table that is only added to would cost more the larger it is. A commit of
//! rows alone reads no file and depends on none, so it is written here, and the state is left as it was until
//! somebody needs it ([`Known`]). Everything else goes through the library's commit.

use std::sync::Arc;

use chrono::Utc;
use delta_kernel::Snapshot;
use deltalake_core::checkpoints::cleanup_expired_logs_for;
use deltalake_core::kernel::transaction::{CommitBuilder, CommitProperties, TransactionError};
use deltalake_core::kernel::{Action, Add, MetadataExt, Remove, StructType, Transaction};
use deltalake_core::logstore::{LogStore, commit_uri_from_version};
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use deltalake_core::table::config::TablePropertiesExt;
use deltalake_core::table::state::DeltaTableState;
use deltalake_core::{DeltaTable, DeltaTableError};
use millrace_state::object_store::{Error as StoreError, ObjectStoreExt};
use uuid::Uuid;

use crate::data_file;
use crate::protocol::protocol_for;

/// Versions between two deletions of log files that are past their time.
const LOG_CLEANUP_EVERY: u64 = 50;

/// How often rows are added to the next version anew because another writer's commit was first. Beyond it the
/// edit is a conflict, and is planned anew.
const ADD_ATTEMPTS: usize = 16;

type Result<T> = std::result::Result<T, DeltaTableError>;

/// Under which mark a commit is made, so that it is made once.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    /// Whose number.
    pub(crate) app_id: String,
    /// The number of the load.
    pub(crate) number: u64,
}

impl Mark {
    /// Whether a version of a table carries it, or a later number of the same app id.
    pub(crate) async fn is_in(&self, table: &DeltaTable) -> Result<bool> {
        let found = table.snapshot()?.transaction_version(&table.log_store(), &self.app_id).await?;
        Ok(found.and_then(|number| u64::try_from(number).ok()).is_some_and(|number| number >= self.number))
    }
}

/// A table as this process knows it.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    /// The table with the state of a version.
    pub(crate) table: DeltaTable,
    /// The newest version. What was committed since the one of the state are rows that this process added: the
    /// columns are the same, and no file is gone.
    pub(crate) newest: u64,
}

impl From<DeltaTable> for Known {
    fn from(table: DeltaTable) -> Self {
        let newest = table.version().unwrap_or_default();
        Self { table, newest }
    }
}

impl Known {
    /// Brings the state to the newest version.
    pub(crate) async fn catch_up(&mut self) -> Result<()> {
        if self.table.version() == Some(self.newest) {
            return Ok(());
        }
        self.table.update_incremental(Some(self.newest)).await
    }
}

/// What an edit makes of a table.
pub(crate) struct Changes {
    pub(crate) adds: Vec<Add>,
    pub(crate) removes: Vec<Remove>,
    /// The columns of the table from this version on, where they change.
    pub(crate) columns: Option<StructType>,
    /// Whether rows change, or only the files that hold them.
    pub(crate) change_rows: bool,
    /// Whether what is added does not depend on what is there.
    pub(crate) are_blind: bool,
}

/// Makes it the table's next version. Another writer's commit in between is a conflict
/// ([`crate::error::is_conflict`]) unless rows are only added: what was read is then no longer what is there.
pub(crate) async fn commit(known: Known, changes: Changes, mark: Option<&Mark>) -> Result<Known> {
    let Changes { adds, removes, columns, change_rows, are_blind } = changes;
    if adds.is_empty() && removes.is_empty() && mark.is_none() && columns.is_none() {
        return Ok(known);
    }
    // Beyond i64 after 300 million years of loads.
    let number = |mark: &Mark| i64::try_from(mark.number).unwrap_or(i64::MAX);
    let transactions = mark.map(|mark| Transaction::new(&mark.app_id, number(mark)));
    let properties = CommitProperties::default()
        .with_max_retries(0)
        .with_cleanup_expired_logs(Some(cleans_log(known.newest + 1)))
        .with_application_transactions(transactions.into_iter().collect());
    let operation = operation(removes.is_empty(), change_rows);
    let adds = adds.into_iter().map(|add| Action::from(Add { data_change: change_rows, ..add }));
    if are_blind && columns.is_none() && removes.is_empty() {
        return add_rows(known, adds.collect(), properties, operation, mark).await;
    }

    let mut table = known.table;
    let state = table.snapshot()?;
    let mut actions = Vec::new();
    if let Some(columns) = &columns {
        actions.push(Action::from(state.metadata().clone().with_schema(columns)?));
        if let Some(protocol) = protocol_for(state.protocol(), columns)? {
            actions.push(Action::from(protocol));
        }
    }
    // Counted from the commit, not from when the edit began: until now, others could open these files.
    let deletion_timestamp = Some(Utc::now().timestamp_millis());
    let removed = |remove| Remove { data_change: change_rows, deletion_timestamp, ..remove };
    actions.extend(removes.into_iter().map(removed).map(Action::from).chain(adds));
    let committed = CommitBuilder::from(properties)
        .with_actions(actions)
        .build(Some(state.snapshot()), table.log_store(), operation)
        .await?;
    table.state = Some(committed.snapshot());
    Ok(Known::from(table))
}

/// Commits rows to whatever version is next, as long as the table is what the rows were made for.
async fn add_rows(
    mut known: Known,
    adds: Vec<Action>,
    properties: CommitProperties,
    operation: DeltaOperation,
    mark: Option<&Mark>,
) -> Result<Known> {
    let log = known.table.log_store();
    let prepared = CommitBuilder::from(properties)
        .with_actions(adds)
        .build(Some(known.table.snapshot()?.snapshot()), known.table.log_store(), operation)
        .into_prepared_commit_future()
        .await?;
    let entry = prepared.commit_or_bytes().clone();
    drop(prepared);
    for _ in 0..ADD_ATTEMPTS {
        // A table that somebody deleted and made anew has fewer versions: there would be a gap in its log.
        match log.object_store(None).head(&commit_uri_from_version(Some(known.newest))).await {
            Ok(_) => {}
            Err(StoreError::NotFound { .. }) => {
                return Err(DeltaTableError::VersionAlreadyExists(known.newest));
            }
            Err(error) => return Err(error.into()),
        }
        match log.write_commit_entry(known.newest + 1, entry.clone(), Uuid::new_v4()).await {
            Ok(()) => {
                known.newest += 1;
                tend_log(&mut known).await?;
                return Ok(known);
            }
            Err(TransactionError::VersionAlreadyExists(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let before = known.table.snapshot()?.clone();
        known.table.update_state().await?;
        let now = known.table.snapshot()?;
        let same = before.metadata() == now.metadata() && before.protocol() == now.protocol();
        // The mark: another loader has done the same, or the answer to this very commit was lost.
        let is_done = match mark {
            Some(mark) => mark.is_in(&known.table).await?,
            None => false,
        };
        if !same || is_done {
            return Err(DeltaTableError::VersionAlreadyExists(now.version()));
        }
        known = Known::from(known.table);
    }
    Err(DeltaTableError::VersionAlreadyExists(known.newest))
}

/// What the library does after each commit of its own: a checkpoint when the table's settings ask for one, so that
/// whoever opens it has little to read, and the deletion of what the log no longer needs. Neither needs the state:
/// bringing it up to date for each checkpoint was 7 % of a load of three million events.
async fn tend_log(known: &mut Known) -> Result<()> {
    let config = known.table.snapshot()?.table_config();
    let (every, kept) = (config.checkpoint_interval().get(), config.log_retention_duration());
    let log = known.table.log_store();
    if (known.newest + 1).is_multiple_of(every) {
        write_checkpoint(&*log, known.newest).await?;
    }
    if cleans_log(known.newest) {
        // Kept for longer than there have been milliseconds: nothing is older.
        let kept = i64::try_from(kept.as_millis()).unwrap_or(i64::MAX);
        let before = Utc::now().timestamp_millis().saturating_sub(kept);
        if cleanup_expired_logs_for(known.newest, &*log, before, None).await? > 0 {
            // The state would go on to name files of the log that are gone.
            known.table.state = Some(DeltaTableState::try_new(&log, Some(known.newest)).await?);
        }
    }
    Ok(())
}

/// As the library writes one, of a version that no [`DeltaTable`] has been brought to.
async fn write_checkpoint(log: &dyn LogStore, version: u64) -> Result<()> {
    let (folder, engine) = (log.transaction_url(None)?, log.engine(None));
    let reading = Arc::clone(&engine);
    let snapshot = tokio::task::spawn_blocking(move || {
        Snapshot::builder_for(folder).at_version(version).build(reading.as_ref())
    });
    let snapshot = snapshot.await.map_err(|error| DeltaTableError::Generic(error.to_string()))??;
    snapshot.checkpoint(engine.as_ref(), None)?;
    Ok(())
}

/// Whether the log is looked through with this version: right after a checkpoint of a table of ours, so that there is
/// one to cut it at.
fn cleans_log(version: u64) -> bool {
    (version + 1).is_multiple_of(LOG_CLEANUP_EVERY)
}

/// What the table's history says.
fn operation(only_adds: bool, changes_rows: bool) -> DeltaOperation {
    if !changes_rows {
        return DeltaOperation::Optimize {
            predicate: None,
            target_size: data_file::FILE_BYTES.get().cast_signed(),
        };
    }
    let mode = if only_adds { SaveMode::Append } else { SaveMode::Overwrite };
    DeltaOperation::Write { mode, partition_by: None, predicate: None }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::edit::Edit;
    use crate::error;
    use crate::tables::Tables;
    use crate::upkeep::tests::{append, row, tables_in, tracks};

    async fn made_in(folder: &tempfile::TempDir) -> Tables {
        let tables = tables_in(folder);
        let (name, columns) = tracks();
        tables.create(&name, &columns).await.unwrap();
        tables
    }

    async fn known(tables: &Tables) -> Known {
        tables.any(&tracks().0).await.unwrap().unwrap()
    }

    /// The files that the latest version has, to whoever opens it.
    async fn files(folder: &tempfile::TempDir) -> usize {
        let table = tables_in(folder).latest(&tracks().0).await.unwrap().unwrap();
        table.snapshot().unwrap().log_data().num_files()
    }

    fn log_of(folder: &Path, is_asked_for: impl Fn(&str) -> bool) -> Vec<String> {
        let log = std::fs::read_dir(folder.join("web/tracks/_delta_log")).unwrap();
        let mut names: Vec<_> = log.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| is_asked_for(name));
        names.sort_unstable();
        names
    }

    fn entries(folder: &Path) -> Vec<String> {
        log_of(folder, |name| name.starts_with('0') && name.ends_with(".json"))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn rows_are_added_without_reading_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let tables = made_in(&folder).await;
        for n in 0..24 {
            append(&tables, n).await;
        }
        let known = known(&tables).await;
        assert_eq!((known.table.version(), known.newest), (Some(0), 24));
        let checkpoints = log_of(folder.path(), |name| name.contains(".checkpoint."));
        assert_eq!(checkpoints, ["00000000000000000024.checkpoint.parquet"]);
        assert_eq!(files(&folder).await, 24);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_checkpoint_holds_the_rows_and_the_marks_of_the_log_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let tables = made_in(&folder).await;
        let mark = Mark { app_id: "a".to_owned(), number: 7 };
        let mut edit = Edit::new(&tracks().0, known(&tables).await).unwrap();
        edit.append(&row(0)).await.unwrap();
        tables.keep(&tracks().0, edit.commit(Some(&mark)).await.unwrap().known);
        for n in 1..24 {
            append(&tables, n).await;
        }
        for name in entries(folder.path()) {
            if name.as_str() < "00000000000000000024" {
                std::fs::remove_file(folder.path().join("web/tracks/_delta_log").join(name)).unwrap();
            }
        }
        let table = tables_in(&folder).latest(&tracks().0).await.unwrap().unwrap();
        assert!(mark.is_in(&table).await.unwrap());
        assert_eq!(files(&folder).await, 24);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn two_processes_add_to_one_table_in_turn() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (made_in(&folder).await, made_in(&folder).await);
        for n in 0..30 {
            append(&one, n).await;
            append(&other, 100 + n).await;
        }
        assert_eq!(files(&folder).await, 60);
        assert_eq!(entries(folder.path()).len(), 61);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_replaces_rows_sees_those_that_were_just_added() {
        let folder = tempfile::tempdir().unwrap();
        let tables = made_in(&folder).await;
        for n in 0..5 {
            append(&tables, n).await;
        }
        let mut edit = Edit::new(&tracks().0, known(&tables).await).unwrap();
        edit.delete(&row(3), &["n".to_owned()]).await.unwrap();
        tables.keep(&tracks().0, edit.commit(None).await.unwrap().known);
        assert_eq!(files(&folder).await, 4);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn rows_for_columns_that_changed_meanwhile_are_a_conflict() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (made_in(&folder).await, made_in(&folder).await);
        let (name, mut columns) = tracks();
        let mut edit = Edit::new(&name, known(&one).await).unwrap();
        edit.append(&row(1)).await.unwrap();
        columns.insert("more".to_owned(), millrace_event_model::FieldType::Int);
        other.add_columns(&name, &columns).await.unwrap();
        let refused = edit.commit(None).await.err().unwrap();
        assert!(error::is_conflict(&refused), "{refused}");
        assert_eq!(files(&folder).await, 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_two_that_add_the_rows_of_one_load_one_does() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (made_in(&folder).await, made_in(&folder).await);
        let mark = Mark { app_id: "a".to_owned(), number: 7 };
        let mut results = Vec::new();
        for tables in [&one, &other] {
            let mut edit = Edit::new(&tracks().0, known(tables).await).unwrap();
            edit.append(&row(1)).await.unwrap();
            results.push(edit.commit(Some(&mark)).await.map(|_| ()));
        }
        assert!(results[0].is_ok() && error::is_conflict(results[1].as_ref().unwrap_err()));
        assert_eq!(files(&folder).await, 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_table_that_was_deleted_and_made_anew_gets_no_gap_in_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (made_in(&folder).await, tables_in(&folder));
        for n in 0..3 {
            append(&one, n).await;
        }
        other.delete_schema("web").await.unwrap();
        made_in(&folder).await;
        let mut edit = Edit::new(&tracks().0, known(&one).await).unwrap();
        edit.append(&row(4)).await.unwrap();
        assert!(error::is_conflict(&edit.commit(None).await.err().unwrap()));
        assert_eq!(entries(folder.path()), ["00000000000000000000.json"]);
    }
}
