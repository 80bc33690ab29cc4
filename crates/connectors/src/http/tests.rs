//! The shared half against a server that answers by script.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use millrace_connector::conformance::{Reply, Stub};
use millrace_connector::{Destination, Document, HttpRequest, ItemOutcome, Prepared};
use millrace_event_model::{PartitionKey, Reason};
use millrace_service::{ManualClock, Secret, SystemClock};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use super::call::{Call, Unsent, plan, plan_all};
use super::client::retry_after;
use super::*;

mod joining;
mod rate;
mod reading;

/// Nobody is mapped here: the requests of the tests are given.
struct Unmapped;

impl Mapper for Unmapped {
    fn map(&self, _: &Document) -> Result<Vec<HttpRequest>, Reason> {
        Ok(Vec::new())
    }
}

fn profile() -> Profile {
    Profile::new(Check::Reach("http://vendor.test/".to_owned()))
}

fn joining(join: Join) -> Profile {
    Profile { joins: JoinRule::all(join), max_items: 100, ..profile() }
}

fn contacts(ids: &[u32]) -> HttpRequest {
    let contacts: Vec<Value> = ids.iter().map(|id| json!({"id": id})).collect();
    HttpRequest::post("http://vendor.test/contacts").json(&json!({"contacts": contacts, "v": 2}))
}

fn body(request: &HttpRequest) -> Value {
    serde_json::to_value(request).unwrap()["body"].clone()
}

/// Of each request the item has no other.
fn all_alone(requests: Vec<HttpRequest>) -> Vec<Unsent> {
    requests
        .into_iter()
        .enumerate()
        .map(|(item, request)| Unsent::new(item, prepared(item as u32, vec![request])))
        .collect()
}

fn answer(status: u16, body: &Value) -> Answer {
    let host = "vendor.test".to_owned();
    Answer { status, retry_after: None, body: body.to_string().into(), complete: true, host }
}

fn call_of(count: u32) -> Call {
    let requests = (0..count).map(|id| contacts(&[id])).collect();
    plan(&joining(Join::arrays(&["contacts"], 100)), &mut all_alone(requests)).remove(0)
}

fn classes(outcomes: &[ItemOutcome]) -> Vec<&'static str> {
    outcomes.iter().map(ItemOutcome::as_str).collect()
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
        let answer = answer(code, &Value::Null);
        assert_eq!(classes(&judge(&profile(), &answer, &call_of(1))), [expected], "{code}");
        let of_several = if expected == "rejected" { "unclear" } else { expected };
        assert_eq!(classes(&judge(&profile(), &answer, &call_of(2))), [of_several; 2], "{code}");
    }
}

#[test]
fn the_first_rule_that_fits_counts_and_tells_a_bounded_message() {
    let known = |body: &Value| body["error"].as_str().is_some_and(|text| text.contains("exists"));
    let rules = vec![
        AnswerRule::status(409, Class::Success).when(known),
        AnswerRule { status: vec![(400, 499)], ..AnswerRule::status(0, Class::Rejected).telling("error") },
    ];
    let profile = Profile { answers: rules, ..profile() };
    assert_eq!(
        classes(&judge(&profile, &answer(409, &json!({"error": "it exists"})), &call_of(1))),
        ["delivered"]
    );
    let mut call = call_of(1);
    call.request = call.request.header("authorization", "Bearer S3CRETS3CRET");
    let long = format!("no key S3CRETS3CRET\n{}", "x".repeat(1000));
    let outcome = judge(&profile, &answer(422, &json!({"error": long})), &call).remove(0);
    let ItemOutcome::Rejected(reason) = outcome else { panic!("not rejected") };
    assert!(reason.message.starts_with("vendor.test answered 422 Unprocessable Entity: no key *** x"));
    assert!(reason.message.chars().count() < 400 && !reason.message.contains("S3CRET"));
}

