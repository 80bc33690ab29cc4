//! One new version of a table, planned in full before anything of it counts.
//!
//! An [`Edit`] starts from a version of the table and collects the files that go and the files that come.
//! Files that come are written at once, under names of their own that nobody reads; the single Delta
//! commit at the end makes all of them the table, or none. What an edit leaves behind when it fails is
//! collected later (`upkeep`).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use deltalake_core::datafile::writer::DeltaWriter;
use deltalake_core::kernel::{Add, LogicalFileView, Remove, StructType};
use deltalake_core::parquet::errors::ParquetError;
use deltalake_core::table::state::DeltaTableState;
use deltalake_core::{DeltaTable, DeltaTableError};
use futures::{Stream, TryStreamExt};
use millrace_columnar::TableSchema;
use millrace_columnar::arrow::array::RecordBatch;
use millrace_columnar::arrow::datatypes::{Schema, SchemaRef};
use millrace_columnar::arrow::error::ArrowError;
use millrace_connector::{ConnectorError, TableName};
use millrace_state::object_store::path::Path;

use crate::columns::{arrow_schema, fields_of, stored_schema};
use crate::commit::{Changes, Known, Mark, commit};
use crate::data_file;
use crate::error::{self, Result};
use crate::merge::{Keys, Matched, common_columns, fit, merge_latest, split};
use crate::partition::{Partition, Partitioning, by_date};
use crate::protocol::has_deletion_vectors;
use crate::stage::Stage;
use crate::tables::display;
use crate::widen::widened;

/// A file of the table.
#[derive(Clone)]
struct File {
    path: Path,
    size: u64,
    partition: Partition,
    /// What takes it out of the table; `None` for a file of this edit, which is not in it yet.
    remove: Option<Remove>,
}

/// A version in the making.
pub(crate) struct Edit {
    name: TableName,
    known: Known,
    schema: SchemaRef,
    partitioned: bool,
    /// Those that this edit adds and, once it has looked, those that the table has.
    files: Vec<File>,
    /// Whether it has looked which files the table has. Until then, what it adds does not depend on what is there.
    looked: bool,
    adds: Vec<Add>,
    removes: Vec<Remove>,
    /// The columns of the table from this version on, where they change.
    columns: Option<StructType>,
    /// Whether rows change, or only the files that hold them.
    changes_rows: bool,
    begun: SystemTime,
    /// The file that is open. The lock is never taken: it makes an edit one that threads may share, which a
    /// writer by itself is not.
    writer: Mutex<Option<OpenFile>>,
}

/// A file being written.
struct OpenFile {
    partition: Partition,
    schema: SchemaRef,
    writer: DeltaWriter,
}

/// A commit that was made.
pub(crate) struct Committed {
    /// The table with its new version.
    pub(crate) known: Known,
    /// Bytes of the files that came with it.
    pub(crate) bytes: u64,
}

impl Edit {
    /// Starts from a version of a table.
    pub(crate) fn new(name: &TableName, known: impl Into<Known>) -> Result<Self> {
        let known = known.into();
        let schema = arrow_schema(name, &known.table)?;
        let state = known.table.snapshot().map_err(|error| unreadable(name, error))?;
        if let Some(feature) = unsupported(state) {
            let text = format!("table {} has {feature}: it can be queried, but not loaded", display(name));
            return Err(ConnectorError::pause("table_features", text));
        }
        let partitioned = !state.metadata().partition_columns().is_empty();
        Ok(Self {
            name: name.clone(),
            known,
            schema,
            partitioned,
            files: Vec::new(),
            looked: false,
            adds: Vec::new(),
            removes: Vec::new(),
            columns: None,
            changes_rows: true,
            begun: SystemTime::now(),
            writer: Mutex::new(None),
        })
    }

    /// Adds rows. Columns that the batch lacks are not in the file, which reads as null. Batches of one
    /// schema and partition that follow each other share a file.
    pub(crate) async fn append(&mut self, rows: &RecordBatch) -> Result<()> {
        let schema = self.columns_of(rows)?;
        self.add(&self.fit(rows, &schema)?).await
    }

