//! What browsers may do.

use hyper::header::{HeaderMap, HeaderName};
use reqwest::Method;

use crate::stack::{Stack, WEB};

const PAGE: &str = "https://www.example.com";

/// What a browser asks before `@rudderstack/analytics-js` may send.
const ASKED: &str = "anonymousid,authorization,content-type,rsa-retry-attempt,sentat";

async fn preflight(stack: &Stack, path: &str) -> (u16, HeaderMap) {
    let asked = stack
        .http
        .request(Method::OPTIONS, format!("{}{path}", stack.url))
        .header("origin", PAGE)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", ASKED);
    let response = asked.send().await.unwrap();
    (response.status().as_u16(), response.headers().clone())
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    let name: HeaderName = name.parse().unwrap();
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_public_path_may_be_asked_for_and_no_internal_one() {
    let stack = Stack::start_as(|options| options.internal = true).await;
    for path in
        ["/v1/batch", "/v1/t", "/sourceConfig/", "/v1/projects/WK/settings", "/no/such/path", "/rsaRequest"]
    {
        let (status, headers) = preflight(&stack, path).await;
        assert_eq!(status, 204, "{path}");
        for (name, expected) in [
            ("access-control-allow-origin", PAGE),
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-methods", "GET, HEAD, POST"),
            ("access-control-allow-headers", ASKED),
            ("access-control-max-age", "900"),
        ] {
            assert_eq!(text(&headers, name), expected, "{path}: {name}");
        }
        let vary: Vec<_> = headers.get_all("vary").iter().collect();
        assert_eq!(vary.len(), 2, "{vary:?}");
    }
    let (_, headers) = preflight(&stack, "/internal/v1/retl").await;
    assert_eq!(text(&headers, "access-control-allow-origin"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_can_read_every_answer_errors_too() {
    let stack = Stack::start().await;
    let event = r#"{"anonymousId":"a"}"#;
    for (path, authorization, body, status) in [
        ("/v1/track", WEB, event, 200),
        ("/v1/track", "Basic Tk9QRTo=", event, 401),
        ("/v1/track", WEB, "{}", 400),
        ("/v1/nope", WEB, event, 404),
    ] {
        let response =
            stack.post(path, authorization).header("origin", PAGE).body(body).send().await.unwrap();
        assert_eq!(response.status().as_u16(), status);
        assert_eq!(text(response.headers(), "access-control-allow-origin"), PAGE, "{status}");
        assert_eq!(text(response.headers(), "vary"), "Origin");
    }
    let response = stack.post("/v1/track", WEB).body(event).send().await.unwrap();
    assert_eq!(text(response.headers(), "access-control-allow-origin"), "", "it is no page's request");
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_may_read_when_to_come_again() {
    let stack = Stack::start_as(|options| options.limits.requests = 0).await;
    let busy = stack.post("/v1/track", WEB).header("origin", PAGE).body("{}").send().await.unwrap();
    assert_eq!(busy.status().as_u16(), 503);
    assert_eq!(text(busy.headers(), "access-control-expose-headers"), "Retry-After");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_with_a_list_of_origins_takes_events_of_these_pages_only() {
    let stack = Stack::start().await;
    let site = "Basic U0lURTo=";
    for (origin, status) in [
        (Some(PAGE), 200),
        (Some("https://evil.example"), 403),
        (Some("https://www.example.com.evil.example"), 403),
        (Some("null"), 403),
        (None, 200),
    ] {
        let mut request = stack.post("/v1/track", site).body(r#"{"anonymousId":"a"}"#);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{origin:?}");
        if status == 403 {
            assert_eq!(response.text().await.unwrap(), "origin is not allowed\n");
        }
    }
    assert_eq!(stack.stored().await.len(), 2);
}
