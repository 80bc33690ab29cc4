//! What Mixpanel's recorded cases do not show: batches, answers, rows of reverse ETL.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use millrace_connector::Item;
use millrace_connector::conformance::Reply;
use millrace_event_model::ChangeOp;
use serde_json::{Value, json};

use super::entry;
use crate::destinations::trial::{Trial, change, conforms, event, requests, shown};

const AT: &str = "2023-11-14T22:13:20.000Z";

fn settings() -> Value {
    json!({"token": "t0ken-of-a-project"})
}

fn track(user: &str, properties: Value) -> Item {
    event(json!({
        "type": "track", "event": "Paid", "userId": user, "messageId": user, "timestamp": AT,
        "properties": properties,
    }))
}

fn made(settings: &Value, item: &Item) -> Vec<Value> {
    requests(&entry(), settings, item).unwrap().iter().map(shown).collect()
}

#[tokio::test]
async fn a_batch_is_one_import_and_a_refused_event_fails_alone() {
    let refused = json!({"code": 400, "failed_records": [{"index": 1, "message": "'time' is invalid"}]});
    let trial = Trial::start(&entry(), settings(), [Reply::status(400).body(refused.to_string())]).await;
    let batch: Vec<_> = ["a", "b", "c"].iter().map(|user| track(user, json!({}))).collect();
    assert_eq!(trial.deliver(&batch).await, ["delivered", "rejected", "delivered"]);
    let seen = trial.seen();
    assert_eq!((seen.len(), seen[0].path.as_str(), seen[0].query.as_str()), (1, "/import/", "strict=1"));
    let users: Vec<_> =
        seen[0].json().as_array().unwrap().iter().map(|one| one["properties"]["$user_id"].clone()).collect();
    assert_eq!(users, ["a", "b", "c"]);
}

#[tokio::test]
async fn a_change_of_a_profile_that_is_refused_fails_alone() {
    let identify = |user: &str| event(json!({"type": "identify", "userId": user, "traits": {"plan": "pro"}}));
    let failed = json!({"code": 400, "failed_records": [{"index": 0, "message": "'$set' is invalid"}]});
    let replies = [
        Reply::status(400).body(failed.to_string()),
        // None was taken.
        Reply::status(200).body(json!({"status": 0, "error": "invalid"}).to_string()),
        Reply::status(200).body(json!({"code": 200, "num_good_events": 2}).to_string()),
    ];
    let trial = Trial::start(&entry(), settings(), replies).await;
    let batch = [identify("a"), identify("b")];
    assert_eq!(trial.deliver(&batch).await, ["rejected", "delivered"]);
    assert_eq!(trial.deliver(&batch).await, ["unclear", "unclear"]);
    assert_eq!(trial.deliver(&batch).await, ["delivered", "delivered"]);
    let seen = trial.seen();
    assert_eq!((seen[0].path.as_str(), seen[0].query.as_str()), ("/engage/", "verbose=2&strict=1"));
    let lax = json!({"token": "t", "strict": false});
    assert_eq!(
        requests(&entry(), &lax, &batch[0]).unwrap()[0].query,
        [("verbose".to_owned(), "2".to_owned())]
    );
}

#[tokio::test]
async fn refused_credentials_pause() {
    let trial =
        Trial::start(&entry(), settings(), [Reply::status(401), Reply::status(401), Reply::status(200)])
            .await;
    assert_eq!(trial.deliver(&[track("a", json!({}))]).await, ["auth"]);
    assert_eq!(trial.check().await.unwrap_err(), "credentials_refused");
    trial.check().await.unwrap();
    assert_eq!(trial.seen()[2].json(), json!([]), "a check imports nothing");
}

