//! From the config to the stages' options, and the running of them.

use std::sync::Arc;
use std::time::Duration;

use millrace_bus::Start;
use millrace_connector::Warehouse;
use millrace_event_model::WarehouseId;
use millrace_service::config::{self, NestedConfig, SourceConfig, Target};
use millrace_service::{Schedule, Stop, Tasks};
use tokio::net::TcpListener;

use crate::exit::Failure;
use crate::installation::{Installation, LEASE_TTL};

/// How often a sync with `after:` looks whether the loader has committed.
const COMMIT_POLL: Duration = Duration::from_secs(2);

/// A stage that the user may start alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pick {
    /// HTTP in.
    Ingest,
    /// Rows into warehouses.
    Load,
    /// Items out to destinations.
    Deliver,
    /// ELT in.
    Extract,
    /// Reverse ETL.
    Sync,
}

impl Pick {
    /// All, in the order of the river.
    pub(crate) const ALL: [Self; 5] = [Self::Ingest, Self::Extract, Self::Load, Self::Deliver, Self::Sync];

    /// The command's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Load => "load",
            Self::Deliver => "deliver",
            Self::Extract => "extract",
            Self::Sync => "sync",
        }
    }
}

/// Starts a stage as a task.
///
/// # Errors
/// The config asks for something that the stage cannot do.
pub(crate) async fn spawn(
    pick: Pick,
    installation: &Installation,
    listener: Option<TcpListener>,
    tasks: &mut Tasks,
    stop: &Stop,
) -> Result<(), Failure> {
    match pick {
        #[cfg(feature = "ingest")]
        Pick::Ingest => {
            let Some(listener) = listener else { return Ok(()) };
            let service = ingest(installation, listener)?;
            tasks.spawn(pick.name(), service.run(stop.clone()));
        }
        #[cfg(feature = "warehouse-loader")]
        Pick::Load => tasks.spawn(pick.name(), loader(installation, false)?.run(stop.clone())),
        #[cfg(feature = "deliver")]
        Pick::Deliver => tasks.spawn(pick.name(), deliver(installation)?.run(stop.clone())),
        #[cfg(feature = "extract")]
        Pick::Extract => {
            let service = extract(installation)?;
            let stop = stop.clone();
            tasks.spawn(pick.name(), async move {
                service
                    .run(stop)
                    .await
                    .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
            });
        }
        #[cfg(feature = "reverse-etl")]
        Pick::Sync => {
            let service = reverse_etl(installation, tasks, stop).await?;
            let stop = stop.clone();
            tasks.spawn(pick.name(), async move { service.run(stop).await });
        }
        #[expect(unreachable_patterns, reason = "without a stage's feature its command does not exist")]
        _ => {
            let _ = listener;
        }
    }
    Ok(())
}

/// The ingest stage.
#[cfg(feature = "ingest")]
pub(crate) fn ingest(
    installation: &Installation,
    listener: TcpListener,
) -> Result<millrace_ingest::Service, Failure> {
    use millrace_ingest::{BlockedEvents, Options, Service, SourceOptions};

    use crate::bounds;

    let mut sources = Vec::new();
    for source in http_sources(&installation.config) {
        let scanner = installation.scanner(source)?;
        let (scanner, policy_version) =
            scanner.map_or((None, None), |(scanner, version)| (Some(scanner), Some(version)));
        sources.push(SourceOptions {
            write_keys: source.write_key.as_ref().map(|keys| keys.all().to_vec()).unwrap_or_default(),
            enabled: source.enabled,
            lane: source.lane.clone(),
            scanner,
            policy_version,
            blocked: BlockedEvents::new(source.block_events.track.iter().cloned()),
            webhook: source.is_webhook(),
            replay: source.replay_of.is_some(),
            rate_limit: source.rate_limit.and_then(bounds::rate_limit),
            origins: source.origins.clone(),
            destinations: destinations_of(&installation.config, source),
            ..SourceOptions::new(source.id.clone())
        });
    }
    let config = &installation.config.ingest;
    let options = Options {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        public_url: config.public_url.clone(),
        internal: config.internal,
        tls: bounds::tls(config),
        trusted_proxies: config.trusted_proxies.iter().map(|network| network.0).collect(),
        limits: bounds::limits(&config.limits),
        locator: config.geoip.as_ref().map(locator).transpose()?,
        ..Options::new(listener, sources)
    };
    Service::new(
        options,
        installation.bus.clone(),
        installation.keys.clone(),
        Arc::clone(&installation.clock),
        &installation.health,
    )
    .map_err(|error| Failure::Usage(error.to_string()))
}

