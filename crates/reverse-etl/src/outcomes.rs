//! Reading how published changes ended.

use std::time::Duration;

use millrace_bus::{BatchLimits, Bus, BusError, Positions, Reader, Start};
use millrace_event_model::{Origin, Outcome, PartitionKey, SyncId, topics};
use millrace_service::Stop;

use crate::diff::Ended;

/// One read; the topic carries the outcomes of all destinations.
const LIMITS: BatchLimits =
    BatchLimits { max_records: 2000, max_bytes: 4 * 1024 * 1024, max_wait: Duration::from_millis(200) };

/// The outcomes of one sync, from a position on.
pub(crate) struct Outcomes {
    bus: Bus,
    sync: SyncId,
    reader: Reader<Outcome>,
}

impl Outcomes {
    /// Reads on from `from`; in partitions without a position, from the end: what was there before the
    /// first run is not about it.
    pub(crate) async fn open(bus: &Bus, sync: &SyncId, from: &Positions) -> Result<Self, BusError> {
        let topic = topics::OUTCOMES.of(bus.workspace());
        let mut positions = Positions::new();
        for (partition, (low, high)) in bus.watermarks(topic.as_str()).await? {
            let wanted = from.get(&partition).copied().unwrap_or(high);
            let position = if (low..=high).contains(&wanted) { wanted } else { low };
            if position != wanted {
                // Harmless to the promise: what has no outcome is sent again. But someone may wonder.
                tracing::warn!(
                    %sync, partition, wanted, low, high,
                    "outcomes since the last run are gone; their changes are sent again"
                );
            }
            positions.insert(partition, position);
        }
        let reader = bus.reader(&topic, &positions, Start::Earliest)?;
        Ok(Self { bus: bus.clone(), sync: sync.clone(), reader })
    }

    /// Where reading goes on.
    pub(crate) fn positions(&self) -> Positions {
        self.reader.positions().clone()
    }

    /// What comes within a moment.
    pub(crate) async fn next(&mut self, stop: &Stop) -> Result<Vec<(PartitionKey, Ended)>, BusError> {
        let batch = self.reader.next_batch(&LIMITS, stop.token()).await?;
        let ours = batch.records.into_iter().filter_map(|record| self.of_this_sync(record.message.ok()?));
        Ok(ours.collect())
    }

    /// Whether all that was in the topic when this was called has been read.
    pub(crate) async fn is_at_end(&self) -> Result<bool, BusError> {
        let topic = topics::OUTCOMES.of(self.bus.workspace());
        let watermarks = self.bus.watermarks(topic.as_str()).await?;
        let positions = self.reader.positions();
        Ok(watermarks
            .iter()
            .all(|(partition, (_, high))| positions.get(partition).is_some_and(|at| at >= high)))
    }

    fn of_this_sync(&self, outcome: Outcome) -> Option<(PartitionKey, Ended)> {
        match outcome.origin {
            Origin::Change { sync, run, key, row_hash } if sync == self.sync => {
                Some((key, Ended { run, hash: row_hash, disposition: outcome.disposition }))
            }
            _ => None,
        }
    }
}
