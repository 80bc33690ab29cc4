//! One connection's life: get the lease, load under its epoch, and after an error decide what next.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use chrono::{DateTime, Utc};
use millrace_bus::BatchLimits;
use millrace_connector::{Positions, Replacement, SchemaChange};
use millrace_event_model::topics::{EVENTS, RECORDS};
use millrace_service::{HealthHandle, Schedule, Stop, excluded_from, excluded_until};
use millrace_state::{Lease, LeaseAttempt, RunLog, Store};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::NextStep;
use crate::events::EventLoader;
use crate::jobs::Bound;
use crate::keeper::Keeper;
use crate::options::{Kind, LoadLimits};
use crate::records::RecordLoader;
use crate::report::Report;
use crate::runs::{About, NextAttempt, RunError, RunRecord, Runs, run_log};
use crate::session::{Session, Surroundings};
use crate::stand_back::StandBack;
use crate::{ConnectionOptions, Error, metrics, position};

/// First and longest pause after an error that passes by itself.
const RETRY_MIN: Duration = Duration::from_millis(200);
pub(crate) const RETRY_MAX: Duration = Duration::from_secs(30);

/// How long a connection stands back before it tries for its lease again.
const STAND_BACK: Duration = Duration::from_secs(15);

/// How often in its time to live a connection that stands by looks at the lease: its holder may give it
/// back at any time.
const LOOKS_PER_TTL: u32 = 4;

/// How often a connection that stands still looks at the clock, which may have been set.
const WINDOW_LOOK: Duration = Duration::from_secs(30);

/// How often a job looks whether a lease that a process left behind has expired.
const LEASE_LOOK: Duration = Duration::from_secs(1);

/// How long a load that has a target waits for more before it takes what there is.
const TARGETED_WAIT: Duration = Duration::from_millis(500);

/// Errors in a row after which `load --once` gives up.
pub(crate) const ONCE_ATTEMPTS: usize = 5;

/// A connection with what it needs around it.
pub(crate) struct Connection {
    options: Arc<ConnectionOptions>,
    surroundings: Surroundings,
    /// The state's root.
    root: Store,
    /// Rooted at the connection's own folder.
    state: Store,
    log: RunLog<RunRecord>,
    holder: String,
    lease_ttl: Duration,
    limits: LoadLimits,
    health: HealthHandle,
    stand_back: StandBack,
    session: Session,
    /// The last error that was logged: each is, once.
    logged: Option<String>,
    /// Whether the last load that had a target reached it.
    arrived: bool,
}

/// How long to load.
enum Until {
    /// On schedule, until the stop.
    Stopped,
    /// What is there now.
    Now,
}

impl Connection {
    pub(crate) fn new(
        options: Arc<ConnectionOptions>,
        surroundings: Surroundings,
        root: &Store,
        holder: String,
        lease_ttl: Duration,
        limits: LoadLimits,
        health: HealthHandle,
    ) -> Self {
        let log = run_log(root, options.id.connection());
        let state = root.child("connections").child(options.id.as_str());
        let workspace = surroundings.bus.workspace();
        let topic = match options.kind {
            Kind::Events => EVENTS.lane(workspace, &options.lane).as_str().to_owned(),
            Kind::Records => RECORDS.lane(workspace, &options.lane).as_str().to_owned(),
        };
        let session = Session::new(Arc::clone(&options), topic, &surroundings, state.clone(), health.clone());
        let stand_back = StandBack::new(state.clone(), holder.clone());
        Self {
            options,
            surroundings,
            root: root.clone(),
            state,
            log,
            holder,
            lease_ttl,
            limits,
            health,
            stand_back,
            session,
            logged: None,
            arrived: false,
        }
    }

    /// Keeps it within a job.
    pub(crate) fn within(mut self, bound: Bound) -> Self {
        self.session.bound = Some(bound);
        self
    }

    /// Has its tables begin as those of another schema.
    pub(crate) fn modelled_on(mut self, schema: String) -> Self {
        self.session.model = Some(schema);
        self
    }

    /// Requests to stand back from it.
    pub(crate) fn stand_back(&self) -> &StandBack {
        &self.stand_back
    }

    /// How far it got.
    pub(crate) fn progress(&self) -> watch::Receiver<Positions> {
        self.session.progress()
    }

