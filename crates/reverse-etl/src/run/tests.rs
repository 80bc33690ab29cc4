//! Runs against the embedded broker. A crash is a run whose future is dropped between two steps.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::StreamExt;
use millrace_broker::EmbeddedBroker;
use millrace_bus::{KafkaSettings, PublisherOptions, ReplicationPolicy};
use millrace_columnar::{Cell, Row, TableSchema, batch_of, schema_of};
use millrace_connector::{
    ConnectorError, Dialect, KafkaIdentity, Load, LoadReport, QueryStream, Resume, SchemaChange,
    TableSchemas, Warehouse, dialect,
};
use millrace_event_model::{
    Change, ChangeOp, ConnectionId, Disposition, FieldType, Origin, Outcome, PartitionKey,
};
use millrace_service::{Clock as _, ManualClock};
use millrace_state::workspace_key;

use super::*;
use crate::Mode;
use crate::options::tests::sync;

/// A warehouse with one model: people with an id and a name.
#[derive(Default)]
pub(crate) struct Model(Mutex<Vec<(Option<i64>, String)>>);

impl Model {
    pub(crate) fn set(&self, people: &[(i64, &str)]) {
        self.set_with_nulls(people.iter().map(|(id, name)| (Some(*id), *name)));
    }

    fn set_with_nulls<'n>(&self, people: impl IntoIterator<Item = (Option<i64>, &'n str)>) {
        *self.0.lock().unwrap() = people.into_iter().map(|(id, name)| (id, name.to_owned())).collect();
    }
}

fn not_here() -> ConnectorError {
    ConnectorError::pause("not_here", "this warehouse only answers queries")
}

#[async_trait]
impl Warehouse for Model {
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
        let columns =
            TableSchema::from([("id".to_owned(), FieldType::Int), ("name".to_owned(), FieldType::String)]);
        let row = |(id, name): &(Option<i64>, String)| {
            let mut row = Row::from([("name".to_owned(), Cell::String(name.clone()))]);
            row.extend(id.map(|id| ("id".to_owned(), Cell::Int(id))));
            row
        };
        let rows: Vec<Row> = self.0.lock().unwrap().iter().map(row).collect();
        let batches: Vec<_> = rows.chunks(100).map(|rows| Ok(batch_of(&columns, rows).unwrap())).collect();
        Ok(QueryStream { schema: schema_of(&columns), batches: futures::stream::iter(batches).boxed() })
    }
}

/// A runner with a broker, a destination that it can be told to be, and the model.
pub(crate) struct Stand {
    broker: EmbeddedBroker,
    pub(crate) runner: Runner,
    pub(crate) clock: ManualClock,
    pub(crate) model: Arc<Model>,
    pub(crate) sync: Sync,
    pub(crate) stop: Stop,
    destination: BTreeMap<PartitionKey, String>,
    /// Changes that the destination has looked at.
    read: usize,
    _folder: tempfile::TempDir,
}

