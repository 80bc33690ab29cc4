//! A fact a user caused, as it travels.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::header::PlainTexts;
use crate::time::{self, Rfc3339};
use crate::wire::{DecodeError, EVENT, Message, RecordRef, WireRecord, WriteRecord};
use crate::{Geo, IdempotencyKey, MessageId, PartitionKey, SourceId};

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
///
/// What is short as a rule is kept inside, so that an event is read with one allocation for its texts, which is the
/// message id's. What is rare, or never short, is boxed, since events are moved around.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The event's `type` as text: one of [`EventType`], or whatever else a client sent in a batch. The
    /// consumers reject what they do not know, with a reason.
    pub event_type: CompactString,
    /// By which client retries are recognised.
    pub message_id: MessageId,
    /// The person, in RudderStack's terms.
    pub rudder_id: Uuid,
    /// When the server had the whole request.
    pub received_at: DateTime<Utc>,
    /// The batch's `sentAt` as the client wrote it, for events that have none of their own.
    pub sent_at: Option<CompactString>,
    /// The client's address, after the source's privacy policy.
    pub request_ip: Option<CompactString>,
    /// Where the client is, where that is looked up: a [`Geo`] in JSON.
    pub geo: Option<Box<str>>,
    /// Which source it came in by.
    pub source: SourceId,
    /// Version of the privacy policy that was applied.
    pub policy: Option<CompactString>,
    /// W3C trace context of the request.
    pub traceparent: Option<Box<str>>,
    /// Orders the events of one person.
    pub key: PartitionKey,
    /// The client's JSON object.
    pub body: Bytes,
}

/// One of the single headers of the first shape.
const TYPE: &str = "type";

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
            ("type", self.event_type.to_string()),
            ("messageId", self.message_id.to_string()),
            ("rudderId", self.rudder_id.to_string()),
            ("receivedAt", received_at),
        ];
        fields.extend(self.request_ip.as_ref().map(|ip| ("request_ip", ip.to_string())));
        fields
    }

    /// Where the client is, for `context.geo` in a document for others: it stands in where the body says
    /// nothing there, and wins over nothing.
    #[must_use]
    pub fn place(&self) -> Option<Geo> {
        // What a foreign writer has put there instead is no place.
        serde_json::from_str(self.geo.as_deref()?).ok()
    }

    /// See [`IdempotencyKey::of_event`].
    #[must_use]
    pub fn idempotency_key(&self) -> IdempotencyKey {
        IdempotencyKey::of_event(&self.source, &self.message_id)
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

/// The header of nearly every event fits here; a longer one is put together on the heap.
const SHORT_HEADER: usize = 512;

impl WriteRecord<Event> for EventRef<'_> {
    fn write<R>(&self, to: impl FnOnce(RecordRef<'_>) -> R) -> R {
        let mut short = [0; SHORT_HEADER];
        let mut rest = short.as_mut_slice();
        let fits = self.decided(&mut rest).is_ok();
        let length = SHORT_HEADER - rest.len();
        let mut long = Vec::new();
        let mut header = short.get(..length).unwrap_or_default();
        if !fits {
            // Into memory, which does not fail.
            let _ = self.decided(&mut long);
            header = &long;
        }
        to(RecordRef { key: Some(&self.key.0), headers: &[(EVENT, header)], value: Some(self.body) })
    }
}

impl EventRef<'_> {
    /// Writes what [`Decided`] reads.
    fn decided(&self, to: &mut impl Write) -> io::Result<()> {
        let mut uuid = Uuid::encode_buffer();
        let rudder_id: &str = self.rudder_id.hyphenated().encode_lower(&mut uuid);
        to.write_all(b"{\"type\":")?;
        json_text(to, self.event_type)?;
        to.write_all(b",\"messageId\":")?;
        json_text(to, self.message_id)?;
        to.write_all(b",\"rudderId\":\"")?;
        to.write_all(rudder_id.as_bytes())?;
        to.write_all(b"\",\"receivedAt\":\"")?;
        to.write_all(Rfc3339::new(self.received_at).as_str().as_bytes())?;
        to.write_all(b"\",\"source\":")?;
        json_text(to, self.source.as_str())?;
        for (name, value) in [
            (",\"sentAt\":", self.sent_at),
            (",\"requestIp\":", self.request_ip),
            (",\"geo\":", self.geo),
            (",\"policy\":", self.policy),
            (",\"traceparent\":", self.traceparent),
        ] {
            if let Some(value) = value {
                to.write_all(name.as_bytes())?;
                json_text(to, value)?;
            }
        }
        to.write_all(b"}")
    }
}

/// A JSON string. Ids and times have nothing to escape.
fn json_text(to: &mut impl Write, text: &str) -> io::Result<()> {
    // Without an early end the loop takes sixteen bytes at a time.
    if text.bytes().fold(false, |escapes, byte| escapes | matches!(byte, b'"' | b'\\' | 0..0x20)) {
        return serde_json::to_writer(to, text).map_err(io::Error::from);
    }
    to.write_all(b"\"")?;
    to.write_all(text.as_bytes())?;
    to.write_all(b"\"")
}

/// What the server decided, as it stands in the header.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Decided {
    #[serde(rename = "type")]
    event_type: CompactString,
    message_id: MessageId,
    rudder_id: Uuid,
    #[serde(deserialize_with = "time::deserialize")]
    received_at: DateTime<Utc>,
    source: SourceId,
    sent_at: Option<CompactString>,
    request_ip: Option<CompactString>,
    geo: Option<Box<str>>,
    policy: Option<CompactString>,
    traceparent: Option<Box<str>>,
}

