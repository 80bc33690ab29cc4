//! Plain Parquet: the format for those who want no table format.
//!
//! A table is a folder of files that only ever become more. Each file is cut by offset and says so:
//! `<schema>/<table>/millrace_date=<day>/<connection>-<log>-<N>-<epoch>-<partition>.<start>.<end>-<n>.parquet`
//! holds rows of load N of that connection, read from exactly these offsets. The intent log makes it happen once,
//! as in a lake of Delta tables: N is announced, its files are written, N is sealed.
//!
//! A file cannot tell that its table has had load N already, and a loader may sleep through a takeover and write
//! its files long after another has done N. So each loader's attempt has names of its own, by its epoch, and the
//! seal says whose counts ([`Sealers`](crate::sealers::Sealers)): nobody overwrites a successor's file, and what an attempt that lost has
//! written is nobody's, whenever it is written (`who_slept_through_a_takeover_adds_nothing`). It is deleted by
//! whoever seals the load, by the one that finds it sealed, or by the next loader.
//!
//! Millrace's own queries leave out these files and those of a load that is not sealed, of all connections as
//! they were when the query began; other readers see them as long as they are there.
//!
//! The columns of a table are a sequence of generations under `_millrace/tables/<schema>/<table>`. There is no
//! way to change a row, so rows by key and full refreshes are refused, but for `users`: its merged rows are
//! added as versions: of each column the value that is not null with the latest `received_at` holds.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use futures::{StreamExt, TryStreamExt};
use millrace_columnar::TableSchema;
use millrace_columnar::arrow::array::RecordBatch;
use millrace_connector::{
    ConnectorError, Load, LoadReport, OffsetRange, TableLoad, TableName, TableSchemas, WriteMode,
};
use millrace_event_model::ConnectionId;
use millrace_service::crash_point;
use millrace_state::object_store::path::Path;
use millrace_state::object_store::{ObjectStore, ObjectStoreExt};
use millrace_state::{Generations, StateError, Store};
use serde::{Deserialize, Serialize};

use crate::columns::stored_schema;
use crate::counts;
use crate::data_file;
use crate::error::{self, Result};
use crate::file_name::FileName;
use crate::intent_log::{IntentLog, Whole};
use crate::merge::{common_columns, fit};
use crate::object_stores;
use crate::partition::{Partition, Partitioning, by_date};
use crate::tables::{OWN_FOLDER, display, missing, parse, segment};

/// How often a table is changed anew because another writer's change came first.
const CHANGE_ATTEMPTS: usize = 8;

/// Where the columns of tables stand.
const TABLES: &str = "tables";

/// The files of one load of one connection.
#[derive(Debug, Clone)]
pub(crate) struct LoadId {
    pub(crate) connection: ConnectionId,
    /// The id of the intent log, so that a log that began anew never names a file as an older one did.
    pub(crate) log: String,
    pub(crate) number: u64,
    /// Whose attempt at it.
    pub(crate) epoch: u64,
    pub(crate) ranges: Vec<OffsetRange>,
}

/// What is known of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Definition {
    columns: TableSchema,
    partitioned: bool,
}

/// A table as a query reads it.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) columns: TableSchema,
    pub(crate) partitioned: bool,
    /// Its folder.
    pub(crate) path: Path,
}

/// Which files are there for a query: those of the attempts that sealed their loads.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// By connection.
    logs: HashMap<String, Whole>,
}

impl View {
    /// Whether the file is one that a query reads.
    pub(crate) fn shows(&self, path: &Path) -> bool {
        let Some(name) = path.filename().and_then(FileName::parse) else { return true };
        let Some(whole) = self.logs.get(&name.connection) else { return true };
        let counts = || whole.sealers.of(name.number).is_none_or(|epoch| epoch == name.epoch);
        whole.log != name.log || (name.number < whole.below && counts())
    }
}

