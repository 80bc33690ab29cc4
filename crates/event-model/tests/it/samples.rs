//! One message of every shape that is written today. Names are those of the files in `tests/wire/v1`.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use millrace_event_model::wire::{Message, WireRecord};
use millrace_event_model::{
    AttemptId, AuditEntry, Barrier, Change, ChangeOp, Control, DeadLetter, Disposition, Event, Geo,
    KeyHasher, LoadMode, MessageId, Origin, Outcome, PartitionKey, Progress, Reason, Record, RecordBody,
    Stage, StreamSpec, rudder_id,
};
use serde_json::json;

fn at() -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_764_000_000_123).unwrap()
}

fn key() -> PartitionKey {
    KeyHasher::new(&[7; 32]).person("anonymous", "")
}

pub(crate) fn event() -> Event {
    Event {
        event_type: "track".into(),
        message_id: MessageId("m-1".to_owned()),
        rudder_id: rudder_id("user", "anonymous"),
        received_at: at(),
        sent_at: Some("2025-11-24T16:00:00.000+01:00".into()),
        request_ip: Some("203.0.113.0".into()),
        geo: None,
        source: "web".parse().unwrap(),
        policy: Some("strict.1".into()),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        key: key(),
        body: Bytes::from_static(br#"{"type":"track","event":"Bought","properties":{"total": 1.50}}"#),
    }
}

fn bare_event() -> Event {
    Event {
        event_type: "Something Else".into(),
        sent_at: None,
        request_ip: None,
        policy: None,
        traceparent: None,
        ..event()
    }
}

fn located_event() -> Event {
    let geo = Geo {
        ip: Some("203.0.113.0".to_owned()),
        city: Some("Boxford".to_owned()),
        country: Some("GB".to_owned()),
        region: Some("England".to_owned()),
        postal: Some("OX1".to_owned()),
        location: Some("51.750000,-1.250000".to_owned()),
        timezone: Some("Europe/London".to_owned()),
    };
    Event { geo: Some(geo.to_json().into()), ..event() }
}

fn record(body: RecordBody) -> Record {
    Record { source: "crm".parse().unwrap(), attempt: AttemptId(12), emitted_at: at(), key: key(), body }
}

fn row(namespace: Option<&str>) -> Record {
    let json = Bytes::from_static(br#"{"id": 1,"name":"a"}"#);
    record(RecordBody::Row { stream: "users".to_owned(), namespace: namespace.map(str::to_owned), json })
}

fn stream(name: &str, mode: LoadMode, generation: u64) -> StreamSpec {
    StreamSpec {
        name: name.to_owned(),
        namespace: (generation > 0).then(|| "public".to_owned()),
        json_schema: json!({"type": "object", "properties": {"id": {"type": "integer"}}}),
        primary_key: if generation > 0 { vec![vec!["id".to_owned()]] } else { Vec::new() },
        mode,
        generation,
    }
}

fn barrier(state: Option<serde_json::Value>, complete: bool) -> Record {
    let streams = vec![stream("users", LoadMode::Overwrite, 3), stream("log", LoadMode::Append, 0)];
    record(RecordBody::Barrier(Box::new(Barrier { number: 40, streams, state, complete })))
}

fn change(op: ChangeOp) -> Change {
    Change {
        sync: "big-spenders".parse().unwrap(),
        run: 7,
        destination: "hook".parse().unwrap(),
        op,
        key: key(),
        row_hash: PartitionKey([9; 16]),
        published_at: at(),
        body: Bytes::from_static(br#"{"userId":"u1"}"#),
    }
}

fn outcome(origin: Origin, disposition: Disposition, reason: Option<Reason>) -> Outcome {
    Outcome { destination: "hook".parse().unwrap(), origin, disposition, reason, attempts: 3, at: at() }
}

fn outcome_of_events() -> Outcome {
    let origin =
        Origin::Events { topic: "acme.events.main".to_owned(), partition: 4, first: 10, last: 19, count: 9 };
    outcome(origin, Disposition::Delivered, None)
}

fn outcome_of_an_event() -> Outcome {
    let origin = Origin::Event {
        topic: "acme.events.main".to_owned(),
        partition: 4,
        offset: 12,
        source: "web".parse().unwrap(),
        message_id: MessageId("m-1".to_owned()),
    };
    outcome(origin, Disposition::Rejected, Some(Reason::new("http_400", "the destination answered 400")))
}

fn outcome_of_a_change() -> Outcome {
    let origin = Origin::Change {
        sync: "big-spenders".parse().unwrap(),
        run: 7,
        key: key(),
        row_hash: PartitionKey([9; 16]),
    };
    outcome(origin, Disposition::Superseded, None)
}

fn progress() -> Progress {
    Progress {
        destination: "hook".parse().unwrap(),
        topic: "acme.events.main".to_owned(),
        partition: 4,
        cluster: "0198c0ffee".to_owned(),
        low: 20,
        done: vec![(22, 25), (30, 31)],
    }
}

fn dead_letter() -> DeadLetter {
    DeadLetter {
        stage: Stage::Deliver,
        subject: "hook".to_owned(),
        topic: "acme.events.main".to_owned(),
        partition: 4,
        offset: 12,
        reason: Reason::new("http_400", "the destination answered 400"),
        at: at(),
        original: event().encode(),
    }
}

fn audit() -> AuditEntry {
    AuditEntry {
        at: at(),
        actor: "deliver/4711".to_owned(),
        action: "destination.paused".to_owned(),
        subject: "hook".to_owned(),
    }
}

fn user() -> PartitionKey {
    KeyHasher::new(&[7; 32]).user("user")
}

fn suppress(source: Option<&str>) -> Control {
    let source = source.map(|source| source.parse().unwrap());
    Control::Suppress { user: user(), source, reason: "ticket 4711".to_owned(), at: at() }
}

fn unsuppress(source: Option<&str>) -> Control {
    let source = source.map(|source| source.parse().unwrap());
    Control::Unsuppress { user: user(), source, at: at() }
}

/// Name and record of each.
pub(crate) fn all() -> Vec<(&'static str, WireRecord)> {
    let destination = || "hook".parse().unwrap();
    vec![
        ("event-in-one-header", event().encode()),
        ("event-in-one-header-bare", bare_event().encode()),
        ("event-in-one-header-located", located_event().encode()),
        ("record-row", row(Some("public")).encode()),
        ("record-row-without-namespace", row(None).encode()),
        ("record-begin", record(RecordBody::Begin).encode()),
        ("record-barrier", barrier(Some(json!({"cursor": "2025-11-24"})), false).encode()),
        ("record-barrier-complete", barrier(None, true).encode()),
        ("change-upsert", change(ChangeOp::Upsert).encode()),
        ("change-delete", change(ChangeOp::Delete).encode()),
        ("outcome-events", outcome_of_events().encode()),
        ("outcome-event", outcome_of_an_event().encode()),
        ("outcome-change", outcome_of_a_change().encode()),
        ("progress", progress().encode()),
        ("dead-letter-in-one-header", dead_letter().encode()),
        ("audit", audit().encode()),
        (
            "control-pause",
            Control::Pause { destination: destination(), reason: "401".to_owned(), at: at() }.encode(),
        ),
        ("control-resume", Control::Resume { destination: destination(), at: at() }.encode()),
        ("control-suppress", suppress(None).encode()),
        ("control-suppress-source", suppress(Some("web")).encode()),
        ("control-unsuppress", unsuppress(None).encode()),
        ("control-unsuppress-source", unsuppress(Some("web")).encode()),
    ]
}
