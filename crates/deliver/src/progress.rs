//! The resume state in the compacted topic `progress`.
//!
//! The consumer group divides partitions between processes and nothing more: where an owner goes on is
//! said by one record for each destination, topic and partition. It is written after the outcomes that it
//! covers are acked, so a crash in between repeats items and their outcomes, and loses neither.

use std::collections::BTreeMap;

use millrace_bus::{Bus, BusError};
use millrace_event_model::topics::PROGRESS;
use millrace_event_model::{DestinationId, Progress};

use crate::DeliverError;
use crate::ledger::Place;

/// How far a partition has got: everything below `low` is done, and so are the ranges of `done` above it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) place: Place,
    pub(crate) low: i64,
    pub(crate) done: Vec<(i64, i64)>,
}

/// The positions of a topic, where there are any, by partition.
pub(crate) async fn load(
    bus: &Bus,
    destination: &DestinationId,
    (topic, name): (usize, &str),
    cluster: &str,
) -> Result<BTreeMap<i32, Position>, DeliverError> {
    let records = bus.read_all(&PROGRESS.of(bus.workspace())).await;
    let records = records.map_err(|source| failed(destination, source))?;
    let mut positions = BTreeMap::new();
    // In the order in which they were written: the last word counts. What cannot be read was written by a
    // newer version for itself; a tombstone among them.
    for progress in records.into_iter().filter_map(|record| record.message.ok()) {
        if progress.destination != *destination || progress.topic != name {
            continue;
        }
        if progress.cluster != cluster {
            return Err(DeliverError::OtherCluster {
                destination: destination.clone(),
                topic: name.to_owned(),
                stored: progress.cluster,
                found: cluster.to_owned(),
            });
        }
        let place = Place { topic, partition: progress.partition };
        positions.insert(progress.partition, Position { place, low: progress.low, done: progress.done });
    }
    Ok(positions)
}

/// The record of a position.
pub(crate) fn record(
    destination: &DestinationId,
    topic: &str,
    cluster: &str,
    position: Position,
) -> Progress {
    Progress {
        destination: destination.clone(),
        topic: topic.to_owned(),
        partition: position.place.partition,
        cluster: cluster.to_owned(),
        low: position.low,
        done: position.done,
    }
}

impl Position {
    /// Moves up to `low`, which is where the topic now begins; returns what was lost by that.
    pub(crate) fn advance(&mut self, low: i64) -> Vec<(i64, i64)> {
        let mut lost = Vec::new();
        let mut at = self.low;
        for (start, end) in &self.done {
            if at < (*start).min(low) {
                lost.push((at, (*start).min(low)));
            }
            at = at.max(*end);
        }
        if at < low {
            lost.push((at, low));
        }
        self.low = low.max(self.low);
        lost
    }
}

pub(crate) fn failed(destination: &DestinationId, source: BusError) -> DeliverError {
    DeliverError::Bus { destination: destination.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_already_is_not_lost_to_retention() {
        let place = Place { topic: 0, partition: 0 };
        let lost = |low, done: &[(i64, i64)], to| {
            let mut position = Position { place, low, done: done.to_vec() };
            let lost = position.advance(to);
            assert_eq!(position.low, to.max(low));
            lost
        };
        assert_eq!(lost(5, &[], 9), [(5, 9)]);
        assert_eq!(lost(5, &[(6, 8), (20, 30)], 10), [(5, 6), (8, 10)]);
        assert_eq!(lost(5, &[(6, 12)], 10), [(5, 6)]);
        assert_eq!(lost(5, &[], 5), []);
    }
}
