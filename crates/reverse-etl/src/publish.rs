//! Publishing a run's changes, with a bound on how many are under way.

use std::time::Duration;

use millrace_bus::Publisher;
use millrace_event_model::topics::TopicName;
use millrace_event_model::{Change, DestinationId, SyncId};
use millrace_service::{SharedClock, Stop};

use crate::Error;
use crate::outcomes::Outcomes;
use crate::spill::{PlanReader, Planned};

/// Changes in one call of the publisher: each call waits for its acks.
const BATCH: usize = 1000;

/// What all changes of a run share, and how they are published.
pub(crate) struct Publication {
    pub(crate) sync: SyncId,
    pub(crate) run: u64,
    pub(crate) destination: DestinationId,
    pub(crate) topic: TopicName<Change>,
    pub(crate) publisher: Publisher,
    pub(crate) clock: SharedClock,
    pub(crate) max_unsettled: u64,
    /// How long it may take until outcomes make room.
    pub(crate) patience: Duration,
}

impl Publication {
    /// Publishes the plan, and returns when all of it is acked.
    ///
    /// `outcomes` is read only to count those of this run: what they say is merged by the next run. An
    /// outcome that is stated twice counts twice, so the bound is exact but for those.
    pub(crate) async fn publish(
        &self,
        mut plan: PlanReader,
        mut outcomes: Outcomes,
        stop: &Stop,
    ) -> Result<(), Error> {
        let mut unsettled = 0;
        loop {
            let (planned, rest) = tokio::task::spawn_blocking(move || (plan.next(BATCH), plan)).await?;
            plan = rest;
            let changes: Vec<Change> = planned?.into_iter().map(|planned| self.change(planned)).collect();
            if changes.is_empty() {
                return Ok(());
            }
            unsettled += changes.len() as u64;
            self.wait_for_room(&mut unsettled, &mut outcomes, stop).await?;
            if stop.is_requested() {
                return Err(Error::Stopped);
            }
            let acked = self.publisher.publish(&self.topic, &changes).await?;
            debug_assert_eq!(acked.count(), changes.len());
        }
    }

    async fn wait_for_room(
        &self,
        unsettled: &mut u64,
        outcomes: &mut Outcomes,
        stop: &Stop,
    ) -> Result<(), Error> {
        // A bound below one batch would never be reached.
        let bound = self.max_unsettled.max(BATCH as u64);
        let mut since = self.clock.now();
        while *unsettled > bound && !stop.is_requested() {
            let ended = outcomes.next(stop).await?;
            let ours = ended.iter().filter(|(_, ended)| ended.run == self.run).count() as u64;
            *unsettled = unsettled.saturating_sub(ours);
            let now = self.clock.now();
            if ours > 0 {
                since = now;
            }
            if (now - since).to_std().unwrap_or_default() > self.patience {
                return Err(Error::Unsettled { unsettled: *unsettled, waited: self.patience });
            }
        }
        Ok(())
    }

    fn change(&self, planned: Planned) -> Change {
        Change {
            sync: self.sync.clone(),
            run: self.run,
            destination: self.destination.clone(),
            op: planned.op,
            key: planned.key,
            row_hash: planned.hash,
            published_at: self.clock.now(),
            body: planned.body,
        }
    }
}
