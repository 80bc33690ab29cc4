//! The guarded client: what every destination that speaks HTTP sends with.

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use millrace_connector::{ConnectorError, ErrorKind, HttpRequest, RequestBody};
use millrace_service::SharedClock;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Method, Response};
use serde_json::Value;
use url::{Url, form_urlencoded};

use super::guard::{AddressRefused, GuardedResolver, Private, check_literal};

/// So much of an answer is read: a result for each of a thousand items fits. Of a longer one only the
/// status counts (see [`Answer::complete`]), and its connection is dropped.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// Longer than this no handshake takes that ends well.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a client may go, and how long it may take.
#[derive(Debug, Clone)]
pub struct Reach {
    /// The addresses that it may reach though the internet does not.
    pub private: Private,
    /// How long an answer may take.
    pub timeout: Duration,
    /// The hosts that may be called, see [`super::Profile::hosts`].
    pub hosts: Vec<String>,
    /// Scheme, host and port that replace those of every request.
    pub origin: Option<Url>,
}

/// Sends requests to public addresses alone, follows no redirect, uses no proxy, and tells neither URLs
/// nor headers in what it says.
pub struct Client {
    http: reqwest::Client,
    reach: Reach,
    clock: SharedClock,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// `Retry-After`, from now.
    pub retry_after: Option<Duration>,
    /// The body; empty where it is not complete.
    pub body: Bytes,
    /// Whether that is all of it: not where it was longer than the bound, or the connection ended before
    /// it.
    pub complete: bool,
    /// Who answered.
    pub host: String,
}

impl Answer {
    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

impl Client {
    /// A client; nothing is connected yet.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(reach: Reach, clock: SharedClock) -> Result<Self, ConnectorError> {
        millrace_service::install_tls();
        let http = reqwest::Client::builder()
            .user_agent(concat!("Millrace/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Arc::new(GuardedResolver::new(reach.private.clone())))
            // A redirect leads where no guard has looked, and Standard Webhooks calls it a failure.
            .redirect(reqwest::redirect::Policy::none())
            // A proxy resolves names itself, past the guard.
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT.min(reach.timeout))
            .timeout(reach.timeout)
            .build()
            .map_err(|error| {
                ConnectorError::pause("http_client", "the HTTP client cannot be made").caused_by(error)
            })?;
        Ok(Self { http, reach, clock })
    }

    /// The time, as answers are judged by it.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Sends a request with more headers and waits for the answer.
    ///
    /// # Errors
    /// There is no answer: `Retry` for network and time-outs, `Reject` for a request that is none,
    /// `Pause` for an address that may not be reached.
    pub async fn send(
        &self,
        request: &HttpRequest,
        more: &[(&str, String)],
    ) -> Result<Answer, ConnectorError> {
        let mut url = self.address(&request.url)?;
        if !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&request.query);
        }
        let host = url.host_str().unwrap_or_default().to_owned();
        let method = Method::from_bytes(request.method.as_bytes()).map_err(|_| {
            ConnectorError::reject("invalid_request", format!("{:?} is not an HTTP method", request.method))
        })?;
        let mut sending = self.http.request(method, url);
        let mut framed = false;
        for (name, value) in &request.headers {
            framed |= name.eq_ignore_ascii_case(CONTENT_TYPE.as_str());
            sending = sending.header(name, value);
        }
        for (name, value) in more {
            sending = sending.header(*name, value);
        }
        if let Some((content_type, bytes)) = framing(&request.body) {
            if !framed {
                sending = sending.header(CONTENT_TYPE, content_type);
            }
            sending = sending.body(bytes);
        }
        let response = sending.send().await.map_err(|error| failure(&host, error))?;
        let status = response.status().as_u16();
        let retry_after = retry_after(response.headers(), self.clock.now());
        let body = read(response).await;
        let complete = body.is_some();
        Ok(Answer { status, retry_after, body: body.unwrap_or_default(), complete, host })
    }

    /// Whether something answers there. HEAD changes nothing, and any status proves that name, guard,
    /// network and TLS are in order.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn reach(&self, url: &str) -> Result<(), ConnectorError> {
        self.send(&HttpRequest::new("HEAD", url), &[]).await.map(drop)
    }

    /// The address to call, if it may be called.
    fn address(&self, text: &str) -> Result<Url, ConnectorError> {
        let mut url = Url::parse(text).map_err(|error| {
            ConnectorError::reject("invalid_request", "the request's address is none").caused_by(error)
        })?;
        if let Some(origin) = &self.reach.origin {
            let moved = url.set_scheme(origin.scheme()).is_ok()
                && url.set_host(origin.host_str()).is_ok()
                && url.set_port(origin.port()).is_ok();
            if !moved {
                let told = "the request's address cannot be moved to the origin of the settings";
                return Err(ConnectorError::pause("invalid_settings", told));
            }
        }
        let host = url.host_str().unwrap_or_default();
        check_literal(host, &self.reach.private).map_err(|refused| {
            ConnectorError::pause("address_refused", format!("no answer from {host}")).caused_by(refused)
        })?;
        if self.reach.origin.is_none() && !allowed(&self.reach.hosts, host) {
            let told = format!("host {host:?} is not one that this destination may call");
            return Err(ConnectorError::pause("host_refused", told));
        }
        Ok(url)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("reach", &self.reach).finish_non_exhaustive()
    }
}

fn allowed(hosts: &[String], host: &str) -> bool {
    hosts.is_empty()
        || hosts.iter().any(|pattern| match pattern.strip_prefix("*.") {
            Some(domain) => host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')),
            None => pattern == host,
        })
}

/// The content type of a body whose request names none, and its bytes.
fn framing(body: &RequestBody) -> Option<(&'static str, Bytes)> {
    match body {
        RequestBody::None => None,
        RequestBody::Json(bytes) | RequestBody::JsonArray(bytes) => Some(("application/json", bytes.clone())),
        RequestBody::Form(fields) => {
            let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
            Some(("application/x-www-form-urlencoded", form.into()))
        }
        RequestBody::Xml(text) => Some(("application/xml", text.clone().into())),
    }
}

/// The body, if it arrives whole and is within the bound.
async fn read(mut response: Response) -> Option<Bytes> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    Some(body.freeze())
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

/// Why there was no answer. The URL is taken out of the error: its path may be a secret.
fn failure(host: &str, error: reqwest::Error) -> ConnectorError {
    let error = error.without_url();
    let (kind, code) = match &error {
        _ if is_refused_by_guard(&error) => (ErrorKind::Pause, "address_refused"),
        _ if error.is_builder() => (ErrorKind::Reject, "invalid_request"),
        _ if error.is_timeout() => (ErrorKind::Retry { after: None }, "timeout"),
        _ if error.is_connect() => (ErrorKind::Retry { after: None }, "connection_failed"),
        _ => (ErrorKind::Retry { after: None }, "network_error"),
    };
    ConnectorError::new(kind, code, format!("no answer from {host}")).caused_by(error)
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
