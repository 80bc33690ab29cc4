//! A job from its request to its end.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use millrace_bus::{Bus, Positions};
use millrace_event_model::ConnectionId;
use millrace_event_model::topics::EVENTS;
use millrace_service::{Schedule, Stop};
use millrace_state::{Generations, StateError, Store};
use serde::{Deserialize, Serialize};

use super::range::{Bound, JobRange, Known};
use super::rebuild;
use crate::options::{Kind, Timing};
use crate::report::Report;
use crate::runs::JobKind;
use crate::start::{begin_at, begins_as_early_as, begun};
use crate::{ConnectionOptions, Error, RowMode, Service};

/// The clocks of ingest and of Kafka may be so far apart. What is read outside of a job's time is passed over.
const SKEW: TimeDelta = TimeDelta::minutes(10);

/// How often the progress is told.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// The one generation: a job's range is resolved once.
const ONLY: u64 = 1;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct JobRequest {
    /// The job's name: the same again goes on where it stopped.
    pub name: String,
    /// What to do.
    pub kind: JobKind,
    /// On which connection.
    pub connection: ConnectionId,
    /// From and until when, by the server's received-at; none to go on with a job that has begun.
    pub time: Option<Range<DateTime<Utc>>>,
}

/// How far a job got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct JobProgress {
    /// Offsets that are passed.
    pub done: u64,
    /// Of so many.
    pub of: u64,
}

/// What a job came to.
#[derive(Debug, Clone, Serialize)]
pub struct JobOutcome {
    /// Its name.
    pub job: String,
    /// What it did.
    pub kind: JobKind,
    /// Whether it is done; else it was stopped, and goes on when it is called again.
    pub done: bool,
    /// Retention had taken a part of the time before the job began.
    pub cut: bool,
    /// How far it got.
    pub progress: JobProgress,
    /// What was loaded by this call.
    pub report: Report,
}

/// What is kept of a job while it is not done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Kept {
    kind: JobKind,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    range: JobRange,
}

impl Service {
    /// Does a job, or goes on with it, and tells the progress now and then.
    ///
    /// # Errors
    /// The connection is not there or is one of records, or a job of this name is about another range; or what can
    /// go wrong with a connection.
    pub async fn run_job(
        self,
        request: &JobRequest,
        mut tell: impl FnMut(JobProgress) + Send,
        stop: &Stop,
    ) -> Result<JobOutcome, Error> {
        let (workshop, mut connections) = self.workshop()?;
        let connection = take(&mut connections, &request.connection)?;
        refuse_records(&connection)?;
        if request.name == rebuild::NAME {
            return Err(Error::Job(format!(
                "a {0:?} is a job of its own: choose another name",
                request.name
            )));
        }
        let id = connection.id.job(&request.name).map_err(|error| Error::Job(error.to_string()))?;
        let (bus, workspace) = (&workshop.surroundings.bus, &workshop.store);
        rebuild::refuse_beside(workspace, &connection.id).await?;
        let state = workspace.child("connections").child(id.as_str());
        let kept = keep(bus, workspace, &state, &connection, request).await?;
        // Again, now that a rebuild sees this one.
        rebuild::refuse_beside(workspace, &connection.id).await?;
        let range = kept.range.clone();
        let warehouse = Arc::clone(&connection.warehouse);
        let bound = Bound { until: range.until.clone(), received: kept.from..kept.to };
        let topic = EVENTS.lane(bus.workspace(), &connection.lane).as_str().to_owned();
        let of_connection = workspace.child("connections").child(connection.id.as_str());
        let job = workshop.connection(as_job(connection, id.clone())).within(bound);
        let positions = job.progress();
        let progress =
            |positions: &Positions| JobProgress { done: range.done(positions), of: range.offsets() };
        let report = telling(job.load_job(stop.clone()), || tell(progress(&positions.borrow()))).await?;
        let progress = progress(&positions.borrow());
        tell(progress);
        let done = progress.done == progress.of;
        if done {
            if request.kind == JobKind::Backfill {
                let cluster = bus.identity(&topic).await?.cluster;
                begins_as_early_as(&of_connection, &cluster, &topic, &range.from).await?;
            }
            warehouse.forget(&id, None).await?;
            forget(&state, &KEPT).await?;
            forget(&state, &LEASE).await?;
        }
        let (job, kind, cut) = (request.name.clone(), request.kind, range.cut);
        Ok(JobOutcome { job, kind, done, cut, progress, report })
    }
}

