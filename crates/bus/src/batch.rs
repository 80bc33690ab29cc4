//! What is read: messages with their place, in batches with the ranges they cover.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use millrace_event_model::wire::{DecodeError, Message, WireRecord, header_name};
use rdkafka::message::{BorrowedMessage, Headers, Message as _};
use serde::{Deserialize, Serialize};

/// For each partition, the offset of the next message to read.
pub type Positions = BTreeMap<i32, i64>;

/// Where reading begins in a partition that has no position yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the oldest message that is kept.
    Earliest,
    /// With the next message that comes.
    Latest,
    /// With the first message that the broker appended at or after this time.
    At(DateTime<Utc>),
}

/// Offsets `start` to `end`, exclusive, of one partition. Ranges are made by reading, or read back from
/// where a batch's ranges were stored; so nobody can commit what nobody has read.
///
/// The ranges of successive batches touch: where compaction left a gap, the range covers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Range {
    /// The partition.
    pub partition: i32,
    /// The first offset.
    pub start: i64,
    /// One more than the last offset.
    pub end: i64,
}

impl Range {
    /// A range that a store has kept, in its own terms: offsets that were read before.
    #[must_use]
    pub fn stored(partition: i32, start: i64, end: i64) -> Self {
        Self { partition, start, end }
    }
}

/// A message as it was read. One that cannot be decoded is here too, with its raw record, so that it can
/// go to the dead letters; skipping it would unbalance the books.
#[derive(Debug, Clone)]
pub struct Received<M> {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// When the broker appended it.
    pub appended_at: DateTime<Utc>,
    /// The record.
    pub raw: WireRecord,
    /// The message, or why the record is none.
    pub message: Result<M, DecodeError>,
}

/// When a batch is full, and how long it may take to fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// At most so many messages.
    pub max_records: usize,
    /// Full at so many bytes of keys, headers and values; the message that reaches it is the last, so a
    /// batch is larger by less than one message.
    pub max_bytes: usize,
    /// Whatever has been read by then is the batch, be it nothing.
    pub max_wait: Duration,
}

/// Messages, in order per partition, and exactly the ranges they cover.
#[derive(Debug)]
#[non_exhaustive]
pub struct Batch<M> {
    /// The messages.
    pub records: Vec<Received<M>>,
    /// At most one for each partition, by partition number.
    pub ranges: Vec<Range>,
    /// Keys, headers and values together.
    pub bytes: usize,
}

impl<M> Batch<M> {
    /// A batch of messages that were read elsewhere, by a test as a rule. Each range begins with the first
    /// offset of its partition.
    #[must_use]
    pub fn of(records: Vec<Received<M>>) -> Self {
        let mut filling = Filling::default();
        for record in records {
            let start = record.offset;
            filling.push(record, start);
        }
        filling.finish()
    }

    /// Whether nothing was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Where reading goes on after this batch, for the partitions that it has.
    #[must_use]
    pub fn next_positions(&self) -> Positions {
        self.ranges.iter().map(|range| (range.partition, range.end)).collect()
    }
}

impl<M> Received<M> {
    /// Key, headers and value together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        bytes_of(&self.raw)
    }
}

fn bytes_of(raw: &WireRecord) -> usize {
    let headers: usize = raw.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    raw.key.as_ref().map_or(0, Bytes::len) + raw.value.as_ref().map_or(0, Bytes::len) + headers
}

/// What [`Received`] is made of, on its way from one thread to another: the one that goes on with a message decodes it,
/// and gives back itself what memory that took.
#[derive(Debug)]
pub(crate) struct Undecoded {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) appended_at: DateTime<Utc>,
    pub(crate) raw: WireRecord,
}

impl Undecoded {
    pub(crate) fn decode<M: Message>(self) -> Received<M> {
        let Self { partition, offset, appended_at, raw } = self;
        Received { partition, offset, appended_at, message: M::decode(&raw), raw }
    }

    /// As [`Received::bytes`].
    pub(crate) fn bytes(&self) -> usize {
        bytes_of(&self.raw)
    }
}

