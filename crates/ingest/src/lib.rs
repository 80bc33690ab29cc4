//! The door: HTTP events in, the topic `events.<lane>` out, in the protocol of RudderStack's gateway.
//!
//! A request is authenticated by write key, read within bounds, split into its events, put through its
//! source's privacy policy and published; the answer is 200 `ok` when **all** its events are on all
//! in-sync replicas, and not before. Whatever is only temporarily wrong is 503 with `Retry-After`, never
//! a 4xx, since every SDK drops events on 4xx.
//!
//! What the server decides about an event (type, message id, rudderId, times, address) goes into the
//! record's headers. The value is the client's JSON, byte for byte but for what the policy replaced.
//!
//! Invariants: nothing that the policy would mask leaves this process unmasked, in no topic and no log
//! line. No JSON tree is built. Memory is bounded: requests, their bytes after inflating and the
//! producer's queue each have a limit, and beyond it the answer is 503.
//!
//! Reading order: `routes.rs` (every path), `intake.rs` (one request from accept to answer), `envelope.rs`
//! (bytes to events, pure), `error.rs` (every refusal with its status and text), `server.rs` (connections),
//! `tls.rs`, `proxies.rs` and `rate.rs` (who may come in, and how often).

mod auth;
mod block;
mod body;
mod broker;
mod connections;
mod cors;
mod docs_page;
mod door;
mod envelope;
mod error;
mod forget;
mod geo;
mod http;
mod identity;
mod intake;
mod limits;
mod metrics;
mod options;
mod patience;
mod pixel;
mod place;
mod proxies;
mod rate;
mod routes;
mod sdk_config;
mod server;
mod service;
mod split;
mod tls;
mod webhook;

pub use block::BlockedEvents;
pub use envelope::{Envelope, Opened, Rules, Shape};
pub use error::{IngestError, Refusal};
pub use geo::{GeoError, Locator};
pub use limits::{LimitConflict, Limits};
pub use options::{Options, SourceOptions};
pub use rate::{Counted, RateLimit};
pub use service::Service;
pub use tls::{TlsError, TlsFile, TlsFiles};
