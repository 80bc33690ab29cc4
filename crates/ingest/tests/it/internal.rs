//! The paths for other systems of the same owner.

use reqwest::StatusCode;

use crate::stack::{Stack, WEB, answer};

async fn internal() -> Stack {
    Stack::start_as(|options| options.internal = true).await
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_not_there_unless_asked_for() {
    let stack = Stack::start().await;
    for path in ["extract", "retl", "replay", "audiencelist"] {
        let request = stack.post(&format!("/internal/v1/{path}"), WEB).header("x-rudder-source-id", "web");
        let answered = answer(request.body(r#"{"batch":[{"userId":"u","type":"track"}]}"#)).await;
        assert_eq!(answered, (StatusCode::NOT_FOUND, "404 page not found\n".to_owned(), false), "{path}");
    }
    assert!(stack.stored().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_need_a_key_and_no_identity() {
    let stack = internal().await;
    let row = r#"{"messageId":"m","properties":{"id":7}}"#;
    let no_key = stack.http.post(format!("{}/internal/v1/extract", stack.url)).body(row);
    assert_eq!(answer(no_key).await.1, "failed to read writekey from header\n");
    assert_eq!(answer(stack.post("/internal/v1/extract", WEB).body(row)).await.0, StatusCode::OK);
    let list = r#"{"messageId":"l","userId":"u","type":"other"}"#;
    assert_eq!(answer(stack.post("/internal/v1/audiencelist", WEB).body(list)).await.0, StatusCode::OK);
    let events = stack.events().await;
    assert_eq!(
        (events["m"].event_type.as_str(), events["l"].event_type.as_str()),
        ("extract", "audiencelist")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn reverse_etl_names_its_source_and_perhaps_its_destination() {
    let stack = internal().await;
    let batch = r#"{"batch":[{"type":"record","messageId":"m"}]}"#;
    for (source, destination, status, text) in [
        (None, None, 401, "failed to read source id from header\n"),
        (Some(""), None, 401, "failed to read source id from header\n"),
        (Some("nobody"), None, 401, "invalid source id\n"),
        (Some("off"), None, 404, "source is disabled\n"),
        (Some("web"), Some("nope"), 400, "invalid destination id\n"),
        (Some("tools"), Some("hook"), 400, "invalid destination id\n"),
        (Some("web"), Some("off"), 404, "destination is disabled\n"),
        (Some("web"), Some("hook"), 200, "ok"),
        (Some("web"), None, 200, "ok"),
    ] {
        let mut request = stack.http.post(format!("{}/internal/v1/retl", stack.url)).body(batch);
        for (name, value) in [("x-rudder-source-id", source), ("x-rudder-destination-id", destination)] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        let answered = answer(request).await;
        assert_eq!((answered.0.as_u16(), answered.1.as_str()), (status, text), "{source:?} {destination:?}");
    }
    let stored = stack.stored().await;
    assert_eq!(stored.len(), 2);
    assert!(stored.into_iter().all(|received| received.message.unwrap().event_type == "record"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_keeps_when_its_events_were_received_and_only_a_replay_source_takes_it() {
    let stack = internal().await;
    let received_at = "2026-10-01T12:00:00.000Z";
    let batch = format!(
        r#"{{"batch":[{{"type":"track","userId":"u","messageId":"m","receivedAt":"{received_at}"}}]}}"#
    );
    for (source, status, text) in [
        ("web", 401, "invalid replay source\n"),
        ("off", 404, "source is disabled\n"),
        ("web-again", 200, "ok"),
    ] {
        let request = stack.http.post(format!("{}/internal/v1/replay", stack.url));
        let answered = answer(request.header("x-rudder-source-id", source).body(batch.clone())).await;
        assert_eq!((answered.0.as_u16(), answered.1.as_str()), (status, text), "{source}");
    }
    let events = stack.events().await;
    let replayed = &events["m"];
    assert_eq!(replayed.source.as_str(), "web-again");
    assert_eq!(replayed.received_at, received_at.parse::<chrono::DateTime<chrono::Utc>>().unwrap());
}
