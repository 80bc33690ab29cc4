//! Answers and headers in the form of RudderStack's gateway, which is that of Go's `net/http`.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::StatusCode;
use hyper::header::{self, HeaderMap, HeaderValue};

use crate::error::Refusal;

/// Answers are small and whole.
pub(crate) type Response = hyper::Response<Full<Bytes>>;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const IMAGE: HeaderValue = HeaderValue::from_static("image/gif");

/// When a client may come again: long enough for a broker to elect a leader.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(5);

/// All events are stored. Two bytes, no newline.
pub(crate) fn accepted() -> Response {
    response(StatusCode::OK, TEXT, "ok")
}

pub(crate) fn refused(refusal: Refusal) -> Response {
    let (status, text) = refusal.answer();
    let mut response = error(status, text);
    if let Refusal::RateLimited { seconds } = refusal {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

pub(crate) fn not_found() -> Response {
    error(StatusCode::NOT_FOUND, "404 page not found")
}

/// The path is known, but not for this method.
pub(crate) fn method_not_allowed(allowed: &'static str) -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

/// An error as Go's `http.Error` writes it. What is temporary says when to come again.
pub(crate) fn error(status: StatusCode, text: &str) -> Response {
    let mut response = response(status, TEXT, format!("{text}\n"));
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER.as_secs()));
    }
    response
}

pub(crate) fn text(body: &'static str) -> Response {
    response(StatusCode::OK, TEXT, body)
}

pub(crate) fn json(body: &serde_json::Value) -> Response {
    response(StatusCode::OK, JSON, body.to_string())
}

/// JSON that is made for whoever asks: no cache between may hand it to others.
pub(crate) fn own_json(body: &serde_json::Value) -> Response {
    let mut response = json(body);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private"));
    response
}

pub(crate) fn html(page: String) -> Response {
    response(StatusCode::OK, HTML, page)
}

/// One that is asked for anew each time it is shown: a kept one would be an event that never comes.
pub(crate) fn image(gif: &'static [u8]) -> Response {
    let mut response = response(StatusCode::OK, IMAGE, gif);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// 200 without a word.
pub(crate) fn nothing() -> Response {
    Response::default()
}

fn response(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

/// W3C Trace Context: `00-<32 hex>-<16 hex>-<2 hex>`. Anything else is not passed on.
pub(crate) fn traceparent(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get("traceparent")?.to_str().ok()?;
    let lengths: Vec<usize> = value.split('-').map(str::len).collect();
    let hexadecimal = value.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'));
    (lengths == [2, 32, 16, 2] && hexadecimal).then_some(value)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn only_a_trace_context_is_passed_on() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        for (value, passed) in
            [(good, true), ("00-jane@example.com", false), ("", false), (&good[1..], false)]
        {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", value.parse().unwrap());
            assert_eq!(traceparent(&headers).is_some(), passed, "{value}");
        }
    }
}
