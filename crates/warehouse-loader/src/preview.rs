//! `millrace preview rows`: what the loader would make of an event. Pure.

use chrono::{DateTime, Utc};
use millrace_connector::Dialect;
use serde_json::{Value, json};
use sonic_rs::JsonValueTrait;
use uuid::Uuid;

use crate::rows::{
    MappedRow, Mapping, MessageMetadata, parse_object, rows_of_message, rows_of_transformer_input,
};

/// One line of JSON to one line's answer: `{"rows": [{"table", "columns": {name: type}, "data": {}}]}` or
/// `{"error"}`. The rows are those that the service would load: the same functions make them.
///
/// The line is an event, or the input of RudderStack's transformer, `{"message", "metadata",
/// "destination": {"Config"}}`, whose options and context then apply. `now` stands in for the time that
/// nobody gave.
#[must_use]
pub fn preview_rows(line: &str, dialect: &Dialect, now: DateTime<Utc>) -> Value {
    let Some(input) = parse_object(line.as_bytes()) else {
        return match serde_json::from_str::<Value>(line) {
            Ok(_) => json!({"error": "the line is not a JSON object"}),
            Err(error) => json!({"error": format!("the line is not JSON: {error}")}),
        };
    };
    let new_id = id_of(line);
    let rows = if is_transformer_input(&input) {
        rows_of_transformer_input(&input, dialect, now, new_id)
    } else {
        let metadata = MessageMetadata { received_at: None, record_id: None, now, new_id };
        rows_of_message(&input, &metadata, Mapping::new(dialect))
    };
    match rows {
        Ok(rows) => json!({"rows": rows.iter().map(MappedRow::preview).collect::<Vec<_>>()}),
        Err(reason) => json!({"error": reason.message}),
    }
}

/// An event has no `message` that is an object beside a `destination` or `metadata`.
fn is_transformer_input(input: &sonic_rs::Value) -> bool {
    let has_context = input.get("metadata").is_some() || input.get("destination").is_some();
    has_context && input.get("message").is_some_and(JsonValueTrait::is_object)
}

/// The same line has the same id each time.
fn id_of(line: &str) -> Uuid {
    let mut id = [0; 16];
    blake3::Hasher::new().update(line.as_bytes()).finalize_xof().fill(&mut id);
    uuid::Builder::from_random_bytes(id).into_uuid()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use millrace_connector::dialect;

    use super::*;

    fn preview(line: &str) -> Value {
        preview_rows(line, dialect("postgres").unwrap(), DateTime::UNIX_EPOCH)
    }

    #[test]
    fn an_event_shows_its_rows_with_columns_and_values() {
        let answer = preview(
            r#"{"type":"track","event":"Order Placed","messageId":"m1","properties":{"total":5,"items":[1]}}"#,
        );
        assert_eq!(answer["rows"][0]["table"], "tracks");
        let order = &answer["rows"][1];
        assert_eq!(order["table"], "order_placed");
        assert_eq!(order["columns"]["total"], "int");
        assert_eq!(order["columns"]["uuid_ts"], "datetime");
        assert_eq!(order["data"]["total"], 5);
        assert_eq!(order["data"]["items"], json!([1]));
        assert_eq!(order["data"]["received_at"], "1970-01-01T00:00:00.000Z");
        assert_eq!(order["data"].get("uuid_ts"), None);
    }

    #[test]
    fn a_transformers_input_brings_its_own_options_and_context() {
        let answer = preview(
            r#"{"message":{"type":"track","event":"a1b","messageId":"m"},
                "metadata":{"sourceId":"s","receivedAt":"2026-01-01T00:00:00.000Z"},
                "destination":{"Config":{"skipTracksTable":true,"underscoreDivideNumbers":true}}}"#,
        );
        let rows = answer["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0]["table"], "a_1_b");
        assert_eq!(rows[0]["data"]["context_source_id"], "s");
        assert_eq!(rows[0]["data"]["received_at"], "2026-01-01T00:00:00.000Z");
    }

    #[test]
    fn what_cannot_be_loaded_says_why() {
        let error = |line| preview(line)["error"].as_str().unwrap().to_owned();
        assert_eq!(error("[]"), "the line is not a JSON object");
        assert!(error("{").starts_with("the line is not JSON"));
        assert_eq!(error(r#"{"type":"nonsense"}"#), "Unknown event type: \"nonsense\"");
    }

    #[test]
    fn the_same_line_has_the_same_answer() {
        let line = r#"{"type":"page","name":"Home"}"#;
        assert_eq!(preview(line), preview(line));
    }
}
