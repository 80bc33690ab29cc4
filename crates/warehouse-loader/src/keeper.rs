//! What runs beside a session: the lease is renewed, and the lag is measured.

use std::time::Duration;

use millrace_bus::Bus;
use millrace_connector::Positions;
use millrace_event_model::ConnectionId;
use millrace_service::{SharedClock, Stop};
use millrace_state::{Lease, StateError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::metrics;
use crate::session::Session;

/// A lease is renewed this often in its time to live, so that two renewals may fail.
const RENEWALS_PER_TTL: u32 = 3;

/// How often the lag is asked for: the usual interval of a scrape.
const LAG_INTERVAL: Duration = Duration::from_secs(15);

/// The tasks beside a session. Both are awaited by [`Keeper::finish`].
pub(crate) struct Keeper {
    /// Triggered by the process's stop, and when the lease is lost.
    stop: Stop,
    /// The session is over.
    over: Stop,
    lease: JoinHandle<()>,
    lag: JoinHandle<()>,
}

impl Keeper {
    pub(crate) fn start(lease: Lease, ttl: Duration, session: &Session, stop: &Stop) -> Self {
        let (stop, over) = (stop.child(), Stop::new());
        let id = session.connection.id.clone();
        let keeping = keep(lease, ttl, id.clone(), session.clock.clone(), stop.clone(), over.clone());
        let measuring =
            measure(session.bus.clone(), session.topic.clone(), id, session.progress(), over.clone());
        Self { stop, over, lease: tokio::spawn(keeping), lag: tokio::spawn(measuring) }
    }

    /// When to stop loading.
    pub(crate) fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Gives the lease back.
    pub(crate) async fn finish(self) {
        self.over.trigger();
        for (task, ended) in [("lease", self.lease.await), ("lag", self.lag.await)] {
            if let Err(error) = ended {
                tracing::error!(task, %error, "a task beside the session ended by itself");
            }
        }
    }
}

async fn keep(
    mut lease: Lease,
    ttl: Duration,
    connection: ConnectionId,
    clock: SharedClock,
    stop: Stop,
    over: Stop,
) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(ttl / RENEWALS_PER_TTL) => {}
            () = over.requested() => break,
        }
        let lost = match lease.renew(clock.now()).await {
            Ok(()) => continue,
            Err(error @ StateError::Lost { .. }) => error,
            // The fence holds in any case; stopping in time only spares the work.
            Err(error) if clock.now() >= lease.until() => error,
            Err(error) => {
                tracing::warn!(%connection, %error, "cannot renew the lease yet");
                continue;
            }
        };
        tracing::warn!(%connection, error = %lost, "the lease is lost");
        stop.trigger();
        return;
    }
    if let Err(error) = lease.release(clock.now()).await {
        tracing::warn!(%connection, %error, "cannot give back the lease; it expires by itself");
    }
}

async fn measure(
    bus: Bus,
    topic: String,
    connection: ConnectionId,
    progress: watch::Receiver<Positions>,
    over: Stop,
) {
    loop {
        // A broker that does not answer shows elsewhere.
        if let Ok(watermarks) = bus.watermarks(&topic).await {
            let positions = progress.borrow().clone();
            let behind = watermarks.iter().map(|(partition, (low, high))| {
                high - positions.get(partition).copied().unwrap_or(*low).clamp(*low, *high)
            });
            metrics::lag(&connection, &topic, behind.sum());
        }
        tokio::select! {
            () = tokio::time::sleep(LAG_INTERVAL) => {}
            () = over.requested() => return,
        }
    }
}
