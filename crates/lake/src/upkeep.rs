//! Keeping a table small and fast though it is committed to every few seconds.
//!
//! Now and then, after a load is sealed: small files are merged into larger ones, and files that are no
//! longer the table's are deleted when nobody can still be reading them. Nothing depends on it: if it
//! fails, it is tried again later.

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use deltalake_core::DeltaTable;
use futures::TryStreamExt;
use millrace_connector::TableName;
use millrace_state::object_store::path::Path;
use millrace_state::object_store::{ObjectStore, ObjectStoreExt};

use crate::edit::Edit;
use crate::error::{self, Result};
use crate::tables::{KEPT_HOURS, Tables, display};

/// Commits between two rounds. In one round an appended table gets at most as many new small files.
const EVERY_VERSIONS: u64 = 64;

/// Files of one size class that are merged into one. Classes are powers of this, so a row is rewritten once
/// per class: four times on the way from 4 KiB to 64 MiB.
const MERGE_FILES: usize = 16;

/// Files from this size on stay as they are.
const LARGE: i64 = 32 * 1024 * 1024;

/// Does a round, if one is due after a load's commit.
pub(crate) async fn after_commit(tables: &Tables, name: &TableName, now: DateTime<Utc>) -> Result<()> {
    let Some(table) = tables.any(name).await? else { return Ok(()) };
    if !table.version().is_some_and(|version| version.is_multiple_of(EVERY_VERSIONS)) {
        return Ok(());
    }
    let table = compact(tables, name, table).await?;
    collect(name, &table, now).await
}

/// Merges small files. A writer that comes in between is a reason to leave it for the next round.
async fn compact(tables: &Tables, name: &TableName, table: DeltaTable) -> Result<DeltaTable> {
    let failed = |error| error::delta(format!("cannot compact table {}", display(name)), error);
    let state = table.snapshot().map_err(failed)?;
    let files = state.log_data().into_iter().map(|file| (file.object_store_path(), file.size()));
    let small = to_merge(files);
    if small.is_empty() {
        return Ok(table);
    }
    let mut edit = Edit::new(name, table.clone())?;
    edit.compact(&small).await?;
    match edit.commit(None).await {
        Ok(compacted) => {
            tables.keep(name, compacted.clone());
            Ok(compacted)
        }
        Err(error) if error::is_conflict(&error) => Ok(table),
        Err(error) => Err(failed(error)),
    }
}

/// The files of each size class that has enough of them.
fn to_merge(files: impl Iterator<Item = (Path, i64)>) -> Vec<Path> {
    let class_bits = MERGE_FILES.ilog2();
    let mut classes: BTreeMap<u32, Vec<Path>> = BTreeMap::new();
    for (path, size) in files.filter(|(_, size)| *size < LARGE) {
        classes.entry(size.max(1).ilog2() / class_bits).or_default().push(path);
    }
    classes.into_values().filter(|paths| paths.len() >= MERGE_FILES).flatten().collect()
}

/// Deletes data files that are not the table's and are older than anyone reads or writes.
async fn collect(name: &TableName, table: &DeltaTable, now: DateTime<Utc>) -> Result<()> {
    let failed = |error| error::delta(format!("cannot delete old files of table {}", display(name)), error);
    let state = table.snapshot().map_err(failed)?;
    let live: HashSet<Path> = state.log_data().into_iter().map(|file| file.object_store_path()).collect();
    let before = now - TimeDelta::hours(KEPT_HOURS);
    let store = table.object_store();
    let found: Vec<_> = store.list(None).try_collect().await.map_err(|error| failed(error.into()))?;
    for object in found {
        // Whatever else lies in the folder is not ours.
        let is_data = object.location.parts_count() == 1 && object.location.extension() == Some("parquet");
        if is_data && object.last_modified < before && !live.contains(&object.location) {
            store.delete(&object.location).await.map_err(|error| failed(error.into()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::path::PathBuf;

    use millrace_columnar::{Cell, Row, TableSchema, batch_of};
    use millrace_event_model::FieldType;

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

    #[tokio::test(flavor = "multi_thread")]
    async fn small_files_become_one_and_go_when_nobody_can_read_them() {
        let folder = tempfile::tempdir().unwrap();
        let tables = Tables::new(folder.path().to_owned());
        let name = TableName { schema: "web".to_owned(), table: "tracks".to_owned() };
        let columns = TableSchema::from([("n".to_owned(), FieldType::Int)]);
        tables.create(&name, &columns).await.unwrap();
        let files = |folder: &PathBuf| {
            let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
            entries.filter(|path| path.extension().is_some_and(|end| end == "parquet")).count()
        };
        let folder = tables.folder(&name).unwrap();
        for n in 0..64 {
            let row = Row::from([("n".to_owned(), Cell::Int(n))]);
            let mut edit = Edit::new(&name, tables.any(&name).await.unwrap().unwrap()).unwrap();
            edit.append(&batch_of(&columns, &[row]).unwrap()).await.unwrap();
            tables.keep(&name, edit.commit(None).await.unwrap());
            after_commit(&tables, &name, Utc::now()).await.unwrap();
        }
        assert_eq!(files(&folder), 65, "the old files are still there for those who read them");
        let table = tables.latest(&name).await.unwrap().unwrap();
        assert_eq!(table.snapshot().unwrap().log_data().num_files(), 1);
        collect(&name, &table, Utc::now() + TimeDelta::hours(KEPT_HOURS + 1)).await.unwrap();
        assert_eq!(files(&folder), 1);
    }
}
