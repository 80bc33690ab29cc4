//! Reads each source on its schedule, each in a task of its own: one that fails delays no other.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use millrace_bus::{Bus, Publisher, PublisherOptions};
use millrace_event_model::SourceId;
use millrace_service::{Health, HealthHandle, Schedule, SharedClock, Stop, TaskError, Tasks};
use millrace_state::{Lease, LeaseAttempt, Store};
use serde::Serialize;

use crate::attempt::Attempt;
use crate::{Cursor, Error, Options, SourceOptions, metrics};

/// A source that fails is tried again after this long at first…
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// …and after this long at last.
const LAST_RETRY: Duration = Duration::from_secs(300);
/// How long a stop waits for a source to end its child process.
const DRAIN: Duration = Duration::from_secs(20);

/// The stage.
pub struct Service {
    options: Options,
    bus: Bus,
    publisher: Arc<Publisher>,
    store: Store,
    clock: SharedClock,
    health: Health,
}

/// What one attempt read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunReport {
    /// The source.
    pub source: SourceId,
    /// The attempt's number.
    pub attempt: u64,
    /// Its streams, in reading order.
    pub streams: Vec<StreamReport>,
}

/// What one attempt read of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamReport {
    /// The stream.
    pub stream: String,
    /// Rows published.
    pub rows: u64,
    /// Rows too large for a topic, kept in state with a dead letter.
    pub oversize: u64,
    /// Barriers put.
    pub barriers: u64,
}

impl Service {
    /// The stage over these sources.
    ///
    /// # Errors
    /// The Kafka settings are not valid.
    pub fn new(
        options: Options,
        bus: Bus,
        store: Store,
        clock: SharedClock,
        health: Health,
    ) -> Result<Self, millrace_bus::BusError> {
        let publisher = Arc::new(bus.publisher(PublisherOptions::default())?);
        Ok(Self { options, bus, publisher, store, clock, health })
    }

    /// Reads the sources on their schedules until the stop; then ends child processes and returns. What
    /// was read after the last barrier is read again next time.
    ///
    /// # Errors
    /// A task ended that should not have: a defect.
    pub async fn run(self, stop: Stop) -> Result<(), Vec<TaskError>> {
        let mut tasks = Tasks::new(stop.clone());
        let service = Arc::new(self);
        for source in service.options.sources.clone() {
            let (service, stop) = (Arc::clone(&service), stop.clone());
            tasks.spawn(format!("extract {}", source.id), async move {
                service.keep_reading(&source, &stop).await;
                Ok::<(), Error>(())
            });
        }
        stop.requested().await;
        let errors = tasks.join(DRAIN).await;
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Reads one source, or all, once.
    ///
    /// # Errors
    /// No such source; or the first attempt that failed: those after it were not made.
    pub async fn run_once(&self, only: Option<&str>, stop: &Stop) -> Result<Vec<RunReport>, Error> {
        let named = |source: &&SourceOptions| only.is_none_or(|id| id == source.id.as_str());
        let sources: Vec<_> = self.options.sources.iter().filter(named).collect();
        if let (Some(id), true) = (only, sources.is_empty()) {
            return Err(Error::Unknown(id.to_owned()));
        }
        let mut reports = Vec::new();
        for source in sources {
            reports.push(self.attempt(source, stop).await?);
        }
        Ok(reports)
    }

    async fn keep_reading(&self, source: &SourceOptions, stop: &Stop) {
        let health = self.health.component(&format!("source {}", source.id));
        health.ready();
        // An interval counts from the start of the process; a cron expression names its times itself.
        let mut due = match source.schedule {
            Schedule::Every(_) => Some(self.clock.now()),
            _ => source.schedule.next_after(self.clock.now()),
        };
        while let Some(at) = due {
            let wait = (at - self.clock.now()).to_std().unwrap_or_default();
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.requested() => return,
            }
            self.until_read(source, &health, stop).await;
            if stop.is_requested() {
                return;
            }
            due = source.schedule.next_after(self.clock.now());
        }
        stop.requested().await;
    }

    /// Tries until an attempt succeeds, with growing pauses.
    async fn until_read(&self, source: &SourceOptions, health: &HealthHandle, stop: &Stop) {
        let mut pauses = ExponentialBuilder::new()
            .with_min_delay(FIRST_RETRY)
            .with_max_delay(LAST_RETRY)
            .with_jitter()
            .without_max_times()
            .build();
        loop {
            let error = match self.attempt(source, stop).await {
                Ok(report) => {
                    let rows: u64 = report.streams.iter().map(|stream| stream.rows).sum();
                    tracing::info!(source = %source.id, attempt = report.attempt, rows, "source read");
                    health.ready();
                    return;
                }
                Err(Error::Stopped { .. }) => return,
                Err(error) => error,
            };
            let pause = pauses.next().unwrap_or(LAST_RETRY);
            tracing::warn!(source = %source.id, %error, retry_in_seconds = pause.as_secs(), "source could not be read");
            health.not_ready(error.to_string());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.requested() => return,
            }
        }
    }

    async fn attempt(&self, source: &SourceOptions, stop: &Stop) -> Result<RunReport, Error> {
        let name = format!("sources/{}/lease", source.id);
        let now = self.clock.now();
        let asked =
            Lease::try_acquire(&self.store, &name, &self.options.holder, self.options.lease_ttl, now).await;
        let lease = match asked
            .map_err(|error| Error::State { source_id: source.id.clone(), error: Box::new(error) })?
        {
            LeaseAttempt::Acquired(lease) => lease,
            LeaseAttempt::Held { holder, .. } => {
                return Err(Error::Held { source_id: source.id.clone(), holder });
            }
        };
        let attempt = Attempt {
            options: source.clone(),
            bus: self.bus.clone(),
            publisher: Arc::clone(&self.publisher),
            store: self.store.clone(),
            keys: self.options.keys.clone(),
            clock: Arc::clone(&self.clock),
            stop: stop.clone(),
            lease,
            lease_ttl: self.options.lease_ttl,
            cursor: Cursor::default(),
            cursor_number: 0,
        };
        let result = attempt.run().await;
        let status = if result.is_ok() { "ok" } else { "failed" };
        metrics::attempt(&source.id, status, self.clock.now().timestamp() as f64);
        result
    }
}
