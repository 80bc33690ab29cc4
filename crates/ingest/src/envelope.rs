//! From the bytes of a request to its events: pure, and all decisions about an event are here.
//!
//! The client's JSON is split, not parsed: an event's body is a slice of the request's. The checks come in
//! the order of RudderStack's gateway, and the first event that fails one fails the whole request.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use millrace_event_model::{Event, EventType, KeyHasher, MessageId, rudder_id};
use millrace_privacy::{Action, Kind, ScanError};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::Limits;
use crate::auth::Source;
use crate::error::Refusal;
use crate::identity;

/// What the path says of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One event, whose type is the path's, whatever it says itself.
    Single(EventType),
    /// `{"batch": [event, …], "sentAt"?: …}`; each event has its own type.
    Batch,
}

/// What is known of a request besides its body.
pub(crate) struct Envelope<'r> {
    pub(crate) shape: Shape,
    pub(crate) source: &'r Source,
    pub(crate) limits: &'r Limits,
    pub(crate) keys: &'r KeyHasher,
    /// When the whole body was here.
    pub(crate) received_at: DateTime<Utc>,
    /// Of the client, before the policy.
    pub(crate) address: &'r str,
    pub(crate) traceparent: Option<&'r str>,
}

/// A request's events, ready to publish.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) events: Vec<Event>,
    /// How much was replaced in them, for the metrics.
    pub(crate) findings: BTreeMap<(Kind, Action), u64>,
}

/// A batch's `sentAt` is a time; longer text is none, and would only weigh on each event's header.
const MAX_SENT_AT_BYTES: usize = 64;

/// The same for a type that nobody knows.
const MAX_TYPE_BYTES: usize = 128;

/// Event types that RudderStack lets pass without any id: rows of a warehouse or a source.
const TYPES_WITHOUT_IDENTITY: [&str; 2] = ["extract", "record"];

impl Envelope<'_> {
    /// Splits the body and decides about each event. `new_id` makes message ids.
    pub(crate) fn open(&self, body: &Bytes, new_id: impl Fn() -> Uuid) -> Result<Opened, Refusal> {
        let top: Top<'_> = serde_json::from_slice(body).map_err(|_| Refusal::InvalidJson)?;
        let (parts, sent_at) = match (self.shape, top) {
            (Shape::Single(_), Top::Object(fields)) => (vec![(trimmed(body)?, fields)], None),
            (Shape::Single(_), Top::Other) => return Err(Refusal::NotAnEvent),
            (Shape::Batch, Top::Object(fields)) => (split(&fields)?, fields.sent_at.and_then(time_text)),
            (Shape::Batch, Top::Other) => return Err(Refusal::EmptyBatch),
        };
        let mut identities = Vec::with_capacity(parts.len());
        for (_, fields) in &parts {
            identities.push(self.identity(fields)?);
        }
        let too_large = |(json, _): &(&str, Fields<'_>)| json.len() > self.limits.event_bytes;
        if parts.len() > self.limits.events_per_request || parts.iter().any(too_large) {
            return Err(Refusal::TooLarge);
        }
        let mut opened = Opened { events: Vec::with_capacity(parts.len()), findings: BTreeMap::new() };
        for ((json, fields), person) in parts.into_iter().zip(identities) {
            let masked = self.mask(body, json, &mut opened.findings)?;
            let sent_at = sent_at.as_deref().filter(|_| !fields.has_sent_at());
            opened.events.push(self.event(&fields, person, masked, sent_at, &new_id));
        }
        Ok(opened)
    }

    fn identity(&self, fields: &Fields<'_>) -> Result<Person, Refusal> {
        let person =
            Person { user_id: identity::id(fields.user_id), anonymous_id: identity::id(fields.anonymous_id) };
        let nobody = person.user_id.is_empty() && person.anonymous_id.is_empty();
        if nobody && !TYPES_WITHOUT_IDENTITY.contains(&self.event_type(fields).as_ref()) {
            return Err(Refusal::NoIdentity);
        }
        Ok(person)
    }

    fn event(
        &self,
        fields: &Fields<'_>,
        person: Person,
        body: Bytes,
        sent_at: Option<&str>,
        new_id: impl Fn() -> Uuid,
    ) -> Event {
        let sent_id = fields.message_id.filter(|raw| raw.get().starts_with('"')).map(identity::text);
        let message_id = sent_id.map(|id| identity::visible(&id)).filter(|id| !id.is_empty());
        // The body's own address stands, as at RudderStack; the policy has seen it there.
        let address = Some(self.address).filter(|address| !address.is_empty() && fields.request_ip.is_none());
        let request_ip = address.and_then(|address| match &self.source.scanner {
            Some(scanner) => scanner.request_ip(address),
            None => Some(address.to_owned()),
        });
        Event {
            event_type: self.outside(&self.event_type(fields)),
            message_id: MessageId(message_id.unwrap_or_else(|| new_id().to_string())),
            rudder_id: rudder_id(&person.user_id, &person.anonymous_id),
            received_at: self.received_at,
            sent_at: sent_at.map(|text| self.outside(text)),
            request_ip,
            source: self.source.id.clone(),
            policy: self.source.policy_version.clone(),
            traceparent: self.traceparent.map(str::to_owned),
            key: self.keys.person(&person.anonymous_id, &person.user_id),
            body,
        }
    }

    /// The type of the path, else the event's own. `Track` is `track`; what is not known stays as it is,
    /// for the consumers to reject with a reason.
    fn event_type(&self, fields: &Fields<'_>) -> Cow<'static, str> {
        if let Shape::Single(event_type) = self.shape {
            return Cow::Borrowed(event_type.as_str());
        }
        let text = fields.event_type.map(identity::text).unwrap_or_default();
        let name = text.trim().to_lowercase();
        if let Ok(known) = name.parse::<EventType>() {
            return Cow::Borrowed(known.as_str());
        }
        if TYPES_WITHOUT_IDENTITY.contains(&name.as_str()) {
            return Cow::Owned(name);
        }
        Cow::Owned(text.get(..text.floor_char_boundary(MAX_TYPE_BYTES)).unwrap_or_default().to_owned())
    }

    /// Client text that goes into a header is under the same policy as the body.
    fn outside(&self, text: &str) -> String {
        match &self.source.scanner {
            Some(scanner) => scanner.text(text).into_owned(),
            None => text.to_owned(),
        }
    }

    fn mask(
        &self,
        body: &Bytes,
        json: &str,
        findings: &mut BTreeMap<(Kind, Action), u64>,
    ) -> Result<Bytes, Refusal> {
        let Some(scanner) = &self.source.scanner else { return Ok(body.slice_ref(json.as_bytes())) };
        let scanned = scanner.scan(json.as_bytes()).map_err(|error| match error {
            // Deeper than any consumer reads: the same for every try, so not a 503.
            ScanError::TooDeep => Refusal::InvalidJson,
            ScanError::Invalid { .. } => Refusal::Unmaskable,
        })?;
        for finding in &scanned.findings {
            *findings.entry((finding.kind, finding.action)).or_default() += 1;
        }
        Ok(match scanned.body {
            Cow::Borrowed(same) => body.slice_ref(same),
            Cow::Owned(masked) => Bytes::from(masked),
        })
    }
}

struct Person {
    user_id: String,
    anonymous_id: String,
}

fn trimmed(body: &Bytes) -> Result<&str, Refusal> {
    std::str::from_utf8(body.trim_ascii()).map_err(|_| Refusal::InvalidJson)
}

/// The events of a batch. RudderStack reads one event without its brackets too.
fn split<'b>(fields: &Fields<'b>) -> Result<Vec<(&'b str, Fields<'b>)>, Refusal> {
    let batch = fields.batch.map_or("null", RawValue::get);
    let parts: Vec<&RawValue> = match batch.as_bytes().first() {
        Some(b'[') => serde_json::from_str(batch).map_err(|_| Refusal::InvalidJson)?,
        Some(b'n') => Vec::new(),
        _ => fields.batch.into_iter().collect(),
    };
    if parts.is_empty() {
        return Err(Refusal::EmptyBatch);
    }
    let mut events = Vec::with_capacity(parts.len());
    for part in parts {
        match serde_json::from_str(part.get()).map_err(|_| Refusal::InvalidJson)? {
            Top::Object(fields) => events.push((part.get(), fields)),
            Top::Other => return Err(Refusal::NotAnEvent),
        }
    }
    Ok(events)
}

