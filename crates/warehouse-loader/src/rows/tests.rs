#![allow(clippy::unwrap_used, reason = "tests")]

use chrono::{DateTime, Utc};
use millrace_columnar::Cell;
use millrace_connector::{DIALECTS, WriteMode, dialect};
use millrace_event_model::{Event, FieldType, MessageId, Reason, testing};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::*;

fn received_at() -> DateTime<Utc> {
    "2024-05-01T12:00:10Z".parse().unwrap()
}

fn event(event_type: &str, body: &Value) -> Event {
    Event {
        event_type: event_type.into(),
        received_at: received_at(),
        request_ip: Some("203.0.113.9".into()),
        ..testing::event(&body.to_string())
    }
}

/// The rows of an event from Kafka, one by one.
fn rows_of_event(event: &Event, mapping: &Mapping<'_>) -> Result<Vec<MappedRow>, Reason> {
    let mut mapper = RowMapper::new(mapping.clone());
    let Some(body) = parse_object(&event.body) else {
        return mapper.event(event, &mut RowsOfTables::default()).map(|_| Vec::new());
    };
    mapper.mapped(&message::Message::of_event(event, &body))
}

fn rows(kind: &str, event_type: &str, body: &Value) -> Vec<MappedRow> {
    rows_of_event(&event(event_type, body), &Mapping::new(dialect(kind).unwrap())).unwrap()
}

/// A page event with these properties.
pub(super) fn page(properties: &Value) -> Value {
    json!({"type": "page", "properties": properties})
}

/// The values of the one row that an event makes.
pub(super) fn values(kind: &str, event: &Value) -> Map<String, Value> {
    values_of_text(kind, &event.to_string())
}

/// As [`values`], for JSON that no [`Value`] can be.
pub(super) fn values_of_text(kind: &str, event: &str) -> Map<String, Value> {
    let event = parse_object(event.as_bytes()).unwrap();
    let metadata =
        MessageMetadata { received_at: None, record_id: None, now: received_at(), new_id: Uuid::nil() };
    let rows = rows_of_message(&event, &metadata, Mapping::new(dialect(kind).unwrap())).unwrap();
    assert_eq!(rows.len(), 1);
    rows[0].values()
}

fn tables(rows: &[MappedRow]) -> Vec<&str> {
    rows.iter().map(|row| row.table.as_str()).collect()
}

#[test]
fn a_track_event_fills_tracks_and_a_table_of_its_own() {
    let body = json!({"userId": "u1", "event": "Order Placed", "properties": {"total": 12.5, "items": 2}});
    let rows = rows("postgres", "track", &body);
    assert_eq!(tables(&rows), ["tracks", "order_placed"]);
    let expected = json!({
        "context_ip": "203.0.113.9", "context_request_ip": "203.0.113.9", "event": "order_placed",
        "event_text": "Order Placed", "id": "m-1", "original_timestamp": "2024-05-01T12:00:10.000Z",
        "received_at": "2024-05-01T12:00:10.000Z", "sent_at": "2024-05-01T12:00:10.000Z",
        "timestamp": "2024-05-01T12:00:10.000Z", "user_id": "u1",
    });
    assert_eq!(Value::Object(rows[0].values()), expected);
    assert_eq!(rows[1].cells.get("total"), Some(&Cell::Float(12.5)));
    assert_eq!(rows[1].columns.get("items"), Some(&FieldType::Int));
    assert_eq!(rows[1].columns.get("uuid_ts"), Some(&FieldType::DateTime));
    assert_eq!(rows[1].cells.get("uuid_ts"), None);
}

