//! The warehouse itself: the order in which a load becomes durable.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use millrace_connector::{
    ConnectorError, Context, Dialect, KafkaIdentity, Load, LoadReport, Positions, QueryStream, Resume,
    SchemaChange, TableName, TableSchemas, Warehouse, dialect,
};
use millrace_event_model::ConnectionId;
use millrace_service::crash_point;
use millrace_state::Store;
use uuid::Uuid;

use crate::edit::Mark;
use crate::error::{self, Result};
use crate::intent_log::{Cursor, Intent, IntentLog, unexpected_range};
use crate::query::Queries;
use crate::seen::Seen;
use crate::stage::Stage;
use crate::table_work::{by_table, on_blocking_thread};
use crate::tables::{OWN_FOLDER, Tables, columns_of};
use crate::{LakeSettings, counts, upkeep};

/// Tables of one load that are written at once. Each holds a batch and a file's buffer in memory.
const TABLES_AT_ONCE: usize = 4;

/// Loads between two rounds of merging and deleting files of seen ids.
const TIDY_SEEN_EVERY: u64 = 64;

/// A folder of Delta tables. See the crate's documentation for its protocol.
pub struct Lake {
    dialect: &'static Dialect,
    store: Store,
    tables: Arc<Tables>,
    queries: Arc<Queries>,
    connections: Mutex<HashMap<ConnectionId, Connection>>,
}

/// What is known of a connection since it was resumed.
struct Connection {
    seen: Arc<Seen>,
    /// Taken by a load and put back when it is sealed. When it failed, only resuming gives a new one.
    cursor: Option<Cursor>,
}

