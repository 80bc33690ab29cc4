//! What Braze's recorded cases do not show: batches, answers, rows of reverse ETL.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use millrace_connector::Item;
use millrace_connector::conformance::Reply;
use millrace_event_model::ChangeOp;
use serde_json::{Value, json};

use super::entry;
use crate::destinations::trial::{Trial, change, conforms, event, requests, shown};

const AT: &str = "2023-11-14T22:13:20.000Z";

fn settings() -> Value {
    json!({"api_key": "key-of-a-workspace", "instance": "us-01"})
}

fn made(settings: &Value, item: &Item) -> Vec<Value> {
    requests(&entry(), settings, item).unwrap().iter().map(shown).collect()
}

fn identify(user: &str) -> Item {
    event(json!({"type": "identify", "userId": user, "traits": {"plan": "pro"}}))
}

#[tokio::test]
async fn a_batch_is_one_call_and_each_error_finds_its_item() {
    let product = |id: &str| json!({"product_id": id, "price": 1, "quantity": 1, "currency": "EUR"});
    let order = event(json!({
        "type": "track", "event": "Order Completed", "userId": "c", "timestamp": AT,
        "properties": {"products": [product("p1"), product("p2")]},
    }));
    let track = event(json!({"type": "track", "event": "Paid", "userId": "b", "timestamp": AT}));
    let errors = json!([{"type": "'quantity' is not valid", "input_array": "purchases", "index": 1}]);
    let answer = json!({"message": "success", "errors": errors}).to_string();
    let trial = Trial::start(&entry(), settings(), [Reply::status(201).body(answer)]).await;
    let outcomes = trial.deliver(&[identify("a"), track, order]).await;
    assert_eq!(outcomes, ["delivered", "delivered", "rejected"]);
    let seen = trial.seen();
    assert_eq!((seen.len(), seen[0].path.as_str()), (1, "/users/track"));
    let sizes =
        ["attributes", "events", "purchases"].map(|array| seen[0].json()[array].as_array().unwrap().len());
    assert_eq!(sizes, [1, 1, 2]);
}

#[tokio::test]
async fn a_word_that_is_not_success_is_none_whatever_the_status() {
    let replies = [(201, "fatal"), (201, "queued"), (400, "no valid data"), (401, "Invalid API Key")];
    let replies =
        replies.map(|(status, word)| Reply::status(status).body(json!({"message": word}).to_string()));
    let trial = Trial::start(&entry(), settings(), replies).await;
    for expected in ["unclear", "delivered", "unclear", "auth"] {
        assert_eq!(trial.deliver(&[identify("a"), identify("b")]).await, [expected; 2]);
    }
}

#[tokio::test]
async fn a_check_writes_nothing() {
    let trial = Trial::start(&entry(), settings(), [Reply::status(400), Reply::status(401)]).await;
    trial.check().await.unwrap();
    assert_eq!(trial.seen()[0].json(), json!({}));
    assert_eq!(trial.check().await.unwrap_err(), "credentials_refused");
}

#[tokio::test]
async fn a_device_is_made_the_users_before_the_user_is_written() {
    let item =
        event(json!({"type": "identify", "userId": "a", "anonymousId": "d", "traits": {"plan": "pro"}}));
    let trial = Trial::start(&entry(), settings(), []).await;
    assert_eq!(trial.deliver(&[item]).await, ["delivered"]);
    let seen = trial.seen();
    let paths: Vec<_> = seen.iter().map(|seen| seen.path.as_str()).collect();
    assert_eq!(paths, ["/users/identify", "/users/track"]);
    let alias = json!({"alias_name": "d", "alias_label": "anonymous_id"});
    assert_eq!(seen[0].json()["aliases_to_identify"], json!([{"external_id": "a", "user_alias": alias}]));
    assert_eq!(seen[1].json(), json!({"attributes": [{"external_id": "a", "plan": "pro"}]}));
}

#[test]
fn a_row_is_a_user_and_a_row_that_is_gone_deletes_it() {
    let row =
        json!({"userId": "98", "traits": {"email": "Ada@Example.com", "gender": "Woman", "total": 626.5}});
    let upsert = made(&settings(), &change(ChangeOp::Upsert, &row));
    let user = json!({"external_id": "98", "email": "ada@example.com", "gender": "F", "total": 626.5});
    assert_eq!((upsert.len(), &upsert[0]["body"]), (1, &json!({"attributes": [user]})));
    let delete = made(&settings(), &change(ChangeOp::Delete, &json!({"userId": "98"})));
    let expected = json!({
        "url": "https://rest.iad-01.braze.com/users/delete", "query": {}, "body": {"external_ids": ["98"]},
    });
    assert_eq!(delete, [expected]);
    let anonymous = change(ChangeOp::Delete, &json!({"traits": {"email": "ada@example.com"}}));
    assert_eq!(requests(&entry(), &settings(), &anonymous).unwrap_err().code, "missing_field");
}

#[test]
fn an_instance_is_one_of_brazes() {
    let host = |instance: &str| {
        let settings = json!({"api_key": "k", "instance": instance});
        requests(&entry(), &settings, &identify("a")).unwrap().remove(0).url
    };
    let cases = [
        ("US-03", "https://rest.iad-03.braze.com/users/track"),
        (" eu-02 ", "https://rest.fra-02.braze.eu/users/track"),
        ("au-01", "https://rest.au-01.braze.com/users/track"),
    ];
    for (instance, url) in cases {
        assert_eq!(host(instance), url);
    }
    let context = millrace_connector::Context { id: "braze".to_owned(), work_dir: "/nonexistent".into() };
    for wrong in ["", "us", "us-1", "evil.example/x-01", "xx-01"] {
        let settings = json!({"api_key": "k", "instance": wrong});
        let error = (entry().build)(&settings, &context).map(drop).unwrap_err().full();
        assert!(error.contains("us-01"), "{wrong}: {error}");
    }
}

#[test]
fn views_have_the_names_of_their_kind() {
    let named = |fields: Value| made(&settings(), &event(fields))[0]["body"]["events"][0]["name"].clone();
    let cases = [
        (json!({"type": "page", "name": "Prices"}), "Viewed Prices Page"),
        (json!({"type": "screen", "properties": {"name": "Home"}}), "Viewed Home Screen"),
        (json!({"type": "screen"}), "Screen Viewed"),
    ];
    for (mut fields, name) in cases {
        fields["userId"] = "a".into();
        fields["timestamp"] = AT.into();
        assert_eq!(named(fields), name);
    }
}

#[test]
fn what_is_missing_is_named_and_nothing_is_quoted() {
    let cases = [
        (json!({"type": "track", "userId": "S3CRET", "event": "Paid"}), "timestamp"),
        (json!({"type": "track", "event": "S3CRET", "timestamp": AT}), "anonymousId"),
        (json!({"type": "group", "userId": "S3CRET"}), "groupId"),
    ];
    for (fields, part) in cases {
        let reason = requests(&entry(), &settings(), &event(fields)).unwrap_err();
        assert_eq!(reason.code, "missing_field");
        assert!(reason.message.contains(part) && !reason.message.contains("S3CRET"), "{}", reason.message);
    }
}

#[tokio::test]
async fn deliver_gets_what_every_destination_owes_it() {
    conforms(&entry(), settings()).await;
}
