//! Brokers for one test, and a workspace of its own on each.

use std::future::Future;
use std::time::{Duration, Instant};

use millrace_broker::EmbeddedBroker;
use millrace_bus::{Bus, KafkaSettings, ReplicationPolicy};
use millrace_event_model::topics::{EVENTS, TopicName};
use millrace_event_model::{Event, Lane, Workspace};
use tempfile::TempDir;

/// Whatever a test waits for is there long before; a broker on a busy machine is slow, not stuck.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct Cluster {
    broker: Option<EmbeddedBroker>,
    brokers: String,
    dir: TempDir,
}

impl Cluster {
    /// One of each kind: the suite runs on all of them.
    pub(crate) fn each() -> Vec<Self> {
        let mut clusters = vec![Self::embedded()];
        match std::env::var("KAFKA_BROKERS") {
            Ok(brokers) => {
                clusters.push(Self { broker: None, brokers, dir: tempfile::tempdir().unwrap() });
            }
            Err(_) => {
                eprintln!("SKIPPED on Apache Kafka: KAFKA_BROKERS is not set (servers/kafka.sh provides one)")
            }
        }
        clusters
    }

    /// A broker that the test may stop and start.
    pub(crate) fn embedded() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let broker = EmbeddedBroker::start(dir.path(), None).unwrap();
        Self { brokers: broker.bootstrap(), broker: Some(broker), dir }
    }

    pub(crate) fn brokers(&self) -> &str {
        &self.brokers
    }

    /// A bus whose workspace nobody else has; no topics yet.
    pub(crate) fn bare_bus(&self) -> Bus {
        eprintln!(
            "on {} at {}",
            if self.broker.is_some() { "the embedded broker" } else { "Kafka" },
            self.brokers
        );
        let unique = self.dir.path().file_name().unwrap().to_string_lossy().to_lowercase();
        let workspace: Workspace = format!("t{}", unique.trim_start_matches('.')).parse().unwrap();
        Bus::new(KafkaSettings::new(self.brokers.clone()), workspace).unwrap().with_patience(DEADLINE)
    }

    /// A bus with all topics for the main lane.
    pub(crate) async fn bus(&self) -> Bus {
        let bus = self.bare_bus();
        bus.provision(&[Lane::main()], ReplicationPolicy::Single).await.unwrap();
        bus
    }

    pub(crate) async fn stop(&mut self) {
        self.broker.take().expect("the broker is running").stop().await;
    }

    pub(crate) fn start_again(&mut self) {
        let port = self.brokers.rsplit_once(':').unwrap().1.parse().unwrap();
        self.broker = Some(EmbeddedBroker::start(self.dir.path(), Some(port)).unwrap());
    }
}

pub(crate) fn events(bus: &Bus) -> TopicName<Event> {
    EVENTS.lane(bus.workspace(), &Lane::main())
}

/// Asks again until there is an answer.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let started = Instant::now();
    while started.elapsed() < DEADLINE {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{what} did not happen within {DEADLINE:?}");
}
