//! The webhook against a receiver that answers by script.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use hmac::{Hmac, Mac};
use millrace_connector::conformance::{Reply, Stub};
use millrace_connector::{Context, Destination, Item, ItemOutcome, Limits, Payload, Prepared, RequestBody};
use millrace_event_model::{Change, ChangeOp, Event, PartitionKey, testing};
use millrace_service::ManualClock;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sha2::Sha256;

use super::client::classify;
use super::{Webhook, entry};
use crate::destinations::trial::conforms_at;

async fn receiver(replies: impl IntoIterator<Item = Reply>) -> Stub {
    Stub::start(replies).await.unwrap()
}

fn context() -> Context {
    Context { id: "hook".to_owned(), work_dir: "/nonexistent".into() }
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_761_000_000, 0).unwrap()
}

/// A webhook to a receiver of the test, with more settings.
fn webhook(url: &str, more: Value) -> Webhook {
    let mut settings = json!({ "url": url, "allow_private": true });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Webhook::new(&settings, &context(), Arc::new(ManualClock::new(now()))).unwrap()
}

fn refusal(settings: Value) -> String {
    let error = Webhook::new(&settings, &context(), Arc::new(ManualClock::new(now()))).unwrap_err();
    assert_eq!(error.code, "invalid_settings");
    error.full()
}

fn event(body: &str) -> Item {
    let event = Event {
        rudder_id: uuid::Uuid::from_u128(7),
        received_at: now(),
        sent_at: Some("2025-10-20T22:39:59Z".into()),
        request_ip: Some("203.0.113.0".into()),
        ..testing::event(body)
    };
    Item { id: event.idempotency_key(), key: event.key, payload: Payload::Event(event) }
}

async fn send(webhook: &Webhook, item: &Item) -> ItemOutcome {
    let prepared = Prepared::of(item, webhook.transform(item).unwrap());
    webhook.deliver(vec![prepared]).await.remove(0)
}

fn body_of(webhook: &Webhook, item: &Item) -> String {
    let request = webhook.transform(item).unwrap().remove(0);
    let RequestBody::Json(body) = request.body else { panic!("not JSON") };
    String::from_utf8(body.to_vec()).unwrap()
}

#[test]
fn an_event_goes_out_in_its_own_order_with_what_the_server_decided() {
    let webhook = webhook("http://127.0.0.1/in", json!({}));
    let sent = r#"{"zeta": 1.0e2, "type":"page","properties":{"b":1,"a":"\u00e9"},"messageId":" m-1 "}"#;
    let expected = concat!(
        r#"{"zeta":1.0e2,"type":"track","properties":{"b":1,"a":"\u00e9"},"messageId":"m-1","#,
        r#""rudderId":"00000000-0000-0000-0000-000000000007","receivedAt":"2025-10-20T22:40:00.000Z","#,
        r#""request_ip":"203.0.113.0","originalTimestamp":"2025-10-20T22:40:00.000Z","#,
        r#""sentAt":"2025-10-20T22:39:59.000Z","timestamp":"2025-10-20T22:40:01.000Z"}"#
    );
    assert_eq!(body_of(&webhook, &event(sent)), expected);
}

#[test]
fn an_events_own_times_stay_as_they_were_sent_and_correct_the_one_that_is_missing() {
    let webhook = webhook("http://127.0.0.1/in", json!({}));
    let times = |sent: Value| {
        let body: Value = serde_json::from_str(&body_of(&webhook, &event(&sent.to_string()))).unwrap();
        ["originalTimestamp", "sentAt", "timestamp"].map(|name| body[name].as_str().unwrap().to_owned())
    };
    // Received at 22:40:00, its batch sent at 22:39:59.
    let own = json!({"originalTimestamp": "2030-01-01T01:00:00+01:00", "sentAt": "2030-01-01T00:00:05Z"});
    let corrected = "2025-10-20T22:39:55.000Z";
    assert_eq!(times(own), ["2030-01-01T01:00:00+01:00", "2030-01-01T00:00:05Z", corrected]);
    let of_batch = json!({"originalTimestamp": "2025-10-20T22:39:49Z", "sentAt": null});
    let sent = "2025-10-20T22:39:59.000Z";
    assert_eq!(times(of_batch), ["2025-10-20T22:39:49Z", sent, "2025-10-20T22:39:50.000Z"]);
    let named = json!({"timestamp": "2024-01-01", "sentAt": "mine"});
    assert_eq!(times(named), ["2025-10-20T22:40:00.000Z", "mine", "2024-01-01"]);
}

