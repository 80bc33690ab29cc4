//! The Delta tables of the lake: finding, opening, making and widening them.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use deltalake_core::kernel::engine::arrow_conversion::{TryIntoArrow, TryIntoKernel};
use deltalake_core::kernel::transaction::CommitProperties;
use deltalake_core::kernel::{StructField, StructType};
use deltalake_core::protocol::SaveMode;
use deltalake_core::{DeltaTable, DeltaTableBuilder, TableProperty};
use millrace_columnar::arrow::datatypes::{Schema, SchemaRef};
use millrace_columnar::{TableSchema, schema_of, table_schema_of};
use millrace_connector::{ConnectorError, TableName};
use url::Url;

use crate::error::{self, Result};

/// Folders of the lake that hold no schema begin with this.
pub(crate) const OWN_FOLDER: &str = "_millrace";

/// Tables whose state is kept in memory, so that opening one reads only what was committed since. Beyond
/// it all are let go and opened anew.
const MAX_OPEN: usize = 1_000;

/// Commits of a table between two checkpoints: what opening it for the first time has to read.
const CHECKPOINT_EVERY: &str = "25";

/// How often columns are added anew because another writer's commit came first.
const WIDEN_ATTEMPTS: usize = 8;

/// How long a table's log and the files it no longer has are kept for those who still read an older
/// version. A load every two seconds makes 1,800 versions an hour.
pub(crate) const KEPT_HOURS: i64 = 1;

/// The Delta tables under a folder.
pub(crate) struct Tables {
    root: PathBuf,
    open: Mutex<HashMap<TableName, DeltaTable>>,
}

impl Tables {
    /// The lake at a folder, given as an absolute path.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root, open: Mutex::new(HashMap::new()) }
    }

    /// The schemas: folders that hold at least one table.
    pub(crate) async fn schemas(&self) -> Result<BTreeMap<String, Vec<String>>> {
        let mut schemas = BTreeMap::new();
        for schema in folders(self.root.clone()).await? {
            let tables = self.names(&schema).await?;
            if !tables.is_empty() {
                schemas.insert(schema, tables);
            }
        }
        Ok(schemas)
    }

    /// The names of the tables of a schema.
    pub(crate) async fn names(&self, schema: &str) -> Result<Vec<String>> {
        let folder = self.root.join(segment(schema)?);
        let mut names = folders(folder.clone()).await?;
        names.retain(|name| folder.join(name).join("_delta_log").is_dir());
        Ok(names)
    }

    /// The latest version of a table, if there is such a table.
    pub(crate) async fn latest(&self, name: &TableName) -> Result<Option<DeltaTable>> {
        if let Some(mut table) = self.cached(name)
            && table.update_state().await.is_ok()
        {
            self.keep(name, table.clone());
            return Ok(Some(table));
        }
        // Not cached, or deleted and made again by someone else.
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        let mut table = self.handle(name)?;
        let unreadable = |error| error::delta(format!("cannot open table {}", display(name)), error);
        if !table.verify_deltatable_existence().await.map_err(unreadable)? {
            return Ok(None);
        }
        table.load().await.map_err(unreadable)?;
        self.keep(name, table.clone());
        Ok(Some(table))
    }

    /// The version that was seen last, else the latest.
    pub(crate) async fn any(&self, name: &TableName) -> Result<Option<DeltaTable>> {
        match self.cached(name) {
            Some(table) => Ok(Some(table)),
            None => self.latest(name).await,
        }
    }

    /// Remembers a version, unless a later one is known.
    pub(crate) fn keep(&self, name: &TableName, table: DeltaTable) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let known = open.get(name).and_then(DeltaTable::version);
        if known.is_some_and(|known| table.version().is_some_and(|version| version < known)) {
            return;
        }
        if open.len() >= MAX_OPEN {
            open.clear();
        }
        open.insert(name.clone(), table);
    }

    /// Makes a table if it is missing. Of two that make it at once, one wins.
    pub(crate) async fn create(&self, name: &TableName, columns: &TableSchema) -> Result<()> {
        if self.latest(name).await?.is_some() {
            return self.add_columns(name, columns).await;
        }
        let folder = self.folder(name)?;
        let unmade = |error| error::delta(format!("cannot create table {}", display(name)), error);
        let made = tokio::fs::create_dir_all(&folder).await;
        made.map_err(|error| {
            ConnectorError::retry("folder", format!("cannot make {}", folder.display())).caused_by(error)
        })?;
        let created = self
            .handle(name)?
            .create()
            .with_columns(fields_of(name, columns)?)
            .with_save_mode(SaveMode::Ignore)
            .with_configuration_property(TableProperty::CheckpointInterval, Some(CHECKPOINT_EVERY))
            .with_configuration_property(TableProperty::LogRetentionDuration, Some(kept()))
            .with_configuration_property(TableProperty::DeletedFileRetentionDuration, Some(kept()))
            // Tried again, the second of two would write its columns over those of the first.
            .with_commit_properties(CommitProperties::default().with_max_retries(0))
            .await;
        match created {
            Ok(table) => self.keep(name, table),
            Err(error) if error::is_conflict(&error) => {}
            Err(error) => return Err(unmade(error)),
        }
        // Of two that make it at once, the second finds the columns of the first.
        self.add_columns(name, columns).await
    }

    /// Adds the columns that a table lacks, in a commit of metadata alone.
    pub(crate) async fn add_columns(&self, name: &TableName, columns: &TableSchema) -> Result<()> {
        for _ in 0..WIDEN_ATTEMPTS {
            let Some(table) = self.latest(name).await? else { return Err(missing(name)) };
            let known = columns_of(name, &table)?;
            let mut lacking = columns.clone();
            lacking.retain(|column, _| !known.contains_key(column));
            if lacking.is_empty() {
                return Ok(());
            }
            let properties = CommitProperties::default().with_max_retries(0);
            let widening = table.add_columns().with_fields(fields_of(name, &lacking)?);
            match widening.with_commit_properties(properties).await {
                Ok(widened) => {
                    self.keep(name, widened);
                    return Ok(());
                }
                Err(error) if error::is_conflict(&error) => {}
                Err(error) => {
                    return Err(error::delta(
                        format!("cannot add columns to table {}", display(name)),
                        error,
                    ));
                }
            }
        }
        let text = format!("other writers of table {} were first {WIDEN_ATTEMPTS} times", display(name));
        Err(ConnectorError::retry("conflict", text))
    }

    /// The folder of a table.
    pub(crate) fn folder(&self, name: &TableName) -> Result<PathBuf> {
        Ok(self.root.join(segment(&name.schema)?).join(segment(&name.table)?))
    }

    fn cached(&self, name: &TableName) -> Option<DeltaTable> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn handle(&self, name: &TableName) -> Result<DeltaTable> {
        let folder = self.folder(name)?;
        let url = Url::from_directory_path(&folder)
            .map_err(|()| ConnectorError::pause("folder", format!("{} is not a path", folder.display())))?;
        let built = DeltaTableBuilder::from_url(url).and_then(DeltaTableBuilder::build);
        built.map_err(|error| error::delta(format!("cannot open table {}", display(name)), error))
    }
}

