//! The warehouse itself: the order in which a load becomes durable.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use millrace_columnar::TableSchema;
use millrace_connector::{
    ConnectorError, Context, Count, Dialect, KafkaIdentity, Load, LoadReport, Positions, QueryStream, Resume,
    SchemaChange, TableName, TableSchemas, Warehouse, dialect,
};
use millrace_event_model::ConnectionId;
use millrace_service::crash_point;
use millrace_state::Store;
use tokio::sync::OnceCell;

use crate::columns::columns_of;
use crate::commit::Mark;
use crate::edit::Edit;
use crate::error::{self, Result};
use crate::files::{Files, check_only_grows};
use crate::intent_log::{Cursor, Intent, IntentLog};
use crate::partition::Partitioning;
use crate::plain_load::Attempt;
use crate::query::{Queries, Source};
use crate::seen::{Seen, SeenFile};
use crate::sequence::{check_ranges, not_resumed};
use crate::stage::Stage;
use crate::table_work::{by_table, on_busy_thread, sources_are_there};
use crate::tables::{OWN_FOLDER, Tables, display};
use crate::upkeep::{Upkeep, committed_by};
use crate::{LakeFormat, LakeSettings, counts, object_stores, probe};

#[cfg(test)]
mod tests;

/// Tables of one load that are written at once. Each holds a batch and a file's buffer in memory.
const TABLES_AT_ONCE: usize = 4;

/// Loads between two rounds of merging and deleting files of seen ids.
const TIDY_SEEN_EVERY: u64 = 16;

/// How often the books are tried again to be rid of a job's when other loaders write to them meanwhile.
const FORGET_ATTEMPTS: usize = 16;

/// Delta tables in a folder or an object store. See the crate's documentation for its protocol.
pub struct Lake {
    dialect: &'static Dialect,
    store: Store,
    layout: Layout,
    queries: Arc<Queries>,
    /// Whether it is known that the store creates only what is absent.
    proved: OnceCell<()>,
    connections: Mutex<HashMap<ConnectionId, Connection>>,
}

/// What the tables are.
enum Layout {
    Delta { tables: Arc<Tables>, upkeep: Arc<Upkeep> },
    Files(Arc<Files>),
}

/// What is known of a connection since it was resumed.
struct Connection {
    seen: Arc<Seen>,
    /// Taken by a load and put back when it is sealed. When it failed, only resuming gives a new one.
    cursor: Option<Cursor>,
}

impl Lake {
    /// Opens a lake. Nothing is made or reached before it is used.
    ///
    /// # Errors
    /// `Pause`: the url or another setting is not right.
    pub fn open(settings: &LakeSettings, context: &Context) -> Result<Self> {
        let refuse = |problem: &str| {
            let text = format!("warehouse {:?}, url {:?}: {problem}", context.id, settings.url);
            ConnectorError::pause("invalid_settings", text)
        };
        let store = Store::reach(&settings.url, &settings.storage_options)
            .map_err(|error| refuse("cannot be opened").caused_by(error))?;
        if store.url().starts_with("memory:") {
            return Err(refuse("a lake is a folder, such as ./data/lake, or an object store"));
        }
        let store = if settings.fsync { store.synced() } else { store };
        object_stores::register();
        let kept = settings.kept().map_err(|problem| refuse(&problem))?;
        let every = settings.compact_every().map_err(|problem| refuse(&problem))?;
        let dialect = dialect("lake").ok_or_else(|| refuse("there is no dialect for lakes"))?;
        let partitioning = Partitioning { streams: settings.partition_streams };
        let (layout, source) = match settings.format {
            LakeFormat::Delta => {
                let tables = Arc::new(Tables::new(store.clone(), partitioning, kept));
                let source = Source::Delta(Arc::clone(&tables));
                (Layout::Delta { tables, upkeep: Arc::new(Upkeep::new(every)) }, source)
            }
            LakeFormat::Parquet => {
                let files = Arc::new(Files::new(store.clone(), partitioning));
                (Layout::Files(Arc::clone(&files)), Source::Files(files))
            }
        };
        let queries = Arc::new(Queries::new(source));
        let connections = Mutex::new(HashMap::new());
        Ok(Self { dialect, store, layout, queries, proved: OnceCell::new(), connections })
    }

    fn folder(&self, connection: &ConnectionId) -> Store {
        self.store.child(&format!("{OWN_FOLDER}/{connection}"))
    }

    fn log(&self, connection: &ConnectionId) -> IntentLog {
        IntentLog::new(&self.folder(connection), connection.as_str())
    }

    fn stage(&self, connection: &ConnectionId) -> Stage {
        Stage::new(self.folder(connection).child("stage"))
    }