#[test]
fn failures_of_a_batch_reach_their_items_in_whatever_order_they_are_told() {
    let results = |find: Find| ItemResults {
        status: Vec::new(),
        at: "failed".to_owned(),
        find,
        ok: None,
        classes: vec![(Arc::new(|entry: &Value| entry["code"] == 429), Class::Throttled)],
        message: Some("why".to_owned()),
    };
    let judged = |find: Find, body: Value| {
        let profile = Profile { items: Some(results(find)), ..joining(Join::arrays(&["contacts"], 9)) };
        classes(&judge(&profile, &answer(207, &body), &call_of(4)))
    };
    let index = Find::Index { index: "at".to_owned(), array: None };
    let failed = json!({"failed": [{"at": 3, "code": 429}, {"at": 1, "why": "no e-mail"}]});
    assert_eq!(judged(index.clone(), failed), ["delivered", "rejected", "delivered", "throttled"]);
    let id = Find::Id { entry: "id".to_owned(), element: "id".to_owned() };
    assert_eq!(
        judged(id, json!({"failed": [{"id": 2}]})),
        ["delivered", "delivered", "rejected", "delivered"]
    );
    assert_eq!(judged(index, json!({"failed": [{"at": 17}]})), ["unclear"; 4], "a failure of nobody");
}

fn now() -> DateTime<chrono::Utc> {
    DateTime::from_timestamp(1_761_000_000, 0).unwrap()
}

fn destination(profile: Profile, stub: &Stub) -> HttpDestination {
    destination_at(profile, stub.base())
}

fn destination_at(profile: Profile, origin: &str) -> HttpDestination {
    let reach = Reach {
        private: Private::all(),
        timeout: profile.timeout,
        hosts: profile.hosts.clone(),
        origin: Some(origin.parse().unwrap()),
    };
    HttpDestination::new(Box::new(Unmapped), profile, reach, Arc::new(SystemClock)).unwrap()
}

fn prepared(id: u32, requests: Vec<HttpRequest>) -> Prepared {
    Prepared { id: id.to_string().into(), key: PartitionKey([id as u8; 16]), requests }
}

#[tokio::test]
async fn a_batch_goes_out_as_one_call_to_the_origin_of_the_settings() {
    let stub = Stub::start([]).await.unwrap();
    let destination = destination(joining(Join::arrays(&["contacts"], 100)), &stub);
    let batch = (0..3).map(|id| prepared(id, vec![contacts(&[id])])).collect();
    assert_eq!(destination.deliver(batch).await, vec![ItemOutcome::Delivered; 3]);
    let seen = stub.seen();
    assert_eq!((seen.len(), seen[0].path.as_str()), (1, "/contacts"));
    assert_eq!(seen[0].json()["contacts"], json!([{"id": 0}, {"id": 1}, {"id": 2}]));
}

#[tokio::test]
async fn requests_of_an_item_go_in_order_and_stop_at_the_first_failure() {
    let stub = Stub::start([Reply::status(200), Reply::status(422)]).await.unwrap();
    let requests = ["a", "b", "c"].map(|path| HttpRequest::post(format!("http://vendor.test/{path}")));
    let outcomes = destination(profile(), &stub).deliver(vec![prepared(1, requests.to_vec())]).await;
    assert_eq!(classes(&outcomes), ["rejected"]);
    let paths: Vec<_> = stub.seen().into_iter().map(|seen| seen.path).collect();
    assert_eq!(paths, ["/a", "/b"]);
}

fn oauth() -> OAuth2 {
    OAuth2 {
        token_url: "http://vendor.test/token".to_owned(),
        client_id: "millrace".to_owned(),
        client_secret: Secret::from("s"),
        refresh_token: None,
        scope: Some("write".to_owned()),
        fields: Vec::new(),
    }
}

#[tokio::test]
async fn like_requests_of_an_item_are_one_call_and_none_overtakes_another() {
    let stub = Stub::start([]).await.unwrap();
    let other = HttpRequest::post("http://vendor.test/other");
    let mut requests: Vec<_> = (0..8).map(|id| contacts(&[id])).collect();
    requests.extend([other, contacts(&[8])]);
    let batch = vec![prepared(1, requests), prepared(2, vec![contacts(&[9])])];
    let outcomes = destination(joining(Join::arrays(&["contacts"], 5)), &stub).deliver(batch).await;
    assert_eq!(classes(&outcomes), ["delivered"; 2]);
    let ids =
        |body: Value| body["contacts"].as_array().unwrap().iter().map(|one| one["id"].clone()).collect();
    let seen = stub.seen();
    let told = |path: &str, wanted: &[u32]| {
        let wanted = json!(wanted);
        seen.iter().position(|seen| match path {
            "/other" => seen.path == path,
            _ => seen.path == path && Value::Array(ids(seen.json())) == wanted,
        })
    };
    let order = [
        told("/contacts", &[0, 1, 2, 3, 4]),
        told("/contacts", &[5, 6, 7]),
        told("/other", &[]),
        told("/contacts", &[8]),
    ];
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{order:?}");
    assert_eq!(seen.len(), 5, "and the other item's own");
}

