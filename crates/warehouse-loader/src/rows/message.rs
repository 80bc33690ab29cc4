//! The fields of an event that the mapping reads: from its JSON, or from the server where that decides.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use millrace_connector::Dialect;
use millrace_event_model::{Event, EventTimes, FieldType, Reason, parse_moment};
use sonic_rs::{JsonContainerTrait, JsonValueTrait, Value};
use uuid::Uuid;

use super::cells::{NewCell, Typed};
use super::datatype::{is_blank, is_plain, typed_plain, typed_text};
use super::json::{json_text, parse_object};

/// What stands in for fields that an event lacks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MessageMetadata<'a> {
    /// When the server had the event, as RudderStack's metadata says it.
    pub(crate) received_at: Option<&'a str>,
    /// The record of a cloud source; the event's own `recordId` where there is none.
    pub(crate) record_id: Option<&'a Value>,
    /// When nobody says when the event was received.
    pub(crate) now: DateTime<Utc>,
    /// The id of an event without `messageId`, after `auto-`.
    pub(crate) new_id: Uuid,
}

/// A field's value.
#[derive(Debug, Clone, Default)]
pub(super) enum Given<'e> {
    #[default]
    Nothing,
    Json(&'e Value),
    Text(Cow<'e, str>),
    /// Microseconds since 1970 UTC.
    Moment(i64),
}

impl<'e> Given<'e> {
    fn of(value: Option<&'e Value>) -> Self {
        value.map_or(Self::Nothing, Self::Json)
    }

    pub(super) fn is_blank(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Json(value) => is_blank(value),
            Self::Text(text) => text.is_empty(),
            Self::Moment(_) => false,
        }
    }

    /// The cell of a column that a rule sets: none where the value is blank, a list or an object.
    pub(super) fn typed(&self, dialect: &Dialect) -> Option<Typed<'e>> {
        match self {
            Self::Json(value) => typed_plain(value, dialect),
            Self::Text(text) if !text.is_empty() => Some(typed_text(text.clone(), dialect)),
            Self::Moment(micros) => Some(typed_moment(*micros)),
            Self::Nothing | Self::Text(_) => None,
        }
    }

    /// The value as text; empty where it is none, or no plain value.
    pub(super) fn text(&self) -> Cow<'e, str> {
        match self {
            Self::Text(text) => text.clone(),
            Self::Json(value) => text(value),
            Self::Moment(micros) => Cow::Owned(millrace_columnar::format_moment(*micros)),
            Self::Nothing => Cow::Borrowed(""),
        }
    }
}

/// The years 1 to 9999 in microseconds: other moments are text, as when a client sends them.
const MOMENTS: std::ops::RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_300_799_999_000;

fn typed_moment(micros: i64) -> Typed<'static> {
    if MOMENTS.contains(&micros) {
        return (FieldType::DateTime, NewCell::DateTime(micros));
    }
    (FieldType::String, NewCell::String(Cow::Owned(millrace_columnar::format_moment(micros))))
}

/// An event on its way to rows.
#[derive(Debug)]
pub(super) struct Message<'e> {
    /// In lower case.
    pub(super) event_type: Cow<'e, str>,
    pub(super) id: Given<'e>,
    pub(super) anonymous_id: Given<'e>,
    pub(super) user_id: Given<'e>,
    pub(super) sent_at: Given<'e>,
    pub(super) timestamp: Given<'e>,
    pub(super) received_at: Given<'e>,
    pub(super) original_timestamp: Given<'e>,
    pub(super) channel: Given<'e>,
    pub(super) request_ip: Given<'e>,
    /// `context.ip`.
    pub(super) passed_ip: Given<'e>,
    pub(super) event: Given<'e>,
    /// The event's, else that in its properties.
    pub(super) name: Given<'e>,
    pub(super) group_id: Given<'e>,
    pub(super) previous_id: Given<'e>,
    pub(super) record_id: Given<'e>,
    pub(super) properties: Option<&'e Value>,
    pub(super) user_properties: Option<&'e Value>,
    pub(super) traits: Option<&'e Value>,
    pub(super) context: Option<&'e Value>,
    pub(super) integrations: Option<&'e Value>,
    /// Stands in for `context.geo`.
    pub(super) place: Option<Value>,
    whole: Whole<'e>,
}

