//! What other tools post.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::stack::{Stack, WEB, answer, gzip};

/// Basic authentication of write key `HOOK`, of source `tools`, which is of kind webhook.
const TOOLS: &str = "Basic SE9PSzo=";

#[tokio::test(flavor = "multi_thread")]
async fn any_payload_becomes_one_event_by_somebody_new() {
    let stack = Stack::start().await;
    let url = format!("{}/v1/webhook", stack.url);
    let form = "--X\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--X--\r\n";
    let zipped = stack.post("/v1/webhook", TOOLS).header("content-encoding", "gzip");
    for request in [
        stack.http.post(format!("{url}?writeKey=HOOK")).body(r#"{"n":1}"#),
        stack.post("/v1/webhook", TOOLS).header("content-type", "application/json").body("[1]"),
        zipped.body(gzip(br#"{"n":2}"#)),
        stack
            .post("/v1/webhook", TOOLS)
            .header("content-type", "application/x-www-form-urlencoded")
            .body("a=1&a=2"),
        stack.post("/v1/webhook", TOOLS).header("content-type", "multipart/form-data; boundary=X").body(form),
    ] {
        let (status, body, _) = answer(request).await;
        assert_eq!((status, body.as_str()), (StatusCode::OK, "ok"));
    }
    let events: Vec<_> = stack.events().await.into_values().collect();
    let mut payloads = Vec::new();
    let mut people = std::collections::BTreeSet::new();
    for event in &events {
        let mut body: Value = serde_json::from_slice(&event.body).unwrap();
        assert_eq!((event.event_type.as_str(), event.source.as_str()), ("track", "tools"));
        assert_eq!(body["event"], json!("webhook_source_event"));
        people.insert(body["anonymousId"].as_str().unwrap().to_owned());
        payloads.push(body["properties"].take());
    }
    payloads.sort_by_key(Value::to_string);
    let mut expected = vec![
        json!({ "n": 1 }),
        json!([1]),
        json!({ "n": 2 }),
        json!({ "a": ["1", "2"] }),
        json!({ "Value": { "a": ["1"] }, "File": {} }),
    ];
    expected.sort_by_key(Value::to_string);
    assert_eq!((payloads, people.len()), (expected, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_webhook_is_refused_and_a_look_stores_nothing() {
    let stack = Stack::start().await;
    let multipart = |body: &'static str| {
        stack.post("/v1/webhook", TOOLS).header("content-type", "multipart/form-data; boundary=X").body(body)
    };
    for (request, status, text) in [
        (stack.post("/v1/webhook", TOOLS).body("n=1"), 400, "invalid json\n"),
        (stack.post("/v1/webhook", TOOLS).body("12"), 400, "event is not a valid rudder event\n"),
        (multipart("no parts"), 400, "error during parsing multiform\n"),
        (stack.post("/v1/webhook", WEB).body("{}"), 401, "invalid write key\n"),
        (
            stack.http.post(format!("{}/v1/webhook", stack.url)).body("{}"),
            401,
            "failed to read writekey from query params\n",
        ),
        (stack.http.get(format!("{}/v1/webhook?writeKey=HOOK", stack.url)), 200, ""),
        (stack.http.get(format!("{}/v1/webhook?writeKey=WK", stack.url)), 401, "invalid write key\n"),
    ] {
        let answered = answer(request).await;
        assert_eq!((answered.0.as_u16(), answered.1.as_str()), (status, text));
    }
    assert!(stack.stored().await.is_empty());
}
