//! A lake in a temporary folder, and short ways to say what is loaded and what is there.

use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use millrace_columnar::arrow::array::{RecordBatch, RecordBatchOptions};
use millrace_columnar::arrow::compute::cast;
use millrace_columnar::arrow::datatypes::{DataType, Schema};
use millrace_columnar::{Cell, Row, TableSchema, batch_of, rows_of, text_of};
use millrace_connector::{
    ConnectorError, Context, Count, ErrorKind, KafkaIdentity, Load, OffsetRange, Resume, SchemaChange,
    SeenId, Swap, TableLoad, TableName, Warehouse, WriteMode,
};
use millrace_event_model::{ConnectionId, Disposition, FieldType};
use millrace_lake::{Lake, LakeSettings};

pub(crate) const SCHEMA: &str = "web";

/// A lake and the folder it is in, which lives as long as the test.
pub(crate) struct Rig {
    pub(crate) lake: Lake,
    pub(crate) folder: tempfile::TempDir,
}

impl Rig {
    /// An empty lake, with the connection resumed under epoch 1.
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let rig = Self { lake: open(folder.path()), folder };
        rig.resume(1).await.unwrap();
        rig
    }

    /// Another process's view of the same folder.
    pub(crate) fn other(&self) -> Lake {
        open(self.folder.path())
    }

    pub(crate) async fn resume(&self, epoch: u64) -> Result<Resume, ConnectorError> {
        self.lake.resume(&connection(), epoch, &kafka()).await
    }

    /// Makes a table of the schema `web`.
    pub(crate) async fn create(&self, table: &str, columns: &[(&str, FieldType)]) {
        let change = SchemaChange::CreateTable { table: table.to_owned(), columns: schema(columns) };
        self.lake.apply(SCHEMA, &[change]).await.unwrap();
    }

    pub(crate) async fn load(&self, load: Load) {
        self.lake.load(load).await.unwrap_or_else(|error| panic!("{}", error.full()));
    }

    pub(crate) async fn query(&self, sql: &str) -> Vec<String> {
        query(&self.lake, sql).await.unwrap_or_else(|error| panic!("{}", error.full()))
    }
}

pub(crate) fn open(folder: &Path) -> Lake {
    open_with(&LakeSettings::at(folder.display().to_string()))
}

pub(crate) fn open_with(settings: &LakeSettings) -> Lake {
    let context = Context { id: "lake".to_owned(), work_dir: "unused".into() };
    Lake::open(settings, &context).unwrap()
}

/// A lake in the bucket that `MILLRACE_TEST_S3` names (`http://host:port/bucket`), under a prefix of its
/// own; none, with a word on it, where there is no S3.
pub(crate) fn in_s3(prefix: &str) -> Option<LakeSettings> {
    let Ok(s3) = std::env::var("MILLRACE_TEST_S3") else {
        eprintln!("SKIPPED: MILLRACE_TEST_S3 names no bucket (integration-tests/servers/s3.sh starts one)");
        return None;
    };
    let (endpoint, bucket) = s3.rsplit_once('/').unwrap();
    let options = [
        ("endpoint", endpoint),
        ("allow_http", "true"),
        ("region", "us-east-1"),
        ("access_key_id", "test"),
        ("secret_access_key", "test"),
    ];
    let mut settings = LakeSettings::at(format!("s3://{bucket}/{prefix}-{}", std::process::id()));
    settings.storage_options = options.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    Some(settings)
}

/// The same in the container of an emulator that `MILLRACE_TEST_AZURE` names; object_store finds the emulator by
/// `AZURITE_BLOB_STORAGE_URL`, and knows its account and key.
pub(crate) fn in_azure(prefix: &str) -> Option<LakeSettings> {
    let Ok(container) = std::env::var("MILLRACE_TEST_AZURE") else {
        eprintln!(
            "SKIPPED: MILLRACE_TEST_AZURE names no container (integration-tests/servers/azure.sh starts one)"
        );
        return None;
    };
    let mut settings = LakeSettings::at(format!("az://{container}/{prefix}-{}", std::process::id()));
    settings.storage_options = [("use_emulator".to_owned(), "true".to_owned())].into();
    Some(settings)
}

pub(crate) fn connection() -> ConnectionId {
    "web--lake".parse().unwrap()
}

pub(crate) fn kafka() -> KafkaIdentity {
    KafkaIdentity {
        cluster: "c1".to_owned(),
        topic: "acme.events.main".to_owned(),
        topic_id: "t1".to_owned(),
    }
}

pub(crate) fn name(table: &str) -> TableName {
    TableName { schema: SCHEMA.to_owned(), table: table.to_owned() }
}

