//! An image's address as an event: `/pixel/v1/track?writeKey=…&anonymousId=…&event=Opened&context.ip=…`, for
//! mails and pages without scripts.

use std::borrow::Cow;
use std::collections::HashSet;

use chrono::{DateTime, SecondsFormat, Utc};
use millrace_event_model::EventType;
use serde_json::{Map, Value, json};
use url::form_urlencoded;

/// A transparent image of one pixel, in the bytes of RudderStack's.
pub(crate) const GIF: &[u8] = &[
    0x47, 0x49, 0x46, 0x38, 0x39, 0x61, 0x01, 0x00, 0x01, 0x00, 0x80, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x21, 0xf9, 0x04, 0x01, 0x00, 0x00, 0x00, 0x00, 0x2c, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00,
    0x01, 0x00, 0x00, 0x02, 0x02, 0x44, 0x01, 0x00, 0x3b,
];

/// Deeper names than any event's are dropped: ten thousand dots must not become as many objects.
const MAX_DEPTH: usize = 16;

/// The event of a query: each parameter is a field, and a dot in its name leads into an object. Nothing for a
/// `track` whose `event` is empty. What is named twice counts as it stands first.
pub(crate) fn event(event_type: EventType, query: &str, now: DateTime<Utc>) -> Option<String> {
    let now = now.to_rfc3339_opts(SecondsFormat::Millis, true);
    let mut fields = Map::new();
    fields.insert("channel".to_owned(), json!("web"));
    fields.insert("integrations".to_owned(), json!({ "All": true }));
    fields.insert("originalTimestamp".to_owned(), json!(now));
    fields.insert("sentAt".to_owned(), json!(now));
    let mut seen: HashSet<Cow<'_, str>> = HashSet::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if name == "writeKey" || name.is_empty() || seen.contains(&name) {
            continue;
        }
        let value = match (event_type, name.as_ref()) {
            (EventType::Track, "event") if value.is_empty() => return None,
            (EventType::Page, "name") if value.is_empty() => Cow::Borrowed("Unknown Page"),
            // Templates of mails put it in quotes.
            (_, "anonymousId") => Cow::Owned(value.trim_matches('"').to_owned()),
            _ => value,
        };
        if let Some(path) = path(&name) {
            put(&mut fields, &path, value.into_owned());
        }
        seen.insert(name);
    }
    fields.insert("type".to_owned(), json!(event_type.as_str()));
    Some(Value::Object(fields).to_string())
}

/// The steps of a name; `\.` is a dot that does not part. Nothing for one that is too deep.
fn path(name: &str) -> Option<Vec<String>> {
    let mut steps = Vec::new();
    let mut step = String::new();
    let mut chars = name.chars();
    while let Some(ch) = chars.next() {
        match ch {
            '.' if steps.len() + 1 == MAX_DEPTH => return None,
            '.' => steps.push(std::mem::take(&mut step)),
            '\\' => step.push(chars.next().unwrap_or('\\')),
            ch => step.push(ch),
        }
    }
    steps.push(step);
    Some(steps)
}

/// Sets the value, making objects on the way; what stands in the way gives way.
fn put(fields: &mut Map<String, Value>, path: &[String], value: String) {
    let Some((last, steps)) = path.split_last() else { return };
    let mut within = fields;
    for step in steps {
        let next = within.entry(step.as_str()).or_insert(Value::Null);
        if !next.is_object() {
            *next = Value::Object(Map::new());
        }
        let Value::Object(inner) = next else { return };
        within = inner;
    }
    within.insert(last.clone(), Value::String(value));
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn made(event_type: EventType, query: &str) -> Option<Value> {
        let event = event(event_type, query, DateTime::UNIX_EPOCH)?;
        let mut event: Value = serde_json::from_str(&event).unwrap();
        let fields = event.as_object_mut().unwrap();
        for (name, expected) in [
            ("originalTimestamp", json!("1970-01-01T00:00:00.000Z")),
            ("sentAt", json!("1970-01-01T00:00:00.000Z")),
            ("channel", json!("web")),
            ("integrations", json!({ "All": true })),
            ("type", json!(event_type.as_str())),
        ] {
            assert_eq!(fields.remove(name), Some(expected), "{name}");
        }
        Some(event)
    }

    #[test]
    fn each_parameter_is_a_field_and_dots_lead_into_objects() {
        for (query, expected) in [
            ("writeKey=WK&anonymousId=a1&name=Home", json!({ "anonymousId": "a1", "name": "Home" })),
            ("anonymousId=%22a1%22&name=", json!({ "anonymousId": "a1", "name": "Unknown Page" })),
            (
                "context.ip=192.0.2.1&context.page.title=A+%26+B&userId=u",
                json!({ "userId": "u", "context": { "ip": "192.0.2.1", "page": { "title": "A & B" } } }),
            ),
            (r"properties.a\.b=1&x=1&x=2", json!({ "properties": { "a.b": "1" }, "x": "1" })),
            ("a=1&a.b=2", json!({ "a": { "b": "2" } })),
            ("type=identify&=x", json!({})),
        ] {
            assert_eq!(made(EventType::Page, query), Some(expected), "{query}");
        }
        let deep = format!("{}=1", "a.".repeat(10_000));
        assert_eq!(made(EventType::Page, &deep), Some(json!({})));
    }

    proptest! {
        #[test]
        fn any_query_makes_an_object_or_nothing(query in "[a-c.=&%\\\\0-9]{0,60}|.{0,60}") {
            for event_type in [EventType::Page, EventType::Track] {
                if let Some(event) = event(event_type, &query, DateTime::UNIX_EPOCH) {
                    let event: Value = serde_json::from_str(&event).unwrap();
                    prop_assert_eq!(&event["type"], event_type.as_str());
                }
            }
        }
    }

    #[test]
    fn a_track_without_an_event_is_none() {
        assert_eq!(made(EventType::Track, "userId=u&event="), None);
        assert_eq!(made(EventType::Track, "userId=u"), Some(json!({ "userId": "u" })));
        assert_eq!(made(EventType::Track, "event=Opened"), Some(json!({ "event": "Opened" })));
    }
}
