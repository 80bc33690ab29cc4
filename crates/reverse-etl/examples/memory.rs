//! Measures that a run's memory does not grow with the model.
//!
//! `cargo run -p millrace-reverse-etl --example memory -- 100000 1000000` runs a sync of each size in a
//! process of its own, against the embedded broker in this one, and prints the peak of resident memory
//! (`VmHWM`, so Linux only): of the first run, in which every row is new, and of a plan after it, in which
//! every row is compared with the snapshot.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measuring tool for developers")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::StreamExt;
use millrace_broker::EmbeddedBroker;
use millrace_bus::{Bus, KafkaSettings, ReplicationPolicy};
use millrace_columnar::arrow::array::{Float64Array, Int64Array, RecordBatch, StringArray};
use millrace_columnar::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use millrace_connector::{
    ConnectorError, Dialect, KafkaIdentity, Load, LoadReport, QueryStream, Resume, SchemaChange,
    TableSchemas, Warehouse, dialect,
};
use millrace_event_model::ConnectionId;
use millrace_reverse_etl::{Mode, Options, Service, Sync, Trigger};
use millrace_service::{Health, Schedule, Stop, SystemClock};
use millrace_state::Store;

/// Rows of a batch, as query engines give them.
const BATCH_ROWS: i64 = 8192;

/// A model of so many rows, made as they are asked for.
struct Generated {
    rows: i64,
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("email", DataType::Utf8, false),
        Field::new("total", DataType::Float64, false),
    ]))
}

fn batch(first: i64, end: i64) -> RecordBatch {
    let ids = Int64Array::from_iter_values(first..end);
    let emails = StringArray::from_iter_values((first..end).map(|id| format!("person-{id}@example.com")));
    let totals = Float64Array::from_iter_values((first..end).map(|id| id as f64 * 1.25));
    RecordBatch::try_new(schema(), vec![Arc::new(ids), Arc::new(emails), Arc::new(totals)]).unwrap()
}

fn not_here() -> ConnectorError {
    ConnectorError::pause("not_here", "this warehouse only answers queries")
}

#[async_trait]
impl Warehouse for Generated {
    fn dialect(&self) -> &'static Dialect {
        dialect("lake").unwrap()
    }

    async fn check(&self) -> Result<(), ConnectorError> {
        Ok(())
    }

    async fn describe(&self, _: &str) -> Result<TableSchemas, ConnectorError> {
        Err(not_here())
    }

    async fn apply(&self, _: &str, _: &[SchemaChange]) -> Result<(), ConnectorError> {
        Err(not_here())
    }

    async fn resume(&self, _: &ConnectionId, _: u64, _: &KafkaIdentity) -> Result<Resume, ConnectorError> {
        Err(not_here())
    }

    async fn seen(
        &self,
        _: &ConnectionId,
        _: &[u128],
        _: DateTime<Utc>,
    ) -> Result<Vec<Option<u64>>, ConnectorError> {
        Err(not_here())
    }

    async fn load(&self, _: Load) -> Result<LoadReport, ConnectorError> {
        Err(not_here())
    }

    async fn query(&self, _: &str) -> Result<QueryStream, ConnectorError> {
        let rows = self.rows;
        let firsts = (0..rows).step_by(BATCH_ROWS.unsigned_abs() as usize);
        let batches = firsts.map(move |first| Ok(batch(first, (first + BATCH_ROWS).min(rows))));
        Ok(QueryStream { schema: schema(), batches: futures::stream::iter(batches).boxed() })
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, brokers, folder, rows] = arguments.as_slice()
        && flag == "--run"
    {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(measure(brokers, Path::new(folder), rows.parse().unwrap()));
        return;
    }
    let sizes = if arguments.is_empty() { vec!["100000".into(), "1000000".into()] } else { arguments };
    for rows in &sizes {
        let folder = tempfile::tempdir().unwrap();
        let broker = EmbeddedBroker::start(&folder.path().join("broker"), None).unwrap();
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--run", &broker.bootstrap(), folder.path().to_str().unwrap(), rows])
            .status();
        assert!(status.unwrap().success(), "the measured process failed");
    }
}

async fn measure(brokers: &str, folder: &Path, rows: i64) {
    let bus = Bus::new(KafkaSettings::new(brokers), "memory".parse().unwrap()).unwrap();
    bus.provision(&[], ReplicationPolicy::Single).await.unwrap();
    let sync = Sync {
        id: "all".parse().unwrap(),
        warehouse: Arc::new(Generated { rows }),
        model: "SELECT id, email, total FROM generated".to_owned(),
        key: vec!["id".to_owned()],
        destination: "hook".parse().unwrap(),
        mode: Mode::Mirror,
        map: [("userId", "id"), ("traits.email", "email"), ("traits.total", "total")]
            .map(|(to, from)| (to.to_owned(), from.to_owned()))
            .into(),
        trigger: Trigger::Schedule(Schedule::Manual),
    };
    let mut options = Options::new(vec![sync], folder.join("work"), "memory");
    // Nobody delivers here, so nothing ever settles.
    options.max_unsettled = u64::MAX;
    let store = Store::open(folder.join("state").to_str().unwrap()).unwrap();
    let clock = Arc::new(SystemClock);
    let service = Service::new(options, bus, store, clock, Health::new()).await.unwrap();
    let stop = Stop::new();

    let before = peak_mib();
    let began = Instant::now();
    let run = service.run_once("all", &stop).await.unwrap();
    println!(
        "{rows:>9} rows: run {:>6.1} s, {} changes, peak {} MiB (before it {before})",
        began.elapsed().as_secs_f64(),
        run.upserts,
        peak_mib(),
    );
    let began = Instant::now();
    let plan = service.plan("all", &stop).await.unwrap();
    println!(
        "{rows:>9} rows: plan {:>5.1} s, {} would be sent again, peak {} MiB",
        began.elapsed().as_secs_f64(),
        plan.unknown_resent,
        peak_mib(),
    );
}

/// The most memory this process has had so far.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}
