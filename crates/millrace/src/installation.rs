//! What a config file describes, opened: Kafka, state, keys and connectors. Nothing here runs yet.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use millrace_bus::{Bus, KafkaSettings, ReplicationPolicy};
use millrace_connector::{Context, Destination, Registry, Source, Warehouse};
use millrace_event_model::{KeyHasher, Lane};
use millrace_privacy::{HashKey, Policy, Scanner};
use millrace_service::config::{
    self, Config, ConnectionConfig, DestinationConfig, Environment, Mode, SourceConfig, WarehouseConfig,
};
use millrace_service::{Health, SharedClock, SystemClock};
use millrace_state::{Store, workspace_key};

use crate::broker::Broker;
use crate::cli::Place;
use crate::exit::Failure;
use crate::judge::judge;

/// The config of `dev` without a file: it is the manual's first page, too.
pub(crate) const DEV_CONFIG: &str = include_str!("dev_config.yaml");

/// The file that is used when none is named.
const DEFAULT_FILE: &str = "millrace.yaml";

/// In the `kafka:` map, beside librdkafka's properties: `replication: accept` takes topics as they are.
const REPLICATION: &str = "replication";

/// How long another process keeps a lease after this one died: long enough for a slow commit, short
/// enough that a standby takes over within a minute.
pub(crate) const LEASE_TTL: Duration = Duration::from_secs(30);

/// An installation with everything that stages share.
pub(crate) struct Installation {
    pub(crate) config: Config,
    pub(crate) registry: Registry,
    pub(crate) bus: Bus,
    pub(crate) store: Store,
    pub(crate) clock: SharedClock,
    pub(crate) health: Health,
    pub(crate) keys: KeyHasher,
    hash_key: HashKey,
    work_dir: PathBuf,
    instance: String,
    replication: ReplicationPolicy,
    broker: Option<Broker>,
}

/// Reads the config that a command is about.
///
/// # Errors
/// All that is wrong with it, each with file, line and caret.
pub(crate) fn read_config(place: &Place, mode: Mode) -> Result<Config, Failure> {
    let fail = |errors: config::ConfigErrors| Failure::Config(Box::new(miette::Report::new(errors)));
    let file = match &place.config {
        Some(file) => Some(file.clone()),
        None => Some(PathBuf::from(DEFAULT_FILE)).filter(|file| file.exists()),
    };
    match file {
        Some(file) => config::load(&file, mode).map_err(fail),
        None => parse_config("the built-in dev config", DEV_CONFIG, &place.data_dir).map_err(fail),
    }
}

/// Reads a config that is built in: `${MILLRACE_DATA_DIR}` is the given folder.
pub(crate) fn parse_config(name: &str, text: &str, data_dir: &Path) -> Result<Config, config::ConfigErrors> {
    let data_dir = data_dir.display().to_string();
    let environment = Environment {
        variable: &|name| (name == "MILLRACE_DATA_DIR").then(|| data_dir.clone()),
        file: &|path| std::fs::read_to_string(path),
    };
    config::parse(name, text, &environment, Mode::Dev)
}

impl Installation {
    /// Judges what the file's own check cannot; opens state and the settings of Kafka; starts the embedded
    /// broker in the data folder where the config names no Kafka and `mode` is dev.
    ///
    /// # Errors
    /// The config asks for something that cannot be done, state or the broker's folder cannot be opened, or
    /// a service has no Kafka.
    pub(crate) async fn open(config: Config, place: &Place, mode: Mode) -> Result<Self, Failure> {
        judge(&config, place)?;
        let mut broker = None;
        let replication;
        let settings = match (&config.kafka, mode) {
            (Some(kafka), _) => {
                let mut properties = kafka.properties.clone();
                replication = replication_policy(properties.remove(REPLICATION).as_deref(), mode)?;
                KafkaSettings { brokers: kafka.brokers.clone(), properties }
            }
            (None, Mode::Dev) => {
                replication = ReplicationPolicy::Single;
                let started = Broker::start(place.data_dir.join("broker"), None).await?;
                let settings = KafkaSettings { brokers: started.bootstrap(), properties: BTreeMap::new() };
                broker = Some(started);
                settings
            }
            (None, Mode::Service) => {
                return Err(Failure::Usage(
                    "a stage that runs as a service needs `kafka:` in the config; `millrace dev` runs all of them without it"
                        .to_owned(),
                ));
            }
        };
        let bus = Bus::new(settings, config.workspace.clone())?;
        Self::over(bus, config, place, replication, broker).await
    }

    /// An installation on the Kafka that is running already; see [`Self::attach`].
    ///
    /// # Errors
    /// Nothing runs there, or state cannot be opened.
    pub(crate) async fn open_attached(config: Config, place: &Place) -> Result<Self, Failure> {
        millrace_service::install_tls();
        let bus = Self::attach(&config, place)?;
        Self::over(bus, config, place, ReplicationPolicy::Accept, None).await
    }

    async fn over(
        bus: Bus,
        config: Config,
        place: &Place,
        replication: ReplicationPolicy,
        broker: Option<Broker>,
    ) -> Result<Self, Failure> {
        let store = Store::open(&config.state)?.child(config.workspace.as_str());
        if store.folder().is_none() {
            // Leases and intents rest on it, and not every server that speaks S3 keeps it.
            store.prove_creation().await?;
        }
        let key = workspace_key(&store).await?;
        Ok(Self {
            registry: crate::connectors::of_config(&config)?,
            bus,
            clock: Arc::new(SystemClock),
            health: Health::new(),
            keys: KeyHasher::new(&key),
            hash_key: HashKey::derive(&key),
            work_dir: place.data_dir.join("work"),
            instance: place.instance.clone().unwrap_or_else(machine_name),
            replication,
            store,
            broker,
            config,
        })
    }

