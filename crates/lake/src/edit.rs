//! One new version of a table, planned in full before anything of it counts.
//!
//! An [`Edit`] starts from a version of the table and collects the files that go and the files that come.
//! Files that come are written at once, under names of their own that nobody reads; the single Delta
//! commit at the end makes all of them the table, or none. What an edit leaves behind when it fails is
//! collected later (`upkeep`).

use std::sync::Arc;

use bytes::Bytes;
use deltalake_core::datafile::writer::{DeltaWriter, WriterConfig};
use deltalake_core::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake_core::kernel::{Action, Add, LogicalFileView, Remove, Transaction};
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use deltalake_core::table::config::TablePropertiesExt;
use deltalake_core::{DeltaTable, DeltaTableError};
use millrace_columnar::arrow::array::RecordBatch;
use millrace_columnar::arrow::datatypes::SchemaRef;
use millrace_columnar::parquet::arrow::ProjectionMask;
use millrace_columnar::parquet::arrow::arrow_reader::{
    ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use millrace_columnar::parquet::basic::{Compression, ZstdLevel};
use millrace_columnar::parquet::file::properties::WriterProperties;
use millrace_connector::{ConnectorError, TableName};
use millrace_state::object_store::ObjectStoreExt;
use millrace_state::object_store::path::Path;

use crate::error::{self, Result};
use crate::merge::{Keys, Matched, common_columns, fit, merge_latest, split};
use crate::stage::Stage;
use crate::tables::{arrow_schema, display};

/// A data file is ended at about this size: small enough to be read whole into memory when rows of it are
/// replaced.
const FILE_BYTES: u64 = 64 * 1024 * 1024;

/// Versions between two deletions of log files that are past their time.
const LOG_CLEANUP_EVERY: u64 = 50;

/// A file of the table.
struct File {
    path: Path,
    /// What takes it out of the table; `None` for a file of this edit, which is not in it yet.
    remove: Option<Remove>,
}

/// Under which mark a commit is made, so that it is made once.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    /// Whose number.
    pub(crate) app_id: String,
    /// The number of the load.
    pub(crate) number: u64,
}

/// A version in the making.
pub(crate) struct Edit {
    name: TableName,
    table: DeltaTable,
    schema: SchemaRef,
    files: Vec<File>,
    adds: Vec<Add>,
    removes: Vec<Remove>,
    /// Whether rows change, or only the files that hold them.
    changes_rows: bool,
}

impl Edit {
    /// Starts from a version of a table.
    pub(crate) fn new(name: &TableName, table: DeltaTable) -> Result<Self> {
        let schema = arrow_schema(name, &table)?;
        let state = table.snapshot().map_err(|error| unreadable(name, error))?;
        if !state.metadata().partition_columns().is_empty() {
            let text =
                format!("table {} is partitioned; only tables without partitions are loaded", display(name));
            return Err(ConnectorError::pause("partitioned_table", text));
        }
        let file = |file: LogicalFileView| File {
            path: file.object_store_path(),
            remove: Some(file.remove_action(true)),
        };
        let files = state.log_data().into_iter().map(file).collect();
        let (adds, removes) = (Vec::new(), Vec::new());
        Ok(Self { name: name.clone(), table, schema, files, adds, removes, changes_rows: true })
    }

    /// Adds rows. Columns that the batch lacks are not in the file, which reads as null.
    pub(crate) async fn append(&mut self, rows: &RecordBatch) -> Result<()> {
        let schema = self.columns_of(rows)?;
        let rows = self.fit(rows, &schema)?;
        self.write(schema, [rows]).await
    }

    /// Replaces all rows by those of a staged generation.
    pub(crate) async fn swap(&mut self, stage: &Stage, generation: u64) -> Result<()> {
        for file in std::mem::take(&mut self.files) {
            self.take_out(file);
        }
        let mut writer = self.writer(&self.schema)?;
        for path in stage.files(&self.name, generation).await? {
            for rows in stage.read(&self.name, &path).await? {
                self.columns_of(&rows)?;
                let rows = self.fit(&rows, &self.schema)?;
                writer.write(&rows).await.map_err(|error| self.unwritten(error))?;
            }
        }
        self.take_in(writer.close().await.map_err(|error| self.unwritten(error))?)
    }

    /// Replaces the rows that have the same key.
    pub(crate) async fn upsert(&mut self, rows: &RecordBatch, key: &[String]) -> Result<()> {
        self.columns_of(rows)?;
        let rows = self.fit(rows, &self.schema)?;
        self.replace(&rows, key, |_| Ok(rows.clone())).await
    }

