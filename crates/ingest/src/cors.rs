//! Cross-origin requests of browsers. Every origin may send: what a request may do is decided by its write
//! key, never by a cookie, so there is nothing that a foreign page could do in a user's name. A source's list
//! of origins is applied where the source is known, in `auth.rs`; a preflight carries no key.
//!
//! As RudderStack's gateway answers: the origin is reflected, with credentials, since SDKs that are told to
//! send cookies for their proxies must not be refused. Errors carry the headers too: without them an SDK sees
//! a broken network instead of a 401, and tries for ever.

use hyper::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderValue, ORIGIN,
    RETRY_AFTER, VARY,
};
use hyper::{Method, StatusCode};

use crate::http::Response;

/// What a page may use; OPTIONS itself needs no leave.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST");

/// Seconds that a browser remembers a preflight: RudderStack's.
const MAX_AGE: HeaderValue = HeaderValue::from_static("900");

const TRUE: HeaderValue = HeaderValue::from_static("true");

/// Whether a browser asks before it sends.
pub(crate) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Yes to whatever headers it wants to send. [`allow`] names the origin.
pub(crate) fn preflight(asked: &HeaderMap) -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    if let Some(wanted) = asked.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    headers.append(
        VARY,
        HeaderValue::from_static("Access-Control-Request-Method, Access-Control-Request-Headers"),
    );
    response
}

/// Lets the page of this origin read the answer.
pub(crate) fn allow(response: &mut Response, origin: HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
    headers.append(VARY, HeaderValue::from_static("Origin"));
    if headers.contains_key(RETRY_AFTER) {
        // Hidden from scripts unless named; Segment's SDK waits for as long as it says.
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Retry-After"));
    }
}
