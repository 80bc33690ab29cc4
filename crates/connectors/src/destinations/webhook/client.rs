//! Sends requests and says what the answers mean.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use millrace_connector::{ConnectorError, HttpRequest, ItemOutcome, Prepared, RequestBody};
use millrace_event_model::Reason;
use millrace_service::SharedClock;
use reqwest::StatusCode;
use sha2::Sha256;

use super::config::{Secrets, Settings, WebhookUrl};
use crate::http::{self, Reach};

/// The HTTP client of one webhook.
pub(super) struct Client {
    http: http::Client,
    secrets: Secrets,
    host: String,
    clock: SharedClock,
}

impl Client {
    pub(super) fn new(settings: &Settings, clock: SharedClock) -> Result<Self, ConnectorError> {
        let reach = Reach {
            private: settings.allow_private.clone(),
            timeout: settings.timeout.0,
            hosts: Vec::new(),
            origin: None,
        };
        let http = http::Client::new(reach, clock.clone())?;
        let host = settings.url.host().to_owned();
        Ok(Self { http, secrets: settings.secret.clone(), host, clock })
    }

    /// Sends all requests of an item; the first that fails is its outcome.
    pub(super) async fn send_all(&self, prepared: &Prepared) -> ItemOutcome {
        let id = prepared.id.to_string();
        for request in &prepared.requests {
            let outcome = self.send(&id, request).await;
            if outcome != ItemOutcome::Delivered {
                return outcome;
            }
        }
        ItemOutcome::Delivered
    }

    /// Signs and sends. The signature is made anew with each attempt, since receivers refuse old ones.
    async fn send(&self, id: &str, request: &HttpRequest) -> ItemOutcome {
        let body: &[u8] = match &request.body {
            RequestBody::Json(body) => body,
            _ => &[],
        };
        let timestamp = self.clock.now().timestamp().to_string();
        let mut signed = vec![("webhook-id", id.to_owned()), ("webhook-timestamp", timestamp.clone())];
        if let Some(signature) = sign(&self.secrets, id, &timestamp, body) {
            signed.push(("webhook-signature", signature));
        }
        match self.http.send(request, &signed).await {
            Ok(answer) => classify(answer.status, answer.retry_after),
            Err(error) => http::unanswered(&error),
        }
    }

    /// Whether something answers there.
    pub(super) async fn reach(&self, url: &WebhookUrl) -> Result<(), ConnectorError> {
        self.http.reach(url.as_str()).await
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
pub(super) fn classify(status: u16, after: Option<Duration>) -> ItemOutcome {
    let name = StatusCode::from_u16(status).map_or_else(|_| status.to_string(), |known| known.to_string());
    let reason = Reason::new(format!("http_{status}"), format!("the receiver answered {name}"));
    match status {
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
