//! Users who asked to be forgotten.

use std::sync::Arc;

use millrace_bus::{Bus, KafkaSettings};
use millrace_event_model::{Control, KeyHasher};
use millrace_ingest::{Options, Service, SourceOptions};
use millrace_service::{Health, Secret, Stop, SystemClock};
use reqwest::StatusCode;
use tokio::net::TcpListener;

use crate::stack::{STRICT, Stack, WEB, answer, eventually};

fn suppress(user: &str, source: Option<&str>) -> Control {
    let user = KeyHasher::new(&[1; 32]).user(user);
    let source = source.map(|id| id.parse().unwrap());
    Control::Suppress { user, source, reason: "asked".to_owned(), at: chrono::DateTime::UNIX_EPOCH }
}

fn unsuppress(user: &str) -> Control {
    let user = KeyHasher::new(&[1; 32]).user(user);
    Control::Unsuppress { user, source: None, at: chrono::DateTime::UNIX_EPOCH }
}

/// Sends an event, which is always answered alike, and says whether it was stored.
async fn is_stored(stack: &Stack, key: &str, user: &str) -> bool {
    let id = uuid::Uuid::new_v4().to_string();
    let body = format!(r#"{{"userId":"{user}","anonymousId":"a","messageId":"{id}"}}"#);
    let (status, text, _) = answer(stack.post("/v1/track", key).body(body)).await;
    assert_eq!((status, text.as_str()), (StatusCode::OK, "ok"));
    stack.events().await.contains_key(&id)
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_the_operators_name_is_forgotten_until_they_take_it_back() {
    let stack = Stack::start().await;
    assert!(is_stored(&stack, WEB, "jane").await);
    stack.say(&suppress("jane", None)).await;
    eventually("jane is forgotten", async || !is_stored(&stack, WEB, "jane").await).await;
    assert!(!is_stored(&stack, STRICT, "jane").await && is_stored(&stack, WEB, "joe").await);
    stack.say(&unsuppress("jane")).await;
    eventually("jane is taken again", async || is_stored(&stack, WEB, "jane").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_suppressed_before_the_start_is_forgotten_from_the_first_event_on() {
    let words =
        [suppress("jane", None), unsuppress("jane"), suppress("jane", None), suppress("joe", Some("web"))];
    let stack = Stack::start_after(&words, |_| {}).await;
    assert!(!is_stored(&stack, WEB, "jane").await);
    assert!(!is_stored(&stack, WEB, "joe").await && is_stored(&stack, STRICT, "joe").await);
    assert!(is_stored(&stack, WEB, "anna").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_suppressed_stays_so_while_kafka_is_away() {
    let mut stack = Stack::start_after(&[suppress("jane", None)], |_| {}).await;
    stack.stop_broker().await;
    let jane = stack.post("/v1/track", WEB).body(r#"{"userId":"jane"}"#);
    assert_eq!(answer(jane).await.0, StatusCode::OK, "nothing is to be stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn until_it_is_known_whom_to_forget_no_event_is_taken() {
    // Nobody listens on a port that was free a moment ago.
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let bus = Bus::new(KafkaSettings::new(nobody.to_string()), "acme".parse().unwrap()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/track", listener.local_addr().unwrap());
    let web =
        SourceOptions { write_keys: vec![Secret::from("WK")], ..SourceOptions::new("web".parse().unwrap()) };
    let health = Health::new();
    let options = Options::new(listener, vec![web]);
    let service =
        Service::new(options, bus, KeyHasher::new(&[1; 32]), Arc::new(SystemClock), &health).unwrap();
    let stop = Stop::new();
    let running = tokio::spawn(service.run(stop.clone()));
    let request = reqwest::Client::new().post(url).header("authorization", WEB).body(r#"{"userId":"u"}"#);
    let refused =
        (StatusCode::SERVICE_UNAVAILABLE, "the suppressed users are not known yet\n".to_owned(), true);
    assert_eq!(answer(request).await, refused);
    assert!(!health.readiness().ready);
    stop.trigger();
    running.await.unwrap().unwrap();
}
