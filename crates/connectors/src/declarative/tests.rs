//! Files, right and wrong.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::Arc;

use millrace_connector::{Context, Destination, Document, Item, Payload};
use millrace_event_model::PartitionKey;
use serde_json::{Value, json};

use super::catalog::CATALOG;
use super::*;

const SMALL: &str = r#"
kind: destination
name: acme
summary: Contacts of Acme CRM
settings:
  api_key: { type: string, secret: true, required: true, description: The key. }
  region: { type: string, enum: [eu, us], default: eu, description: Where. }
http:
  base_url: "https://{{ settings.region }}.acme.test/v2/"
  auth: { type: bearer, token: "{{ settings.api_key }}" }
actions:
  - name: upsert
    when: "type == 'identify'"
    sync_modes: [upsert]
    request: { path: "/contacts/{{ userId }}", method: PUT, query: { dry: "{{ context.dry }}" } }
    map:
      email: { from: [traits.email, context.traits.email], apply: [trim, lower], required: true }
      created: { from: traits.createdAt, type: unix_seconds }
      custom: { from: traits, omit: [email, createdAt] }
      a\.b: { value: 1 }
  - name: remove
    sync_modes: [delete]
    request: { path: "/contacts/{{ userId }}", method: DELETE, format: none }
"#;

fn context() -> Context {
    Context { id: "crm".to_owned(), work_dir: "/nonexistent".into() }
}

fn requests(text: &str, settings: Value, event: Value) -> Result<Value, String> {
    let compiled = Arc::new(Compiled::read("acme.yaml", text).map_err(|errors| format!("{errors:?}"))?);
    let destination = compiled.build(&settings, &context()).map_err(|error| error.full())?;
    let document = Document::complete(event.as_object().unwrap().clone());
    let item = Item { id: "1".to_owned(), key: PartitionKey([0; 16]), payload: Payload::Document(document) };
    destination
        .transform(&item)
        .map(|made| serde_json::to_value(made).unwrap())
        .map_err(|reason| reason.message)
}

#[test]
fn an_event_becomes_the_requests_of_the_actions_that_take_it() {
    let traits = json!({"email": " A@B.co ", "createdAt": "2023-11-14T22:13:20Z", "plan": "pro"});
    let event = json!({"type": "identify", "userId": "a/b c", "traits": traits});
    let made = requests(SMALL, json!({"api_key": "k"}), event).unwrap();
    let expected = json!([{
        "method": "PUT",
        "url": "https://eu.acme.test/v2/contacts/a%2Fb%20c",
        "headers": {"authorization": "Bearer k", "content-type": "application/json"},
        "query": {},
        "body_format": "json",
        "body": {"email": "a@b.co", "created": 1_700_000_000, "custom": {"plan": "pro"}, "a.b": 1},
    }]);
    assert_eq!(made, expected);
    assert_eq!(requests(SMALL, json!({"api_key": "k"}), json!({"type": "track"})).unwrap(), json!([]));
}

#[test]
fn what_is_missing_is_named_and_no_value_is() {
    let event = json!({"type": "identify", "userId": "S3CRET", "traits": {"plan": "S3CRET"}});
    let told = requests(SMALL, json!({"api_key": "k"}), event).unwrap_err();
    assert!(told.contains("email") && !told.contains("S3CRET"), "{told}");
    let told = requests(SMALL, json!({"api_key": "k"}), json!({"type": "identify"})).unwrap_err();
    assert!(told.contains("request.path"), "{told}");
    let told = requests(SMALL, json!({"region": "mars"}), json!({})).unwrap_err();
    assert!(told.contains("api_key") && told.contains("region"), "{told}");
}

#[test]
fn all_that_is_wrong_with_a_file_comes_at_once_with_its_line() {
    let wrong = SMALL
        .replace("apply: [trim, lower]", "apply: [trimm]")
        .replace("type == 'identify'", "type ==")
        .replace("method: DELETE", "method: FETCH")
        .replace("omit: [email, createdAt]", "omit: [email], expr: traits");
    let told = format!("{:?}", Compiled::read("acme.yaml", &wrong).map(drop).unwrap_err());
    for part in
        ["acme.yaml:13:", "there is no function \"trimm\"", "one of from, expr and value", "a method is GET"]
    {
        assert!(told.contains(part), "{part} in {told}");
    }
    assert_eq!(told.lines().count(), 5, "{told}");
    let told =
        format!("{:?}", Compiled::read("acme.yaml", &SMALL.replace("when:", "wen:")).map(drop).unwrap_err());
    assert!(told.contains("unknown key \"wen\""), "{told}");
}

#[tokio::test]
async fn the_catalogs_files_are_right_and_pass_their_tests() {
    for (name, text) in CATALOG {
        let compiled = Arc::new(Compiled::read(name, text).unwrap_or_else(|errors| panic!("{errors:?}")));
        assert_eq!(format!("{}.yaml", compiled.spec.name), *name);
        assert!(compiled.spec.tests.len() >= 3, "{name} has few tests");
        for verdict in trial::run(&compiled).await {
            assert_eq!(verdict.failure, None, "{name}: {}", verdict.test);
        }
        let promises = trial::conform(&compiled).await;
        assert_eq!(millrace_connector::conformance::broken(&promises), [] as [&trial::Promise; 0], "{name}");
    }
}
