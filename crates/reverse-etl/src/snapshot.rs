//! What the destination is known to have, in the state store: `syncs/<id>/snapshots/<generation>` names
//! the Parquet files of its shards under `syncs/<id>/shards/`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use millrace_bus::Positions;
use millrace_columnar::arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, FixedSizeBinaryBuilder, RecordBatch, UInt8Builder, UInt64Builder,
};
use millrace_columnar::arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt8Type, UInt64Type};
use millrace_columnar::{ParquetReader, parquet_bytes};
use millrace_event_model::{ChangeOp, PartitionKey};
use millrace_state::{Generation, Generations, StateError, Store};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::diff::{Known, State};

/// Generations that are kept, for whoever looks at what went wrong; older ones go with their files.
const KEPT_GENERATIONS: u64 = 4;

/// One generation of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// The run that wrote it.
    pub(crate) run: u64,
    /// Outcomes before these offsets are merged.
    pub(crate) outcomes: Positions,
    /// The file of each shard that has rows.
    pub(crate) shards: BTreeMap<usize, ShardFile>,
    /// Changes that the run publishes.
    pub(crate) changes: u64,
    /// When the last of them was acked; none where that did not happen, or not before the process died.
    pub(crate) published_at: Option<DateTime<Utc>>,
}

/// Where a shard's rows are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShardFile {
    /// Relative to `shards/`.
    pub(crate) path: String,
    /// How many.
    pub(crate) rows: u64,
}

/// The snapshots of one sync.
#[derive(Debug, Clone)]
pub(crate) struct Snapshots {
    generations: Generations<Manifest>,
    files: Store,
}

impl Snapshots {
    /// `store`: the sync's part of the state.
    pub(crate) fn new(store: &Store) -> Self {
        Self { generations: Generations::new(store.child("snapshots")), files: store.child("shards") }
    }

    pub(crate) async fn latest(&self) -> Result<Option<Generation<Manifest>>, StateError> {
        self.generations.latest().await
    }

    /// Appends a generation: whoever else appends the same number loses.
    pub(crate) async fn append(&self, number: u64, manifest: &Manifest) -> Result<(), StateError> {
        self.generations.append(number, manifest).await
    }

    pub(crate) async fn read(&self, file: &ShardFile) -> Result<Bytes, Error> {
        let missing = || Error::Snapshot { path: file.path.clone(), problem: "it is missing" };
        self.files.get(&file.path).await?.ok_or_else(missing)
    }

    /// Writes a shard under a name that no other run or process uses.
    pub(crate) async fn write(
        &self,
        (run, epoch): (u64, u64),
        shard: usize,
        rows: u64,
        bytes: Bytes,
    ) -> Result<ShardFile, StateError> {
        let path = format!("{run:020}-{epoch}/{shard:03}.parquet");
        self.files.put(&path, bytes).await?;
        Ok(ShardFile { path, rows })
    }

    /// Deletes old generations, and all shard files that no kept one names: those of runs that died too.
    /// Only under the lease.
    pub(crate) async fn prune(&self, latest: u64) -> Result<(), StateError> {
        let oldest = latest.saturating_sub(KEPT_GENERATIONS - 1);
        self.generations.prune(oldest).await?;
        let mut named = BTreeSet::new();
        for number in oldest..=latest {
            if let Some(manifest) = self.generations.get(number).await? {
                named.extend(manifest.shards.into_values().map(|file| file.path));
            }
        }
        for path in self.files.list("").await? {
            if !named.contains(&path) {
                self.files.delete(&path).await?;
            }
        }
        Ok(())
    }
}

/// Names in the files: do not change them.
const CLEAN: u8 = 0;
const UNKNOWN_UPSERT: u8 = 1;
const UNKNOWN_DELETE: u8 = 2;
const UNSENT: u8 = 3;

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::FixedSizeBinary(16), false),
        Field::new("state", DataType::UInt8, false),
        Field::new("hash", DataType::FixedSizeBinary(16), true),
        Field::new("run", DataType::UInt64, true),
        Field::new("key_body", DataType::Binary, true),
    ]))
});

/// A shard's rows, sorted by key, as Parquet.
pub(crate) fn encode(rows: &[(PartitionKey, Known)]) -> Result<Bytes, Error> {
    let mut keys = FixedSizeBinaryBuilder::with_capacity(rows.len(), 16);
    let mut states = UInt8Builder::with_capacity(rows.len());
    let mut hashes = FixedSizeBinaryBuilder::with_capacity(rows.len(), 16);
    let mut runs = UInt64Builder::with_capacity(rows.len());
    let mut key_bodies = BinaryBuilder::new();
    for (key, known) in rows {
        let (state, hash, run) = match known.state {
            State::Clean(hash) => (CLEAN, Some(hash), None),
            State::Unknown { run, op: ChangeOp::Upsert, hash } => (UNKNOWN_UPSERT, Some(hash), Some(run)),
            State::Unknown { run, op: ChangeOp::Delete, hash } => (UNKNOWN_DELETE, Some(hash), Some(run)),
            State::Unsent => (UNSENT, None, None),
        };
        keys.append_value(key.0)?;
        states.append_value(state);
        match hash {
            Some(hash) => hashes.append_value(hash.0)?,
            None => hashes.append_null(),
        }
        runs.append_option(run);
        key_bodies.append_option(Some(&known.key_body).filter(|body| !body.is_empty()));
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(keys.finish()),
        Arc::new(states.finish()),
        Arc::new(hashes.finish()),
        Arc::new(runs.finish()),
        Arc::new(key_bodies.finish()),
    ];
    let batch = RecordBatch::try_new(SCHEMA.clone(), columns)?;
    Ok(parquet_bytes(SCHEMA.clone(), &[batch])?)
}