impl Stand {
    pub(crate) async fn new(mode: Mode) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broker_folder = folder.path().join("broker");
        let broker = tokio::task::spawn_blocking(move || EmbeddedBroker::start(&broker_folder, None))
            .await
            .unwrap()
            .unwrap();
        let bus = Bus::new(KafkaSettings::new(broker.bootstrap()), "acme".parse().unwrap()).unwrap();
        bus.provision(&[], ReplicationPolicy::Single).await.unwrap();
        let store = Store::open(folder.path().join("state").to_str().unwrap()).unwrap();
        let clock = ManualClock::new("2026-11-24T10:00:00Z".parse().unwrap());
        let model = Arc::new(Model::default());
        let sync = Sync { mode, warehouse: Arc::clone(&model) as Arc<dyn Warehouse>, ..sync() };
        let options = Options::new(vec![sync.clone()], folder.path().join("work"), "test");
        let runner = Runner {
            options,
            publisher: bus.publisher(PublisherOptions::default()).unwrap(),
            bus,
            hasher: KeyHasher::new(&workspace_key(&store).await.unwrap()),
            store,
            clock: Arc::new(clock.clone()),
        };
        let (stop, destination) = (Stop::new(), BTreeMap::new());
        Self { broker, runner, clock, model, sync, stop, destination, read: 0, _folder: folder }
    }

    async fn run(&self) -> RunReport {
        self.runner.run(&self.sync, &self.stop).await.unwrap()
    }

    /// The changes since the last time.
    pub(crate) async fn changes(&mut self) -> Vec<Change> {
        let topic = topics::CHANGES.of(self.runner.bus.workspace());
        let all = self.runner.bus.read_all(&topic).await.unwrap();
        let mut changes: Vec<Change> = all.into_iter().map(|record| record.message.unwrap()).collect();
        changes.sort_by_key(|change| change.run);
        let new = changes.split_off(self.read);
        self.read += new.len();
        new
    }

    /// Takes the changes since the last time, and says of each what `fate` says, if it says anything.
    async fn deliver(&mut self, fate: impl Fn(&Change) -> Option<Disposition>) {
        let mut outcomes = Vec::new();
        for change in self.changes().await {
            let disposition = fate(&change);
            if disposition == Some(Disposition::Delivered) {
                match change.op {
                    ChangeOp::Upsert => {
                        let body = String::from_utf8(change.body.to_vec()).unwrap();
                        self.destination.insert(change.key, body);
                    }
                    ChangeOp::Delete => drop(self.destination.remove(&change.key)),
                }
            }
            let Some(disposition) = disposition else { continue };
            let origin = Origin::Change {
                sync: change.sync,
                run: change.run,
                key: change.key,
                row_hash: change.row_hash,
            };
            let (destination, at) = (change.destination, self.clock.now());
            outcomes.push(Outcome { destination, origin, disposition, reason: None, attempts: 1, at });
        }
        let topic = topics::OUTCOMES.of(self.runner.bus.workspace());
        let _ = self.runner.publisher.publish(&topic, &outcomes).await.unwrap();
    }

    pub(crate) async fn deliver_all(&mut self) {
        self.deliver(|_| Some(Disposition::Delivered)).await;
    }

    fn destination(&self) -> Vec<String> {
        let mut bodies: Vec<String> = self.destination.values().cloned().collect();
        bodies.sort_unstable();
        bodies
    }

    /// A run that dies after it is prepared, or later.
    async fn die(&self, at: Crash) {
        let state = self.runner.state_of(&self.sync);
        let snapshots = Snapshots::new(&state);
        let latest = snapshots.latest().await.unwrap();
        let folder = self.runner.options.work_dir.join("dying");
        make_empty(&folder).await.unwrap();
        let purpose = Purpose::Run { epoch: 1000 };
        let prepared =
            self.runner.prepare(&self.sync, latest.as_ref(), &folder, purpose, &self.stop).await.unwrap();
        if at == Crash::BeforeIntent {
            return;
        }
        self.runner.intend(&snapshots, &prepared).await.unwrap();
        if at == Crash::BeforePublished {
            self.runner.publish(&self.sync, &prepared, &self.stop).await.unwrap();
        }
    }

    pub(crate) async fn end(self) {
        drop(self.runner);
        self.broker.stop().await;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Crash {
    BeforeIntent,
    AfterIntent,
    BeforePublished,
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_changed_is_published() {
    let mut stand = Stand::new(Mode::Upsert).await;
    stand.model.set(&[(1, "ann"), (2, "bob"), (3, "cyn")]);
    let first = stand.run().await;
    assert_eq!(first, RunReport { run: 1, rows: 3, upserts: 3, ..RunReport::default() });
    stand.deliver_all().await;
    assert_eq!(
        stand.destination(),
        [r#"{"id":1,"name":"ann"}"#, r#"{"id":2,"name":"bob"}"#, r#"{"id":3,"name":"cyn"}"#]
    );

    let plan = stand.runner.plan(&stand.sync, &stand.stop).await.unwrap();
    let second = stand.run().await;
    assert_eq!(second, RunReport { rows: 3, unchanged: 3, run: second.run, ..RunReport::default() });
    assert_eq!(plan, second, "a plan says what the run does");
    assert_eq!(stand.changes().await, []);

    stand.model.set(&[(1, "ann"), (2, "bert"), (4, "dan")]);
    let third = stand.run().await;
    assert_eq!((third.upserts, third.deletes, third.unchanged), (2, 0, 1), "{third:?}");
    assert!(third.run > second.run && second.run > first.run);
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_deletes_what_is_gone_by_its_key() {
    let mut stand = Stand::new(Mode::Mirror).await;
    stand.model.set(&[(1, "ann"), (2, "bob")]);
    stand.run().await;
    stand.deliver_all().await;
    stand.model.set(&[(1, "ann")]);
    let report = stand.run().await;
    assert_eq!((report.upserts, report.deletes, report.unchanged), (0, 1, 1));
    let [delete] = stand.changes().await.try_into().unwrap();
    assert_eq!((delete.op, delete.body.as_ref()), (ChangeOp::Delete, br#"{"id":2}"#.as_slice()));
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_change_comes_back_through_the_next_diff() {
    let mut stand = Stand::new(Mode::Upsert).await;
    stand.model.set(&[(1, "ann"), (2, "bob")]);
    stand.run().await;
    stand
        .deliver(|change| {
            Some(if change.body.ends_with(b"\"bob\"}") {
                Disposition::Rejected
            } else {
                Disposition::Delivered
            })
        })
        .await;
    let report = stand.run().await;
    assert_eq!((report.upserts, report.unchanged, report.unknown_resent), (1, 1, 0));
    stand.deliver_all().await;
    assert_eq!(stand.run().await.upserts, 0);
    assert_eq!(stand.destination().len(), 2);
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_waits_for_the_outcomes_of_the_one_before() {
    let mut stand = Stand::new(Mode::Upsert).await;
    stand.model.set(&[(1, "ann"), (2, "bob")]);
    stand.run().await;
    // Only one of two has ended, so this run does not end.
    stand.deliver(|change| change.body.ends_with(b"\"ann\"}").then_some(Disposition::Delivered)).await;
    let waiting = tokio::time::timeout(Duration::from_secs(2), stand.runner.run(&stand.sync, &stand.stop));
    assert!(waiting.await.is_err());
    // What it would do, it can tell all the same.
    let plan = stand.runner.plan(&stand.sync, &stand.stop).await.unwrap();
    assert_eq!((plan.upserts, plan.unchanged, plan.unknown_resent), (1, 1, 1));
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_outcome_in_time_is_sent_again() {
    let mut stand = Stand::new(Mode::Mirror).await;
    stand.model.set(&[(1, "ann"), (2, "bob"), (3, "cyn")]);
    stand.run().await;
    stand.deliver(|change| change.body.ends_with(b"\"ann\"}").then_some(Disposition::Delivered)).await;
    stand.clock.advance(stand.runner.options.settle_timeout);
    stand.model.set(&[(1, "ann"), (2, "bob")]);
    let report = stand.run().await;
    assert_eq!((report.upserts, report.deletes, report.unchanged), (1, 1, 1), "cyn is gone, so deleted");
    assert_eq!(report.unknown_resent, 2);
    stand.deliver_all().await;
    assert_eq!(stand.destination().len(), 2);
    assert_eq!(stand.run().await.unchanged, 2);
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_the_intent_changes_nothing() {
    let mut stand = Stand::new(Mode::Upsert).await;
    stand.model.set(&[(1, "ann")]);
    stand.die(Crash::BeforeIntent).await;
    let report = stand.run().await;
    assert_eq!((report.run, report.upserts, report.unknown_resent), (1, 1, 0));
    stand.deliver_all().await;
    assert_eq!(stand.destination().len(), 1);
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_after_the_intent_sends_everything_in_the_next_run() {
    let mut stand = Stand::new(Mode::Upsert).await;
    stand.model.set(&[(1, "ann"), (2, "bob")]);
    stand.die(Crash::AfterIntent).await;
    assert_eq!(stand.changes().await, []);
    let report = stand.run().await;
    assert_eq!((report.upserts, report.unknown_resent), (2, 2), "at once, without waiting");
    stand.deliver_all().await;
    assert_eq!(stand.run().await.unchanged, 2);
    assert_eq!(stand.destination().len(), 2);
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_publishing_repeats_and_loses_nothing() {
    let mut stand = Stand::new(Mode::Mirror).await;
    stand.model.set(&[(1, "ann"), (2, "bob")]);
    stand.die(Crash::BeforePublished).await;
    stand.model.set(&[(2, "bob")]);
    let report = stand.run().await;
    assert_eq!((report.upserts, report.deletes, report.unknown_resent), (1, 1, 2));
    let changes = stand.changes().await;
    assert_eq!(changes.len(), 4, "two of the run that died, two of this one");
    assert!(changes[2].run > changes[0].run, "the repeated ones are newer");
    stand.read = 0;
    stand.deliver_all().await;
    assert_eq!(stand.destination(), [r#"{"id":2,"name":"bob"}"#]);
    assert_eq!(stand.run().await.unchanged, 1);
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_without_a_key_of_their_own_are_dead_letters() {
    let mut stand = Stand::new(Mode::Upsert).await;
    stand.model.set_with_nulls([(Some(1), "ann"), (None, "nil"), (Some(2), "bob"), (Some(2), "bert")]);
    let report = stand.run().await;
    assert_eq!((report.rows, report.upserts, report.rejected), (4, 1, 3));
    let topic = topics::DEAD_LETTERS.of(stand.runner.bus.workspace());
    let letters = stand.runner.bus.read_all(&topic).await.unwrap();
    let mut codes: Vec<_> = letters
        .into_iter()
        .map(|letter| letter.message.unwrap())
        .map(|letter| (letter.offset, letter.reason.code, letter.subject))
        .collect();
    codes.sort_unstable();
    let expected = |row, code: &str| (row, code.to_owned(), "people".to_owned());
    assert_eq!(codes, [expected(1, "null_key"), expected(2, "duplicate_key"), expected(3, "duplicate_key")]);
    assert_eq!(stand.changes().await.len(), 1);
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn publishing_waits_when_too_much_is_unsettled() {
    let mut stand = Stand::new(Mode::Upsert).await;
    stand.runner.options.max_unsettled = 1000;
    let names: Vec<String> = (0..2500).map(|number| format!("n{number}")).collect();
    let people: Vec<(i64, &str)> = (0..).zip(names.iter().map(String::as_str)).collect();
    stand.model.set(&people);
    let stand_runner = &stand.runner;
    let publishing = tokio::time::timeout(Duration::from_secs(3), stand_runner.run(&stand.sync, &stand.stop));
    assert!(publishing.await.is_err(), "no outcomes come, so it waits");
    assert_eq!(stand.changes().await.len(), 1000);
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_without_a_needed_column_is_refused() {
    let stand = Stand::new(Mode::Upsert).await;
    let sync = Sync { key: vec!["uuid".to_owned()], ..stand.sync.clone() };
    let error = stand.runner.run(&sync, &stand.stop).await.unwrap_err();
    assert_eq!(error.to_string(), "the model has no column \"uuid\"; it has id, name");
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_is_run_by_one_process_at_a_time() {
    let stand = Stand::new(Mode::Upsert).await;
    let state = stand.runner.state_of(&stand.sync);
    let now = stand.clock.now();
    let other = millrace_state::Lease::try_acquire(&state, "lease", "other", Duration::from_secs(30), now);
    let millrace_state::LeaseAttempt::Acquired(lease) = other.await.unwrap() else { panic!("it was free") };
    let error = stand.runner.run(&stand.sync, &stand.stop).await.unwrap_err();
    assert!(matches!(error, Error::Held { holder, .. } if holder == "other"));
    lease.release(now).await.unwrap();
    stand.run().await;
    stand.end().await;
}
