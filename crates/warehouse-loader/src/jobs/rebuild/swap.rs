//! The end of a rebuild: the connection stands back, and its tables get their rows.

use std::sync::Arc;
use std::time::Duration;

use millrace_service::Stop;
use millrace_state::{Lease, LeaseAttempt};
use tokio::time::Instant;

use super::plan::swap;
use super::{Kept, Phase, Rebuild, Swapped, progress};
use crate::connection::{ONCE_ATTEMPTS, RETRY_MAX, backoff, pause};
use crate::error::NextStep;
use crate::keeper::KeptLease;
use crate::runs::NextAttempt;
use crate::{Error, position};

/// How long the job waits for the connection to stand back: its longest load, and the life of a lease whose holder
/// died. Then it gives up, and the connection has not waited at all.
const TAKE_OVER_WAIT: Duration = Duration::from_secs(600);

/// How often it looks whether the connection has.
const TAKE_OVER_LOOK: Duration = Duration::from_secs(1);

impl Rebuild {
    /// Has the connection stand back, and swaps.
    pub(super) async fn swap(&mut self, kept: &Kept, stop: &Stop) -> Result<Option<Swapped>, Error> {
        let asking = self.ask(stop).await?;
        let swapped = self.swap_alone(kept, &asking.stop()).await;
        asking.release().await;
        swapped
    }

    /// Asks the connection to stand back, for as long as this is kept.
    pub(super) async fn ask(&self, stop: &Stop) -> Result<KeptLease, Error> {
        let began = Instant::now();
        let asked = loop {
            match self.main.stand_back().ask(self.lease_ttl, self.clock.now()).await? {
                LeaseAttempt::Acquired(lease) => break lease,
                // A process of this rebuild that died had asked, or another one asks.
                LeaseAttempt::Held { .. }
                    if began.elapsed() <= self.lease_ttl + TAKE_OVER_LOOK && !stop.is_requested() =>
                {
                    pause(TAKE_OVER_LOOK, stop).await;
                }
                LeaseAttempt::Held { holder, .. } => return Err(self.main.is_held_by(holder)),
            }
        };
        let (id, clock) = (self.options.id.clone(), Arc::clone(&self.clock));
        Ok(KeptLease::start(asked, self.lease_ttl, id, clock, None, stop))
    }

    async fn swap_alone(&mut self, kept: &Kept, stop: &Stop) -> Result<Option<Swapped>, Error> {
        let Some(lease) = self.take_over(stop).await? else { return Ok(None) };
        let keeper = self.main.keep(lease, false, stop);
        let swapped = self.swap_with_retries(kept, &keeper.stop()).await;
        self.main.end(keeper).await;
        swapped
    }

    /// The connection's own lease; none where it was stopped.
    pub(super) async fn take_over(&self, stop: &Stop) -> Result<Option<Lease>, Error> {
        let began = Instant::now();
        while !stop.is_requested() {
            match self.main.acquire().await? {
                LeaseAttempt::Acquired(lease) => return Ok(Some(lease)),
                LeaseAttempt::Held { holder, .. } if began.elapsed() >= TAKE_OVER_WAIT => {
                    return Err(self.main.is_held_by(holder));
                }
                LeaseAttempt::Held { .. } => pause(TAKE_OVER_LOOK, stop).await,
            }
        }
        Ok(None)
    }

    async fn swap_with_retries(&mut self, kept: &Kept, stop: &Stop) -> Result<Option<Swapped>, Error> {
        let mut backoff = backoff();
        for _ in 1..ONCE_ATTEMPTS {
            let error = match self.swap_now(kept, stop).await {
                Err(error) => error,
                swapped => return swapped,
            };
            let NextStep::Retry { after } = error.next_step() else { return Err(error) };
            self.job.note(&error, NextAttempt::Retry);
            pause(after.or_else(|| backoff.next()).unwrap_or(RETRY_MAX), stop).await;
        }
        self.swap_now(kept, stop).await
    }

    /// Under the connection's lease, so nothing in here is tried again for long.
    async fn swap_now(&mut self, kept: &Kept, stop: &Stop) -> Result<Option<Swapped>, Error> {
        let until = self.main.settle_past(stop).await?;
        let at = match self.job.try_up_to(until.clone(), stop).await {
            Err(Error::Gap(gap)) => return Err(self.gap(&gap)),
            at => at?,
        };
        self.progress = progress(&kept.from, &at, &until);
        if until.iter().any(|(partition, end)| at.get(partition).is_some_and(|next| next > end)) {
            return Err(Error::JobState(format!(
                "connection {} is not as far any more as it was when the rebuild read that: discard the rebuild and \
                 begin it again",
                self.options.id
            )));
        }
        if !position::reached(&at, &until) {
            return Ok(None);
        }
        self.refuse_other_jobs().await?;
        if self.tables_begin().await? != kept.from {
            return Err(Error::JobState(format!(
                "a backfill of connection {} has loaded what the rebuild has not: discard the rebuild and begin it \
                 again",
                self.options.id
            )));
        }
        let anew = self.warehouse().describe(&self.schema).await?;
        let present = self.warehouse().describe(&self.options.schema).await?;
        let (from, to) = ((self.schema.as_str(), &anew), (self.options.schema.as_str(), &present));
        let planned = swap(from, to, self.warehouse().dialect())?;
        let replaced = planned.replacements.iter().map(|one| one.to.table.clone()).collect();
        self.advance(Phase::Swapping, &kept.from).await?;
        self.main.replace(&planned.changes, planned.replacements).await?;
        self.advance(Phase::Swapped, &kept.from).await?;
        tracing::info!(connection = %self.options.id, "the tables have the rows of the rebuild");
        Ok(Some(Swapped { earlier: false, replaced, left: planned.left }))
    }
}
