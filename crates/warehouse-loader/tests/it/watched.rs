//! How a connection uses its warehouse: what it asks for, and what it does while a load is on its way.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use millrace_connector::{
    ConnectorError, KafkaIdentity, Load, LoadReport, Resume, SchemaChange, TableSchemas, Warehouse,
};
use millrace_event_model::topics::AUDIT;
use millrace_event_model::{ConnectionId, Event};
use millrace_service::{ManualClock, Stop};
use millrace_warehouse_loader::{Contract, Error, Kind, LoadLimits, RowMode, RunState, run_log};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::around::{Around, Wrapped};
use crate::messages::{identify, row, track};
use crate::stack::{DEADLINE, Stack, books, connection, contents, eventually, query, run_once};

/// A real warehouse that writes down what it is asked, and may make loads wait.
struct Watched {
    inner: Arc<dyn Warehouse>,
    calls: Mutex<Vec<&'static str>>,
    /// Each load takes one before it begins, where there are such.
    permits: Option<Semaphore>,
}

impl Watched {
    fn new(inner: Arc<dyn Warehouse>, permits: Option<usize>) -> Arc<Wrapped<Self>> {
        let permits = permits.map(Semaphore::new);
        Arc::new(Wrapped(Self { inner, calls: Mutex::default(), permits }))
    }

    fn note(&self, call: &'static str) {
        self.calls.lock().unwrap().push(call);
    }

    fn count(&self, call: &str) -> usize {
        self.calls.lock().unwrap().iter().filter(|own| **own == call).count()
    }

    fn take(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }
}

#[async_trait]
impl Around for Watched {
    fn inner(&self) -> &dyn Warehouse {
        &*self.inner
    }

    async fn describe(&self, schema: &str) -> Result<TableSchemas, ConnectorError> {
        self.note("describe");
        self.inner.describe(schema).await
    }

    async fn apply(&self, schema: &str, changes: &[SchemaChange]) -> Result<(), ConnectorError> {
        self.note("apply");
        self.inner.apply(schema, changes).await
    }

    async fn resume(
        &self,
        connection: &ConnectionId,
        epoch: u64,
        kafka: &KafkaIdentity,
    ) -> Result<Resume, ConnectorError> {
        self.note("resume");
        self.inner.resume(connection, epoch, kafka).await
    }

    async fn seen(
        &self,
        connection: &ConnectionId,
        ids: &[u128],
        now: DateTime<Utc>,
    ) -> Result<Vec<Option<u64>>, ConnectorError> {
        let seen = self.inner.seen(connection, ids, now).await;
        self.note("seen");
        seen
    }

    async fn load(&self, load: Load) -> Result<LoadReport, ConnectorError> {
        if let Some(permits) = &self.permits {
            permits.acquire().await.unwrap().forget();
        }
        self.note("load");
        self.inner.load(load).await
    }
}

