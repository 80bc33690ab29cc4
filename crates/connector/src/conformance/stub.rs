//! An HTTP server that answers by script, on a free port of the loopback: the other side of an HTTP
//! destination in tests.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

/// Bodies longer than this are answered with 413.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

/// One answer of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// Takes the request and never answers.
    pub never: bool,
    /// How long it takes.
    pub after: Duration,
}

impl Reply {
    /// A status, without a body.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), never: false, after: Duration::ZERO }
    }

    /// With a body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// So long after the request.
    #[must_use]
    pub fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }

    /// No answer at all.
    #[must_use]
    pub fn never() -> Self {
        Self { never: true, ..Self::status(200) }
    }
}

/// One request that came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The verb.
    pub method: String,
    /// The path.
    pub path: String,
    /// The query as it was written; empty without one.
    pub query: String,
    /// Headers, names lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

impl Seen {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether another request is this one over again, whatever its headers say.
    #[must_use]
    pub fn asks_the_same(&self, other: &Self) -> bool {
        let asked = |seen: &Self| (seen.method.clone(), seen.path.clone(), seen.query.clone());
        asked(self) == asked(other) && self.body == other.body
    }

    /// The body as JSON; `null` where it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// The server. It stops when it is dropped.
#[derive(Debug)]
pub struct Stub {
    base: String,
    script: Arc<Script>,
    server: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Script {
    replies: Mutex<VecDeque<Reply>>,
    otherwise: Mutex<Reply>,
    refused: Mutex<Vec<Seen>>,
    seen: Mutex<Vec<Seen>>,
}

impl Stub {
    /// Starts it. It answers in the order of the script, and with 200 when that is over.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn start(replies: impl IntoIterator<Item = Reply>) -> io::Result<Self> {
        let script = Arc::new(Script {
            replies: Mutex::new(replies.into_iter().collect()),
            otherwise: Mutex::new(Reply::status(200)),
            refused: Mutex::default(),
            seen: Mutex::default(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let base = format!("http://{}", listener.local_addr()?);
        let app = Router::new()
            .fallback(answer)
            .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
            .with_state(Arc::clone(&script));
        let server = tokio::spawn(async move {
            // It ends with the task alone.
            let _ended = axum::serve(listener, app).await;
        });
        Ok(Self { base, script, server })
    }

    /// `http://127.0.0.1:port`.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Answers this when the script is over.
    pub fn otherwise(&self, reply: Reply) {
        *lock(&self.script.otherwise) = reply;
    }

    /// Puts answers at the end of the script.
    pub fn then(&self, replies: impl IntoIterator<Item = Reply>) {
        lock(&self.script.replies).extend(replies);
    }

    /// Answers 422 to these very requests, whatever the script says.
    pub fn refuse(&self, requests: Vec<Seen>) {
        *lock(&self.script.refused) = requests;
    }

    /// All requests that came, in their order.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.script.seen).clone()
    }

    /// Forgets requests and script.
    pub fn clear(&self) {
        lock(&self.script.seen).clear();
        lock(&self.script.replies).clear();
        lock(&self.script.refused).clear();
        *lock(&self.script.otherwise) = Reply::status(200);
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A test that panicked with the lock leaves a list as good as before.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(
    State(script): State<Arc<Script>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let text = |value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
    let (path, query) = (uri.path().to_owned(), uri.query().unwrap_or_default().to_owned());
    let asked = Seen { method: method.to_string(), path, query, headers, body };
    let refused = lock(&script.refused).iter().any(|refused| refused.asks_the_same(&asked));
    lock(&script.seen).push(asked);
    if refused {
        return StatusCode::UNPROCESSABLE_ENTITY.into_response();
    }
    let next = lock(&script.replies).pop_front();
    let reply = next.unwrap_or_else(|| lock(&script.otherwise).clone());
    tokio::time::sleep(reply.after).await;
    if reply.never {
        std::future::pending::<()>().await;
    }
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, reply.body).into_response();
    for (name, value) in &reply.headers {
        if let (Ok(name), Ok(value)) =
            (axum::http::HeaderName::try_from(name), axum::http::HeaderValue::try_from(value))
        {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