    /// Merges rows into those of the same key, column by column.
    pub(crate) async fn merge_latest(&mut self, rows: &RecordBatch, key: &str, order: &str) -> Result<()> {
        self.columns_of(rows)?;
        let rows = self.fit(rows, &self.schema)?;
        self.replace(&rows, &[key.to_owned()], |matched| merge_latest(&rows, matched, order)).await
    }

    /// Takes the rows with the keys of `incoming` out of the files that have some, and adds what `merged`
    /// makes of them.
    async fn replace(
        &mut self,
        incoming: &RecordBatch,
        key: &[String],
        merged: impl FnOnce(
            &Matched,
        )
            -> std::result::Result<RecordBatch, millrace_columnar::arrow::error::ArrowError>,
    ) -> Result<()> {
        let name = self.name.clone();
        let failed = |error| error::rows(format!("cannot merge rows into table {}", display(&name)), error);
        let keys = Keys::of(incoming, key).map_err(failed)?;
        let mut matched = Matched::default();
        let mut writer = self.writer(&self.schema)?;
        let mut untouched = Vec::new();
        for file in std::mem::take(&mut self.files) {
            let bytes = self.read(&file.path).await?;
            if !self.has_key(&bytes, &keys, key)? {
                untouched.push(file);
                continue;
            }
            for batch in self.batches(bytes, None)? {
                let batch = self.fit(&batch.map_err(failed)?, &self.schema)?;
                let matches = keys.matches(&batch).map_err(failed)?;
                let rest = split(&batch, &matches, &mut matched).map_err(failed)?;
                if rest.num_rows() > 0 {
                    writer.write(&rest).await.map_err(|error| self.unwritten(error))?;
                }
            }
            self.take_out(file);
        }
        self.files = untouched;
        let rows = merged(&matched).map_err(failed)?;
        writer.write(&rows).await.map_err(|error| self.unwritten(error))?;
        self.take_in(writer.close().await.map_err(|error| self.unwritten(error))?)
    }

    /// Puts the rows of these files of the table into as few as possible. No row changes.
    pub(crate) async fn compact(&mut self, paths: &[Path]) -> Result<()> {
        self.changes_rows = false;
        let mut writer = self.writer(&self.schema)?;
        let (old, rest) =
            std::mem::take(&mut self.files).into_iter().partition(|file| paths.contains(&file.path));
        self.files = rest;
        let old: Vec<File> = old;
        for file in old {
            for batch in self.batches(self.read(&file.path).await?, None)? {
                let batch = batch.map_err(|error| error::rows(self.cannot_read(), error))?;
                let batch = self.fit(&batch, &self.schema)?;
                writer.write(&batch).await.map_err(|error| self.unwritten(error))?;
            }
            self.take_out(file);
        }
        self.take_in(writer.close().await.map_err(|error| self.unwritten(error))?)
    }

    /// Makes it the table's next version. Another writer's commit in between is a conflict
    /// ([`error::is_conflict`]) unless this edit only adds rows: what was read is then no longer what is there.
    pub(crate) async fn commit(
        self,
        mark: Option<&Mark>,
    ) -> std::result::Result<DeltaTable, DeltaTableError> {
        if self.adds.is_empty() && self.removes.is_empty() && mark.is_none() {
            return Ok(self.table);
        }
        let only_adds = self.removes.is_empty();
        let version = self.table.version().unwrap_or_default();
        let mut properties = CommitProperties::default()
            .with_cleanup_expired_logs(Some(version.is_multiple_of(LOG_CLEANUP_EVERY)));
        if !only_adds {
            properties = properties.with_max_retries(0);
        }
        if let Some(mark) = mark {
            // Beyond i64 after 300 million years of loads.
            let number = i64::try_from(mark.number).unwrap_or(i64::MAX);
            properties = properties.with_application_transaction(Transaction::new(&mark.app_id, number));
        }
        let operation = operation(only_adds, self.changes_rows);
        let changes_rows = self.changes_rows;
        let removes = self.removes.into_iter().map(|remove| Remove { data_change: changes_rows, ..remove });
        let adds = self.adds.into_iter().map(|add| Add { data_change: changes_rows, ..add });
        let actions = removes.map(Action::from).chain(adds.map(Action::from)).collect();
        let mut table = self.table;
        let state = table.snapshot()?;
        let committed = CommitBuilder::from(properties)
            .with_actions(actions)
            .build(Some(state.snapshot()), table.log_store(), operation)
            .await?;
        table.state = Some(committed.snapshot());
        Ok(table)
    }

