//! The broker goes and comes back.

use std::time::{Duration, Instant};

use reqwest::StatusCode;

use crate::stack::{Stack, WEB, answer, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn while_the_broker_is_away_clients_are_asked_to_come_again_and_nothing_acked_is_lost() {
    let mut stack = Stack::start().await;
    let event = |id: usize| format!(r#"{{"userId":"u{id}","messageId":"m{id}"}}"#);
    for id in 0..10 {
        assert_eq!(answer(stack.post("/v1/track", WEB).body(event(id))).await.0, StatusCode::OK);
    }
    let port = stack.stop_broker().await;

    let started = Instant::now();
    let refused = answer(stack.post("/v1/track", WEB).body(event(10))).await;
    assert_eq!(
        refused,
        (StatusCode::SERVICE_UNAVAILABLE, "the events could not be stored\n".to_owned(), true)
    );
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let health = answer(stack.http.get(format!("{}/health", stack.url))).await;
    assert_eq!(health, (StatusCode::SERVICE_UNAVAILABLE, "Cannot connect to db\n".to_owned(), true));
    assert!(!stack.health.readiness().ready);

    stack.restart_broker(port).await;
    // It notices by itself, without traffic.
    eventually("the stage is ready again", async || stack.health.readiness().ready).await;
    eventually("events are accepted again", async || {
        answer(stack.post("/v1/track", WEB).body(event(11))).await.0 == StatusCode::OK
    })
    .await;
    let events = stack.events().await;
    for id in (0..10).chain([11]) {
        assert!(events.contains_key(&format!("m{id}")), "m{id}");
    }
}
