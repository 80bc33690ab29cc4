//! The demo's business tool: an HTTP server on loopback that checks signatures and keeps what it got, so
//! that the report counts what arrived and not what was sent.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use millrace_service::Stop;
use serde_json::Value;
use sha2::Sha256;
use tokio::net::TcpListener;

/// Every so many first tries are answered with 500, so that the demo shows a retry.
const FAIL_EVERY: usize = 25;

/// What arrived.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// Bodies by webhook-id: a repetition does not count twice.
    pub(crate) accepted: BTreeMap<String, Value>,
    /// Requests that were answered with 500 on purpose.
    pub(crate) refused: usize,
    /// Requests whose signature did not match.
    pub(crate) badly_signed: usize,
    requests: usize,
}

/// A running receiver.
#[derive(Debug, Clone)]
pub(crate) struct Receiver {
    address: SocketAddr,
    received: Arc<Mutex<Received>>,
}

#[derive(Clone)]
struct Shared {
    secret: Arc<Vec<u8>>,
    received: Arc<Mutex<Received>>,
}

impl Receiver {
    /// Listens on a free port until the stop. `secret` is the decoded webhook secret.
    ///
    /// # Errors
    /// No port is free.
    pub(crate) async fn start(secret: Vec<u8>, stop: Stop) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let received = Arc::new(Mutex::new(Received::default()));
        let shared = Shared { secret: Arc::new(secret), received: Arc::clone(&received) };
        let router = Router::new().route("/in", post(take)).with_state(shared);
        tokio::spawn(async move {
            let served =
                axum::serve(listener, router).with_graceful_shutdown(async move { stop.requested().await });
            if let Err(error) = served.await {
                tracing::warn!(%error, "the demo's receiver stopped");
            }
        });
        Ok(Self { address, received })
    }

    /// Where to send to.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/in", self.address)
    }

    /// Looks at what arrived so far.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Received) -> T) -> T {
        look(&self.received.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn take(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let mut received = shared.received.lock().unwrap_or_else(PoisonError::into_inner);
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let id = header("webhook-id").to_owned();
    if !signed(&shared.secret, &id, header("webhook-timestamp"), header("webhook-signature"), &body) {
        received.badly_signed += 1;
        return StatusCode::UNAUTHORIZED;
    }
    received.requests += 1;
    if received.requests.is_multiple_of(FAIL_EVERY) {
        received.refused += 1;
        return StatusCode::INTERNAL_SERVER_ERROR;
    }
    received.accepted.insert(id, serde_json::from_slice(&body).unwrap_or_default());
    StatusCode::NO_CONTENT
}

/// Standard Webhooks: one of the signatures is the HMAC-SHA256 of `id.timestamp.body`.
fn signed(secret: &[u8], id: &str, timestamp: &str, signatures: &str, body: &[u8]) -> bool {
    signatures.split(' ').filter_map(|one| one.strip_prefix("v1,")).any(|encoded| {
        let Ok(signature) = STANDARD.decode(encoded) else { return false };
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return false };
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        mac.verify_slice(&signature).is_ok()
    })
}
