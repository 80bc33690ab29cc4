#![allow(clippy::unwrap_used, reason = "tests")]

use bytes::Bytes;
use millrace_event_model::wire::Message as _;
use millrace_event_model::{Control, Event};
use millrace_privacy::{HashKey, Policy};
use proptest::prelude::*;

use super::*;

const GENERATED: Uuid = Uuid::from_u128(7);

fn open_with(shape: Shape, scanner: Option<Scanner>, body: &str) -> Result<Vec<Event>, Refusal> {
    let limits = Limits {
        event_bytes: 2000,
        body_bytes: 60_000,
        events_per_request: 50,
        fields_per_event: 40,
        ..Limits::default()
    };
    open_within(&limits, shape, scanner, body)
}

fn open_within(
    limits: &Limits,
    shape: Shape,
    scanner: Option<Scanner>,
    body: &str,
) -> Result<Vec<Event>, Refusal> {
    let rules = Rules {
        id: "web".parse().unwrap(),
        policy_version: scanner.as_ref().map(|scanner| scanner.policy().version("strict")),
        scanner,
        blocked: BlockedEvents::new(["Debug".to_owned()]),
    };
    let envelope = Envelope {
        shape,
        rules: &rules,
        limits,
        keys: &KeyHasher::new(&[1; 32]),
        suppressions: &suppressions(),
        locator: None,
        received_at: DateTime::UNIX_EPOCH,
        address: "203.0.113.7",
        traceparent: None,
    };
    let opened = envelope.open(body.as_bytes(), || GENERATED)?;
    // As they come out of Kafka.
    let events =
        opened.events().map(|event| event.write(|record| Event::decode(&record.to_owned()).unwrap()));
    Ok(events.collect())
}

/// Jane everywhere, Joe at another source.
fn suppressions() -> Suppressions {
    let keys = KeyHasher::new(&[1; 32]);
    let mut suppressions = Suppressions::default();
    for (user, source) in [("jane", None), ("joe", Some("app".parse().unwrap()))] {
        let (user, reason) = (keys.user(user), "asked".to_owned());
        let word = Control::Suppress { user, source, reason, at: DateTime::UNIX_EPOCH };
        suppressions.hear(&word).unwrap();
    }
    suppressions
}

fn open(shape: Shape, body: &str) -> Result<Vec<Event>, Refusal> {
    open_with(shape, None, body)
}

fn strict() -> Option<Scanner> {
    Some(Scanner::new(Policy::mask_all(), HashKey::derive(&[1; 32])))
}

const TRACK: Shape = Shape::Single(EventType::Track);

