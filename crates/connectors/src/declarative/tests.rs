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
    let item =
        Item { id: "1".to_owned().into(), key: PartitionKey([0; 16]), payload: Payload::Document(document) };
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
    assert_eq!(told, "\"userId\" is missing: action \"upsert\" needs it for its path");
    let empty =
        requests(SMALL, json!({"api_key": "k"}), json!({"type": "identify", "userId": ""})).unwrap_err();
    assert_eq!(empty, told, "an empty part of a path is as good as a missing one");
    let told = requests(SMALL, json!({"region": "mars"}), json!({})).unwrap_err();
    assert!(told.contains("api_key") && told.contains("region"), "{told}");
}

#[test]
fn the_first_rule_that_fits_rejects_what_the_action_takes() {
    let text =
        SMALL.replace("    map:\n", "    reject: [{ when: traits.test, reason: it is a test }]\n    map:\n");
    let event =
        |test: bool| json!({"type": "identify", "userId": "u", "traits": {"email": "a@b.co", "test": test}});
    assert!(requests(&text, json!({"api_key": "k"}), event(false)).is_ok());
    assert_eq!(requests(&text, json!({"api_key": "k"}), event(true)).unwrap_err(), "it is a test");
    let untaken = json!({"type": "page", "traits": {"test": true}});
    assert_eq!(requests(&text, json!({"api_key": "k"}), untaken).unwrap(), json!([]));
}

#[test]
fn a_text_of_missing_values_holds_no_none_and_an_empty_one_is_left_out() {
    let name = "      name: { expr: \"traits.first ~ ' ' ~ traits.last\", apply: [trim] }\n";
    let text = SMALL
        .replace("      created:", &format!("{name}      created:"))
        .replace("createdAt]", "first, last]");
    let body = |traits: Value| {
        let event = json!({"type": "identify", "userId": "u", "traits": traits});
        requests(&text, json!({"api_key": "k"}), event).unwrap()[0]["body"].clone()
    };
    let expected = json!({"email": "a@b.co", "name": "Ann", "custom": {}, "a.b": 1});
    assert_eq!(body(json!({"email": "a@b.co", "first": "Ann", "last": null})), expected);
    let expected = json!({"email": "a@b.co", "custom": {}, "a.b": 1});
    assert_eq!(body(json!({"email": "a@b.co", "last": null})), expected);
}

#[test]
fn common_mistakes_are_told_with_what_to_do() {
    let with_test = |test: &str| format!("{SMALL}tests:\n  - {test}\n");
    for (text, line, told) in [
        (
            SMALL.replace("settings.api_key", "settings.apikey"),
            10,
            "there is no setting \"apikey\"; the settings are: api_key, region",
        ),
        (SMALL.replace("context.dry", "settings.dry"), 15, "there is no setting \"dry\""),
        (
            SMALL.replace("a\\.b: { value: 1 }", "name: \"{{ traits.name }}\""),
            20,
            "an expression is written { expr: \"traits.name\" }",
        ),
        (SMALL.replace("type == 'identify'", "traits.plan == none"), 13, "write `is none` or `is not none`"),
        (
            with_test("{ name: a, given: {}, expect: paused }"),
            25,
            "\"paused\" is not one of delivered, success, filtered",
        ),
        (
            with_test("{ name: a, given: {}, expect: [delivered, gone] }"),
            25,
            "\"gone\" is not one of delivered",
        ),
        (with_test("{ name: 401, given: {} }"), 25, "expected a string, found a number: put it in quotes"),
    ] {
        let errors = Compiled::read("acme.yaml", &text).map(drop).unwrap_err();
        let errors = format!("{errors:?}");
        assert!(
            errors.contains(&format!("acme.yaml:{line}:")) && errors.contains(told),
            "{told} in {errors}"
        );
    }
}

