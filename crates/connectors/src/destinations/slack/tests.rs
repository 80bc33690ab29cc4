//! Messages, and what the kit asks.

#![allow(clippy::unwrap_used, reason = "tests")]

use millrace_connector::Context;
use serde_json::{Value, json};

use super::entry;
use crate::destinations::trial::{self, conforms};

fn made(more: Value, event: Value) -> Result<(String, Value), String> {
    let mut settings = json!({"webhook_url": "https://hooks.slack.com/services/a"});
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let context = Context { id: "chat".to_owned(), work_dir: "/nonexistent".into() };
    let destination = (entry().build)(&settings, &context).map_err(|error| error.full())?;
    let request = destination.transform(&trial::event(event)).map_err(|reason| reason.message)?.remove(0);
    let sent = serde_json::to_value(&request).unwrap();
    Ok((request.url, serde_json::from_str(sent["body"]["payload"].as_str().unwrap()).unwrap()))
}

#[test]
fn an_event_has_its_own_message_and_channel() {
    let more = json!({
        "events": [{"event": "^Order", "regex": true, "template": "{{ name }}: {{ properties.total }}{{ properties.gone }}"}],
        "channels": [{"event": "Order Completed", "webhook_url": "https://hooks.slack.com/services/b"}],
    });
    let event =
        |name: &str| json!({"type": "track", "event": name, "userId": "u1", "properties": {"total": 12}});
    let (url, message) = made(more.clone(), event("Order Completed")).unwrap();
    assert_eq!((url.as_str(), message), ("https://hooks.slack.com/services/b", json!({"text": "u1: 12"})));
    let (url, message) = made(more, event("Signed Up")).unwrap();
    assert_eq!(
        (url.as_str(), message),
        ("https://hooks.slack.com/services/a", json!({"text": "u1 did Signed Up"}))
    );
}

#[test]
fn an_identify_tells_the_traits_that_may_be_told() {
    let event = json!({"type": "identify", "userId": "u1", "traits": {"plan": "pro", "phone": "1"}});
    let (_, message) = made(json!({"traits": ["plan", "city"]}), event).unwrap();
    assert_eq!(message, json!({"text": "Identified u1 plan: pro "}));
    assert!(made(json!({}), json!({"type": "page"})).is_err());
    assert!(made(json!({"events": [{"event": "(", "regex": true, "template": "x"}]}), json!({})).is_err());
}

#[tokio::test]
async fn deliver_gets_what_every_destination_owes_it() {
    conforms(&entry(), json!({"webhook_url": "https://hooks.slack.com/services/T0KEN"})).await;
}
