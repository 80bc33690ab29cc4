//! What is measured: the deliver stage by itself, in a process of its own, with destinations that post the
//! bodies as they are, so many in a request. What a mapping costs is the mapping's own.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use millrace_connector::{
    ConnectorError, Destination, HttpRequest, Item, ItemOutcome, Limits, Payload, Prepared, Rate, RequestBody,
};
use millrace_deliver::{DestinationOptions, EventConnection, Options, Service, Start};
use millrace_event_model::Reason;
use millrace_service::telemetry::{self, LogFormat};
use millrace_service::{Health, Stop, SystemClock};

use crate::error::BenchError;
use crate::gateway::{bus, lane, source, stop_at_end_of_input};

/// How many events a request holds.
pub(crate) const EVENTS_HEADER: &str = "x-events";

const TIMEOUT: Duration = Duration::from_secs(10);

/// How long a request that is not full waits for more events.
const MAX_WAIT: Duration = Duration::from_millis(50);

/// How the process under test is set up.
#[derive(Debug, clap::Args)]
pub(crate) struct DelivererArgs {
    /// Kafka, `host:port`.
    #[arg(long)]
    brokers: String,
    #[arg(long)]
    workspace: String,
    /// A destination: `id=url`.
    #[arg(long, required = true)]
    to: Vec<String>,
    /// Events in a request.
    #[arg(long)]
    batch: usize,
    /// Requests under way at once, for each destination.
    #[arg(long)]
    concurrency: usize,
    /// The events of a user are sent in order.
    #[arg(long)]
    ordered: bool,
    /// Requests a second, for each destination.
    #[arg(long)]
    rate: Option<NonZeroU32>,
}

pub(crate) fn run(args: &DelivererArgs) -> Result<(), BenchError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(BenchError::io("start the runtime"))?;
    runtime.block_on(deliver(args))
}

async fn deliver(args: &DelivererArgs) -> Result<(), BenchError> {
    let failed = |error: telemetry::TelemetryError| BenchError::Failed(error.to_string());
    telemetry::init_logs(LogFormat::Text, "error").map_err(failed)?;
    let _metrics = telemetry::init_metrics().map_err(failed)?;
    millrace_service::install_tls();
    let mut destinations = Vec::new();
    for to in &args.to {
        let wrong = || BenchError::Failed(format!("{to:?} is not id=url"));
        let (id, url) = to.split_once('=').ok_or_else(wrong)?;
        let id = id.parse().map_err(|error| BenchError::Failed(format!("{error}")))?;
        let rate = args.rate.map(|calls| Rate { calls, per: Duration::from_secs(1) });
        let max_wait = if args.batch > 1 { MAX_WAIT } else { Duration::ZERO };
        let single = Limits::single(args.concurrency, TIMEOUT);
        let limits =
            Limits { max_items: args.batch, max_wait, rate, ordered: args.ordered, together: true, ..single };
        let post = Post { url: url.to_owned(), limits, http: reqwest::Client::new() };
        let mut options = DestinationOptions::new(id, Arc::new(post));
        options.connections.push(EventConnection {
            source: source(0)?,
            lane: lane()?,
            filter: None,
            start: Start::Earliest,
        });
        destinations.push(options);
    }
    let bus = bus(&args.brokers, &args.workspace, "lz4")?;
    let service = Service::new(Options::new(destinations), bus, Arc::new(SystemClock), Health::default());
    // Whoever started it waits for such a line.
    crate::print_line("listening nowhere");
    let stop = Stop::new();
    stop_at_end_of_input(&stop);
    service.run(stop).await.map_err(|error| BenchError::Failed(error.to_string()))
}

/// Posts the bodies of a call in one request, a line each.
struct Post {
    url: String,
    limits: Limits,
    http: reqwest::Client,
}

#[async_trait]
impl Destination for Post {
    async fn check(&self) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn transform(&self, item: &Item) -> Result<Vec<HttpRequest>, Reason> {
        let mut request = HttpRequest::post(self.url.clone());
        if let Payload::Event(event) = &item.payload {
            request.body = RequestBody::Json(event.body.clone());
        }
        Ok(vec![request])
    }

    async fn deliver(&self, batch: Vec<Prepared>) -> Vec<ItemOutcome> {
        let events = batch.len();
        let answer =
            self.http.post(&self.url).header(EVENTS_HEADER, events).body(joined(&batch)).send().await;
        let outcome = match answer {
            Ok(answer) => {
                let status = answer.status().as_u16();
                let after =
                    answer.headers().get("retry-after").and_then(|after| after.to_str().ok()?.parse().ok());
                let after = after.map(Duration::from_secs);
                // Read, so that the connection is used again.
                let _ = answer.bytes().await;
                let reason = || Reason::new(format!("http_{status}"), "as the sink says");
                match status {
                    200 => ItemOutcome::Delivered,
                    429 => ItemOutcome::Throttled { after, reason: reason() },
                    _ => ItemOutcome::Transient { after, reason: reason() },
                }
            }
            Err(error) => {
                let reason = Reason::new("network", error.without_url().to_string());
                ItemOutcome::Transient { after: None, reason }
            }
        };
        vec![outcome; events]
    }
}

fn joined(batch: &[Prepared]) -> Bytes {
    let bodies = batch.iter().flat_map(|prepared| &prepared.requests);
    let bodies = bodies.filter_map(|request| match &request.body {
        RequestBody::Json(body) => Some(body),
        _ => None,
    });
    if let [one] = bodies.clone().collect::<Vec<_>>()[..] {
        return one.clone();
    }
    let mut joined = BytesMut::with_capacity(bodies.clone().map(|body| body.len() + 1).sum());
    for body in bodies {
        joined.put_slice(body);
        joined.put_u8(b'\n');
    }
    joined.freeze()
}