/// Reads what [`encode`] wrote. `path` is for the error.
pub(crate) fn decode(path: &str, bytes: Bytes) -> Result<Vec<(PartitionKey, Known)>, Error> {
    let mut rows = Vec::new();
    for batch in ParquetReader::of_bytes(bytes)? {
        let batch = batch?;
        let malformed = |problem| Error::Snapshot { path: path.to_owned(), problem };
        let column = |name| batch.column_by_name(name).ok_or_else(|| malformed("it lacks a column"));
        let wrong_type = || malformed("a column has another type");
        let keys = column("key")?.as_fixed_size_binary_opt().ok_or_else(wrong_type)?;
        let states = column("state")?.as_primitive_opt::<UInt8Type>().ok_or_else(wrong_type)?;
        let hashes = column("hash")?.as_fixed_size_binary_opt().ok_or_else(wrong_type)?;
        let runs = column("run")?.as_primitive_opt::<UInt64Type>().ok_or_else(wrong_type)?;
        let key_bodies = column("key_body")?.as_binary_opt::<i32>().ok_or_else(wrong_type)?;
        for row in 0..batch.num_rows() {
            let key = sixteen(keys.value(row)).ok_or_else(wrong_type)?;
            let hash = if hashes.is_null(row) { None } else { sixteen(hashes.value(row)) };
            let run = runs.value(row);
            let state = match (states.value(row), hash) {
                (CLEAN, Some(hash)) => State::Clean(hash),
                (UNKNOWN_UPSERT, Some(hash)) => State::Unknown { run, op: ChangeOp::Upsert, hash },
                (UNKNOWN_DELETE, Some(hash)) => State::Unknown { run, op: ChangeOp::Delete, hash },
                (UNSENT, _) => State::Unsent,
                _ => return Err(malformed("a row has an unknown state")),
            };
            let key_body = if key_bodies.is_null(row) {
                Bytes::new()
            } else {
                Bytes::copy_from_slice(key_bodies.value(row))
            };
            rows.push((key, Known { state, key_body }));
        }
    }
    Ok(rows)
}

fn sixteen(bytes: &[u8]) -> Option<PartitionKey> {
    bytes.try_into().ok().map(PartitionKey)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn key(number: u8) -> PartitionKey {
        PartitionKey([number; 16])
    }

    #[test]
    fn every_state_survives_parquet() {
        let states = [
            State::Clean(key(9)),
            State::Unknown { run: u64::MAX, op: ChangeOp::Upsert, hash: key(8) },
            State::Unknown { run: 2, op: ChangeOp::Delete, hash: key(7) },
            State::Unsent,
        ];
        let bodies = [Bytes::new(), Bytes::from_static(b"{\"id\":1}")];
        let rows: Vec<_> = (0..8)
            .zip(states.iter().cycle().zip(bodies.iter().cycle()))
            .map(|(number, (state, body))| (key(number), Known { state: *state, key_body: body.clone() }))
            .collect();
        assert_eq!(decode("x", encode(&rows).unwrap()).unwrap(), rows);
        assert_eq!(decode("x", encode(&[]).unwrap()).unwrap(), []);
        assert!(decode("x", Bytes::from_static(b"no parquet")).is_err());
    }

    #[tokio::test]
    async fn files_that_no_kept_generation_names_are_deleted() {
        let store = Store::in_memory();
        let snapshots = Snapshots::new(&store);
        let mut manifest = Manifest {
            run: 0,
            outcomes: Positions::new(),
            shards: BTreeMap::new(),
            changes: 0,
            published_at: None,
        };
        for run in 1..=10 {
            let file = snapshots.write((run, 1), 7, 0, Bytes::new()).await.unwrap();
            snapshots.write((run, 2), 7, 0, Bytes::new()).await.unwrap();
            manifest.shards.insert(7, file);
            snapshots.append(run, &manifest).await.unwrap();
        }
        snapshots.prune(10).await.unwrap();
        assert_eq!(store.list("snapshots").await.unwrap().len(), 4);
        let left = store.list("shards").await.unwrap();
        assert_eq!(left.len(), 4);
        assert!(left.iter().all(|path| path.contains("-1/")), "{left:?}");
    }
}