    fn columns_of(&self, rows: &RecordBatch) -> Result<SchemaRef> {
        common_columns(&self.schema, rows).ok_or_else(|| {
            let text = format!("rows for table {} have columns that it has not", display(&self.name));
            ConnectorError::retry("missing_column", text)
        })
    }

    fn fit(&self, rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
        fit(rows, schema)
            .map_err(|error| error::rows(format!("rows do not fit table {}", display(&self.name)), error))
    }

    async fn write(
        &mut self,
        schema: SchemaRef,
        batches: impl IntoIterator<Item = RecordBatch>,
    ) -> Result<()> {
        let mut writer = self.writer(&schema)?;
        for batch in batches {
            writer.write(&batch).await.map_err(|error| self.unwritten(error))?;
        }
        self.take_in(writer.close().await.map_err(|error| self.unwritten(error))?)
    }

    fn writer(&self, schema: &SchemaRef) -> Result<DeltaWriter> {
        let state = self.table.snapshot().map_err(|error| unreadable(&self.name, error))?;
        let compression = Compression::ZSTD(ZstdLevel::default());
        let properties = WriterProperties::builder().set_compression(compression).build();
        let config = WriterConfig::new(
            Arc::clone(schema),
            Vec::new(),
            Some(properties),
            FILE_BYTES.try_into().ok(),
            None,
            state.table_config().num_indexed_cols(),
            None,
        );
        Ok(DeltaWriter::new(self.table.object_store(), config))
    }

    fn take_in(&mut self, adds: Vec<Add>) -> Result<()> {
        for add in adds {
            let path = Path::parse(&add.path).map_err(|error| error::rows(self.cannot_read(), error))?;
            self.files.push(File { path, remove: None });
            self.adds.push(add);
        }
        Ok(())
    }

    fn take_out(&mut self, file: File) {
        match file.remove {
            Some(remove) => self.removes.push(remove),
            // It came with this edit and goes with it.
            None => self.adds.retain(|add| add.path != file.path.as_ref()),
        }
    }

    async fn read(&self, path: &Path) -> Result<Bytes> {
        let failed = |error| ConnectorError::retry("delta", self.cannot_read()).caused_by(error);
        let found = self.table.object_store().get(path).await.map_err(failed)?;
        found.bytes().await.map_err(failed)
    }

    /// Whether a file has a row with one of the keys. Only the key columns are read.
    fn has_key(&self, bytes: &Bytes, keys: &Keys, columns: &[String]) -> Result<bool> {
        let wanted = common_projection(&self.schema, columns);
        for batch in self.batches(bytes.clone(), Some(columns))? {
            let batch = batch.map_err(|error| error::rows(self.cannot_read(), error))?;
            let batch = self.fit(&batch, &wanted)?;
            let matches = keys.matches(&batch).map_err(|error| error::rows(self.cannot_read(), error))?;
            if matches.iter().any(Option::is_some) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn batches(&self, bytes: Bytes, columns: Option<&[String]>) -> Result<ParquetRecordBatchReader> {
        let open = || {
            let mut builder = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
            if let Some(columns) = columns {
                let names = columns.iter().map(String::as_str);
                let mask = ProjectionMask::columns(builder.parquet_schema(), names);
                builder = builder.with_projection(mask);
            }
            builder.build()
        };
        open().map_err(|error| error::rows(self.cannot_read(), error))
    }

    fn cannot_read(&self) -> String {
        format!("cannot read a file of table {}", display(&self.name))
    }

    fn unwritten(&self, error: DeltaTableError) -> ConnectorError {
        error::delta(format!("cannot write a file of table {}", display(&self.name)), error)
    }
}

fn unreadable(name: &TableName, error: DeltaTableError) -> ConnectorError {
    error::delta(format!("cannot read the state of table {}", display(name)), error)
}

/// These columns of a schema, in its order.
fn common_projection(schema: &SchemaRef, columns: &[String]) -> SchemaRef {
    let fields: Vec<_> =
        schema.fields().iter().filter(|field| columns.contains(field.name())).cloned().collect();
    Arc::new(millrace_columnar::arrow::datatypes::Schema::new(fields))
}

/// What the table's history says.
fn operation(only_adds: bool, changes_rows: bool) -> DeltaOperation {
    if !changes_rows {
        return DeltaOperation::Optimize { predicate: None, target_size: FILE_BYTES as i64 };
    }
    let mode = if only_adds { SaveMode::Append } else { SaveMode::Overwrite };
    DeltaOperation::Write { mode, partition_by: None, predicate: None }
}