    /// Loads on schedule until `stop`. Never gives up: what a person has to mend shows in the health.
    pub(crate) async fn serve(mut self, stop: Stop) {
        let mut stands_by = false;
        while !stop.is_requested() {
            let wait = match self.acquire().await {
                Ok(LeaseAttempt::Acquired(lease)) => {
                    stands_by = false;
                    self.hold(lease, &stop).await
                }
                Ok(LeaseAttempt::Held { holder, until }) => {
                    // Once, not at each look.
                    if !std::mem::replace(&mut stands_by, true) {
                        tracing::info!(connection = %self.options.id, holder, "standing by");
                    }
                    self.finish_runs().await;
                    self.health.ready();
                    self.time_until(until).min(self.lease_ttl / LOOKS_PER_TTL)
                }
                Err(error) => {
                    self.note(&error, NextAttempt::StandBack);
                    STAND_BACK
                }
            };
            pause(wait, &stop).await;
        }
        self.finish_runs().await;
    }

    /// Loads what is there now.
    pub(crate) async fn load_once(self, stop: Stop) -> Result<Report, Error> {
        if let Some(end) = self.excluded_until() {
            let report = Report::of(&self.options.id, self.session.totals(), None);
            return Ok(Report { excluded_until: Some(end), ..report });
        }
        let lease = match self.acquire().await? {
            LeaseAttempt::Acquired(lease) => lease,
            LeaseAttempt::Held { holder, .. } => return Err(self.is_held_by(holder)),
        };
        self.load_under(lease, stop).await
    }

    /// As [`Self::load_once`], of a job: whatever the clock says, and after a process that died.
    pub(crate) async fn load_job(self, stop: Stop) -> Result<Report, Error> {
        match self.acquire_in_time(&stop).await? {
            LeaseAttempt::Acquired(lease) => self.load_under(lease, stop).await,
            LeaseAttempt::Held { holder, .. } => Err(self.is_held_by(holder)),
        }
    }

    async fn load_under(mut self, lease: Lease, stop: Stop) -> Result<Report, Error> {
        let keeper = self.keep(lease, false, &stop);
        let held = keeper.stop();
        let loaded = self.load_with_retries(&held).await;
        if let Err(error) = &loaded {
            self.note(error, NextAttempt::GaveUp);
        }
        let report = self.end(keeper).await;
        loaded?;
        // Not by who called it: then it is not what it was called for.
        if held.is_requested() && !stop.is_requested() && !self.arrived {
            let asked = self.stand_back.asked(self.surroundings.clock.now()).await?;
            return Err(self.is_held_by(asked.map_or_else(|| "another process".to_owned(), |(by, _)| by)));
        }
        Ok(report)
    }

    pub(crate) fn is_held_by(&self, holder: String) -> Error {
        Error::Held { connection: self.options.id.clone(), holder }
    }

    /// Acts under this lease, which is kept.
    pub(crate) fn keep(&mut self, lease: Lease, sliced: bool, stop: &Stop) -> Keeper {
        self.begin(lease.epoch(), sliced);
        Keeper::start(lease, self.lease_ttl, &self.session, self.stand_back.clone(), stop)
    }

    /// Gives the lease back, and says what was loaded.
    pub(crate) async fn end(&mut self, keeper: Keeper) -> Report {
        keeper.finish().await;
        let run = self.session.runs.as_ref().and_then(Runs::id);
        self.finish_runs().await;
        Report::of(&self.options.id, self.session.totals(), run)
    }

    /// Under a lease: loads up to these offsets. Where it was stopped it has come less far.
    pub(crate) async fn load_up_to(&mut self, until: Positions, stop: &Stop) -> Result<Positions, Error> {
        self.session.bound = Some(Bound::until(until));
        self.load_with_retries(stop).await?;
        Ok(self.session.taken())
    }

    /// As [`Self::load_up_to`], but an error is the caller's to try again.
    pub(crate) async fn try_up_to(&mut self, until: Positions, stop: &Stop) -> Result<Positions, Error> {
        self.session.bound = Some(Bound::until(until));
        self.load(&Until::Now, stop).await?;
        Ok(self.session.taken())
    }

    /// Under a lease: what another process began is done, and no more. Returns how far the connection got.
    pub(crate) async fn settle_past(&mut self, stop: &Stop) -> Result<Positions, Error> {
        let settled = self.load_all(TARGETED_WAIT, Some(Positions::new()), stop).await;
        if settled.is_err() {
            self.session.abandon().await;
        }
        settled.map(|()| self.session.taken())
    }

    /// Under a lease, after [`Self::settle_past`]: makes these changes, and has tables hold the rows of others.
    pub(crate) async fn replace(
        &mut self,
        changes: &[SchemaChange],
        replacements: Vec<Replacement>,
    ) -> Result<(), Error> {
        let replaced = self.session.replace(changes, replacements).await;
        if replaced.is_err() {
            self.session.abandon().await;
        }
        replaced
    }

