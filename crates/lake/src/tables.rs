//! The Delta tables of the lake: finding, opening, making, widening and deleting them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use chrono::TimeDelta;
use deltalake_core::kernel::transaction::CommitProperties;
use deltalake_core::protocol::SaveMode;
use deltalake_core::table::config::TablePropertiesExt;
use deltalake_core::{DeltaTable, DeltaTableBuilder, TableProperty};
use futures::{StreamExt, TryStreamExt, stream};
use millrace_columnar::TableSchema;
use millrace_connector::{ConnectorError, TableName};
use millrace_state::Store;
use millrace_state::object_store::path::Path;
use millrace_state::object_store::{Error as StoreError, ObjectStore};
use url::Url;

use crate::columns::{columns_of, fields_of};
use crate::commit::Known;
use crate::edit::Edit;
use crate::error::{self, Result};
use crate::object_stores;
use crate::partition::Partitioning;

/// Folders of the lake that hold no schema begin with this.
pub(crate) const OWN_FOLDER: &str = "_millrace";

/// Tables whose state is kept in memory, so that opening one reads only what was committed since. Beyond
/// it all are let go and opened anew.
const MAX_OPEN: usize = 1_000;

/// Commits of a table between two checkpoints: what opening it for the first time has to read.
const CHECKPOINT_EVERY: &str = "25";

/// How often columns are added anew because another writer's commit came first.
const WIDEN_ATTEMPTS: usize = 8;

/// Folders that are looked into at once: on an object store each takes a request.
const LOOKS_AT_ONCE: usize = 16;

/// The Delta tables under a root.
pub(crate) struct Tables {
    store: Store,
    partitioning: Partitioning,
    /// How long a table's log and the files it no longer has are kept for those who still read an older
    /// version. A load every two seconds makes 1,800 versions an hour.
    kept: TimeDelta,
    open: Mutex<HashMap<TableName, Known>>,
}

impl Tables {
    /// The lake at the root of a store.
    pub(crate) fn new(store: Store, partitioning: Partitioning, kept: TimeDelta) -> Self {
        Self { store, partitioning, kept, open: Mutex::new(HashMap::new()) }
    }

    /// How long old versions are kept.
    pub(crate) fn kept(&self) -> TimeDelta {
        self.kept
    }

    /// The schemas: folders that hold at least one table.
    pub(crate) async fn schemas(&self) -> Result<BTreeMap<String, Vec<String>>> {
        let mut schemas = BTreeMap::new();
        for schema in self.folders(self.store.prefix()).await? {
            let tables = self.names(&schema).await?;
            if !tables.is_empty() {
                schemas.insert(schema, tables);
            }
        }
        Ok(schemas)
    }

