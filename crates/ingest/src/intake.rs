//! One request with events, from accept to answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use hyper::Request;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use millrace_bus::{BusError, Pending};
use uuid::Uuid;

use crate::auth::Source;
use crate::body::{self, Share};
use crate::door::Door;
use crate::envelope::{Envelope, Shape};
use crate::error::Refusal;
use crate::http::{self, Response};
use crate::metrics::Tally;
use crate::rate::Counted;
use crate::routes::{Entry, KeyIn, Takes};
use crate::{pixel, webhook};

/// Bodies from this size on are inflated, split and scanned on the blocking pool: they take over a
/// millisecond.
const BLOCKING_FROM_BYTES: usize = 128 * 1024;

pub(crate) async fn answer(
    door: &Arc<Door>,
    entry: &'static Entry,
    takes: Takes,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Response {
    let started = Instant::now();
    let mut source = None;
    let received = receive(door, entry, takes, peer, request, &mut source).await;
    let refused = received.map_err(|refusal| door.refuse(refusal, source.as_deref()));
    let response = match (takes, refused) {
        // An image is an image whatever became of its event.
        (Takes::Pixel(_), _) => http::image(pixel::GIF),
        (_, Ok(())) => http::accepted(),
        (_, Err(refusal)) => refusal,
    };
    door.durations.answered(entry.path, response.status().as_u16(), started.elapsed());
    response
}

/// Returns when all events of the request are stored.
async fn receive(
    door: &Arc<Door>,
    entry: &Entry,
    takes: Takes,
    peer: SocketAddr,
    request: Request<Incoming>,
    found: &mut Option<Arc<Source>>,
) -> Result<(), Refusal> {
    let (head, body) = request.into_parts();
    let sender = match door.sources.authenticate(entry, &head) {
        Err(Refusal::NoWriteKey) if entry.key == KeyIn::BasicOrBody => None,
        known => Some(known?),
    };
    found.clone_from(&sender);
    if let Some(source) = &sender {
        source.take(Counted::Requests, 1)?;
    }

    let mut share = door.budget.share();
    let received = body::receive(body, door.limits.body_bytes, &mut share);
    let body = door.patience.wait_for(received).await?;
    // Not before: those who send slowly would keep the others out.
    let _under_way = door.requests.try_acquire().map_err(|_| Refusal::Overloaded)?;
    let arrived = Arrived {
        body,
        gzip: body::is_gzip(&head.headers),
        address: door.proxies.client(&head.headers, peer).to_string(),
        sender,
        takes,
        head,
        share,
    };
    // The share of the budget is held until the events are acked.
    let (source, pending, tally, _share) = store(door, arrived).await?;
    match pending.acked().await {
        // All of its events may have been dropped: then nobody has asked the broker.
        Ok(acked) if acked.count() == 0 => {}
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
    /// None: the key is in the body.
    sender: Option<Arc<Source>>,
    takes: Takes,
    head: Parts,
    body: Bytes,
    gzip: bool,
    address: String,
    share: Share,
}

/// Events on their way, from where, what to count once they are acked, and the memory that they take.
type Stored = (Arc<Source>, Pending, Tally, Share);

/// Hands a request's events to the producer.
async fn store(door: &Arc<Door>, arrived: Arrived) -> Result<Stored, Refusal> {
    if expected_size(&arrived) < BLOCKING_FROM_BYTES {
        return store_here(door, arrived);
    }
    // It is never closed. Whoever has hung up meanwhile gives the turn back.
    let turn = Arc::clone(&door.turns).acquire_owned().await.map_err(|_| Refusal::Overloaded)?;
    let door = Arc::clone(door);
    let stored = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        store_here(&door, arrived)
    });
    // It does not fail but by a panic, which must not pass anything on.
    stored.await.unwrap_or(Err(Refusal::Unmaskable))
}

/// Of the body when it is inflated: what it says itself, but at least what is usual.
fn expected_size(arrived: &Arrived) -> usize {
    let received = arrived.body.len();
    if !arrived.gzip {
        return received;
    }
    body::promised_size(&arrived.body).unwrap_or(0).max(received * 6)
}

fn store_here(door: &Door, arrived: Arrived) -> Result<Stored, Refusal> {
    let Arrived { sender, takes, head, mut body, gzip, address, mut share } = arrived;
    if gzip {
        body = body::inflate(&body, door.limits.body_bytes, &mut share)?;
    }
    let source = match sender {
        Some(source) => source,
        None => {
            let source = door.sources.authenticate_body(&body, &head)?;
            source.take(Counted::Requests, 1)?;
            source
        }
    };
    let suppressions = door.forgotten.users()?;
    let received_at = door.clock.now();
    let (shape, body) = match takes {
        Takes::Body(shape) => (shape, body),
        Takes::Pixel(event_type) => {
            let query = head.uri.query().unwrap_or_default();
            let event = pixel::event(event_type, query, received_at).ok_or(Refusal::NoEventName)?;
            (Shape::Single(event_type), event.into())
        }
        Takes::Webhook => {
            let event = webhook::event(&head.headers, &body, door.limits.fields_per_event, Uuid::new_v4())?;
            (Shape::Single(webhook::EVENT_TYPE), event.into())
        }
    };
    let envelope = Envelope {
        shape,
        rules: &source.rules,
        limits: &door.limits,
        keys: &door.keys,
        suppressions: &suppressions,
        locator: door.locator.as_deref(),
        received_at,
        address: &address,
        traceparent: http::traceparent(&head.headers),
    };
    let opened = envelope.open(&body, Uuid::new_v4)?;
    source.take(Counted::Events, opened.count())?;
    let pending =
        door.publisher.enqueue(&source.topic, opened.events()).map_err(|error| not_stored(door, &error))?;
    let tally = Tally::of(opened);
    Ok((source, pending, tally, share))
}
