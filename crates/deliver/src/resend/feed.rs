//! What is to be sent again, in batches that fit into memory.
//!
//! Events come by ranges of offsets, as much at a time as the window has room for. Letters come as their topic
//! holds them, a batch at a time: within it in the order of their events, as the window wants them, and the next
//! one only when all of it has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use millrace_bus::{BatchLimits, Bus, BusError, Positions, Range, Reader, Start};
use millrace_connector::Payload;
use millrace_event_model::topics::{DEAD_LETTERS, EVENTS};
use millrace_event_model::wire::{Message as _, WireRecord};
use millrace_event_model::{DeadLetter, DestinationId, Event, Lane};
use millrace_service::Stop;

use super::LetterRoutes;
use crate::DeliverError;
use crate::admit::Read;
use crate::ledger::Place;

/// Letters in memory at a time, and less than one letter more. A batch waits for its slowest item, so it is read
/// until it is full: a small one would cost time. `max_wait` is for a part of it.
const LETTERS: BatchLimits =
    BatchLimits { max_records: 10_000, max_bytes: 32 * 1024 * 1024, max_wait: Duration::from_millis(100) };

/// After so many reads in a row without a letter, half a minute, Kafka is taken to be away.
const EMPTY_READS: u32 = 300;

/// A record, and when Kafka had it, for events.
pub(super) struct Fed {
    pub(super) topic: usize,
    pub(super) read: Read,
    pub(super) at: Option<DateTime<Utc>>,
}

/// What is still to be read.
pub(super) enum Feed {
    Ranges(Ranges),
    Letters(Box<Letters>),
}

impl Feed {
    /// Begins the next batch, when all of the last one has ended: the first offset of each of its partitions.
    /// `None`: there is none.
    pub(super) async fn begin(&mut self, stop: &Stop) -> Result<Option<BTreeMap<Place, i64>>, DeliverError> {
        match self {
            Self::Ranges(ranges) => Ok(ranges.begin()),
            Self::Letters(letters) => letters.begin(stop).await,
        }
    }

    /// Whether all of the batch has been taken, or none has begun.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Ranges(ranges) => !ranges.begun || ranges.lanes.is_empty(),
            Self::Letters(letters) => letters.batch.is_empty(),
        }
    }

    /// Whether all there is has been taken.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Ranges(ranges) => ranges.lanes.is_empty(),
            Self::Letters(letters) => {
                letters.batch.is_empty() && letters.wanted.values().all(BTreeSet::is_empty)
            }
        }
    }

    /// At most `room` more of the batch.
    pub(super) async fn next(&mut self, room: usize) -> Result<Vec<Fed>, BusError> {
        match self {
            Self::Ranges(ranges) => ranges.next(room).await,
            Self::Letters(letters) => Ok(letters.next(room)),
        }
    }

    /// Letters that were passed over: they cannot be sent.
    pub(super) fn impossible(&self) -> u64 {
        match self {
            Self::Ranges(_) => 0,
            Self::Letters(letters) => letters.impossible,
        }
    }
}

/// All of them are one batch: no more is in memory than what was taken.
pub(super) struct Ranges {
    begun: bool,
    /// By the number of the topic; without the ranges that are read.
    lanes: Vec<(usize, Reader<Event>, Vec<Range>)>,
}

impl Ranges {
    pub(super) fn new(bus: &Bus, lanes: Vec<(usize, Lane, Vec<Range>)>) -> Result<Self, BusError> {
        let mut open = Vec::new();
        for (number, lane, mut ranges) in lanes {
            ranges.retain(|range| range.start < range.end);
            if ranges.is_empty() {
                continue;
            }
            let name = EVENTS.lane(bus.workspace(), &lane);
            open.push((number, bus.reader(&name, &Positions::new(), Start::Latest)?, ranges));
        }
        Ok(Self { begun: false, lanes: open })
    }

    fn begin(&mut self) -> Option<BTreeMap<Place, i64>> {
        if std::mem::replace(&mut self.begun, true) {
            return None;
        }
        let begins = self.lanes.iter().flat_map(|(topic, _, ranges)| {
            let place = |range: &Range| Place { topic: *topic, partition: range.partition };
            ranges.iter().map(move |range| (place(range), range.start))
        });
        Some(begins.collect())
    }

    async fn next(&mut self, room: usize) -> Result<Vec<Fed>, BusError> {
        let Some((topic, reader, ranges)) = self.lanes.first_mut() else { return Ok(Vec::new()) };
        let each = i64::try_from(room / ranges.len().max(1)).unwrap_or(i64::MAX).max(1);
        let mut now = ranges.clone();
        // No more partitions than there is room.
        now.truncate(room);
        for range in &mut now {
            range.end = range.end.min(range.start.saturating_add(each));
        }
        let batch = reader.read_ranges(&now).await?;
        for (range, read) in ranges.iter_mut().zip(&now) {
            range.start = read.end;
        }
        ranges.retain(|range| range.start < range.end);
        let (topic, is_read) = (*topic, ranges.is_empty());
        if is_read {
            self.lanes.remove(0);
        }
        let fed = |record: millrace_bus::Received<Event>| Fed {
            topic,
            at: Some(record.appended_at),
            read: Read {
                partition: record.partition,
                offset: record.offset,
                raw: record.raw,
                message: record.message.map(Payload::Event),
            },
        };
        Ok(batch.records.into_iter().map(fed).collect())
    }
}

