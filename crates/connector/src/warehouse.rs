//! Where rows go: SQL servers and lakes.
//!
//! The loader's protocol in terms of this trait (design §4). At start: [`Warehouse::resume`] with the
//! epoch of the lease, which raises the fence against older loaders and returns how far the connection
//! got. Then, for each batch: [`Warehouse::describe`] (cached), [`Warehouse::apply`] for what the plan says is
//! missing, [`Warehouse::seen`] to leave duplicates out, and [`Warehouse::load`], which makes rows, seen
//! ids, counts and positions durable **together**. If a process dies anywhere in between, `resume` tells
//! the next one either to go on after the batch or to do exactly the same ranges again.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::stream::BoxStream;
use millrace_columnar::TableSchema;
use millrace_columnar::arrow::array::RecordBatch;
use millrace_columnar::arrow::datatypes::SchemaRef;
use millrace_event_model::{ConnectionId, Disposition, SourceId};
use serde::{Deserialize, Serialize};

use crate::{ConnectorError, Dialect};

/// One configured warehouse.
#[async_trait]
pub trait Warehouse: Send + Sync {
    /// Names, types and limits.
    fn dialect(&self) -> &'static Dialect;

    /// Whether rows can take the place of others: by key, as a full refresh, or in a [`Replacement`]. Where they
    /// cannot, tables only grow.
    fn replaces(&self) -> bool {
        true
    }

    /// Whether it can be reached and written to.
    async fn check(&self) -> Result<(), ConnectorError>;

    /// All tables of a schema with their columns, as they really are. A schema that does not exist is
    /// empty.
    async fn describe(&self, schema: &str) -> Result<TableSchemas, ConnectorError>;

    /// Makes what is missing. Harmless to repeat: what exists already is left alone. SQL servers do it
    /// in a transaction of its own with a lock timeout.
    async fn apply(&self, schema: &str, changes: &[SchemaChange]) -> Result<(), ConnectorError>;

    /// Raises the fence of the connection to `epoch` and returns how far it got. From here on, a load
    /// under a lower epoch is refused.
    ///
    /// # Errors
    /// `Pause`: a higher epoch is already there, or the offsets belong to another Kafka cluster or topic.
    async fn resume(
        &self,
        connection: &ConnectionId,
        epoch: u64,
        kafka: &KafkaIdentity,
    ) -> Result<Resume, ConnectorError>;

    /// Which of these ids were loaded within 28 days before `now`: for each, in their order, the content hash it was
    /// loaded with.
    async fn seen(
        &self,
        connection: &ConnectionId,
        ids: &[u128],
        now: DateTime<Utc>,
    ) -> Result<Vec<Option<u64>>, ConnectorError>;

    /// Makes a batch durable: all of it or nothing, and never twice.
    ///
    /// # Errors
    /// `Pause`: the epoch is stale or the positions are not the expected ones: another loader has taken
    /// over. `Retry`: nothing, or everything, may have happened; the caller must [`Self::resume`].
    async fn load(&self, load: Load) -> Result<LoadReport, ConnectorError>;

    /// The books of a connection for the hours from `from` up to `until`, each line summed.
    ///
    /// # Errors
    /// `Pause`, of a warehouse that does not say otherwise: it cannot tell.
    async fn counts(
        &self,
        _connection: &ConnectionId,
        _from: DateTime<Utc>,
        _until: DateTime<Utc>,
    ) -> Result<Vec<Count>, ConnectorError> {
        Err(ConnectorError::pause("unsupported", "this kind of warehouse cannot tell its counts"))
    }

    /// How far a connection got, for an onlooker: below these offsets all is in the tables and in the books. It
    /// raises no fence. Empty where it has never loaded.
    ///
    /// # Errors
    /// `Pause`, of a warehouse that does not say otherwise: it cannot tell.
    async fn positions(&self, _connection: &ConnectionId) -> Result<Positions, ConnectorError> {
        Err(ConnectorError::pause("unsupported", "this kind of warehouse cannot tell positions"))
    }

    /// Whether [`Self::counts`] may be ahead of [`Self::positions`] now: a load of the connection has written to the
    /// books, or may have, and is not whole. Never so where the two become durable as one.
    ///
    /// # Errors
    /// The warehouse does not answer.
    async fn counts_run_ahead(&self, _connection: &ConnectionId) -> Result<bool, ConnectorError> {
        Ok(false)
    }

    /// Removes all that is kept of a job that is over: its positions, fence, seen ids and books, and the
    /// schema it worked in, where it had one of its own. What is not there is no error.
    ///
    /// # Errors
    /// `Pause`, of a warehouse that does not say otherwise: it has no jobs.
    async fn forget(&self, _job: &ConnectionId, _schema: Option<&str>) -> Result<(), ConnectorError> {
        Err(ConnectorError::pause("unsupported", "this kind of warehouse cannot forget a job"))
    }

    /// Runs a query and streams its rows. Read only.
    async fn query(&self, sql: &str) -> Result<QueryStream, ConnectorError>;
}

/// Tables of a schema by name.
pub type TableSchemas = BTreeMap<String, TableSchema>;

