//! An event or change as one JSON object, for those who make something else of it.

use std::borrow::Cow;

use chrono::SecondsFormat;
use millrace_event_model::{Change, ChangeOp, Event, EventTimes, Reason};
use serde_json::{Map, Value};

use crate::{Item, Payload};

/// What a mapping reads: the event as the client sent it (after masking), with what the server decided
/// set: `type`, `messageId`, `rudderId`, `receivedAt`, `request_ip`; and `context.geo`,
/// `originalTimestamp`, `sentAt` and `timestamp` where the event says nothing.
///
/// A change of reverse ETL is its mapped row; without a `type` of its own it is an `identify`, without a
/// `messageId` its idempotency key is that, and without a `timestamp` it happened when its run published
/// it. [`Self::op`] tells a row that is gone.
///
/// Paths are names joined by dots. `null` counts as missing everywhere: a mapping that has to tell it
/// apart reads [`Self::fields`].
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    fields: Map<String, Value>,
    op: Option<ChangeOp>,
}

impl Document {
    /// The document of an item.
    ///
    /// # Errors
    /// `invalid_json`: the body is not a JSON object.
    pub fn of(item: &Item) -> Result<Cow<'_, Self>, Reason> {
        match &item.payload {
            Payload::Event(event) => of_event(event).map(Cow::Owned),
            Payload::Change(change) => of_change(change).map(Cow::Owned),
            Payload::Document(document) => Ok(Cow::Borrowed(document)),
        }
    }

    /// A document that is complete already: nothing is added.
    #[must_use]
    pub fn complete(fields: Map<String, Value>) -> Self {
        Self { fields, op: None }
    }

    /// All of it.
    #[must_use]
    pub fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }

    /// Of a change, whether the row is to be there or to be gone; `None` for events.
    #[must_use]
    pub fn op(&self) -> Option<ChangeOp> {
        self.op
    }

    /// The value at a path, such as `context.traits.email`.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Value> {
        let mut names = path.split('.');
        let mut value = self.fields.get(names.next()?)?;
        for name in names {
            value = value.as_object()?.get(name)?;
        }
        (!value.is_null()).then_some(value)
    }

    /// The first of these paths that has a value.
    #[must_use]
    pub fn first(&self, paths: &[&str]) -> Option<&Value> {
        paths.iter().find_map(|path| self.get(path))
    }

    /// The text at a path; `None` where there is another kind of value.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<&str> {
        self.get(path)?.as_str()
    }

    /// The event's type in lower case, which clients write in any case; empty where there is none.
    #[must_use]
    pub fn event_type(&self) -> String {
        self.text("type").unwrap_or_default().to_lowercase()
    }
}

fn of_event(event: &Event) -> Result<Document, Reason> {
    let mut fields = object(&event.body, "event")?;
    for (name, text) in event.decided() {
        fields.insert(name.to_owned(), Value::String(text));
    }
    if let Some(place) = event.place()
        && let Ok(place) = serde_json::to_value(place)
    {
        let context = fields.entry("context").or_insert(Value::Null);
        if context.is_null() {
            *context = Value::Object(Map::new());
        }
        if let Value::Object(context) = context
            && context.get("geo").is_none_or(Value::is_null)
        {
            context.insert("geo".to_owned(), place);
        }
    }
    let given = |name: &str| fields.get(name).and_then(Value::as_str);
    for (name, text) in EventTimes::of(given, event.received_at, event.sent_at.as_deref()).fields() {
        if fields.get(name).is_none_or(says_nothing) {
            fields.insert(name.to_owned(), Value::String(text));
        }
    }
    Ok(Document { fields, op: None })
}

fn of_change(change: &Change) -> Result<Document, Reason> {
    let mut fields = object(&change.body, "change")?;
    fields.entry("type").or_insert_with(|| Value::from("identify"));
    fields.entry("messageId").or_insert_with(|| Value::String(change.idempotency_key().to_string()));
    let published = || change.published_at.to_rfc3339_opts(SecondsFormat::Millis, true);
    fields.entry("timestamp").or_insert_with(|| Value::String(published()));
    Ok(Document { fields, op: Some(change.op) })
}

fn says_nothing(value: &Value) -> bool {
    value.is_null() || value.as_str() == Some("")
}

fn object(body: &[u8], what: &str) -> Result<Map<String, Value>, Reason> {
    serde_json::from_slice(body)
        .map_err(|_| Reason::new("invalid_json", format!("the {what}'s body is not a JSON object")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use millrace_event_model::testing;
    use serde_json::json;

    use super::*;

    fn item(body: &str) -> Item {
        let event = Event {
            request_ip: Some("192.0.2.7".into()),
            geo: Some(r#"{"country":"GB"}"#.into()),
            ..testing::event(body)
        };
        Item { id: "web/1".to_owned().into(), key: event.key, payload: Payload::Event(event) }
    }

    #[test]
    fn what_the_server_decided_is_set_and_what_the_client_said_stays() {
        let item =
            item(r#"{"type":"page","context":{"locale":"en"},"timestamp":"2023-01-01T00:00:00.000Z"}"#);
        let document = Document::of(&item).unwrap();
        assert_eq!(document.text("type"), Some("track"));
        assert_eq!(document.text("messageId"), Some("m-1"));
        assert_eq!(document.text("request_ip"), Some("192.0.2.7"));
        assert_eq!(document.text("context.geo.country"), Some("GB"));
        assert_eq!(document.text("context.locale"), Some("en"));
        assert_eq!(document.text("timestamp"), Some("2023-01-01T00:00:00.000Z"));
        assert_eq!(document.text("receivedAt"), Some("2023-11-14T22:13:20.000Z"));
        assert_eq!(document.text("sentAt"), document.text("receivedAt"));
    }

    #[test]
    fn a_row_happened_when_it_was_published_unless_it_says_otherwise() {
        let change = |body: &str| {
            let change = testing::change(ChangeOp::Upsert, body);
            Item { id: "s/1".to_owned().into(), key: change.key, payload: Payload::Change(change) }
        };
        let silent = change("{}");
        let document = Document::of(&silent).unwrap();
        assert_eq!(document.text("type"), Some("identify"));
        assert_eq!(document.text("timestamp"), Some("2023-11-14T22:13:20.000Z"));
        let telling = change(r#"{"timestamp":"2023-01-01T00:00:00Z"}"#);
        assert_eq!(Document::of(&telling).unwrap().text("timestamp"), Some("2023-01-01T00:00:00Z"));
    }

    #[test]
    fn a_null_is_missing_and_the_first_value_counts() {
        let fields = json!({"a": null, "b": {"c": 1, "d": {"e": "x"}}});
        let document = Document::complete(fields.as_object().unwrap().clone());
        assert_eq!(document.get("a"), None);
        assert_eq!(document.first(&["a", "b.x", "b.c"]), Some(&json!(1)));
        assert_eq!(document.text("b.d.e"), Some("x"));
        assert_eq!(document.get("b.c.d"), None);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert_eq!(Document::of(&item("[1]")).unwrap_err().code, "invalid_json");
    }
}