impl Decided {
    fn decode(record: &WireRecord) -> Result<Self, DecodeError> {
        let Some(json) = record.header(EVENT) else {
            return match record.header(TYPE) {
                Some(_) => Self::of_single_headers(record),
                None => Err(DecodeError::MissingHeader(EVENT)),
            };
        };
        Self::as_written(json).map_or_else(|| Self::of_json(json), Ok)
    }

    /// In the form of [`EventRef::decided`], or what a parser reads the same.
    fn as_written(json: &[u8]) -> Option<Self> {
        let mut texts = PlainTexts::of(json)?;
        let decided = Self {
            event_type: texts.next("{\"type\":\"")?.into(),
            message_id: MessageId(texts.next(",\"messageId\":\"")?.to_owned()),
            rudder_id: texts.next(",\"rudderId\":\"")?.parse().ok()?,
            received_at: time::of_short(texts.next(",\"receivedAt\":\"")?)?,
            source: texts.next(",\"source\":\"")?.parse().ok()?,
            sent_at: texts.next(",\"sentAt\":\"").map(CompactString::from),
            request_ip: texts.next(",\"requestIp\":\"").map(CompactString::from),
            geo: texts.next(",\"geo\":\"").map(Box::from),
            policy: texts.next(",\"policy\":\"").map(CompactString::from),
            traceparent: texts.next(",\"traceparent\":\"").map(Box::from),
        };
        texts.is_at_end().then_some(decided)
    }

    fn of_json(json: &[u8]) -> Result<Self, DecodeError> {
        serde_json::from_slice(json).map_err(|error| DecodeError::MalformedHeader {
            name: EVENT,
            // serde_json's own words would quote the value.
            problem: format!("no such JSON at byte {} of it", error.column()),
        })
    }

    /// The first shape: a header for each.
    fn of_single_headers(record: &WireRecord) -> Result<Self, DecodeError> {
        let short = |name| record.text(name).map(|text| text.map(CompactString::from));
        let long = |name| record.text(name).map(|text| text.map(Box::from));
        Ok(Self {
            event_type: record.required(TYPE)?.into(),
            message_id: MessageId(record.required("message-id")?.to_owned()),
            rudder_id: record.parsed("rudder-id")?,
            received_at: record.time("received-at")?,
            source: record.parsed("source")?,
            sent_at: short("sent-at")?,
            request_ip: short("request-ip")?,
            geo: long("geo")?,
            policy: short("policy")?,
            traceparent: long("traceparent")?,
        })
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
        let decided = Decided::decode(record)?;
        Ok(Self {
            event_type: decided.event_type,
            message_id: decided.message_id,
            rudder_id: decided.rudder_id,
            received_at: decided.received_at,
            sent_at: decided.sent_at,
            request_ip: decided.request_ip,
            geo: decided.geo,
            source: decided.source,
            policy: decided.policy,
            traceparent: decided.traceparent,
            key: record.partition_key()?,
            body: record.body()?,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A header with these texts, of which the last five may be missing.
    fn written(texts: &[Option<String>; 9], received_at: DateTime<Utc>) -> Vec<u8> {
        let [event_type, message_id, ..] = texts;
        let [.., sent_at, request_ip, geo, policy, traceparent] = texts;
        let of = EventRef {
            event_type: event_type.as_deref().unwrap_or_default(),
            message_id: message_id.as_deref().unwrap_or_default(),
            rudder_id: Uuid::from_u128(7),
            received_at,
            sent_at: sent_at.as_deref(),
            request_ip: request_ip.as_deref(),
            geo: geo.as_deref(),
            source: &"web".parse().unwrap(),
            policy: policy.as_deref(),
            traceparent: traceparent.as_deref(),
            key: PartitionKey([0; 16]),
            body: b"{}",
        };
        let mut header = Vec::new();
        of.decided(&mut header).unwrap();
        header
    }

    fn any_texts() -> impl Strategy<Value = [Option<String>; 9]> {
        prop::array::uniform9(prop::option::of(prop_oneof![
            "[a-z0-9-]{0,12}",
            "[a-z\"\\\\,:{}\u{0}-\u{20}é]{0,6}"
        ]))
    }

    fn any_moment() -> impl Strategy<Value = DateTime<Utc>> {
        // Into years of five digits.
        (-70_000_000_000_000_i64..300_000_000_000_000)
            .prop_map(|at| DateTime::from_timestamp_millis(at).unwrap())
    }

    proptest! {
        #[test]
        fn a_header_is_read_as_a_parser_of_json_reads_it(texts in any_texts(), at in any_moment()) {
            let header = written(&texts, at);
            let parsed = Decided::of_json(&header).unwrap();
            if let Some(read) = Decided::as_written(&header) {
                prop_assert_eq!(read, parsed);
            }
        }

        #[test]
        fn a_header_that_is_damaged_is_no_other_to_a_parser(
            texts in any_texts(),
            at in any_moment(),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..3),
        ) {
            let mut header = written(&texts, at);
            for (place, byte, instead) in damage {
                let place = place.index(header.len());
                header.splice(place..place + usize::from(instead), [byte]);
            }
            if let Some(read) = Decided::as_written(&header) {
                prop_assert_eq!(Ok(read), Decided::of_json(&header));
            }
        }
    }

    #[test]
    fn what_ingest_writes_needs_no_parser() {
        let some = |text: &str| Some(text.to_owned());
        let full = [
            some("track"),
            some("id-é"),
            None,
            None,
            some("t"),
            some("ip"),
            some("g"),
            some("p"),
            some("00-1"),
        ];
        let bare = [some("page"), some("id"), None, None, None, None, None, None, None];
        for texts in [full, bare] {
            assert!(Decided::as_written(&written(&texts, DateTime::UNIX_EPOCH)).is_some(), "{texts:?}");
        }
    }
}
