//! What RudderStack's cases do not tell: who somebody is in Meta's normal forms, products, apps, old
//! events.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use millrace_connector::conformance::{Reply, Seen};
use millrace_connector::{Document, Item, ItemOutcome, RequestBody};
use millrace_event_model::Reason;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Settings, entry, mapper};
use crate::destinations::shared::hashing::sha256;
use crate::destinations::trial::{Trial, conforms, event};

const AT: &str = "2023-11-14T22:13:20Z";

/// The event that is made of one with these fields, at [`AT`], of somebody who is known.
fn made(settings: Value, fields: Value) -> Result<Value, Reason> {
    let merged = |mut one: Map<String, Value>, more: Value| {
        one.extend(more.as_object().unwrap().clone());
        one
    };
    let base = json!({"dataset_id": "1", "access_token": "secret-token"});
    let settings = Value::Object(merged(base.as_object().unwrap().clone(), settings));
    let event = json!({"type": "track", "timestamp": AT, "userId": "u", "event": "Seen"});
    let document = Document::complete(merged(event.as_object().unwrap().clone(), fields));
    let request = mapper(&Settings::deserialize(settings).unwrap()).unwrap().map(&document)?.remove(0);
    assert_eq!(request.url, "https://graph.facebook.com/v25.0/1/events");
    assert_eq!(request.query, [("access_token".to_owned(), "secret-token".to_owned())]);
    let RequestBody::Form(form) = request.body else { panic!("not a form") };
    let events: Value = serde_json::from_str(&form[0].1).unwrap();
    assert_eq!(events.as_array().unwrap().len(), 1);
    Ok(events[0].clone())
}

#[test]
fn a_person_is_hashed_in_metas_normal_form() {
    let traits = json!({"email": " Ann@Example.COM", "phone": "+44 (0)20 7946-0018", "name": "Ann-Marie O'Neil",
        "gender": "Female", "birthday": "1980-02-03", "address": {"city": "New York", "state": "NY",
        "country": "US", "postalCode": "10001-1234"}});
    let person =
        &made(json!({}), json!({"context": {"traits": traits, "ip": "192.0.2.7"}})).unwrap()["user_data"];
    let expected = [
        ("external_id", "u"),
        ("em", "ann@example.com"),
        ("ph", "4402079460018"),
        ("fn", "annmarie"),
        ("ln", "oneil"),
        ("ge", "f"),
        ("db", "19800203"),
        ("ct", "newyork"),
        ("st", "ny"),
        ("country", "us"),
        ("zp", "10001"),
    ];
    for (name, normal) in expected {
        assert_eq!(person[name], sha256(normal), "{name}");
    }
    assert_eq!(person["client_ip_address"], "192.0.2.7");
}

#[test]
fn what_is_hashed_already_stays_and_nobody_is_refused() {
    let hash = sha256("ann@example.com");
    let event = made(json!({"external_id": false}), json!({"context": {"traits": {"email": hash}}})).unwrap();
    assert_eq!(event["user_data"], json!({"em": hash}));
    let event = made(
        json!({}),
        json!({"integrations": {"Facebook_Conversions": {"hashed": true}}, "traits": {"email": "own-hash"}}),
    );
    assert_eq!(event.unwrap()["user_data"], json!({"em": "own-hash", "external_id": "u"}));
    let nobody = made(json!({}), json!({"userId": null})).unwrap_err();
    assert_eq!(nobody.code, "missing_field");
}

#[test]
fn an_event_that_says_it_is_hashed_still_loses_what_the_settings_drop() {
    let event = made(
        json!({"drop_properties": ["coupon"], "hash_properties": ["plan"]}),
        json!({"integrations": {"Facebook_Conversions": {"hashed": true}},
            "properties": {"coupon": "c", "plan": "own-hash"}}),
    );
    assert_eq!(event.unwrap()["custom_data"], json!({"plan": "own-hash"}));
}

