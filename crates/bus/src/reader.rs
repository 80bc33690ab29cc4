//! Reading a topic by hand: all partitions, positions kept elsewhere.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use millrace_event_model::topics::{Cleanup, TopicName};
use millrace_event_model::wire::Message;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Message as _, Offset, TopicPartitionList};
use tokio_util::sync::CancellationToken;

use crate::batch::{Copies, Filling};
use crate::client::Watermarks;
use crate::config::{self, Quiet};
use crate::error::kind_of;
use crate::{Batch, BatchLimits, Bus, BusError, ErrorKind, Positions, Range, Start};

/// After so many messages that were there without waiting, other tasks get their turn: copying and decoding
/// them takes about a millisecond.
const YIELD_EVERY: usize = 256;

/// An exact read that gets nothing for this long gives up: the broker is away.
const EXACT_READ_PATIENCE: Duration = Duration::from_secs(30);

/// Reads all partitions of a topic, in order per partition, from positions that its owner keeps.
///
/// No offset is ever skipped: what retention took before it was read is [`BusError::OffsetGone`], and
/// reading goes on only after [`Self::seek`] to an offset that is there.
pub struct Reader<M> {
    bus: Bus,
    topic: TopicName<M>,
    start: Start,
    consumer: StreamConsumer<Quiet>,
    /// Where reading goes on; complete when `assigned`.
    next: Positions,
    /// The consumer stands at `next`. False before the first batch, after an error, and while a batch is
    /// being read: a batch whose future was dropped is read again.
    assigned: bool,
    /// How many messages the last batch had: the next one mostly has as many.
    last_len: usize,
}

impl<M> std::fmt::Debug for Reader<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("topic", &self.topic.as_str())
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

impl<M: Message> Reader<M> {
    pub(crate) fn new(
        bus: Bus,
        topic: TopicName<M>,
        from: Positions,
        start: Start,
    ) -> Result<Self, BusError> {
        let config = config::reader(bus.settings(), &group_name(&topic));
        let consumer = config.create_with_context(Quiet).map_err(BusError::settings)?;
        Ok(Self { bus, topic, start, consumer, next: from, assigned: false, last_len: 0 })
    }

    /// The topic that is read.
    #[must_use]
    pub fn topic(&self) -> &TopicName<M> {
        &self.topic
    }

    /// Where reading goes on. Before the first batch it is what the reader was made with.
    #[must_use]
    pub fn positions(&self) -> &Positions {
        &self.next
    }

    /// The next messages: as many as the limits allow, or those that came within `max_wait`, or those
    /// that had been read when `stop` was cancelled. An empty batch is no error.
    ///
    /// # Errors
    /// [`BusError::OffsetGone`] and [`BusError::OffsetAhead`] come again until [`Self::seek`]. After an error
    /// that is retryable, call again: nothing is lost.
    pub async fn next_batch(
        &mut self,
        limits: &BatchLimits,
        stop: &CancellationToken,
    ) -> Result<Batch<M>, BusError> {
        let deadline = tokio::time::Instant::now() + limits.max_wait;
        if !self.assigned {
            self.assign().await?;
        }
        self.assigned = false;
        let mut filling = Filling::with_room(self.last_len);
        let mut next = self.next.clone();
        let filled = self.fill(&mut filling, &mut next, limits, deadline, stop).await;
        match filled {
            Ok(()) => self.assigned = true,
            // What was read before the error is whole; the error comes again with the next call.
            Err(_) if !filling.is_empty() => {}
            Err(Interrupted::Transient(error)) => {
                // The client goes on by itself and has lost nothing.
                self.assigned = true;
                return Err(error);
            }
            Err(Interrupted::Lost(error)) => return Err(error),
        }
        self.next = next;
        self.last_len = filling.len();
        Ok(filling.finish())
    }

    /// Goes on at another offset of a partition: an operator has accepted a gap, or wants a replay.
    ///
    /// # Errors
    /// The offset is not there, or Kafka does not answer; the position is then as it was.
    pub async fn seek(&mut self, partition: i32, offset: i64) -> Result<(), BusError> {
        let watermarks = self.bus.watermarks(self.topic.as_str()).await?;
        check_position(self.topic.as_str(), partition, offset, &watermarks)?;
        self.next.insert(partition, offset);
        self.assigned = false;
        Ok(())
    }

    /// Reads exactly these ranges again, beside the reader's own positions, which stay as they are. For the
    /// redo of a load after a crash.
    ///
    /// # Errors
    /// [`BusError::OffsetGone`] if retention has taken the beginning of one.
    pub async fn read_ranges(&self, ranges: &[Range]) -> Result<Batch<M>, BusError> {
        read_exactly(&self.bus, &self.topic, ranges).await
    }