/// All of the event, for the column that keeps it whole.
#[derive(Debug)]
enum Whole<'e> {
    Document(&'e Value),
    Event(&'e Event, EventTimes),
}

impl<'e> Message<'e> {
    /// An event as RudderStack's transformer is given it.
    pub(super) fn of_document(document: &'e Value, metadata: &MessageMetadata<'e>) -> Self {
        let mut message = Self::of_fields(document, Whole::Document(document));
        if message.id.is_blank() {
            message.id = auto(metadata.new_id);
        }
        if let Some(record_id) = metadata.record_id {
            message.record_id = Given::Json(record_id);
        }
        let given = match &message.received_at {
            Given::Json(value) => value.as_str(),
            _ => None,
        };
        let known = [given, metadata.received_at].into_iter().flatten().find_map(parse_moment);
        // To the millisecond, like every moment of an event.
        message.received_at = Given::Moment(known.unwrap_or(metadata.now.timestamp_millis() * 1_000));
        message
    }

    /// An event from Kafka: what the server decided wins. `body` is its JSON.
    pub(super) fn of_event(event: &'e Event, body: &'e Value) -> Self {
        let mut message = Self::of_fields(body, Whole::Document(body));
        let given = |name: &str| message.time(name);
        let times = EventTimes::of(given, event.received_at, event.sent_at.as_deref());
        message.whole = Whole::Event(event, times);
        message.event_type = lower_case(&event.event_type);
        message.id = match event.message_id.as_str() {
            // Of the content: a load that is done again after a crash makes the same rows.
            "" => auto(id_of(&event.body)),
            id => Given::Text(Cow::Borrowed(id)),
        };
        message.sent_at = Given::Moment(times.sent);
        message.timestamp = Given::Moment(times.happened);
        message.received_at = Given::Moment(times.received);
        message.original_timestamp = Given::Moment(times.original);
        if let Some(ip) = &event.request_ip {
            message.request_ip = Given::Text(Cow::Borrowed(ip));
        }
        if event.geo.is_some() && message.says_no_place() {
            message.place = event.place().and_then(|place| parse_object(place.to_json().as_bytes()));
        }
        message
    }

    /// Of a field that comes twice, the last is the one.
    fn of_fields(document: &'e Value, whole: Whole<'e>) -> Self {
        let mut message = Self {
            event_type: Cow::Borrowed(""),
            id: Given::Nothing,
            anonymous_id: Given::Nothing,
            user_id: Given::Nothing,
            sent_at: Given::Nothing,
            timestamp: Given::Nothing,
            received_at: Given::Nothing,
            original_timestamp: Given::Nothing,
            channel: Given::Nothing,
            request_ip: Given::Nothing,
            passed_ip: Given::Nothing,
            event: Given::Nothing,
            name: Given::Nothing,
            group_id: Given::Nothing,
            previous_id: Given::Nothing,
            record_id: Given::Nothing,
            properties: None,
            user_properties: None,
            traits: None,
            context: None,
            integrations: None,
            place: None,
            whole,
        };
        let Some(fields) = document.as_object() else { return message };
        for (field, value) in fields.iter() {
            match field {
                "type" => message.event_type = lower_case(value.as_str().unwrap_or_default()),
                "messageId" => message.id = Given::Json(value),
                "anonymousId" => message.anonymous_id = Given::Json(value),
                "userId" => message.user_id = Given::Json(value),
                "sentAt" => message.sent_at = Given::Json(value),
                "timestamp" => message.timestamp = Given::Json(value),
                "receivedAt" => message.received_at = Given::Json(value),
                "originalTimestamp" => message.original_timestamp = Given::Json(value),
                "channel" => message.channel = Given::Json(value),
                "request_ip" => message.request_ip = Given::Json(value),
                "event" => message.event = Given::Json(value),
                "name" => message.name = Given::Json(value),
                "groupId" => message.group_id = Given::Json(value),
                "previousId" => message.previous_id = Given::Json(value),
                "recordId" => message.record_id = Given::Json(value),
                "properties" => message.properties = Some(value),
                "userProperties" => message.user_properties = Some(value),
                "traits" => message.traits = Some(value),
                "context" => message.context = Some(value),
                "integrations" => message.integrations = Some(value),
                _ => {}
            }
        }
        message.passed_ip = Given::of(message.context_field("ip"));
        if message.name.is_blank() {
            message.name = Given::of(message.properties.and_then(|properties| last(properties, "name")));
        }
        message
    }

    /// As [`EventTimes::of`] asks for them.
    fn time(&self, name: &str) -> Option<&'e str> {
        let given = match name {
            "originalTimestamp" => &self.original_timestamp,
            "sentAt" => &self.sent_at,
            "timestamp" => &self.timestamp,
            _ => return None,
        };
        let Given::Json(value) = *given else { return None };
        value.as_str()
    }

    pub(super) fn context_field(&self, name: &str) -> Option<&'e Value> {
        last(self.context?, name)
    }

    /// Whether the context is an object, or nothing that could be mistaken for one.
    pub(super) fn has_context(&self) -> bool {
        self.context.is_none_or(|context| context.is_null() || context.is_object())
    }

    fn says_no_place(&self) -> bool {
        self.has_context() && self.context_field("geo").is_none_or(JsonValueTrait::is_null)
    }

    /// The record of a cloud source.
    ///
    /// # Errors
    /// There is none, or it is a list or an object.
    pub(super) fn record_id(&self) -> Result<Given<'e>, Reason> {
        match &self.record_id {
            Given::Json(id) if is_plain(id) => Ok(Given::Json(id)),
            _ => Err(Reason::new("record_id_missing", "recordId cannot be empty for cloud sources events")),
        }
    }

    /// The whole event as JSON, with what the server decided.
    pub(super) fn whole(&self) -> String {
        let (event, times) = match &self.whole {
            Whole::Document(document) => return json_text(document),
            Whole::Event(event, times) => (event, times),
        };
        // It was parsed before as the object that it is.
        let mut fields: serde_json::Map<_, _> = serde_json::from_slice(&event.body).unwrap_or_default();
        fields.extend(event.decided().into_iter().map(|(name, text)| (name.to_owned(), text.into())));
        fields.extend(times.fields().map(|(name, text)| (name.to_owned(), text.into())));
        if let Some(place) = self.place.is_some().then(|| event.place()).flatten() {
            let context = fields.entry("context").or_insert(serde_json::Value::Null);
            if context.is_null() {
                *context = serde_json::json!({});
            }
            if let Some(context) = context.as_object_mut() {
                context.insert("geo".to_owned(), serde_json::json!(place));
            }
        }
        serde_json::Value::Object(fields).to_string()
    }
}

/// A field of an object; of one that comes twice, the last.
pub(super) fn last<'e>(object: &'e Value, name: &str) -> Option<&'e Value> {
    let fields = object.as_object()?;
    fields.iter().filter(|(field, _)| *field == name).last().map(|(_, value)| value)
}

fn text(value: &Value) -> Cow<'_, str> {
    match value.as_str() {
        Some(text) => Cow::Borrowed(text),
        None if is_plain(value) => Cow::Owned(json_text(value)),
        None => Cow::Borrowed(""),
    }
}

fn lower_case(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| byte.is_ascii_lowercase()) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.to_lowercase())
}

fn auto(id: Uuid) -> Given<'static> {
    Given::Text(Cow::Owned(format!("auto-{id}")))
}

fn id_of(body: &[u8]) -> Uuid {
    let mut id = [0; 16];
    blake3::Hasher::new().update(body).finalize_xof().fill(&mut id);
    Uuid::from_bytes(id)
}