    /// The names of the tables of a schema, sorted.
    pub(crate) async fn names(&self, schema: &str) -> Result<Vec<String>> {
        let folders = self.folders(&self.schema_path(schema)?).await?;
        let looked = stream::iter(folders).map(|table| async move {
            let name = TableName { schema: schema.to_owned(), table };
            Ok::<_, ConnectorError>(self.exists(&name).await?.then_some(name.table))
        });
        let found: Vec<Option<String>> = looked.buffered(LOOKS_AT_ONCE).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Whether there is a log of a table; one that is open has one.
    async fn exists(&self, name: &TableName) -> Result<bool> {
        if self.cached(name).is_some() {
            return Ok(true);
        }
        let log = parse(&format!("{}/_delta_log", self.path(name)?))?;
        let first = self.store.object_store().list(Some(&log)).next().await;
        Ok(first.transpose().map_err(unlisted)?.is_some())
    }

    /// The names of the folders directly under a path, sorted; none if it does not exist.
    async fn folders(&self, path: &Path) -> Result<Vec<String>> {
        let listed = match self.store.object_store().list_with_delimiter(Some(path)).await {
            Ok(listed) => listed,
            Err(StoreError::NotFound { .. }) => return Ok(Vec::new()),
            Err(error) => return Err(unlisted(error)),
        };
        let mut names: Vec<String> =
            listed.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_owned)).collect();
        names.retain(|name| segment(name).is_ok());
        names.sort_unstable();
        Ok(names)
    }

    /// The latest version of a table, if there is such a table.
    pub(crate) async fn latest(&self, name: &TableName) -> Result<Option<DeltaTable>> {
        if let Some(Known { mut table, .. }) = self.cached(name)
            && table.update_state().await.is_ok()
        {
            self.keep(name, table.clone());
            return Ok(Some(table));
        }
        self.fresh(name).await
    }

    /// As [`Self::latest`], but nothing that was known before counts: the table may have been deleted and
    /// made again by another process.
    pub(crate) async fn fresh(&self, name: &TableName) -> Result<Option<DeltaTable>> {
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

    /// What is known of a table, else the latest version.
    pub(crate) async fn any(&self, name: &TableName) -> Result<Option<Known>> {
        match self.cached(name) {
            Some(known) => Ok(Some(known)),
            None => Ok(self.latest(name).await?.map(Known::from)),
        }
    }

    /// Remembers a version, unless a later one is known.
    pub(crate) fn keep(&self, name: &TableName, table: impl Into<Known>) {
        let table = table.into();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.get(name).is_some_and(|known| table.newest < known.newest) {
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
        let unmade = |error| error::delta(format!("cannot create table {}", display(name)), error);
        let mut fields = fields_of(name, columns)?;
        let partitioned = self.partitioning.covers(name, columns);
        fields.extend(partitioned.then(Partitioning::field));
        let created = self
            .handle(name)?
            .create()
            .with_columns(fields)
            .with_partition_columns(partitioned.then_some(Partitioning::COLUMN))
            .with_save_mode(SaveMode::Ignore)
            .with_configuration_property(TableProperty::CheckpointInterval, Some(CHECKPOINT_EVERY))
            .with_configuration_property(TableProperty::LogRetentionDuration, Some(self.interval()))
            .with_configuration_property(TableProperty::DeletedFileRetentionDuration, Some(self.interval()))
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
            if lacking.contains_key(Partitioning::COLUMN) {
                let text = format!(
                    "table {} is partitioned by {}, which cannot be a column of its own as well",
                    display(name),
                    Partitioning::COLUMN
                );
                return Err(ConnectorError::pause("reserved_column", text));
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

    /// Gives columns wider types, in one commit that writes all rows anew.
    pub(crate) async fn widen(&self, name: &TableName, columns: &TableSchema) -> Result<()> {
        for _ in 0..WIDEN_ATTEMPTS {
            let Some(table) = self.latest(name).await? else { return Err(missing(name)) };
            let mut wider = columns_of(name, &table)?;
            let known = wider.clone();
            for (column, field_type) in columns {
                if let Some(present) = wider.get_mut(column) {
                    *present = *field_type;
                }
            }
            if wider == known {
                return Ok(());
            }
            let mut edit = Edit::new(name, table)?;
            edit.widen(&known, &wider).await?;
            match edit.commit(None).await {
                Ok(widened) => {
                    self.keep(name, widened.known);
                    return Ok(());
                }
                Err(error) if error::is_conflict(&error) => {}
                Err(error) => {
                    let text = format!("cannot widen columns of table {}", display(name));
                    return Err(error::delta(text, error));
                }
            }
        }
        let text = format!("other writers of table {} were first {WIDEN_ATTEMPTS} times", display(name));
        Err(ConnectorError::retry("conflict", text))
    }

    /// Makes the log of a table remember for as long as the settings say which files left it and when, if it
    /// remembers less: it was made under other settings, or by others. None when another writer came in between.
    pub(crate) async fn remember_longer(
        &self,
        name: &TableName,
        table: DeltaTable,
    ) -> Result<Option<DeltaTable>> {
        let failed = |error| error::delta(format!("cannot set properties of table {}", display(name)), error);
        let config = table.snapshot().map_err(failed)?.table_config();
        let kept = self.kept.to_std().unwrap_or_default();
        let remembered = [
            (TableProperty::LogRetentionDuration, config.log_retention_duration()),
            (TableProperty::DeletedFileRetentionDuration, config.deleted_file_retention_duration()),
        ];
        let longer: HashMap<String, String> = remembered
            .into_iter()
            .filter(|(_, remembered)| *remembered < kept)
            .map(|(property, _)| (property.as_ref().to_owned(), self.interval()))
            .collect();
        if longer.is_empty() {
            return Ok(Some(table));
        }
        let set = table.set_tbl_properties().with_properties(longer);
        match set.with_commit_properties(CommitProperties::default().with_max_retries(0)).await {
            Ok(table) => {
                self.keep(name, table.clone());
                Ok(Some(table))
            }
            Err(error) if error::is_conflict(&error) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Deletes all tables of a schema, with everything else in its folder.
    pub(crate) async fn delete_schema(&self, schema: &str) -> Result<()> {
        let undeleted = |error: StoreError| {
            ConnectorError::retry("store", format!("cannot delete schema {schema}")).caused_by(error)
        };
        let path = self.schema_path(schema)?;
        let store = self.store.object_store();
        let objects: Vec<_> = store.list(Some(&path)).try_collect().await.map_err(undeleted)?;
        let paths = objects.into_iter().map(|object| object.location);
        object_stores::delete(&*store, paths).await.map_err(undeleted)?;
        if let Some(root) = self.store.folder() {
            // What is left of it are empty folders, which harm nobody.
            let _ = tokio::fs::remove_dir_all(root.join(segment(schema)?)).await;
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|name, _| name.schema != schema);
        Ok(())
    }

    fn schema_path(&self, schema: &str) -> Result<Path> {
        parse(&format!("{}/{}", self.store.prefix(), segment(schema)?))
    }

    /// Where a table lies in the object store.
    pub(crate) fn path(&self, name: &TableName) -> Result<Path> {
        parse(&format!("{}/{}", self.schema_path(&name.schema)?, segment(&name.table)?))
    }

    fn cached(&self, name: &TableName) -> Option<Known> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn handle(&self, name: &TableName) -> Result<DeltaTable> {
        let bad_url = || ConnectorError::pause("url", format!("{} cannot hold tables", self.store.url()));
        let root = self.store.url();
        let (scheme, rest) = root.split_once("://").ok_or_else(bad_url)?;
        let bucket = rest.split('/').next().unwrap_or_default();
        let mut url = Url::parse(&format!("{scheme}://{bucket}/")).map_err(|_| bad_url())?;
        let path = self.path(name)?;
        // The empty segment makes it end in a slash: the url of a folder.
        let segments = path.parts().map(|part| part.as_ref().to_owned()).chain([String::new()]);
        url.path_segments_mut().map_err(|()| bad_url())?.pop_if_empty().extend(segments);
        let built = DeltaTableBuilder::from_url(url.clone())
            .and_then(|builder| builder.with_storage_backend(self.store.object_store(), url).build());
        built.map_err(|error| error::delta(format!("cannot open table {}", display(name)), error))
    }

    fn interval(&self) -> String {
        format!("interval {} seconds", self.kept.num_seconds())
    }
}

/// `schema.table`.
pub(crate) fn display(name: &TableName) -> String {
    format!("{}.{}", name.schema, name.table)
}

pub(crate) fn missing(name: &TableName) -> ConnectorError {
    ConnectorError::retry("missing_table", format!("there is no table {}", display(name)))
}

/// A name as one folder of a path: never a way out of the lake.
pub(crate) fn segment(name: &str) -> Result<&str> {
    let safe = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
    if safe {
        return Ok(name);
    }
    Err(ConnectorError::reject("invalid_name", format!("{name:?} cannot be the name of a schema or a table")))
}

pub(crate) fn parse(path: &str) -> Result<Path> {
    Path::parse(path).map_err(|error| {
        ConnectorError::reject("invalid_name", format!("{path:?} is no path of a lake")).caused_by(error)
    })
}

fn unlisted(error: StoreError) -> ConnectorError {
    ConnectorError::retry("store", "cannot list the lake").caused_by(error)
}
