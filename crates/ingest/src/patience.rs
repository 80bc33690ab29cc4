//! How long a body may take to arrive: long, unless others are kept out by it.
//!
//! What has arrived of a body holds memory, which all bodies share. A few dozen clients that send all of a
//! large body but its end would hold all of it for as long as a body may take, and everybody else would be
//! answered 503. So when somebody is, those who have had their [`GRACE`] lose their place.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::error::Refusal;

/// A body of the default limit takes so long over a line of 16 Mbit/s.
const GRACE: Duration = Duration::from_secs(2);

pub(crate) struct Patience {
    grace: Duration,
    /// After the grace.
    rest: Duration,
    lost: Notify,
}

impl Patience {
    /// Bodies have at most `limit`.
    pub(crate) fn new(limit: Duration) -> Self {
        Self::with_grace(GRACE.min(limit), limit)
    }

    fn with_grace(grace: Duration, limit: Duration) -> Self {
        Self { grace, rest: limit - grace, lost: Notify::new() }
    }

    /// Somebody is kept out.
    pub(crate) fn lose(&self) {
        self.lost.notify_waiters();
    }

    /// Awaits a body. Most are here at once: the usual case costs one timer.
    pub(crate) async fn wait_for<B>(
        &self,
        body: impl Future<Output = Result<B, Refusal>>,
    ) -> Result<B, Refusal> {
        let mut body = pin!(body);
        if let Ok(received) = timeout(self.grace, &mut body).await {
            return received;
        }
        tokio::select! {
            received = timeout(self.rest, body) => received.unwrap_or(Err(Refusal::Slow)),
            () = self.lost.notified() => Err(Refusal::Slow),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Instant;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(20);

    fn nothing() -> impl Future<Output = Result<(), Refusal>> {
        pending()
    }

    #[tokio::test]
    async fn a_slow_body_has_all_its_time() {
        let patience = Patience::with_grace(SHORT, SHORT * 3);
        assert_eq!(patience.wait_for(async { Ok(()) }).await, Ok(()));
        let began = Instant::now();
        // Nobody else, and nobody who came early, takes anything from it.
        patience.lose();
        assert_eq!(patience.wait_for(nothing()).await, Err(Refusal::Slow));
        assert!(began.elapsed() >= SHORT * 3);
    }

    #[tokio::test]
    async fn when_somebody_is_kept_out_a_body_that_has_had_its_grace_loses_its_place() {
        let patience = Patience::with_grace(SHORT, LONG);
        let began = Instant::now();
        let kept_out = async {
            loop {
                tokio::time::sleep(SHORT).await;
                patience.lose();
            }
        };
        tokio::select! {
            outcome = patience.wait_for(nothing()) => assert_eq!(outcome, Err(Refusal::Slow)),
            () = kept_out => {}
        }
        assert!(began.elapsed() < LONG / 2);
    }
}
