//! What is accepted, in which form it is stored, and what is refused.

use millrace_event_model::rudder_id;
use millrace_ingest::Limits;
use reqwest::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::stack::{DEADLINE, STRICT, Stack, WEB, answer, eventually, gzip};

const OK: (StatusCode, &str) = (StatusCode::OK, "ok");

#[tokio::test(flavor = "multi_thread")]
async fn events_are_stored_as_they_were_sent_and_what_the_server_decided_stands_beside() {
    let stack = Stack::start().await;
    let first = r#"{ "userId":"u1", "anonymousId":"a1","messageId":"m1" ,"properties":{"p":1.50,"e":"jane@example.com","u":"\u00e9é"}}"#;
    let (status, body, _) = answer(
        stack
            .post("/v1/track", WEB)
            .header("x-forwarded-for", "203.0.113.7, 10.0.0.1")
            .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
            .body(first),
    )
    .await;
    assert_eq!((status, body.as_str()), OK);

    let second = r#"{"type":"page","userId":12,"messageId":"m2"}"#;
    let third = r#"{"type":"identify","anonymousId":"a3","messageId":"m3","sentAt":"2026-01-01T00:00:00Z"}"#;
    let batch =
        format!(r#"{{"batch":[{second}, {third}],"sentAt":"2026-11-24T20:37:16Z","context":{{"x":1}}}}"#);
    let request = stack
        .post("/v1/batch", WEB)
        .header("content-encoding", "gzip")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(gzip(batch.as_bytes()));
    let (status, body, _) = answer(request).await;
    assert_eq!((status, body.as_str()), OK);

    let events = stack.events().await;
    assert_eq!(events.len(), 3);
    let (m1, m2, m3) = (&events["m1"], &events["m2"], &events["m3"]);
    assert_eq!(
        (&m1.body[..], &m2.body[..], &m3.body[..]),
        (first.as_bytes(), second.as_bytes(), third.as_bytes())
    );
    assert_eq!([&m1.event_type, &m2.event_type, &m3.event_type], ["track", "page", "identify"]);
    assert_eq!(m1.rudder_id, rudder_id("u1", "a1"));
    assert_eq!(m2.rudder_id, rudder_id("12", ""));
    assert_eq!(m1.request_ip.as_deref(), Some("203.0.113.7"));
    assert_eq!(m2.request_ip.as_deref(), Some("127.0.0.1"));
    assert_eq!(m1.traceparent.as_deref(), Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
    assert_eq!(m2.sent_at.as_deref(), Some("2026-11-24T20:37:16Z"));
    assert_eq!((&m1.sent_at, &m3.sent_at), (&None, &None));
    assert_eq!(m1.source.as_str(), "web");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_retry_keeps_its_message_id_and_one_without_gets_its_own() {
    let stack = Stack::start().await;
    for body in
        [r#"{"userId":"u","messageId":"same"}"#, r#"{"userId":"u","messageId":"same"}"#, r#"{"userId":"u"}"#]
    {
        assert_eq!(answer(stack.post("/v1/track", WEB).body(body)).await.0, StatusCode::OK);
    }
    let stored = stack.stored().await;
    assert_eq!(stored.len(), 3);
    let events = stack.events().await;
    assert_eq!(events.len(), 2, "the same id twice, and one of our own");
    let made = events.keys().find(|id| *id != "same").unwrap();
    assert_eq!(made.len(), 36, "{made}");
    assert_eq!(&events[made].body[..], br#"{"userId":"u"}"#, "the id is in the header alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_the_policy_masks_reaches_the_topic() {
    let stack = Stack::start().await;
    let body = r#"{"sentAt":"canary1@example.com","batch":[
        {"userId":"u","messageId":"m","type":"of canary2@example.com","traits":{"email":"canary3\u0040example.com","phone":"+14155550123"}},
        {"anonymousId":"a","type":"track","properties":{"canary4@example.com":4111111111111111,"url":"/?e=canary5%40example.com"}}]}"#;
    // Both keys of a source that is being rotated are good.
    let old = "Basic U1RSSUNULU9MRDo=";
    for authorization in [STRICT, old] {
        let request = stack
            .post("/v1/batch", authorization)
            .header("content-encoding", "gzip")
            .header("x-forwarded-for", "203.0.113.77")
            .header("traceparent", "canary6@example.com")
            .body(gzip(body.as_bytes()));
        assert_eq!(answer(request).await.0, StatusCode::OK);
    }
    let stored = stack.stored().await;
    assert_eq!(stored.len(), 4);
    for received in stored {
        let raw = format!("{:?}", received.raw);
        for canary in ["canary", "4155550123", "41111111", "203.0.113.77"] {
            assert!(!raw.contains(canary), "{canary} in {raw}");
        }
        let event = received.message.unwrap();
        assert!(event.policy.unwrap().starts_with("strict@"));
        serde_json::from_slice::<serde_json::Value>(&event.body).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_bad_request_has_its_answer_and_stores_nothing() {
    let stack = Stack::start().await;
    let event = r#"{"userId":"u"}"#;
    let large_event = format!(r#"{{"userId":"u","x":"{}"}}"#, "y".repeat(900 * 1024));
    let large_body = format!(r#"{{"batch":[{event}],"x":"{}"}}"#, "y".repeat(4_096_000));
    let bomb = gzip(&vec![b' '; 60_000_000]);
    let plain =
        |path: &str, authorization: &str, body: &str| stack.post(path, authorization).body(body.to_owned());
    let zipped = |body: Vec<u8>| stack.post("/v1/batch", WEB).header("content-encoding", "gzip").body(body);
    for (request, status, text) in [
        (
            stack.http.post(format!("{}/v1/track", stack.url)).body(event),
            401,
            "failed to read writekey from header\n",
        ),
        (plain("/v1/track", "Basic Og==", event), 401, "failed to read writekey from header\n"),
        (plain("/v1/track", "Basic Tk9QRTo=", event), 401, "invalid write key\n"),
        (plain("/v1/track", "Basic RElTQUJMRUQ6", "not json"), 404, "source is disabled\n"),
        (plain("/v1/track", WEB, ""), 400, "invalid json\n"),
        (plain("/v1/track", WEB, "[1]"), 400, "event is not a valid rudder event\n"),
        (plain("/v1/track", WEB, "{}"), 400, "request neither has anonymousId nor userId\n"),
        (plain("/v1/batch", WEB, "{}"), 400, "empty batch payload\n"),
        (plain("/v1/track", WEB, &large_event), 413, "request size exceeds max limit\n"),
        (plain("/v1/batch", WEB, &large_body), 413, "request size exceeds max limit\n"),
        (zipped(bomb), 413, "request size exceeds max limit\n"),
        (zipped(b"not gzip".to_vec()), 500, "failed to read body from request\n"),
        (plain("/v1/nope", WEB, event), 404, "404 page not found\n"),
        (stack.http.get(format!("{}/v1/track", stack.url)), 405, ""),
    ] {
        let response = request.send().await.unwrap();
        let headers = response.headers().clone();
        assert_eq!(response.status().as_u16(), status, "{text}");
        assert_eq!(response.text().await.unwrap(), text);
        if !text.is_empty() {
            assert_eq!(headers["content-type"], "text/plain; charset=utf-8");
            assert_eq!(headers["x-content-type-options"], "nosniff");
        }
    }
    assert!(stack.stored().await.is_empty());
    let just_allowed = format!(r#"{{"batch":[{event}],"x":"{}"}}"#, "y".repeat(4_096_000 - 33));
    assert_eq!(just_allowed.len(), 4_096_000);
    assert_eq!(answer(plain("/v1/batch", WEB, &just_allowed)).await.0, StatusCode::OK);
    assert_eq!(answer(zipped(gzip(just_allowed.as_bytes()))).await.0, StatusCode::OK);
    assert_eq!(stack.stored().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_pages_answer_without_a_key() {
    let stack = Stack::start().await;
    let get = |path: &str| stack.http.get(format!("{}{path}", stack.url));
    for path in ["/health", "/"] {
        let (status, body, _) = answer(get(path)).await;
        assert_eq!(status, StatusCode::OK);
        assert!(body.contains(r#""acceptingEvents":"TRUE""#), "{body}");
    }
    assert_eq!(answer(get("/robots.txt")).await.1, "User-agent: * \nDisallow: / \n");
    assert_eq!(answer(get("/version")).await.1, r#"{"Version":"test"}"#);
    for admin in ["/metrics", "/healthz", "/readyz", "/api/v1", "/internal/v1/extract"] {
        assert_eq!(answer(get(admin)).await.0, StatusCode::NOT_FOUND, "{admin} is not on the public port");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_its_bounds_it_asks_to_come_again() {
    for limits in
        [Limits { requests: 0, ..Limits::default() }, Limits { bytes_in_flight: 0, ..Limits::default() }]
    {
        let stack = Stack::start_with(limits).await;
        let answered = answer(stack.post("/v1/track", WEB).body(r#"{"userId":"u"}"#)).await;
        assert_eq!(answered, (StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable\n".to_owned(), true));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_under_way_is_answered_before_it_stops() {
    let mut stack = Stack::start().await;
    let body = r#"{"userId":"u","messageId":"last"}"#;
    let mut client = TcpStream::connect(stack.url.trim_start_matches("http://")).await.unwrap();
    let head = format!(
        "POST /v1/track HTTP/1.1\r\nHost: x\r\nAuthorization: {WEB}\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        body.len()
    );
    client.write_all(head.as_bytes()).await.unwrap();
    // The server says so when it begins to read the body.
    read_until(&mut client, "100 Continue\r\n\r\n").await;
    stack.request_stop();
    eventually("no new connection is taken", async || {
        stack.http.get(format!("{}/health", stack.url)).send().await.is_err()
    })
    .await;
    client.write_all(body.as_bytes()).await.unwrap();
    let answer = read_until(&mut client, "\r\n\r\nok").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    stack.stopped().await.unwrap();
    assert!(stack.events().await.contains_key("last"));
}

async fn read_until(client: &mut TcpStream, end: &str) -> String {
    let mut read = String::new();
    while !read.ends_with(end) {
        let byte = tokio::time::timeout(DEADLINE, client.read_u8()).await.unwrap().unwrap();
        read.push(char::from(byte));
    }
    read
}