    /// Replaces all rows by those of a staged generation.
    pub(crate) async fn swap(&mut self, stage: &Stage, generation: u64) -> Result<()> {
        self.take_all_out().await?;
        for path in stage.files(&self.name, generation).await? {
            for rows in stage.read(&self.name, &path).await? {
                self.columns_of(&rows)?;
                self.add(&self.fit(&rows, &self.schema)?).await?;
            }
        }
        Ok(())
    }

    /// Replaces all rows by those of another table, which has all of its columns.
    pub(crate) async fn replace_by(&mut self, name: &TableName, table: &DeltaTable) -> Result<()> {
        self.take_all_out().await?;
        let state = table.snapshot().map_err(|error| unreadable(name, error))?;
        let mut files = files_of(state, !state.metadata().partition_columns().is_empty());
        files.sort_unstable_by(|a, b| a.partition.cmp(&b.partition));
        for file in files {
            let opened = data_file::read(table, &file.path, file.size, None).await;
            let mut batches = opened.map_err(|error| unread(name, error))?;
            while let Some(rows) = batches.try_next().await.map_err(|error| unread(name, error))? {
                self.columns_of(&rows)?;
                self.add(&self.fit(&rows, &self.schema)?).await?;
            }
        }
        Ok(())
    }

    /// Replaces the rows that have the same key.
    pub(crate) async fn upsert(&mut self, rows: &RecordBatch, key: &[String]) -> Result<()> {
        self.columns_of(rows)?;
        let rows = self.fit(rows, &self.schema)?;
        self.replace(&rows, key, |_| Ok(rows.clone())).await
    }

    /// Deletes the rows that have the keys of these.
    pub(crate) async fn delete(&mut self, rows: &RecordBatch, key: &[String]) -> Result<()> {
        let rows = self.fit(rows, &self.schema)?;
        self.replace(&rows, key, |_| Ok(rows.slice(0, 0))).await
    }

    /// Merges rows into those of the same key, column by column.
    pub(crate) async fn merge_latest(&mut self, rows: &RecordBatch, key: &str, order: &str) -> Result<()> {
        self.columns_of(rows)?;
        let rows = self.fit(rows, &self.schema)?;
        self.replace(&rows, &[key.to_owned()], |matched| merge_latest(&rows, matched, order)).await
    }

    /// Writes all rows anew with columns of wider types. `from` and `to` have the same names.
    pub(crate) async fn widen(&mut self, from: &TableSchema, to: &TableSchema) -> Result<()> {
        let text = format!("cannot widen columns of table {}", display(&self.name));
        let stored = stored_schema(from);
        let mut fields = fields_of(&self.name, to)?;
        if self.partitioned {
            fields.push(Partitioning::field());
        }
        let columns = StructType::try_new(fields).map_err(|error| error::rows(text.clone(), error))?;
        for file in self.take_files().await? {
            let mut batches = self.read(&file, None).await?;
            while let Some(batch) = self.next(&mut batches).await? {
                let batch = self.fit(&batch, &stored)?;
                let batch = widened(&batch, from, to).map_err(|error| error::rows(text.clone(), error))?;
                self.write(&file.partition, &batch).await?;
            }
            self.take_out(file);
        }
        self.schema = stored_schema(to);
        self.columns = Some(columns);
        Ok(())
    }

    /// Takes the rows with the keys of `incoming` out of the files that have some, and adds what `merged`
    /// makes of them.
    async fn replace(
        &mut self,
        incoming: &RecordBatch,
        key: &[String],
        merged: impl FnOnce(&Matched) -> std::result::Result<RecordBatch, ArrowError>,
    ) -> Result<()> {
        self.finish().await?;
        let name = self.name.clone();
        let failed = |error| error::rows(format!("cannot merge rows into table {}", display(&name)), error);
        let keys = Keys::of(incoming, key).map_err(failed)?;
        let mut matched = Matched::default();
        let mut untouched = Vec::new();
        for file in self.take_files().await? {
            if !self.has_key(&file, &keys, key).await? {
                untouched.push(file);
                continue;
            }
            let mut batches = self.read(&file, None).await?;
            while let Some(batch) = self.next(&mut batches).await? {
                let batch = self.fit(&batch, &self.schema)?;
                let matches = keys.matches(&batch).map_err(failed)?;
                let rest = split(&batch, &matches, &mut matched).map_err(failed)?;
                self.write(&file.partition, &rest).await?;
            }
            self.take_out(file);
        }
        self.files.append(&mut untouched);
        self.add(&merged(&matched).map_err(failed)?).await
    }