#[test]
fn a_click_on_an_advertisement_is_told_in_the_form_of_metas_cookie() {
    let event =
        made(json!({}), json!({"context": {"page": {"url": "https://example.com/?a=1&fbclid=Iw.x"}}}))
            .unwrap();
    assert_eq!(event["user_data"]["fbc"], "fb.1.1700000000000.Iw.x");
    assert_eq!(event["event_source_url"], "https://example.com/?a=1&fbclid=Iw.x");
}

#[test]
fn properties_that_tell_who_somebody_is_are_left_out() {
    let settings = json!({"keep_properties": ["city"], "drop_properties": ["a"], "hash_properties": ["b"]});
    let properties = json!({"email": "x@y.io", "city": "Oslo", "a": 1, "b": 2, "c": 3, "event_id": "e"});
    let event = made(settings, json!({"properties": properties})).unwrap();
    assert_eq!(event["custom_data"], json!({"city": "Oslo", "b": sha256("2"), "c": 3}));
    assert_eq!(event["event_id"], "e");
}

#[test]
fn an_event_has_metas_name_and_its_products() {
    let settings = json!({"events": {"Trip Booked": "Purchase"}, "content_types": {"air": "flight"}});
    let properties = json!({"category": "air", "total": "12.50", "currency": "EUR",
        "products": [{"sku": "s1", "price": 5, "delivery_category": "by air"}, {"name": "no id"}, {"id": 2, "quantity": 3}]});
    let event = made(settings, json!({"event": "trip booked", "properties": properties})).unwrap();
    assert_eq!(event["event_name"], "Purchase");
    let custom = &event["custom_data"];
    assert_eq!(custom["content_ids"], json!(["s1", 2]));
    assert_eq!(
        custom["contents"],
        json!([{"id": "s1", "quantity": 1, "item_price": 5}, {"id": 2, "quantity": 3}])
    );
    assert_eq!((&custom["content_type"], &custom["num_items"]), (&json!("flight"), &json!(2)));
    assert_eq!((&custom["value"], &custom["currency"]), (&json!(12.5), &json!("EUR")));
    let added = |properties: Value| {
        let event = made(json!({}), json!({"event": "Product Added", "properties": properties})).unwrap();
        event["custom_data"]["content_ids"].clone()
    };
    assert_eq!(added(json!({"sku": "own", "products": [{"id": 1}]})), json!("own"));
    assert_eq!(added(json!({"products": [{"id": 1}]})), json!([1]));
    let refused = made(json!({}), json!({"properties": {"revenue": "much"}})).unwrap_err();
    assert!(
        refused.message.contains("properties.revenue") && !refused.message.contains("much"),
        "{refused:?}"
    );
}

#[test]
fn pages_and_screens_are_views_and_what_is_no_conversion_is_refused() {
    let page = made(json!({}), json!({"type": "page", "name": "Home"})).unwrap();
    assert_eq!(page["event_name"], "Viewed page Home");
    assert_eq!(made(json!({}), json!({"type": "screen"})).unwrap()["event_name"], "PageView");
    assert_eq!(made(json!({}), json!({"type": "identify"})).unwrap_err().code, "unsupported_type");
}

#[test]
fn an_app_tells_of_its_device_in_sixteen_texts() {
    let context = json!({"os": {"name": "iOS", "version": "17.1"}, "locale": "en-GB", "timezone": "Europe/Oslo",
        "app": {"namespace": "io.example", "version": "2.0"}, "device": {"adTrackingEnabled": true}});
    let event = made(json!({"action_source": "app"}), json!({"context": context})).unwrap();
    let app = &event["app_data"];
    let extended = app["extinfo"].as_array().unwrap();
    assert_eq!(extended.len(), 16);
    let told: Vec<_> = [0, 1, 3, 4, 6, 15].iter().map(|place| extended[*place].as_str().unwrap()).collect();
    assert_eq!(told, ["i2", "io.example", "2.0", "17.1", "en-GB", "Europe/Oslo"]);
    assert_eq!(app["advertiser_tracking_enabled"], 1);
}