fn time_text(raw: &RawValue) -> Option<String> {
    identity::string(raw).filter(|text| !text.is_empty() && text.len() <= MAX_SENT_AT_BYTES)
}

/// Any JSON; of an object, the fields that are decided upon.
enum Top<'b> {
    Object(Fields<'b>),
    Other,
}

/// Where a field stands twice, the last one counts, as in nearly every JSON reader.
#[derive(Default)]
struct Fields<'b> {
    event_type: Option<&'b RawValue>,
    message_id: Option<&'b RawValue>,
    user_id: Option<&'b RawValue>,
    anonymous_id: Option<&'b RawValue>,
    sent_at: Option<&'b RawValue>,
    request_ip: Option<&'b RawValue>,
    batch: Option<&'b RawValue>,
}

impl Fields<'_> {
    fn has_sent_at(&self) -> bool {
        self.sent_at.is_some_and(|raw| !matches!(raw.get(), "null" | "\"\""))
    }
}

#[derive(Deserialize)]
#[serde(field_identifier)]
enum Name {
    #[serde(rename = "type")]
    Type,
    #[serde(rename = "messageId")]
    MessageId,
    #[serde(rename = "userId")]
    UserId,
    #[serde(rename = "anonymousId")]
    AnonymousId,
    #[serde(rename = "sentAt")]
    SentAt,
    #[serde(rename = "request_ip")]
    RequestIp,
    #[serde(rename = "batch")]
    Batch,
    #[serde(other)]
    Other,
}

impl<'de: 'b, 'b> Deserialize<'de> for Top<'b> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TopVisitor)
    }
}

struct TopVisitor;

impl<'de> Visitor<'de> for TopVisitor {
    type Value = Top<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Top<'de>, A::Error> {
        let mut fields = Fields::default();
        while let Some(name) = map.next_key::<Name>()? {
            let slot = match name {
                Name::Type => &mut fields.event_type,
                Name::MessageId => &mut fields.message_id,
                Name::UserId => &mut fields.user_id,
                Name::AnonymousId => &mut fields.anonymous_id,
                Name::SentAt => &mut fields.sent_at,
                Name::RequestIp => &mut fields.request_ip,
                Name::Batch => &mut fields.batch,
                Name::Other => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            *slot = Some(map.next_value()?);
        }
        Ok(Top::Object(fields))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Top<'de>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Top::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Top<'de>, E> {
        Ok(Top::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Top<'de>, E> {
        Ok(Top::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Top<'de>, E> {
        Ok(Top::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Top<'de>, E> {
        Ok(Top::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<Top<'de>, E> {
        Ok(Top::Other)
    }

    fn visit_unit<E>(self) -> Result<Top<'de>, E> {
        Ok(Top::Other)
    }
}

#[cfg(test)]
mod tests;
