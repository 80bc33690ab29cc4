//! `dev`, the stages as services, and the embedded broker alone: whatever runs until it is told to stop.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use chrono::Utc;
use millrace_bus::PublisherOptions;
use millrace_event_model::AuditEntry;
use millrace_event_model::topics::AUDIT;
use millrace_service::config::{Config, Mode, Target};
use millrace_service::telemetry::{self, MetricsHandle};
use millrace_service::{CrashAt, Stop, Tasks, admin, arm_crash_point, stop_on_signals};
use serde_json::json;
use tokio::net::TcpListener;

use crate::broker::Broker;
use crate::cli::{Output, Place};
use crate::exit::Failure;
use crate::installation::{Installation, read_config};
use crate::output;
use crate::stages::{self, Pick, http_sources};

/// How long all tasks together may take to stop: more than the longest drain of a stage.
const DRAIN: Duration = Duration::from_secs(60);

/// Where a process listens.
pub(crate) struct Endpoints {
    pub(crate) ingest: Option<SocketAddr>,
    pub(crate) admin: SocketAddr,
}

/// What SIGTERM and SIGINT do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signals {
    /// They stop the stages in order.
    Stop,
    /// They end the process, as they do without us.
    End,
}

/// Everything that runs in this process.
pub(crate) struct Running {
    pub(crate) endpoints: Endpoints,
    pub(crate) tasks: Tasks,
    pub(crate) stop: Stop,
}

/// `millrace dev`.
pub(crate) async fn dev(place: &Place, output: Output) -> Result<(), Failure> {
    let config = read_config(place, Mode::Dev)?;
    let installation = Installation::open(config, place, Mode::Dev).await?;
    installation.provision().await?;
    let running = start(&installation, &Pick::ALL, Signals::Stop).await?;
    welcome(&installation.config, &running.endpoints, place, output);
    serve(running, installation).await
}

/// One stage as a service.
pub(crate) async fn stage(place: &Place, pick: Pick) -> Result<(), Failure> {
    let config = read_config(place, Mode::Service)?;
    let installation = Installation::open(config, place, Mode::Service).await?;
    installation.provision().await?;
    let running = start(&installation, &[pick], Signals::Stop).await?;
    tracing::info!(stage = pick.name(), admin = %running.endpoints.admin, "running");
    serve(running, installation).await
}

/// The embedded broker alone, until a signal.
pub(crate) async fn broker(data_dir: &Path, port: Option<u16>, output: Output) -> Result<(), Failure> {
    let broker = Broker::start(data_dir.to_owned(), port).await?;
    let bootstrap = broker.bootstrap();
    output::result(
        output,
        &json!({"bootstrap": bootstrap}),
        format!("the embedded broker listens on {bootstrap}"),
    );
    stop_on_signals(Stop::new()).await?;
    broker.stop().await;
    Ok(())
}

/// Starts the admin listener and the stages.
///
/// Signals are heeded before the first stage runs, for it may take a load in hand at once; and the auditors
/// are told before, for without them the process ends, and then no stage should have begun.
pub(crate) async fn start(
    installation: &Installation,
    picks: &[Pick],
    signals: Signals,
) -> Result<Running, Failure> {
    arm()?;
    let stop = Stop::new();
    let mut tasks = Tasks::new(stop.clone());
    if signals == Signals::Stop {
        tasks.spawn("signals", stop_on_signals(stop.clone()));
    }
    tell_auditors(installation, picks).await?;
    let metrics = telemetry::init_metrics().map_err(|error| Failure::Failed(error.to_string()))?;
    let admin = listen(&installation.config.admin.listen, "admin").await?;
    let mut endpoints = Endpoints { ingest: None, admin: admin.local_addr()? };
    serve_admin(installation, admin, metrics, &mut tasks, &stop);
    for pick in picks {
        let mut listener = None;
        if *pick == Pick::Ingest {
            let bound = listen(&installation.config.ingest.listen, "ingest").await?;
            endpoints.ingest = Some(bound.local_addr()?);
            listener = Some(bound);
        }
        stages::spawn(*pick, installation, listener, &mut tasks, &stop).await?;
    }
    Ok(Running { endpoints, tasks, stop })
}

