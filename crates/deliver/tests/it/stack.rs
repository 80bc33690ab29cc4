//! A broker, topics, and stages that can be started, stopped and killed.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::Utc;
use millrace_broker::EmbeddedBroker;
use millrace_bus::{Bus, KafkaSettings, Publisher, PublisherOptions, ReplicationPolicy, Start};
use millrace_connector::Destination;
use millrace_deliver::{
    Bounds, DeliverError, DestinationOptions, EventConnection, Options, RetryPolicy, Service,
};
use millrace_event_model::topics::{CHANGES, CONTROL, DEAD_LETTERS, EVENTS, OUTCOMES, PROGRESS, TopicName};
use millrace_event_model::wire::Message;
use millrace_event_model::{
    Change, ChangeOp, Control, DeadLetter, Disposition, Event, KeyHasher, Lane, MessageId, Origin, Outcome,
    PartitionKey, Progress, Workspace, testing,
};
use millrace_service::{Health, Stop, SystemClock};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// Whatever a test waits for is there long before; a busy machine is slow, not stuck.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);

pub(crate) struct Stack {
    pub(crate) bus: Bus,
    publisher: Publisher,
    hasher: KeyHasher,
    _broker: Option<EmbeddedBroker>,
    _dir: TempDir,
}

/// A running stage.
pub(crate) struct Stage {
    stop: Stop,
    pub(crate) health: Health,
    task: JoinHandle<Result<(), DeliverError>>,
}

