//! Whatever a message holds comes back from the wire.

use bytes::Bytes;
use chrono::DateTime;
use millrace_event_model::wire::{DecodeError, Message, WireRecord};
use millrace_event_model::{DeadLetter, Event, Geo, MessageId, PartitionKey, Reason, Record, Stage};
use proptest::prelude::*;
use uuid::Uuid;

use crate::samples;

proptest! {
    #[test]
    fn an_event_comes_back_as_it_was(
        event_type in ".{0,20}",
        message_id in ".{1,60}",
        millis in 0_i64..4_000_000_000_000,
        sent_at in proptest::option::of(".{0,40}"),
        request_ip in proptest::option::of(".{0,40}"),
        geo in proptest::option::of(".{0,40}"),
        key in any::<[u8; 16]>(),
        body in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let event = Event {
            event_type: event_type.into(),
            message_id: MessageId(message_id),
            rudder_id: Uuid::from_bytes(key),
            received_at: DateTime::from_timestamp_millis(millis).unwrap(),
            sent_at: sent_at.map(Into::into),
            request_ip: request_ip.map(Into::into),
            geo: geo.map(Into::into),
            source: "web".parse().unwrap(),
            policy: None,
            traceparent: None,
            key: PartitionKey(key),
            body: Bytes::from(body),
        };
        prop_assert_eq!(Event::decode(&event.encode()), Ok(event));
    }

    #[test]
    fn a_dead_letter_keeps_the_record_that_it_is_about(
        headers in proptest::collection::vec(("[a-z]{1,8}", ".{0,20}"), 0..5),
        value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..100)),
        key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)),
    ) {
        let letter = DeadLetter {
            stage: Stage::WarehouseLoader,
            subject: "web--main".to_owned(),
            topic: "acme.events.main".to_owned(),
            partition: 3,
            offset: 99,
            reason: Reason::new("invalid_json", "the body is no JSON object"),
            at: DateTime::from_timestamp_millis(1_764_000_000_000).unwrap(),
            original: WireRecord {
                key: key.map(Bytes::from),
                headers: headers.into_iter().map(|(name, value)| (name.into(), Bytes::from(value))).collect(),
                value: value.map(Bytes::from),
            },
        };
        prop_assert_eq!(DeadLetter::decode(&letter.encode()), Ok(letter));
    }
}

#[test]
fn a_place_is_what_the_header_says_if_it_is_one() {
    let place = |geo: &str| Event { geo: Some(geo.into()), ..samples::event() }.place();
    let geo = Geo { country: Some("GB".to_owned()), ..Geo::default() };
    assert_eq!(place(&geo.to_json()), Some(geo.clone()));
    assert_eq!(place(r#"{"country":"GB","from":"the future"}"#), Some(geo));
    assert_eq!((place("nowhere"), place("7"), samples::event().place()), (None, None, None));
}

#[test]
fn a_dead_letter_of_a_dead_letter_says_who_gave_up_last() {
    let first = DeadLetter {
        stage: Stage::Deliver,
        subject: "hook".to_owned(),
        topic: "t".to_owned(),
        partition: 0,
        offset: 1,
        reason: Reason::new("http_400", "no"),
        at: DateTime::UNIX_EPOCH,
        original: samples::event().encode(),
    };
    let second = DeadLetter { subject: "other".to_owned(), original: first.encode(), ..first.clone() };
    let read = DeadLetter::decode(&second.encode()).unwrap();
    assert_eq!(read.subject, "other");
    assert_eq!(read.original, samples::event().encode());
}

#[test]
fn what_is_missing_or_malformed_is_named_and_its_content_is_not() {
    let whole = samples::event().encode();
    let decided = whole.headers[0].1.clone();
    let with =
        |json: &str| WireRecord { headers: vec![("event".into(), json.to_owned().into())], ..whole.clone() };
    let none = WireRecord { headers: Vec::new(), ..whole.clone() };
    assert_eq!(Event::decode(&none), Err(DecodeError::MissingHeader("event")));
    let decided = std::str::from_utf8(&decided).unwrap();
    for name in ["type", "messageId", "rudderId", "receivedAt", "source"] {
        let without = decided.replace(&format!("\"{name}\":"), "\"other\":");
        assert!(matches!(
            Event::decode(&with(&without)),
            Err(DecodeError::MalformedHeader { name: "event", .. })
        ));
    }
    let secret = with(&decided.replace("2025-11-24T16:00:00.123Z", "my-secret"));
    let error = Event::decode(&secret).unwrap_err();
    assert!(matches!(error, DecodeError::MalformedHeader { name: "event", .. }), "{error}");
    assert!(!error.to_string().contains("my-secret"), "{error}");
    let mut short = whole.clone();
    short.key = Some(Bytes::from_static(b"short"));
    assert_eq!(Event::decode(&short), Err(DecodeError::MalformedKey));
    let mut tombstone = whole;
    tombstone.value = None;
    assert!(matches!(Event::decode(&tombstone), Err(DecodeError::MalformedValue(_))));
}

#[test]
fn the_last_header_of_a_name_counts() {
    let other = Event { event_type: "identify".into(), ..samples::event() }.encode().headers.remove(0).1;
    let record = samples::event().encode().with("event", other);
    assert_eq!(Event::decode(&record).unwrap().event_type, "identify");
}

#[test]
fn any_text_can_stand_in_the_header() {
    let odd = Event {
        event_type: "a \"type\"\\\n".into(),
        message_id: MessageId("\u{1}é\u{2028}".repeat(200)),
        ..samples::event()
    };
    assert_eq!(Event::decode(&odd.encode()), Ok(odd));
}

#[test]
fn a_record_of_no_kind_is_refused() {
    let record = samples::all().into_iter().find(|(name, _)| *name == "record-begin").unwrap().1;
    assert!(Record::decode(&record.with("kind", "other")).is_err());
}
