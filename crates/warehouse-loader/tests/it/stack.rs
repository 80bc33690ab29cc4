//! A broker, a lake and a state store for one test.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use millrace_broker::EmbeddedBroker;
use millrace_bus::{Bus, KafkaSettings, Publisher, PublisherOptions, ReplicationPolicy};
use millrace_columnar::arrow::array::RecordBatch;
use millrace_columnar::{Cell, Row, rows_of};
use millrace_connector::{Context, Warehouse};
use millrace_event_model::topics::{EVENTS, RECORDS, TopicName};
use millrace_event_model::{Event, Lane, Record, Workspace};
use millrace_lake::{Lake, LakeFormat, LakeSettings};
use millrace_privacy::{Consent, IntegrationNames};
use millrace_service::{Health, ManualClock, Schedule, Stop, SystemClock};
use millrace_state::Store;
use millrace_warehouse_loader::rows::Mapping;
use millrace_warehouse_loader::{
    ConnectionOptions, Contract, Error, Kind, LoadLimits, Options, Report, RowMode, Service, Start, Timing,
};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{Offset, TopicPartitionList};
use tempfile::TempDir;

/// Whatever a test waits for is there long before; a broker on a busy machine is slow, not stuck.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct Stack {
    broker: EmbeddedBroker,
    pub(crate) bus: Bus,
    pub(crate) publisher: Publisher,
    pub(crate) state: Store,
    pub(crate) health: Health,
    folder: TempDir,
}

impl Stack {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broker = EmbeddedBroker::start(&folder.path().join("broker"), None).unwrap();
        let workspace: Workspace = "test".parse().unwrap();
        let bus = Bus::new(KafkaSettings::new(broker.bootstrap()), workspace).unwrap();
        bus.provision(&[Lane::main()], ReplicationPolicy::Single).await.unwrap();
        let publisher = bus.publisher(PublisherOptions::default()).unwrap();
        let state = Store::in_memory();
        Self { broker, bus, publisher, state, health: Health::new(), folder }
    }

    pub(crate) async fn stop(self) {
        self.broker.stop().await;
    }

    pub(crate) fn bootstrap(&self) -> String {
        self.broker.bootstrap()
    }

    pub(crate) fn events(&self) -> TopicName<Event> {
        EVENTS.lane(self.bus.workspace(), &Lane::main())
    }

    pub(crate) fn records(&self) -> TopicName<Record> {
        RECORDS.lane(self.bus.workspace(), &Lane::main())
    }

    pub(crate) async fn publish(&self, events: &[Event]) {
        let acked = self.publisher.publish(&self.events(), events).await.unwrap();
        assert_eq!(acked.count(), events.len());
    }

    /// A lake in a folder of its own.
    pub(crate) fn lake(&self, name: &str) -> Arc<Lake> {
        Arc::new(open_lake(&self.folder.path().join(name)))
    }

    /// One of plain files.
    pub(crate) fn plain_lake(&self, name: &str) -> Arc<Lake> {
        let folder = self.folder.path().join(name);
        let settings = LakeSettings::at(folder.display().to_string());
        Arc::new(open(&folder, LakeSettings { format: LakeFormat::Parquet, ..settings }))
    }

    /// A service of one connection under a holder's name.
    pub(crate) fn service(&self, holder: &str, connection: ConnectionOptions) -> Service {
        self.limited(holder, connection, LoadLimits::default())
    }

    pub(crate) fn limited(&self, holder: &str, connection: ConnectionOptions, limits: LoadLimits) -> Service {
        self.process(holder, vec![connection], limits, Duration::from_secs(30))
    }

    /// A service of one connection that goes by this clock.
    pub(crate) fn at_the_time_of(&self, clock: ManualClock, connection: ConnectionOptions) -> Service {
        let options = Options {
            connections: vec![connection],
            holder: "test".to_owned(),
            lease_ttl: Duration::from_secs(30),
            limits: LoadLimits::default(),
        };
        let (bus, state, health) = (self.bus.clone(), self.state.clone(), self.health.clone());
        Service::new(options, bus, state, Arc::new(clock), health)
    }

    /// A service of these connections whose leases live so long.
    pub(crate) fn process(
        &self,
        holder: &str,
        connections: Vec<ConnectionOptions>,
        limits: LoadLimits,
        lease_ttl: Duration,
    ) -> Service {
        let options = Options { connections, holder: holder.to_owned(), lease_ttl, limits };
        let (bus, state, health) = (self.bus.clone(), self.state.clone(), self.health.clone());
        Service::new(options, bus, state, Arc::new(SystemClock), health)
    }

    /// Loads a connection up to now.
    pub(crate) async fn load(&self, connection: ConnectionOptions) -> Result<Report, Error> {
        run_once(self.service("test", connection)).await
    }
}