/// See the module's text.
pub(super) struct Letters {
    bus: Bus,
    destination: DestinationId,
    routes: LetterRoutes,
    /// Of the topics that the destination reads, by number.
    topics: Vec<String>,
    /// None before the first batch.
    reader: Option<Reader<DeadLetter>>,
    /// By partition of their topic: those that have not been read.
    wanted: BTreeMap<i32, BTreeSet<i64>>,
    /// In falling order: the next is the last.
    batch: Vec<(usize, Read)>,
    /// Of the batch.
    bytes: usize,
    impossible: u64,
}

impl Letters {
    pub(super) fn new(
        bus: &Bus,
        destination: DestinationId,
        routes: LetterRoutes,
        topics: Vec<String>,
        wanted: BTreeMap<i32, BTreeSet<i64>>,
    ) -> Self {
        let (bus, batch) = (bus.clone(), Vec::new());
        Self { bus, destination, routes, topics, reader: None, wanted, batch, bytes: 0, impossible: 0 }
    }

    async fn begin(&mut self, stop: &Stop) -> Result<Option<BTreeMap<Place, i64>>, DeliverError> {
        self.batch.clear();
        self.bytes = 0;
        let mut empty = 0;
        loop {
            self.wanted.retain(|_, offsets| !offsets.is_empty());
            let is_full = self.batch.len() >= LETTERS.max_records || self.bytes >= LETTERS.max_bytes;
            if is_full || self.wanted.is_empty() || stop.is_requested() {
                break;
            }
            let read = self.read(stop).await;
            let read =
                read.map_err(|source| DeliverError::Bus { destination: self.destination.clone(), source })?;
            empty = if read { 0 } else { empty + 1 };
            if empty == EMPTY_READS {
                return Err(DeliverError::Silent { destination: self.destination.clone() });
            }
        }
        if self.batch.is_empty() {
            return Ok(None);
        }
        self.batch.sort_by_key(|(topic, read)| std::cmp::Reverse((*topic, read.partition, read.offset)));
        let begin =
            |(topic, read): &(usize, Read)| (Place { topic: *topic, partition: read.partition }, read.offset);
        // In falling order, so that the first of each partition is the one that stays.
        Ok(Some(self.batch.iter().map(begin).collect()))
    }

    /// Reads on; whether anything came.
    async fn read(&mut self, stop: &Stop) -> Result<bool, BusError> {
        let topic = DEAD_LETTERS.of(self.bus.workspace());
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => {
                let watermarks = self.bus.watermarks(topic.as_str()).await?;
                let from = watermarks.iter().map(|(partition, (_, high))| {
                    let first = self.wanted.get(partition).and_then(|offsets| offsets.first());
                    (*partition, first.copied().unwrap_or(*high))
                });
                none.insert(self.bus.reader(&topic, &from.collect(), Start::Latest)?)
            }
        };
        let limits = BatchLimits {
            max_records: LETTERS.max_records.saturating_sub(self.batch.len()),
            max_bytes: LETTERS.max_bytes.saturating_sub(self.bytes),
            ..LETTERS
        };
        let batch = match reader.next_batch(&limits, stop.token()).await {
            Ok(batch) => batch,
            // Retention was faster. Those that it took are passed over like others that are not there.
            Err(BusError::OffsetGone { partition, low, .. }) => {
                reader.seek(partition, low).await?;
                self.impossible += passed(&mut self.wanted, partition, low).len() as u64;
                return Ok(true);
            }
            Err(error) => return Err(error),
        };
        let mut now = BTreeMap::new();
        for (partition, next) in batch.next_positions() {
            now.insert(partition, passed(&mut self.wanted, partition, next));
        }
        let any = !batch.is_empty();
        for received in batch.records {
            let asked_for = now.get_mut(&received.partition);
            if !asked_for.is_some_and(|offsets| offsets.remove(&received.offset)) {
                continue;
            }
            let bytes = received.bytes();
            match received.message.ok().and_then(|letter| self.possible(letter)) {
                Some(possible) => {
                    self.batch.push(possible);
                    self.bytes += bytes;
                }
                None => self.impossible += 1,
            }
        }
        // Those that are not there any more.
        self.impossible += now.values().map(|left| left.len() as u64).sum::<u64>();
        Ok(any)
    }

    /// The record of a letter that can be sent, with the number of its topic.
    fn possible(&self, letter: DeadLetter) -> Option<(usize, Read)> {
        let number = self.topics.iter().position(|name| *name == letter.topic)?;
        let original = copied(&letter.original);
        let message = Event::decode(&original);
        let source = message.as_ref().ok().map(|event| &event.source);
        if original.value.is_none() || !self.routes.lead(&letter.topic, source) {
            return None;
        }
        let (partition, offset) = (letter.partition, letter.offset);
        Some((number, Read { partition, offset, raw: original, message: message.map(Payload::Event) }))
    }

    fn next(&mut self, room: usize) -> Vec<Fed> {
        let some = self.batch.split_off(self.batch.len().saturating_sub(room));
        some.into_iter().rev().map(|(topic, read)| Fed { topic, read, at: None }).collect()
    }
}

/// In memory of its own: what was read shares it with others, which one that stays would keep too.
fn copied(record: &WireRecord) -> WireRecord {
    let copy = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
    WireRecord {
        key: record.key.as_ref().map(copy),
        headers: record.headers.iter().map(|(name, value)| (name.clone(), copy(value))).collect(),
        value: record.value.as_ref().map(copy),
    }
}

/// Takes out those of a partition below `next`.
fn passed(wanted: &mut BTreeMap<i32, BTreeSet<i64>>, partition: i32, next: i64) -> BTreeSet<i64> {
    let Some(offsets) = wanted.get_mut(&partition) else { return BTreeSet::new() };
    let after = offsets.split_off(&next);
    std::mem::replace(offsets, after)
}
