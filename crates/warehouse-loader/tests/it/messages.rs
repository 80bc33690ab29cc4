//! Events and records to publish.

use bytes::Bytes;
use chrono::{DateTime, Duration, Utc};
use millrace_event_model::{
    AttemptId, Barrier, Event, KeyHasher, LoadMode, MessageId, Record, RecordBody, StreamSpec, rudder_id,
    testing,
};
use serde_json::{Value, json};

fn keys() -> KeyHasher {
    KeyHasher::new(&[7; 32])
}

/// The moment `seconds` after the start of all tests.
pub(crate) fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_764_000_000, 0).unwrap() + Duration::seconds(seconds)
}

/// An event of source `web`, received as many seconds after the start as its number says.
pub(crate) fn event(number: i64, person: &str, body: Value) -> Event {
    Event {
        event_type: body["type"].as_str().unwrap_or("track").into(),
        message_id: MessageId(format!("m-{number}")),
        rudder_id: rudder_id("", person),
        received_at: at(number),
        key: keys().person(person, ""),
        ..testing::event(&body.to_string())
    }
}

pub(crate) fn track(number: i64, person: &str, name: &str, properties: Value) -> Event {
    event(number, person, json!({"type": "track", "event": name, "properties": properties, "userId": person}))
}

pub(crate) fn identify(number: i64, person: &str, traits: Value) -> Event {
    event(number, person, json!({"type": "identify", "userId": person, "traits": traits}))
}

/// A mix of types of a few people, in order per person.
pub(crate) fn mixed(count: i64) -> Vec<Event> {
    let one = |number: i64| {
        let person = format!("person-{}", number % 7);
        match number % 4 {
            0 => identify(number, &person, json!({"plan": format!("p{number}"), "seats": number})),
            1 => track(number, &person, "Order Placed", json!({"total": number, "note": null})),
            2 => track(number, &person, "Signed Up", json!({"via": "web"})),
            _ => event(number, &person, json!({"type": "page", "name": "Home", "anonymousId": person})),
        }
    };
    (0..count).map(one).collect()
}

pub(crate) fn spec(name: &str, mode: LoadMode, generation: u64) -> StreamSpec {
    StreamSpec {
        name: name.to_owned(),
        namespace: None,
        json_schema: json!({"properties": {
            "id": {"type": "integer"},
            "name": {"type": ["null", "string"]},
            "born": {"type": "string", "format": "date-time"},
        }}),
        primary_key: vec![vec!["id".to_owned()]],
        mode,
        generation,
    }
}

fn record(attempt: u64, key: &str, body: RecordBody) -> Record {
    Record {
        source: "web".parse().unwrap(),
        attempt: AttemptId(attempt),
        emitted_at: at(0),
        key: keys().row("test", key.as_bytes()),
        body,
    }
}

pub(crate) fn row(attempt: u64, stream: &str, json: Value) -> Record {
    let body =
        RecordBody::Row { stream: stream.to_owned(), namespace: None, json: Bytes::from(json.to_string()) };
    record(attempt, &json["id"].to_string(), body)
}

pub(crate) fn begin(attempt: u64) -> Record {
    record(attempt, "", RecordBody::Begin)
}

pub(crate) fn barrier(attempt: u64, number: u64, stream: StreamSpec, complete: bool) -> Record {
    let barrier = Barrier { number, streams: vec![stream], state: None, complete };
    record(attempt, "", RecordBody::Barrier(Box::new(barrier)))
}
