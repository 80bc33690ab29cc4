//! What RudderStack's cases do not tell: rows of reverse ETL, ids that are no address, the batch API.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use millrace_connector::conformance::Reply;
use millrace_connector::{Document, HttpRequest, ItemOutcome, RequestBody};
use millrace_event_model::{ChangeOp, Reason};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Settings, entry, mapper};
use crate::destinations::trial::{Trial, change, conforms};

fn settings(more: Value) -> Settings {
    let mut settings = json!({"site_id": "site", "api_key": "key"});
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Settings::deserialize(settings).unwrap()
}

fn map(more: Value, event: Value) -> Result<HttpRequest, Reason> {
    let document = Document::complete(event.as_object().unwrap().clone());
    let mut requests = mapper(&settings(more)).unwrap().map(&document)?;
    assert_eq!(requests.len(), 1);
    Ok(requests.remove(0))
}

fn body(request: &HttpRequest) -> Value {
    match &request.body {
        RequestBody::Json(bytes) => serde_json::from_slice(bytes).unwrap(),
        RequestBody::None => Value::Null,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_row_identifies_its_person_and_a_row_that_is_gone_deletes_it() {
    let mapper = mapper(&settings(json!({}))).unwrap();
    let row = change(ChangeOp::Upsert, &json!({"userId": "u 1", "traits": {"plan": "pro"}}));
    let made = mapper.map(&Document::of(&row).unwrap()).unwrap();
    assert_eq!(
        (made[0].method.as_str(), made[0].url.as_str()),
        ("PUT", "https://track.customer.io/api/v1/customers/u%201")
    );
    assert_eq!(body(&made[0]), json!({"plan": "pro", "_timestamp": 1_700_000_000}));

    assert!(mapper.takes_deletes());
    let row = change(ChangeOp::Delete, &json!({"userId": "u 1"}));
    let made = mapper.map(&Document::of(&row).unwrap()).unwrap();
    assert_eq!(
        (made[0].method.as_str(), made[0].url.as_str()),
        ("DELETE", "https://track.customer.io/api/v1/customers/u%201")
    );
    assert_eq!(body(&made[0]), Value::Null);
}

#[test]
fn an_id_cannot_leave_its_place_in_the_address() {
    let made = map(json!({}), json!({"type": "identify", "userId": "../events?x=1#"})).unwrap();
    assert!(made.url.ends_with("/api/v1/customers/..%2Fevents%3Fx%3D1%23"), "{}", made.url);
    let refused = map(json!({}), json!({"type": "identify", "userId": ".."})).unwrap_err();
    assert_eq!(refused.code, "invalid_field");
}

#[test]
fn all_operations_are_entries_of_a_batch_where_that_is_set() {
    let event = |fields: Value| body(&map(json!({"batch": true, "region": "eu"}), fields).unwrap());
    let track = json!({"type": "track", "userId": 7, "event": "Seen", "properties": {"n": 1},
        "timestamp": "2023-11-14T22:13:20.900Z"});
    assert_eq!(
        event(track),
        json!({"type": "person", "action": "event", "identifiers": {"id": "7"}, "name": "Seen",
            "attributes": {"n": 1}, "timestamp": 1_700_000_000})
    );
    let opened = json!({"type": "track", "userId": "u", "event": "Application Opened", "properties": {"n": 1},
        "context": {"device": {"token": "t", "type": "iPadOS", "model": "m"}}});
    assert_eq!(
        event(opened),
        json!({"type": "person", "action": "add_device", "identifiers": {"id": "u"}, "device":
            {"token": "t", "platform": "ios", "attributes": {"device_model": "m", "n": 1}}})
    );
    let alias = json!({"type": "alias", "userId": "a@b.io", "previousId": "old"});
    assert_eq!(
        event(alias),
        json!({"type": "person", "action": "merge", "primary": {"email": "a@b.io"}, "secondary": {"id": "old"}})
    );
    let request =
        map(json!({"batch": true, "region": "eu"}), json!({"type": "identify", "userId": "u"})).unwrap();
    assert_eq!(request.url, "https://track-eu.customer.io/api/v2/batch");
}

#[test]
fn what_is_missing_is_named_and_a_long_name_of_an_unknown_person_is_cut() {
    let refused = |event: Value| map(json!({}), event).unwrap_err().message;
    assert!(refused(json!({"type": "identify", "anonymousId": "a"})).contains("userId or traits.email"));
    assert!(refused(json!({"type": "track", "userId": "u"})).contains("event"));
    assert!(
        refused(json!({"type": "track", "event": "Application Uninstalled", "userId": "u"}))
            .contains("token")
    );
    assert!(refused(json!({"type": "group", "userId": "u"})).contains("groupId"));
    let long = "é".repeat(60);
    let made = map(json!({}), json!({"type": "track", "anonymousId": "a", "event": long})).unwrap();
    assert_eq!(body(&made)["name"].as_str().unwrap().len(), 100);
}

#[test]
fn the_credentials_are_in_the_header_alone() {
    let made = map(json!({}), json!({"type": "identify", "userId": "u"})).unwrap();
    assert_eq!(made.headers, [("authorization".to_owned(), "Basic c2l0ZTprZXk=".to_owned())]);
    assert!(!format!("{:?}", settings(json!({}))).contains("key\""));
}

async fn trial(more: Value, replies: impl IntoIterator<Item = Reply>) -> Trial {
    let mut settings = json!({"site_id": "site", "api_key": "key"});
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Trial::start(&entry(), settings, replies).await
}

#[tokio::test]
async fn a_batch_is_one_call_and_its_answer_tells_of_each_operation() {
    let refused = json!({"errors": [{"batch_index": 1, "reason": "invalid", "field": "attributes.n",
        "message": "value too long"}]});
    let trial = trial(json!({"batch": true}), [Reply::status(207).body(refused.to_string())]).await;
    let rows = ["a", "b", "c"].map(|id| change(ChangeOp::Upsert, &json!({"userId": id})));
    let outcomes = trial.outcomes(&rows).await;
    let [ItemOutcome::Delivered, ItemOutcome::Rejected(reason), ItemOutcome::Delivered] = &outcomes[..]
    else {
        panic!("{outcomes:?}")
    };
    assert!(reason.message.contains("value too long"), "{reason:?}");
    let seen = trial.seen();
    assert_eq!((seen.len(), seen[0].path.as_str()), (1, "/api/v2/batch"));
    assert_eq!(seen[0].json()["batch"][2]["identifiers"], json!({"id": "c"}));
}

#[tokio::test]
async fn an_object_goes_out_in_a_list_and_refused_credentials_pause() {
    let throttled = Reply::status(429).header("retry-after", "3");
    let trial = trial(json!({}), [Reply::status(200), Reply::status(401), throttled]).await;
    let object = json!({"type": "group", "groupId": "g", "traits": {"name": "n"}});
    assert_eq!(trial.deliver(&[change(ChangeOp::Upsert, &object)]).await, ["delivered"]);
    assert_eq!(trial.seen()[0].json()["batch"][0]["identifiers"]["object_id"], "g");
    let person = [change(ChangeOp::Upsert, &json!({"userId": "u"}))];
    assert_eq!(trial.deliver(&person).await, ["auth"]);
    let outcomes = trial.outcomes(&person).await;
    assert!(matches!(outcomes[..], [ItemOutcome::Throttled { after: Some(_), .. }]), "{outcomes:?}");
}

#[tokio::test]
async fn deliver_gets_what_every_destination_owes_it() {
    for batch in [false, true] {
        conforms(&entry(), json!({"site_id": "site", "api_key": "key-of-a-test", "batch": batch})).await;
    }
}
