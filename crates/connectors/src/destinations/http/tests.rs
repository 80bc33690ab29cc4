//! Settings in, requests out.

#![allow(clippy::unwrap_used, reason = "tests")]

use millrace_connector::Context;
use serde_json::{Value, json};

use super::entry;
use crate::destinations::trial::{self, conforms};

fn made(settings: Value, event: Value) -> Result<Value, String> {
    let context = Context { id: "api".to_owned(), work_dir: "/nonexistent".into() };
    let destination = (entry().build)(&settings, &context).map_err(|error| error.full())?;
    destination
        .transform(&trial::event(event))
        .map(|made| serde_json::to_value(made).unwrap())
        .map_err(|reason| reason.message)
}

#[test]
fn without_a_map_the_event_goes_out_as_it_is() {
    let event = json!({"type": "track", "n": 1.5});
    let made = made(json!({"url": "https://api.example.com/in"}), event.clone()).unwrap();
    assert_eq!((&made[0]["url"], &made[0]["body"]), (&json!("https://api.example.com/in"), &event));
}

#[test]
fn credentials_are_values_and_never_templates() {
    let settings = json!({
        "url": "https://api.example.com",
        "method": "PUT",
        "path": ["contacts", "{{ userId }}"],
        "query": {"dry": "{{ context.dry }}"},
        "auth": {"type": "bearer", "token": "{{ userId }}"},
        "map": {"mail": {"from": "traits.email", "apply": ["lower"]}},
    });
    let made = made(settings, json!({"userId": "u 1", "traits": {"email": "A@b.co"}})).unwrap();
    assert_eq!(made[0]["url"], "https://api.example.com/contacts/u%201");
    assert_eq!(made[0]["headers"]["authorization"], "Bearer {{ userId }}");
    assert_eq!((&made[0]["body"], &made[0]["query"]), (&json!({"mail": "a@b.co"}), &json!({})));
}

#[test]
fn what_is_wrong_is_told() {
    let told = made(json!({"url": "https://x.test", "map": {"a": {"expr": "1 +"}}}), json!({})).unwrap_err();
    assert!(told.contains("settings of destination \"api\""), "{told}");
    let told = made(json!({"ulr": "https://x.test"}), json!({})).unwrap_err();
    assert!(told.contains("url") && told.contains("ulr"), "{told}");
}

#[tokio::test]
async fn deliver_gets_what_every_destination_owes_it() {
    let batch = json!({"max_items": 10});
    let auth = json!({"type": "bearer", "token": "t0k3n-t0k3n"});
    let settings = json!({"url": "https://api.example.com", "batch": batch, "auth": auth, "timeout": "1s"});
    conforms(&entry(), settings).await;
}
