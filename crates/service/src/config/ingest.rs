//! The parts of `ingest:` that stand in the way of trouble, and the bound of one source.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::units::{Count, Period, Rate, Size};

/// The certificate of ingest. All files are PEM, relative to this file, and read again when they change: a
/// renewed certificate needs no restart. While new files cannot be used, the old certificate stays.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The server's certificate, followed by those between it and the root.
    pub certificate: PathBuf,
    /// Its private key: PKCS #8, SEC1 (EC) or PKCS #1 (RSA).
    pub key: PathBuf,
    /// Serve only clients with a certificate of one of these authorities.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
}

impl TlsConfig {
    pub(super) fn relative_to(&mut self, folder: &Path) {
        for path in [&mut self.certificate, &mut self.key].into_iter().chain(&mut self.client_ca) {
            *path = folder.join(&*path);
        }
    }
}

/// Bounds of ingest. What lies beyond is refused, never queued.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// A request's body, as received and after inflating: more is answered 413. By default 4096000, as in
    /// RudderStack.
    pub body_bytes: Option<Size>,
    /// One event: more is answered 413. By default, and at most, 900KiB.
    pub event_bytes: Option<Size>,
    /// Events of one request: more is answered 413. By default 10000.
    pub events_per_request: Option<Count>,
    /// Fields of one event, those of nested objects included: more is answered 400. By default 10000.
    pub fields_per_event: Option<Count>,
    /// Open connections: more wait until one is closed. By default 10000.
    pub connections: Option<Count>,
    /// Requests under way at once: more are answered 503. By default 1024.
    pub requests: Option<Count>,
    /// Bytes of the bodies of all requests under way: more are answered 503. By default 128MiB.
    pub bytes_in_flight: Option<Size>,
    /// Bytes that wait for Kafka: more are answered 503. By default 64MiB.
    pub queue_bytes: Option<Size>,
    /// A connection that takes longer over its TLS handshake, or to send a request's head, is cut. Whole
    /// seconds; by default 10s.
    pub head_timeout: Option<Period>,
    /// A body that takes longer to arrive is answered 503. By default 30s.
    pub body_timeout: Option<Period>,
    /// A connection without a request for longer is closed. Whole seconds; by default 75s, more than load
    /// balancers use.
    pub idle_timeout: Option<Period>,
    /// Kafka must have a request's events after this long, else it is answered 503. By default 4s.
    pub ack_timeout: Option<Period>,
    /// How long events wait to share a batch to Kafka: part of each request's time. By default 5ms, as with
    /// Kafka's own producers.
    pub linger: Option<Period>,
    /// After the order to stop, connections are still taken for so long: load balancers need a moment to hear.
    /// By default 500ms.
    pub lame_duck: Option<Period>,
    /// After that, requests under way have this long. By default 10s.
    pub drain: Option<Period>,
}

/// How much a source may send: `{ events: 1000/s }` or `{ requests: 100/s, burst: 500 }`. More is answered 429,
/// with the time after which to come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimitConfig {
    /// Events, however many come in a request. A batch that is larger than the burst passes when nothing else
    /// has been sent for a while, and is paid for: nothing else passes for as long as the rate allows for so many.
    #[serde(default)]
    pub events: Option<Rate>,
    /// Requests, whatever is in them; they are refused before their bodies are read.
    #[serde(default)]
    pub requests: Option<Rate>,
    /// How many may come at once after a pause. By default as many as the rate allows in its time: 1000 of
    /// 1000/s, 60 of 60/m.
    #[serde(default)]
    pub burst: Option<Count>,
}
