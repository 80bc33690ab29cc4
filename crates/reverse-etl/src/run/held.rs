//! A lease that renews itself while a run goes on.

use std::sync::Arc;

use millrace_service::{SharedClock, Stop};
use millrace_state::{Lease, LeaseAttempt, StateError, Store};
use tokio::task::JoinHandle;

use crate::{Error, Options};

/// The lease of a sync, held by this process.
pub(super) struct Held {
    epoch: u64,
    /// Stops the run: because the process is to stop, or because the lease is lost.
    stop: Stop,
    done: Stop,
    keeper: JoinHandle<Option<Lease>>,
}

impl Held {
    /// Takes the lease, and keeps renewing it until it is released or dropped.
    pub(super) async fn acquire(
        state: &Store,
        options: &Options,
        clock: &SharedClock,
        stop: &Stop,
    ) -> Result<Self, Error> {
        let attempt =
            Lease::try_acquire(state, "lease", &options.holder, options.lease_ttl, clock.now()).await?;
        let lease = match attempt {
            LeaseAttempt::Acquired(lease) => lease,
            LeaseAttempt::Held { holder, until } => return Err(Error::Held { holder, until }),
        };
        let (epoch, run, done) = (lease.epoch(), stop.child(), Stop::new());
        let keeper = keep(lease, options.lease_ttl / 3, Arc::clone(clock), run.clone(), done.clone());
        Ok(Self { epoch, stop: run, done, keeper: tokio::spawn(keeper) })
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Gives the lease back, and says whether it had been lost.
    pub(super) async fn release(mut self, clock: &SharedClock) -> bool {
        self.done.trigger();
        let Ok(Some(lease)) = (&mut self.keeper).await else { return true };
        if let Err(error) = lease.release(clock.now()).await {
            // It expires by itself.
            tracing::warn!(%error, "a lease could not be released");
        }
        false
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.done.trigger();
    }
}

/// Returns the lease when it is done with, or nothing when it was lost; then the run is stopped too.
async fn keep(
    mut lease: Lease,
    interval: std::time::Duration,
    clock: SharedClock,
    run: Stop,
    done: Stop,
) -> Option<Lease> {
    loop {
        tokio::select! {
            () = done.requested() => return Some(lease),
            () = tokio::time::sleep(interval) => {}
        }
        match lease.renew(clock.now()).await {
            Ok(()) => {}
            Err(StateError::Lost { .. }) => break,
            // The store may come back before the lease expires.
            Err(error) if clock.now() < lease.until() => {
                tracing::warn!(%error, "a lease could not be renewed")
            }
            Err(error) => {
                tracing::error!(%error, "a lease could not be renewed in time");
                break;
            }
        }
    }
    run.trigger();
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::time::Duration;

    use millrace_service::{Clock as _, ManualClock};

    use super::*;

    #[tokio::test]
    async fn a_lease_that_is_taken_over_stops_the_run_and_nothing_else() {
        let store = Store::in_memory();
        let clock = ManualClock::new("2026-11-24T10:00:00Z".parse().unwrap());
        let shared: SharedClock = Arc::new(clock.clone());
        let mut options = Options::new(Vec::new(), "unused".into(), "first");
        options.lease_ttl = Duration::from_millis(300);
        let process = Stop::new();
        let held = Held::acquire(&store, &options, &shared, &process).await.unwrap();
        assert!(!held.stop().is_requested());
        // The keeper may renew between the two lines, and then the second try finds it expired.
        loop {
            clock.advance(Duration::from_secs(3600));
            let other = Lease::try_acquire(&store, "lease", "second", options.lease_ttl, clock.now()).await;
            if matches!(other.unwrap(), LeaseAttempt::Acquired(_)) {
                break;
            }
        }
        tokio::time::timeout(Duration::from_secs(10), held.stop().requested()).await.unwrap();
        assert!(!process.is_requested());
        assert!(held.release(&shared).await, "it says that it was lost");
    }

    #[tokio::test]
    async fn a_released_lease_can_be_taken_at_once() {
        let store = Store::in_memory();
        let clock: SharedClock = Arc::new(millrace_service::SystemClock);
        let options = |holder: &str| Options::new(Vec::new(), "unused".into(), holder);
        let held = Held::acquire(&store, &options("first"), &clock, &Stop::new()).await.unwrap();
        let refused = Held::acquire(&store, &options("second"), &clock, &Stop::new()).await;
        assert!(matches!(refused, Err(Error::Held { holder, .. }) if holder == "first"));
        let epoch = held.epoch();
        assert!(!held.release(&clock).await);
        let second = Held::acquire(&store, &options("second"), &clock, &Stop::new()).await.unwrap();
        assert!(second.epoch() > epoch);
    }
}
