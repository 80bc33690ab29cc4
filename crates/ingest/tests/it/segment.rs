//! Segment's short paths.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::stack::{Stack, WEB, answer, gzip};

#[tokio::test(flavor = "multi_thread")]
async fn the_path_abbreviates_the_type_and_the_key_may_stand_in_the_body() {
    let stack = Stack::start().await;
    let types = ["track", "page", "identify", "screen", "group", "alias"];
    for event_type in types {
        let event = format!(
            r#"{{"writeKey":"WK","anonymousId":"a","type":"{event_type}","messageId":"{event_type}"}}"#
        );
        let path = format!("{}/v1/{}", stack.url, &event_type[..1]);
        let request = stack.http.post(path).header("content-type", "text/plain").body(event);
        assert_eq!(answer(request).await.0, StatusCode::OK, "{event_type}");
    }
    let by_header =
        stack.post("/v1/t", WEB).body(r#"{"anonymousId":"a","writeKey":"other","messageId":"m"}"#);
    assert_eq!(answer(by_header).await.0, StatusCode::OK);
    let events = stack.events().await;
    for event_type in types {
        assert_eq!(events[event_type].event_type, event_type);
        assert_eq!(events[event_type].source.as_str(), "web");
    }
    assert_eq!(events["m"].event_type, "track");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_key_in_the_body_is_refused_as_anywhere() {
    let stack = Stack::start().await;
    for (body, expected) in [
        (r#"{"anonymousId":"a"}"#, "failed to read writekey from header\n"),
        ("not json", "failed to read writekey from header\n"),
        (r#"{"anonymousId":"a","writeKey":"NOPE"}"#, "invalid write key\n"),
        (r#"{"anonymousId":"a","writeKey":"DISABLED"}"#, "source is disabled\n"),
    ] {
        let request = stack.http.post(format!("{}/v1/t", stack.url)).body(body);
        assert_eq!(answer(request).await.1, expected, "{body}");
    }
    // Only on these paths.
    let request =
        stack.http.post(format!("{}/v1/track", stack.url)).body(r#"{"anonymousId":"a","writeKey":"WK"}"#);
    assert_eq!(answer(request).await.0, StatusCode::UNAUTHORIZED);
    assert!(stack.stored().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_beside_the_batch_fills_in_on_the_short_path_alone() {
    let stack = Stack::start().await;
    let batch = |prefix: &str| {
        format!(
            r#"{{"batch":[{{"type":"track","anonymousId":"a","messageId":"{prefix}1"}},
                {{"type":"track","anonymousId":"a","messageId":"{prefix}2","context":{{"own":1}}}}],
            "context":{{"ip":"203.0.113.7"}},"integrations":{{"All":false}},"writeKey":"WK","sentAt":"2026-11-24T20:37:16Z"}}"#
        )
    };
    let short = stack.http.post(format!("{}/v1/b", stack.url)).header("content-encoding", "gzip");
    assert_eq!(answer(short.body(gzip(batch("s").as_bytes()))).await.0, StatusCode::OK);
    assert_eq!(answer(stack.post("/v1/batch", WEB).body(batch("l"))).await.0, StatusCode::OK);
    let events = stack.events().await;
    let body = |id: &str| serde_json::from_slice::<Value>(&events[id].body).unwrap();
    let (first, second) = (body("s1"), body("s2"));
    assert_eq!((&first["context"], &second["context"]), (&json!({"ip":"203.0.113.7"}), &json!({"own":1})));
    assert_eq!(
        (&first["integrations"], &second["integrations"]),
        (&json!({"All":false}), &json!({"All":false}))
    );
    assert_eq!((&body("l1")["context"], &body("l1")["integrations"]), (&json!(null), &json!(null)));
    assert_eq!(events["s1"].sent_at.as_deref(), Some("2026-11-24T20:37:16Z"));
}
