//! Whether the broker takes events, as the last attempt has shown; and how the stage finds out that it
//! does again when no load balancer sends it traffic any more.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use millrace_bus::Bus;
use millrace_service::HealthHandle;
use tokio::sync::Notify;

/// Between two questions to a broker that is away.
const PROBE_PAUSE: Duration = Duration::from_secs(1);

pub(crate) struct Broker {
    answers: AtomicBool,
    went_away: Notify,
    health: HealthHandle,
}

impl Broker {
    pub(crate) fn new(health: HealthHandle) -> Self {
        Self { answers: AtomicBool::new(false), went_away: Notify::new(), health }
    }

    pub(crate) fn answers(&self) -> bool {
        self.answers.load(Ordering::Relaxed)
    }

    pub(crate) fn answered(&self) {
        if !self.answers.swap(true, Ordering::Relaxed) {
            tracing::info!("kafka takes events");
            self.health.ready();
        }
    }

    pub(crate) fn failed(&self, error: &millrace_bus::BusError) {
        if self.answers.swap(false, Ordering::Relaxed) {
            tracing::error!(%error, "kafka does not take events; requests are answered with 503");
            self.health.not_ready("kafka does not take events");
        }
        self.went_away.notify_one();
    }

    /// Asks at the start, and again after each failure until there is an answer. Never returns.
    pub(crate) async fn watch(&self, bus: &Bus, topic: Option<&str>) -> Infallible {
        loop {
            match topic {
                None => self.answered(),
                Some(topic) => match bus.watermarks(topic).await {
                    Ok(_) => self.answered(),
                    Err(error) => {
                        self.failed(&error);
                        self.health.not_ready(error.to_string());
                        tokio::time::sleep(PROBE_PAUSE).await;
                        continue;
                    }
                },
            }
            self.went_away.notified().await;
            tokio::time::sleep(PROBE_PAUSE).await;
        }
    }
}