/// Reads the database of places.
#[cfg(feature = "ingest")]
fn locator(config: &config::GeoipConfig) -> Result<millrace_ingest::Locator, Failure> {
    use millrace_ingest::Locator;

    Locator::open(&config.database, Locator::CHECK_EVERY).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Failure::Usage(format!("ingest.geoip: {error}{cause}"))
    })
}

/// The destinations that a source is connected to, and whether each is on.
#[cfg(feature = "ingest")]
fn destinations_of(
    config: &config::Config,
    source: &SourceConfig,
) -> Vec<(millrace_event_model::DestinationId, bool)> {
    let named = config.connections.iter().filter(|connection| connection.from == source.id);
    let connected = named.filter_map(|connection| match &connection.to {
        Target::Destination { id } => config.destinations.iter().find(|destination| destination.id == *id),
        Target::Warehouse { .. } => None,
    });
    connected.map(|destination| (destination.id.clone(), destination.enabled)).collect()
}

/// The warehouse-loader stage; `anyway`: in excluded windows, too.
#[cfg(feature = "warehouse-loader")]
pub(crate) fn loader(
    installation: &Installation,
    anyway: bool,
) -> Result<millrace_warehouse_loader::Service, Failure> {
    Ok(millrace_warehouse_loader::Service::new(
        loader_options(installation, anyway)?,
        installation.bus.clone(),
        installation.store.clone(),
        Arc::clone(&installation.clock),
        installation.health.clone(),
    ))
}

/// All connections to warehouses.
#[cfg(feature = "warehouse-loader")]
pub(crate) fn loader_options(
    installation: &Installation,
    anyway: bool,
) -> Result<millrace_warehouse_loader::Options, Failure> {
    use millrace_warehouse_loader::rows::{Mapping, Nested, SourceContext};
    use millrace_warehouse_loader::{ConnectionOptions, Kind, LoadLimits, Options, Timing};

    let warehouses = warehouses(installation)?;
    let mut connections = Vec::new();
    for connection in &installation.config.connections {
        let Target::Warehouse { id, schema, schedule, exclude, flush, nested } = &connection.to else {
            continue;
        };
        let Some(source) = installation.source_of(connection) else { continue };
        let Some((_, warehouse)) = warehouses.iter().find(|(other, _)| other == id) else { continue };
        let Some(config) = installation.config.warehouses.iter().find(|config| config.id == *id) else {
            continue;
        };
        let dialect = warehouse.dialect();
        let kind = if source.comes_by_http() { Kind::Events } else { Kind::Records };
        connections.push(ConnectionOptions {
            id: connection.id.clone(),
            source: source.id.clone(),
            lane: source.lane.clone(),
            kind,
            schema: schema.clone(),
            schedule: schedule.clone(),
            timing: Timing {
                exclude: if anyway { Vec::new() } else { exclude.clone() },
                max_records: flush.rows.and_then(|rows| usize::try_from(rows.0).ok()),
                max_bytes: flush.bytes.map(|bytes| bytes.0),
                max_age: flush.age.map(|age| age.0),
            },
            start: start(connection.start),
            names: names_of(installation, config),
            consent: consent("warehouse", id.as_str(), &config.consent)?,
            when: filter(connection)?.map(Arc::new),
            warehouse: Arc::clone(warehouse),
            mapping: Mapping {
                source: SourceContext {
                    id: Some(source.id.to_string()),
                    source_type: Some(source.kind.clone()),
                    category: None,
                },
                destination_id: Some(id.to_string()),
                destination_type: Some(dialect.rudder_name.to_owned()),
                nested: match nested {
                    NestedConfig::Json => Nested::Json,
                    NestedConfig::Flatten => Nested::Flatten,
                    NestedConfig::Tables => Nested::Tables,
                },
                ..Mapping::new(dialect)
            },
            mode: connection.mode,
            dedup: connection.dedup,
            contract: connection.contract,
            accept_gap: connection.accept_gap,
        });
    }
    Ok(Options {
        connections,
        holder: installation.holder("load"),
        lease_ttl: LEASE_TTL,
        limits: LoadLimits::default(),
    })
}