    /// Whether a file has a row with one of the keys. Only the key columns are read.
    async fn has_key(&self, file: &File, keys: &Keys, columns: &[String]) -> Result<bool> {
        let name = &self.name;
        let failed = |error| error::rows(format!("cannot read the keys of table {}", display(name)), error);
        let wanted = projection(&self.schema, columns);
        let mut batches = self.read(file, Some(columns)).await?;
        while let Some(batch) = self.next(&mut batches).await? {
            let matches = keys.matches(&self.fit(&batch, &wanted)?).map_err(failed)?;
            if matches.iter().any(Option::is_some) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Puts the rows of these files of the table into as few as possible. No row changes.
    pub(crate) async fn compact(&mut self, paths: &[Path]) -> Result<()> {
        self.changes_rows = false;
        for file in self.take_files().await? {
            if !paths.contains(&file.path) {
                self.files.push(file);
                continue;
            }
            let mut batches = self.read(&file, None).await?;
            while let Some(batch) = self.next(&mut batches).await? {
                let batch = self.fit(&batch, &self.schema)?;
                self.write(&file.partition, &batch).await?;
            }
            self.take_out(file);
        }
        Ok(())
    }

    /// Makes it the table's next version. Another writer's commit in between is a conflict
    /// ([`error::is_conflict`]) unless this edit only adds rows: what was read is then no longer what is there.
    pub(crate) async fn commit(
        mut self,
        mark: Option<&Mark>,
    ) -> std::result::Result<Committed, DeltaTableError> {
        self.end_file().await?;
        let bytes = self.adds.iter().map(|add| add.size.unsigned_abs()).sum();
        let changes = Changes {
            adds: self.adds,
            removes: self.removes,
            columns: self.columns,
            change_rows: self.changes_rows,
            are_blind: !self.looked,
        };
        Ok(Committed { known: commit(self.known, changes, mark).await?, bytes })
    }

    /// How long ago it began. What nobody committed for as long as files without a table are kept may be gone.
    pub(crate) fn age(&self) -> std::time::Duration {
        self.begun.elapsed().unwrap_or_default()
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

    /// Adds rows, each to the partition it belongs to.
    async fn add(&mut self, rows: &RecordBatch) -> Result<()> {
        if !self.partitioned {
            return self.write(&Partition::Whole, rows).await;
        }
        let split = by_date(rows).map_err(|error| {
            error::rows(format!("cannot tell the dates of rows for table {}", display(&self.name)), error)
        })?;
        for (partition, rows) in split {
            self.write(&partition, &rows).await?;
        }
        Ok(())
    }

    /// Writes rows to the file that is open, or to a new one if that is of another partition or of other
    /// columns.
    async fn write(&mut self, partition: &Partition, rows: &RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let fits = |file: &OpenFile| file.partition == *partition && file.schema == rows.schema();
        let mut open = self.open_file().take();
        if !open.as_ref().is_some_and(fits) {
            *self.open_file() = open.take();
            self.finish().await?;
        }
        let mut file = match open {
            Some(file) => file,
            None => {
                let writer = data_file::writer(&self.known.table, &rows.schema(), partition);
                let writer = writer.map_err(|error| self.unwritten(error))?;
                OpenFile { partition: partition.clone(), schema: rows.schema(), writer }
            }
        };
        file.writer.write(rows).await.map_err(|error| self.unwritten(error))?;
        *self.open_file() = Some(file);
        Ok(())
    }

    fn open_file(&mut self) -> &mut Option<OpenFile> {
        self.writer.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the file that is open.
    async fn finish(&mut self) -> Result<()> {
        self.end_file().await.map_err(|error| self.unwritten(error))
    }

    async fn end_file(&mut self) -> std::result::Result<(), DeltaTableError> {
        let Some(OpenFile { partition, writer, .. }) = self.open_file().take() else { return Ok(()) };
        for mut add in writer.close().await? {
            if let Some(folder) = partition.folder() {
                add.path = format!("{folder}/{}", add.path);
            }
            add.partition_values = partition.values();
            let path = Path::from(add.path.as_str());
            let size = add.size.unsigned_abs();
            self.files.push(File { path, size, partition: partition.clone(), remove: None });
            self.adds.push(add);
        }
        Ok(())
    }

    /// The files of the table and of this edit, by partition. Looking makes what the edit does depend on what is
    /// there.
    async fn take_files(&mut self) -> Result<Vec<File>> {
        if !self.looked {
            self.looked = true;
            self.known.catch_up().await.map_err(|error| unreadable(&self.name, error))?;
            let state = self.known.table.snapshot().map_err(|error| unreadable(&self.name, error))?;
            self.files.extend(files_of(state, self.partitioned));
        }
        let mut files = std::mem::take(&mut self.files);
        files.sort_by(|a, b| a.partition.cmp(&b.partition));
        Ok(files)
    }

    async fn take_all_out(&mut self) -> Result<()> {
        for file in self.take_files().await? {
            self.take_out(file);
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

    async fn read(
        &self,
        file: &File,
        columns: Option<&[String]>,
    ) -> Result<impl Stream<Item = std::result::Result<RecordBatch, ParquetError>> + Unpin + use<>> {
        let opened = data_file::read(&self.known.table, &file.path, file.size, columns).await;
        opened.map_err(|error| unread(&self.name, error))
    }

    async fn next(
        &self,
        batches: &mut (impl Stream<Item = std::result::Result<RecordBatch, ParquetError>> + Unpin),
    ) -> Result<Option<RecordBatch>> {
        batches.try_next().await.map_err(|error| unread(&self.name, error))
    }

    fn unwritten(&self, error: DeltaTableError) -> ConnectorError {
        error::delta(format!("cannot write a file of table {}", display(&self.name)), error)
    }
}

fn unreadable(name: &TableName, error: DeltaTableError) -> ConnectorError {
    error::delta(format!("cannot read the state of table {}", display(name)), error)
}

fn unread(name: &TableName, error: ParquetError) -> ConnectorError {
    ConnectorError::retry("delta", format!("cannot read a file of table {}", display(name))).caused_by(error)
}

fn files_of(state: &DeltaTableState, partitioned: bool) -> Vec<File> {
    let file = |file: LogicalFileView| File {
        path: file.object_store_path(),
        size: file.size().unsigned_abs(),
        partition: Partition::of_file(partitioned, &file.partition_values_map()),
        remove: Some(file.remove_action(true)),
    };
    state.log_data().into_iter().map(file).collect()
}

/// What a table has that reading its files one by one would overlook.
fn unsupported(state: &DeltaTableState) -> Option<&'static str> {
    let partitions = state.metadata().partition_columns();
    if !partitions.is_empty() && *partitions != [Partitioning::COLUMN] {
        return Some("partitions of another kind");
    }
    if state.metadata().configuration().get("delta.columnMapping.mode").is_some_and(|mode| mode != "none") {
        return Some("mapped columns");
    }
    let deleted_from = |file: LogicalFileView| file.deletion_vector_descriptor().is_some();
    let is_deleted_from =
        has_deletion_vectors(state.protocol()) && state.log_data().into_iter().any(deleted_from);
    is_deleted_from.then_some("deletion vectors")
}

/// These columns of a schema, in its order.
fn projection(schema: &SchemaRef, columns: &[String]) -> SchemaRef {
    let wanted = schema.fields().iter().filter(|field| columns.contains(field.name()));
    Arc::new(Schema::new(wanted.cloned().collect::<Vec<_>>()))
}