#[test]
fn what_was_too_old_when_it_came_in_is_refused() {
    let late = json!({"receivedAt": "2023-11-22T22:13:20Z"});
    assert_eq!(made(json!({}), late.clone()).unwrap_err().code, "too_old");
    assert!(made(json!({"action_source": "physical_store"}), late).is_ok());
    assert!(made(json!({}), json!({"receivedAt": "2023-11-21T22:13:19Z"})).is_ok());
    let timeless = made(json!({}), json!({"timestamp": null})).unwrap_err();
    assert!(timeless.message.contains("timestamp"));
}

#[test]
fn limited_data_use_passes_on_what_the_event_says() {
    let context = json!({"context": {"dataProcessingOptions": [["LDU"], 1, 1000]}});
    let event = made(json!({"limited_data_use": true}), context.clone()).unwrap();
    assert_eq!(event["data_processing_options"], json!(["LDU"]));
    assert_eq!(
        (&event["data_processing_options_country"], &event["data_processing_options_state"]),
        (&json!(1), &json!(1000))
    );
    assert!(made(json!({}), context).unwrap().get("data_processing_options").is_none());
}

async fn answers(replies: Vec<Reply>, events: usize) -> (Vec<ItemOutcome>, Vec<Seen>) {
    let settings = json!({"dataset_id": "1", "access_token": "secret-token", "test_event_code": "T1"});
    let trial = Trial::start(&entry(), settings, replies).await;
    let seen = |number: usize| {
        let user = format!("u{number}");
        event(json!({"type": "track", "timestamp": AT, "userId": user, "event": "Seen"}))
    };
    let items: Vec<Item> = (0..events).map(seen).collect();
    (trial.outcomes(&items).await, trial.seen())
}

#[tokio::test]
async fn events_are_joined_into_one_form() {
    let (outcomes, seen) = answers(vec![], 3).await;
    assert_eq!(outcomes, vec![ItemOutcome::Delivered; 3]);
    assert_eq!((seen.len(), seen[0].path.as_str()), (1, "/v25.0/1/events"));
    let form: Vec<(String, String)> = url::form_urlencoded::parse(&seen[0].body).into_owned().collect();
    let data = &form.iter().find(|(name, _)| name == "data").unwrap().1;
    assert_eq!(serde_json::from_str::<Value>(data).unwrap().as_array().unwrap().len(), 3);
    assert!(form.contains(&("test_event_code".to_owned(), "T1".to_owned())));
}

#[tokio::test]
async fn the_code_in_an_answer_says_what_to_do() {
    let reply =
        |status: u16, error: Value| vec![Reply::status(status).body(json!({"error": error}).to_string())];
    let class = async |status: u16, error: Value| answers(reply(status, error), 2).await.0;
    let outcomes = class(400, json!({"code": 190, "message": "token secret-token has expired"})).await;
    let [ItemOutcome::Auth(reason), _] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert!(reason.message.contains("has expired") && !reason.message.contains("secret-token"), "{reason:?}");
    assert!(matches!(class(400, json!({"code": 17})).await[..], [ItemOutcome::Throttled { .. }, _]));
    assert!(matches!(class(400, json!({"code": 2})).await[..], [ItemOutcome::Transient { .. }, _]));
    let no_dataset = json!({"code": 100, "error_subcode": 33});
    assert!(matches!(class(400, no_dataset).await[..], [ItemOutcome::Config(_), _]));
    let old = json!({"code": 100, "error_subcode": 2_804_003, "error_user_title": "Event Timestamp Too Old"});
    let outcomes = class(400, old).await;
    let [ItemOutcome::Unclear(reason), ItemOutcome::Unclear(_)] = &outcomes[..] else {
        panic!("{outcomes:?}")
    };
    assert!(reason.message.contains("Too Old"), "{reason:?}");
}

#[tokio::test]
async fn deliver_gets_what_every_destination_owes_it() {
    conforms(&entry(), json!({"dataset_id": "1", "access_token": "secret-token"})).await;
}
