//! Whose event it is: order for each person, and the id by which RudderStack knows them.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::corpus::corpora;
use crate::stack::{Stack, WEB, answer};

const PEOPLE: usize = 8;
const REQUESTS: usize = 12;

/// What a person does in one request: alone or in a batch, and before or after they have logged in.
fn request(person: usize, number: usize) -> (&'static str, Value) {
    let event = |place: usize| {
        let mut event = json!({"type": "track", "anonymousId": format!("a{person}"),
                               "messageId": format!("{person:02}-{number:02}-{place}")});
        if number > REQUESTS / 2 {
            event["userId"] = format!("u{person}").into();
        }
        event
    };
    if number.is_multiple_of(2) {
        return ("/v1/batch", json!({"batch": [event(0), event(1), event(2)]}));
    }
    ("/v1/track", event(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_events_of_a_person_are_in_one_partition_in_the_order_of_sending() {
    let stack = Stack::start().await;
    let send = async |person: usize| {
        for number in 0..REQUESTS {
            let (path, body) = request(person, number);
            assert_eq!(answer(stack.post(path, WEB).body(body.to_string())).await.0, StatusCode::OK);
        }
    };
    // Each waits for its own answers, and nobody for the others'.
    futures::future::join_all((0..PEOPLE).map(send)).await;
    let mut partitions: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
    let mut ids: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for received in stack.stored().await {
        let id = received.message.unwrap().message_id.0;
        let person = id[..2].to_owned();
        partitions.entry(person.clone()).or_default().insert(received.partition);
        ids.entry(person).or_default().push(id);
    }
    assert_eq!(ids.len(), PEOPLE);
    for (person, ids) in ids {
        assert_eq!(partitions[&person].len(), 1, "{person} is in one partition, whatever the userId");
        assert_eq!(ids.len(), REQUESTS * 2);
        assert!(ids.is_sorted(), "{ids:?}");
    }
    let used: BTreeSet<i32> = partitions.values().flatten().copied().collect();
    assert!(used.len() > 1, "the people are spread");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rudder_id_is_the_one_that_rudderstack_makes() {
    let Some(corpora) = corpora() else {
        eprintln!("SKIPPED: no corpora (set MILLRACE_CORPORA to their folder)");
        return;
    };
    let text = std::fs::read_to_string(corpora.join("gateway/http_cases.json")).unwrap();
    let cases: Value = serde_json::from_str(&text).unwrap();
    let vectors = cases["rudder_id_vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 5);
    let stack = Stack::start().await;
    for (number, vector) in vectors.iter().enumerate() {
        let body = json!({"userId": vector["userId"], "anonymousId": vector["anonymousId"],
                          "messageId": number.to_string()});
        assert_eq!(answer(stack.post("/v1/track", WEB).body(body.to_string())).await.0, StatusCode::OK);
    }
    let stored = stack.events().await;
    for (number, vector) in vectors.iter().enumerate() {
        assert_eq!(stored[&number.to_string()].rudder_id.to_string(), vector["rudderId"], "{vector}");
    }
}