/// The columns of an open table as Arrow has them.
pub(crate) fn arrow_schema(name: &TableName, table: &DeltaTable) -> Result<SchemaRef> {
    let unreadable =
        |error| error::delta(format!("cannot read the columns of table {}", display(name)), error);
    let state = table.snapshot().map_err(unreadable)?;
    let kernel: &StructType = &state.schema();
    let schema: Schema = kernel.try_into_arrow().map_err(|error| {
        error::rows(format!("table {} has columns of unknown types", display(name)), error)
    })?;
    Ok(Arc::new(schema))
}

/// The columns of an open table.
pub(crate) fn columns_of(name: &TableName, table: &DeltaTable) -> Result<TableSchema> {
    Ok(table_schema_of(&*arrow_schema(name, table)?))
}

/// `schema.table`.
pub(crate) fn display(name: &TableName) -> String {
    format!("{}.{}", name.schema, name.table)
}

pub(crate) fn missing(name: &TableName) -> ConnectorError {
    ConnectorError::retry("missing_table", format!("there is no table {}", display(name)))
}

fn kept() -> String {
    format!("interval {KEPT_HOURS} hours")
}

fn fields_of(name: &TableName, columns: &TableSchema) -> Result<Vec<StructField>> {
    let schema = schema_of(columns);
    let kernel: std::result::Result<StructType, _> = schema.as_ref().try_into_kernel();
    let kernel = kernel
        .map_err(|error| error::rows(format!("table {} cannot have these columns", display(name)), error))?;
    Ok(kernel.fields().cloned().collect())
}

/// A name as one folder of a path: never a way out of the lake.
fn segment(name: &str) -> Result<&str> {
    let safe = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
    if safe {
        return Ok(name);
    }
    Err(ConnectorError::reject("invalid_name", format!("{name:?} cannot be the name of a schema or a table")))
}

/// The names of the folders in a folder, sorted; none if it does not exist.
async fn folders(path: PathBuf) -> Result<Vec<String>> {
    let read = move || -> std::io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                names.extend(entry.file_name().into_string().ok());
            }
        }
        names.sort_unstable();
        Ok(names)
    };
    let failed = || ConnectorError::retry("folder", "cannot list the lake");
    let listed = tokio::task::spawn_blocking(read).await.map_err(|error| failed().caused_by(error))?;
    listed.map_err(|error| failed().caused_by(error))
}