    fn seen_of(&self, connection: &ConnectionId) -> Result<Arc<Seen>> {
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let found = connections.get(connection).map(|connection| Arc::clone(&connection.seen));
        found.ok_or_else(|| not_resumed(connection))
    }

    fn take_cursor(&self, connection: &ConnectionId) -> Result<Cursor> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let cursor = connections.get_mut(connection).and_then(|connection| connection.cursor.take());
        cursor.ok_or_else(|| not_resumed(connection))
    }

    fn put_cursor(&self, connection: &ConnectionId, cursor: Cursor) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = connections.get_mut(connection) {
            connection.cursor = Some(cursor);
        }
    }

    /// Does what was announced. `again`: it began before, perhaps in another process.
    async fn carry_out(
        &self,
        load: Load,
        mut cursor: Cursor,
        intent: Intent,
        again: bool,
    ) -> Result<LoadReport> {
        let (connection, at) = (load.connection.clone(), load.at);
        let touched = committed_by(&load);
        let (mut report, seen) = self.write(load, &cursor, &intent, again).await?;

        crash_point("before-seal");
        let sealer = self.log(&connection).seal(&mut cursor, &intent).await?;
        crash_point("after-seal");

        if let Layout::Files(files) = &self.layout {
            self.attempt(files, &connection, &intent, again).settle(&cursor, sealer).await?;
        }
        self.seen_of(&connection)?.remember(cursor.whole_below(), seen);
        self.upkeep(&connection, intent.number, at, touched).await;
        self.put_cursor(&connection, cursor);
        // The intent and the seal.
        report.statements += 2;
        Ok(report)
    }

    /// Rows, then counts, then seen ids: each by itself harmless to repeat, and none of it counted on
    /// before the load is sealed.
    async fn write(
        &self,
        mut load: Load,
        cursor: &Cursor,
        intent: &Intent,
        again: bool,
    ) -> Result<(LoadReport, Option<SeenFile>)> {
        if !load.counts.is_empty() {
            self.create(&counts::name(), &counts::columns()).await?;
            load.tables.push(counts::rows(&load.connection, &load.counts)?);
        }
        let (connection, at, seen) = (load.connection.clone(), load.at, std::mem::take(&mut load.seen));
        let report = match &self.layout {
            Layout::Delta { tables, .. } => self.write_tables(tables, load, cursor, intent, again).await?,
            Layout::Files(files) => {
                self.attempt(files, &connection, intent, again).write(cursor, load).await?
            }
        };
        let (ids, number) = (self.seen_of(&connection)?, intent.number);
        let seen = on_busy_thread(async move { ids.write(number, at, &seen).await }).await?;
        Ok((report, seen))
    }

    async fn write_tables(
        &self,
        tables: &Arc<Tables>,
        load: Load,
        cursor: &Cursor,
        intent: &Intent,
        again: bool,
    ) -> Result<LoadReport> {
        let stage = self.stage(&load.connection);
        let mark = Mark {
            app_id: format!("millrace/{}/{}", load.connection, cursor.log_id()),
            number: intent.number,
        };
        let works = by_table(load.tables, load.swaps, load.replacements)?;
        // A replacement takes what this very load writes to the table it reads.
        let (last, first): (Vec<_>, Vec<_>) = works.into_iter().partition(|(_, work)| work.is_replaced());
        let mut report = LoadReport::default();
        for works in [first, last] {
            let mut done = stream::iter(works)
                .map(|(name, work)| work.run(Arc::clone(tables), stage.clone(), name, mark.clone(), again))
                .buffer_unordered(TABLES_AT_ONCE);
            while let Some(part) = done.try_next().await? {
                report.statements += part.statements;
                report.bytes += part.bytes;
            }
        }
        Ok(report)
    }

    fn attempt<'a>(
        &self,
        files: &'a Arc<Files>,
        connection: &'a ConnectionId,
        intent: &'a Intent,
        again: bool,
    ) -> Attempt<'a> {
        Attempt { files, log: self.log(connection), connection, intent, again }
    }

    async fn create(&self, name: &TableName, columns: &TableSchema) -> Result<()> {
        match &self.layout {
            Layout::Delta { tables, .. } => tables.create(name, columns).await,
            Layout::Files(files) => files.create(name, columns).await,
        }
    }

    async fn add_columns(&self, name: &TableName, columns: &TableSchema) -> Result<()> {
        match &self.layout {
            Layout::Delta { tables, .. } => tables.add_columns(name, columns).await,
            Layout::Files(files) => files.create(name, columns).await,
        }
    }

    async fn widen(&self, name: TableName, columns: TableSchema) -> Result<()> {
        match &self.layout {
            Layout::Delta { tables, .. } => {
                let tables = Arc::clone(tables);
                on_busy_thread(async move { tables.widen(&name, &columns).await }).await
            }
            Layout::Files(files) => files.widen(&name, &columns).await,
        }
    }

    /// Takes the counts of a connection out of the books.
    async fn forget_counts(&self, connection: &ConnectionId) -> Result<()> {
        let tables = match &self.layout {
            Layout::Delta { tables, .. } => tables,
            Layout::Files(files) => return files.forget_counts(connection).await,
        };
        let name = counts::name();
        let (rows, key) = counts::key_of(connection)?;
        for _ in 0..FORGET_ATTEMPTS {
            let Some(table) = tables.latest(&name).await? else { return Ok(()) };
            let mut edit = Edit::new(&name, table)?;
            edit.delete(&rows, std::slice::from_ref(&key)).await?;
            match edit.commit(None).await {
                Ok(committed) => {
                    tables.keep(&name, committed.known);
                    return Ok(());
                }
                Err(error) if error::is_conflict(&error) => {}
                Err(error) => {
                    return Err(error::delta(format!("cannot delete from table {}", display(&name)), error));
                }
            }
        }
        let text = format!("other loaders wrote to {} {FORGET_ATTEMPTS} times meanwhile", display(&name));
        Err(ConnectorError::retry("conflict", text))
    }

    /// What a sealed load may be followed by. It is whole already, so a failure here is only logged.
    async fn upkeep(
        &self,
        connection: &ConnectionId,
        number: u64,
        at: DateTime<Utc>,
        touched: BTreeSet<TableName>,
    ) {
        if let Err(error) = self.log(connection).prune(number).await {
            tracing::warn!(%connection, error = %error.full(), "cannot prune the intent log");
        }
        if number.is_multiple_of(TIDY_SEEN_EVERY)
            && let Ok(seen) = self.seen_of(connection)
            && let Err(error) = on_busy_thread(async move { seen.tidy(at).await }).await
        {
            tracing::warn!(%connection, error = %error.full(), "cannot tidy the seen ids");
        }
        let Layout::Delta { tables, upkeep } = &self.layout else { return };
        for name in touched {
            let (tables, upkeep) = (Arc::clone(tables), Arc::clone(upkeep));
            let now = Utc::now();
            let done = on_busy_thread(async move { upkeep.after_commit(&tables, &name, now).await });
            if let Err(error) = done.await {
                tracing::warn!(%connection, error = %error.full(), "cannot compact a table");
            }
        }
    }
}