/// The tables under a root.
pub(crate) struct Files {
    store: Store,
    partitioning: Partitioning,
}

impl Files {
    pub(crate) fn new(store: Store, partitioning: Partitioning) -> Self {
        Self { store, partitioning }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// The schemas with the names of their tables.
    pub(crate) async fn schemas(&self) -> Result<BTreeMap<String, Vec<String>>> {
        let mut schemas: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for path in self.store.child(OWN_FOLDER).child(TABLES).list("").await.map_err(unreadable)? {
            let mut parts = path.split('/');
            if let (Some(schema), Some(table)) = (parts.next(), parts.next()) {
                schemas.entry(schema.to_owned()).or_default().insert(table.to_owned());
            }
        }
        Ok(schemas.into_iter().map(|(schema, tables)| (schema, tables.into_iter().collect())).collect())
    }

    /// The tables of a schema.
    pub(crate) async fn describe(&self, schema: &str) -> Result<TableSchemas> {
        segment(schema)?;
        let mut described = TableSchemas::new();
        for table in self.schemas().await?.remove(schema).unwrap_or_default() {
            let name = TableName { schema: schema.to_owned(), table };
            if let Some(definition) = self.definition(&name).await? {
                described.insert(name.table, definition.columns);
            }
        }
        Ok(described)
    }

    /// A table for a query.
    pub(crate) async fn table(&self, name: &TableName) -> Result<Option<Table>> {
        let Some(definition) = self.definition(name).await? else { return Ok(None) };
        let path = self.folder(name)?;
        Ok(Some(Table { columns: definition.columns, partitioned: definition.partitioned, path }))
    }

    /// Makes a table, or adds the columns that it lacks.
    pub(crate) async fn create(&self, name: &TableName, columns: &TableSchema) -> Result<()> {
        let partitioned = self.partitioning.covers(name, columns);
        self.change(name, |definition| {
            let mut definition =
                definition.unwrap_or(Definition { columns: TableSchema::new(), partitioned });
            for (column, field_type) in columns {
                definition.columns.entry(column.clone()).or_insert(*field_type);
            }
            Ok(definition)
        })
        .await
    }

    /// Gives columns wider types. Files keep what they were written with; it is converted when it is read.
    pub(crate) async fn widen(&self, name: &TableName, columns: &TableSchema) -> Result<()> {
        self.change(name, |definition| {
            let mut definition = definition.ok_or_else(|| missing(name))?;
            for (column, field_type) in columns {
                if let Some(present) = definition.columns.get_mut(column) {
                    *present = *field_type;
                }
            }
            Ok(definition)
        })
        .await
    }

    async fn change(
        &self,
        name: &TableName,
        change: impl Fn(Option<Definition>) -> Result<Definition>,
    ) -> Result<()> {
        let definitions = self.definitions(name)?;
        for _ in 0..CHANGE_ATTEMPTS {
            let latest = definitions.latest().await.map_err(unreadable)?;
            let (number, present) = latest.map_or((0, None), |latest| (latest.number, Some(latest.value)));
            let changed = change(present.clone())?;
            if present.as_ref() == Some(&changed) {
                return Ok(());
            }
            match definitions.append(number + 1, &changed).await {
                Ok(()) => return Ok(()),
                Err(StateError::Lost { .. }) => {}
                Err(error) => return Err(error::state("cannot write the columns of a table", error)),
            }
        }
        let text = format!("other writers of table {} were first {CHANGE_ATTEMPTS} times", display(name));
        Err(ConnectorError::retry("conflict", text))
    }

    /// Writes what a load has for its tables, over what this loader's earlier attempt at it left, and returns
    /// what it wrote.
    pub(crate) async fn write(
        &self,
        id: &LoadId,
        loads: Vec<TableLoad>,
    ) -> Result<(LoadReport, HashSet<Path>)> {
        let mut report = LoadReport::default();
        let mut written = HashSet::new();
        let mut parts: HashMap<TableName, usize> = HashMap::new();
        for load in loads {
            let definition = self.definition(&load.name).await?.ok_or_else(|| missing(&load.name))?;
            for (partition, batches) in files_of(&load, &definition)? {
                let part = parts.entry(load.name.clone()).or_default();
                let file = FileName::new(id, *part).to_string();
                *part += 1;
                let bytes = data_file::encode(&batches).map_err(|error| {
                    error::rows(format!("cannot write rows of table {}", display(&load.name)), error)
                })?;
                report.bytes += bytes.len() as u64;
                report.statements += 1;
                let folder = partition.folder().map(|folder| format!("{folder}/")).unwrap_or_default();
                let path = parse(&format!("{}/{folder}{file}", self.folder(&load.name)?))?;
                self.store.object_store().put(&path, bytes.into()).await.map_err(|error| {
                    ConnectorError::retry("store", format!("cannot write {path}")).caused_by(error)
                })?;
                written.insert(path);
                crash_point("between-files");
            }
        }
        Ok((report, written))
    }

    /// Deletes what this loader's earlier attempt at a load wrote and this one did not.
    pub(crate) async fn delete_remains(&self, id: &LoadId, written: &HashSet<Path>) -> Result<()> {
        let ours = |name: &FileName| name.is_of(id) && name.epoch == id.epoch;
        let mut found = self.find(&parse(&self.prefix())?, ours).await?;
        found.retain(|path| !written.contains(path));
        self.delete(&found).await
    }

    /// Deletes what others than its sealer have written of a load that is sealed. `id`: of anybody's attempt.
    pub(crate) async fn delete_others(&self, id: &LoadId, sealer: u64) -> Result<()> {
        let others = |name: &FileName| name.is_of(id) && name.epoch != sealer;
        self.delete(&self.find(&parse(&self.prefix())?, others).await?).await
    }

    /// The loads that are whole now, of every connection.
    pub(crate) async fn view(&self) -> Result<View> {
        let own = self.store.child(OWN_FOLDER);
        let mut connections = BTreeSet::new();
        let listed = own.object_store().list_with_delimiter(Some(own.prefix())).await;
        let listed = match listed {
            Ok(listed) => listed.common_prefixes,
            Err(millrace_state::object_store::Error::NotFound { .. }) => Vec::new(),
            Err(error) => {
                return Err(ConnectorError::retry("store", "cannot list the lake").caused_by(error));
            }
        };
        connections.extend(listed.iter().filter_map(|path| path.filename().map(str::to_owned)));
        connections.retain(|name| name != TABLES && *name != counts::name().table);
        let mut logs = HashMap::new();
        for connection in connections {
            let log = IntentLog::new(&own.child(&connection), &connection);
            if let Some(state) = log.whole().await? {
                logs.insert(connection, state);
            }
        }
        Ok(View { logs })
    }

    /// Deletes a schema's tables.
    pub(crate) async fn delete_schema(&self, schema: &str) -> Result<()> {
        let failed = |error| error::state("cannot delete a schema", error);
        segment(schema)?;
        for folder in [self.store.child(schema), self.store.child(OWN_FOLDER).child(TABLES).child(schema)] {
            for path in folder.list("").await.map_err(failed)? {
                folder.delete(&path).await.map_err(failed)?;
            }
            if let Some(folder) = folder.folder() {
                // What is left of it are empty folders, which harm nobody.
                let _ = tokio::fs::remove_dir_all(folder).await;
            }
        }
        Ok(())
    }

    /// Deletes the books of a connection.
    pub(crate) async fn forget_counts(&self, connection: &ConnectionId) -> Result<()> {
        let folder = self.folder(&counts::name())?;
        let books = self.find(&folder, |name| name.connection == connection.as_str()).await?;
        self.delete(&books).await
    }

    /// The files below a path whose names are such.
    async fn find(&self, under: &Path, which: impl Fn(&FileName) -> bool) -> Result<Vec<Path>> {
        let failed = |error| ConnectorError::retry("store", "cannot list files of the lake").caused_by(error);
        let store = self.store.object_store();
        let mut listed = store.list(Some(under)).boxed();
        let mut found = Vec::new();
        while let Some(object) = listed.try_next().await.map_err(failed)? {
            if object.location.filename().and_then(FileName::parse).is_some_and(|name| which(&name)) {
                found.push(object.location);
            }
        }
        Ok(found)
    }

    /// Deletes files; that one is gone already is as good.
    pub(crate) async fn delete(&self, doomed: &[Path]) -> Result<()> {
        let deleted = object_stores::delete(&*self.store.object_store(), doomed.to_vec()).await;
        deleted.map_err(|error| {
            ConnectorError::retry("store", "cannot delete files of the lake").caused_by(error)
        })
    }

    async fn definition(&self, name: &TableName) -> Result<Option<Definition>> {
        let latest = self.definitions(name)?.latest().await.map_err(unreadable)?;
        Ok(latest.map(|latest| latest.value))
    }

    fn definitions(&self, name: &TableName) -> Result<Generations<Definition>> {
        let (schema, table) = (segment(&name.schema)?, segment(&name.table)?);
        Ok(Generations::new(self.store.child(OWN_FOLDER).child(TABLES).child(schema).child(table)))
    }

    fn folder(&self, name: &TableName) -> Result<Path> {
        parse(&format!("{}/{}/{}", self.prefix(), segment(&name.schema)?, segment(&name.table)?))
    }

    fn prefix(&self) -> String {
        self.store.prefix().to_string()
    }
}

/// Whether files can hold what a load does. Asked before it is announced: it could never be done, and nothing else
/// could come after it.
pub(crate) fn check_only_grows(load: &Load) -> Result<()> {
    if let Some(replacement) = load.replacements.first() {
        return Err(only_grows(&replacement.to, "a rebuild"));
    }
    if let Some(swap) = load.swaps.first() {
        return Err(only_grows(&swap.name, "a full refresh"));
    }
    load.tables.iter().try_for_each(|part| match &part.write {
        WriteMode::Append | WriteMode::MergeLatest { .. } => Ok(()),
        WriteMode::Upsert { .. } => Err(only_grows(&part.name, "rows that replace others by key")),
        WriteMode::Stage { .. } => Err(only_grows(&part.name, "a full refresh")),
    })
}

/// The rows of a table's part of a load, by file.
fn files_of(load: &TableLoad, definition: &Definition) -> Result<BTreeMap<Partition, Vec<RecordBatch>>> {
    let stored = stored_schema(&definition.columns);
    let misfit = |error| error::rows(format!("rows do not fit table {}", display(&load.name)), error);
    let mut files: BTreeMap<Partition, Vec<RecordBatch>> = BTreeMap::new();
    for rows in load.rows.iter().filter(|rows| rows.num_rows() > 0) {
        let schema = common_columns(&stored, rows).ok_or_else(|| {
            let text = format!("rows for table {} have columns that it has not", display(&load.name));
            ConnectorError::retry("missing_column", text)
        })?;
        let rows = fit(rows, &schema).map_err(misfit)?;
        if !definition.partitioned {
            files.entry(Partition::Whole).or_default().push(rows);
            continue;
        }
        for (partition, rows) in by_date(&rows).map_err(misfit)? {
            files.entry(partition).or_default().push(rows);
        }
    }
    Ok(files)
}

fn only_grows(name: &TableName, what: &str) -> ConnectorError {
    let text = format!(
        "table {} is plain Parquet, whose rows never change: {what} cannot be done; set `mode: append` for the \
         connection, or `format: delta` for the lake",
        display(name)
    );
    ConnectorError::pause("append_only", text)
}

fn unreadable(error: StateError) -> ConnectorError {
    error::state("cannot read the tables of the lake", error)
}
