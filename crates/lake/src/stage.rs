//! Rows of a full refresh that is not complete yet: Parquet files beside the intent log, no table's.
//!
//! `stage/<schema>/<table>/<generation>/<N>-<n>.parquet` are the rows that load N staged. The name is the
//! idempotence: a load that is done again writes the same rows over the same files. When the generation is
//! complete, its files become the table in one commit, and then go.

use millrace_columnar::arrow::array::RecordBatch;
use millrace_columnar::{ParquetReader, parquet_bytes};
use millrace_connector::{ConnectorError, TableName};
use millrace_state::Store;

use crate::error::{self, Result};
use crate::tables::display;

/// The staged rows of a connection.
#[derive(Clone)]
pub(crate) struct Stage {
    store: Store,
}

impl Stage {
    /// `store`: the folder `stage` of the connection.
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Writes what load `number` stages and returns its bytes. `part` tells batches of one load apart.
    pub(crate) async fn write(
        &self,
        name: &TableName,
        generation: u64,
        number: u64,
        part: usize,
        rows: &RecordBatch,
    ) -> Result<u64> {
        let unwritten = |error| error::rows(format!("cannot stage rows of table {}", display(name)), error);
        let bytes = parquet_bytes(rows.schema(), std::slice::from_ref(rows)).map_err(unwritten)?;
        let path = format!("{generation:020}/{number:020}-{part}.parquet");
        let length = bytes.len() as u64;
        self.of(name).put(&path, bytes).await.map_err(unreachable)?;
        Ok(length)
    }

    /// The files of a generation, in the order in which they were staged.
    pub(crate) async fn files(&self, name: &TableName, generation: u64) -> Result<Vec<String>> {
        self.of(name).list(&format!("{generation:020}")).await.map_err(unreachable)
    }

    /// The rows of one file.
    pub(crate) async fn read(&self, name: &TableName, path: &str) -> Result<Vec<RecordBatch>> {
        let unreadable = || format!("cannot read staged rows of table {}", display(name));
        let bytes = self.of(name).get(path).await.map_err(unreachable)?;
        let bytes = bytes.ok_or_else(|| ConnectorError::retry("stage", unreadable()))?;
        let reader = ParquetReader::of_bytes(bytes).map_err(|error| error::rows(unreadable(), error))?;
        reader.map(|batch| batch.map_err(|error| error::rows(unreadable(), error))).collect()
    }

    /// Deletes the generations below `keep_from`.
    pub(crate) async fn discard(&self, name: &TableName, keep_from: u64) -> Result<()> {
        let store = self.of(name);
        for path in store.list("").await.map_err(unreachable)? {
            let generation = path.split('/').next().and_then(|folder| folder.parse::<u64>().ok());
            if generation.is_some_and(|generation| generation < keep_from) {
                store.delete(&path).await.map_err(unreachable)?;
            }
        }
        Ok(())
    }

    /// Deletes everything: what an intent log that is no more has staged.
    pub(crate) async fn clear(&self) -> Result<()> {
        for path in self.store.list("").await.map_err(unreachable)? {
            self.store.delete(&path).await.map_err(unreachable)?;
        }
        Ok(())
    }

    fn of(&self, name: &TableName) -> Store {
        self.store.child(&format!("{}/{}", name.schema, name.table))
    }
}

fn unreachable(error: millrace_state::StateError) -> ConnectorError {
    error::state("cannot reach the staged rows", error)
}