    /// The Kafka of an installation that is running: of its config, or the embedded broker of a `dev` on
    /// the same data folder. For tools that look or speak, and run no stage.
    ///
    /// # Errors
    /// Nothing runs there.
    pub(crate) fn attach(config: &Config, place: &Place) -> Result<Bus, Failure> {
        let settings = match &config.kafka {
            Some(kafka) => {
                let mut properties = kafka.properties.clone();
                properties.remove(REPLICATION);
                KafkaSettings { brokers: kafka.brokers.clone(), properties }
            }
            None => {
                let folder = place.data_dir.join("broker");
                let brokers = Broker::running(&folder).ok_or_else(|| {
                    Failure::Unreachable(format!(
                        "the config names no Kafka, and no `millrace dev` runs on {}",
                        place.data_dir.display()
                    ))
                })?;
                KafkaSettings { brokers, properties: BTreeMap::new() }
            }
        };
        Ok(Bus::new(settings, config.workspace.clone())?)
    }

    /// Makes the topics that are missing and checks all of them.
    ///
    /// # Errors
    /// Kafka cannot be reached, or a topic is not what its contract says.
    pub(crate) async fn provision(&self) -> Result<(), Failure> {
        Ok(self.bus.provision(&self.lanes(), self.replication).await?)
    }

    /// The lanes of all sources.
    pub(crate) fn lanes(&self) -> Vec<Lane> {
        let mut lanes: Vec<Lane> = self.config.sources.iter().map(|source| source.lane.clone()).collect();
        lanes.push(Lane::main());
        lanes.sort_unstable();
        lanes.dedup();
        lanes
    }

    /// Stops the embedded broker, where there is one: last of all.
    pub(crate) async fn close(self) {
        if let Some(broker) = self.broker {
            broker.stop().await;
        }
    }

    /// What finds and masks personal data for a source, and the version that each event is stamped with.
    ///
    /// # Errors
    /// The policy is not defined, or says something that cannot be done.
    pub(crate) fn scanner(&self, source: &SourceConfig) -> Result<Option<(Scanner, String)>, Failure> {
        let Some(name) = &source.privacy else { return Ok(None) };
        let policy = self.policy(name)?;
        let version = policy.version(name);
        Ok(Some((Scanner::new(policy, self.hash_key.clone()), version)))
    }

    fn policy(&self, name: &str) -> Result<Policy, Failure> {
        let Some(written) = self.config.privacy.get(name) else {
            return Err(Failure::Usage(format!(
                "there is no privacy policy {name:?}: define it under `privacy:`"
            )));
        };
        serde_json::from_value(written.clone())
            .map_err(|error| Failure::Usage(format!("privacy policy {name:?}: {error}")))
    }

    /// Makes the connector of an ELT source.
    ///
    /// # Errors
    /// No such kind, or its settings are wrong.
    pub(crate) fn source(&self, source: &SourceConfig) -> Result<Arc<dyn Source>, Failure> {
        let settings = source.settings.to_value();
        let context = self.context(source.id.as_str());
        self.registry.source(&source.kind, &settings, &source.command, &context).map_err(misconfigured)
    }

    /// Makes the connector of a warehouse.
    ///
    /// # Errors
    /// As [`Self::source`].
    pub(crate) fn warehouse(&self, warehouse: &WarehouseConfig) -> Result<Arc<dyn Warehouse>, Failure> {
        let settings = warehouse.settings.to_value();
        let context = self.context(warehouse.id.as_str());
        self.registry.warehouse(&warehouse.kind, &settings, &context).map_err(misconfigured)
    }

    /// Makes the connector of a destination.
    ///
    /// # Errors
    /// As [`Self::source`].
    pub(crate) fn destination(
        &self,
        destination: &DestinationConfig,
    ) -> Result<Arc<dyn Destination>, Failure> {
        let settings = destination.settings.to_value();
        let context = self.context(destination.id.as_str());
        self.registry.destination(&destination.kind, &settings, &context).map_err(misconfigured)
    }

    /// The source of a connection; the config was judged, so it is there.
    pub(crate) fn source_of(&self, connection: &ConnectionConfig) -> Option<&SourceConfig> {
        self.config.sources.iter().find(|source| source.id == connection.from)
    }

    fn context(&self, id: &str) -> Context {
        Context { id: id.to_owned(), work_dir: self.work_dir.join(id) }
    }

    /// A folder for working files of a stage.
    pub(crate) fn work_dir(&self, stage: &str) -> PathBuf {
        self.work_dir.join(stage)
    }

    /// Names this process in leases and consumer groups.
    pub(crate) fn holder(&self, stage: &str) -> String {
        format!("{stage}@{}", self.instance)
    }
}

/// The machine's name; in a container, the container's.
pub(crate) fn machine_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => std::env::var("HOSTNAME").unwrap_or_else(|_| "local".to_owned()),
        name => name.to_owned(),
    }
}

/// A connector's settings are wrong: that is a matter of the config.
fn misconfigured(error: millrace_connector::ConnectorError) -> Failure {
    Failure::Usage(error.full())
}

fn replication_policy(written: Option<&str>, mode: Mode) -> Result<ReplicationPolicy, Failure> {
    match (written, mode) {
        (Some("accept"), _) => Ok(ReplicationPolicy::Accept),
        (Some("strict"), _) | (None, Mode::Service) => Ok(ReplicationPolicy::Strict),
        (None, Mode::Dev) => Ok(ReplicationPolicy::Accept),
        (Some(other), _) => {
            Err(Failure::Usage(format!("kafka: replication is strict or accept, not {other:?}")))
        }
    }
}