#[test]
fn the_clients_place_is_in_the_context_unless_the_client_says_it() {
    let webhook = webhook("http://127.0.0.1/in", json!({}));
    let context = |body: &str| {
        let mut item = event(body);
        let Payload::Event(event) = &mut item.payload else { panic!("not an event") };
        event.geo = Some(r#"{"country":"GB"}"#.into());
        let body: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&body_of(&webhook, &item)).unwrap();
        body["context"].get().to_owned()
    };
    for (sent, expected) in [
        ("{}", r#"{"geo":{"country":"GB"}}"#),
        (r#"{"context":null}"#, r#"{"geo":{"country":"GB"}}"#),
        (r#"{"context":{"n": 1.0e2,"geo":null}}"#, r#"{"n":1.0e2,"geo":{"country":"GB"}}"#),
        (r#"{"context":{"geo":{"country":"FR"}}}"#, r#"{"geo":{"country":"FR"}}"#),
        (r#"{"context":[1]}"#, "[1]"),
    ] {
        assert_eq!(context(sent), expected, "{sent}");
    }
}

#[test]
fn a_body_that_is_no_object_rejects_the_item() {
    let webhook = webhook("http://127.0.0.1/in", json!({}));
    for body in ["", "[1]", "{", "{} {}", "\"x\""] {
        assert_eq!(webhook.transform(&event(body)).unwrap_err().code, "invalid_json", "{body}");
    }
}

#[test]
fn a_change_goes_out_in_its_envelope() {
    let webhook = webhook("http://127.0.0.1/in", json!({}));
    let change = Change {
        key: PartitionKey([0xab; 16]),
        ..testing::change(ChangeOp::Upsert, r#"{"userId":"u1","traits":{"total":120.50}}"#)
    };
    let item = Item { id: change.idempotency_key(), key: change.key, payload: Payload::Change(change) };
    let expected = concat!(
        r#"{"sync":"people","run":7,"op":"upsert","key":"abababababababababababababababab","#,
        r#""data":{"userId":"u1","traits":{"total":120.50}}}"#
    );
    assert_eq!(body_of(&webhook, &item), expected);
}

#[tokio::test]
async fn each_request_is_signed_as_standard_webhooks_says_with_every_secret() {
    let receiver = receiver([]).await;
    let keys = [[5_u8; 24], [9_u8; 24]];
    let secrets = keys.map(|key| format!("whsec_{}", STANDARD.encode(key)));
    let more = json!({"secret": secrets, "headers": {"X-Team": "growth"}});
    let webhook = webhook(receiver.base(), more);
    let item = event(r#"{"type":"track","event":"Größe"}"#);

    assert_eq!(send(&webhook, &item).await, ItemOutcome::Delivered);

    let request = receiver.seen().remove(0);
    let header = |name: &str| request.header(name).unwrap().to_owned();
    assert_eq!(request.method, "POST");
    assert_eq!(header("webhook-id"), item.id.to_string());
    assert_eq!(header("webhook-timestamp"), "1761000000");
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("x-team"), "growth");
    let signed = [item.id.to_string().as_bytes(), b".1761000000.", &request.body].concat();
    let expected = keys.map(|key| {
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        mac.update(&signed);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    });
    assert_eq!(header("webhook-signature"), expected.join(" "));
}

/// The example of the Standard Webhooks specification's libraries, so that the test above is not our own
/// misreading twice.
#[tokio::test]
async fn the_signature_is_the_one_that_receivers_libraries_expect() {
    let receiver = receiver([]).await;
    let clock = ManualClock::new(DateTime::from_timestamp(1_614_265_330, 0).unwrap());
    let settings = json!({
        "url": receiver.base(), "allow_private": true, "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    });
    let webhook = Webhook::new(&settings, &context(), Arc::new(clock)).unwrap();
    let mut request = webhook.transform(&event("{}")).unwrap().remove(0);
    request.body = RequestBody::Json(Bytes::from_static(br#"{"test": 2432232314}"#));
    let prepared = Prepared {
        id: "msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned().into(),
        ..Prepared::of(&event("{}"), vec![request])
    };
    assert_eq!(webhook.deliver(vec![prepared]).await, [ItemOutcome::Delivered]);
    let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    assert_eq!(receiver.seen()[0].header("webhook-signature"), Some(signature));
}

#[tokio::test]
async fn without_a_secret_nothing_is_signed() {
    let receiver = receiver([]).await;
    assert_eq!(send(&webhook(receiver.base(), json!({})), &event("{}")).await, ItemOutcome::Delivered);
    assert_eq!(receiver.seen()[0].header("webhook-signature"), None);
}

#[test]
fn every_status_has_one_meaning() {
    for code in 200..=599_u16 {
        let expected = match code {
            200..=299 => "delivered",
            401 | 403 => "auth",
            410 => "config",
            413 => "oversize",
            429 => "throttled",
            408 | 425 | 500.. => "transient",
            _ => "rejected",
        };
        assert_eq!(classify(code, Some(Duration::from_secs(3))).as_str(), expected, "{code}");
    }
}

#[tokio::test]
async fn an_answer_becomes_an_outcome_with_a_reason() {
    for (status, expected) in [(400, "http_400"), (422, "http_422"), (302, "http_302")] {
        let receiver = receiver([Reply::status(status).body("the answer's body")]).await;
        let ItemOutcome::Rejected(reason) = send(&webhook(receiver.base(), json!({})), &event("{}")).await
        else {
            panic!("{status}")
        };
        assert_eq!(reason.code, expected);
        assert!(!reason.message.contains("body"), "the answer's body is never told: {}", reason.message);
    }
    let receiver = receiver([Reply::status(403)]).await;
    let outcome = send(&webhook(receiver.base(), json!({})), &event("{}")).await;
    assert!(matches!(outcome, ItemOutcome::Auth(reason) if reason.code == "http_403"));
}

#[tokio::test]
async fn retry_after_is_handed_on() {
    let receiver = receiver([Reply::status(429).header("retry-after", "7")]).await;
    let outcome = send(&webhook(receiver.base(), json!({})), &event("{}")).await;
    let ItemOutcome::Throttled { after, reason } = outcome else { panic!("{outcome:?}") };
    assert_eq!((after, reason.code.as_str()), (Some(Duration::from_secs(7)), "http_429"));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let target = receiver([]).await;
    let location = format!("{}/inner", target.base());
    let receiver = receiver([Reply::status(307).header("location", &location)]).await;
    let outcome = send(&webhook(receiver.base(), json!({})), &event("{}")).await;
    assert!(matches!(outcome, ItemOutcome::Rejected(reason) if reason.code == "http_307"));
    assert!(target.seen().is_empty());
}

#[tokio::test]
async fn a_receiver_that_does_not_answer_is_tried_again() {
    let receiver = receiver([Reply::never()]).await;
    let outcome = send(&webhook(receiver.base(), json!({"timeout": "1s"})), &event("{}")).await;
    assert!(matches!(outcome, ItemOutcome::Transient { after: None, reason } if reason.code == "timeout"));
}

#[tokio::test]
async fn a_receiver_that_is_not_there_is_tried_again() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let secret_path = format!("http://{address}/T0KEN");
    let webhook = webhook(&secret_path, json!({}));
    let ItemOutcome::Transient { reason, .. } = send(&webhook, &event("{}")).await else {
        panic!("not retried")
    };
    assert_eq!(reason.code, "connection_failed");
    assert!(!reason.message.contains("T0KEN"), "{}", reason.message);
    let error = webhook.check().await.unwrap_err();
    assert!(error.full().contains("127.0.0.1") && !error.full().contains("T0KEN"), "{}", error.full());
}

#[tokio::test]
async fn a_check_reaches_the_receiver_and_changes_nothing() {
    let receiver = receiver([Reply::status(404)]).await;
    webhook(receiver.base(), json!({})).check().await.unwrap();
    assert_eq!(receiver.seen()[0].method, "HEAD");
}

#[tokio::test]
async fn a_name_that_leads_inside_is_never_connected_to() {
    let receiver = receiver([]).await;
    let url = receiver.base().replace("127.0.0.1", "localhost");
    let clock = Arc::new(ManualClock::new(now()));
    let webhook = Webhook::new(&json!({ "url": url }), &context(), clock).unwrap();
    let ItemOutcome::Config(reason) = send(&webhook, &event("{}")).await else { panic!("not paused") };
    assert_eq!(reason.code, "address_refused");
    assert!(reason.message.contains("allow_private"), "{}", reason.message);
    assert!(receiver.seen().is_empty());
}

#[test]
fn an_address_that_leads_inside_is_refused_with_the_settings() {
    for url in ["http://127.0.0.1/x", "http://2130706433/", "https://[::ffff:10.0.0.1]/", "http://0x7f.1/"] {
        assert!(refusal(json!({ "url": url })).contains("may not reach"), "{url}");
    }
}

#[test]
fn wrong_settings_are_told_without_their_secrets() {
    let long_enough = STANDARD.encode([1; 24]);
    let url = "https://example.com/in";
    let cases = [
        (json!({}), "missing field `url`"),
        (json!({"url": "example.com"}), "url is not an address"),
        (json!({"url": "ftp://example.com"}), "use https or http"),
        (json!({"url": "https://anna:S3CRET@example.com"}), "headers.Authorization"),
        (json!({"url": url, "secret": "S3CRET"}), "expected whsec_"),
        (json!({"url": url, "secret": format!("whsec_{}", STANDARD.encode("S3CRET"))}), "24 to 64 bytes"),
        (json!({"url": url, "secret": ["whsec_S3CRET!", long_enough]}), "expected whsec_"),
        (json!({"url": url, "secret": 5}), "expected whsec_"),
        (json!({"url": url, "headers": "Bearer S3CRET"}), "expected a map"),
        (json!({"url": url, "headers": {"Authorization": "S3CRET\n"}}), "not a header text"),
        (json!({"url": url, "headers": {"Webhook-Id": "x"}}), "cannot be set"),
        (json!({"url": url, "headers": {"a b": "x"}}), "not a name"),
        (json!({"url": url, "timeout": "3h"}), "between 1s and 120s"),
        (json!({"url": url, "timeout": "0s"}), "between 1s and 120s"),
        (json!({"url": url, "retries": 3}), "unknown field `retries`"),
    ];
    for (settings, expected) in cases {
        let told = refusal(settings.clone());
        assert!(told.contains(expected), "{settings}: {told}");
        assert!(!told.contains("S3CRET"), "{told}");
    }
}

#[test]
fn a_secret_is_never_shown() {
    let secret = STANDARD.encode([42; 32]);
    let more = json!({"secret": format!("whsec_{secret}"), "headers": {"Authorization": "Bearer T0KEN"}});
    let shown = format!("{:?}", webhook("http://127.0.0.1/P4TH", more));
    for part in [secret.as_str(), "42, 42", "T0KEN", "P4TH"] {
        assert!(!shown.contains(part), "{shown}");
    }
}

#[test]
fn the_limits_follow_the_timeout() {
    let limits = webhook("http://127.0.0.1/", json!({"timeout": "1m"})).limits();
    assert_eq!(limits, Limits::single(16, Duration::from_secs(65)));
}

#[test]
fn the_schema_describes_every_setting() {
    let schema = (entry().schema)();
    let properties = schema["properties"].as_object().unwrap();
    assert_eq!(properties.len(), 7);
    for (name, property) in properties {
        assert!(property["description"].as_str().is_some_and(|text| text.len() > 20), "{name}");
    }
    assert_eq!(schema["required"], json!(["url"]));
    assert_eq!(schema["additionalProperties"], json!(false));
}

#[test]
fn an_event_says_where_it_goes_only_where_that_is_asked_for() {
    let body = r#"{"type":"track","fullPath":"https://example.com/b","appendPath":"?x=1","header":{"N":1}}"#;
    let made =
        |more: Value| webhook("https://example.com/a", more).transform(&event(body)).unwrap().remove(0);
    assert_eq!(made(json!({})).url, "https://example.com/a");
    let request = made(json!({"rudderstack_compatible": true, "method": "PUT"}));
    assert_eq!((request.method.as_str(), request.url.as_str()), ("PUT", "https://example.com/b?x=1"));
    assert!(request.headers.contains(&("n".to_owned(), "1".to_owned())));
    let sent = serde_json::to_value(&request).unwrap();
    assert!(sent["body"].get("fullPath").is_none() && sent["body"]["context"].get("ip").is_none());
}

#[test]
fn a_get_carries_the_properties_as_its_query() {
    let webhook = webhook("https://example.com/a", json!({"method": "GET"}));
    let request = webhook.transform(&event(r#"{"properties":{"a":{"b":1},"c":"d"}}"#)).unwrap().remove(0);
    let query = [("a.b", "1"), ("c", "d")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!((request.query.as_slice(), &request.body), (&query[..], &RequestBody::None));
}

#[tokio::test]
async fn deliver_gets_what_every_destination_owes_it() {
    let key = format!("whsec_{}", STANDARD.encode([5; 24]));
    let headers = json!({"Authorization": "Bearer token-of-a-test"});
    let settings = |base: &str| {
        json!({"url": format!("{base}/in"), "secret": key, "headers": headers, "timeout": "1s",
            "allow_private": true})
    };
    conforms_at(&entry(), settings).await;
}
