//! The stage: routes, and one request from accept to answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use millrace_bus::{Bus, Publisher, PublisherOptions};
use millrace_event_model::{EventType, KeyHasher};
use millrace_service::{Health, SharedClock, Stop};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::auth::{Source, Sources};
use crate::body::{self, Budget, Share};
use crate::broker::Broker;
use crate::envelope::{Envelope, Opened, Shape};
use crate::error::Refusal;
use crate::metrics::{self, Refusals};
use crate::{IngestError, Limits, Options, http};

/// The events' routes. `import` takes what `batch` takes.
const ROUTES: [(&str, Shape); 9] = [
    ("/v1/identify", Shape::Single(EventType::Identify)),
    ("/v1/track", Shape::Single(EventType::Track)),
    ("/v1/page", Shape::Single(EventType::Page)),
    ("/v1/screen", Shape::Single(EventType::Screen)),
    ("/v1/group", Shape::Single(EventType::Group)),
    ("/v1/alias", Shape::Single(EventType::Alias)),
    ("/v1/merge", Shape::Single(EventType::Merge)),
    ("/v1/batch", Shape::Batch),
    ("/v1/import", Shape::Batch),
];

/// Bodies from this size on are inflated, split and scanned on the blocking pool: they take over a
/// millisecond.
const BLOCKING_FROM_BYTES: usize = 128 * 1024;

/// The stage, ready to run.
pub struct Service {
    listener: TcpListener,
    bus: Bus,
    door: Arc<Door>,
}