/// A change that loses nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemaChange {
    /// Make the schema itself.
    CreateSchema,
    /// Make a table with these columns.
    CreateTable {
        /// Its name.
        table: String,
        /// Its columns.
        columns: TableSchema,
    },
    /// Add columns to a table.
    AddColumns {
        /// The table.
        table: String,
        /// The columns it lacks.
        columns: TableSchema,
    },
    /// Give columns a type that holds all values of the one they have. Only for tables of ELT streams, and
    /// only where the dialect says that the server can ([`Dialect::widens`]).
    WidenColumns {
        /// The table.
        table: String,
        /// The columns with their new types.
        columns: TableSchema,
    },
}

/// Which Kafka the positions mean. Stored beside them; a mismatch refuses to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KafkaIdentity {
    /// The cluster's id.
    pub cluster: String,
    /// The topic's full name.
    pub topic: String,
    /// The topic's id where the broker tells it, else its name.
    pub topic_id: String,
}

/// Next offset to read, by partition. A partition that is not there has never been read.
pub type Positions = BTreeMap<i32, i64>;

/// How far a connection got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// Everything below these offsets is in the tables.
    pub positions: Positions,
    /// A load that began and did not end: it must be done again with exactly these ranges before
    /// anything else. Which tables it replaces the warehouse remembers: whoever does it again need not know.
    /// Never set by transactional SQL.
    pub redo: Option<Vec<OffsetRange>>,
}

/// Offsets of one partition: `start` inclusive, `end` exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetRange {
    /// The partition.
    pub partition: i32,
    /// First offset; the position that is expected to be stored now.
    pub start: i64,
    /// One past the last offset; the position that is stored afterwards.
    pub end: i64,
}

/// A batch, ready to be made durable.
#[derive(Debug, Clone)]
pub struct Load {
    /// Whose batch.
    pub connection: ConnectionId,
    /// The lease's epoch, as given to `resume`.
    pub epoch: u64,
    /// What was read.
    pub ranges: Vec<OffsetRange>,
    /// The rows; tables without rows are left out.
    pub tables: Vec<TableLoad>,
    /// Ids of the messages in it, none of which [`Warehouse::seen`] knew.
    pub seen: Vec<SeenId>,
    /// What became of each item, for the books; added to what is stored.
    pub counts: Vec<Count>,
    /// Generations that are complete and replace their tables.
    pub swaps: Vec<Swap>,
    /// Tables that are made anew from others, which stay.
    pub replacements: Vec<Replacement>,
    /// When the batch was made: the date of seen ids.
    pub at: DateTime<Utc>,
}

/// A table in its schema.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TableName {
    /// The schema.
    pub schema: String,
    /// The table.
    pub table: String,
}

/// Rows of one table.
#[derive(Debug, Clone)]
pub struct TableLoad {
    /// Which table. It exists, with at least the batch's columns: `apply` came first.
    pub name: TableName,
    /// The rows, in batches of one schema. Its columns are a subset of the table's.
    pub rows: Vec<RecordBatch>,
    /// How they change the table.
    pub write: WriteMode,
}

/// How rows change a table. Rows of one batch never hold the same key twice but for `Append`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteMode {
    /// Each row is added.
    Append,
    /// A row replaces the one with the same key; absent columns become null.
    Upsert {
        /// The key columns.
        key: Vec<String>,
    },
    /// A row is merged into the one with the same key, column by column: the newer by `order` wins where
    /// it is not null. Null never erases.
    MergeLatest {
        /// The key column.
        key: String,
        /// The column whose later value is newer.
        order: String,
    },
    /// Each row is added to a hidden table, which a [`Swap`] of the same generation makes the table.
    /// Rows of an older generation that was never swapped are thrown away.
    Stage {
        /// Which.
        generation: u64,
    },
}

/// A generation is complete: its staged rows replace the table's. With no staged rows the table is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swap {
    /// Which table.
    pub name: TableName,
    /// Which generation.
    pub generation: u64,
}

/// The rows of one table take the place of another's, which has all of its columns: how a rebuild, done beside
/// the table that people read, becomes that table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replacement {
    /// Whose rows.
    pub from: TableName,
    /// Which table gets them; whatever it holds is gone with the same load.
    pub to: TableName,
}

/// What a load took. A figure that a warehouse does not count is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadReport {
    /// Statements that were sent, or commits that were made.
    pub statements: u64,
    /// Bytes of rows that were sent or written, in the warehouse's form.
    pub bytes: u64,
}

/// A message id that is now loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenId {
    /// Hash of source and message id.
    pub id: u128,
    /// Hash of the body: the same id with another is a conflict.
    pub content: u64,
}

/// How many items of a source and hour ended in a way, for one connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Count {
    /// The source.
    pub source: SourceId,
    /// The hour of the server's received-at, truncated.
    pub hour: DateTime<Utc>,
    /// How they ended.
    pub disposition: Disposition,
    /// Of these, how many had a message id seen with other content. Only for duplicates.
    pub conflicts: u64,
    /// How many.
    pub items: u64,
}

/// The rows of a query.
pub struct QueryStream {
    /// Names and types of the columns.
    pub schema: SchemaRef,
    /// The rows, in batches. Dropping it ends the query.
    pub batches: BoxStream<'static, Result<RecordBatch, ConnectorError>>,
}
