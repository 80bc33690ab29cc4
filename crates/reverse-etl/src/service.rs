//! The clock around the runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use millrace_bus::{Bus, PublisherOptions};
use millrace_event_model::KeyHasher;
use millrace_service::{Health, HealthHandle, Schedule, SharedClock, Stop};
use millrace_state::{Store, workspace_key};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::run::Runner;
use crate::{Error, Options, RunReport, Sync, Trigger, metrics};

/// A run that failed is tried again after this long, unless its schedule comes first.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// The stage: runs syncs by their triggers.
#[derive(Clone)]
pub struct Service {
    syncs: Arc<[Sync]>,
    runner: Arc<Runner>,
    health: Health,
    /// Runs at once, over all syncs.
    places: Arc<Semaphore>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("syncs", &self.syncs).finish_non_exhaustive()
    }
}

impl Service {
    /// The stage over a workspace's topics and state.
    ///
    /// # Errors
    /// The state store cannot be reached, or the bus takes no publisher.
    pub async fn new(
        options: Options,
        bus: Bus,
        store: Store,
        clock: SharedClock,
        health: Health,
    ) -> Result<Self, Error> {
        let hasher = KeyHasher::new(&workspace_key(&store).await?);
        let publisher = bus.publisher(PublisherOptions::default())?;
        let places = Arc::new(Semaphore::new(options.max_runs.max(1)));
        let syncs = options.syncs.clone().into();
        let runner = Arc::new(Runner { options, bus, publisher, store, hasher, clock });
        Ok(Self { syncs, runner, health, places })
    }

    /// Runs all syncs by their triggers until the stop is requested. A run that is under way then ends at
    /// its next step; what it had published is known as unknown.
    ///
    /// # Errors
    /// A sync's task panicked. A run that fails is logged, shown in the health and tried again.
    pub async fn run(&self, stop: Stop) -> Result<(), Error> {
        let mut tasks = JoinSet::new();
        for sync in self.syncs.iter() {
            let health = self.health.component(&format!("sync {}", sync.id));
            tasks.spawn(self.clone().follow(sync.clone(), health, stop.clone()));
        }
        while let Some(ended) = tasks.join_next().await {
            ended?;
        }
        Ok(())
    }

    /// Runs one sync once, now.
    ///
    /// # Errors
    /// See [`Error`]; none of them loses anything.
    pub async fn run_once(&self, sync: &str, stop: &Stop) -> Result<RunReport, Error> {
        self.run_sync(self.find(sync)?, stop).await
    }

    /// What a run would do now: counts only, nothing is published and nothing is kept. It takes no lease
    /// and waits for no outcomes: what has none yet counts as sent again.
    ///
    /// # Errors
    /// As [`Self::run_once`].
    pub async fn plan(&self, sync: &str, stop: &Stop) -> Result<RunReport, Error> {
        self.runner.plan(self.find(sync)?, stop).await
    }

    fn find(&self, name: &str) -> Result<&Sync, Error> {
        let found = self.syncs.iter().find(|sync| sync.id.as_str() == name);
        found.ok_or_else(|| Error::UnknownSync(name.to_owned()))
    }

    async fn run_sync(&self, sync: &Sync, stop: &Stop) -> Result<RunReport, Error> {
        let place = tokio::select! {
            place = self.places.acquire() => place,
            () = stop.requested() => return Err(Error::Stopped),
        };
        // The semaphore is never closed.
        let _place = place.map_err(|_| Error::Stopped)?;
        let began = Instant::now();
        let result = self.runner.run(sync, stop).await;
        match &result {
            Ok(report) => {
                metrics::run_succeeded(sync.id.as_str(), report, began.elapsed(), self.runner.clock.now());
                tracing::info!(
                    sync = %sync.id, run = report.run, rows = report.rows, upserts = report.upserts,
                    deletes = report.deletes, rejected = report.rejected, resent = report.unknown_resent,
                    "sync ran"
                );
            }
            Err(error) => metrics::run_failed(sync.id.as_str(), error),
        }
        result
    }

    async fn follow(self, sync: Sync, health: HealthHandle, stop: Stop) {
        health.ready();
        let mut trigger = sync.trigger.clone();
        let mut due = trigger.at_start(self.runner.clock.now());
        loop {
            tokio::select! {
                () = wait(due, self.runner.clock.now()) => {}
                () = trigger.signalled() => {}
                () = stop.requested() => return,
            }
            let began = self.runner.clock.now();
            let failed = match self.run_sync(&sync, &stop).await {
                Ok(_) => {
                    health.ready();
                    false
                }
                Err(Error::Stopped) => return,
                Err(Error::Held { holder, until }) => {
                    tracing::debug!(sync = %sync.id, holder, %until, "another process runs the sync");
                    false
                }
                Err(error) => {
                    let problem = full(&error);
                    tracing::error!(sync = %sync.id, error = problem, "a sync failed");
                    health.not_ready(problem);
                    true
                }
            };
            due = trigger.next(began, failed);
        }
    }
}

impl Trigger {
    fn at_start(&mut self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Schedule(Schedule::Every(_)) => Some(now),
            Self::Schedule(schedule) => schedule.next_after(now),
            Self::Signal(signal) => {
                signal.mark_unchanged();
                Some(now)
            }
        }
    }

    /// When to run by the clock after a run that began at `began`.
    fn next(&self, began: DateTime<Utc>, failed: bool) -> Option<DateTime<Utc>> {
        let scheduled = match self {
            Self::Schedule(schedule) => schedule.next_after(began),
            Self::Signal(_) => None,
        };
        let again = failed.then(|| began + RETRY_AFTER);
        [scheduled, again].into_iter().flatten().min()
    }

    /// Returns when the signal has changed; never for schedules, or when nobody can signal any more.
    async fn signalled(&mut self) {
        if let Self::Signal(signal) = self
            && signal.changed().await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }
}

async fn wait(due: Option<DateTime<Utc>>, now: DateTime<Utc>) {
    match due {
        Some(due) => tokio::time::sleep((due - now).to_std().unwrap_or_default()).await,
        None => std::future::pending().await,
    }
}

/// The error and all that lies beneath it.
fn full(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