fn of_another_source(id: i64) -> Event {
    let mut event = track(id, "ann", "Elsewhere", json!({}));
    event.source = "app".parse().unwrap();
    event
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_schema_is_read_once_and_nothing_is_sent_for_what_concerns_others() {
    let stack = Stack::start().await;
    let watched = Watched::new(stack.lake("lake"), None);
    let events: Vec<Event> = (0..6).map(|id| track(id, "ann", "Order Placed", json!({"n": 1}))).collect();
    stack.publish(&events).await;
    let limits = LoadLimits { max_records: 2, ..LoadLimits::default() };
    let run =
        async || run_once(stack.limited("test", connection(watched.clone(), Kind::Events), limits)).await;
    run().await.unwrap();
    // Once at the beginning, and once to see what was made of the schema changes.
    assert_eq!((watched.count("describe"), watched.count("apply")), (2, 1));
    assert!(watched.count("load") >= 3);

    watched.take();
    run().await.unwrap();
    assert_eq!(watched.take(), ["resume"], "there was nothing new");

    stack.publish(&(10..20).map(of_another_source).collect::<Vec<_>>()).await;
    run().await.unwrap();
    assert_eq!(watched.take(), ["resume", "load"], "the positions alone move, once for all batches");
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_passed_over_is_committed_in_time_though_nothing_more_comes() {
    let stack = Stack::start().await;
    stack.publish(&[of_another_source(1)]).await;
    let topic = stack.events();
    commits_what_it_passed_over(&stack, Kind::Events, topic.as_str()).await;
    let mut row = row(1, "orders", json!({"id": 1}));
    row.source = "app".parse().unwrap();
    let acked = stack.publisher.publish(&stack.records(), &[row]).await.unwrap();
    assert_eq!(acked.count(), 1);
    let topic = stack.records();
    commits_what_it_passed_over(&stack, Kind::Records, topic.as_str()).await;
    stack.stop().await;
}

async fn commits_what_it_passed_over(stack: &Stack, kind: Kind, topic: &str) {
    let watched = Watched::new(stack.lake(topic), None);
    let (clock, stop) = (ManualClock::new(Utc::now()), Stop::new());
    let service = stack.at_the_time_of(clock.clone(), connection(watched.clone(), kind));
    let running = tokio::spawn(service.run(stop.clone()));
    let passed = async || {
        let watermarks = stack.bus.watermarks(topic).await.unwrap();
        let next = watched.positions(&"web--lake".parse().unwrap()).await.unwrap();
        watermarks.iter().any(|(partition, (_, high))| *high > 0 && next.get(partition) == Some(high))
    };
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!passed().await, "nothing is sent for it yet");
    clock.advance(Duration::from_secs(11 * 60));
    eventually("its offset is committed", passed).await;
    assert_eq!(watched.count("load"), 1);
    stop.trigger();
    tokio::time::timeout(DEADLINE, running).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_waits_for_the_one_before_is_no_run_of_its_own_yet() {
    let stack = Stack::start().await;
    let watched = Watched::new(stack.lake("lake"), Some(0));
    let (clock, stop) = (ManualClock::new(Utc::now()), Stop::new());
    stack.publish(&[track(1, "ann", "Order Placed", json!({}))]).await;
    let service = stack.at_the_time_of(clock.clone(), connection(watched.clone(), Kind::Events));
    let running = tokio::spawn(service.run(stop.clone()));
    eventually("the first is judged", async || watched.count("seen") == 1).await;
    let states = async || -> Vec<RunState> {
        let runs = run_log(&stack.state, "web--lake").since("").await.unwrap();
        runs.into_iter().map(|(_, run)| run.state).collect()
    };
    eventually("the first is on its way", async || states().await == [RunState::Running]).await;
    // A run of a connection on an interval is what it loads within a minute.
    clock.advance(Duration::from_secs(120));
    stack.publish(&[track(2, "ann", "Order Placed", json!({}))]).await;
    eventually("the second is judged", async || watched.count("seen") == 2).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    watched.permits.as_ref().unwrap().add_permits(100);
    eventually("both loads", async || watched.count("load") == 2).await;
    stop.trigger();
    tokio::time::timeout(DEADLINE, running).await.unwrap().unwrap().unwrap();
    assert_eq!(states().await, [RunState::Loaded, RunState::Loaded]);
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_load_is_staged_while_one_is_on_its_way_and_knows_its_messages() {
    let stack = Stack::start().await;
    let watched = Watched::new(stack.lake("lake"), Some(0));
    // Of one person, so that the log keeps their order; each twice.
    let events: Vec<Event> = [1, 2, 1, 2, 3, 3].map(|id| track(id, "ann", "Order Placed", json!({}))).into();
    stack.publish(&events).await;
    let limits = LoadLimits { max_records: 2, ..LoadLimits::default() };
    let stop = Stop::new();
    let service = stack.limited("test", connection(watched.clone(), Kind::Events), limits);
    let running = tokio::spawn(service.run(stop.clone()));
    eventually("the second batch is judged while the first waits", async || watched.count("seen") == 2).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(watched.count("seen"), 2, "no more than one is staged ahead");
    assert_eq!(watched.count("load"), 0);
    watched.permits.as_ref().unwrap().add_permits(100);
    let expected = ["conflicts=0 disposition=duplicate items=3", "conflicts=0 disposition=loaded items=3"];
    eventually("all loads", async || {
        let made = watched.describe("_millrace").await.is_ok_and(|tables| tables.contains_key("counts"));
        made && books(&*watched).await == expected
    })
    .await;
    stop.trigger();
    tokio::time::timeout(DEADLINE, running).await.unwrap().unwrap().unwrap();
    let ids = query(&*watched, "SELECT id FROM web.order_placed ORDER BY id").await;
    assert_eq!(ids.len(), 3, "{ids:?}");
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_dedup_nothing_is_asked_and_a_repeated_event_is_there_twice() {
    let stack = Stack::start().await;
    let watched = Watched::new(stack.lake("lake"), None);
    stack.publish(&[1, 1].map(|id| track(id, "ann", "Order Placed", json!({})))).await;
    let mut options = connection(watched.clone(), Kind::Events);
    options.dedup = false;
    let report = stack.load(options).await.unwrap();
    assert_eq!((report.loaded, report.duplicates), (2, 0));
    assert_eq!(watched.count("seen"), 0);
    assert_eq!(query(&*watched, "SELECT id FROM web.order_placed").await.len(), 2);
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn merge_replaces_the_row_of_an_event_that_comes_again() {
    let stack = Stack::start().await;
    let lake = stack.lake("lake");
    let load = async || {
        let mut options = connection(lake.clone(), Kind::Events);
        (options.mode, options.dedup) = (RowMode::Merge, false);
        stack.load(options).await.unwrap()
    };
    stack.publish(&[track(1, "ann", "Order Placed", json!({"total": 1}))]).await;
    stack.publish(&[track(1, "ann", "Order Placed", json!({"total": 2}))]).await;
    load().await;
    assert_eq!(query(&*lake, "SELECT total FROM web.order_placed").await, ["total=2"]);
    stack
        .publish(&[track(1, "ann", "Order Placed", json!({"total": 3})), identify(2, "ann", json!({}))])
        .await;
    load().await;
    assert_eq!(query(&*lake, "SELECT total FROM web.order_placed").await, ["total=3"]);
    assert_eq!(query(&*lake, "SELECT id FROM web.tracks").await.len(), 1);
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drift_is_written_to_the_audit_topic_and_a_frozen_schema_says_so_too() {
    let stack = Stack::start().await;
    let lake = stack.lake("lake");
    stack.publish(&[track(1, "ann", "Order Placed", json!({"total": 1}))]).await;
    stack.load(connection(lake.clone(), Kind::Events)).await.unwrap();
    let before = contents(&*lake).await;
    stack.publish(&[track(2, "ann", "Order Placed", json!({"coupon": "x"}))]).await;
    let mut frozen = connection(lake.clone(), Kind::Events);
    frozen.contract = Contract::Freeze;
    let error = stack.load(frozen).await.unwrap_err();
    assert!(matches!(error, Error::Plan(_)) && error.to_string().contains("coupon"), "{error}");
    assert_eq!(contents(&*lake).await, before);
    stack.load(connection(lake.clone(), Kind::Events)).await.unwrap();

    let entries = stack.bus.read_all(&AUDIT.of(stack.bus.workspace())).await.unwrap();
    let said: Vec<(String, String)> = entries
        .iter()
        .filter_map(|entry| entry.message.as_ref().ok())
        .map(|entry| (entry.action.clone(), entry.subject.clone()))
        .collect();
    let created: Vec<_> = said.iter().filter(|(action, _)| action == "schema.table_created").collect();
    assert_eq!(created.len(), 2, "{said:?}");
    assert!(created[0].1.starts_with("web--lake web.order_placed: "), "{said:?}");
    let last: Vec<(&str, &str)> =
        said.iter().skip(2).map(|(action, subject)| (action.as_str(), subject.as_str())).collect();
    let expected = [
        ("schema.change_refused", "web--lake web.order_placed: coupon"),
        ("schema.columns_added", "web--lake web.order_placed: coupon string"),
    ];
    assert_eq!(last, expected);
    stack.stop().await;
}