#[test]
fn times_are_corrected_by_when_the_client_sent_the_event_or_its_batch() {
    let body = json!({"userId": "u1", "originalTimestamp": "2030-01-01T00:00:00Z"});
    let batched = Event { sent_at: Some("2030-01-01T00:00:03Z".into()), ..event("page", &body) };
    let row =
        rows_of_event(&batched, &Mapping::new(dialect("postgres").unwrap())).unwrap().remove(0).values();
    assert_eq!(row["sent_at"], "2030-01-01T00:00:03.000Z");
    assert_eq!(row["original_timestamp"], "2030-01-01T00:00:00.000Z");
    assert_eq!(
        row["timestamp"], "2024-05-01T12:00:07.000Z",
        "received at 12:00:10, sent 3 s after it happened"
    );
}

#[test]
fn the_clients_place_fills_columns_of_the_context_unless_the_client_says_it() {
    let row = |body: Value| {
        let geo = Some(r#"{"city":"Boxford","country":"GB"}"#.into());
        let event = Event { geo, ..event("page", &body) };
        rows_of_event(&event, &Mapping::new(dialect("postgres").unwrap())).unwrap().remove(0).values()
    };
    for context in [json!(null), json!({}), json!({"locale": "en", "geo": null})] {
        let row = row(json!({"userId": "u1", "context": context}));
        assert_eq!(
            (&row["context_geo_city"], &row["context_geo_country"]),
            (&json!("Boxford"), &json!("GB"))
        );
    }
    assert_eq!(row(json!({"userId": "u1"}))["context_geo_city"], "Boxford");
    let own = row(json!({"userId": "u1", "context": {"geo": {"country": "FR"}}}));
    assert_eq!((own.get("context_geo_city"), &own["context_geo_country"]), (None, &json!("FR")));
    assert_eq!(row(json!({"userId": "u1", "context": "none"})).get("context_geo_city"), None);
}

#[test]
fn an_identify_event_fills_identifies_and_merges_into_users() {
    let body = json!({"userId": "u1", "anonymousId": "a1", "traits": {"plan": "pro"}});
    let rows = rows("lake", "identify", &body);
    assert_eq!(tables(&rows), ["identifies", "users"]);
    assert_eq!(rows[0].write, WriteMode::Append);
    let write = WriteMode::MergeLatest { key: "id".to_owned(), order: "received_at".to_owned() };
    assert_eq!(rows[1].write, write);
    assert_eq!(rows[1].cells.get("id"), Some(&Cell::String("u1".to_owned())));
    assert_eq!(rows[1].cells.get("anonymous_id"), None);
    assert_eq!(rows[1].cells.get("plan"), Some(&Cell::String("pro".to_owned())));
}

#[test]
fn an_anonymous_identify_event_makes_no_user() {
    assert_eq!(tables(&rows("lake", "identify", &json!({"anonymousId": "a1"}))), ["identifies"]);
}

#[test]
fn every_other_type_fills_one_table() {
    let body = json!({"anonymousId": "a1", "name": "Home", "groupId": "g1", "previousId": "p1"});
    for (event_type, table, column) in [
        ("page", "pages", "name"),
        ("screen", "screens", "name"),
        ("group", "groups", "group_id"),
        ("alias", "aliases", "previous_id"),
    ] {
        let rows = rows("bigquery", event_type, &body);
        let expected = if table == "groups" { "_groups" } else { table };
        assert_eq!(tables(&rows), [expected]);
        assert!(rows[0].cells.contains_key(column) && rows[0].columns.contains_key("loaded_at"));
    }
}

#[test]
fn the_servers_word_wins_over_the_bodys() {
    let body =
        json!({"type": "page", "messageId": "other", "receivedAt": "1999-01-01T00:00:00Z", "event": "E"});
    let rows = rows("postgres", "track", &body);
    assert_eq!(tables(&rows), ["tracks", "e"]);
    assert_eq!(rows[0].cells.get("id"), Some(&Cell::String("m-1".to_owned())));
    let micros = received_at().timestamp_micros();
    assert_eq!(rows[0].cells.get("received_at"), Some(&Cell::DateTime(micros)));
}

#[test]
fn an_event_cannot_fill_the_tables_of_others() {
    let named = |name: &str| rows("postgres", "track", &json!({"event": name}))[1].table.clone();
    assert_eq!(named("Users"), "_users");
    assert_eq!(named("pages"), "_pages");
    assert_eq!(named("select"), "_select");
}

#[test]
fn an_event_without_a_name_fills_tracks_only() {
    assert_eq!(tables(&rows("postgres", "track", &json!({"event": " "}))), ["tracks"]);
}

#[test]
fn what_cannot_be_mapped_is_rejected_with_a_reason() {
    let mapping = Mapping::new(dialect("postgres").unwrap());
    let rejected = |event: &Event| rows_of_event(event, &mapping).unwrap_err().code;
    assert_eq!(rejected(&event("wave", &json!({}))), "unknown_event_type");
    assert_eq!(rejected(&event("track", &json!([]))), "invalid_json");
    let properties: Map<_, _> = (0..1600).map(|n| (format!("p{n}"), n.into())).collect();
    assert_eq!(rejected(&event("page", &json!({"properties": properties}))), "too_many_columns");
}

#[test]
fn source_and_destination_are_columns_of_the_context() {
    let mut mapping = Mapping::new(dialect("postgres").unwrap());
    mapping.source.id = Some("web".to_owned());
    mapping.destination_id = Some("main".to_owned());
    let rows = rows_of_event(&event("page", &json!({"context": {"sourceId": "mine"}})), &mapping).unwrap();
    assert_eq!(rows[0].cells.get("context_source_id"), Some(&Cell::String("web".to_owned())));
    assert_eq!(rows[0].cells.get("context_destination_id"), Some(&Cell::String("main".to_owned())));
}

#[test]
fn the_same_event_always_makes_the_same_rows() {
    let mut without_id = event("track", &json!({"event": "E"}));
    without_id.message_id = MessageId(String::new());
    let mapping = Mapping::new(dialect("postgres").unwrap());
    assert_eq!(rows_of_event(&without_id, &mapping), rows_of_event(&without_id, &mapping));
}

/// A name that is snake case already: a short one, a word of a warehouse or of ours, or one about as long as a warehouse
/// takes.
fn any_name() -> impl Strategy<Value = String> {
    let long = (prop_oneof![58..68_usize, 120..132_usize], "[a-z]{0,4}");
    let long = long.prop_map(|(length, end)| {
        let stem: String = "order_placed_".chars().cycle().take(length).collect();
        format!("{}{end}", stem.trim_end_matches('_'))
    });
    const WORDS: &[&str] =
        &["select", "user", "users", "tracks", "identifies", "from", "table", "event_date"];
    prop_oneof![3 => long, 1 => "[a-z]{1,2}", 1 => proptest::sample::select(WORDS).prop_map(str::to_owned)]
}

proptest! {
    /// What is guaranteed of names of events and their properties: none is longer than the warehouse takes, and two that
    /// are different snake case meet only where one is longer than it takes, and the other the same up to there. What
    /// begins with a `_` may meet the same name without it, which got one (`_users`).
    #[test]
    fn names_of_events_and_properties_meet_only_where_they_are_cut(one in any_name(), other in any_name()) {
        prop_assume!(one != other);
        for known in DIALECTS {
            let limit = known.cut_before_reserved.or(known.max_name_bytes).unwrap_or(usize::MAX);
            let table = |name: &str| {
                let rows = rows(known.kind, "track", &json!({"userId": "u", "event": name}));
                rows.last().unwrap().table.clone()
            };
            let column = |name: &str| {
                let names = options::Naming::default().names(&Mapping::new(known).options, known);
                names.safe_column(&names.column(name))
            };
            let cut = |name: &str| name.get(..limit).unwrap_or(name).to_owned();
            let meet = cut(&one) == cut(&other);
            for [a, b] in [[table(&one), table(&other)], [column(&one), column(&other)]] {
                prop_assert_eq!(a == b, meet, "{}: {} and {}", known.kind, a, b);
                prop_assert!(a.len() <= limit && b.len() <= limit, "{}: {}, {}", known.kind, a, b);
            }
        }
    }
}
