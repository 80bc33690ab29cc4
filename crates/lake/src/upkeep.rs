//! Keeping a table small and fast though it is committed to every few seconds.
//!
//! After a load is sealed, and not more often than the settings say for each table: small files are merged
//! into larger ones, and files that have not been the table's for `keep_versions_for` are deleted
//! (`a_file_stays_for_as_long_as_promised_after_it_left_the_table`). It is done by the loader between two loads, under its fence, so it never races one of its own;
//! another connection's load of the same table makes the merge give way. Nothing depends on it: if it fails,
//! it is tried again later.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use deltalake_core::DeltaTable;
use futures::TryStreamExt;
use millrace_connector::{Load, TableLoad, TableName, WriteMode};
use millrace_state::object_store::path::Path;
use millrace_state::object_store::{ObjectMeta, ObjectStore};

use crate::counts;
use crate::edit::Edit;
use crate::error::{self, Result};
use crate::object_stores;
use crate::partition::Partitioning;
use crate::tables::{Tables, display};

/// Files of one size class that are merged into one. Classes are powers of this, so a row is rewritten once
/// per class: four times on the way from 4 KiB to 64 MiB.
const MERGE_FILES: usize = 16;

/// Files from this size on stay as they are.
const LARGE: i64 = 32 * 1024 * 1024;

/// When each table had its last round in this process.
pub(crate) struct Upkeep {
    every: TimeDelta,
    last: Mutex<HashMap<TableName, DateTime<Utc>>>,
}

impl Upkeep {
    pub(crate) fn new(every: TimeDelta) -> Self {
        Self { every, last: Mutex::new(HashMap::new()) }
    }

    /// Does a round, if one is due after a load's commit. The first commit of a process makes one due, so
    /// that a loader that is started for each load has them too. `now` is a moment before the call: what is
    /// committed later than it is looked at must be young in its terms.
    pub(crate) async fn after_commit(
        &self,
        tables: &Tables,
        name: &TableName,
        now: DateTime<Utc>,
    ) -> Result<()> {
        if !self.is_due(name, now) {
            return Ok(());
        }
        // Not the version in memory: it may be hours old, and files that others have committed since would
        // look like nobody's.
        let Some(table) = tables.latest(name).await? else { return Ok(()) };
        let Some(table) = tables.remember_longer(name, table).await? else { return Ok(()) };
        let Some(table) = compact(tables, name, table).await? else { return Ok(()) };
        collect(name, &table, now - tables.kept()).await
    }

    fn is_due(&self, name: &TableName, now: DateTime<Utc>) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.get(name).is_none_or(|last| now - *last >= self.every);
        if due {
            last.insert(name.clone(), now);
        }
        due
    }
}

/// The tables that get a new version by a load, which are the ones that a round may be due for. Rows that are
/// only staged are not in a table yet.
pub(crate) fn committed_by(load: &Load) -> BTreeSet<TableName> {
    let has_rows = |table: &&TableLoad| table.rows.iter().any(|rows| rows.num_rows() > 0);
    let is_staged = |table: &TableLoad| matches!(table.write, WriteMode::Stage { .. });
    let written = load.tables.iter().filter(has_rows).filter(|table| !is_staged(table));
    let mut names: BTreeSet<TableName> = written.map(|table| table.name.clone()).collect();
    names.extend(load.swaps.iter().map(|swap| swap.name.clone()));
    names.extend(load.replacements.iter().map(|replacement| replacement.to.clone()));
    names.extend((!load.counts.is_empty()).then(counts::name));
    names
}

