//! One connection's life: get the lease, load under its epoch, and after an error decide what next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use chrono::{DateTime, Utc};
use millrace_bus::BatchLimits;
use millrace_connector::{Positions, Replacement, SchemaChange};
use millrace_event_model::topics::{EVENTS, RECORDS};
use millrace_event_model::{ConnectionId, Disposition};
use millrace_service::{HealthHandle, Schedule, Stop, excluded_from, excluded_until};
use millrace_state::{Lease, LeaseAttempt, RunLog, Store};
use tokio::sync::watch;

use crate::error::NextStep;
use crate::events::EventLoader;
use crate::jobs::Bound;
use crate::keeper::Keeper;
use crate::options::{Kind, LoadLimits};
use crate::records::RecordLoader;
use crate::runs::{About, NextAttempt, RunError, RunId, RunRecord, Runs, run_log};
use crate::session::{Session, Surroundings, Totals};
use crate::stand_back::StandBack;
use crate::{ConnectionOptions, Error, metrics};

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

/// How long a load that has a target waits for more before it takes what there is.
const TARGETED_WAIT: Duration = Duration::from_millis(500);

/// Errors in a row after which `load --once` gives up.
pub(crate) const ONCE_ATTEMPTS: usize = 5;

/// What a connection loaded in one run.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Which.
    pub connection: ConnectionId,
    /// Items whose rows are in the warehouse.
    pub loaded: u64,
    /// Items that were there already.
    pub duplicates: u64,
    /// Items in the dead letters.
    pub rejected: u64,
    /// Items that the connection's `when` left out.
    pub filtered: u64,
    /// Rows of attempts that a newer one replaced.
    pub superseded: u64,
    /// Items that retention took.
    pub expired: u64,
    /// Loads that were committed.
    pub batches: u64,
    /// Statements that were sent, or commits that were made; 0 where the warehouse does not count them.
    pub statements: u64,
    /// Bytes of rows, in the warehouse's form; 0 where the warehouse does not count them.
    pub bytes: u64,
    /// Nothing was loaded because a window excludes it, until then.
    pub excluded_until: Option<DateTime<Utc>>,
    /// The run in the log; none where there was nothing to load.
    pub run: Option<RunId>,
    /// Rows by table.
    pub tables: BTreeMap<String, u64>,
}

impl Report {
    fn of(connection: &ConnectionId, totals: &Totals, run: Option<RunId>) -> Self {
        let total = |disposition| totals.books.total(disposition);
        Self {
            connection: connection.clone(),
            loaded: total(Disposition::Loaded),
            duplicates: total(Disposition::Duplicate),
            rejected: total(Disposition::Rejected),
            filtered: total(Disposition::Filtered),
            superseded: total(Disposition::Superseded),
            expired: total(Disposition::Expired),
            batches: totals.batches,
            statements: totals.report.statements,
            bytes: totals.report.bytes,
            excluded_until: None,
            run,
            tables: totals.rows.clone(),
        }
    }
}

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
        while !stop.is_requested() {
            let wait = match self.acquire().await {
                Ok(LeaseAttempt::Acquired(lease)) => self.hold(lease, &stop).await,
                Ok(LeaseAttempt::Held { holder, until }) => {
                    tracing::debug!(connection = %self.options.id, holder, "standing by");
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
    pub(crate) async fn load_once(mut self, stop: Stop) -> Result<Report, Error> {
        if let Some(end) = self.excluded_until() {
            let report = Report::of(&self.options.id, self.session.totals(), None);
            return Ok(Report { excluded_until: Some(end), ..report });
        }
        let lease = match self.acquire().await? {
            LeaseAttempt::Acquired(lease) => lease,
            LeaseAttempt::Held { holder, .. } => {
                return Err(Error::Held { connection: self.options.id.clone(), holder });
            }
        };
        let keeper = self.keep(lease, false, &stop);
        let loaded = self.load_with_retries(&keeper.stop()).await;
        if let Err(error) = &loaded {
            self.note(error, NextAttempt::GaveUp);
        }
        let report = self.end(keeper).await;
        loaded.map(|()| report)
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
        if let Some(bound) = &self.session.bound {
            let target = bound.until.clone();
            return self.load_batches(TARGETED_WAIT, Some(target), stop).await;
        }
        let watermarks = self.surroundings.bus.watermarks(&self.session.topic).await?;
        let target = watermarks.into_iter().map(|(partition, (_, high))| (partition, high)).collect();
        self.load_batches(TARGETED_WAIT, Some(target), stop).await
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
