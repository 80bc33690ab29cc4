//! One command at a time sends a destination's events again or closes its dead letters: two at once would send
//! twice, or close what is being sent.

use millrace_event_model::DestinationId;
use millrace_service::{SharedClock, Stop};
use millrace_state::{Lease, LeaseAttempt, StateError};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::exit::Failure;
use crate::installation::{Installation, LEASE_TTL};

/// The lease is renewed this often in its time to live, so that two renewals may fail.
const RENEWALS_PER_TTL: u32 = 3;

/// A destination that is this command's until [`Held::release`]. One that is killed holds it for the time to live
/// of a lease.
pub(super) struct Held {
    stop: Stop,
    over: Stop,
    task: JoinHandle<()>,
}

impl Held {
    /// # Errors
    /// Another command holds it, or the state cannot be read or written.
    pub(super) async fn take(
        installation: &Installation,
        id: &DestinationId,
        command: &str,
    ) -> Result<Self, Failure> {
        let Installation { store, clock, .. } = installation;
        // No two commands are one holder, whatever machine they are on.
        let holder = installation.holder(&format!("{command}.{:08x}", Uuid::new_v4().as_fields().0));
        let name = format!("resend/{id}");
        let lease = match Lease::try_acquire(store, &name, &holder, LEASE_TTL, clock.now()).await? {
            LeaseAttempt::Acquired(lease) => lease,
            LeaseAttempt::Held { holder, until } => {
                return Err(Failure::Failed(format!(
                    "{holder} is at work on {id} and holds it until {until} at least; run this when that has ended"
                )));
            }
        };
        let (stop, over) = (Stop::new(), Stop::new());
        let task = tokio::spawn(keep(lease, clock.clone(), stop.clone(), over.clone()));
        Ok(Self { stop, over, task })
    }

    /// When to stop: it is triggered when the lease is lost.
    pub(super) fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Gives it back.
    pub(super) async fn release(self) {
        self.over.trigger();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the task that keeps the lease ended by itself");
        }
    }
}

async fn keep(mut lease: Lease, clock: SharedClock, stop: Stop, over: Stop) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(LEASE_TTL / RENEWALS_PER_TTL) => {}
            () = over.requested() => break,
        }
        match lease.renew(clock.now()).await {
            Ok(()) => {}
            Err(error) if matches!(error, StateError::Lost { .. }) || clock.now() >= lease.until() => {
                tracing::warn!(%error, "the lease on the destination is lost: stopping");
                stop.trigger();
                return;
            }
            Err(error) => tracing::warn!(%error, "cannot renew the lease on the destination yet"),
        }
    }
    if let Err(error) = lease.release(clock.now()).await {
        tracing::warn!(%error, "cannot give back the lease on the destination; it expires by itself");
    }
}