    async fn load_with_retries(&mut self, stop: &Stop) -> Result<(), Error> {
        let mut backoff = backoff();
        for _ in 1..ONCE_ATTEMPTS {
            let Err(error) = self.load(&Until::Now, stop).await else { return Ok(()) };
            let NextStep::Retry { after } = error.next_step() else { return Err(error) };
            self.note(&error, NextAttempt::Retry);
            pause(after.or_else(|| backoff.next()).unwrap_or(RETRY_MAX), stop).await;
        }
        self.load(&Until::Now, stop).await
    }

    /// Tries for the lease. Who asks for the connection holds it as far as others are concerned.
    pub(crate) async fn acquire(&self) -> Result<LeaseAttempt, Error> {
        let now = self.surroundings.clock.now();
        if let Some((holder, until)) = self.stand_back.asked(now).await? {
            return Ok(LeaseAttempt::Held { holder, until });
        }
        Ok(Lease::try_acquire(&self.state, "lease", &self.holder, self.lease_ttl, now).await?)
    }

    /// Tries for the lease as long as a process that died may hold it. One that lives renews it: then nobody waits.
    pub(crate) async fn acquire_in_time(&self, stop: &Stop) -> Result<LeaseAttempt, Error> {
        let began = Instant::now();
        let mut seen: Option<DateTime<Utc>> = None;
        loop {
            let attempt = self.acquire().await?;
            let LeaseAttempt::Held { holder, until } = &attempt else { return Ok(attempt) };
            let is_renewed = seen.is_some_and(|seen| seen != *until);
            if is_renewed || began.elapsed() > self.lease_ttl + LEASE_LOOK || stop.is_requested() {
                return Ok(attempt);
            }
            if seen.replace(*until).is_none() {
                tracing::warn!(connection = %self.options.id, holder, %until, "waiting for the end of its lease");
            }
            pause(LEASE_LOOK, stop).await;
        }
    }

    /// Acts under this epoch from here on, and tells the log of runs. That goes on over epochs, so that a failure
    /// after which the connection stands back again and again is one run.
    fn begin(&mut self, epoch: u64, sliced: bool) {
        self.session.begin(epoch);
        if let Some(runs) = &mut self.session.runs {
            runs.act_under(epoch);
            return;
        }
        let id = &self.options.id;
        let about = About {
            connection: id.clone(),
            job: id.job_name().map(str::to_owned),
            holder: self.holder.clone(),
            epoch,
        };
        let clock = Arc::clone(&self.surroundings.clock);
        self.session.runs = Some(Runs::start(self.log.clone(), about, sliced, clock));
    }

    async fn finish_runs(&mut self) {
        if let Some(runs) = self.session.runs.take() {
            runs.finish().await;
        }
    }

    /// Loads under one epoch until it ends; returns how long to wait before the next attempt.
    async fn hold(&mut self, lease: Lease, stop: &Stop) -> Duration {
        let keeper = self.keep(lease, matches!(self.options.schedule, Schedule::Every(_)), stop);
        let held = keeper.stop();
        let mut backoff = backoff();
        let mut batches = self.session.totals().batches;
        let wait = loop {
            let Err(error) = self.load(&Until::Stopped, &held).await else { break Duration::ZERO };
            if self.session.totals().batches > batches {
                batches = self.session.totals().batches;
                backoff = self::backoff();
                self.logged = None;
            }
            match error.next_step() {
                NextStep::Retry { after } => {
                    self.note(&error, NextAttempt::Retry);
                    pause(after.or_else(|| backoff.next()).unwrap_or(RETRY_MAX), &held).await;
                }
                NextStep::StandBack => {
                    self.note(&error, NextAttempt::StandBack);
                    break STAND_BACK;
                }
            }
            if held.is_requested() {
                break Duration::ZERO;
            }
        };
        keeper.finish().await;
        wait
    }

    async fn load(&mut self, until: &Until, stop: &Stop) -> Result<(), Error> {
        let loaded = match (until, &self.options.schedule) {
            (Until::Now, _) => self.load_to_now(stop).await,
            (Until::Stopped, Schedule::Every(interval)) => {
                let interval = self.options.timing.max_age.map_or(*interval, |age| age.min(*interval));
                self.load_outside(interval, stop).await
            }
            (Until::Stopped, Schedule::Cron(_) | Schedule::Manual) => self.load_at_times(stop).await,
        };
        if loaded.is_err() {
            self.session.abandon().await;
        }
        loaded
    }

