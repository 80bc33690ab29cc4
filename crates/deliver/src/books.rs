//! What is stored of a destination, and in which order: the delivery guarantee.
//!
//! ```text
//! sent ──► answered ──► outcomes and dead letters acked ──► progress acked ──► group's offset
//!      (1)          (2)                                 (3)                (4)
//! ```
//!
//! A crash at (1) or (2) repeats the items in flight, under the same idempotency keys. A crash at (3)
//! repeats them and their outcomes, which count by offset and so count once. A crash at (4) repeats
//! nothing: nobody resumes from the group's offset. `a_crash_repeats_at_most_the_window` is the test.
//!
//! The consumer group divides partitions between processes and nothing more: where an owner goes on is
//! said by one record for each destination, topic and partition in the compacted topic `progress`.

use std::collections::BTreeMap;

use millrace_bus::{Bus, BusError, Publisher};
use millrace_event_model::topics::{DEAD_LETTERS, OUTCOMES, PROGRESS, TopicName};
use millrace_event_model::wire::Message;
use millrace_event_model::{DestinationId, Progress};
use millrace_service::crash_point;

use crate::DeliverError;
use crate::ledger::{Place, Statement};
use crate::progress::Position;

/// Messages that are published and acked together: even of the largest dead letters so many fit the
/// producer's queue, which the destinations share.
const AT_ONCE: usize = 100;

/// The books of one destination.
#[derive(Debug)]
pub(crate) struct Books {
    pub(crate) bus: Bus,
    pub(crate) publisher: Publisher,
    pub(crate) destination: DestinationId,
    /// The topics it reads; a [`Place`] says which by its number.
    pub(crate) topics: Vec<String>,
    /// The Kafka cluster that positions mean.
    pub(crate) cluster: String,
}

impl Books {
    /// The positions of a topic, where there are any, by partition.
    ///
    /// # Errors
    /// Kafka does not answer, or the positions are of another cluster.
    pub(crate) async fn load(&self, topic: usize) -> Result<BTreeMap<i32, Position>, DeliverError> {
        let name = self.topic(topic);
        let records = self.bus.read_all(&PROGRESS.of(self.bus.workspace())).await;
        let records =
            records.map_err(|source| DeliverError::Bus { destination: self.destination.clone(), source })?;
        let mut positions = BTreeMap::new();
        // In the order in which they were written: the last word counts. What cannot be read was written
        // by a newer version, for another destination of its kind; or it is a tombstone.
        for progress in records.into_iter().filter_map(|record| record.message.ok()) {
            if progress.destination != self.destination || progress.topic != name {
                continue;
            }
            if progress.cluster != self.cluster {
                return Err(DeliverError::OtherCluster {
                    destination: self.destination.clone(),
                    topic: name.to_owned(),
                    stored: progress.cluster,
                    found: self.cluster.clone(),
                });
            }
            let place = Place { topic, partition: progress.partition };
            positions.insert(place.partition, Position { place, low: progress.low, done: progress.done });
        }
        Ok(positions)
    }

    /// Stores what has ended, then the positions that cover it. Harmless to repeat, whole or in part.
    ///
    /// # Errors
    /// Not all was acked.
    pub(crate) async fn store(&self, statement: &Statement, positions: &[Position]) -> Result<(), BusError> {
        let workspace = self.bus.workspace();
        crash_point("deliver-before-outcomes");
        self.publish(&DEAD_LETTERS.of(workspace), &statement.dead_letters).await?;
        self.publish(&OUTCOMES.of(workspace), &statement.outcomes).await?;
        crash_point("deliver-before-progress");
        let records = positions.iter().map(|position| self.record(position)).collect::<Vec<_>>();
        self.publish(&PROGRESS.of(workspace), &records).await?;
        crash_point("deliver-after-progress");
        Ok(())
    }

    async fn publish<M: Message>(&self, topic: &TopicName<M>, messages: &[M]) -> Result<(), BusError> {
        for some in messages.chunks(AT_ONCE) {
            let _acked = self.publisher.publish(topic, some).await?;
        }
        Ok(())
    }

    fn record(&self, position: &Position) -> Progress {
        Progress {
            destination: self.destination.clone(),
            topic: self.topic(position.place.topic).to_owned(),
            partition: position.place.partition,
            cluster: self.cluster.clone(),
            low: position.low,
            done: position.done.clone(),
        }
    }

    fn topic(&self, number: usize) -> &str {
        self.topics.get(number).map_or("", String::as_str)
    }
}
