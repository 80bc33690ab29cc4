//! What is measured: the ingest stage by itself, in a process of its own.
//!
//! It is `millrace_ingest::Service` as the binary runs it, on the same kind of runtime and with the same
//! metrics recorder. It stops when its standard input ends, so that it cannot outlive who started it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use millrace_bus::{Bus, KafkaSettings, ReplicationPolicy};
use millrace_event_model::{KeyHasher, Lane, SourceId, Workspace};
use millrace_ingest::{Limits, Options, Service, SourceOptions};
use millrace_service::telemetry::{self, LogFormat, MetricsHandle};
use millrace_service::{Health, Secret, Stop, SystemClock};
use tokio::net::TcpListener;

use crate::error::BenchError;
use crate::workload::{WORKSPACE_KEY, WRITE_KEYS, scanner, write_key};

/// As the binary's admin listener does it.
const UPKEEP: Duration = Duration::from_secs(5);

/// A worker's stack in the binary: memory is counted.
const WORKER_STACK_BYTES: usize = 16 * 1024 * 1024;

/// How the process under test is set up.
#[derive(Debug, clap::Args)]
pub(crate) struct GatewayArgs {
    /// Kafka, `host:port`.
    #[arg(long)]
    brokers: String,
    /// Its topics are made if they are not there.
    #[arg(long)]
    workspace: String,
    /// Where it listens; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Whether the sources mask personal data.
    #[arg(long)]
    masked: bool,
    /// The producer's `compression.type`.
    #[arg(long, default_value = "lz4")]
    compression: String,
    /// How long events wait to share a batch to the broker.
    #[arg(long, default_value_t = 5)]
    linger_ms: u64,
}

pub(crate) fn run(args: GatewayArgs) -> Result<(), BenchError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(WORKER_STACK_BYTES)
        .build()
        .map_err(BenchError::io("start the runtime"))?;
    runtime.block_on(serve(args))
}

async fn serve(args: GatewayArgs) -> Result<(), BenchError> {
    let failed = |error: telemetry::TelemetryError| BenchError::Failed(error.to_string());
    telemetry::init_logs(LogFormat::Text, "error").map_err(failed)?;
    let metrics = telemetry::init_metrics().map_err(failed)?;

    let bus = bus(&args.brokers, &args.workspace, &args.compression)?;
    bus.provision(&[lane()?], ReplicationPolicy::Single).await?;
    let listener = TcpListener::bind(args.listen).await.map_err(BenchError::io("listen"))?;
    let address = listener.local_addr().map_err(BenchError::io("listen"))?;
    let options = Options {
        limits: Limits { linger: Duration::from_millis(args.linger_ms), ..Limits::default() },
        ..Options::new(listener, sources(args.masked)?)
    };
    let health = Health::default();
    let service = Service::new(options, bus, KeyHasher::new(&WORKSPACE_KEY), Arc::new(SystemClock), &health)?;
    crate::print_line(&format!("listening {address}"));

    let stop = Stop::new();
    stop_at_end_of_input(&stop);
    tokio::select! {
        served = service.run(stop) => Ok(served?),
        never = upkeep(&metrics) => match never {},
    }
}

/// The topics' client with one property of the user's.
pub(crate) fn bus(brokers: &str, workspace: &str, compression: &str) -> Result<Bus, BenchError> {
    let workspace: Workspace = workspace.parse().map_err(|error| BenchError::Failed(format!("{error}")))?;
    let mut settings = KafkaSettings::new(brokers);
    settings.properties.insert("compression.type".to_owned(), compression.to_owned());
    Ok(Bus::new(settings, workspace)?)
}

/// The one lane of all sources.
pub(crate) fn lane() -> Result<Lane, BenchError> {
    "main".parse().map_err(|error| BenchError::Failed(format!("{error}")))
}

/// Which source a write key belongs to.
pub(crate) fn source(number: usize) -> Result<SourceId, BenchError> {
    format!("bench-{number:02}").parse().map_err(|error| BenchError::Failed(format!("{error}")))
}

fn sources(masked: bool) -> Result<Vec<SourceOptions>, BenchError> {
    let scanner = masked.then(scanner);
    let policy_version = scanner.as_ref().map(|scanner| scanner.policy().version("strict"));
    let mut sources = Vec::new();
    for number in 0..WRITE_KEYS {
        sources.push(SourceOptions {
            write_keys: vec![Secret::from(write_key(number))],
            lane: lane()?,
            scanner: scanner.clone(),
            policy_version: policy_version.clone(),
            ..SourceOptions::new(source(number)?)
        });
    }
    Ok(sources)
}

async fn upkeep(metrics: &MetricsHandle) -> std::convert::Infallible {
    loop {
        tokio::time::sleep(UPKEEP).await;
        metrics.run_upkeep();
    }
}

/// Triggers the stop when whoever started this process lets go of its input, or is gone.
pub(crate) fn stop_at_end_of_input(stop: &Stop) {
    let stop = stop.clone();
    // Ends with the input or with the process, whichever is first.
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        stop.trigger();
    });
}