/// A batch that is being read.
#[derive(Debug)]
pub(crate) struct Filling<M> {
    records: Vec<Received<M>>,
    bytes: usize,
    /// Start and end for each partition.
    spans: BTreeMap<i32, (i64, i64)>,
}

impl<M> Default for Filling<M> {
    fn default() -> Self {
        Self { records: Vec::new(), bytes: 0, spans: BTreeMap::new() }
    }
}

impl<M> Filling<M> {
    /// With room for so many messages, which are large to move.
    pub(crate) fn with_room(messages: usize) -> Self {
        Self { records: Vec::with_capacity(messages), ..Self::default() }
    }

    /// `expected`: where the partition's range begins, if this is its first message in the batch.
    pub(crate) fn push(&mut self, received: Received<M>, expected: i64) {
        let end = received.offset + 1;
        self.bytes += received.bytes();
        self.spans.entry(received.partition).and_modify(|span| span.1 = end).or_insert((expected, end));
        self.records.push(received);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn is_full(&self, limits: &BatchLimits) -> bool {
        self.records.len() >= limits.max_records || self.bytes >= limits.max_bytes
    }

    pub(crate) fn finish(self) -> Batch<M> {
        let ranges =
            self.spans.into_iter().map(|(partition, (start, end))| Range { partition, start, end }).collect();
        Batch { records: self.records, ranges, bytes: self.bytes }
    }
}

/// Copies messages out of the client's memory.
#[derive(Debug)]
pub(crate) struct Copies {
    /// What is left of the last piece of memory.
    room: BytesMut,
    piece: usize,
}

/// Bytes of a piece that the messages of a batch share. Whoever keeps one of them keeps so much.
const BATCH_PIECE: usize = 64 * 1024;

/// The same where messages end one by one and some wait for long: a piece has some six events. Where one of six waits,
/// it holds six times its own size.
const LONE_PIECE: usize = 4 * 1024;

impl Copies {
    /// Of messages that come and go together, some hundred in a piece of memory: one for each would cost more than
    /// the copy. A piece is given back with the last of its messages.
    pub(crate) fn of_a_batch() -> Self {
        Self { room: BytesMut::new(), piece: BATCH_PIECE }
    }

    /// Of messages that are kept for as long as each takes to be delivered.
    pub(crate) fn of_a_member() -> Self {
        Self { room: BytesMut::new(), piece: LONE_PIECE }
    }

    /// Copies and decodes a message.
    pub(crate) fn receive<M: Message>(&mut self, message: &BorrowedMessage<'_>) -> Received<M> {
        self.undecoded(message).decode()
    }

    /// Copies a message.
    pub(crate) fn undecoded(&mut self, message: &BorrowedMessage<'_>) -> Undecoded {
        let mut raw = WireRecord { key: message.key().map(|key| self.copy(key)), ..WireRecord::default() };
        if let Some(headers) = message.headers() {
            raw.headers.reserve_exact(headers.count());
            for header in headers.iter() {
                raw.headers.push((header_name(header.key), self.copy(header.value.unwrap_or_default())));
            }
        }
        raw.value = message.payload().map(|payload| self.copy(payload));
        let appended_at = message.timestamp().to_millis().and_then(DateTime::from_timestamp_millis);
        Undecoded {
            partition: message.partition(),
            offset: message.offset(),
            // All our topics have broker time; a topic without any is refused when it is provisioned.
            appended_at: appended_at.unwrap_or(DateTime::UNIX_EPOCH),
            raw,
        }
    }

    fn copy(&mut self, bytes: &[u8]) -> Bytes {
        // The rest of a piece that it does not fit into would be lost.
        if bytes.len() > self.piece / 4 {
            return Bytes::copy_from_slice(bytes);
        }
        if self.room.capacity() < bytes.len() {
            self.room = BytesMut::with_capacity(self.piece);
        }
        self.room.extend_from_slice(bytes);
        self.room.split().freeze()
    }
}
