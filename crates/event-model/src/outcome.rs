//! What became of an event, a record or a change.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::wire::{DecodeError, Message, WireRecord, from_json, json_record};
use crate::{DestinationId, MessageId, PartitionKey, SourceId, SyncId};

/// How an item ended. Exactly one of these for each item and connection, so that the books balance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Disposition {
    /// The destination said it has it.
    Delivered,
    /// Its rows are in the warehouse.
    Loaded,
    /// The connection's `when` left it out.
    Filtered,
    /// The user asked not to be tracked.
    Suppressed,
    /// The same message id was here within the window.
    Duplicate,
    /// It cannot be accepted; the reason says why, and it is in the dead letters.
    Rejected,
    /// Retention took it before it was read.
    Expired,
    /// A newer change of the same key, or a newer attempt of the same source, took its place.
    Superseded,
}

impl Disposition {
    /// The name on the wire and in the counts table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Loaded => "loaded",
            Self::Filtered => "filtered",
            Self::Suppressed => "suppressed",
            Self::Duplicate => "duplicate",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Superseded => "superseded",
        }
    }
}

/// Why something was not delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// A stable short name to group by, such as `http_400` or `invalid_json`.
    pub code: String,
    /// A sentence for a person: what happened, to what, what to do. Never holds the payload.
    pub message: String,
}

impl Reason {
    /// A reason of a code and a sentence.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into() }
    }
}

/// The stage that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// HTTP in.
    Ingest,
    /// ELT in.
    Extract,
    /// Rows into warehouses.
    WarehouseLoader,
    /// Items out to destinations.
    Deliver,
    /// Changes out of a warehouse.
    ReverseEtl,
}

/// What an outcome is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "lowercase")]
pub enum Origin {
    /// A run of events that all ended alike.
    Events {
        /// The Kafka topic.
        topic: String,
        /// Its partition.
        partition: i32,
        /// The first offset.
        first: i64,
        /// The last offset, inclusive.
        last: i64,
        /// How many items between them this is about: offsets may have gaps.
        count: u64,
    },
    /// A single event.
    Event {
        /// The Kafka topic.
        topic: String,
        /// Its partition.
        partition: i32,
        /// Its offset.
        offset: i64,
        /// Its source.
        source: SourceId,
        /// Its message id.
        message_id: MessageId,
    },
    /// A change of a sync.
    Change {
        /// The sync.
        sync: SyncId,
        /// Its run.
        run: u64,
        /// The row.
        key: PartitionKey,
        /// The version of the row.
        row_hash: PartitionKey,
    },
}

/// A stored answer to "what became of it".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Who was to have it.
    pub destination: DestinationId,
    /// What it is about.
    pub origin: Origin,
    /// How it ended.
    pub disposition: Disposition,
    /// Why, unless it was delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// How many times it was tried.
    pub attempts: u32,
    /// When it ended.
    pub at: DateTime<Utc>,
}

impl Message for Outcome {
    fn encode(&self) -> WireRecord {
        // Keyed by the sync for changes, so that a sync's outcomes are read in order; else by destination.
        let key = match &self.origin {
            Origin::Change { sync, .. } => sync.to_string(),
            Origin::Events { .. } | Origin::Event { .. } => self.destination.to_string(),
        };
        json_record(key, self)
    }

    fn decode(record: &WireRecord) -> Result<Self, DecodeError> {
        from_json(record)
    }
}

/// An item that could not be processed, kept as it was read (after masking) with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The stage that gave up.
    pub stage: Stage,
    /// The destination, or the connection for a warehouse, or the source for extract.
    pub subject: String,
    /// Where it was read from: topic, partition, offset.
    pub topic: String,
    /// See `topic`.
    pub partition: i32,
    /// See `topic`.
    pub offset: i64,
    /// Why.
    pub reason: Reason,
    /// When.
    pub at: DateTime<Utc>,
    /// The record as it was read, its headers included.
    pub original: WireRecord,
}

const STAGE: &str = "dl-stage";
const SUBJECT: &str = "dl-subject";
const TOPIC: &str = "dl-topic";
const PARTITION: &str = "dl-partition";
const OFFSET: &str = "dl-offset";
const CODE: &str = "dl-code";
const MESSAGE: &str = "dl-message";
const AT: &str = "dl-at";
const OURS: &str = "dl-";

impl Stage {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Extract => "extract",
            Self::WarehouseLoader => "warehouse-loader",
            Self::Deliver => "deliver",
            Self::ReverseEtl => "reverse-etl",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Ingest, Self::Extract, Self::WarehouseLoader, Self::Deliver, Self::ReverseEtl]
            .into_iter()
            .find(|stage| stage.as_str() == name)
    }
}

impl DeadLetter {
    /// Stable over repetitions after a crash: who gave up on which record.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}/{}/{}/{}", self.subject, self.topic, self.partition, self.offset)
    }
}

impl Message for DeadLetter {
    fn encode(&self) -> WireRecord {
        let mut record = self.original.clone();
        record.headers.retain(|(name, _)| !name.starts_with(OURS));
        record
            .with(STAGE, self.stage.as_str())
            .with(SUBJECT, self.subject.clone())
            .with(TOPIC, self.topic.clone())
            .with(PARTITION, self.partition.to_string())
            .with(OFFSET, self.offset.to_string())
            .with(CODE, self.reason.code.clone())
            .with(MESSAGE, self.reason.message.clone())
            .with_time(AT, self.at)
    }

    fn decode(record: &WireRecord) -> Result<Self, DecodeError> {
        let stage = Stage::from_name(record.required(STAGE)?)
            .ok_or_else(|| DecodeError::MalformedHeader { name: STAGE, problem: "not a stage".to_owned() })?;
        let mut original = record.clone();
        original.headers.retain(|(name, _)| !name.starts_with(OURS));
        Ok(Self {
            stage,
            subject: record.required(SUBJECT)?.to_owned(),
            topic: record.required(TOPIC)?.to_owned(),
            partition: record.parsed(PARTITION)?,
            offset: record.parsed(OFFSET)?,
            reason: Reason::new(record.required(CODE)?, record.required(MESSAGE)?),
            at: record.time(AT)?,
            original,
        })
    }
}

/// How far a destination has got in one partition: its resume state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Whose progress.
    pub destination: DestinationId,
    /// The topic that is read.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// The Kafka cluster and topic ids these offsets mean: another pair makes them void.
    pub cluster: String,
    /// Everything below this offset is done.
    pub low: i64,
    /// What above `low` is done too: ascending ranges of offsets, the first inclusive, the last exclusive.
    /// There is at most one range for each item that is not done, so a key that fails for hours holds back
    /// `low` but neither the other keys nor this record's size.
    pub done: Vec<(i64, i64)>,
}

impl Progress {
    /// The key of the compacted record.
    #[must_use]
    pub fn record_key(destination: &DestinationId, topic: &str, partition: i32) -> String {
        format!("{destination}/{topic}/{partition}")
    }
}

impl Message for Progress {
    fn encode(&self) -> WireRecord {
        json_record(Self::record_key(&self.destination, &self.topic, self.partition), self)
    }

    fn decode(record: &WireRecord) -> Result<Self, DecodeError> {
        from_json(record)
    }
}