    async fn assign(&mut self) -> Result<(), BusError> {
        let topic = self.topic.as_str();
        let watermarks = self.bus.watermarks(topic).await?;
        let by_time = match self.start {
            Start::At(at) => self.bus.offsets_at(topic, at).await?,
            Start::Earliest | Start::Latest => Positions::new(),
        };
        let next = resolve(topic, &self.next, self.start, &watermarks, &by_time)?;
        assign(&self.consumer, topic, &next)?;
        self.next = next;
        self.assigned = true;
        Ok(())
    }

    async fn fill(
        &self,
        filling: &mut Filling<M>,
        next: &mut Positions,
        limits: &BatchLimits,
        deadline: tokio::time::Instant,
        stop: &CancellationToken,
    ) -> Result<(), Interrupted> {
        let mut messages = self.consumer.stream();
        let mut copies = Copies::of_a_batch();
        while !filling.is_full(limits) && !stop.is_cancelled() {
            let ready = messages.next().now_or_never();
            let received = match ready {
                Some(received) => received,
                None => tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    received = messages.next() => received,
                    () = tokio::time::sleep_until(deadline) => break,
                },
            };
            // The stream of a consumer does not end.
            let Some(received) = received else { break };
            let message = match received {
                Ok(message) => message,
                Err(error) => {
                    self.judge(error).await?;
                    continue;
                }
            };
            let expected = next.get(&message.partition()).copied().unwrap_or(0);
            // Left over in the client's queue from before a seek.
            if message.offset() < expected {
                continue;
            }
            if message.offset() > expected && matches!(self.topic.spec().cleanup, Cleanup::Delete { .. }) {
                self.check_gap(message.partition(), expected).await?;
            }
            next.insert(message.partition(), message.offset() + 1);
            filling.push(copies.receive(&message), expected);
            if filling.len().is_multiple_of(YIELD_EVERY) {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// Some brokers answer a fetch below the low watermark with the first message that is there. Between the
    /// offsets of a topic that is not compacted there are no gaps, so one is looked into.
    async fn check_gap(&self, partition: i32, expected: i64) -> Result<(), Interrupted> {
        let topic = self.topic.as_str();
        let watermarks = self.bus.watermarks(topic).await.map_err(Interrupted::Lost)?;
        check_position(topic, partition, expected, &watermarks).map_err(Interrupted::Lost)
    }

    /// Passes over what the client mends by itself.
    async fn judge(&self, error: KafkaError) -> Result<(), Interrupted> {
        let topic = self.topic.as_str();
        let failed = |source| BusError::Kafka { doing: format!("read topic {topic}"), source };
        match error.rdkafka_error_code() {
            // The error does not say which partition: ask.
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                let watermarks = self.bus.watermarks(topic).await.map_err(Interrupted::Lost)?;
                for (partition, offset) in &self.next {
                    check_position(topic, *partition, *offset, &watermarks).map_err(Interrupted::Lost)?;
                }
                Err(Interrupted::Lost(failed(error)))
            }
            Some(RDKafkaErrorCode::AllBrokersDown) => Err(Interrupted::Transient(failed(error))),
            _ if kind_of(&error) == ErrorKind::Retry => {
                tracing::debug!(topic, %error, "reading goes on after an error");
                Ok(())
            }
            _ => Err(Interrupted::Lost(failed(error))),
        }
    }
}

/// Why a batch ended before its limits.
enum Interrupted {
    /// The consumer still stands where it stood.
    Transient(BusError),
    /// It has to be put there again.
    Lost(BusError),
}

/// The client wants a group's name even where none is joined; access by prefix covers this one.
fn group_name<M>(topic: &TopicName<M>) -> String {
    format!("{}.reader", topic.as_str())
}

fn assign(consumer: &StreamConsumer<Quiet>, topic: &str, positions: &Positions) -> Result<(), BusError> {
    let mut assignment = TopicPartitionList::new();
    let doing = || format!("assign topic {topic}");
    for (partition, offset) in positions {
        assignment
            .add_partition_offset(topic, *partition, Offset::Offset(*offset))
            .map_err(BusError::kafka(doing()))?;
    }
    consumer.assign(&assignment).map_err(BusError::kafka(doing()))
}

/// Where to read each partition that the topic has.
fn resolve(
    topic: &str,
    from: &Positions,
    start: Start,
    watermarks: &Watermarks,
    by_time: &Positions,
) -> Result<Positions, BusError> {
    for (partition, offset) in from {
        check_position(topic, *partition, *offset, watermarks)?;
    }
    let resolved = watermarks.iter().map(|(partition, (low, high))| {
        let first = match start {
            Start::Earliest => *low,
            Start::Latest => *high,
            Start::At(_) => by_time.get(partition).copied().unwrap_or(*high),
        };
        (*partition, from.get(partition).copied().unwrap_or(first))
    });
    Ok(resolved.collect())
}

pub(crate) fn check_position(
    topic: &str,
    partition: i32,
    wanted: i64,
    watermarks: &Watermarks,
) -> Result<(), BusError> {
    // A position in a partition that is not there: the topic has become smaller, so it is another one.
    let (low, high) = watermarks.get(&partition).copied().unwrap_or((0, 0));
    if wanted < low {
        return Err(BusError::OffsetGone { topic: topic.to_owned(), partition, wanted, low });
    }
    if wanted > high {
        return Err(BusError::OffsetAhead { topic: topic.to_owned(), partition, wanted, high });
    }
    Ok(())
}

/// Reads the ranges, all of them and nothing else, with a consumer of its own.
pub(crate) async fn read_exactly<M: Message>(
    bus: &Bus,
    topic: &TopicName<M>,
    ranges: &[Range],
) -> Result<Batch<M>, BusError> {
    let mut filling = Filling::default();
    let name = topic.as_str();
    let mut open: BTreeMap<i32, Range> = ranges
        .iter()
        .filter(|range| range.start < range.end)
        .map(|range| (range.partition, *range))
        .collect();
    if open.is_empty() {
        return Ok(filling.finish());
    }
    let watermarks = bus.watermarks(name).await?;
    for range in open.values() {
        check_position(name, range.partition, range.start, &watermarks)?;
        check_position(name, range.partition, range.end, &watermarks)?;
    }
    let consumer: StreamConsumer<Quiet> = config::exact_reader(bus.settings(), &group_name(topic))
        .create_with_context(Quiet)
        .map_err(BusError::settings)?;
    assign(&consumer, name, &open.values().map(|range| (range.partition, range.start)).collect())?;
    let mut messages = consumer.stream();
    let mut copies = Copies::of_a_batch();
    while !open.is_empty() {
        let received = tokio::time::timeout(EXACT_READ_PATIENCE, messages.next()).await;
        let message = match received {
            Ok(Some(Ok(message))) => message,
            // All that is there has been read, and the range ends there at the latest: the offsets between
            // were compacted away.
            Ok(Some(Err(KafkaError::PartitionEOF(partition)))) => {
                open.remove(&partition);
                continue;
            }
            Ok(Some(Err(error))) if kind_of(&error) == ErrorKind::Retry && !is_gone(&error) => continue,
            Ok(Some(Err(source))) => {
                return Err(BusError::Kafka { doing: format!("read ranges of topic {name}"), source });
            }
            Ok(None) | Err(_) => {
                let source = KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut);
                return Err(BusError::Kafka { doing: format!("read ranges of topic {name}"), source });
            }
        };
        let Some(range) = open.get(&message.partition()).copied() else { continue };
        if message.offset() < range.end {
            filling.push(copies.receive(&message), range.start);
            if filling.len().is_multiple_of(YIELD_EVERY) {
                tokio::task::yield_now().await;
            }
        }
        if message.offset() + 1 >= range.end {
            open.remove(&range.partition);
        }
    }
    Ok(filling.finish())
}