/// Two persons' items: joined where they may be, and none overtakes another of its person.
#[tokio::test]
async fn items_of_a_person_are_in_one_call_or_in_calls_one_after_the_other() {
    let of = |key: u8, request: HttpRequest| Prepared {
        id: "m".to_owned().into(),
        key: PartitionKey([key; 16]),
        requests: vec![request],
    };
    let other = || HttpRequest::post("http://vendor.test/other");
    let batch = || {
        vec![
            of(1, contacts(&[0])),
            of(2, other()),
            of(1, contacts(&[1])),
            of(1, other()),
            of(1, contacts(&[2])),
        ]
    };
    let seen = |stub: &Stub| {
        stub.seen()
            .iter()
            .map(|seen| (seen.path.clone(), seen.json()["contacts"].clone()))
            .collect::<Vec<_>>()
    };
    let stub = Stub::start([]).await.unwrap();
    let outcomes = destination(joining(Join::arrays(&["contacts"], 5)), &stub).deliver(batch()).await;
    assert_eq!(classes(&outcomes), ["delivered"; 5]);
    let mut first_round = seen(&stub);
    let rest = first_round.split_off(2);
    first_round.sort_by_key(|(path, _)| path.clone());
    assert_eq!(first_round[0].1, json!([{"id": 0}, {"id": 1}]));
    let expected = [("/other".to_owned(), Value::Null), ("/contacts".to_owned(), json!([{"id": 2}]))];
    assert_eq!(rest, expected);

    let stub = Stub::start([Reply::status(503), Reply::status(503)]).await.unwrap();
    let outcomes = destination(joining(Join::arrays(&["contacts"], 5)), &stub).deliver(batch()).await;
    let expected = ["transient", "transient", "transient", "not_sent", "not_sent"];
    assert_eq!(classes(&outcomes), expected);
    assert_eq!(stub.seen().len(), 2, "nothing is sent before what has to be sent again");

    let stub = Stub::start([]).await.unwrap();
    let outcomes = destination(profile(), &stub).deliver((0..10).map(|_| of(1, other())).collect()).await;
    assert_eq!(
        classes(&outcomes)[7..],
        ["delivered", "not_sent", "not_sent"],
        "the others wait for so many rounds"
    );
}

#[tokio::test]
async fn a_token_is_fetched_once_and_renewed_once_when_it_is_refused() {
    let token =
        |text: &str| Reply::status(200).body(json!({"access_token": text, "expires_in": 3600}).to_string());
    let stub = Stub::start([
        token("one"),
        Reply::status(200),
        Reply::status(401),
        token("two"),
        Reply::status(200),
        Reply::status(401),
        token("three"),
        Reply::status(401),
    ])
    .await
    .unwrap();
    let destination = destination(Profile { signer: Signer::OAuth2(oauth()), ..profile() }, &stub);
    for expected in ["delivered", "delivered", "auth"] {
        let outcomes = destination.deliver(vec![prepared(1, vec![contacts(&[1])])]).await;
        assert_eq!(classes(&outcomes), [expected]);
    }
    let told: Vec<_> =
        stub.seen().iter().map(|seen| seen.header("authorization").map(str::to_owned)).collect();
    let bearer = |token: &str| Some(format!("Bearer {token}"));
    let expected =
        [None, bearer("one"), bearer("one"), None, bearer("two"), bearer("two"), None, bearer("three")];
    assert_eq!(told, expected);
    let form = String::from_utf8(stub.seen()[0].body.to_vec()).unwrap();
    assert_eq!(form, "client_id=millrace&client_secret=s&grant_type=client_credentials&scope=write");
}

#[tokio::test]
async fn a_token_that_lives_for_ever_or_is_long_dead_is_used_all_the_same() {
    for expires_in in [i64::MAX, i64::MAX / 1000, i64::MIN / 1000, i64::MIN] {
        let token = json!({"access_token": "one", "expires_in": expires_in}).to_string();
        let stub = Stub::start([Reply::status(200).body(token)]).await.unwrap();
        let destination = destination(Profile { signer: Signer::OAuth2(oauth()), ..profile() }, &stub);
        let outcomes = destination.deliver(vec![prepared(1, vec![contacts(&[1])])]).await;
        assert_eq!(classes(&outcomes), ["delivered"], "{expires_in}");
    }
}