/// Takes a connection's options out.
pub(super) fn take(
    connections: &mut Vec<ConnectionOptions>,
    id: &ConnectionId,
) -> Result<ConnectionOptions, Error> {
    let found = connections.iter().position(|connection| connection.id == *id);
    let index = found.ok_or_else(|| Error::UnknownConnection(id.clone()))?;
    Ok(connections.swap_remove(index))
}

pub(super) fn refuse_records(connection: &ConnectionOptions) -> Result<(), Error> {
    if connection.kind == Kind::Events {
        return Ok(());
    }
    Err(Error::Job(format!(
        "connection {} has records of an ELT source, which is read again from the source: reset its state",
        connection.id
    )))
}

/// Awaits some work, and tells now and then.
pub(super) async fn telling<T>(work: impl Future<Output = T>, mut tell: impl FnMut()) -> T {
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(TOLD_EVERY) => tell(),
        }
    }
}

/// The connection as the job loads it: whatever the clock says, and so that nothing is doubled.
fn as_job(connection: ConnectionOptions, id: ConnectionId) -> ConnectionOptions {
    ConnectionOptions {
        id,
        mode: RowMode::Merge,
        dedup: true,
        schedule: Schedule::Manual,
        timing: Timing { exclude: Vec::new(), ..connection.timing },
        ..connection
    }
}

/// The job's range: that of its first call, or resolved now and kept.
async fn keep(
    bus: &Bus,
    workspace: &Store,
    state: &Store,
    connection: &ConnectionOptions,
    request: &JobRequest,
) -> Result<Kept, Error> {
    let jobs = Generations::<Kept>::new(state.child("job"));
    let topic = EVENTS.lane(bus.workspace(), &connection.lane).as_str().to_owned();
    let cluster = bus.identity(&topic).await?.cluster;
    let kept = match (jobs.latest().await?, &request.time) {
        (Some(kept), _) => kept.value,
        (None, Some(time)) => {
            let resolved =
                resolve(bus, workspace, connection, (request.kind, time), &topic, &cluster).await?;
            match jobs.append(ONLY, &resolved).await {
                Ok(()) => resolved,
                Err(StateError::Lost { .. }) => jobs.latest().await?.map_or(resolved, |first| first.value),
                Err(error) => return Err(error.into()),
            }
        }
        (None, None) => {
            return Err(Error::Job(format!(
                "connection {} has no job {:?} that is not done",
                connection.id, request.name
            )));
        }
    };
    let is_other = request.time.as_ref().is_some_and(|time| (kept.from..kept.to) != *time);
    if kept.kind != request.kind || is_other {
        let kind = serde_json::to_value(kept.kind).unwrap_or_default();
        return Err(Error::Job(format!(
            "job {:?} of connection {} is a {} from {} to {} that is not done: go on with it, or choose another name",
            request.name,
            connection.id,
            kind.as_str().unwrap_or_default(),
            kept.from.to_rfc3339(),
            kept.to.to_rfc3339()
        )));
    }
    begin_at(state, &cluster, &topic, kept.range.from.clone()).await?;
    Ok(kept)
}

async fn resolve(
    bus: &Bus,
    workspace: &Store,
    connection: &ConnectionOptions,
    (kind, time): (JobKind, &Range<DateTime<Utc>>),
    topic: &str,
    cluster: &str,
) -> Result<Kept, Error> {
    let of_connection = workspace.child("connections").child(connection.id.as_str());
    let began = begun(&of_connection, cluster, topic).await?.ok_or_else(|| never_loaded(connection))?;
    // Before the watermarks: what is loaded meanwhile is not the job's.
    let next = crate::position::complete(&connection.warehouse.positions(&connection.id).await?, &began);
    let first = bus.offsets_at(topic, time.start - SKEW).await?;
    let watermarks = bus.watermarks(topic).await?;
    let known = Known { watermarks: &watermarks, first: &first, began: &began, next: &next };
    let range = JobRange::of(kind, &known);
    Ok(Kept { kind, from: time.start, to: time.end, range })
}

pub(super) fn never_loaded(connection: &ConnectionOptions) -> Error {
    Error::Job(format!(
        "connection {} has never loaded: start it first, and it says where it begins",
        connection.id
    ))
}

/// What the state keeps of a job that is not done. The job itself goes last: whoever calls it again after a crash in
/// between does it again.
pub(super) const KEPT: [&str; 2] = ["start", "job"];

/// What is left when that is gone and nobody holds it.
pub(super) const LEASE: [&str; 1] = ["lease"];

/// Removes parts of what the state keeps of a job.
pub(super) async fn forget(state: &Store, parts: &[&str]) -> Result<(), Error> {
    for part in parts {
        for path in state.list(part).await? {
            state.delete(&path).await?;
        }
    }
    Ok(())
}