/// What clients may call a warehouse.
#[cfg(feature = "warehouse-loader")]
fn names_of(
    installation: &Installation,
    warehouse: &config::WarehouseConfig,
) -> millrace_privacy::IntegrationNames {
    let settings = warehouse.settings.to_value();
    let entry = installation.registry.warehouse_entry(&warehouse.kind);
    let names = entry.into_iter().flat_map(|entry| entry.names(&settings));
    millrace_privacy::IntegrationNames::new(names.chain([warehouse.id.as_str()]))
}

/// The deliver stage.
#[cfg(feature = "deliver")]
pub(crate) fn deliver(installation: &Installation) -> Result<millrace_deliver::Service, Failure> {
    use millrace_deliver::{Options, Service};

    let mut destinations = Vec::new();
    for destination in installation.config.destinations.iter().filter(|destination| destination.enabled) {
        destinations.push(destination_options(installation, destination)?);
    }
    let mut options = Options::new(destinations);
    options.instance = Some(installation.holder("deliver"));
    Ok(Service::new(
        options,
        installation.bus.clone(),
        Arc::clone(&installation.clock),
        installation.health.clone(),
    ))
}

/// One destination of the deliver stage, with the connections that lead to it.
#[cfg(feature = "deliver")]
pub(crate) fn destination_options(
    installation: &Installation,
    destination: &millrace_service::config::DestinationConfig,
) -> Result<millrace_deliver::DestinationOptions, Failure> {
    use millrace_deliver::{DestinationOptions, EventConnection};
    use millrace_privacy::IntegrationNames;

    let mut options = DestinationOptions::new(destination.id.clone(), installation.destination(destination)?);
    let settings = destination.settings.to_value();
    let entry = installation.registry.destination_entry(&destination.kind);
    let names = entry.into_iter().flat_map(|entry| entry.names(&settings));
    options.names = IntegrationNames::new(names.chain([destination.id.as_str()]));
    options.consent = consent("destination", destination.id.as_str(), &destination.consent)?;
    options.takes_changes = installation.config.syncs.iter().any(|sync| sync.to == destination.id);
    for connection in &installation.config.connections {
        let Target::Destination { id } = &connection.to else { continue };
        let Some(source) = installation.source_of(connection).filter(|_| *id == destination.id) else {
            continue;
        };
        options.connections.push(EventConnection {
            source: source.id.clone(),
            lane: source.lane.clone(),
            filter: filter(connection)?,
            start: start(connection.start),
        });
    }
    Ok(options)
}

/// The extract stage.
#[cfg(feature = "extract")]
pub(crate) fn extract(installation: &Installation) -> Result<millrace_extract::Service, Failure> {
    use millrace_extract::{Options, Service, SourceOptions};

    let mut sources = Vec::new();
    for source in elt_sources(installation) {
        sources.push(SourceOptions {
            id: source.id.clone(),
            lane: source.lane.clone(),
            source: installation.source(source)?,
            schedule: source.schedule.clone().unwrap_or(Schedule::Manual),
            privacy: installation.scanner(source)?.map(|(scanner, _)| Arc::new(scanner)),
        });
    }
    let options = Options {
        sources,
        holder: installation.holder("extract"),
        lease_ttl: LEASE_TTL,
        keys: installation.keys.clone(),
    };
    Ok(Service::new(
        options,
        installation.bus.clone(),
        installation.store.clone(),
        Arc::clone(&installation.clock),
        installation.health.clone(),
    )?)
}

