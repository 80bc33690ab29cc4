//! Sends requests and says what the answers mean.

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use hmac::{Hmac, Mac};
use millrace_connector::{ConnectorError, ErrorKind, HttpRequest, ItemOutcome, Prepared, RequestBody};
use millrace_event_model::Reason;
use millrace_service::SharedClock;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use sha2::Sha256;

use super::config::{Secrets, Settings, WebhookUrl};
use crate::destinations::guard::{AddressRefused, GuardedResolver};

/// An answer's body means nothing here. So much of it is read that the connection can be used again;
/// of a longer one the connection is dropped.
const MAX_DRAIN_BYTES: usize = 64 * 1024;

/// Longer than this no handshake takes that ends well.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The HTTP client of one webhook.
pub(super) struct Client {
    http: reqwest::Client,
    secrets: Secrets,
    host: String,
    clock: SharedClock,
}

impl Client {
    pub(super) fn new(settings: &Settings, clock: SharedClock) -> Result<Self, ConnectorError> {
        millrace_service::install_tls();
        let http = reqwest::Client::builder()
            .user_agent(concat!("Millrace/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Arc::new(GuardedResolver { allow_private: settings.allow_private }))
            // A redirect leads where no guard has looked, and Standard Webhooks calls it a failure.
            .redirect(reqwest::redirect::Policy::none())
            // A proxy resolves names itself, past the guard.
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT.min(settings.timeout.0))
            .timeout(settings.timeout.0)
            .build()
            .map_err(|error| {
                ConnectorError::pause("http_client", "the HTTP client cannot be made").caused_by(error)
            })?;
        let host = settings.url.host().to_owned();
        Ok(Self { http, secrets: settings.secret.clone(), host, clock })
    }

    /// Sends all requests of an item; the first that fails is its outcome.
    pub(super) async fn send_all(&self, prepared: &Prepared) -> ItemOutcome {
        for request in &prepared.requests {
            let outcome = self.send(&prepared.id, request).await;
            if outcome != ItemOutcome::Delivered {
                return outcome;
            }
        }
        ItemOutcome::Delivered
    }

    /// Signs and sends. The signature is made anew with each attempt, since receivers refuse old ones.
    async fn send(&self, id: &str, request: &HttpRequest) -> ItemOutcome {
        let RequestBody::Json(body) = &request.body else {
            return ItemOutcome::Rejected(Reason::new("unsupported_body", "a webhook sends JSON alone"));
        };
        let now = self.clock.now();
        let timestamp = now.timestamp().to_string();
        let mut post = self.http.post(&request.url).body(body.clone());
        for (name, value) in &request.headers {
            post = post.header(name, value);
        }
        post = post.header("webhook-id", id).header("webhook-timestamp", &timestamp);
        if let Some(signature) = sign(&self.secrets, id, &timestamp, body) {
            post = post.header("webhook-signature", signature);
        }
        match post.send().await {
            Ok(response) => {
                let status = response.status();
                let after = retry_after(response.headers(), now);
                drain(response).await;
                classify(status, after)
            }
            Err(error) => not_answered(&self.failure(error)),
        }
    }

    /// Whether something answers there. HEAD changes nothing, and any status proves that name,
    /// guard, network and TLS are in order.
    pub(super) async fn reach(&self, url: &WebhookUrl) -> Result<(), ConnectorError> {
        match self.http.head(url.as_str()).send().await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.failure(error)),
        }
    }

    /// Why there was no answer. The URL is taken out of the error: its path may be a secret.
    fn failure(&self, error: reqwest::Error) -> ConnectorError {
        let error = error.without_url();
        let host = &self.host;
        let (kind, code) = match &error {
            _ if is_refused_by_guard(&error) => (ErrorKind::Pause, "address_refused"),
            _ if error.is_builder() => (ErrorKind::Reject, "invalid_request"),
            _ if error.is_timeout() => (ErrorKind::Retry { after: None }, "timeout"),
            _ if error.is_connect() => (ErrorKind::Retry { after: None }, "connection_failed"),
            _ => (ErrorKind::Retry { after: None }, "network_error"),
        };
        ConnectorError::new(kind, code, format!("no answer from {host}")).caused_by(error)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("host", &self.host)
            .field("secrets", &self.secrets)
            .finish_non_exhaustive()
    }
}

/// What an answer means: all that decides what happens to an item next.
pub(super) fn classify(status: StatusCode, after: Option<Duration>) -> ItemOutcome {
    let reason = Reason::new(format!("http_{}", status.as_u16()), format!("the receiver answered {status}"));
    match status.as_u16() {
        200..=299 => ItemOutcome::Delivered,
        429 => ItemOutcome::Throttled { after, reason },
        // Busy, too early, or broken: it may be better later.
        408 | 425 | 500..=599 => ItemOutcome::Transient { after, reason },
        // The key is wrong: no item will pass until a person acts.
        401 | 403 => ItemOutcome::Auth(reason),
        // Gone: Standard Webhooks' way to say "stop sending".
        410 => ItemOutcome::Config(reason),
        413 => ItemOutcome::Oversize(reason),
        // Redirects among them: they are not followed.
        _ => ItemOutcome::Rejected(reason),
    }
}

fn not_answered(error: &ConnectorError) -> ItemOutcome {
    let reason = Reason::new(error.code.clone(), error.full());
    match error.kind {
        ErrorKind::Retry { after } => ItemOutcome::Transient { after, reason },
        ErrorKind::Reject => ItemOutcome::Rejected(reason),
        ErrorKind::Pause => ItemOutcome::Config(reason),
    }
}

/// Standard Webhooks: `v1,` and the HMAC-SHA256 of `id.timestamp.body` in base64, one for each secret,
/// separated by spaces. `None` without secrets.
fn sign(secrets: &Secrets, id: &str, timestamp: &str, body: &[u8]) -> Option<String> {
    let mut signatures = Vec::new();
    for key in secrets.keys() {
        // HMAC takes keys of any length: this cannot fail.
        let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        signatures.push(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())));
    }
    (!signatures.is_empty()).then(|| signatures.join(" "))
}

/// `Retry-After`: seconds, or a date (RFC 9110 §10.2.3). One that cannot be read is as good as none.
pub(super) fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = DateTime::parse_from_rfc2822(text).ok()?;
    Some((at.to_utc() - now).to_std().unwrap_or(Duration::ZERO))
}

async fn drain(mut response: Response) {
    let mut read = 0;
    while read < MAX_DRAIN_BYTES {
        match response.chunk().await {
            Ok(Some(chunk)) => read += chunk.len(),
            // What goes wrong after the status changes nothing about it.
            Ok(None) | Err(_) => return,
        }
    }
}

fn is_refused_by_guard(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if inner.is::<AddressRefused>() {
            return true;
        }
        cause = inner.source();
    }
    false
}
