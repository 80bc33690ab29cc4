//! What the recorded cases of RudderStack do not say.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use millrace_connector::conformance::Reply;
use millrace_connector::{Document, HttpRequest, Item, RequestBody};
use millrace_event_model::ChangeOp;
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::{Settings, entry, mapper};
use crate::destinations::trial::{self, Trial, conforms};
use crate::http::Mapper;

fn amplitude(more: Value) -> Box<dyn Mapper> {
    let mut settings = json!({ "api_key": "key-of-a-test" });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    mapper(&Settings::deserialize(settings).unwrap()).unwrap()
}

fn event(fields: Value) -> Document {
    Document::complete(fields.as_object().unwrap().clone())
}

/// A row of reverse ETL.
fn row(op: ChangeOp, row: Value) -> Document {
    Document::of(&trial::change(op, &row)).unwrap().into_owned()
}

fn body(request: &HttpRequest) -> Value {
    let RequestBody::Json(bytes) = &request.body else { panic!("{:?}", request.body) };
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn a_row_is_an_identify_whose_fields_are_not_user_properties() {
    let traits = json!({"plan": "pro", "city": "Turin", "os_name": "iOS"});
    let row = row(ChangeOp::Upsert, json!({"userId": "u-1", "traits": traits}));
    let requests = amplitude(json!({})).map(&row).unwrap();
    let sent = body(&requests[0])["events"][0].clone();
    assert_eq!(sent["event_type"], "$identify");
    assert_eq!(sent["user_properties"], json!({"plan": "pro"}));
    assert_eq!((&sent["city"], &sent["os_name"]), (&json!("Turin"), &json!("iOS")));
    assert_eq!(sent["time"], json!(1_700_000_000_000_i64), "a row happened when its run published it");
    assert!(sent["insert_id"].is_string());
}

#[test]
fn a_row_that_is_gone_deletes_its_user_only_where_that_is_asked_for() {
    let gone = row(ChangeOp::Delete, json!({"userId": "u-1"}));
    assert!(!amplitude(json!({})).takes_deletes());
    let deleting = amplitude(json!({"delete_users": true, "secret_key": "s", "region": "eu"}));
    assert!(deleting.takes_deletes());
    let requests = deleting.map(&gone).unwrap();
    assert_eq!(requests[0].url, "https://analytics.eu.amplitude.com/api/2/deletions/users");
    assert_eq!(body(&requests[0])["user_ids"], json!(["u-1"]));
    let settings = Settings::deserialize(json!({"api_key": "k", "delete_users": true})).unwrap();
    assert!(mapper(&settings).err().unwrap().contains("secret_key"));
}

#[test]
fn an_event_of_nobody_and_a_group_without_a_name_are_refused_without_values() {
    let cases = [
        (json!({"type": "track", "event": "Opened", "properties": {"a": "private"}}), "userId"),
        (json!({"type": "track", "userId": "u-1"}), "event"),
        (json!({"type": "group", "userId": "u-1", "traits": {"company": "private"}}), "group_type_trait"),
        (json!({"type": "alias", "userId": "u-1"}), "previousId"),
    ];
    for (fields, named) in cases {
        let reason = amplitude(json!({})).map(&event(fields)).unwrap_err();
        assert!(reason.message.contains(named) && !reason.message.contains("private"), "{}", reason.message);
    }
}

#[test]
fn a_template_names_pages() {
    let page =
        event(json!({"type": "page", "userId": "u-1", "name": "Pricing", "properties": {"area": "Docs"}}));
    for (settings, name) in [
        (json!({}), "Viewed Pricing Page"),
        (json!({"page_event": "{{ properties.area }}: {{ name }}"}), "Docs: Pricing"),
    ] {
        let requests = amplitude(settings).map(&page).unwrap();
        assert_eq!(body(&requests[0])["events"][0]["event_type"], name);
    }
}

fn settings() -> Value {
    json!({"api_key": "key-of-a-test"})
}

/// One of each person.
fn tracks(people: u8) -> Vec<Item> {
    let track = |number: u8| {
        let user = format!("u-{number}");
        trial::event(json!({"type": "track", "event": "Opened", "userId": user, "messageId": "m"}))
    };
    (0..people).map(track).collect()
}

#[tokio::test]
async fn events_of_a_batch_are_one_call() {
    let trial = Trial::start(&entry(), settings(), []).await;
    assert_eq!(trial.deliver(&tracks(3)).await, ["delivered"; 3]);
    let seen = trial.seen();
    assert_eq!((seen.len(), seen[0].path.as_str()), (1, "/2/httpapi"));
    let users: Vec<_> =
        seen[0].json()["events"].as_array().unwrap().iter().map(|event| event["user_id"].clone()).collect();
    assert_eq!(users, ["u-0", "u-1", "u-2"]);
}

#[tokio::test]
async fn a_refusal_meets_the_events_that_it_names() {
    let cases = [
        (
            Reply::status(400).body(r#"{"code":400,"events_with_invalid_fields":{"time":[1]}}"#),
            [("unclear", ""), ("rejected", "time is not valid"), ("unclear", "")],
        ),
        (
            Reply::status(429).body(r#"{"code":429,"throttled_events":[0]}"#),
            [("transient", "too many events"), ("unclear", ""), ("unclear", "")],
        ),
        (
            Reply::status(429).body(r#"{"code":429,"throttled_events":[]}"#),
            [("throttled", ""), ("throttled", ""), ("throttled", "")],
        ),
        (
            Reply::status(400).body(r#"{"code":400,"error":"Invalid API key: key-of-a-test"}"#),
            [("auth", ""), ("auth", ""), ("auth", "")],
        ),
    ];
    for (reply, expected) in cases {
        let trial = Trial::start(&entry(), settings(), [reply.clone()]).await;
        for (outcome, (class, told)) in trial.outcomes(&tracks(3)).await.iter().zip(expected) {
            let said = format!("{outcome:?}");
            assert!(outcome.as_str() == class && said.contains(told), "{reply:?}: {said}");
            assert!(!said.contains("key-of-a-test"), "{said}");
        }
    }
}

#[tokio::test]
async fn deliver_gets_what_every_destination_owes_it() {
    conforms(&entry(), settings()).await;
}
