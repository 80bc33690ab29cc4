//! What the recorded cases of RudderStack do not say.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use millrace_connector::{Document, HttpRequest, Item, Payload, RequestBody};
use millrace_event_model::{Change, ChangeOp, PartitionKey};
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::{Settings, mapper};
use crate::destinations::mapper::Mapper;

fn amplitude(more: Value) -> Box<dyn Mapper> {
    let mut settings = json!({ "api_key": "key-of-a-test" });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    mapper(&Settings::deserialize(settings).unwrap()).unwrap()
}

fn event(fields: Value) -> Document {
    Document::complete(fields.as_object().unwrap().clone())
}

/// A row of reverse ETL.
fn row(op: ChangeOp, body: &str) -> Document {
    let change = Change {
        sync: "people".parse().unwrap(),
        run: 1,
        key: PartitionKey([7; 16]),
        destination: "am".parse().unwrap(),
        row_hash: PartitionKey([1; 16]),
        published_at: chrono::DateTime::UNIX_EPOCH,
        op,
        body: body.to_owned().into(),
    };
    let item = Item { id: change.idempotency_key(), key: change.key, payload: Payload::Change(change) };
    Document::of(&item).unwrap().into_owned()
}

fn body(request: &HttpRequest) -> Value {
    let RequestBody::Json(bytes) = &request.body else { panic!("{:?}", request.body) };
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn a_row_is_an_identify_whose_fields_are_not_user_properties() {
    let row =
        row(ChangeOp::Upsert, r#"{"userId":"u-1","traits":{"plan":"pro","city":"Turin","os_name":"iOS"}}"#);
    let requests = amplitude(json!({})).map(&row).unwrap();
    let sent = body(&requests[0])["events"][0].clone();
    assert_eq!(sent["event_type"], "$identify");
    assert_eq!(sent["user_properties"], json!({"plan": "pro"}));
    assert_eq!((&sent["city"], &sent["os_name"]), (&json!("Turin"), &json!("iOS")));
    // Amplitude takes the time of arrival: a row of a warehouse is of no moment.
    assert_eq!(sent.get("time"), None);
    assert!(sent["insert_id"].is_string());
}

#[test]
fn a_row_that_is_gone_deletes_its_user_only_where_that_is_asked_for() {
    let gone = row(ChangeOp::Delete, r#"{"userId":"u-1"}"#);
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
