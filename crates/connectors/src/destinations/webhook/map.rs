//! One item to one request: pure.
//!
//! An event's body is the event as the client sent it (after masking), its fields in their order and its
//! values byte for byte, with what the server decided set: `type`, `messageId`, `rudderId`,
//! `receivedAt`, `request_ip`; and `context.geo`, `originalTimestamp`, `sentAt` and `timestamp` where the
//! event has none.
//! A change's body is
//! `{"sync", "run", "op": "upsert" | "delete", "key", "data": {…}}`: `data` is the mapped row (for a delete
//! its key columns), `key` names the row in all its changes.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use bytes::Bytes;
use millrace_connector::{Document, HttpRequest, Item, Payload, RequestBody};
use millrace_event_model::{Change, Event, EventTimes, Geo, Reason};
use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use super::config::{Method, Settings};
use super::rudder;

/// The request of an item.
pub(super) fn request(settings: &Settings, item: &Item) -> Result<HttpRequest, Reason> {
    let changes = matches!(item.payload, Payload::Change(_));
    let without_body = matches!(settings.method, Method::Get | Method::Delete);
    if without_body || (settings.rudderstack_compatible && !changes) {
        return rudder::request(settings, &*Document::of(item)?);
    }
    let body = body(item)?;
    let mut headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    headers.extend(settings.headers.pairs().iter().cloned());
    Ok(HttpRequest {
        method: settings.method.as_str().to_owned(),
        url: settings.url.as_str().to_owned(),
        headers,
        query: Vec::new(),
        body: RequestBody::Json(body),
    })
}

/// The item as one JSON document.
pub(in crate::destinations) fn body(item: &Item) -> Result<Bytes, Reason> {
    match &item.payload {
        Payload::Event(event) => event_body(event),
        Payload::Change(change) => change_body(change),
        Payload::Document(document) => json(document.fields()),
    }
}

fn event_body(event: &Event) -> Result<Bytes, Reason> {
    let mut fields = Fields::parse(&event.body)?;
    for (name, text) in event.decided() {
        fields.set(name, &text)?;
    }
    if let Some(place) = event.place()
        && let Some(context) = with_place(fields.get("context"), &place)
    {
        fields.put("context".to_owned(), context);
    }
    for (name, text) in times(event, &fields) {
        if !fields.has(name) {
            fields.set(name, &text)?;
        }
    }
    json(&fields)
}

/// The context with the client's place. None where it says that itself, or is no object.
fn with_place(context: Option<&RawValue>, place: &Geo) -> Option<Box<RawValue>> {
    let written = context.map(RawValue::get).filter(|json| *json != "null").unwrap_or("{}");
    let mut context = Fields::parse(written.as_bytes()).ok()?;
    if context.has("geo") {
        return None;
    }
    context.put("geo".to_owned(), to_raw_value(place).ok()?);
    to_raw_value(&context).ok()
}

fn times(event: &Event, fields: &Fields) -> [(&'static str, String); 4] {
    let texts: HashMap<&str, Cow<'_, str>> =
        fields.0.iter().filter_map(|(name, value)| Some((name.as_str(), text(value)?))).collect();
    let given = |name: &str| texts.get(name).map(AsRef::as_ref);
    EventTimes::of(given, event.received_at, event.sent_at.as_deref()).fields()
}

/// The text of a value that is short enough to be a time.
fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    (value.get().len() <= MAX_TIME_BYTES).then(|| serde_json::from_str(value.get()).ok())?
}

/// No text of a moment is longer, even with escapes in it.
const MAX_TIME_BYTES: usize = 256;

fn change_body(change: &Change) -> Result<Bytes, Reason> {
    #[derive(Serialize)]
    struct Envelope<'a> {
        sync: &'a str,
        run: u64,
        op: &'static str,
        key: String,
        data: &'a RawValue,
    }
    json(&Envelope {
        sync: change.sync.as_str(),
        run: change.run,
        op: change.op.as_str(),
        key: change.key.to_hex(),
        data: serde_json::from_slice(&change.body).map_err(|_| not_an_object("change"))?,
    })
}

fn json(document: &impl Serialize) -> Result<Bytes, Reason> {
    let written = serde_json::to_vec(document);
    written.map(Bytes::from).map_err(|error| Reason::new("invalid_json", error.to_string()))
}

fn not_an_object(what: &str) -> Reason {
    Reason::new("invalid_json", format!("the {what}'s body is not a JSON object"))
}

/// A JSON object in its order, its values unread.
struct Fields(Vec<(String, Box<RawValue>)>);

impl Fields {
    fn parse(json: &[u8]) -> Result<Self, Reason> {
        serde_json::from_slice(json).map_err(|_| not_an_object("event"))
    }

    fn get(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_ref())
    }

    /// Whether something is said there: null and the empty text say nothing.
    fn has(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| !matches!(value.get(), "null" | "\"\""))
    }

    /// Replaces the field where it stands, or adds it at the end.
    fn set(&mut self, name: &str, text: &str) -> Result<(), Reason> {
        let value = to_raw_value(text).map_err(|error| Reason::new("invalid_json", error.to_string()))?;
        self.put(name.to_owned(), value);
        Ok(())
    }

    /// As JSON readers do: of a name that stands twice, the last value counts.
    fn put(&mut self, name: String, value: Box<RawValue>) {
        match self.0.iter_mut().find(|(other, _)| *other == name) {
            Some((_, present)) => *present = value,
            None => self.0.push((name, value)),
        }
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Fields(Vec::new());
        while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
            fields.put(name, value);
        }
        Ok(fields)
    }
}
