//! What the binary tells the stage.

use ipnet::IpNet;
use millrace_event_model::{DestinationId, Lane, SourceId};
use millrace_privacy::Scanner;
use millrace_service::Secret;
use tokio::net::TcpListener;

use crate::{BlockedEvents, Limits, Locator, RateLimit, TlsFiles};

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
    /// Knows where clients are; without it nobody is located.
    pub locator: Option<Locator>,
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
            locator: None,
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
    /// Events that it does not want.
    pub blocked: BlockedEvents,
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
            blocked: BlockedEvents::default(),
            webhook: false,
            replay: false,
            rate_limit: None,
            origins: Vec::new(),
            destinations: Vec::new(),
        }
    }
}
