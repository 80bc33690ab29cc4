//! One connection into one warehouse, and short ways to say what is loaded and what is there.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use futures::TryStreamExt;
use millrace_columnar::{Cell, JsonRows, Row, TableSchema, batch_of};
use millrace_event_model::{ConnectionId, FieldType};
use serde_json::Value;

use crate::{
    ConnectorError, KafkaIdentity, Load, LoadReport, OffsetRange, Resume, SchemaChange, TableLoad, TableName,
    Warehouse, WriteMode,
};

/// The schema of all tables of the kit.
const SCHEMA: &str = "conformance";

/// See the module's text.
pub(super) struct Rig {
    /// As the first process has it.
    pub(super) warehouse: Arc<dyn Warehouse>,
    /// As another process has it.
    pub(super) other: Arc<dyn Warehouse>,
    /// Also the prefix of its tables.
    name: String,
}

impl Rig {
    /// Opens the warehouse twice and resumes the connection `name` under epoch 1.
    pub(super) async fn new(open: &impl Fn() -> Arc<dyn Warehouse>, name: &str) -> Self {
        let rig = Self { warehouse: open(), other: open(), name: name.to_owned() };
        let resume = rig.resume(1).await;
        assert_eq!(
            resume,
            Resume { positions: [].into(), redo: None },
            "{name}: a new connection starts empty"
        );
        rig
    }

    pub(super) fn connection(&self) -> ConnectionId {
        format!("{}--conformance", self.name).parse().unwrap()
    }

    /// A job of the connection.
    pub(super) fn job(&self) -> ConnectionId {
        format!("{}--conformance-job", self.name).parse().unwrap()
    }

    /// The schema of its own that the job works in.
    pub(super) fn job_schema(&self) -> String {
        format!("{SCHEMA}__{}", self.name)
    }

    pub(super) fn job_table(&self, table: &str) -> TableName {
        TableName { schema: self.job_schema(), table: table.to_owned() }
    }

    pub(super) async fn resume(&self, epoch: u64) -> Resume {
        let resume = self.warehouse.resume(&self.connection(), epoch, &kafka()).await;
        resume.unwrap_or_else(|error| panic!("{}: resume: {}", self.name, error.full()))
    }

    pub(super) fn table_name(&self, table: &str) -> TableName {
        TableName { schema: SCHEMA.to_owned(), table: self.full_name(table) }
    }

    fn full_name(&self, table: &str) -> String {
        format!("{}_{table}", self.name)
    }

    /// Makes a table, as the plan would.
    pub(super) async fn create(&self, table: &str, columns: &TableSchema) {
        let create = SchemaChange::CreateTable { table: self.full_name(table), columns: columns.clone() };
        self.apply(&[SchemaChange::CreateSchema, create]).await;
    }

    pub(super) async fn add_columns(&self, table: &str, columns: &TableSchema) {
        let columns = columns.clone();
        self.apply(&[SchemaChange::AddColumns { table: self.full_name(table), columns }]).await;
    }

    pub(super) async fn widen(&self, table: &str, columns: &TableSchema) {
        let columns = columns.clone();
        self.apply(&[SchemaChange::WidenColumns { table: self.full_name(table), columns }]).await;
    }

    async fn apply(&self, changes: &[SchemaChange]) {
        for time in ["first", "second"] {
            let applied = self.warehouse.apply(SCHEMA, changes).await;
            applied.unwrap_or_else(|error| panic!("{}: {time} apply: {}", self.name, error.full()));
        }
    }

    /// The columns of a table, as described.
    pub(super) async fn described(&self, table: &str) -> TableSchema {
        let tables = self.warehouse.describe(SCHEMA).await.unwrap();
        tables.get(&self.full_name(table)).cloned().unwrap_or_default()
    }

    /// Rows for a table.
    pub(super) fn rows(
        &self,
        table: &str,
        columns: &TableSchema,
        rows: &[Row],
        write: WriteMode,
    ) -> TableLoad {
        TableLoad { name: self.table_name(table), rows: vec![batch_of(columns, rows).unwrap()], write }
    }

    /// A load of `tables` under epoch 1 that reads partition 0 from `start` to `end`.
    pub(super) fn batch(&self, start: i64, end: i64, tables: Vec<TableLoad>) -> Load {
        Load {
            connection: self.connection(),
            epoch: 1,
            ranges: vec![OffsetRange { partition: 0, start, end }],
            tables,
            seen: Vec::new(),
            counts: Vec::new(),
            swaps: Vec::new(),
            replacements: Vec::new(),
            at: moment(),
        }
    }

    pub(super) async fn load(&self, load: Load) -> LoadReport {
        let loaded = self.warehouse.load(load).await;
        loaded.unwrap_or_else(|error| panic!("{}: load: {}", self.name, error.full()))
    }

    /// Columns of a table as JSON objects, ordered by the first; read through the other process.
    pub(super) async fn select(&self, columns: &str, table: &str) -> Value {
        let order = columns.split(',').next().unwrap_or(columns);
        let table = self.full_name(table);
        self.query(&format!("SELECT {columns} FROM {SCHEMA}.{table} ORDER BY {order}")).await.unwrap()
    }

    async fn query(&self, sql: &str) -> Result<Value, ConnectorError> {
        let stream = self.other.query(sql).await?;
        let mut rows = Vec::new();
        for batch in stream.batches.try_collect::<Vec<_>>().await? {
            let objects = JsonRows::new(&batch).unwrap();
            rows.extend(objects.objects().map(|object| Value::Object(object.unwrap())));
        }
        Ok(Value::Array(rows))
    }
}

/// The Kafka of every rig.
pub(super) fn kafka() -> KafkaIdentity {
    KafkaIdentity { cluster: "c".to_owned(), topic: "acme.events.main".to_owned(), topic_id: "t".to_owned() }
}

/// When every batch was made: no test depends on today.
pub(super) fn moment() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000)
}

pub(super) fn columns(columns: &[(&str, FieldType)]) -> TableSchema {
    columns.iter().map(|(name, column)| ((*name).to_owned(), *column)).collect()
}

pub(super) fn row(cells: &[(&str, Cell)]) -> Row {
    cells.iter().map(|(name, cell)| ((*name).to_owned(), cell.clone())).collect()
}

pub(super) fn text(value: &str) -> Cell {
    Cell::String(value.to_owned())
}

/// A table with the one column `id`, and rows for it.
pub(super) fn ids(values: &[&str]) -> (TableSchema, Vec<Row>) {
    let rows = values.iter().map(|id| row(&[("id", text(id))])).collect();
    (columns(&[("id", FieldType::String)]), rows)
}