const JOINED: &str = r#"
kind: destination
name: acme
summary: Acme
http: { base_url: "https://acme.test" }
batch: { max_items: 3 }
rate_limit: { requests: 1, per: 1h }
actions:
  - { name: person, when: "type == 'identify'", request: { method: PUT, path: "/p/{{ userId }}" }, map: { name: traits.name } }
  - { name: event, when: "type == 'track'", request: { path: /events, array: events }, map: { e: event } }
result: { status: 422, per_record: errors, index: index, error: message }
tests:
"#;

/// What is wrong with the one test of a file.
async fn failure(test: &str) -> Option<String> {
    let compiled = Compiled::read("acme.yaml", &format!("{JOINED}  - {test}\n"));
    let compiled = Arc::new(compiled.unwrap_or_else(|errors| panic!("{errors:?}")));
    trial::run(&compiled).await.remove(0).failure
}

const TWO: &str =
    "given: [{ type: track, event: A }, { type: identify, userId: u }, { type: track, event: B }]";

#[tokio::test]
async fn a_test_shows_what_is_sent_when_items_share_a_batch() {
    let sent = "expect_sent: [{ url: https://acme.test/events, body: { events: [{ e: A }, { e: B }] } }, { method: PUT }]";
    assert_eq!(failure(&format!("{{ name: a, {TWO}, {sent}, expect: delivered }}")).await, None);
    let told = failure(&format!("{{ name: a, {TWO}, expect_requests: [{{}}, {{}}] }}")).await.unwrap();
    assert_eq!(
        told,
        "expected 2 requests, found 3, before they are joined: expect_sent compares what is sent"
    );
    let told = failure(&format!("{{ name: a, {TWO}, expect_sent: [{{}}] }}")).await.unwrap();
    assert_eq!(told, "expected 1 requests, found 2");
}

#[tokio::test]
async fn a_test_hears_the_vendors_reason_and_tells_what_differs_alone() {
    let refused = "respond: [{ status: 422, body: { errors: [{ index: 0, message: no such event }] } }]";
    let one = "given: { type: track, event: A }";
    assert_eq!(failure(&format!("{{ name: a, {one}, {refused}, expect_error: no such event }}")).await, None);
    let told = failure(&format!("{{ name: a, {one}, {refused}, expect_error: blocked }}")).await.unwrap();
    assert_eq!(told, "expected a reason with \"blocked\", found rejected (acme.test answered 422 Unprocessable Entity: no such event)".replace("acme.test", "127.0.0.1"));
    let told = failure(&format!("{{ name: a, {one}, expect_error: blocked }}")).await.unwrap();
    assert!(told.starts_with("expected an error, and the item was mapped"), "{told}");
    let three = "given: [{ type: track, event: A }, { type: track, event: B }, { type: track, event: C }]";
    let expect = "expect: [rejected, delivered, throttled]";
    let told = failure(&format!("{{ name: a, {three}, {refused}, {expect} }}")).await.unwrap();
    assert_eq!(told, "item 2: expected throttled, found delivered");
    let told = failure(&format!("{{ name: a, {three}, {refused}, expect: [rejected] }}")).await.unwrap();
    assert_eq!(told, "expect has 1 outcomes for 3 items");
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
async fn the_page_for_authors_says_what_works() {
    let page = include_str!("../../../../docs/connectors/writing.md");
    let blocks: Vec<_> =
        page.split("```yaml\n").skip(1).map(|part| part.split("```").next().unwrap()).collect();
    let [begin, map, _batch, answers, tests, _config] = blocks[..] else { panic!("{} blocks", blocks.len()) };
    let file = format!("kind: destination\nname: acme\nsummary: Acme\n{begin}{map}{answers}{tests}");
    let compiled =
        Arc::new(Compiled::read("writing.md", &file).unwrap_or_else(|errors| panic!("{errors:?}")));
    assert_eq!(compiled.spec.tests.len(), 3);
    for verdict in trial::run(&compiled).await {
        assert_eq!(verdict.failure, None, "{}", verdict.test);
    }
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
