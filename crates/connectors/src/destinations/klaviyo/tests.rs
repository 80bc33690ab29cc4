//! What Klaviyo's recorded cases do not show: batches, answers, rows of reverse ETL.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use millrace_connector::Item;
use millrace_connector::conformance::Reply;
use millrace_event_model::ChangeOp;
use serde_json::{Value, json};

use super::entry;
use crate::destinations::trial::{Trial, change, conforms, event, requests, shown};

fn settings() -> Value {
    json!({"private_api_key": "key-of-an-account"})
}

fn made(settings: &Value, item: &Item) -> Vec<Value> {
    requests(&entry(), settings, item).unwrap().iter().map(shown).collect()
}

fn join(list: &str, email: &str) -> Item {
    event(json!({"type": "group", "groupId": list, "traits": {"subscribe": true, "email": email}}))
}

fn identify(email: &str) -> Item {
    let wish = json!({"subscribe": true, "listId": "L", "consent": "email"});
    event(json!({"type": "identify", "userId": email, "traits": {"email": email, "properties": wish}}))
}

#[tokio::test]
async fn people_who_join_the_same_list_share_a_job() {
    let trial = Trial::start(&entry(), settings(), [Reply::status(202), Reply::status(202)]).await;
    let batch = [join("L", "a@example.com"), join("M", "b@example.com"), join("L", "c@example.com")];
    assert_eq!(trial.deliver(&batch).await, ["delivered"; 3]);
    let mut sizes: Vec<_> = trial
        .seen()
        .iter()
        .map(|seen| seen.json()["data"]["attributes"]["profiles"]["data"].as_array().unwrap().len())
        .collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 2]);
}

#[tokio::test]
async fn nobody_is_subscribed_whose_profile_was_refused() {
    let refusal = json!({"errors": [{"title": "Invalid input.", "detail": "a@example.com"}]});
    let trial = Trial::start(&entry(), settings(), [Reply::status(400).body(refusal.to_string())]).await;
    assert_eq!(trial.deliver(&[identify("a@example.com")]).await, ["unclear"]);
    assert_eq!(trial.seen().len(), 1);
    assert_eq!(trial.deliver(&[identify("b@example.com")]).await, ["delivered"]);
    let paths: Vec<_> = trial.seen().into_iter().skip(1).map(|seen| seen.path).collect();
    assert_eq!(paths, ["/api/profile-import", "/api/profile-subscription-bulk-create-jobs"]);
}

#[tokio::test]
async fn answers_of_everybody_mean_what_they_mean_everywhere() {
    let replies = [401, 429, 503].map(Reply::status);
    let trial = Trial::start(&entry(), settings(), replies).await;
    for expected in ["auth", "throttled", "transient"] {
        assert_eq!(trial.deliver(&[join("L", "a@example.com")]).await, [expected]);
    }
}

#[tokio::test]
async fn a_check_writes_nothing() {
    let trial = Trial::start(&entry(), settings(), [Reply::status(400), Reply::status(403)]).await;
    trial.check().await.unwrap();
    assert_eq!(trial.seen()[0].json(), json!({}));
    assert_eq!(trial.check().await.unwrap_err(), "credentials_refused");
}

#[test]
fn a_row_is_a_profile_and_a_row_that_is_gone_stays() {
    let row = json!({"userId": "98", "traits": {"email": "ada@example.com", "total": {"eur": 626.5}}});
    let flat = json!({"private_api_key": "k", "flatten": true});
    let upsert = made(&flat, &change(ChangeOp::Upsert, &row));
    let attributes =
        json!({"external_id": "98", "email": "ada@example.com", "properties": {"total.eur": 626.5}});
    assert_eq!(upsert[0]["body"]["data"]["attributes"], attributes);
    let delete = requests(&entry(), &settings(), &change(ChangeOp::Delete, &json!({"userId": "98"})));
    assert_eq!(delete.unwrap_err().code, "deletes_unsupported");
}

#[test]
fn properties_are_patched_as_the_event_asks() {
    let patched = event(json!({
        "type": "identify", "userId": "a", "traits": {"add": 1, "less": 2, "old": 3, "plan": "pro"},
        "integrations": {"KLAVIYO": {"fieldsToAppend": ["add"], "fieldsToUnappend": ["less"], "fieldsToUnset": ["old"]}},
    }));
    let made = made(&settings(), &patched);
    let data = &made[0]["body"]["data"];
    assert_eq!(data["attributes"]["properties"], json!({"plan": "pro"}));
    let expected = json!({"append": {"add": 1}, "unappend": {"less": 2}, "unset": ["old"]});
    assert_eq!(data["meta"]["patch_properties"], expected);
}

#[test]
fn pages_are_left_out_and_what_is_missing_is_named() {
    assert_eq!(made(&settings(), &event(json!({"type": "page", "userId": "a"}))), Vec::<Value>::new());
    let by_reach = json!({"private_api_key": "k", "identify_by": "email_or_phone"});
    let cases = [
        (json!({"type": "track", "event": "Paid", "userId": "S3CRET"}), "missing_field", "e-mail"),
        (json!({"type": "identify", "traits": {"phone": "0170S3CRET"}}), "invalid_phone", "E.164"),
        (
            json!({"type": "group", "groupId": "L", "traits": {"subscribe": "S3CRET"}}),
            "missing_field",
            "subscribe",
        ),
    ];
    for (fields, code, part) in cases {
        let reason = requests(&entry(), &by_reach, &event(fields)).unwrap_err();
        assert_eq!(reason.code, code);
        assert!(reason.message.contains(part) && !reason.message.contains("S3CRET"), "{}", reason.message);
    }
}

#[tokio::test]
async fn deliver_gets_what_every_destination_owes_it() {
    conforms(&entry(), settings()).await;
}
