//! A fact a user caused, as it travels.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::time::Rfc3339;
use crate::wire::{DecodeError, Message, RecordRef, WireRecord, WriteRecord};
use crate::{Geo, MessageId, PartitionKey, SourceId};

/// The kind of event: of the request's path, or of the event's own `type` in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventType {
    /// Who a user is.
    Identify,
    /// What a user did.
    Track,
    /// Which web page they saw.
    Page,
    /// Which screen of an app they saw.
    Screen,
    /// Which group they belong to.
    Group,
    /// That two user ids are one person.
    Alias,
    /// That two identifiers are one person (identity resolution).
    Merge,
}

/// The text is none of the types.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown event type")]
pub struct UnknownEventType;

impl EventType {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Identify => "identify",
            Self::Track => "track",
            Self::Page => "page",
            Self::Screen => "screen",
            Self::Group => "group",
            Self::Alias => "alias",
            Self::Merge => "merge",
        }
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for EventType {
    type Err = UnknownEventType;

    fn from_str(text: &str) -> Result<Self, UnknownEventType> {
        match text {
            "identify" => Ok(Self::Identify),
            "track" => Ok(Self::Track),
            "page" => Ok(Self::Page),
            "screen" => Ok(Self::Screen),
            "group" => Ok(Self::Group),
            "alias" => Ok(Self::Alias),
            "merge" => Ok(Self::Merge),
            _ => Err(UnknownEventType),
        }
    }
}

/// One event of a user. `body` is the client's JSON, untouched but for masked or sealed spans; the other
/// fields are what the server decided, and they win over what the body says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The event's `type` as text: one of [`EventType`], or whatever else a client sent in a batch. The
    /// consumers reject what they do not know, with a reason.
    pub event_type: String,
    /// By which client retries are recognised.
    pub message_id: MessageId,
    /// The person, in RudderStack's terms.
    pub rudder_id: Uuid,
    /// When the server had the whole request.
    pub received_at: DateTime<Utc>,
    /// The batch's `sentAt` as the client wrote it, for events that have none of their own.
    pub sent_at: Option<String>,
    /// The client's address, after the source's privacy policy.
    pub request_ip: Option<String>,
    /// Where the client is, where that is looked up: a [`Geo`] in JSON.
    pub geo: Option<String>,
    /// Which source it came in by.
    pub source: SourceId,
    /// Version of the privacy policy that was applied.
    pub policy: Option<String>,
    /// W3C trace context of the request.
    pub traceparent: Option<String>,
    /// Orders the events of one person.
    pub key: PartitionKey,
    /// The client's JSON object.
    pub body: Bytes,
}

const TYPE: &str = "type";
const MESSAGE_ID: &str = "message-id";
const RUDDER_ID: &str = "rudder-id";
const RECEIVED_AT: &str = "received-at";
const SENT_AT: &str = "sent-at";
const REQUEST_IP: &str = "request-ip";
const GEO: &str = "geo";
const SOURCE: &str = "source";
const POLICY: &str = "policy";
const TRACEPARENT: &str = "traceparent";

impl Event {
    /// The type, where it is one we know.
    ///
    /// # Errors
    /// [`UnknownEventType`]: a client sent something else in a batch.
    pub fn known_type(&self) -> Result<EventType, UnknownEventType> {
        self.event_type.parse()
    }

    /// What the server decided, in the names of RudderStack's events: in a document for others each wins
    /// over the body's own field. `sentAt` is not among them: it only stands in where the body has none.
    #[must_use]
    pub fn decided(&self) -> Vec<(&'static str, String)> {
        let received_at = self.received_at.to_rfc3339_opts(SecondsFormat::Millis, true);
        let mut fields = vec![
            ("type", self.event_type.clone()),
            ("messageId", self.message_id.to_string()),
            ("rudderId", self.rudder_id.to_string()),
            ("receivedAt", received_at),
        ];
        fields.extend(self.request_ip.clone().map(|ip| ("request_ip", ip)));
        fields
    }

    /// Where the client is, for `context.geo` in a document for others: it stands in where the body says
    /// nothing there, and wins over nothing.
    #[must_use]
    pub fn place(&self) -> Option<Geo> {
        // What a foreign writer has put there instead is no place.
        serde_json::from_str(self.geo.as_deref()?).ok()
    }