fn is_gone(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange)
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;

    fn watermarks() -> Watermarks {
        [(0, (10, 20)), (1, (0, 0))].into()
    }

    #[test]
    fn a_partition_without_a_position_begins_where_the_start_says() {
        let from = Positions::from([(0, 12)]);
        let by_time = Positions::from([(1, 0)]);
        for (start, second) in [(Start::Earliest, 0), (Start::Latest, 0), (Start::At(chrono::Utc::now()), 0)]
        {
            let resolved = resolve("t", &from, start, &watermarks(), &by_time).unwrap();
            assert_eq!(resolved, Positions::from([(0, 12), (1, second)]));
        }
        let resolve_first =
            |start| resolve("t", &Positions::new(), start, &watermarks(), &by_time).unwrap()[&0];
        assert_eq!(resolve_first(Start::Earliest), 10);
        assert_eq!(resolve_first(Start::Latest), 20);
    }

    #[test]
    fn a_position_outside_of_what_is_there_is_an_error_never_a_skip() {
        let check = |wanted| check_position("t", 0, wanted, &watermarks());
        assert!(check(10).is_ok() && check(20).is_ok());
        assert!(matches!(check(9), Err(BusError::OffsetGone { low: 10, wanted: 9, .. })));
        assert!(matches!(check(21), Err(BusError::OffsetAhead { high: 20, .. })));
        assert!(matches!(check_position("t", 7, 1, &watermarks()), Err(BusError::OffsetAhead { .. })));
    }
}
