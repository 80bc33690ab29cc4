//! Who may act now: a generation with a holder and an expiry.
//!
//! A lease cannot stop a process that sleeps past its expiry and then goes on. The epoch can: it grows
//! with each acquisition, and whatever the lease protects keeps the highest epoch that it has seen and
//! refuses lower ones. So the lease spares two processes from working against each other, and the epoch
//! makes it safe when they do.

mod decide;

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{Generations, StateError, Store};
use decide::{Decision, decide};

/// Old generations that are kept: a listing that runs while the holder renews this often may miss all of
/// them, and no listing takes that long.
const KEPT_GENERATIONS: u64 = 16;

/// A lease that this process holds until it expires. Renew it at a third of its time to live.
///
/// Dropping it keeps it until it expires; [`Lease::release`] gives it back at once.
#[derive(Debug)]
pub struct Lease {
    generations: Generations<Term>,
    /// The number of the generation that this process wrote last.
    number: u64,
    term: Term,
    time_to_live: chrono::Duration,
}

/// What is stored: who holds it, and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Term {
    holder: String,
    /// The number of the generation by which the holder acquired it.
    epoch: u64,
    /// From this moment on anyone may take it.
    until: DateTime<Utc>,
}

/// How an attempt to get a lease went.
#[derive(Debug)]
pub enum LeaseAttempt {
    /// It is held by the caller now.
    Acquired(Lease),
    /// It is held by someone else.
    Held {
        /// Who.
        holder: String,
        /// Until when, unless it is renewed.
        until: DateTime<Utc>,
    },
}

impl Lease {
    /// Takes the lease at `name` (a path) if nobody holds it at `now`.
    ///
    /// `holder` names the process. A holder that asks again gets the lease again, under a higher epoch,
    /// without waiting for its former self to expire: a process that was killed and comes back under the
    /// same name loses no time, and if the former one should live after all, its renewal is lost and its
    /// epoch is stale.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub async fn try_acquire(
        store: &Store,
        name: &str,
        holder: &str,
        ttl: Duration,
        now: DateTime<Utc>,
    ) -> Result<LeaseAttempt, StateError> {
        let generations = Generations::<Term>::new(store.child(name));
        let time_to_live = chrono::Duration::from_std(ttl).unwrap_or(chrono::Duration::MAX);
        let latest = generations.latest().await?;
        let number = match decide(latest.as_ref(), holder, now) {
            Decision::Take { number } => number,
            Decision::Leave { holder, until } => return Ok(LeaseAttempt::Held { holder, until }),
        };
        let until = expiry(now, time_to_live);
        let term = Term { holder: holder.to_owned(), epoch: number, until };
        match generations.append(number, &term).await {
            Ok(()) => {
                let lease = Self { generations, number, term, time_to_live };
                lease.forget_old().await?;
                Ok(LeaseAttempt::Acquired(lease))
            }
            Err(StateError::Lost { .. }) => {
                // Someone was faster. Whoever it is holds it as far as this attempt is concerned, even
                // where the lease has been released again meanwhile: the next attempt will see.
                let winner = generations.latest().await?.map_or(term, |latest| latest.value);
                Ok(LeaseAttempt::Held { holder: winner.holder, until: winner.until })
            }
            Err(error) => Err(error),
        }
    }

    /// Who holds the lease at `name` at `now`, and until when unless it is renewed; none where nobody does.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn held(
        store: &Store,
        name: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<(String, DateTime<Utc>)>, StateError> {
        let latest = Generations::<Term>::new(store.child(name)).latest().await?;
        let term = latest.map(|latest| latest.value).filter(|term| now < term.until);
        Ok(term.map(|term| (term.holder, term.until)))
    }

    /// Grows with each acquisition of this lease by anyone; the same over renewals. The fence.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.term.epoch
    }

    /// When others may take it, unless it is renewed.
    #[must_use]
    pub fn until(&self) -> DateTime<Utc> {
        self.term.until
    }

    /// Holds it for another time to live from `now` on. An expired lease that nobody took is still the
    /// caller's.
    ///
    /// # Errors
    /// [`StateError::Lost`]: someone took it over. Stop what it protects; the epoch is stale.
    pub async fn renew(&mut self, now: DateTime<Utc>) -> Result<(), StateError> {
        let until = expiry(now, self.time_to_live);
        self.write(until).await?;
        self.forget_old().await
    }

    /// Gives it back: from `now` on anyone may take it.
    ///
    /// # Errors
    /// The store cannot be written: the lease then expires by itself. That someone took it over already
    /// is no error.
    pub async fn release(mut self, now: DateTime<Utc>) -> Result<(), StateError> {
        match self.write(now).await {
            Ok(()) | Err(StateError::Lost { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn write(&mut self, until: DateTime<Utc>) -> Result<(), StateError> {
        let number = self.number + 1;
        let term = Term { until, ..self.term.clone() };
        self.generations.append(number, &term).await?;
        self.number = number;
        self.term = term;
        Ok(())
    }

    async fn forget_old(&self) -> Result<(), StateError> {
        self.generations.prune(self.number.saturating_sub(KEPT_GENERATIONS)).await
    }
}

fn expiry(now: DateTime<Utc>, time_to_live: chrono::Duration) -> DateTime<Utc> {
    now.checked_add_signed(time_to_live).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

#[cfg(test)]
mod tests;