    /// Stable over retries, restarts and replays: `<source>/<hash of the message id>`. The id itself is
    /// any text that a client sent; this is short and safe in a header.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        let hash = blake3::hash(self.message_id.as_str().as_bytes());
        let digits = hash.to_hex();
        format!("{}/{}", self.source, &digits[..32])
    }
}

/// An [`Event`] whose parts are borrowed from a request: what ingest writes. The one place that knows the
/// headers of an event.
#[derive(Debug, Clone, Copy)]
pub struct EventRef<'e> {
    /// As [`Event::event_type`].
    pub event_type: &'e str,
    /// As [`Event::message_id`].
    pub message_id: &'e str,
    /// As [`Event::rudder_id`].
    pub rudder_id: Uuid,
    /// As [`Event::received_at`].
    pub received_at: DateTime<Utc>,
    /// As [`Event::sent_at`].
    pub sent_at: Option<&'e str>,
    /// As [`Event::request_ip`].
    pub request_ip: Option<&'e str>,
    /// As [`Event::geo`].
    pub geo: Option<&'e str>,
    /// As [`Event::source`].
    pub source: &'e SourceId,
    /// As [`Event::policy`].
    pub policy: Option<&'e str>,
    /// As [`Event::traceparent`].
    pub traceparent: Option<&'e str>,
    /// As [`Event::key`].
    pub key: PartitionKey,
    /// As [`Event::body`].
    pub body: &'e [u8],
}

/// Headers that an event has at most.
const MAX_HEADERS: usize = 10;

impl WriteRecord<Event> for EventRef<'_> {
    fn write<R>(&self, to: impl FnOnce(RecordRef<'_>) -> R) -> R {
        let mut uuid = Uuid::encode_buffer();
        let rudder_id: &str = self.rudder_id.hyphenated().encode_lower(&mut uuid);
        let received_at = Rfc3339::new(self.received_at);
        let headers: [(&str, Option<&str>); MAX_HEADERS] = [
            (TYPE, Some(self.event_type)),
            (MESSAGE_ID, Some(self.message_id)),
            (RUDDER_ID, Some(rudder_id)),
            (RECEIVED_AT, Some(received_at.as_str())),
            (SENT_AT, self.sent_at),
            (REQUEST_IP, self.request_ip),
            (GEO, self.geo),
            (SOURCE, Some(self.source.as_str())),
            (POLICY, self.policy),
            (TRACEPARENT, self.traceparent),
        ];
        let mut present: [(&str, &[u8]); MAX_HEADERS] = [("", &[]); MAX_HEADERS];
        let mut count = 0;
        for (slot, (name, value)) in
            present.iter_mut().zip(headers.iter().filter_map(|(name, value)| Some((*name, (*value)?))))
        {
            *slot = (name, value.as_bytes());
            count += 1;
        }
        let headers = present.get(..count).unwrap_or_default();
        to(RecordRef { key: Some(&self.key.0), headers, value: Some(self.body) })
    }
}

impl Event {
    /// Lends its parts.
    #[must_use]
    pub fn borrowed(&self) -> EventRef<'_> {
        EventRef {
            event_type: &self.event_type,
            message_id: self.message_id.as_str(),
            rudder_id: self.rudder_id,
            received_at: self.received_at,
            sent_at: self.sent_at.as_deref(),
            request_ip: self.request_ip.as_deref(),
            geo: self.geo.as_deref(),
            source: &self.source,
            policy: self.policy.as_deref(),
            traceparent: self.traceparent.as_deref(),
            key: self.key,
            body: &self.body,
        }
    }
}

impl Message for Event {
    fn encode(&self) -> WireRecord {
        self.borrowed().write(|record| record.to_owned())
    }

    fn decode(record: &WireRecord) -> Result<Self, DecodeError> {
        Ok(Self {
            event_type: record.required(TYPE)?.to_owned(),
            message_id: MessageId(record.required(MESSAGE_ID)?.to_owned()),
            rudder_id: record.parsed(RUDDER_ID)?,
            received_at: record.time(RECEIVED_AT)?,
            sent_at: record.text(SENT_AT)?.map(str::to_owned),
            request_ip: record.text(REQUEST_IP)?.map(str::to_owned),
            geo: record.text(GEO)?.map(str::to_owned),
            source: record.parsed(SOURCE)?,
            policy: record.text(POLICY)?.map(str::to_owned),
            traceparent: record.text(TRACEPARENT)?.map(str::to_owned),
            key: record.partition_key()?,
            body: record.body()?,
        })
    }
}