/// Merges small files. None when a writer came in between, which is a reason to leave all of it for the next
/// round: the version at hand lacks that writer's files.
async fn compact(tables: &Tables, name: &TableName, table: DeltaTable) -> Result<Option<DeltaTable>> {
    let failed = |error| error::delta(format!("cannot compact table {}", display(name)), error);
    let state = table.snapshot().map_err(failed)?;
    let files = state.log_data().into_iter().map(|file| (file.object_store_path(), file.size()));
    let small = to_merge(files);
    if small.is_empty() {
        return Ok(Some(table));
    }
    let mut edit = Edit::new(name, table)?;
    edit.compact(&small).await?;
    match edit.commit(None).await {
        Ok(compacted) => {
            tables.keep(name, compacted.known.clone());
            Ok(Some(compacted.known.table))
        }
        Err(error) if error::is_conflict(&error) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// The files of each partition and size class that has enough of them.
fn to_merge(files: impl Iterator<Item = (Path, i64)>) -> Vec<Path> {
    let class_bits = MERGE_FILES.ilog2();
    let mut classes: BTreeMap<(String, u32), Vec<Path>> = BTreeMap::new();
    for (path, size) in files.filter(|(_, size)| *size < LARGE) {
        let folder = path.as_ref().rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        classes.entry((folder, size.max(1).ilog2() / class_bits)).or_default().push(path);
    }
    classes.into_values().filter(|paths| paths.len() >= MERGE_FILES).flatten().collect()
}

/// Deletes data files that are not the table's, and that are older than anyone reads or writes: what was never
/// committed by when it was written, what a version had by when the last one that had it was replaced. A file
/// may have been the table's for months, and somebody opened it a second before it left.
async fn collect(name: &TableName, table: &DeltaTable, before: DateTime<Utc>) -> Result<()> {
    let failed = |error| error::delta(format!("cannot delete old files of table {}", display(name)), error);
    let state = table.snapshot().map_err(failed)?;
    let live: HashSet<Path> = state.log_data().into_iter().map(|file| file.object_store_path()).collect();
    let store = table.object_store();
    let found: Vec<_> = store.list(None).try_collect().await.map_err(|error| failed(error.into()))?;
    let is_old = |object: &ObjectMeta| is_data(&object.location) && object.last_modified < before;
    let mut doomed: HashSet<Path> = found.into_iter().filter(is_old).map(|old| old.location).collect();
    doomed.retain(|path| !live.contains(path));
    if doomed.is_empty() {
        return Ok(());
    }
    let log = table.log_store();
    let mut removed = state.all_tombstones(&log);
    while let Some(file) = removed.try_next().await.map_err(failed)? {
        if file.deletion_timestamp().is_some_and(|at| at >= before.timestamp_millis()) {
            let path = file.path();
            doomed.remove(&Path::parse(path.as_ref()).unwrap_or_else(|_| Path::from(path.as_ref())));
        }
    }
    // Another connection's loader may be about to delete the same.
    object_stores::delete(&*store, doomed).await.map_err(|error| failed(error.into()))
}

/// Whether a path of a table's folder is where its rows lie. Whatever else lies there is not ours.
fn is_data(path: &Path) -> bool {
    let folder = path.as_ref().rsplit_once('/').map_or("", |(folder, _)| folder);
    let partition = folder.strip_prefix(Partitioning::COLUMN).and_then(|rest| rest.strip_prefix('='));
    let place = folder.is_empty() || partition.is_some_and(|date| !date.contains('/'));
    place && path.extension() == Some("parquet")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
pub(crate) mod tests {
    use deltalake_core::table::config::TablePropertiesExt;
    use millrace_columnar::arrow::array::RecordBatch;
    use millrace_columnar::{Cell, Row, TableSchema, batch_of};
    use millrace_connector::{Count, Replacement, Swap};
    use millrace_event_model::{Disposition, FieldType};
    use millrace_state::Store;

    use super::*;

    #[test]
    fn only_a_class_with_many_files_is_merged() {
        let small = (0..20).map(|n| (Path::from(format!("small-{n}")), 5_000));
        let some = (0..15).map(|n| (Path::from(format!("some-{n}")), 500_000));
        let large = (0..20).map(|n| (Path::from(format!("large-{n}")), LARGE));
        let merged = to_merge(small.chain(some).chain(large));
        assert_eq!(merged.len(), 20);
        assert!(merged.iter().all(|path| path.as_ref().starts_with("small")));
    }

    #[test]
    fn files_of_two_dates_are_not_merged_and_only_files_of_rows_are_ours() {
        let files = |date: &str| -> Vec<(Path, i64)> {
            (0..10).map(|n| (Path::from(format!("millrace_date={date}/{n}.parquet")), 5_000)).collect()
        };
        let of_two = files("2026-11-24").into_iter().chain(files("2026-11-25"));
        assert_eq!(to_merge(of_two), Vec::<Path>::new());
        let ours = ["a.parquet", "millrace_date=2026-11-24/a.parquet"];
        let others =
            ["_delta_log/1.checkpoint.parquet", "a.csv", "x=1/a.parquet", "millrace_date=1/y=2/a.parquet"];
        assert!(ours.iter().all(|path| is_data(&Path::from(*path))));
        assert!(!others.iter().any(|path| is_data(&Path::from(*path))));
    }

    pub(crate) fn tracks() -> (TableName, TableSchema) {
        let name = TableName { schema: "web".to_owned(), table: "tracks".to_owned() };
        let columns = [("n", FieldType::Int), ("received_at", FieldType::DateTime)];
        (name, columns.map(|(name, column)| (name.to_owned(), column)).into())
    }

    pub(crate) fn tables_in(folder: &tempfile::TempDir) -> Tables {
        let store = Store::reach(folder.path().to_str().unwrap(), &BTreeMap::new()).unwrap();
        Tables::new(store, Partitioning { streams: false }, TimeDelta::hours(1))
    }

    pub(crate) fn row(n: i64) -> RecordBatch {
        let row = Row::from([("n".to_owned(), Cell::Int(n)), ("received_at".to_owned(), Cell::DateTime(n))]);
        batch_of(&tracks().1, &[row]).unwrap()
    }

    pub(crate) async fn append(tables: &Tables, n: i64) {
        let name = tracks().0;
        let mut edit = Edit::new(&name, tables.any(&name).await.unwrap().unwrap()).unwrap();
        edit.append(&row(n)).await.unwrap();
        tables.keep(&name, edit.commit(None).await.unwrap().known);
    }

    /// The files of the only day that rows are of.
    fn files(folder: &tempfile::TempDir) -> Vec<std::path::PathBuf> {
        let of_day = folder.path().join("web/tracks/millrace_date=1970-01-01");
        std::fs::read_dir(of_day).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_another_process_committed_hours_ago_is_not_taken_for_abandoned() {
        let folder = tempfile::tempdir().unwrap();
        let (quiet, busy) = (tables_in(&folder), tables_in(&folder));
        let (name, columns) = tracks();
        quiet.create(&name, &columns).await.unwrap();
        append(&busy, 1).await;
        let upkeep = Upkeep::new(TimeDelta::minutes(5));
        upkeep.after_commit(&quiet, &name, Utc::now() + TimeDelta::hours(2)).await.unwrap();
        assert_eq!(files(&folder).len(), 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_file_stays_for_as_long_as_promised_after_it_left_the_table() {
        let folder = tempfile::tempdir().unwrap();
        let tables = tables_in(&folder);
        let (name, columns) = tracks();
        tables.create(&name, &columns).await.unwrap();
        for n in 0..16 {
            append(&tables, n).await;
        }
        let of_old = files(&folder);
        for file in &of_old {
            let file = std::fs::File::options().write(true).open(file).unwrap();
            file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(48 * 3600))
                .unwrap();
        }
        let round = async |now| Upkeep::new(TimeDelta::minutes(5)).after_commit(&tables, &name, now).await;
        round(Utc::now()).await.unwrap();
        assert_eq!(files(&folder).len(), 17, "whoever reads the version before the merge still can");
        round(Utc::now() + TimeDelta::minutes(59)).await.unwrap();
        assert_eq!(files(&folder).len(), 17);
        round(Utc::now() + TimeDelta::minutes(61)).await.unwrap();
        assert_eq!(files(&folder).len(), 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_file_stays_as_long_under_settings_that_came_after_its_table() {
        let folder = tempfile::tempdir().unwrap();
        let (name, columns) = tracks();
        tables_in(&folder).create(&name, &columns).await.unwrap();
        let store = Store::reach(folder.path().to_str().unwrap(), &BTreeMap::new()).unwrap();
        let kept = TimeDelta::days(9);
        let tables = Tables::new(store.clone(), Partitioning { streams: false }, kept);
        append(&tables, 1).await;
        Upkeep::new(TimeDelta::minutes(5)).after_commit(&tables, &name, Utc::now()).await.unwrap();
        let remembered = async |tables: &Tables| {
            let table = tables.fresh(&name).await.unwrap().unwrap();
            let config = table.snapshot().unwrap().table_config();
            (config.log_retention_duration(), config.deleted_file_retention_duration())
        };
        let nine_days = kept.to_std().unwrap();
        assert_eq!(remembered(&tables).await, (nine_days, nine_days));
        // Shorter ones take nothing from whoever relies on it.
        let shorter = tables_in(&folder);
        append(&shorter, 2).await;
        Upkeep::new(TimeDelta::minutes(5)).after_commit(&shorter, &name, Utc::now()).await.unwrap();
        assert_eq!(remembered(&shorter).await, (nine_days, nine_days));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn two_that_delete_the_same_files_at_once_both_succeed() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, theirs) = (tables_in(&folder), tables_in(&folder));
        let (name, columns) = tracks();
        ours.create(&name, &columns).await.unwrap();
        for n in 0..16 {
            append(&ours, n).await;
        }
        let upkeep = Upkeep::new(TimeDelta::minutes(5));
        upkeep.after_commit(&ours, &name, Utc::now()).await.unwrap();
        let tables =
            [ours.latest(&name).await.unwrap().unwrap(), theirs.latest(&name).await.unwrap().unwrap()];
        let before = Utc::now() + TimeDelta::hours(1);
        let store = tables[0].object_store();
        let doomed: Vec<Path> = files_of(&folder)
            .into_iter()
            .map(|file| Path::from(format!("millrace_date=1970-01-01/{file}")))
            .collect();
        assert_eq!(doomed.len(), 17);
        let twice = doomed.iter().chain(&doomed).cloned().collect::<Vec<_>>();
        let (one, two) = tokio::join!(collect(&name, &tables[0], before), collect(&name, &tables[1], before));
        one.unwrap();
        two.unwrap();
        assert_eq!(files(&folder).len(), 1);
        object_stores::delete(&*store, twice).await.unwrap();
        assert_eq!(files(&folder).len(), 0);
    }

    fn files_of(folder: &tempfile::TempDir) -> Vec<String> {
        files(folder).iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_merge_that_another_writer_forestalled_leaves_everything_for_the_next_round() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, theirs) = (tables_in(&folder), tables_in(&folder));
        let (name, columns) = tracks();
        ours.create(&name, &columns).await.unwrap();
        for n in 0..16 {
            append(&ours, n).await;
        }
        let table = ours.latest(&name).await.unwrap().unwrap();
        append(&theirs, 16).await;
        assert!(compact(&ours, &name, table).await.unwrap().is_none());
    }

    #[test]
    fn a_round_is_only_due_for_a_table_that_the_load_gave_a_new_version() {
        let name = |table: &str| TableName { schema: "web".to_owned(), table: table.to_owned() };
        let of = |table: &str, rows, write| TableLoad { name: name(table), rows, write };
        let mut load = Load {
            connection: "web--lake".parse().unwrap(),
            epoch: 1,
            ranges: Vec::new(),
            tables: vec![
                of("tracks", vec![row(1)], WriteMode::Append),
                of("empty", vec![row(1).slice(0, 0)], WriteMode::Append),
                of("staged", vec![row(1)], WriteMode::Stage { generation: 1 }),
            ],
            seen: Vec::new(),
            counts: Vec::new(),
            swaps: vec![Swap { name: name("swapped"), generation: 1 }],
            replacements: vec![Replacement { from: name("staged"), to: name("replaced") }],
            at: DateTime::UNIX_EPOCH,
        };
        let expected = ["replaced", "swapped", "tracks"].map(name);
        assert_eq!(committed_by(&load), expected.into(), "not the books, which it has nothing for");
        load.counts.push(Count {
            source: "web".parse().unwrap(),
            hour: DateTime::UNIX_EPOCH,
            disposition: Disposition::Loaded,
            conflicts: 0,
            items: 1,
        });
        assert!(committed_by(&load).contains(&counts::name()));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn small_files_become_one_and_go_when_nobody_can_read_them() {
        let folder = tempfile::tempdir().unwrap();
        let tables = tables_in(&folder);
        let upkeep = Upkeep::new(TimeDelta::minutes(5));
        let (name, columns) = tracks();
        tables.create(&name, &columns).await.unwrap();
        let begun = Utc::now();
        for n in 0..17 {
            append(&tables, n).await;
            upkeep.after_commit(&tables, &name, begun + TimeDelta::seconds(n)).await.unwrap();
        }
        assert_eq!(files(&folder).len(), 17, "a round was had at the first commit and none is due");
        upkeep.after_commit(&tables, &name, begun + TimeDelta::minutes(6)).await.unwrap();
        assert_eq!(files(&folder).len(), 18, "the old files are still there for those who read them");
        let table = tables.latest(&name).await.unwrap().unwrap();
        assert_eq!(table.snapshot().unwrap().log_data().num_files(), 1);
        upkeep.after_commit(&tables, &name, begun + TimeDelta::hours(2)).await.unwrap();
        assert_eq!(files(&folder).len(), 1);
    }
}