#[test]
fn each_malformed_body_has_its_refusal() {
    let too_large = format!(r#"{{"userId":"u","x":"{}"}}"#, "y".repeat(2000));
    let too_many = format!(r#"{{"batch":[{}]}}"#, vec![r#"{"userId":"u"}"#; 51].join(","));
    let fields: Vec<String> = (0..40).map(|n| format!(r#""f{n}":{{}}"#)).collect();
    let too_many_fields = format!(r#"{{"userId":"u","x":{{{}}}}}"#, fields.join(","));
    let too_deep = format!(r#"{{"userId":"u","x":{}{}}}"#, "[".repeat(300), "]".repeat(300));
    for (shape, body, refusal) in [
        (TRACK, "", Refusal::InvalidJson),
        (TRACK, "not-json", Refusal::InvalidJson),
        (TRACK, r#"{"userId":"u"} x"#, Refusal::InvalidJson),
        (TRACK, r#"{"userId":"u""#, Refusal::InvalidJson),
        (TRACK, "[]", Refusal::NotAnEvent),
        (TRACK, "12", Refusal::NotAnEvent),
        (TRACK, "null", Refusal::NotAnEvent),
        (TRACK, r#""text""#, Refusal::NotAnEvent),
        (TRACK, "{}", Refusal::NoIdentity),
        (TRACK, r#"{"userId":"","anonymousId":null}"#, Refusal::NoIdentity),
        (TRACK, r#"{"userId":" \u200b "}"#, Refusal::NoIdentity),
        (TRACK, &too_large, Refusal::TooLarge),
        (TRACK, &too_many_fields, Refusal::TooManyFields),
        (TRACK, &too_deep, Refusal::TooDeep),
        (Shape::Batch, "", Refusal::InvalidJson),
        (Shape::Batch, "{}", Refusal::EmptyBatch),
        (Shape::Batch, "[]", Refusal::EmptyBatch),
        (Shape::Batch, r#"{"batch":[]}"#, Refusal::EmptyBatch),
        (Shape::Batch, r#"{"batch":null}"#, Refusal::EmptyBatch),
        (Shape::Batch, r#"{"batch":[1]}"#, Refusal::NotAnEvent),
        (Shape::Batch, r#"{"batch":"x"}"#, Refusal::NotAnEvent),
        (Shape::Batch, r#"{"batch":[[{"userId":"u"}]]}"#, Refusal::NotAnEvent),
        (Shape::Batch, r#"{"batch":[{"userId":"u"},{"type":"track"}]}"#, Refusal::NoIdentity),
        (Shape::Batch, &too_many, Refusal::TooLarge),
    ] {
        assert_eq!(open(shape, body).map(|events| events.len()), Err(refusal), "{body}");
    }
}

#[test]
fn an_identity_is_any_value_that_is_not_blank() {
    for body in [
        r#"{"userId":"u"}"#,
        r#"{"anonymousId":"a"}"#,
        r#"{"userId":12}"#,
        r#"{"userId":"","anonymousId":false}"#,
        r#"{"batch":[{"type":"record"},{"type":"extract"}]}"#,
    ] {
        let shape = if body.contains("batch") { Shape::Batch } else { TRACK };
        assert!(open(shape, body).is_ok(), "{body}");
    }
    let as_number = open(TRACK, r#"{"userId":12}"#).unwrap();
    let as_text = open(TRACK, r#"{"userId":"12"}"#).unwrap();
    assert_eq!(as_number[0].rudder_id, as_text[0].rudder_id);
    assert_eq!(as_number[0].key, as_text[0].key);
}

#[test]
fn the_path_says_the_type_of_one_event_and_each_event_of_a_batch_its_own() {
    let types = |shape, body| -> Vec<String> {
        open(shape, body).unwrap().into_iter().map(|event| event.event_type.into()).collect()
    };
    assert_eq!(types(TRACK, r#"{"userId":"u","type":"page"}"#), ["track"]);
    let batch = r#"{"batch":[{"userId":"u","type":"page"},{"userId":"u","type":"Track"},{"userId":"u","type":"Own Kind"},{"userId":"u"}]}"#;
    assert_eq!(types(Shape::Batch, batch), ["page", "track", "Own Kind", ""]);
}

#[test]
fn a_message_id_is_the_clients_or_made() {
    for (sent, kept) in [
        (r#""m-1""#, Some("m-1")),
        (r#"" m\u200b-1 ""#, Some("m-1")),
        (r#""""#, None),
        (r#"" \u00a0 ""#, None),
        ("12", None),
        ("null", None),
    ] {
        let events = open(TRACK, &format!(r#"{{"userId":"u","messageId":{sent}}}"#)).unwrap();
        let expected = kept.map_or(GENERATED.to_string(), str::to_owned);
        assert_eq!(events[0].message_id.as_str(), expected, "{sent}");
    }
}

#[test]
fn a_batchs_sent_at_fills_only_events_that_have_none() {
    let body = r#"{"sentAt":"2026-11-24T20:37:16Z","batch":[{"userId":"u"},{"userId":"u","sentAt":"2026-01-01"},{"userId":"u","sentAt":null}]}"#;
    let sent_at: Vec<Option<String>> =
        open(Shape::Batch, body).unwrap().into_iter().map(|event| event.sent_at.map(String::from)).collect();
    let batch = Some("2026-11-24T20:37:16Z".to_owned());
    assert_eq!(sent_at, [batch.clone(), None, batch]);
    let single = open(TRACK, r#"{"userId":"u","sentAt":"2026-11-24T20:37:16Z"}"#).unwrap();
    assert_eq!(single[0].sent_at, None, "the event has its own");
    let odd = open(Shape::Batch, r#"{"sentAt":1764000000,"batch":[{"userId":"u"}]}"#).unwrap();
    assert_eq!(odd[0].sent_at, None);
}

#[test]
fn what_is_blocked_or_of_a_suppressed_user_is_left_out() {
    let ids = |body: &str| -> Vec<String> {
        open(Shape::Batch, body).unwrap().into_iter().map(|event| event.message_id.0).collect()
    };
    let batch = r#"{"batch":[
        {"userId":"u","type":"track","event":"Debug","messageId":"1"},
        {"userId":"u","type":"page","name":"Debug","event":"Debug","messageId":"2"},
        {"userId":"jane","type":"track","event":"Sent","messageId":"3"},
        {"userId":" ja\u200bne ","anonymousId":"a","type":"track","messageId":"4"},
        {"anonymousId":"jane","type":"track","messageId":"5"},
        {"userId":"joe","type":"Track","event":"Sent","messageId":"6"},
        {"userId":"joe","type":"Track","event":"Debug","messageId":"7"}]}"#;
    assert_eq!(ids(batch), ["2", "5", "6"]);
    assert!(open(TRACK, r#"{"userId":"jane"}"#).unwrap().is_empty(), "nothing is left, and that is no error");
    let checked = r#"{"batch":[{"userId":"jane"},{"type":"track"}]}"#;
    assert_eq!(open(Shape::Batch, checked), Err(Refusal::NoIdentity), "the others' faults still count");
}

#[test]
fn the_address_is_under_the_policy_and_the_bodys_own_stands() {
    let event = |scanner, body| open_with(TRACK, scanner, body).unwrap().remove(0);
    assert_eq!(event(None, r#"{"userId":"u"}"#).request_ip.as_deref(), Some("203.0.113.7"));
    assert_eq!(event(strict(), r#"{"userId":"u"}"#).request_ip.as_deref(), Some("203.0.113.0"));
    let own = event(strict(), r#"{"userId":"u","request_ip":"198.51.100.9"}"#);
    assert_eq!(own.request_ip, None);
    assert_eq!(own.body, r#"{"userId":"u","request_ip":"198.51.100.0"}"#);
}

#[test]
fn no_header_carries_what_the_policy_masks() {
    let body = r#"{"sentAt":"jane@example.com","batch":[{"userId":"u","type":"of jane@example.com"}]}"#;
    let event = open_with(Shape::Batch, strict(), body).unwrap().remove(0);
    assert_eq!(event.event_type, "of j***@e***.com");
    assert_eq!(event.sent_at.as_deref(), Some("j***@e***.com"));
    assert!(event.policy.unwrap().starts_with("strict@"));
}

#[test]
fn a_batch_takes_nothing_from_the_depth_of_its_events() {
    let deep = format!(r#"{{"userId":"u","x":{}{}}}"#, "[".repeat(127), "]".repeat(127));
    assert!(open(TRACK, &deep).is_ok());
    assert!(open(Shape::Batch, &format!(r#"{{"batch":[{deep}]}}"#)).is_ok());
    assert!(open_with(TRACK, strict(), &deep).is_ok());
}

#[test]
fn what_stands_beside_a_batch_fills_in_on_segments_paths_alone() {
    let body = r#"{"context":{"a":1},"integrations":{"All":true},"writeKey":"k","batch":[
        {"userId":"u"},{"userId":"u","context":{}},{"userId":"u","context":{},"integrations":{}}]}"#;
    let bodies = |shape| -> Vec<String> {
        let events = open(shape, body).unwrap().into_iter();
        events.map(|event| String::from_utf8(event.body.to_vec()).unwrap()).collect()
    };
    assert_eq!(
        bodies(Shape::Batch),
        [
            r#"{"userId":"u"}"#,
            r#"{"userId":"u","context":{}}"#,
            r#"{"userId":"u","context":{},"integrations":{}}"#
        ]
    );
    assert_eq!(
        bodies(Shape::SegmentBatch),
        [
            r#"{"context":{"a":1},"integrations":{"All":true},"userId":"u"}"#,
            r#"{"integrations":{"All":true},"userId":"u","context":{}}"#,
            r#"{"userId":"u","context":{},"integrations":{}}"#
        ]
    );
}

#[test]
fn what_a_batch_lends_to_its_events_counts_as_theirs() {
    let sent = |context: usize, events: usize| {
        let batch = vec![r#"{"userId":"u"}"#; events].join(",");
        let body = format!(r#"{{"context":{{"x":"{}"}},"batch":[{batch}]}}"#, "y".repeat(context));
        open(Shape::SegmentBatch, &body).map(|events| events.len())
    };
    assert_eq!(sent(1_900, 20), Ok(20));
    assert_eq!(sent(1_990, 1), Err(Refusal::TooLarge), "one event");
    // A large context over many small events would multiply: the bound of a body holds for all together.
    assert_eq!(sent(1_900, 50), Err(Refusal::TooLarge), "all of them together");
}

#[test]
fn what_fits_no_record_once_it_is_masked_or_for_its_id_refuses_the_whole_request() {
    let emails = vec![r#""a@b.co""#; 40_000].join(",");
    let id = "x".repeat(450_000);
    for long in [
        format!(r#"{{"userId":"u","to":[{emails}]}}"#),
        format!(r#"{{"userId":"u","messageId":"{id}","again":"{id}"}}"#),
    ] {
        assert!(long.len() < 900 * 1024, "{}", long.len());
        let body = format!(r#"{{"batch":[{{"userId":"u"}},{long}]}}"#);
        let hashing = Policy::keep_all().with(Kind::Email, Action::Hash).unwrap();
        let scanner = Some(Scanner::new(hashing, HashKey::derive(&[1; 32])));
        let opened = open_within(&Limits::default(), Shape::Batch, scanner, &body);
        assert_eq!(opened.map(|events| events.len()), Err(Refusal::TooLarge));
    }
}

#[test]
fn of_a_field_that_stands_twice_the_last_counts() {
    let event =
        open(TRACK, r#"{"userId":"a","messageId":"1","user\u0049d":"b","messageId":"2"}"#).unwrap().remove(0);
    assert_eq!(event.rudder_id, rudder_id("b", ""));
    assert_eq!(event.message_id.as_str(), "2");
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        any::<String>().prop_map(serde_json::Value::from),
        any::<f64>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        Just(serde_json::Value::Null),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            prop::collection::vec((any::<String>(), inner), 0..4)
                .prop_map(|fields| serde_json::Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_goes_in_as_events_comes_out_byte_for_byte(
        payloads in prop::collection::vec(json(), 1..6),
        space in "[ \n\t]{0,3}",
        context in json(),
    ) {
        let events: Vec<String> =
            payloads.iter().map(|json| format!("{{{space}\"userId\" :\"u\",{space}\"properties\":{json}}}")).collect();
        let body = format!("{{\"context\":{context},\"batch\":{space}[{}{space}]}}", events.join(&format!("{space},")));
        let opened = open(Shape::Batch, &body);
        if events.iter().all(|event| event.len() <= 2000) {
            let bodies: Vec<Bytes> = opened.unwrap().into_iter().map(|event| event.body).collect();
            prop_assert_eq!(bodies, events);
        }
    }

    #[test]
    fn no_body_makes_it_panic(body in any::<String>(), batch in any::<bool>()) {
        let shape = if batch { Shape::Batch } else { TRACK };
        let _ = open_with(shape, strict(), &body);
    }
}

#[test]
fn only_a_replay_keeps_when_an_event_was_received() {
    let received = |shape, received_at: &str| {
        let event = format!(r#"{{"type":"track","userId":"u","receivedAt":{received_at}}}"#);
        let events = open(shape, &format!(r#"{{"batch":[{event}]}}"#)).unwrap();
        events[0].received_at.to_rfc3339()
    };
    let now = "1970-01-01T00:00:00+00:00";
    assert_eq!(received(Shape::Replay, r#""2026-11-24T10:00:00.5+01:00""#), "2026-11-24T09:00:00.500+00:00");
    assert_eq!(received(Shape::Replay, "12"), now);
    assert_eq!(received(Shape::Replay, r#""yesterday""#), now);
    assert_eq!(received(Shape::Batch, r#""2026-11-24T10:00:00.5+01:00""#), now);
}

#[test]
fn a_row_of_a_source_needs_no_identity() {
    assert_eq!(open(Shape::Other("extract"), "{}").unwrap()[0].event_type, "extract");
    assert_eq!(open(Shape::Other("audiencelist"), "{}"), Err(Refusal::NoIdentity));
    let list = open(Shape::Other("audiencelist"), r#"{"userId":"u","type":"track"}"#).unwrap();
    assert_eq!(list[0].event_type, "audiencelist");
}