pub(crate) fn schema(columns: &[(&str, FieldType)]) -> TableSchema {
    columns.iter().map(|(name, column)| ((*name).to_owned(), *column)).collect()
}

/// Rows of these columns; a cell for each, in their order.
pub(crate) fn rows<const N: usize>(columns: [(&str, FieldType); N], cells: Vec<[Cell; N]>) -> RecordBatch {
    let names = columns.map(|(name, _)| name.to_owned());
    let rows: Vec<Row> =
        cells.into_iter().map(|cells| names.iter().cloned().zip(cells).collect::<Row>()).collect();
    batch_of(&schema(&columns), &rows).unwrap()
}

pub(crate) fn text(text: &str) -> Cell {
    Cell::String(text.to_owned())
}

pub(crate) fn at(moment: &str) -> DateTime<Utc> {
    moment.parse().unwrap()
}

/// A load of offsets `start..end` of partition 0 under epoch 1.
pub(crate) fn load(start: i64, end: i64) -> Load {
    Load {
        connection: connection(),
        epoch: 1,
        ranges: vec![OffsetRange { partition: 0, start, end }],
        tables: Vec::new(),
        seen: Vec::new(),
        counts: Vec::new(),
        swaps: Vec::new(),
        replacements: Vec::new(),
        at: at("2026-11-24T12:00:00Z"),
    }
}

pub(crate) trait With: Sized {
    fn rows(self, table: &str, rows: RecordBatch, write: WriteMode) -> Self;
    fn seen(self, ids: &[u128]) -> Self;
    fn counted(self, items: u64) -> Self;
    fn swap(self, table: &str, generation: u64) -> Self;
    fn epoch(self, epoch: u64) -> Self;
}

impl With for Load {
    fn rows(mut self, table: &str, rows: RecordBatch, write: WriteMode) -> Self {
        self.tables.push(TableLoad { name: name(table), rows: vec![rows], write });
        self
    }

    /// The content of each id is ten times the id.
    fn seen(mut self, ids: &[u128]) -> Self {
        self.seen.extend(ids.iter().map(|id| SeenId { id: *id, content: 10_u64.wrapping_mul(*id as u64) }));
        self
    }

    fn counted(mut self, items: u64) -> Self {
        self.counts.push(Count {
            source: "web".parse().unwrap(),
            hour: at("2026-11-24T12:00:00Z"),
            disposition: Disposition::Loaded,
            conflicts: 0,
            items,
        });
        self
    }

    fn swap(mut self, table: &str, generation: u64) -> Self {
        self.swaps.push(Swap { name: name(table), generation });
        self
    }

    fn epoch(mut self, epoch: u64) -> Self {
        self.epoch = epoch;
        self
    }
}

/// The rows of a query, each as `column=value` without its nulls.
pub(crate) async fn query(lake: &Lake, sql: &str) -> Result<Vec<String>, ConnectorError> {
    let batches: Vec<RecordBatch> = lake.query(sql).await?.batches.try_collect().await?;
    Ok(batches.iter().flat_map(|batch| rows_of(&with_text(batch)).unwrap()).map(|row| line(&row)).collect())
}

/// The batch with its decimals as text.
fn with_text(batch: &RecordBatch) -> RecordBatch {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
        let plain = if field.data_type().is_decimal() {
            cast(column, &DataType::Utf8).unwrap()
        } else {
            column.clone()
        };
        (field.as_ref().clone().with_data_type(plain.data_type().clone()), plain)
    });
    let (fields, columns): (Vec<_>, Vec<_>) = columns.unzip();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options).unwrap()
}

fn line(row: &Row) -> String {
    let value = |cell: &Cell| match cell {
        Cell::Null => "null".to_owned(),
        Cell::Int(value) => value.to_string(),
        Cell::Float(value) => format!("{value:?}"),
        Cell::Boolean(value) => value.to_string(),
        Cell::DateTime(micros) => DateTime::from_timestamp_micros(*micros).unwrap().to_rfc3339(),
        other => text_of(other.clone()),
    };
    let cells: Vec<String> = row.iter().map(|(name, cell)| format!("{name}={}", value(cell))).collect();
    cells.join(" ")
}

/// The code of an error that only a person can mend.
pub(crate) fn pause_code<T>(result: Result<T, ConnectorError>) -> String {
    let error = result.err().expect("it was to be refused");
    assert_eq!(error.kind, ErrorKind::Pause, "{}", error.full());
    error.code
}

/// The code of an error after which the connection is resumed.
pub(crate) fn retry_code<T>(result: Result<T, ConnectorError>) -> String {
    let error = result.err().expect("it was to be refused");
    assert_eq!(error.kind, ErrorKind::Retry { after: None }, "{}", error.full());
    error.code
}
