//! One request with events, from accept to answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use hyper::Request;
use hyper::body::Incoming;
use millrace_bus::{BusError, Pending};
use uuid::Uuid;

use crate::auth::Source;
use crate::body::{self, Share};
use crate::door::Door;
use crate::envelope::{Envelope, Shape};
use crate::error::Refusal;
use crate::http::{self, Response};
use crate::metrics::Tally;
use crate::routes::Intake;

/// Bodies from this size on are inflated, split and scanned on the blocking pool: they take over a
/// millisecond.
const BLOCKING_FROM_BYTES: usize = 128 * 1024;

pub(crate) async fn answer(
    door: &Arc<Door>,
    intake: Intake,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Response {
    let started = Instant::now();
    let mut source = None;
    let response = match receive(door, intake, peer, request, &mut source).await {
        Ok(()) => http::accepted(),
        Err(refusal) => {
            door.refusals.refused(refusal, source.as_deref(), door.clock.now());
            http::refused(refusal)
        }
    };
    door.durations.answered(intake.path, response.status().as_u16(), started.elapsed());
    response
}

/// Returns when all events of the request are stored.
async fn receive(
    door: &Arc<Door>,
    intake: Intake,
    peer: SocketAddr,
    request: Request<Incoming>,
    found: &mut Option<Arc<Source>>,
) -> Result<(), Refusal> {
    let _under_way = door.requests.try_acquire().map_err(|_| Refusal::Overloaded)?;
    let (head, body) = request.into_parts();
    let source = door.sources.authenticate(intake.key, &head)?;
    *found = Some(Arc::clone(&source));

    let mut share = door.budget.share();
    let received = body::receive(body, door.limits.body_bytes, &mut share);
    let body =
        tokio::time::timeout(door.limits.body_timeout, received).await.map_err(|_| Refusal::Slow)??;
    let arrived = Arrived {
        source: Arc::clone(&source),
        shape: intake.shape,
        body,
        gzip: body::is_gzip(&head.headers),
        address: http::client_address(&head.headers, peer),
        traceparent: http::traceparent(&head.headers).map(str::to_owned),
        share,
    };
    // The share of the budget is held until the events are acked.
    let (pending, tally, _share) = store(door, arrived).await?;
    match pending.acked().await {
        Ok(_) => door.broker.answered(),
        Err(error) => return Err(not_stored(door, &error)),
    }
    source.counters.accepted(&tally);
    Ok(())
}

fn not_stored(door: &Door, error: &BusError) -> Refusal {
    let refusal = Refusal::of_publish(error);
    if refusal == Refusal::NotStored {
        door.broker.failed(error);
    }
    refusal
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

/// Events on their way, what to count once they are acked, and the memory that they take.
type Stored = (Pending, Tally, Share);

/// Hands a request's events to the producer.
async fn store(door: &Arc<Door>, arrived: Arrived) -> Result<Stored, Refusal> {
    // Inflated, a body is about six times as large.
    let size = if arrived.gzip { arrived.body.len() * 6 } else { arrived.body.len() };
    if size < BLOCKING_FROM_BYTES {
        return store_here(door, arrived);
    }
    let door = Arc::clone(door);
    // It does not fail but by a panic, which must not pass anything on.
    tokio::task::spawn_blocking(move || store_here(&door, arrived)).await.unwrap_or(Err(Refusal::Unmaskable))
}

fn store_here(door: &Door, arrived: Arrived) -> Result<Stored, Refusal> {
    let Arrived { source, shape, mut body, gzip, address, traceparent, mut share } = arrived;
    if gzip {
        body = body::inflate(&body, door.limits.body_bytes, &mut share)?;
    }
    let envelope = Envelope {
        shape,
        rules: &source.rules,
        limits: &door.limits,
        keys: &door.keys,
        received_at: door.clock.now(),
        address: &address,
        traceparent: traceparent.as_deref(),
    };
    let opened = envelope.open(&body, Uuid::new_v4)?;
    let pending =
        door.publisher.enqueue(&source.topic, opened.events()).map_err(|error| not_stored(door, &error))?;
    Ok((pending, Tally::of(opened), share))
}