impl Lake {
    /// Opens a lake; makes its folder where it is missing.
    ///
    /// # Errors
    /// `Pause`: the url is not one of a folder, or the folder cannot be made.
    pub fn open(settings: &LakeSettings, context: &Context) -> Result<Self> {
        let refuse = |problem: &str| {
            let text = format!("warehouse {:?}, url {:?}: {problem}", context.id, settings.url);
            ConnectorError::pause("invalid_url", text)
        };
        let store =
            Store::open(&settings.url).map_err(|error| refuse("cannot be opened").caused_by(error))?;
        let root =
            folder_of(&store).ok_or_else(|| refuse("a lake is a local folder, such as ./data/lake"))?;
        let dialect = dialect("lake").ok_or_else(|| refuse("there is no dialect for lakes"))?;
        let tables = Arc::new(Tables::new(root));
        let queries = Arc::new(Queries::new(Arc::clone(&tables))?);
        Ok(Self { dialect, store, tables, queries, connections: Mutex::new(HashMap::new()) })
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

    /// Rows, then counts, then seen ids: each by itself harmless to repeat, and none of it counted on
    /// before the load is sealed.
    async fn write(&self, load: Load, cursor: &Cursor, intent: &Intent, again: bool) -> Result<()> {
        let stage = self.stage(&load.connection);
        let mark = Mark {
            app_id: format!("millrace/{}/{}", load.connection, cursor.log_id()),
            number: intent.number,
        };
        let mut tables = load.tables;
        if !load.counts.is_empty() {
            self.tables.create(&counts::name(), &counts::columns()).await?;
            tables.push(counts::rows(&load.connection, &load.counts)?);
        }
        let works = by_table(tables, load.swaps);
        stream::iter(works)
            .map(|(name, work)| work.run(Arc::clone(&self.tables), stage.clone(), name, mark.clone(), again))
            .buffer_unordered(TABLES_AT_ONCE)
            .try_for_each(|()| async {
                crash_point("between-tables");
                Ok(())
            })
            .await?;
        self.seen_of(&load.connection)?.write(intent.number, load.at, &load.seen).await
    }

    /// What a sealed load may be followed by. It is whole already, so a failure here is only logged.
    async fn upkeep(
        &self,
        connection: &ConnectionId,
        number: u64,
        at: DateTime<Utc>,
        touched: Vec<TableName>,
    ) {
        if let Err(error) = self.log(connection).prune(number).await {
            tracing::warn!(%connection, error = %error.full(), "cannot prune the intent log");
        }
        if number.is_multiple_of(TIDY_SEEN_EVERY)
            && let Ok(seen) = self.seen_of(connection)
            && let Err(error) = seen.tidy(at).await
        {
            tracing::warn!(%connection, error = %error.full(), "cannot tidy the seen ids");
        }
        for name in touched {
            let tables = Arc::clone(&self.tables);
            let done =
                on_blocking_thread(async move { upkeep::after_commit(&tables, &name, Utc::now()).await });
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

    async fn positions(&self, connection: &ConnectionId) -> Result<Positions> {
        self.log(connection).positions().await
    }

    async fn check(&self) -> Result<()> {
        let unwritable = |error| error::state("cannot write to the lake", error);
        let probe = format!("{OWN_FOLDER}/check-{}", Uuid::new_v4());
        self.store.create(&probe, Bytes::new()).await.map_err(unwritable)?;
        self.store.delete(&probe).await.map_err(unwritable)
    }

    async fn describe(&self, schema: &str) -> Result<TableSchemas> {
        let mut described = TableSchemas::new();
        for table in self.tables.names(schema).await? {
            let name = TableName { schema: schema.to_owned(), table };
            if let Some(table) = self.tables.latest(&name).await? {
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
                SchemaChange::CreateTable { table, columns } => {
                    self.tables.create(&name(table), columns).await?
                }
                SchemaChange::AddColumns { table, columns } => {
                    self.tables.add_columns(&name(table), columns).await?;
                }
                SchemaChange::WidenColumns { table, .. } => {
                    let text = format!("table {table}: columns of the lake keep their types");
                    return Err(ConnectorError::pause("widening", text));
                }
            }
        }
        Ok(())
    }

    async fn resume(&self, connection: &ConnectionId, epoch: u64, kafka: &KafkaIdentity) -> Result<Resume> {
        let log = self.log(connection);
        let folder = self.folder(connection).child("seen");
        let mut numbers_used = 0;
        if log.is_new().await? {
            numbers_used = Seen::highest_number(&folder).await?;
            self.stage(connection).clear().await?;
        }
        let cursor = log.resume(epoch, kafka, numbers_used).await?;
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
        on_blocking_thread(async move { seen.lookup(&ids, now).await }).await
    }

    async fn load(&self, load: Load) -> Result<LoadReport> {
        if !load.replacements.is_empty() {
            return Err(ConnectorError::pause(
                "unsupported",
                "the lake cannot make a table anew from another yet",
            ));
        }
        let log = self.log(&load.connection);
        let mut cursor = self.take_cursor(&load.connection)?;
        if load.epoch < cursor.epoch {
            let error = log.fenced_off(load.epoch, cursor.epoch);
            self.put_cursor(&load.connection, cursor);
            return Err(error);
        }
        if load.epoch > cursor.epoch {
            return Err(not_resumed(&load.connection));
        }
        if let Err(error) = check_ranges(&load, &cursor) {
            self.put_cursor(&load.connection, cursor);
            return Err(error);
        }

        crash_point("before-intent");
        let again = cursor.redo.is_some();
        let intent = match cursor.redo.clone() {
            Some(intent) => intent,
            None => log.begin(&cursor, &load.ranges).await?,
        };
        crash_point("after-intent");

        let (connection, at, seen) = (load.connection.clone(), load.at, load.seen.clone());
        let touched = load.tables.iter().map(|table| table.name.clone()).chain([counts::name()]).collect();
        self.write(load, &cursor, &intent, again).await?;

        crash_point("before-seal");
        log.seal(&mut cursor, &intent).await?;
        crash_point("after-seal");

        self.seen_of(&connection)?.remember(cursor.whole_below(), at, &seen);
        self.upkeep(&connection, intent.number, at, touched).await;
        self.put_cursor(&connection, cursor);
        Ok(LoadReport::default())
    }

    async fn query(&self, sql: &str) -> Result<QueryStream> {
        self.queries.run(sql).await
    }
}

/// Whether the load is the one that has to come now.
fn check_ranges(load: &Load, cursor: &Cursor) -> Result<()> {
    let connection = &load.connection;
    if let Some(intent) = &cursor.redo {
        if same_ranges(&intent.ranges, &load.ranges) {
            return Ok(());
        }
        let text = format!("connection {connection} must first do load {} again as it began", intent.number);
        return Err(ConnectorError::retry("redo_first", text));
    }
    let Some(range) = unexpected_range(&cursor.positions, &load.ranges) else { return Ok(()) };
    let expected = cursor.positions.get(&range.partition);
    let text = format!(
        "connection {connection} is to load partition {} from offset {} to {}, but the lake has it up to {expected:?}; \
         another loader has taken over",
        range.partition, range.start, range.end
    );
    Err(ConnectorError::pause("unexpected_position", text))
}

fn same_ranges(a: &[millrace_connector::OffsetRange], b: &[millrace_connector::OffsetRange]) -> bool {
    let by_partition = |ranges: &[millrace_connector::OffsetRange]| {
        let mut ranges: Vec<_> =
            ranges.iter().map(|range| (range.partition, range.start, range.end)).collect();
        ranges.sort_unstable();
        ranges
    };
    by_partition(a) == by_partition(b)
}

fn not_resumed(connection: &ConnectionId) -> ConnectorError {
    let text =
        format!("connection {connection} must be resumed before it loads, and after a load that failed");
    ConnectorError::retry("not_resumed", text)
}

/// The folder beneath a store, if it is one.
fn folder_of(store: &Store) -> Option<PathBuf> {
    store.url().strip_prefix("file://").map(PathBuf::from)
}