/// Runs until a signal or the end of a task, then stops everything in order.
async fn serve(running: Running, installation: Installation) -> Result<(), Failure> {
    let errors = running.tasks.join(DRAIN).await;
    installation.close().await;
    if errors.is_empty() {
        return Ok(());
    }
    let told: Vec<String> = errors
        .iter()
        .map(|error| match &error.source {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        })
        .collect();
    Err(Failure::Failed(told.join("\n       ")))
}

fn serve_admin(
    installation: &Installation,
    listener: TcpListener,
    metrics: MetricsHandle,
    tasks: &mut Tasks,
    stop: &Stop,
) {
    tasks.spawn("admin", admin::serve(listener, installation.health.clone(), metrics, stop.clone()));
}

async fn listen(address: &str, what: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        Failure::Failed(format!(
            "cannot listen on {address} ({what}): {error}; change `{what}: {{ listen: … }}`"
        ))
    })
}

/// Says in the audit topic that a process began.
async fn tell_auditors(installation: &Installation, picks: &[Pick]) -> Result<(), Failure> {
    let publisher = installation.bus.publisher(PublisherOptions::default())?;
    let names: Vec<_> = picks.iter().map(|pick| pick.name()).collect();
    let entry = AuditEntry {
        at: Utc::now(),
        actor: format!("process {}", std::process::id()),
        action: "service.started".to_owned(),
        subject: names.join(","),
    };
    let acked = publisher.publish(&AUDIT.of(installation.bus.workspace()), [&entry]).await?;
    tracing::debug!(entries = acked.count(), "told the auditors");
    Ok(())
}

/// Lets a test have the process die at a named point; only builds with debug assertions do.
fn arm() -> Result<(), Failure> {
    let Ok(at) = std::env::var("MILLRACE_CRASH_AT") else { return Ok(()) };
    if !cfg!(debug_assertions) {
        return Err(Failure::Usage("MILLRACE_CRASH_AT works only in debug builds".to_owned()));
    }
    let at: CrashAt =
        at.parse().map_err(|error: millrace_service::InvalidCrashAt| Failure::Usage(error.to_string()))?;
    arm_crash_point(at);
    Ok(())
}

fn welcome(config: &Config, endpoints: &Endpoints, place: &Place, output: Output) {
    let ingest = endpoints.ingest.map(|address| format!("{}://{address}", config.ingest.scheme()));
    let admin = format!("http://{}", endpoints.admin);
    let json = json!({"ingest": ingest, "admin": admin, "data_dir": place.data_dir});
    let mut text = format!("Millrace is up. Its data is in {}\n", place.data_dir.display());
    if let Some(ingest) = &ingest {
        text.push_str(&format!("\n  send events to   {ingest}\n"));
        for source in http_sources(config) {
            let Some(keys) = source.write_key.as_ref() else { continue };
            text.push_str(&format!("    source {:<12} write key {}\n", source.id.as_str(), keys.first()));
        }
    }
    text.push_str(&format!("  health, metrics  {admin}/readyz  {admin}/metrics\n"));
    for connection in &config.connections {
        let to = match &connection.to {
            Target::Warehouse { id, schema, .. } => format!("warehouse {id}, schema {schema}"),
            Target::Destination { id } => format!("destination {id}"),
        };
        text.push_str(&format!("  flows            {} to {to}\n", connection.from));
    }
    let events = |from| http_sources(config).any(|source| source.id == from);
    let of_events = config.connections.iter().filter(|connection| events(connection.from.clone()));
    let schema = of_events.into_iter().find_map(|connection| match &connection.to {
        Target::Warehouse { schema, .. } => Some(schema.to_string()),
        Target::Destination { .. } => None,
    });
    match schema {
        Some(schema) => {
            text.push_str("\n  try              millrace send --wait\n");
            let query = format!("select event, user_id, received_at from {schema}.tracks");
            text.push_str(&format!("                   millrace query '{query}'"));
        }
        None => text.push_str("\n  try              millrace send identify"),
    }
    output::result(output, &json, text);
}
