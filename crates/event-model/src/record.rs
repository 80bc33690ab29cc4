//! A row of an ELT stream, and the barriers between rows.
//!
//! A source is read in attempts. Each attempt has a number that grows; a [`Barrier`] goes to **every**
//! partition of the source's lane each time the source hands out a state, and at the end of a stream.
//! Barriers carry a number that grows over all attempts of the source, and all that a loader needs to know of
//! the stream. Between two barriers of a source stand rows of one stream only, unless the source has one
//! state for all its streams.
//!
//! What a loader may rely on, per partition: rows of a source become real when the next barrier of the
//! **same** attempt follows them; if a record of a newer attempt comes first, they are void. A barrier number that
//! was seen before is a repetition after a crash and means nothing.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::wire::{DecodeError, Message, WireRecord};
use crate::{AttemptId, PartitionKey, SourceId};

/// One record of the `records` topic.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Which source it was read from.
    pub source: SourceId,
    /// The attempt that wrote it.
    pub attempt: AttemptId,
    /// When the source emitted it, or when the barrier was made.
    pub emitted_at: DateTime<Utc>,
    /// Hash of stream and primary key; of the row itself where there is no primary key. For a barrier,
    /// any: it is sent to each partition by number.
    pub key: PartitionKey,
    /// A row or a barrier.
    pub body: RecordBody,
}

/// What a [`Record`] carries.
#[derive(Debug, Clone, PartialEq)]
pub enum RecordBody {
    /// A row of `stream`: the source's JSON object, untouched but for masked or sealed spans.
    Row {
        /// The stream's name.
        stream: String,
        /// The stream's namespace, where the source has any.
        namespace: Option<String>,
        /// The JSON object.
        json: Bytes,
    },
    /// The attempt has begun: whatever an older attempt left after its last barrier is void.
    Begin,
    /// All rows of this attempt before it are durable and final.
    Barrier(Box<Barrier>),
}

/// See the module's text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Barrier {
    /// Grows by one with each barrier of the source, over all attempts.
    pub number: u64,
    /// The streams that may have rows before this barrier.
    pub streams: Vec<StreamSpec>,
    /// The source's state as of here, opaque; `None` where the source has none.
    pub state: Option<Value>,
    /// The read of these streams is complete: for [`LoadMode::Overwrite`] the generation may swap in.
    pub complete: bool,
}

/// What is known of a stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamSpec {
    /// The stream's name.
    pub name: String,
    /// Its namespace, where the source has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its JSON Schema, as the source discovered it.
    pub json_schema: Value,
    /// Paths to the fields of the primary key; empty where there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub primary_key: Vec<Vec<String>>,
    /// How its rows change the table.
    pub mode: LoadMode,
    /// Number of the full refresh these rows belong to; 0 for incremental streams.
    #[serde(default)]
    pub generation: u64,
}

/// How the rows of a stream change its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadMode {
    /// Each row is added.
    Append,
    /// A row replaces the one with its primary key.
    Upsert,
    /// The rows of a generation replace the table when it is complete.
    Overwrite,
}

const SOURCE: &str = "source";
const ATTEMPT: &str = "attempt";
const EMITTED_AT: &str = "emitted-at";
const KIND: &str = "kind";
const STREAM: &str = "stream";
const NAMESPACE: &str = "namespace";

impl Message for Record {
    fn encode(&self) -> WireRecord {
        let key = Bytes::copy_from_slice(&self.key.0);
        let (kind, value) = match &self.body {
            RecordBody::Row { json, .. } => ("row", json.clone()),
            RecordBody::Begin => ("begin", Bytes::from_static(b"{}")),
            // Our own type with string keys: serialising it cannot fail.
            RecordBody::Barrier(barrier) => {
                ("barrier", serde_json::to_vec(barrier).unwrap_or_default().into())
            }
        };
        let record = WireRecord::new(key, value)
            .with(SOURCE, self.source.to_string())
            .with(ATTEMPT, self.attempt.to_string())
            .with_time(EMITTED_AT, self.emitted_at)
            .with(KIND, kind);
        match &self.body {
            RecordBody::Row { stream, namespace, .. } => {
                record.with(STREAM, stream.clone()).with_some(NAMESPACE, namespace.as_deref())
            }
            RecordBody::Begin | RecordBody::Barrier(_) => record,
        }
    }

    fn decode(record: &WireRecord) -> Result<Self, DecodeError> {
        let body = match record.required(KIND)? {
            "row" => RecordBody::Row {
                stream: record.required(STREAM)?.to_owned(),
                namespace: record.text(NAMESPACE)?.map(str::to_owned),
                json: record.body()?,
            },
            "begin" => RecordBody::Begin,
            "barrier" => RecordBody::Barrier(Box::new(crate::wire::from_json(record)?)),
            _ => {
                return Err(DecodeError::MalformedHeader {
                    name: KIND,
                    problem: "not row, begin or barrier".to_owned(),
                });
            }
        };
        Ok(Self {
            source: record.parsed(SOURCE)?,
            attempt: AttemptId(record.parsed(ATTEMPT)?),
            emitted_at: record.time(EMITTED_AT)?,
            key: record.partition_key()?,
            body,
        })
    }
}