impl Stack {
    /// How long a stop waits for what is in flight.
    pub(crate) const DRAIN: Duration = Duration::from_secs(10);

    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let given = std::env::var("KAFKA_BROKERS").ok();
        let broker = given.is_none().then(|| EmbeddedBroker::start(dir.path(), None).unwrap());
        let brokers = given.unwrap_or_else(|| broker.as_ref().unwrap().bootstrap());
        let unique = dir.path().file_name().unwrap().to_string_lossy().to_lowercase();
        let workspace: Workspace = format!("t{}", unique.trim_start_matches('.')).parse().unwrap();
        let bus = Bus::new(KafkaSettings::new(brokers), workspace).unwrap().with_patience(DEADLINE);
        bus.provision(&[Lane::main()], ReplicationPolicy::Single).await.unwrap();
        let publisher = bus.publisher(PublisherOptions::default()).unwrap();
        Self { bus, publisher, hasher: KeyHasher::new(&[1; 32]), _broker: broker, _dir: dir }
    }

    /// An event of `web` for a person; its body is `name`.
    pub(crate) fn event(&self, person: &str, name: &str) -> Event {
        Event {
            message_id: MessageId(name.to_owned()),
            received_at: Utc::now(),
            key: self.hasher.person(person, ""),
            ..testing::event(name)
        }
    }

    pub(crate) async fn publish(&self, events: &[Event]) {
        let _acked = self.publisher.publish(&self.lane(), events).await.unwrap();
    }

    /// Partition and offset of each event of the lane: of one person in the order of publishing.
    pub(crate) async fn places(&self) -> Vec<(i32, i64)> {
        let events = self.bus.read_all(&self.lane()).await.unwrap();
        events.iter().map(|received| (received.partition, received.offset)).collect()
    }

    /// `persons` persons with `each` events each, `p<person>-<number>`, in turns.
    pub(crate) async fn publish_many(&self, persons: usize, each: usize) -> Vec<String> {
        let mut names = Vec::new();
        let mut events = Vec::new();
        for number in 0..each {
            for person in 0..persons {
                let name = format!("p{person}-{number}");
                events.push(self.event(&format!("p{person}"), &name));
                names.push(name);
            }
        }
        self.publish(&events).await;
        names
    }

    pub(crate) fn row(&self, row: &str) -> PartitionKey {
        self.hasher.row("spenders", row.as_bytes())
    }

    pub(crate) async fn publish_change(&self, row: &str, run: u64, body: &str) {
        let change = Change {
            sync: "spenders".parse().unwrap(),
            run,
            destination: "hook".parse().unwrap(),
            op: ChangeOp::Upsert,
            key: self.row(row),
            row_hash: PartitionKey([run as u8; 16]),
            published_at: Utc::now(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        };
        self.say(&CHANGES.of(self.bus.workspace()), &change).await;
    }

    /// As an operator.
    pub(crate) async fn order(&self, control: Control) {
        self.say(&CONTROL.of(self.bus.workspace()), &control).await;
    }

    pub(crate) async fn say<M: Message>(&self, topic: &TopicName<M>, message: &M) {
        let _acked = self.publisher.publish(topic, [message]).await.unwrap();
    }

    /// The topic of the events.
    pub(crate) fn lane(&self) -> TopicName<Event> {
        EVENTS.lane(self.bus.workspace(), &Lane::main())
    }

    pub(crate) async fn outcomes(&self) -> Vec<Outcome> {
        let read = self.bus.read_all(&OUTCOMES.of(self.bus.workspace())).await.unwrap();
        read.into_iter().map(|record| record.message.unwrap()).collect()
    }

    pub(crate) async fn dead_letters(&self) -> Vec<DeadLetter> {
        let read = self.bus.read_all(&DEAD_LETTERS.of(self.bus.workspace())).await.unwrap();
        read.into_iter().map(|record| record.message.unwrap()).collect()
    }

    /// The last progress of each partition of the lane.
    pub(crate) async fn progress(&self) -> BTreeMap<i32, Progress> {
        let read = self.bus.read_all(&PROGRESS.of(self.bus.workspace())).await.unwrap();
        let records = read.into_iter().map(|record| record.message.unwrap());
        let lane = self.lane();
        records.filter(|p| p.topic == lane.as_str()).map(|p| (p.partition, p)).collect()
    }

    /// For each offset of the lane that has an outcome, how it ended: runs united, as whoever counts does.
    pub(crate) async fn books(&self) -> BTreeMap<(i32, i64), Disposition> {
        let mut books = BTreeMap::new();
        for outcome in self.outcomes().await {
            match outcome.origin {
                Origin::Events { partition, first, last, .. } => {
                    books.extend((first..=last).map(|offset| ((partition, offset), outcome.disposition)));
                }
                Origin::Event { partition, offset, .. } => {
                    books.insert((partition, offset), outcome.disposition);
                }
                Origin::Change { .. } => {}
            }
        }
        books
    }

    /// A stage with one destination, `hook`, to which the source `web` and the sync `spenders` lead.
    pub(crate) fn stage(&self, destination: Arc<dyn Destination>) -> Stage {
        self.stage_with(destination, |_| {})
    }

    pub(crate) fn stage_with(
        &self,
        destination: Arc<dyn Destination>,
        change: impl FnOnce(&mut DestinationOptions),
    ) -> Stage {
        let mut hook = Self::connected("hook", destination);
        hook.takes_changes = true;
        change(&mut hook);
        self.run(vec![hook])
    }

    /// A destination to which the source `web` leads.
    pub(crate) fn connected(id: &str, destination: Arc<dyn Destination>) -> DestinationOptions {
        let mut hook = DestinationOptions::new(id.parse().unwrap(), destination);
        hook.connections = vec![EventConnection {
            source: "web".parse().unwrap(),
            lane: Lane::main(),
            filter: None,
            start: Start::Earliest,
        }];
        hook.retry = quick();
        hook
    }

    /// A stage with these destinations.
    pub(crate) fn run(&self, destinations: Vec<DestinationOptions>) -> Stage {
        let mut options = Options::new(destinations);
        options.store_every = Duration::from_millis(100);
        options.drain = Self::DRAIN;
        let (stop, health) = (Stop::new(), Health::default());
        let service = Service::new(options, self.bus.clone(), Arc::new(SystemClock), health.clone());
        let task = tokio::spawn(service.run(stop.clone()));
        Stage { stop, health, task }
    }
}

/// Tries again within moments, and gives up soon.
pub(crate) fn quick() -> RetryPolicy {
    RetryPolicy {
        min_delay: Duration::from_millis(50),
        max_delay: Duration::from_secs(30),
        factor: 1.5,
        min_attempts: 4,
        give_up_after: Duration::ZERO,
    }
}

/// Never gives up within a test.
pub(crate) fn patient() -> RetryPolicy {
    RetryPolicy { min_attempts: 1_000, ..quick() }
}

/// So small that tests reach it.
pub(crate) fn small() -> Bounds {
    Bounds { active: 20, parked: 10, bytes: 1024 * 1024 }
}

impl Stage {
    /// As with SIGTERM.
    pub(crate) async fn stop(self) {
        self.stop.trigger();
        self.task.await.unwrap().unwrap();
    }

    /// As with SIGKILL: nothing is drained, stored or said.
    pub(crate) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }

    /// Why the destination is not ready, if it is not.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble_of("hook")
    }

    pub(crate) fn trouble_of(&self, destination: &str) -> Option<String> {
        let components = self.health.readiness().components;
        components.get(&format!("deliver/{destination}")).and_then(|component| component.reason.clone())
    }
}

/// Waits for a condition.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
