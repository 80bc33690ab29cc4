//! How a job gets a connection to itself for a moment.
//!
//! What must be done as the connection, such as putting a rebuild in place, is done under the connection's lease.
//! Whoever has that one loads and renews it for ever, so the job asks: it takes a lease beside it. The loader looks
//! whether somebody has it when it renews its own; then it ends the load in hand, gives its lease back and stands by.
//! Since the request is a lease, nobody waits for a job that died longer than its time to live.

use std::time::Duration;

use chrono::{DateTime, Utc};
use millrace_state::{Lease, LeaseAttempt, StateError, Store};

const NAME: &str = "stand-back";

/// Requests to stand back from a connection, as one process sees them.
#[derive(Clone)]
pub(crate) struct StandBack {
    /// Rooted at the connection's folder.
    state: Store,
    holder: String,
}

impl StandBack {
    pub(crate) fn new(state: Store, holder: String) -> Self {
        Self { state, holder }
    }

    /// Who else asks for it now, and until when.
    pub(crate) async fn asked(
        &self,
        now: DateTime<Utc>,
    ) -> Result<Option<(String, DateTime<Utc>)>, StateError> {
        let held = Lease::held(&self.state, NAME, now).await?;
        Ok(held.filter(|(holder, _)| *holder != self.holder))
    }

    /// Asks others for it. The lease has to be kept while the connection is needed.
    pub(crate) async fn ask(&self, ttl: Duration, now: DateTime<Utc>) -> Result<LeaseAttempt, StateError> {
        Lease::try_acquire(&self.state, NAME, &self.holder, ttl, now).await
    }
}
