//! The order to stop, and the signals that give it.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The order to stop. Clones are the same order; a [`Stop::child`] can also be stopped by itself.
#[derive(Debug, Clone, Default)]
pub struct Stop(CancellationToken);

impl Stop {
    /// A new one, not triggered.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the order. It cannot be taken back.
    pub fn trigger(&self) {
        self.0.cancel();
    }

    /// Whether the order was given.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until the order is given. Safe in `select!`.
    pub async fn requested(&self) {
        self.0.cancelled().await;
    }

    /// A stop that this one triggers, but that does not trigger this one.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }

    /// The token beneath, for crates that do not know this one.
    #[must_use]
    pub fn token(&self) -> &CancellationToken {
        &self.0
    }
}

/// Triggers `stop` at the first SIGTERM or SIGINT, and returns when it has been triggered by anyone.
///
/// # Errors
/// The signal handlers cannot be installed.
pub async fn stop_on_signals(stop: Stop) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let name = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
        () = stop.requested() => return Ok(()),
    };
    tracing::info!(signal = name, "stopping");
    stop.trigger();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_child_hears_its_parent_but_not_the_other_way_round() {
        let parent = Stop::new();
        let (first, second) = (parent.child(), parent.child());
        first.trigger();
        assert!(first.is_requested() && !parent.is_requested() && !second.is_requested());
        parent.trigger();
        second.requested().await;
        assert!(second.is_requested());
    }
}
