//! How a message becomes a Kafka record and back.
//!
//! A message's identity and everything the server decided stand in headers; the value is the payload as
//! it was received, so that no stage parses JSON that it does not need. Unknown headers are ignored: an
//! older reader lives beside a newer writer.

use std::borrow::Cow;

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};

/// The name of a header. That of nearly every message is a constant.
pub type HeaderName = Cow<'static, str>;

/// A header's name as it was read.
#[must_use]
pub fn header_name(read: &str) -> HeaderName {
    match read {
        EVENT => Cow::Borrowed(EVENT),
        other => Cow::Owned(other.to_owned()),
    }
}

/// The header that has all the server decided of an event, as a JSON object. One header, since librdkafka takes as long
/// over each as over the rest of a message (ADR 7).
pub(crate) const EVENT: &str = "event";

/// A Kafka record without its place: what a [`Message`] encodes to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WireRecord {
    /// The record key; `None` lets the producer choose the partition.
    pub key: Option<Bytes>,
    /// Headers in the order they were written. Names are lower case.
    pub headers: Vec<(HeaderName, Bytes)>,
    /// The payload; `None` is a tombstone.
    pub value: Option<Bytes>,
}

/// A Kafka record whose parts are borrowed: what a producer copies into its queue.
#[derive(Debug, Clone, Copy)]
pub struct RecordRef<'r> {
    /// The record key.
    pub key: Option<&'r [u8]>,
    /// Headers in the order of writing.
    pub headers: &'r [(&'r str, &'r [u8])],
    /// The payload.
    pub value: Option<&'r [u8]>,
}

impl RecordRef<'_> {
    /// What it takes of a producer's queue and of a message's limit, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len) + headers
    }

    /// A copy that owns its parts.
    #[must_use]
    pub fn to_owned(&self) -> WireRecord {
        WireRecord {
            key: self.key.map(Bytes::copy_from_slice),
            headers: self
                .headers
                .iter()
                .map(|(name, value)| (header_name(name), Bytes::copy_from_slice(value)))
                .collect(),
            value: self.value.map(Bytes::copy_from_slice),
        }
    }
}

/// Writes a record of messages `M`. Every message does; where a million a second are written, a type that
/// borrows its parts does it without building a [`WireRecord`].
pub trait WriteRecord<M> {
    /// Lends the record's parts to `to`.
    fn write<R>(&self, to: impl FnOnce(RecordRef<'_>) -> R) -> R;
}

impl<M: Message> WriteRecord<M> for &M {
    fn write<R>(&self, to: impl FnOnce(RecordRef<'_>) -> R) -> R {
        let record = self.encode();
        let headers: Vec<(&str, &[u8])> =
            record.headers.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect();
        to(RecordRef { key: record.key.as_deref(), headers: &headers, value: record.value.as_deref() })
    }
}

/// What a typed topic carries.
pub trait Message: Sized {
    /// The Kafka record of this message.
    fn encode(&self) -> WireRecord;

    /// Reads a record that this or any earlier version wrote.
    ///
    /// # Errors
    /// [`DecodeError`] names the header or field that is missing or malformed.
    fn decode(record: &WireRecord) -> Result<Self, DecodeError>;
}

/// A record that is not what its topic promises. It goes to the dead letters as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A header that the message cannot do without.
    #[error("header {0:?} is missing")]
    MissingHeader(&'static str),
    /// A header is there but cannot be read.
    #[error("header {name:?} is malformed: {problem}")]
    MalformedHeader {
        /// Which one.
        name: &'static str,
        /// What is wrong with it; never its content.
        problem: String,
    },
    /// The record has no key, or not one of 16 bytes.
    #[error("the record key is not 16 bytes")]
    MalformedKey,
    /// The value is not what the headers say.
    #[error("the value is malformed: {0}")]
    MalformedValue(String),
}

impl WireRecord {
    /// A record with a key and a value, headers to follow.
    #[must_use]
    pub fn new(key: impl Into<Option<Bytes>>, value: impl Into<Option<Bytes>>) -> Self {
        Self { key: key.into(), headers: Vec::new(), value: value.into() }
    }

    /// Adds a header.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Bytes>) -> Self {
        self.headers.push((header_name(name), value.into()));
        self
    }

    /// Adds a text header where there is a value.
    #[must_use]
    pub fn with_some(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(text) => self.with(name, text.to_owned()),
            None => self,
        }
    }

    /// Adds a time header: RFC 3339 in UTC with milliseconds.
    #[must_use]
    pub fn with_time(self, name: &str, at: DateTime<Utc>) -> Self {
        self.with(name, at.to_rfc3339_opts(SecondsFormat::Millis, true))
    }

    /// The last header of that name: the last writer wins.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().rev().find(|(other, _)| other == name).map(|(_, value)| value.as_ref())
    }

    /// A text header.
    ///
    /// # Errors
    /// The header is there but not UTF-8.
    pub fn text(&self, name: &'static str) -> Result<Option<&str>, DecodeError> {
        let Some(value) = self.header(name) else { return Ok(None) };
        std::str::from_utf8(value)
            .map(Some)
            .map_err(|_| DecodeError::MalformedHeader { name, problem: "not UTF-8".to_owned() })
    }

    /// A text header that must be there.
    ///
    /// # Errors
    /// It is missing or not UTF-8.
    pub fn required(&self, name: &'static str) -> Result<&str, DecodeError> {
        self.text(name)?.ok_or(DecodeError::MissingHeader(name))
    }

    /// A header that must be there, parsed.
    ///
    /// # Errors
    /// It is missing, or does not parse.
    pub fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
        &self,
        name: &'static str,
    ) -> Result<T, DecodeError> {
        self.required(name)?
            .parse()
            .map_err(|error: T::Err| DecodeError::MalformedHeader { name, problem: error.to_string() })
    }

    /// A time header that must be there.
    ///
    /// # Errors
    /// It is missing or not RFC 3339.
    pub fn time(&self, name: &'static str) -> Result<DateTime<Utc>, DecodeError> {
        let text = self.required(name)?;
        DateTime::parse_from_rfc3339(text)
            .map(|at| at.with_timezone(&Utc))
            .map_err(|error| DecodeError::MalformedHeader { name, problem: error.to_string() })
    }

    /// The key as 16 bytes.
    ///
    /// # Errors
    /// There is none, or it has another length.
    pub fn partition_key(&self) -> Result<crate::PartitionKey, DecodeError> {
        let key = self.key.as_deref().ok_or(DecodeError::MalformedKey)?;
        let bytes = <[u8; 16]>::try_from(key).map_err(|_| DecodeError::MalformedKey)?;
        Ok(crate::PartitionKey(bytes))
    }

    /// The value, which must be there.
    ///
    /// # Errors
    /// The record is a tombstone.
    pub fn body(&self) -> Result<Bytes, DecodeError> {
        self.value.clone().ok_or_else(|| DecodeError::MalformedValue("there is none".to_owned()))
    }
}

/// Encodes a message whose value is JSON and whose key is text.
pub(crate) fn json_record(key: String, message: &impl serde::Serialize) -> WireRecord {
    // Our own types with string keys and no fallible Serialize: this cannot fail.
    let value = serde_json::to_vec(message).unwrap_or_default();
    WireRecord::new(Bytes::from(key), Bytes::from(value))
}

/// Reads what [`json_record`] wrote.
pub(crate) fn from_json<T: serde::de::DeserializeOwned>(record: &WireRecord) -> Result<T, DecodeError> {
    serde_json::from_slice(&record.body()?).map_err(|error| DecodeError::MalformedValue(error.to_string()))
}
