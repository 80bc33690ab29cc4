//! A receiver that answers by script, and a destination that really POSTs to it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use millrace_connector::{
    ConnectorError, Destination, HttpRequest, Item, ItemOutcome, Limits, Payload, Prepared, RequestBody,
};
use millrace_event_model::Reason;

/// One request as it came in.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// The idempotency key.
    pub(crate) id: String,
    /// The body, which the tests use as the item's name.
    pub(crate) body: String,
    pub(crate) at: Instant,
}

/// What the receiver does with an item: by its body and how often it came before.
pub(crate) type Answers = dyn Fn(&str, usize) -> Answer + Send + Sync;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Status(u16),
    /// 429 with so many seconds.
    TooMany(u64),
    /// Takes so long, then 200.
    Slow(Duration),
    Never,
}

#[derive(Clone)]
pub(crate) struct Receiver(Arc<Inner>);

struct Inner {
    url: String,
    answers: Mutex<Arc<Answers>>,
    requests: Mutex<Vec<Request>>,
    /// How often each body came.
    times: Mutex<HashMap<String, usize>>,
    under_way: Mutex<HashMap<String, usize>>,
    overlapped: Mutex<Vec<String>>,
}

impl Receiver {
    pub(crate) async fn start(answers: impl Fn(&str, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let inner = Inner {
            url,
            answers: Mutex::new(Arc::new(answers)),
            requests: Mutex::default(),
            times: Mutex::default(),
            under_way: Mutex::default(),
            overlapped: Mutex::default(),
        };
        let receiver = Self(Arc::new(inner));
        let app = Router::new().fallback(answer).with_state(receiver.clone());
        // Ends with the test's runtime.
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        receiver
    }

    /// Says 200 to everything.
    pub(crate) async fn willing() -> Self {
        Self::start(|_, _| Answer::Status(200)).await
    }

    pub(crate) fn now_answers(&self, answers: impl Fn(&str, usize) -> Answer + Send + Sync + 'static) {
        *self.0.answers.lock().unwrap() = Arc::new(answers);
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.0.requests.lock().unwrap().clone()
    }

    /// The bodies, in the order of arrival.
    pub(crate) fn bodies(&self) -> Vec<String> {
        self.requests().into_iter().map(|request| request.body).collect()
    }

    /// How often a body came.
    pub(crate) fn times(&self, body: &str) -> usize {
        self.0.times.lock().unwrap().get(body).copied().unwrap_or_default()
    }

    /// How many different bodies came.
    pub(crate) fn distinct(&self) -> usize {
        self.0.times.lock().unwrap().len()
    }

    /// Keys of which two items were under way at once: none, ever.
    pub(crate) fn overlapped(&self) -> Vec<String> {
        self.0.overlapped.lock().unwrap().clone()
    }

    /// A destination that sends here.
    pub(crate) fn destination(&self) -> Arc<Post> {
        millrace_service::install_tls();
        Arc::new(Post { url: self.0.url.clone(), client: reqwest::Client::new() })
    }
}

async fn answer(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> Response {
    let text = |name: &str| headers[name].to_str().unwrap().to_owned();
    let (id, key) = (text("x-id"), text("x-key"));
    let body = String::from_utf8(body.to_vec()).unwrap();
    let before = receiver.times(&body);
    *receiver.0.times.lock().unwrap().entry(body.clone()).or_default() += 1;
    receiver.0.requests.lock().unwrap().push(Request { id, body: body.clone(), at: Instant::now() });
    let _under_way = UnderWay::begin(&receiver, key, &body);
    let answers = Arc::clone(&receiver.0.answers.lock().unwrap());
    match answers(&body, before) {
        Answer::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Answer::TooMany(seconds) => {
            (StatusCode::TOO_MANY_REQUESTS, [("retry-after", seconds.to_string())]).into_response()
        }
        Answer::Slow(time) => {
            tokio::time::sleep(time).await;
            StatusCode::OK.into_response()
        }
        Answer::Never => std::future::pending().await,
    }
}

/// Counts a key's requests; over when the answer is given or the client has hung up.
struct UnderWay {
    receiver: Receiver,
    key: String,
}

impl UnderWay {
    fn begin(receiver: &Receiver, key: String, body: &str) -> Self {
        let mut under_way = receiver.0.under_way.lock().unwrap();
        let count = under_way.entry(key.clone()).or_default();
        *count += 1;
        if *count > 1 {
            receiver.0.overlapped.lock().unwrap().push(body.to_owned());
        }
        Self { receiver: receiver.clone(), key }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        *self.receiver.0.under_way.lock().unwrap().get_mut(&self.key).unwrap() -= 1;
    }
}

/// POSTs an item's body with its key and id.
pub(crate) struct Post {
    url: String,
    client: reqwest::Client,
}

#[async_trait]
impl Destination for Post {
    async fn check(&self) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn limits(&self) -> Limits {
        Limits::single(8, Duration::from_secs(5))
    }

    fn transform(&self, item: &Item) -> Result<Vec<HttpRequest>, Reason> {
        let body = match &item.payload {
            Payload::Event(event) => event.body.clone(),
            Payload::Change(change) => change.body.clone(),
            Payload::Document(_) => unreachable!("only previews have it"),
        };
        Ok(vec![HttpRequest {
            method: "POST".to_owned(),
            url: self.url.clone(),
            headers: vec![("x-key".to_owned(), item.key.to_hex())],
            query: Vec::new(),
            body: RequestBody::Json(body),
        }])
    }

    async fn deliver(&self, batch: Vec<Prepared>) -> Vec<ItemOutcome> {
        let mut outcomes = Vec::new();
        for prepared in batch {
            let request = &prepared.requests[0];
            let RequestBody::Json(body) = &request.body else { panic!("only JSON") };
            let post = self.client.post(&request.url).header("x-id", prepared.id.to_string());
            let post = post.header("x-key", request.headers[0].1.as_str()).body(body.clone());
            outcomes.push(match post.send().await {
                Ok(response) => outcome(&response),
                Err(_) => ItemOutcome::Transient { after: None, reason: Reason::new("network", "no answer") },
            });
        }
        outcomes
    }
}

fn outcome(response: &reqwest::Response) -> ItemOutcome {
    let status = response.status().as_u16();
    let reason = Reason::new(format!("http_{status}"), "as the test says");
    let after = response.headers().get("retry-after");
    let after = after.map(|seconds| Duration::from_secs(seconds.to_str().unwrap().parse().unwrap()));
    match status {
        200 => ItemOutcome::Delivered,
        401 => ItemOutcome::Auth(reason),
        400 => ItemOutcome::Rejected(reason),
        429 => ItemOutcome::Throttled { after, reason },
        _ => ItemOutcome::Transient { after, reason },
    }
}