    async fn load_at_times(&mut self, stop: &Stop) -> Result<(), Error> {
        loop {
            self.health.ready();
            let (schedule, windows) = (&self.options.schedule, &self.options.timing.exclude);
            match schedule.next_outside(windows, self.surroundings.clock.now()) {
                Some(next) => pause(self.time_until(next), stop).await,
                None => stop.requested().await,
            }
            if stop.is_requested() {
                return Ok(());
            }
            self.load_to_now(stop).await?;
            if let Some(runs) = &mut self.session.runs {
                runs.end();
            }
        }
    }

    async fn load_to_now(&mut self, stop: &Stop) -> Result<(), Error> {
        self.arrived = false;
        let target: Positions = match &self.session.bound {
            Some(bound) => bound.until.clone(),
            None => {
                let watermarks = self.surroundings.bus.watermarks(&self.session.topic).await?;
                watermarks.into_iter().map(|(partition, (_, high))| (partition, high)).collect()
            }
        };
        self.load_batches(TARGETED_WAIT, Some(target.clone()), stop).await?;
        self.arrived = position::reached(&self.session.taken(), &target);
        Ok(())
    }

    /// Loads whenever no window excludes it.
    async fn load_outside(&mut self, interval: Duration, stop: &Stop) -> Result<(), Error> {
        while !stop.is_requested() {
            match self.excluded_until() {
                Some(end) => {
                    self.health.ready();
                    tracing::debug!(connection = %self.options.id, until = %end, "standing still");
                    pause(self.time_until(end).min(WINDOW_LOOK), stop).await;
                }
                None => self.load_batches(interval, None, stop).await?,
            }
        }
        Ok(())
    }

    fn excluded_until(&self) -> Option<DateTime<Utc>> {
        excluded_until(&self.options.timing.exclude, self.surroundings.clock.now())
    }

    /// Loads until `stop`, up to `until`, or until a window begins: the load in hand is finished then.
    async fn load_batches(
        &mut self,
        max_wait: Duration,
        until: Option<Positions>,
        stop: &Stop,
    ) -> Result<(), Error> {
        let begins = excluded_from(&self.options.timing.exclude, self.surroundings.clock.now());
        let Some(begins) = begins else { return self.load_all(max_wait, until, stop).await };
        let (stop, left) = (stop.child(), self.time_until(begins));
        let stopping = stop.clone();
        let loading = self.load_all(max_wait, until, &stop);
        tokio::pin!(loading);
        tokio::select! {
            loaded = &mut loading => return loaded,
            () = tokio::time::sleep(left) => stopping.trigger(),
        }
        loading.await
    }

    async fn load_all(
        &mut self,
        max_wait: Duration,
        until: Option<Positions>,
        stop: &Stop,
    ) -> Result<(), Error> {
        let max_records = self.options.timing.max_records.unwrap_or(self.limits.max_records);
        let max_bytes = self.options.timing.max_bytes.unwrap_or(self.limits.max_bytes);
        let limits = BatchLimits { max_records, max_bytes, max_wait };
        let (workspace, lane) = (self.surroundings.bus.workspace().clone(), &self.options.lane);
        match self.options.kind {
            Kind::Events => {
                let topic = EVENTS.lane(&workspace, lane);
                EventLoader::run(&mut self.session, topic, limits, until, stop).await
            }
            Kind::Records => {
                let topic = RECORDS.lane(&workspace, lane);
                RecordLoader::run(&mut self.session, &self.root, topic, limits, until, stop).await
            }
        }
    }

    /// Says what went wrong: in the health and the runs each time, in the log when it is something else than
    /// before.
    pub(crate) fn note(&mut self, error: &Error, next: NextAttempt) {
        let text = error.full();
        if let Some(runs) = &mut self.session.runs {
            runs.failed(RunError::of(error, next));
        }
        metrics::failed(&self.options.id, error);
        self.health.not_ready(format!("connection {}: {text}", self.options.id));
        if self.logged.as_ref() != Some(&text) {
            tracing::warn!(connection = %self.options.id, class = error.class(), error = text, "cannot load");
            self.logged = Some(text);
        }
    }

    fn time_until(&self, at: DateTime<Utc>) -> Duration {
        (at - self.surroundings.clock.now()).to_std().unwrap_or(Duration::ZERO)
    }
}

pub(crate) fn backoff() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(RETRY_MIN)
        .with_max_delay(RETRY_MAX)
        .with_jitter()
        .without_max_times()
        .build()
}

pub(crate) async fn pause(wait: Duration, stop: &Stop) {
    tokio::select! {
        () = tokio::time::sleep(wait) => {}
        () = stop.requested() => {}
    }
}
