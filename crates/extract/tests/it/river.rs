//! The fixture: a broker, a source that plays a script, and the stage between them.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::Utc;
use millrace_broker::EmbeddedBroker;
use millrace_bus::{Bus, KafkaSettings, ReplicationPolicy};
use millrace_connector::{ConnectorError, ReadRequest, Source, SourceMessage};
use millrace_event_model::topics::RECORDS;
use millrace_event_model::{KeyHasher, Lane, LoadMode, Record, RecordBody, StreamSpec};
use millrace_extract::{Error, Options, RunReport, Service, SourceOptions};
use millrace_privacy::{HashKey, Policy, Scanner};
use millrace_service::{Health, Schedule, Stop, SystemClock};
use millrace_state::Store;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;

/// What the scripted source does next.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Row(Value),
    State(Value),
    /// Waits here, for whatever the test does meanwhile.
    Meet(Arc<tokio::sync::Barrier>),
    Die,
}

/// A source of one stream, `orders`, that plays a script once per read and remembers the states it was given.
pub(crate) struct Scripted {
    pub(crate) script: Mutex<Vec<Step>>,
    pub(crate) given: Mutex<Vec<Option<Value>>>,
    pub(crate) mode: LoadMode,
}

impl Scripted {
    pub(crate) fn new(mode: LoadMode) -> Arc<Self> {
        Arc::new(Self { script: Mutex::default(), given: Mutex::default(), mode })
    }

    pub(crate) fn play(&self, steps: Vec<Step>) {
        *self.script.lock().unwrap() = steps;
    }
}

#[async_trait]
impl Source for Scripted {
    async fn check(&self) -> Result<(), ConnectorError> {
        Ok(())
    }

    async fn streams(&self) -> Result<Vec<StreamSpec>, ConnectorError> {
        Ok(vec![StreamSpec {
            name: "orders".to_owned(),
            namespace: None,
            json_schema: json!({"type": "object"}),
            primary_key: vec![vec!["id".to_owned()]],
            mode: self.mode,
            generation: 0,
        }])
    }

    async fn read(
        &self,
        request: ReadRequest,
        out: mpsc::Sender<SourceMessage>,
    ) -> Result<(), ConnectorError> {
        self.given.lock().unwrap().push(request.state);
        let steps = self.script.lock().unwrap().clone();
        for step in steps {
            let message = match step {
                Step::Row(row) => SourceMessage::Record {
                    stream: "orders".to_owned(),
                    namespace: None,
                    json: Bytes::from(row.to_string()),
                    emitted_at: Utc::now(),
                },
                Step::State(state) => SourceMessage::State(state),
                Step::Meet(meeting) => {
                    meeting.wait().await;
                    continue;
                }
                Step::Die => return Err(ConnectorError::retry("died", "the source died")),
            };
            if out.send(message).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}

pub(crate) struct River {
    pub(crate) bus: Bus,
    pub(crate) source: Arc<Scripted>,
    store: Store,
    broker: EmbeddedBroker,
    _folder: TempDir,
}

impl River {
    pub(crate) async fn start(mode: LoadMode) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broker = EmbeddedBroker::start(&folder.path().join("broker"), None).unwrap();
        let settings = KafkaSettings { brokers: broker.bootstrap(), properties: Default::default() };
        let bus = Bus::new(settings, "acme".parse().unwrap()).unwrap();
        bus.provision(&[Lane::main()], ReplicationPolicy::Single).await.unwrap();
        let store = Store::open(&path(folder.path(), "state")).unwrap();
        Self { bus, source: Scripted::new(mode), store, broker, _folder: folder }
    }

    /// One attempt in a process of its own name: as after a crash, nothing is remembered but state and Kafka.
    pub(crate) async fn attempt(&self, steps: Vec<Step>) -> Result<RunReport, Error> {
        self.source.play(steps);
        let source = SourceOptions {
            id: "crm".parse().unwrap(),
            lane: Lane::main(),
            source: Arc::clone(&self.source) as Arc<dyn Source>,
            schedule: Schedule::Manual,
            privacy: Some(Arc::new(Scanner::new(Policy::mask_all(), HashKey::derive(&[4; 32])))),
        };
        let options = Options {
            sources: vec![source],
            holder: "test".to_owned(),
            lease_ttl: Duration::from_secs(30),
            keys: KeyHasher::new(&[3; 32]),
        };
        let clock = Arc::new(SystemClock);
        let service =
            Service::new(options, self.bus.clone(), self.store.clone(), clock, Health::new()).unwrap();
        Ok(service.run_once(Some("crm"), &Stop::new()).await?.remove(0))
    }

    /// All records of the topic, by partition, in order.
    pub(crate) async fn records(&self) -> Vec<(i32, Record)> {
        let topic = RECORDS.lane(self.bus.workspace(), &Lane::main());
        let all = self.bus.read_all(&topic).await.unwrap();
        all.into_iter().map(|received| (received.partition, received.message.unwrap())).collect()
    }

    /// Ids of the rows that a loader may apply, by the rule of the event model: those that a barrier of the
    /// same attempt follows on their partition before a newer attempt does.
    pub(crate) async fn real_rows(&self) -> Vec<u64> {
        let mut real = Vec::new();
        let records = self.records().await;
        for partition in 0..RECORDS.spec.partitions {
            let mut waiting: Vec<(u64, u64)> = Vec::new();
            for (_, record) in records.iter().filter(|(p, _)| *p == partition) {
                waiting.retain(|(attempt, _)| *attempt == record.attempt.0);
                match &record.body {
                    RecordBody::Row { json, .. } => {
                        let row: Value = serde_json::from_slice(json).unwrap();
                        waiting.push((record.attempt.0, row["id"].as_u64().unwrap()));
                    }
                    RecordBody::Barrier(_) => real.extend(waiting.drain(..).map(|(_, id)| id)),
                    RecordBody::Begin => {}
                }
            }
        }
        real.sort_unstable();
        real
    }

    pub(crate) async fn stop(self) {
        self.broker.stop().await;
    }
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

pub(crate) fn rows(ids: std::ops::RangeInclusive<u64>) -> Vec<Step> {
    ids.map(|id| Step::Row(json!({"id": id, "email": format!("p{id}@mail.example")}))).collect()
}
