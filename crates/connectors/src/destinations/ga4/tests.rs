//! What the recorded cases of RudderStack do not say.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use millrace_connector::conformance::Reply;
use millrace_connector::{Document, HttpRequest, ItemOutcome, RequestBody};
use millrace_event_model::Reason;
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::{Settings, entry, mapper};
use crate::destinations::trial::{Trial, conforms, event};

fn map(settings: Value, fields: Value) -> Result<Vec<HttpRequest>, Reason> {
    let mut all = json!({ "api_secret": "secret-of-a-test", "measurement_id": "G-1" });
    all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    let mapper = mapper(&Settings::deserialize(all).unwrap()).unwrap();
    let mut event = json!({ "anonymousId": "a-1" });
    event.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    mapper.map(&Document::complete(event.as_object().unwrap().clone()))
}

fn body(request: &HttpRequest) -> Value {
    let RequestBody::Json(bytes) = &request.body else { panic!("{:?}", request.body) };
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn an_identify_needs_an_event_to_carry_its_properties() {
    let fields = json!({"type": "identify", "userId": "u-1", "traits": {"plan": "pro", "email": "a@b.test"}});
    assert_eq!(map(json!({}), fields.clone()).unwrap(), Vec::new());
    let settings = json!({"identify_event": "profile updated", "ignored_traits": ["email"]});
    let sent = body(&map(settings, fields).unwrap()[0]);
    assert_eq!(sent["user_properties"], json!({"plan": {"value": "pro"}}));
    assert_eq!(sent["events"][0]["name"], "profile_updated");
}

#[test]
fn what_google_would_drop_without_a_word_is_refused() {
    let old = json!({"type": "track", "event": "Opened", "timestamp": "2024-01-01T00:00:00Z",
        "receivedAt": "2024-01-04T00:00:01Z"});
    let cases = [
        (old, "too_old"),
        (json!({"type": "track", "event": "Products Searched", "properties": {}}), "missing_field"),
        (json!({"type": "track", "event": "7 days"}), "invalid_event_name"),
        (json!({"type": "track", "event": "Opened", "anonymousId": ""}), "missing_field"),
    ];
    for (fields, code) in cases {
        assert_eq!(map(json!({}), fields).unwrap_err().code, code);
    }
}

#[test]
fn googles_own_events_keep_their_items() {
    let fields = json!({"type": "track", "event": "purchase",
        "properties": {"transaction_id": "T-1", "value": "9.50", "items": [{"item_id": "i-1"}]}});
    let sent = body(&map(json!({}), fields).unwrap()[0]);
    let params = json!({"transaction_id": "T-1", "value": 9.5, "currency": "USD",
        "items": [{"item_id": "i-1"}], "engagement_time_msec": 1});
    assert_eq!(sent["events"], json!([{"name": "purchase", "params": params}]));
}

#[test]
fn products_of_an_event_of_ones_own_are_items() {
    let fields = json!({"type": "track", "event": "Quote Asked",
        "properties": {"note": {"lines": ["a", "b"]}, "products": [{"product_id": "p-1", "price": "3", "color": "red"}]}});
    let sent = body(&map(json!({}), fields).unwrap()[0]);
    let params = json!({"note_lines_0": "a", "note_lines_1": "b", "engagement_time_msec": 1,
        "items": [{"item_id": "p-1", "price": 3, "color": "red"}]});
    assert_eq!(sent["events"], json!([{"name": "Quote_Asked", "params": params}]));
}

#[test]
fn pages_can_be_left_to_googles_own_tag_and_screens_are_views() {
    let page = json!({"type": "page", "context": {"page": {"url": "https://a.test/", "tab": "x"}}});
    assert_eq!(map(json!({"block_page_views": true}), page.clone()).unwrap(), Vec::new());
    let sent = body(&map(json!({"extend_page_views": true}), page).unwrap()[0]);
    let params = &sent["events"][0]["params"];
    assert_eq!((&params["page_location"], &params["tab"]), (&json!("https://a.test/"), &json!("x")));
    let sent = body(&map(json!({}), json!({"type": "screen", "name": "Home"})).unwrap()[0]);
    assert_eq!(sent["events"][0]["name"], "screen_view");
    assert_eq!(sent["events"][0]["params"]["screen_name"], "Home");
}

#[test]
fn a_destination_feeds_one_data_stream() {
    for (more, named) in
        [(json!({}), "is missing"), (json!({"measurement_id": "G", "firebase_app_id": "1"}), "one")]
    {
        let mut settings = json!({ "api_secret": "s" });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let problem = mapper(&Settings::deserialize(settings).unwrap()).err().unwrap();
        assert!(problem.contains(named), "{problem}");
    }
}

#[tokio::test]
async fn what_the_validation_server_minds_is_the_reason_without_the_value() {
    let minds = r#"{"validationMessages":[{"fieldPath":"events","validationCode":"NAME_INVALID",
        "description":"Event at index: [0] has invalid name [private]"}]}"#;
    let settings = json!({"api_secret": "secret-of-a-test", "measurement_id": "G-1", "validate": true});
    let trial = Trial::start(&entry(), settings, [Reply::status(200).body(minds), Reply::status(204)]).await;
    let item = event(json!({"type": "track", "event": "Opened", "anonymousId": "a-1"}));
    let outcomes = trial.outcomes(std::slice::from_ref(&item)).await;
    let [ItemOutcome::Rejected(reason)] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert!(reason.message.contains("NAME_INVALID at events"), "{}", reason.message);
    assert!(!reason.message.contains("private"), "{}", reason.message);
    assert_eq!(trial.deliver(&[item]).await, ["delivered"]);
    let seen = trial.seen();
    assert_eq!(seen[0].path, "/debug/mp/collect");
    assert_eq!(seen[0].query, "api_secret=secret-of-a-test&measurement_id=G-1");
}

#[tokio::test]
async fn deliver_gets_what_every_destination_owes_it() {
    let settings = json!({"api_secret": "secret-of-a-test", "measurement_id": "G-1"});
    conforms(&entry(), settings).await;
}
