//! A running stage with its broker, and a client.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use millrace_broker::EmbeddedBroker;
use millrace_bus::{Bus, KafkaSettings, PublisherOptions, Received, ReplicationPolicy};
use millrace_event_model::topics::{CONTROL, EVENTS};
use millrace_event_model::{Control, Event, KeyHasher, Lane};
use millrace_ingest::{IngestError, Limits, Options, Service, SourceOptions};
use millrace_privacy::{HashKey, Policy, Scanner};
use millrace_service::{Health, Secret, Stop, SystemClock};
use reqwest::{RequestBuilder, StatusCode};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What a condition may take on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Basic authentication of write key `WK`, of source `web`, which keeps everything.
pub(crate) const WEB: &str = "Basic V0s6";
/// Of write key `STRICT`, of source `strict`, which masks everything.
pub(crate) const STRICT: &str = "Basic U1RSSUNUOg==";

pub(crate) struct Stack {
    pub(crate) url: String,
    pub(crate) health: Health,
    pub(crate) http: reqwest::Client,
    bus: Bus,
    broker: Option<EmbeddedBroker>,
    data: TempDir,
    stop: Stop,
    service: JoinHandle<Result<(), IngestError>>,
}

impl Stack {
    pub(crate) async fn start() -> Self {
        Self::start_with(Limits::default()).await
    }

    pub(crate) async fn start_with(limits: Limits) -> Self {
        Self::start_as(|options| options.limits = limits).await
    }

    /// With options that differ.
    pub(crate) async fn start_as(change: impl FnOnce(&mut Options)) -> Self {
        Self::start_after(&[], change).await
    }

    /// After the operators have said something.
    pub(crate) async fn start_after(words: &[Control], change: impl FnOnce(&mut Options)) -> Self {
        millrace_service::install_tls();
        let data = tempfile::tempdir().unwrap();
        let broker = start_broker(data.path().to_owned(), None).await;
        let bus = Bus::new(KafkaSettings::new(broker.bootstrap()), "acme".parse().unwrap()).unwrap();
        bus.provision(&[Lane::main()], ReplicationPolicy::Single).await.unwrap();
        say(&bus, words).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        // The tests are a proxy, behind another one in 10.0.0.0/8.
        let trusted_proxies = ["127.0.0.0/8", "10.0.0.0/8"].map(|network| network.parse().unwrap()).into();
        let mut options =
            Options { version: "test".to_owned(), trusted_proxies, ..Options::new(listener, sources()) };
        change(&mut options);
        let health = Health::new();
        let keys = KeyHasher::new(&[1; 32]);
        let service = Service::new(options, bus.clone(), keys, Arc::new(SystemClock), &health).unwrap();
        let stop = Stop::new();
        let service = tokio::spawn(service.run(stop.clone()));
        let http = reqwest::Client::new();
        let stack = Self { url, health, http, bus, broker: Some(broker), data, stop, service };
        eventually("the stage is ready", async || stack.health.readiness().ready).await;
        stack
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.url.trim_start_matches("http://").parse().unwrap()
    }

    pub(crate) fn post(&self, path: &str, authorization: &str) -> RequestBuilder {
        self.http.post(format!("{}{path}", self.url)).header("authorization", authorization)
    }

    /// Speaks as an operator.
    pub(crate) async fn say(&self, word: &Control) {
        say(&self.bus, std::slice::from_ref(word)).await;
    }

    /// All events of the topic, in the order of offsets in each partition.
    pub(crate) async fn stored(&self) -> Vec<Received<Event>> {
        let topic = EVENTS.lane(self.bus.workspace(), &Lane::main());
        self.bus.read_all(&topic).await.unwrap()
    }

    /// The same, by message id.
    pub(crate) async fn events(&self) -> BTreeMap<String, Event> {
        let events = self.stored().await.into_iter().map(|received| received.message.unwrap());
        events.map(|event| (event.message_id.to_string(), event)).collect()
    }

    pub(crate) async fn stop_broker(&mut self) -> u16 {
        let broker = self.broker.take().unwrap();
        let port = broker.bootstrap().rsplit(':').next().unwrap().parse().unwrap();
        broker.stop().await;
        port
    }

    pub(crate) async fn restart_broker(&mut self, port: u16) {
        self.broker = Some(start_broker(self.data.path().to_owned(), Some(port)).await);
    }

    pub(crate) fn request_stop(&self) {
        self.stop.trigger();
    }

    pub(crate) async fn stopped(&mut self) -> Result<(), IngestError> {
        tokio::time::timeout(DEADLINE, &mut self.service).await.unwrap().unwrap()
    }
}

async fn say(bus: &Bus, words: &[Control]) {
    let publisher = bus.publisher(PublisherOptions::default()).unwrap();
    let _ = publisher.publish(&CONTROL.of(bus.workspace()), words).await.unwrap();
}

async fn start_broker(data: PathBuf, port: Option<u16>) -> EmbeddedBroker {
    tokio::task::spawn_blocking(move || EmbeddedBroker::start(&data, port)).await.unwrap().unwrap()
}

/// The sources that there are: their names, and what is odd about them.
fn sources() -> Vec<SourceOptions> {
    let source = |id: &str, keys: &[&str]| SourceOptions {
        write_keys: keys.iter().map(|key| Secret::from(*key)).collect(),
        ..SourceOptions::new(id.parse().unwrap())
    };
    let policy = Policy::mask_all();
    let destinations = vec![("hook".parse().unwrap(), true), ("off".parse().unwrap(), false)];
    vec![
        SourceOptions { destinations, ..source("web", &["WK"]) },
        SourceOptions { enabled: false, ..source("off", &["DISABLED"]) },
        SourceOptions {
            policy_version: Some(policy.version("strict")),
            scanner: Some(Scanner::new(policy, HashKey::derive(&[1; 32]))),
            ..source("strict", &["STRICT", "STRICT-OLD"])
        },
        SourceOptions { webhook: true, ..source("tools", &["HOOK"]) },
        SourceOptions { origins: vec!["https://www.example.com".to_owned()], ..source("site", &["SITE"]) },
        SourceOptions { replay: true, ..source("web-again", &[]) },
    ]
}

pub(crate) fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// Status, body, and whether it says when to come again.
pub(crate) async fn answer(request: RequestBuilder) -> (StatusCode, String, bool) {
    let response = request.send().await.unwrap();
    let retry = response.headers().contains_key("retry-after");
    (response.status(), response.text().await.unwrap(), retry)
}

pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < DEADLINE, "in time: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