#[async_trait]
impl Warehouse for Lake {
    fn dialect(&self) -> &'static Dialect {
        self.dialect
    }

    fn replaces(&self) -> bool {
        matches!(self.layout, Layout::Delta { .. })
    }

    async fn positions(&self, connection: &ConnectionId) -> Result<Positions> {
        self.log(connection).positions().await
    }

    async fn check(&self) -> Result<()> {
        probe::prove(&self.store).await
    }

    async fn describe(&self, schema: &str) -> Result<TableSchemas> {
        let tables = match &self.layout {
            Layout::Delta { tables, .. } => tables,
            Layout::Files(files) => return files.describe(schema).await,
        };
        let mut described = TableSchemas::new();
        for table in tables.names(schema).await? {
            let name = TableName { schema: schema.to_owned(), table };
            if let Some(table) = tables.latest(&name).await? {
                described.insert(name.table.clone(), columns_of(&name, &table)?);
            }
        }
        Ok(described)
    }

    async fn apply(&self, schema: &str, changes: &[SchemaChange]) -> Result<()> {
        let name = |table: &str| TableName { schema: schema.to_owned(), table: table.to_owned() };
        for change in changes {
            match change {
                // A schema is a folder, which comes with its first table.
                SchemaChange::CreateSchema => {}
                SchemaChange::CreateTable { table, columns } => self.create(&name(table), columns).await?,
                SchemaChange::AddColumns { table, columns } => {
                    self.add_columns(&name(table), columns).await?;
                }
                SchemaChange::WidenColumns { table, columns } => {
                    self.widen(name(table), columns.clone()).await?;
                }
            }
        }
        Ok(())
    }

    async fn resume(&self, connection: &ConnectionId, epoch: u64, kafka: &KafkaIdentity) -> Result<Resume> {
        // Before the first load of this process: on a store that only pretends, there is no fence.
        self.proved.get_or_try_init(|| probe::prove(&self.store)).await?;
        let log = self.log(connection);
        let folder = self.folder(connection).child("seen");
        let mut numbers_used = 0;
        if log.is_new().await? {
            numbers_used = Seen::highest_number(&folder).await?;
            self.stage(connection).clear().await?;
        }
        let cursor = log.resume(epoch, kafka, numbers_used).await?;
        if let (Layout::Files(files), Some((id, sealer))) =
            (&self.layout, cursor.perhaps_littered(connection))
        {
            files.delete_others(&id, sealer).await?;
        }
        let redo = cursor.redo.as_ref().map(|intent| intent.ranges.clone());
        let resume = Resume { positions: cursor.positions.clone(), redo };
        let seen = Arc::new(Seen::new(folder, cursor.whole_below()));
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.insert(connection.clone(), Connection { seen, cursor: Some(cursor) });
        Ok(resume)
    }

    async fn seen(
        &self,
        connection: &ConnectionId,
        ids: &[u128],
        now: DateTime<Utc>,
    ) -> Result<Vec<Option<u64>>> {
        let seen = match self.seen_of(connection) {
            Ok(seen) => seen,
            // Somebody who does not load: what is whole now is what there is.
            Err(_) => {
                let whole_below = self.log(connection).whole_below().await?;
                Arc::new(Seen::new(self.folder(connection).child("seen"), whole_below))
            }
        };
        let ids = ids.to_vec();
        on_busy_thread(async move { seen.lookup(&ids, now).await }).await
    }

    async fn load(&self, mut load: Load) -> Result<LoadReport> {
        if let Layout::Files(_) = &self.layout {
            check_only_grows(&load)?;
        }
        let log = self.log(&load.connection);
        let cursor = self.take_cursor(&load.connection)?;
        if load.epoch < cursor.epoch {
            let error = log.fenced_off(load.epoch, cursor.epoch);
            self.put_cursor(&load.connection, cursor);
            return Err(error);
        }
        if load.epoch > cursor.epoch {
            return Err(not_resumed(&load.connection));
        }
        let again = cursor.redo.is_some();
        let mut checked = check_ranges(&load, &cursor);
        if let (Ok(()), Layout::Delta { tables, .. }, false) = (&checked, &self.layout, again) {
            checked = sources_are_there(tables, &load.replacements).await;
        }
        if let Err(error) = checked {
            self.put_cursor(&load.connection, cursor);
            return Err(error);
        }

        crash_point("before-intent");
        let intent = match cursor.redo.clone() {
            Some(intent) => intent,
            None => log.begin(&cursor, &load.ranges, &load.replacements).await?,
        };
        load.replacements.clone_from(&intent.replacements);
        crash_point("after-intent");
        self.carry_out(load, cursor, intent, again).await
    }

    async fn counts(
        &self,
        connection: &ConnectionId,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Vec<Count>> {
        let there = match &self.layout {
            Layout::Delta { tables, .. } => tables.latest(&counts::name()).await?.is_some(),
            Layout::Files(files) => files.table(&counts::name()).await?.is_some(),
        };
        if !there {
            return Ok(Vec::new());
        }
        let mut batches = self.queries.run(&counts::query(connection, from, until)).await?.batches;
        let mut all = Vec::new();
        while let Some(batch) = batches.try_next().await? {
            all.extend(counts::read(&batch)?);
        }
        Ok(all)
    }

    async fn counts_run_ahead(&self, connection: &ConnectionId) -> Result<bool> {
        match self.layout {
            Layout::Delta { .. } => self.log(connection).is_amid_a_load().await,
            // A view of the files has whole loads only.
            Layout::Files(_) => Ok(false),
        }
    }

    /// The schema first and the intent log last: whoever is stopped in between does it again.
    async fn forget(&self, job: &ConnectionId, schema: Option<&str>) -> Result<()> {
        if let Some(schema) = schema {
            if schema == OWN_FOLDER {
                return Err(ConnectorError::pause("invalid_name", "the lake's own schema is no job's"));
            }
            match &self.layout {
                Layout::Delta { tables, .. } => tables.delete_schema(schema).await?,
                Layout::Files(files) => files.delete_schema(schema).await?,
            }
        }
        self.forget_counts(job).await?;
        let failed = |error| error::state("cannot delete what is kept of a job", error);
        let folder = self.folder(job);
        for part in ["stage", "seen", "loads", "seals"] {
            let part = folder.child(part);
            for path in part.list("").await.map_err(failed)? {
                part.delete(&path).await.map_err(failed)?;
            }
        }
        if let Some(folder) = folder.folder() {
            // What is left of it are empty folders, which harm nobody.
            let _ = tokio::fs::remove_dir_all(folder).await;
        }
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).remove(job);
        Ok(())
    }

    async fn query(&self, sql: &str) -> Result<QueryStream> {
        self.queries.run(sql).await
    }
}