#[tokio::test]
async fn a_check_tells_refused_credentials_from_a_vendor_that_is_down() {
    let stub = Stub::start([Reply::status(200), Reply::status(401), Reply::status(503)]).await.unwrap();
    let request = HttpRequest::new("GET", "http://vendor.test/me");
    let check = Check::Ask { request, expect: Vec::new() };
    let destination = destination(Profile::new(check), &stub);
    destination.check().await.unwrap();
    assert_eq!(destination.check().await.unwrap_err().code, "credentials_refused");
    let down = destination.check().await.unwrap_err();
    assert!(matches!(down.kind, millrace_connector::ErrorKind::Retry { .. }));
}

#[tokio::test]
async fn a_vendor_that_never_answers_is_given_up_in_the_time_that_the_limits_say() {
    let stub = Stub::start([]).await.unwrap();
    stub.otherwise(Reply::never());
    let destination = destination(Profile { timeout: Duration::from_millis(200), ..profile() }, &stub);
    // Five calls, of which four are under way at once: the last is not begun.
    let batch = (0..5).map(|id| prepared(id, vec![contacts(&[id])])).collect();
    let limit = destination.limits().timeout;
    let outcomes = tokio::time::timeout(limit, destination.deliver(batch)).await.unwrap();
    assert_eq!(classes(&outcomes), ["transient", "transient", "transient", "transient", "not_sent"]);
    assert_eq!(stub.seen().len(), 4);
}

#[tokio::test]
async fn only_the_hosts_of_the_profile_are_called() {
    let reach = Reach {
        private: Private::all(),
        timeout: Duration::from_secs(1),
        hosts: vec!["*.vendor.test".to_owned(), "vendor.example".to_owned()],
        origin: None,
    };
    let client = Client::new(reach, Arc::new(ManualClock::new(now()))).unwrap();
    for url in
        ["http://vendor.test/", "http://evilvendor.test/", "http://127.0.0.1/", "http://a.vendor.example/"]
    {
        let error = client.send(&HttpRequest::post(url), &[]).await.unwrap_err();
        assert_eq!(error.code, "host_refused", "{url}");
    }
}

/// Settings of a test.
#[derive(Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only read from JSON")]
struct Settings {
    /// The key of the workspace.
    api_key: Secret,
    /// How many.
    #[serde(default)]
    count: u8,
}

#[test]
fn wrong_settings_are_told_all_at_once_without_their_values() {
    let entry = HttpEntry::<Settings> {
        kind: "test",
        summary: "A test",
        mapper: |_| Ok(Box::new(Unmapped)),
        profile: |_| profile(),
        rudder: None,
    }
    .entry();
    let context = millrace_connector::Context { id: "d".to_owned(), work_dir: "/nonexistent".into() };
    let made = |settings: Value| (entry.build)(&settings, &context).map(drop);
    made(json!({"api_key": "k", "allow_private": true, "origin": "http://127.0.0.1:1"})).unwrap();
    let told = made(json!({"api_key": 5550123, "count": "S3CRET", "more": 1})).unwrap_err().full();
    for part in ["api_key", "count", "more"] {
        assert!(told.contains(part), "{told}");
    }
    assert!(!told.contains("S3CRET") && !told.contains("5550123"), "{told}");
    let told = made(json!({"api_key": "k", "origin": "http://127.0.0.1:1"})).unwrap_err().full();
    assert!(told.contains("allow_private"), "{told}");
    for origin in ["http://S3CRET@127.0.0.1:1", "http://:S3CRET@127.0.0.1:1"] {
        let settings = json!({"api_key": "k", "allow_private": true, "origin": origin});
        let told = made(settings).unwrap_err().full();
        assert!(told.contains("origin") && !told.contains("S3CRET"), "{told}");
    }
    let schema = (entry.schema)();
    assert!(schema["properties"]["allow_private"]["description"].is_string());
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    let read = |text: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", text.parse().unwrap());
        retry_after(&headers, now())
    };
    assert_eq!(read("120"), Some(Duration::from_secs(120)));
    assert_eq!(read("Mon, 20 Oct 2025 22:41:30 GMT"), Some(Duration::from_secs(90)));
    assert_eq!(read("Mon, 20 Oct 2025 22:00:00 GMT"), Some(Duration::ZERO), "a date that has passed");
    assert_eq!(read("soon"), None);
    assert_eq!(read("-5"), None);
    assert_eq!(retry_after(&HeaderMap::new(), now()), None);
}
