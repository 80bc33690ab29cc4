//! A rebuild that nobody wants any more.
//!
//! First it is kept that it is over, then its tables and positions go: whoever dies in between leaves nothing that a
//! later call could go on with. Positions without the rows before them would be put in place of all rows.

use millrace_connector::Positions;
use millrace_event_model::ConnectionId;
use millrace_service::Stop;
use millrace_state::LeaseAttempt;

use super::{Held, Phase, Rebuild, RebuildRequest};
use crate::jobs::run::{KEPT, LEASE, forget};
use crate::keeper::KeptLease;
use crate::{Error, Service};

impl Service {
    /// Throws away what a rebuild that is not done has made. Says whether the tables are surely as they were: where
    /// they were being put in place they are that, or have the rows of the rebuild, each and whole.
    ///
    /// # Errors
    /// There is none; or what can go wrong with a connection.
    pub async fn discard_rebuild(self, connection: &ConnectionId) -> Result<bool, Error> {
        let request = RebuildRequest { connection: connection.clone(), accept_gap: false };
        let mut rebuild = Rebuild::open(self, &request).await?;
        let stop = Stop::new();
        let LeaseAttempt::Acquired(lease) = rebuild.job.acquire_in_time(&stop).await? else {
            return Err(rebuild.is_called_elsewhere());
        };
        let (id, clock) = (rebuild.id.clone(), rebuild.clock.clone());
        let keeper = KeptLease::start(lease, rebuild.lease_ttl, id, clock, None, &stop);
        let held = Held { by_this_call: stop, by_its_lease: keeper.stop() };
        let discarded = rebuild.discard(&held).await;
        keeper.release().await;
        let as_they_were = discarded?;
        forget(&rebuild.state, &LEASE).await?;
        Ok(as_they_were)
    }
}

impl Rebuild {
    async fn discard(&mut self, held: &Held) -> Result<bool, Error> {
        let Some(kept) = self.kept.latest().await? else {
            return Err(Error::Job(format!(
                "connection {} has no rebuild that is not done",
                self.options.id
            )));
        };
        self.number = kept.number;
        let (phase, from) = (kept.value.phase, kept.value.from);
        match phase {
            Phase::Loading => self.advance(Phase::Over, &from).await?,
            Phase::Swapping => self.end_the_swap(&from, &held.by_its_lease).await?,
            Phase::Swapped | Phase::Over => {}
        }
        self.remove(held).await?;
        forget(&self.state, &KEPT).await?;
        Ok(phase == Phase::Loading)
    }

    /// A swap that has begun reads the tables of the rebuild until it is whole.
    async fn end_the_swap(&mut self, from: &Positions, stop: &Stop) -> Result<(), Error> {
        let asking = self.ask(stop).await?;
        let ended = self.end_the_swap_alone(from, &asking.stop()).await;
        asking.release().await;
        ended
    }

    async fn end_the_swap_alone(&mut self, from: &Positions, stop: &Stop) -> Result<(), Error> {
        let Some(lease) = self.take_over(stop).await? else { return Err(self.is_called_elsewhere()) };
        let keeper = self.main.keep(lease, false, stop);
        let held = keeper.stop();
        let ended = match self.main.settle_past(&held).await {
            // Where it was stopped it may not have come to the swap.
            Ok(_) if held.is_requested() => Err(self.is_called_elsewhere()),
            // Still under the connection's fence: no swap can begin any more.
            Ok(_) => self.advance(Phase::Over, from).await,
            Err(error) => Err(error),
        };
        self.main.end(keeper).await;
        ended
    }
}
