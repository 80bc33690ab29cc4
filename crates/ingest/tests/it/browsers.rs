//! What pages send without a script that could read the answer: beacons and images.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::stack::{STRICT, Stack, answer, eventually};

const GIF: &[u8] = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\x00\x00\x00\x21\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02\x44\x01\x00;";

#[tokio::test(flavor = "multi_thread")]
async fn a_beacon_is_a_batch_with_its_key_in_the_query() {
    let stack = Stack::start().await;
    let batch = r#"{"batch":[{"type":"page","anonymousId":"a","messageId":"m"}]}"#;
    for (query, status, text) in [
        ("?writeKey=WK", 200, "ok"),
        ("?writeKey=NOPE", 401, "invalid write key\n"),
        ("?writeKey=DISABLED", 404, "source is disabled\n"),
        ("?writeKey=", 401, "failed to read writekey from query params\n"),
        ("", 401, "failed to read writekey from query params\n"),
    ] {
        let request = stack.http.post(format!("{}/beacon/v1/batch{query}", stack.url));
        let answered = answer(request.header("content-type", "text/plain").body(batch)).await;
        assert_eq!((answered.0.as_u16(), answered.1.as_str()), (status, text), "{query}");
    }
    let events = stack.events().await;
    assert_eq!((events.len(), events["m"].event_type.as_str()), (1, "page"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_an_event_and_an_image_whatever_becomes_of_the_event() {
    let mut stack = Stack::start().await;
    let pixel = |url: &str, query: &str| format!("{url}/pixel/v1/{query}");
    for (query, stored) in [
        ("page?writeKey=WK&anonymousId=a1&name=&context.ip=192.0.2.1", true),
        ("track?writeKey=WK&userId=u1&event=Opened&properties.mail=m%20n", true),
        ("track?writeKey=WK&anonymousId=a1&event=", false),
        ("track?writeKey=WK&event=Nobody", false),
        ("track?writeKey=NOPE&anonymousId=a1", false),
        ("track?anonymousId=a1", false),
    ] {
        let before = stack.stored().await.len();
        let response = stack.http.get(pixel(&stack.url, query)).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{query}");
        assert_eq!(response.headers()["content-type"], "image/gif");
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert_eq!(response.bytes().await.unwrap(), GIF);
        assert_eq!(stack.stored().await.len() - before, usize::from(stored), "{query}");
    }
    let events = stack.events().await;
    let body = |event_type: &str| {
        let event = events.values().find(|event| event.event_type == event_type).unwrap();
        serde_json::from_slice::<Value>(&event.body).unwrap()
    };
    let (page, track) = (body("page"), body("track"));
    assert_eq!((&page["name"], &page["context"]), (&json!("Unknown Page"), &json!({ "ip": "192.0.2.1" })));
    assert_eq!((&track["event"], &track["properties"]["mail"]), (&json!("Opened"), &json!("m n")));
    assert_eq!((&track["channel"], &track["integrations"]), (&json!("web"), &json!({ "All": true })));

    stack.stop_broker().await;
    let response = stack.http.get(pixel(&stack.url, "page?writeKey=WK&anonymousId=a1")).send().await.unwrap();
    assert_eq!((response.status(), response.bytes().await.unwrap().as_ref()), (StatusCode::OK, GIF));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_under_the_policy_too() {
    let stack = Stack::start().await;
    let query = "track?writeKey=STRICT&anonymousId=a&event=Opened&properties.to=canary1%40example.com";
    assert_eq!(answer(stack.http.get(format!("{}/pixel/v1/{query}", stack.url))).await.0, StatusCode::OK);
    let hook = stack.post("/v1/track", STRICT).body(r#"{"anonymousId":"a","to":"canary2@example.com"}"#);
    assert_eq!(answer(hook).await.0, StatusCode::OK);
    eventually("both are stored", async || stack.stored().await.len() == 2).await;
    for received in stack.stored().await {
        assert!(!format!("{:?}", received.raw).contains("canary"), "{:?}", received.raw);
    }
}