pub(crate) async fn run_once(service: Service) -> Result<Report, Error> {
    let mut runs = service.run_once(&[], Stop::new()).await?;
    runs.remove(0).outcome
}

fn open_lake(folder: &Path) -> Lake {
    open(folder, LakeSettings::at(folder.display().to_string()))
}

fn open(folder: &Path, settings: LakeSettings) -> Lake {
    Lake::open(&settings, &Context { id: "lake".to_owned(), work_dir: folder.join("work") }).unwrap()
}

/// As retention does: of the partition that has events, only the last stays.
pub(crate) async fn forget_all_but_the_last(stack: &Stack) {
    let topic = stack.events();
    let watermarks = stack.bus.watermarks(topic.as_str()).await.unwrap();
    let mut before = TopicPartitionList::new();
    for (partition, (_, high)) in watermarks.into_iter().filter(|(_, (_, high))| *high > 1) {
        before.add_partition_offset(topic.as_str(), partition, Offset::Offset(high - 1)).unwrap();
    }
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", stack.bootstrap()).create().unwrap();
    admin.delete_records(&before, &AdminOptions::new()).await.unwrap();
}

/// A connection of source `web` to the schema `web`.
pub(crate) fn connection(warehouse: Arc<dyn Warehouse>, kind: Kind) -> ConnectionOptions {
    ConnectionOptions {
        id: "web--lake".parse().unwrap(),
        source: "web".parse().unwrap(),
        lane: Lane::main(),
        kind,
        schema: "web".to_owned(),
        schedule: Schedule::Every(Duration::from_millis(100)),
        timing: Timing::default(),
        start: Start::Earliest,
        names: IntegrationNames::default(),
        consent: Consent::default(),
        when: None,
        mapping: Mapping::new(warehouse.dialect()),
        warehouse,
        mode: RowMode::Append,
        dedup: true,
        contract: Contract::Evolve,
        accept_gap: false,
    }
}

/// The rows of a query as text, each cell after its column's name, nulls left out.
pub(crate) async fn query(warehouse: &dyn Warehouse, sql: &str) -> Vec<String> {
    let stream = warehouse.query(sql).await.unwrap_or_else(|error| panic!("{}", error.full()));
    let batches: Vec<RecordBatch> = stream.batches.try_collect().await.unwrap();
    batches.iter().flat_map(|batch| rows_of(batch).unwrap()).map(|row| line(&row)).collect()
}

fn line(row: &Row) -> String {
    let value = |(name, cell): (&String, &Cell)| match cell {
        Cell::Null => None,
        cell => Some(format!("{name}={}", millrace_columnar::text_of(cell.clone()))),
    };
    row.iter().filter_map(value).collect::<Vec<_>>().join(" ")
}

/// All tables of the schema `web`, without what the time of a load decides, row by row.
pub(crate) async fn contents(warehouse: &dyn Warehouse) -> Vec<String> {
    let mut contents = Vec::new();
    for table in warehouse.describe("web").await.unwrap().into_keys() {
        let mut rows = query(warehouse, &format!("SELECT * FROM web.{table}")).await;
        for row in &mut rows {
            let kept: Vec<&str> = row.split(' ').filter(|cell| !cell.starts_with("uuid_ts=")).collect();
            *row = format!("{table}: {}", kept.join(" "));
        }
        rows.sort();
        contents.extend(rows);
    }
    contents
}

/// What the books say, summed over hours.
pub(crate) async fn books(warehouse: &dyn Warehouse) -> Vec<String> {
    let sql = "SELECT disposition, sum(items) AS items, sum(conflicts) AS conflicts \
               FROM _millrace.counts GROUP BY disposition ORDER BY disposition";
    query(warehouse, sql).await
}

/// Asks again until the answer is right.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    let started = Instant::now();
    while started.elapsed() < DEADLINE {
        if ask().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what} did not happen within {DEADLINE:?}");
}