/// What all requests share.
struct Door {
    sources: Sources,
    publisher: Publisher,
    broker: Broker,
    limits: Limits,
    keys: KeyHasher,
    clock: SharedClock,
    requests: Semaphore,
    budget: Budget,
    refusals: Refusals,
    version: String,
    /// Of any source: by it the broker is asked whether it is there.
    topic: Option<String>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl Service {
    /// Makes the producer; connects to nothing yet. The topics of the sources' lanes must have been
    /// provisioned by the time of the first request.
    ///
    /// # Errors
    /// Two sources share a write key, or the bus's settings are invalid.
    pub fn new(
        options: Options,
        bus: Bus,
        keys: KeyHasher,
        clock: SharedClock,
        health: &Health,
    ) -> Result<Self, IngestError> {
        let limits = options.limits;
        let publisher = bus
            .publisher(PublisherOptions {
                linger: limits.linger,
                delivery_timeout: limits.ack_timeout,
                queue_bytes: limits.queue_bytes,
                ..PublisherOptions::default()
            })
            .map_err(IngestError::Bus)?;
        let sources = Sources::new(options.sources, bus.workspace(), keys.clone())?;
        let door = Arc::new(Door {
            topic: sources.any_topic(),
            sources,
            publisher,
            broker: Broker::new(health.component("ingest")),
            requests: Semaphore::new(limits.requests),
            budget: Budget::new(limits.bytes_in_flight),
            refusals: Refusals::default(),
            version: options.version,
            limits,
            keys,
            clock,
        });
        Ok(Self { listener: options.listener, bus, door })
    }

    /// Serves until the stop is requested, then answers what is under way.
    ///
    /// # Errors
    /// The listener failed, or events were still unacked at the end.
    pub async fn run(self, stop: Stop) -> Result<(), IngestError> {
        let Self { listener, bus, door } = self;
        if let Ok(address) = listener.local_addr() {
            tracing::info!(%address, "receiving events");
        }
        let app = router(Arc::clone(&door)).into_make_service_with_connect_info::<SocketAddr>();
        let stopped = stop.clone();
        let server = axum::serve(listener, app)
            .with_graceful_shutdown(async move { stopped.requested().await })
            .into_future();
        let overdue = async {
            stop.requested().await;
            tokio::time::sleep(door.limits.drain).await;
        };
        tokio::select! {
            served = server => served.map_err(IngestError::Listener)?,
            () = overdue => tracing::warn!("some clients did not finish their requests in time"),
            () = door.broker.watch(&bus, door.topic.as_deref()) => {}
        }
        door.publisher.flush().await.map_err(IngestError::Drain)?;
        tracing::info!("all accepted events are stored");
        Ok(())
    }
}

fn router(door: Arc<Door>) -> Router {
    let mut router = Router::new()
        .route("/health", get(health))
        .route("/", get(health))
        .route("/version", get(version))
        .route("/robots.txt", get(async || http::text("User-agent: * \nDisallow: / \n")));
    for (path, shape) in ROUTES {
        let handler = async move |State(door): State<Arc<Door>>, ConnectInfo(peer), request: Request| {
            answer(&door, path, shape, peer, request).await
        };
        router = router.route(path, post(handler));
    }
    router.fallback(async || http::not_found()).with_state(door)
}

async fn answer(
    door: &Arc<Door>,
    path: &'static str,
    shape: Shape,
    peer: SocketAddr,
    request: Request,
) -> Response {
    let started = Instant::now();
    let mut source = None;
    let response = match receive(door, shape, peer, request, &mut source).await {
        Ok(()) => http::accepted(),
        Err(refusal) => {
            door.refusals.refused(refusal, source.as_deref(), door.clock.now());
            http::refused(refusal)
        }
    };
    metrics::answered(path, response.status().as_u16(), started.elapsed());
    response
}

/// Returns when all events of the request are stored.
async fn receive(
    door: &Arc<Door>,
    shape: Shape,
    peer: SocketAddr,
    request: Request,
    found: &mut Option<Arc<Source>>,
) -> Result<(), Refusal> {
    let _under_way = door.requests.try_acquire().map_err(|_| Refusal::Overloaded)?;
    let (head, body) = request.into_parts();
    let source = door.sources.authenticate(&head.headers)?;
    *found = Some(Arc::clone(&source));

    let mut share = door.budget.share();
    let received = body::receive(body, door.limits.body_bytes, &mut share);
    let body =
        tokio::time::timeout(door.limits.body_timeout, received).await.map_err(|_| Refusal::Slow)??;
    let arrived = Arrived {
        source: Arc::clone(&source),
        shape,
        body,
        gzip: body::is_gzip(&head.headers),
        address: http::client_address(&head.headers, peer),
        traceparent: http::traceparent(&head.headers).map(str::to_owned),
        share,
    };
    // The share of the budget is held until the events are acked.
    let (opened, _share) = open(door, arrived).await?;
    match door.publisher.publish(&source.topic, &opened.events).await {
        Ok(_) => door.broker.answered(),
        Err(error) => {
            let refusal = Refusal::of_publish(&error);
            if refusal == Refusal::NotStored {
                door.broker.failed(&error);
            }
            return Err(refusal);
        }
    }
    metrics::accepted(&source, &opened);
    Ok(())
}

/// A request that is here as a whole.
struct Arrived {
    source: Arc<Source>,
    shape: Shape,
    body: Bytes,
    gzip: bool,
    address: String,
    traceparent: Option<String>,
    share: Share,
}

async fn open(door: &Arc<Door>, arrived: Arrived) -> Result<(Opened, Share), Refusal> {
    // Inflated, a body is about six times as large.
    let size = if arrived.gzip { arrived.body.len() * 6 } else { arrived.body.len() };
    if size < BLOCKING_FROM_BYTES {
        return open_here(door, arrived);
    }
    let door = Arc::clone(door);
    // It does not fail but by a panic, which must not pass anything on.
    tokio::task::spawn_blocking(move || open_here(&door, arrived)).await.unwrap_or(Err(Refusal::Unmaskable))
}

fn open_here(door: &Door, arrived: Arrived) -> Result<(Opened, Share), Refusal> {
    let Arrived { source, shape, mut body, gzip, address, traceparent, mut share } = arrived;
    if gzip {
        body = body::inflate(&body, door.limits.body_bytes, &mut share)?;
    }
    let envelope = Envelope {
        shape,
        source: &source,
        limits: &door.limits,
        keys: &door.keys,
        received_at: door.clock.now(),
        address: &address,
        traceparent: traceparent.as_deref(),
    };
    Ok((envelope.open(&body, Uuid::new_v4)?, share))
}

/// Liveness in RudderStack's form, for probes that were written for it.
async fn health(State(door): State<Arc<Door>>) -> Response {
    if !door.broker.answers() {
        return http::error(StatusCode::SERVICE_UNAVAILABLE, "Cannot connect to db");
    }
    http::json(&serde_json::json!({
        "appType": "GATEWAY",
        "server": "UP",
        "db": "UP",
        "acceptingEvents": "TRUE",
        "routingEvents": "TRUE",
        "mode": "NORMAL",
    }))
}

async fn version(State(door): State<Arc<Door>>) -> Response {
    http::json(&serde_json::json!({ "Version": door.version }))
}
