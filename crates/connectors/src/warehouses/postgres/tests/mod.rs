//! Against a real server; each test in a database of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "tests")]

mod fence;
mod load;
mod merges;
mod query;
mod roles;
mod seen;
mod server;
mod values;

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use millrace_columnar::arrow::array::RecordBatch;
use millrace_columnar::{Cell, JsonRows, Row, TableSchema, batch_of};
use millrace_connector::{
    Context, KafkaIdentity, Load, OffsetRange, SchemaChange, TableLoad, TableName, Warehouse, WriteMode,
};
use millrace_event_model::{ConnectionId, FieldType};
use serde_json::{Map, Value, json};

use super::Postgres;

#[tokio::test]
async fn it_keeps_every_promise_of_a_warehouse() {
    let Some(database) = server::Database::create().await else { return };
    millrace_connector::conformance::warehouse(|| std::sync::Arc::new(postgres(&database.url))).await;
}

#[tokio::test]
async fn it_keeps_every_promise_to_jobs() {
    let Some(database) = server::Database::create().await else { return };
    millrace_connector::conformance::jobs(|| std::sync::Arc::new(postgres(&database.url))).await;
}

pub(super) const SCHEMA: &str = "shop";

pub(super) fn connection() -> ConnectionId {
    "web--main".parse().unwrap()
}

pub(super) fn kafka() -> KafkaIdentity {
    KafkaIdentity { cluster: "c".to_owned(), topic: "acme.events.main".to_owned(), topic_id: "t".to_owned() }
}

pub(super) fn noon() -> DateTime<Utc> {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

pub(super) fn postgres(url: &str) -> Postgres {
    let context = Context { id: "main".to_owned(), work_dir: PathBuf::new() };
    Postgres::new(&json!({ "url": url, "allow_superuser": true }), &context).unwrap()
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

pub(super) fn table_name(table: &str) -> TableName {
    TableName { schema: SCHEMA.to_owned(), table: table.to_owned() }
}

pub(super) fn rows(table: &str, columns: &TableSchema, rows: &[Row], write: WriteMode) -> TableLoad {
    TableLoad { name: table_name(table), rows: vec![batch_of(columns, rows).unwrap()], write }
}

/// A load of `tables` that reads partition 0 from `start` to `end`.
pub(super) fn load(start: i64, end: i64, tables: Vec<TableLoad>) -> Load {
    Load {
        connection: connection(),
        epoch: 1,
        ranges: vec![OffsetRange { partition: 0, start, end }],
        tables,
        seen: Vec::new(),
        counts: Vec::new(),
        swaps: Vec::new(),
        replacements: Vec::new(),
        at: noon(),
    }
}

pub(super) async fn create(warehouse: &Postgres, table: &str, columns: &TableSchema) {
    let changes = [
        SchemaChange::CreateSchema,
        SchemaChange::CreateTable { table: table.to_owned(), columns: columns.clone() },
    ];
    warehouse.apply(SCHEMA, &changes).await.unwrap();
}

pub(super) async fn batches(warehouse: &Postgres, sql: &str) -> Vec<RecordBatch> {
    warehouse.query(sql).await.unwrap().batches.try_collect().await.unwrap()
}

/// The rows of a query as JSON.
pub(super) async fn select(warehouse: &Postgres, sql: &str) -> Value {
    let mut found: Vec<Map<String, Value>> = Vec::new();
    for batch in batches(warehouse, sql).await {
        found.extend(JsonRows::new(&batch).unwrap().objects().map(Result::unwrap));
    }
    json!(found)
}
