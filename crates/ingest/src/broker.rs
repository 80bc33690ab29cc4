//! Whether the broker takes events, as the last attempt has shown; and how the stage finds out that it
//! does again when no load balancer sends it traffic any more.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use millrace_bus::Bus;
use millrace_service::HealthHandle;
use tokio::sync::Notify;

/// Between two questions to a broker that is away.
const PROBE_PAUSE: Duration = Duration::from_secs(1);

/// A broker that has taken an event within this time is there: it has too much to do, or one topic has a fault
/// of its own. A load balancer that sent the traffic elsewhere would make that worse.
const RECENTLY: Duration = Duration::from_secs(1);

pub(crate) struct Broker {
    answers: AtomicBool,
    began: Instant,
    /// When it last took an event, in milliseconds after `began`.
    answered_at_ms: AtomicU64,
    went_away: Notify,
    health: HealthHandle,
}

impl Broker {
    pub(crate) fn new(health: HealthHandle) -> Self {
        Self {
            answers: AtomicBool::new(false),
            began: Instant::now(),
            answered_at_ms: AtomicU64::new(0),
            went_away: Notify::new(),
            health,
        }
    }

    pub(crate) fn answers(&self) -> bool {
        self.answers.load(Ordering::Relaxed)
    }

    pub(crate) fn answered(&self) {
        self.answered_at(self.began.elapsed());
    }

    fn answered_at(&self, time: Duration) {
        // It takes half a billion years to overflow.
        self.answered_at_ms.store(time.as_millis() as u64, Ordering::Relaxed);
        if !self.answers.swap(true, Ordering::Relaxed) {
            tracing::info!("kafka takes events");
            self.health.ready();
        }
    }

    pub(crate) fn failed(&self, error: &millrace_bus::BusError) {
        self.failed_at(self.began.elapsed(), error);
    }

    fn failed_at(&self, time: Duration, error: &millrace_bus::BusError) {
        let answered_at = Duration::from_millis(self.answered_at_ms.load(Ordering::Relaxed));
        if self.answers() && time.saturating_sub(answered_at) < RECENTLY {
            return;
        }
        if self.answers.swap(false, Ordering::Relaxed) {
            tracing::error!(%error, "kafka does not take events; requests are answered with 503");
            self.health.not_ready("kafka does not take events");
        }
        self.went_away.notify_one();
    }

    /// Asks at the start, and again after each failure until there is an answer. Never returns.
    pub(crate) async fn watch(&self, bus: &Bus, topic: Option<&str>) -> Infallible {
        loop {
            let probed = match topic {
                None => Ok(()),
                Some(topic) => bus.watermarks(topic).await.map(drop),
            };
            match probed {
                // Ready in any case: what is said below may have been said after an answer.
                Ok(()) => {
                    self.answered();
                    self.health.ready();
                }
                Err(error) => {
                    self.failed(&error);
                    if !self.answers() {
                        self.health.not_ready(error.to_string());
                    }
                    tokio::time::sleep(PROBE_PAUSE).await;
                    continue;
                }
            }
            self.went_away.notified().await;
            tokio::time::sleep(PROBE_PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use millrace_bus::BusError;
    use millrace_service::Health;

    use super::*;

    #[test]
    fn a_broker_is_away_when_it_has_taken_nothing_for_a_while() {
        let broker = Broker::new(Health::default().component("ingest"));
        let failed_at = |ms| {
            broker.failed_at(Duration::from_millis(ms), &BusError::QueueFull);
            broker.answers()
        };
        assert!(!failed_at(5), "never heard of");
        broker.answered_at(Duration::from_millis(100));
        assert!(failed_at(100) && failed_at(1_099), "it has too much to do");
        assert!(!failed_at(1_100) && !failed_at(1_101), "it is away");
        broker.answered_at(Duration::from_millis(2_000));
        assert!(failed_at(2_500), "it is back");
    }
}
