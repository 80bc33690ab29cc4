//! What the binary tells the stage.

use std::time::Duration;

use ipnet::IpNet;
use millrace_event_model::topics::MAX_EVENT_BYTES;
use millrace_event_model::{DestinationId, Lane, SourceId};
use millrace_privacy::Scanner;
use millrace_service::Secret;
use tokio::net::TcpListener;

use crate::{RateLimit, TlsFiles};

/// The stage's settings.
#[derive(Debug)]
pub struct Options {
    /// Bound already, so that whoever asked for port 0 knows the port.
    pub listener: TcpListener,
    /// All sources of kind `http`.
    pub sources: Vec<SourceOptions>,
    /// What is too much.
    pub limits: Limits,
    /// Named by `/version`.
    pub version: String,
    /// By which browsers reach ingest. Without it, the address by which they have asked.
    pub public_url: Option<String>,
    /// Answer `/internal/v1/*`, of which some have no key.
    pub internal: bool,
    /// Without it, plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Networks whose `X-Forwarded-For` is believed; none: the client is the other end of the connection.
    pub trusted_proxies: Vec<IpNet>,
}

impl Options {
    /// The usual limits, and nothing that must be asked for.
    #[must_use]
    pub fn new(listener: TcpListener, sources: Vec<SourceOptions>) -> Self {
        Self {
            listener,
            sources,
            limits: Limits::default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            public_url: None,
            internal: false,
            tls: None,
            trusted_proxies: Vec::new(),
        }
    }
}

/// One source of events.
#[derive(Debug, Clone)]
pub struct SourceOptions {
    /// Its name in the config.
    pub id: SourceId,
    /// Two are valid while a key is being rotated.
    pub write_keys: Vec<Secret>,
    /// Off: its requests are answered with 404, and SDKs stop sending.
    pub enabled: bool,
    /// The topic that it writes to.
    pub lane: Lane,
    /// Its privacy policy; without one, everything is kept.
    pub scanner: Option<Scanner>,
    /// Names the policy in each event's header.
    pub policy_version: Option<String>,
    /// It takes any payload at `/v1/webhook`.
    pub webhook: bool,
    /// It takes the events of another source again, by its name alone.
    pub replay: bool,
    /// How much it may send; without one, as much as the limits of the whole allow.
    pub rate_limit: Option<RateLimit>,
    /// The pages that may send, such as `https://www.example.com`; none named: all.
    pub origins: Vec<String>,
    /// The destinations that it is connected to, and whether each is on.
    pub destinations: Vec<(DestinationId, bool)>,
}

impl SourceOptions {
    /// A source that is on, keeps everything, and has no key yet.
    #[must_use]
    pub fn new(id: SourceId) -> Self {
        Self {
            id,
            write_keys: Vec::new(),
            enabled: true,
            lane: Lane::main(),
            scanner: None,
            policy_version: None,
            webhook: false,
            replay: false,
            rate_limit: None,
            origins: Vec::new(),
            destinations: Vec::new(),
        }
    }
}

/// Bounds. What lies beyond is answered, never queued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// A request's body, as received and after inflating. More is 413.
    pub body_bytes: usize,
    /// One event. More is 413: the record would not fit the topic.
    pub event_bytes: usize,
    /// Fields of one event, those of nested objects included. More is 400.
    pub fields_per_event: usize,
    /// Events of one request. More is 413: a request that can never fit the producer's queue would be
    /// retried for ever.
    pub events_per_request: usize,
    /// Open connections. More wait in the kernel's backlog.
    pub connections: usize,
    /// A connection that takes longer over its handshake, or to send a request's head, is cut; whole seconds.
    pub head_timeout: Duration,
    /// A connection without a request for longer is closed; whole seconds. More than proxies use.
    pub idle_timeout: Duration,
    /// Requests under way at once. More are answered 503.
    pub requests: usize,
    /// Bytes of bodies under way at once, received and inflated together. More are answered 503.
    pub bytes_in_flight: usize,
    /// A body must have arrived after this long, else 503.
    pub body_timeout: Duration,
    /// The events of a request must be acked after this long, else 503.
    pub ack_timeout: Duration,
    /// Bytes waiting in the producer.
    pub queue_bytes: usize,
    /// How long events wait to share a batch to the broker: part of every request's time.
    pub linger: Duration,
    /// After the order to stop, connections are still taken for so long: load balancers need a moment to hear.
    pub lame_duck: Duration,
    /// After that, requests under way have this long.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // RudderStack's 4000 KB.
            body_bytes: 4_096_000,
            event_bytes: MAX_EVENT_BYTES,
            fields_per_event: 10_000,
            events_per_request: 10_000,
            connections: 10_000,
            head_timeout: Duration::from_secs(10),
            // Above the 60 s after which common load balancers let go of a connection, so that they do first.
            idle_timeout: Duration::from_secs(75),
            requests: 1024,
            bytes_in_flight: 128 * 1024 * 1024,
            body_timeout: Duration::from_secs(30),
            // A client hears 503 within five seconds.
            ack_timeout: Duration::from_secs(4),
            queue_bytes: 64 * 1024 * 1024,
            linger: Duration::from_millis(1),
            lame_duck: Duration::from_millis(500),
            drain: Duration::from_secs(10),
        }
    }
}