#[test]
fn what_cannot_be_repeated_comes_last_and_together() {
    let settings = json!({"token": "t", "increment": ["cups", "name"]});
    let identify = event(json!({"type": "identify", "userId": "u", "anonymousId": "a",
        "traits": {"visits": "home", "plan": "pro"}}));
    let appending = json!({"token": "t", "append": ["visits"], "identity_merge": "original"});
    let last = made(&appending, &identify).pop().unwrap();
    assert_eq!(last["body"][0]["$append"], json!({"visits": "home"}), "after all else of an identify");
    let made = made(&settings, &track("a", json!({"revenue": 2.5, "cups": 3, "name": "x"})));
    let paths: Vec<_> = made.iter().map(|request| request["url"].clone()).collect();
    let [import, engage] = ["import", "engage"].map(|path| format!("https://api.mixpanel.com/{path}/"));
    assert_eq!(paths, [import.as_str(), engage.as_str()]);
    let transaction = json!({"$time": AT, "$amount": 2.5});
    assert_eq!(made[1]["body"][0]["$append"]["$transactions"], transaction);
    assert_eq!(made[1]["body"][1]["$add"], json!({"cups": 3}), "numbers alone are added");
}

#[test]
fn a_row_is_a_profile_and_a_row_that_is_gone_takes_it_away() {
    let row = json!({"userId": 98, "traits": {"email": "ada@example.com", "total": 626.5}});
    let upsert = made(&settings(), &change(ChangeOp::Upsert, &row));
    let expected = json!([{
        "$token": "t0ken-of-a-project", "$distinct_id": "98", "$time": 1_700_000_000_000_i64,
        "$set": {"$email": "ada@example.com", "total": 626.5},
    }]);
    assert_eq!(upsert[0]["body"], expected);
    let delete = made(&settings(), &change(ChangeOp::Delete, &json!({"userId": 98})));
    let expected = json!([{
        "$token": "t0ken-of-a-project", "$distinct_id": "98", "$delete": "", "$ignore_alias": true,
    }]);
    assert_eq!((delete.len(), &delete[0]["body"]), (1, &expected));
}

#[test]
fn a_service_account_imports_for_its_project() {
    let account = json!({"username": "u", "secret": "s", "project_id": "7"});
    let settings = json!({"token": "t", "service_account": account, "region": "in"});
    let request = requests(&entry(), &settings, &track("a", json!({}))).unwrap().remove(0);
    assert_eq!(request.url, "https://api-in.mixpanel.com/import/");
    assert!(request.headers.contains(&("authorization".to_owned(), "Basic dTpz".to_owned())));
    assert!(request.query.contains(&("project_id".to_owned(), "7".to_owned())));
}

#[test]
fn a_view_is_named_by_the_settings() {
    let settings = json!({"token": "t", "page_event": "Viewed {{ name }}"});
    let page = json!({"type": "page", "name": "Prices", "userId": "a", "timestamp": AT});
    assert_eq!(made(&settings, &event(page))[0]["body"][0]["event"], "Viewed Prices");
}

#[test]
fn what_is_missing_is_named_and_nothing_is_quoted() {
    let cases = [
        (json!({"type": "track", "userId": "S3CRET", "event": "Paid"}), "missing_field", "timestamp"),
        (json!({"type": "track", "event": "S3CRET", "timestamp": AT}), "missing_field", "anonymousId"),
        (json!({"type": "track", "userId": "S3CRET", "timestamp": AT}), "missing_field", "name"),
        (json!({"type": "alias", "userId": "S3CRET", "previousId": "b"}), "unsupported_type", "simplified"),
        (json!({"type": "S3CRET"}), "unsupported_type", "this type"),
    ];
    for (fields, code, part) in cases {
        let reason = requests(&entry(), &settings(), &event(fields)).unwrap_err();
        assert_eq!(reason.code, code);
        assert!(reason.message.contains(part) && !reason.message.contains("S3CRET"), "{}", reason.message);
    }
}

#[tokio::test]
async fn deliver_gets_what_every_destination_owes_it() {
    conforms(&entry(), settings()).await;
}