/// The reverse-etl stage. Syncs with `after:` get a task that watches for the loader's commits.
#[cfg(feature = "reverse-etl")]
pub(crate) async fn reverse_etl(
    installation: &Installation,
    tasks: &mut Tasks,
    stop: &Stop,
) -> Result<millrace_reverse_etl::Service, Failure> {
    use millrace_reverse_etl::{Mode, Options, Service, Sync, Trigger};
    use millrace_service::config::SyncMode;

    let warehouses = warehouses(installation)?;
    let of =
        |id: &WarehouseId| warehouses.iter().find(|(other, _)| other == id).map(|(_, warehouse)| warehouse);
    let mut syncs = Vec::new();
    for sync in &installation.config.syncs {
        let Some(warehouse) = of(&sync.from) else { continue };
        let trigger = match &sync.trigger {
            config::Trigger::Schedule(schedule) => Trigger::Schedule(schedule.clone()),
            config::Trigger::After(id) => {
                let Some(watched) = of(id) else { continue };
                Trigger::Signal(watch_commits(id, Arc::clone(watched), tasks, stop))
            }
        };
        syncs.push(Sync {
            id: sync.id.clone(),
            warehouse: Arc::clone(warehouse),
            model: sync.model.clone(),
            key: sync.key.clone(),
            destination: sync.to.clone(),
            mode: match sync.mode {
                SyncMode::Upsert => Mode::Upsert,
                SyncMode::Insert => Mode::Insert,
                SyncMode::Update => Mode::Update,
                SyncMode::Mirror => Mode::Mirror,
                SyncMode::Full => Mode::Full,
            },
            map: sync.map.clone(),
            trigger,
        });
    }
    let options = Options::new(syncs, installation.work_dir("sync"), installation.holder("sync"));
    Service::new(
        options,
        installation.bus.clone(),
        installation.store.clone(),
        Arc::clone(&installation.clock),
        installation.health.clone(),
    )
    .await
    .map_err(|error| Failure::Usage(error.to_string()))
}

/// A number that changes with each commit to a warehouse: the items in its books. It is read from the
/// warehouse, so it works whichever process the loader runs in.
#[cfg(feature = "reverse-etl")]
fn watch_commits(
    id: &WarehouseId,
    warehouse: Arc<dyn Warehouse>,
    tasks: &mut Tasks,
    stop: &Stop,
) -> tokio::sync::watch::Receiver<u64> {
    let (tell, commits) = tokio::sync::watch::channel(0);
    let stop = stop.clone();
    tasks.spawn(format!("commits of {id}"), async move {
        while !stop.is_requested() {
            // A warehouse that is away, or has no books yet, has not committed.
            if let Ok(items) = crate::commands::query::items_in_books(warehouse.as_ref()).await {
                tell.send_if_modified(|known| std::mem::replace(known, items) != items);
            }
            tokio::select! {
                () = tokio::time::sleep(COMMIT_POLL) => {}
                () = stop.requested() => {}
            }
        }
        Ok::<(), std::convert::Infallible>(())
    });
    commits
}

/// The sources that extract reads.
pub(crate) fn elt_sources(installation: &Installation) -> impl Iterator<Item = &SourceConfig> {
    installation.config.sources.iter().filter(|source| source.enabled && !source.comes_by_http())
}

/// The sources that send events by HTTP.
pub(crate) fn http_sources(config: &config::Config) -> impl Iterator<Item = &SourceConfig> {
    config.sources.iter().filter(|source| source.comes_by_http())
}

/// A warehouse of the config, opened.
type Opened = (WarehouseId, Arc<dyn Warehouse>);

/// One connector per warehouse: connections share its pool and its caches.
fn warehouses(installation: &Installation) -> Result<Vec<Opened>, Failure> {
    let all = installation.config.warehouses.iter();
    all.map(|warehouse| Ok((warehouse.id.clone(), installation.warehouse(warehouse)?))).collect()
}

#[cfg(any(feature = "warehouse-loader", feature = "deliver"))]
fn filter(connection: &config::ConnectionConfig) -> Result<Option<millrace_transform::Filter>, Failure> {
    if connection.transform.is_some() {
        return Err(Failure::Usage(format!(
            "connection {}: `transform:` is not built in yet; `when:` is",
            connection.id
        )));
    }
    if !connection.unseal.is_empty() {
        return Err(Failure::Usage(format!("connection {}: `unseal:` is not built in yet", connection.id)));
    }
    let Some(when) = &connection.when else { return Ok(None) };
    millrace_transform::Filter::compile(when)
        .map(Some)
        .map_err(|error| Failure::Usage(format!("connection {}: `when:` {error}", connection.id)))
}

#[cfg(any(feature = "warehouse-loader", feature = "deliver"))]
fn consent(what: &str, id: &str, rules: &[serde_json::Value]) -> Result<millrace_privacy::Consent, Failure> {
    crate::judge::consent(rules).map_err(|error| Failure::Usage(format!("consent of {what} {id:?}: {error}")))
}

/// Where the bus begins to read.
pub(crate) fn start(start: config::Start) -> Start {
    match start {
        config::Start::Earliest => Start::Earliest,
        config::Start::Latest => Start::Latest,
        config::Start::At(at) => Start::At(at),
    }
}
