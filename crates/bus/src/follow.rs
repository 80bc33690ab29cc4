//! Following a topic in which the last word counts: all that it says now, then what is said.

use std::time::Duration;

use millrace_event_model::topics::TopicName;
use millrace_event_model::wire::Message;
use tokio_util::sync::CancellationToken;

use crate::{BatchLimits, Bus, BusError, Positions, Reader, Start};

/// While there is much to read a batch ends when it is full; otherwise soon, for somebody waits for the end.
const CATCHING_UP: BatchLimits =
    BatchLimits { max_records: 1_000, max_bytes: 1024 * 1024, max_wait: Duration::from_millis(50) };

/// Operators speak seldom. A word is heard this long after it was said, at the latest.
const LISTENING: BatchLimits = BatchLimits { max_wait: Duration::from_millis(500), ..CATCHING_UP };

/// Reads a compacted topic from its beginning and goes on as it grows. Nothing is kept here but positions:
/// a topic of a million words passes through in batches.
#[derive(Debug)]
pub struct Follower<M> {
    reader: Reader<M>,
    /// Where each partition ended when this began, as far as it has not been read to there.
    ahead: Positions,
}

impl<M: Message> Follower<M> {
    pub(crate) async fn new(bus: &Bus, topic: &TopicName<M>) -> Result<Self, BusError> {
        let watermarks = bus.watermarks(topic.as_str()).await?;
        let held = watermarks.into_iter().filter(|(_, (low, high))| low < high);
        let ahead = held.map(|(partition, (_, high))| (partition, high)).collect();
        Ok(Self { reader: bus.reader(topic, &Positions::new(), Start::Earliest)?, ahead })
    }

    /// Whether all that was there at the beginning has been read. Until then words may be old: a later one
    /// on the same subject may still come.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.ahead.is_empty()
    }

    /// The next words, in order; none if none came for a moment, or `stop` was cancelled. What cannot be
    /// decoded is left out: a newer version speaks to somebody else.
    ///
    /// # Errors
    /// Kafka does not answer, or the topic has become another one. After an error that is retryable, call
    /// again: nothing is lost. After another, begin anew, beside what is known so far, and replace that when
    /// the new one is current: on the way there old words come again.
    pub async fn next(&mut self, stop: &CancellationToken) -> Result<Vec<M>, BusError> {
        let limits = if self.is_current() { &LISTENING } else { &CATCHING_UP };
        let batch = self.reader.next_batch(limits, stop).await?;
        let reached = self.reader.positions();
        self.ahead.retain(|partition, end| reached.get(partition).is_none_or(|next| next < end));
        let read = batch.records.len();
        let words: Vec<M> = batch.records.into_iter().filter_map(|record| record.message.ok()).collect();
        let foreign = read - words.len();
        if foreign > 0 {
            tracing::warn!(words = foreign, "words that this version cannot read are left out");
        }
        Ok(words)
    }
}
