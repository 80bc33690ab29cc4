//! Comparing an event with what is expected of it, field by field.
//!
//! A pattern is the event itself, with a word in place of what differs from run to run: `<time>` is a time
//! of the last minutes, `<id>` and `<text>` any text that is not empty, `<number>` a number, `<any>` whatever
//! there is.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

/// Longer than a test may take.
const RECENT: TimeDelta = TimeDelta::minutes(10);

/// What a call is about: by this an event is found among others.
pub(super) fn kind(event: &Value) -> [&Value; 3] {
    ["type", "event", "name"].map(|name| &event[name])
}

/// What all events have, with what this one has besides.
pub(super) fn merge(every: &Value, event: &Value) -> Value {
    let (Value::Object(every), Value::Object(event)) = (every, event) else { return event.clone() };
    let mut merged = every.clone();
    for (name, own) in event {
        let value = every.get(name).map_or_else(|| own.clone(), |shared| merge(shared, own));
        merged.insert(name.clone(), value);
    }
    Value::Object(merged)
}

/// Each field in which the event is not as the pattern says.
pub(super) fn difference(pattern: &Value, event: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    compare("", pattern, event, &mut wrong);
    wrong
}

pub(super) fn is_recent(time: &str) -> bool {
    DateTime::parse_from_rfc3339(time).is_ok_and(|at| (Utc::now() - at.with_timezone(&Utc)).abs() < RECENT)
}

fn compare(path: &str, pattern: &Value, event: &Value, wrong: &mut Vec<String>) {
    match (pattern, event) {
        (Value::Object(pattern), Value::Object(event)) => {
            for (name, pattern) in pattern {
                match event.get(name) {
                    Some(event) => compare(&format!("{path}.{name}"), pattern, event, wrong),
                    None => wrong.push(format!("{path}.{name} is missing")),
                }
            }
            let more = event.keys().filter(|name| !pattern.contains_key(*name));
            wrong.extend(more.map(|name| format!("{path}.{name} was not expected")));
        }
        (Value::Array(pattern), Value::Array(event)) if pattern.len() == event.len() => {
            for (place, (pattern, event)) in pattern.iter().zip(event).enumerate() {
                compare(&format!("{path}[{place}]"), pattern, event, wrong);
            }
        }
        (pattern, event) if fits(pattern, event) => {}
        (pattern, event) => wrong.push(format!("{path}: {pattern} was expected, not {event}")),
    }
}

fn fits(pattern: &Value, event: &Value) -> bool {
    let text = event.as_str().unwrap_or_default();
    match pattern.as_str() {
        Some("<time>") => is_recent(text),
        Some("<id>" | "<text>") => !text.is_empty(),
        Some("<number>") => event.is_number(),
        Some("<any>") => true,
        _ => pattern == event,
    }
}

#[test]
fn a_pattern_finds_every_difference() {
    let pattern = serde_json::json!({"a": 1, "b": {"c": "<time>", "d": [1, "<text>"]}, "e": "<any>"});
    let now = Utc::now().to_rfc3339();
    let event = |c: &str, d: Value| serde_json::json!({"a": 1, "b": {"c": c, "d": d}, "e": null});
    assert!(difference(&pattern, &event(&now, serde_json::json!([1, "x"]))).is_empty());
    let mut odd = event("2020-01-01T00:00:00Z", serde_json::json!([2, ""]));
    odd["f"] = 1.into();
    odd.as_object_mut().unwrap().remove("e");
    let wrong = difference(&pattern, &odd).join("; ");
    for part in
        [".b.c: ", ".b.d[0]: 1 was expected, not 2", ".b.d[1]: ", ".e is missing", ".f was not expected"]
    {
        assert!(wrong.contains(part), "{part}: {wrong}");
    }
}
