//! What runs beside a session: the lease is renewed, who asks for the connection is heard, and the lag is measured.

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
use crate::stand_back::StandBack;

/// A lease is renewed this often in its time to live, so that two renewals may fail.
const RENEWALS_PER_TTL: u32 = 3;

/// How often the lag is asked for: the usual interval of a scrape.
const LAG_INTERVAL: Duration = Duration::from_secs(15);

/// The tasks beside a session. Both are awaited by [`Keeper::finish`].
pub(crate) struct Keeper {
    lease: KeptLease,
    /// The session is over.
    over: Stop,
    lag: JoinHandle<()>,
}

impl Keeper {
    pub(crate) fn start(lease: Lease, ttl: Duration, session: &Session, by: StandBack, stop: &Stop) -> Self {
        let (id, clock) = (session.connection.id.clone(), session.clock.clone());
        let over = Stop::new();
        let measuring =
            measure(session.bus.clone(), session.topic.clone(), id.clone(), session.progress(), over.clone());
        let lease = KeptLease::start(lease, ttl, id, clock, Some(by), stop);
        Self { lease, over, lag: tokio::spawn(measuring) }
    }

    /// When to stop loading.
    pub(crate) fn stop(&self) -> Stop {
        self.lease.stop()
    }

    /// Gives the lease back.
    pub(crate) async fn finish(self) {
        self.over.trigger();
        self.lease.release().await;
        awaited("lag", self.lag).await;
    }
}

/// A lease that is renewed until it is given back. Its task is awaited by [`KeptLease::release`].
pub(crate) struct KeptLease {
    /// Triggered by the process's stop, when the lease is lost, and when somebody asks for it.
    stop: Stop,
    over: Stop,
    task: JoinHandle<()>,
}

impl KeptLease {
    /// `by`: who may ask the holder to stand back.
    pub(crate) fn start(
        lease: Lease,
        ttl: Duration,
        connection: ConnectionId,
        clock: SharedClock,
        by: Option<StandBack>,
        stop: &Stop,
    ) -> Self {
        let (stop, over) = (stop.child(), Stop::new());
        let keeping = Keeping { connection, clock, by, stop: stop.clone() };
        let task = tokio::spawn(keeping.keep(lease, ttl, over.clone()));
        Self { stop, over, task }
    }

    /// When to stop what it protects.
    pub(crate) fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Gives it back.
    pub(crate) async fn release(self) {
        self.over.trigger();
        awaited("lease", self.task).await;
    }
}

async fn awaited(task: &str, ended: JoinHandle<()>) {
    if let Err(error) = ended.await {
        tracing::error!(task, %error, "a task beside the session ended by itself");
    }
}

struct Keeping {
    connection: ConnectionId,
    clock: SharedClock,
    by: Option<StandBack>,
    stop: Stop,
}

impl Keeping {
    async fn keep(self, mut lease: Lease, ttl: Duration, over: Stop) {
        let connection = &self.connection;
        loop {
            tokio::select! {
                () = tokio::time::sleep(ttl / RENEWALS_PER_TTL) => {}
                () = over.requested() => break,
            }
            match lease.renew(self.clock.now()).await {
                Ok(()) => {}
                // The fence holds in any case; stopping in time only spares the work.
                Err(error)
                    if matches!(error, StateError::Lost { .. }) || self.clock.now() >= lease.until() =>
                {
                    tracing::warn!(%connection, %error, "the lease is lost");
                    self.stop.trigger();
                    return;
                }
                Err(error) => tracing::warn!(%connection, %error, "cannot renew the lease yet"),
            }
            // Only now: a state that is slow to say who asks must not cost the lease.
            self.stand_back().await;
        }
        if let Err(error) = lease.release(self.clock.now()).await {
            tracing::warn!(%connection, %error, "cannot give back the lease; it expires by itself");
        }
    }

    /// Stops the work where somebody asks for the connection. Until it has stopped the lease is kept.
    async fn stand_back(&self) {
        let Some(by) = &self.by else { return };
        match by.asked(self.clock.now()).await {
            Ok(Some((holder, _))) if !self.stop.is_requested() => {
                tracing::info!(connection = %self.connection, holder, "standing back");
                self.stop.trigger();
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(connection = %self.connection, %error, "cannot see yet who asks for the connection");
            }
        }
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
