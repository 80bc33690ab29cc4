//! A rebuild: the tables of a connection made anew by today's rules, without anyone seeing an empty or a half one.
//!
//! ```text
//!   load <schema>__rebuild up to where the connection is ─▶ again, as long as it gets nearer ─▶ ask it to stand back
//!     ─▶ take its lease ─▶ end what it began ─▶ load exactly to its positions ─▶ one load: replace all ─▶ forget
//! ```
//! While the connection loads on, the job follows it, as a connection of its own that begins where the tables do.
//! At last it has the connection's own lease for the time that the last of its offsets and the swap take. The swap is
//! a load of the connection, under its fence: whoever was slow is refused, and a crash leaves it done or to be done
//! by whoever loads next ([`millrace_connector::Resume::redo`]). The connection's positions, seen ids and books are
//! what they were, for its tables now have the same events.
//!
//! **What a crash leaves.** The job's positions are never above the connection's, and a swap begins when the two are
//! equal. So a swap that is done again, even one of two at once, finds the rows that it began with, and the same call
//! again only follows and swaps once more. What must not be read any more is never there: before the tables of the
//! rebuild go, it is kept that they have been swapped, or are discarded ([`Phase`]). Leases expire, so the connection goes on.

mod discard;
mod plan;
mod swap;

use std::sync::Arc;
use std::time::Duration;

use millrace_bus::Bus;
use millrace_connector::{Positions, Warehouse};
use millrace_event_model::ConnectionId;
use millrace_event_model::topics::EVENTS;
use millrace_service::{Schedule, SharedClock, Stop};
use millrace_state::{Generations, LeaseAttempt, StateError, Store};
use serde::{Deserialize, Serialize};

use super::run::{JobProgress, KEPT, LEASE, forget, never_loaded, refuse_records, take, telling};
use crate::connection::Connection;
use crate::options::Timing;
use crate::position::{self, Gap};
use crate::report::Report;
use crate::runs::NextAttempt;
use crate::service::Workshop;
use crate::start::{begin_at, tables_begin};
use crate::{ConnectionOptions, Error, Service};

/// The job's name. A connection has one rebuild at a time, and what goes on is the one that began.
pub(super) const NAME: &str = "rebuild";

/// What is asked for.
#[derive(Debug, Clone)]
pub struct RebuildRequest {
    /// Whose tables.
    pub connection: ConnectionId,
    /// Leave out what retention has taken of what the connection had loaded: its rows will be gone.
    pub accept_gap: bool,
}

/// What a rebuild came to.
#[derive(Debug, Clone, Serialize)]
pub struct RebuildOutcome {
    /// Whether it is done; else it was stopped, and goes on when it is called again.
    pub done: bool,
    /// Whether this only removed what an earlier call had left, which had put its tables in place before it died.
    pub earlier: bool,
    /// Tables that have the new rows.
    pub replaced: Vec<String>,
    /// Tables of the schema that are as they were, since today's rules make no row of them.
    pub left: Vec<String>,
    /// How far it got.
    pub progress: JobProgress,
    /// What was loaded by this call.
    pub report: Report,
}

/// What is kept of a rebuild while it is not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    phase: Phase,
    /// Where its tables begin.
    from: Positions,
}

/// How far it is. It only goes forward, but for one that is over, after which another may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Phase {
    Loading,
    /// A load that replaces tables may have begun: until it is whole, it needs the rows of the rebuild.
    Swapping,
    /// It is whole. Nothing of the rebuild is needed, and a part of it may be gone already.
    Swapped,
    /// It was discarded. A part of it may be gone already, so nothing of it can be gone on with.
    Over,
}

/// Whether there is a rebuild of a connection that is not done.
async fn is_under_way(workspace: &Store, connection: &ConnectionId) -> Result<bool, Error> {
    Ok(!workspace.list(&format!("connections/{connection}@{NAME}/job")).await?.is_empty())
}

/// Another job beside a rebuild would write to tables that are about to be replaced.
pub(super) async fn refuse_beside(workspace: &Store, connection: &ConnectionId) -> Result<(), Error> {
    if is_under_way(workspace, connection).await? {
        return Err(Error::JobState(format!(
            "connection {connection} has a rebuild that is not done: end it first (millrace rebuild), or discard it \
             (millrace rebuild --discard)"
        )));
    }
    Ok(())
}

impl Service {
    /// Makes the tables of a connection anew, or goes on with it, and tells the progress now and then.
    ///
    /// # Errors
    /// It is refused: the connection is not there or is one of records, shares its schema, has another job that is
    /// not done, or retention has taken what it had loaded; or what can go wrong with a connection.
    pub async fn rebuild(
        self,
        request: &RebuildRequest,
        tell: impl FnMut(JobProgress) + Send,
        stop: &Stop,
    ) -> Result<RebuildOutcome, Error> {
        let mut rebuild = Rebuild::open(self, request).await?;
        let LeaseAttempt::Acquired(lease) = rebuild.job.acquire_in_time(stop).await? else {
            return Err(rebuild.is_called_elsewhere());
        };
        tracing::info!(connection = %request.connection, "at work on the rebuild");
        let keeper = rebuild.job.keep(lease, false, stop);
        let held = Held { by_this_call: stop.clone(), by_its_lease: keeper.stop() };
        let done = rebuild.run(tell, &held).await;
        if let Err(error) = &done {
            rebuild.job.note(error, NextAttempt::GaveUp);
        }
        let report = rebuild.job.end(keeper).await;
        let swapped = done?;
        let done = swapped.is_some();
        if done {
            forget(&rebuild.state, &LEASE).await?;
        }
        let Swapped { earlier, replaced, left } = swapped.unwrap_or_default();
        Ok(RebuildOutcome { done, earlier, replaced, left, progress: rebuild.progress, report })
    }
}

/// Until when a process is the one that is at work on the rebuild.
struct Held {
    /// Its user has it stop.
    by_this_call: Stop,
    /// That, or the lease is lost.
    by_its_lease: Stop,
}

impl Held {
    /// Whether another process may be at work on it by now.
    fn is_lost(&self) -> bool {
        self.by_its_lease.is_requested() && !self.by_this_call.is_requested()
    }
}

/// Tables by what became of them.
#[derive(Debug, Default)]
struct Swapped {
    earlier: bool,
    replaced: Vec<String>,
    left: Vec<String>,
}

struct Rebuild {
    options: ConnectionOptions,
    /// Its tables' schema.
    schema: String,
    id: ConnectionId,
    accept_gap: bool,
    /// Behind by so many offsets or less, it does not follow any further.
    close: u64,
    bus: Bus,
    clock: SharedClock,
    lease_ttl: Duration,
    cluster: String,
    topic: String,
    /// The workspace's.
    workspace: Store,
    /// The job's.
    state: Store,
    kept: Generations<Kept>,
    /// The generation that this process saw or wrote last: whoever else goes on with the rebuild writes the next,
    /// and then this one cannot.
    number: u64,
    /// Loads `schema`.
    job: Connection,
    /// Acts as the connection itself.
    main: Connection,
    progress: JobProgress,
}

impl Rebuild {
    async fn open(service: Service, request: &RebuildRequest) -> Result<Self, Error> {
        let (workshop, mut connections) = service.workshop()?;
        let options = take(&mut connections, &request.connection)?;
        let schema = format!("{}__{NAME}", options.schema);
        refuse_records(&options)?;
        refuse_sharing(&options, &schema, &connections)?;
        let id = options.id.job(NAME).map_err(|error| Error::Job(error.to_string()))?;
        let Workshop { surroundings, store, lease_ttl, limits, .. } = &workshop;
        let close = options.timing.max_records.unwrap_or(limits.max_records) as u64;
        let bus = surroundings.bus.clone();
        let topic = EVENTS.lane(bus.workspace(), &options.lane).as_str().to_owned();
        let cluster = bus.identity(&topic).await?.cluster;
        let state = store.child("connections").child(id.as_str());
        let shadow = ConnectionOptions {
            id: id.clone(),
            schema: schema.clone(),
            schedule: Schedule::Manual,
            timing: Timing { exclude: Vec::new(), ..options.timing.clone() },
            accept_gap: request.accept_gap,
            ..options.clone()
        };
        Ok(Self {
            job: workshop.connection(shadow).modelled_on(options.schema.clone()),
            main: workshop.connection(options.clone()),
            kept: Generations::new(state.child("job")),
            number: 0,
            clock: Arc::clone(&surroundings.clock),
            workspace: store.clone(),
            lease_ttl: *lease_ttl,
            accept_gap: request.accept_gap,
            close,
            progress: JobProgress { done: 0, of: 0 },
            options,
            schema,
            id,
            bus,
            cluster,
            topic,
            state,
        })
    }

    fn warehouse(&self) -> &dyn Warehouse {
        self.options.warehouse.as_ref()
    }

    fn is_called_elsewhere(&self) -> Error {
        Error::JobState(format!(
            "another process is at work on the rebuild of connection {}",
            self.options.id
        ))
    }

    /// What became of the tables; none where it was stopped.
    async fn run(
        &mut self,
        tell: impl FnMut(JobProgress) + Send,
        held: &Held,
    ) -> Result<Option<Swapped>, Error> {
        let kept = self.begin(held).await?;
        let stop = &held.by_its_lease;
        let swapped = if kept.phase == Phase::Swapped {
            Swapped { earlier: true, ..Swapped::default() }
        } else {
            if !self.follow(&kept, tell, stop).await? {
                return Ok(None);
            }
            let Some(swapped) = self.swap(&kept, stop).await? else { return Ok(None) };
            swapped
        };
        self.remove(held).await?;
        forget(&self.state, &KEPT).await?;
        Ok(Some(swapped))
    }

    /// Removes what the warehouse has of it, unless another process is at work on it: that may be the tables of one
    /// that has begun since.
    async fn remove(&self, held: &Held) -> Result<(), Error> {
        let number = self.kept.latest().await?.map_or(0, |kept| kept.number);
        if number != self.number || held.is_lost() {
            return Err(self.is_called_elsewhere());
        }
        Ok(self.warehouse().forget(&self.id, Some(&self.schema)).await?)
    }

    /// What is kept of an earlier call, or of this one from here on.
    async fn begin(&mut self, held: &Held) -> Result<Kept, Error> {
        let latest = self.kept.latest().await?;
        self.number = latest.as_ref().map_or(0, |kept| kept.number);
        let kept = match latest.map(|kept| kept.value) {
            Some(kept) if kept.phase != Phase::Over => kept,
            discarded => {
                if discarded.is_some() {
                    // The discard died on its way.
                    self.remove(held).await?;
                    forget(&self.state, &["start"]).await?;
                }
                self.refuse_other_jobs().await?;
                let from = self.tables_begin().await?;
                let next = self.positions_of(&self.options.id, &from).await?;
                self.refuse_gap(&from, &next).await?;
                if !self.warehouse().describe(&self.schema).await?.is_empty() {
                    return Err(Error::JobState(format!(
                        "schema {:?} has tables, which are no rebuild's: remove it, for it is where one is made",
                        self.schema
                    )));
                }
                let kept = Kept { phase: Phase::Loading, from };
                self.advance(kept.phase, &kept.from).await?;
                kept
            }
        };
        if kept.phase != Phase::Swapped {
            // Now that the others see this one.
            self.refuse_other_jobs().await?;
            begin_at(&self.state, &self.cluster, &self.topic, kept.from.clone()).await?;
        }
        Ok(kept)
    }

    async fn advance(&mut self, phase: Phase, from: &Positions) -> Result<(), Error> {
        let number = self.number + 1;
        match self.kept.append(number, &Kept { phase, from: from.clone() }).await {
            Ok(()) => self.number = number,
            Err(StateError::Lost { .. }) => return Err(self.is_called_elsewhere()),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn tables_begin(&self) -> Result<Positions, Error> {
        let state = self.workspace.child("connections").child(self.options.id.as_str());
        let begin = tables_begin(&state, &self.cluster, &self.topic).await?;
        begin.ok_or_else(|| never_loaded(&self.options))
    }

    /// How far a connection got that began there.
    async fn positions_of(&self, id: &ConnectionId, began: &Positions) -> Result<Positions, Error> {
        Ok(position::complete(&self.warehouse().positions(id).await?, began))
    }

    /// What another job of the connection loads would be gone with the swap, or half there.
    async fn refuse_other_jobs(&self) -> Result<(), Error> {
        let of_connection = format!("{}@", self.options.id);
        for name in self.workspace.folders("connections").await? {
            let is_other = name.starts_with(&of_connection) && name != self.id.as_str();
            if is_other && !self.workspace.list(&format!("connections/{name}/job")).await?.is_empty() {
                let job = name.strip_prefix(&of_connection).unwrap_or(&name);
                return Err(Error::JobState(format!(
                    "connection {} has a job {job:?} that is not done: end it first, with --resume {job}",
                    self.options.id
                )));
            }
        }
        Ok(())
    }

    async fn refuse_gap(&self, from: &Positions, next: &Positions) -> Result<(), Error> {
        let loaded =
            from.iter().filter(|(partition, from)| next.get(partition).is_some_and(|next| next > from));
        let loaded = loaded.map(|(partition, from)| (*partition, *from)).collect();
        let watermarks = self.bus.watermarks(&self.topic).await?;
        match Gap::before(&self.topic, &loaded, &watermarks) {
            Some(gap) if !self.accept_gap => Err(self.gap(&gap)),
            _ => Ok(()),
        }
    }

    fn gap(&self, gap: &Gap) -> Error {
        Error::JobState(format!(
            "{gap}; rows of up to {} items that are in the tables of schema {} now would be missing from the rebuild; \
             --accept-gap makes it without them",
            gap.items(),
            self.options.schema
        ))
    }

    /// Loads what the connection has loaded, and again what it has loaded meanwhile, until that is one load or does
    /// not become less. Says whether it was not stopped.
    async fn follow(
        &mut self,
        kept: &Kept,
        mut tell: impl FnMut(JobProgress) + Send,
        stop: &Stop,
    ) -> Result<bool, Error> {
        let mut before = u64::MAX;
        let mut at = self.positions_of(&self.id, &kept.from).await?;
        loop {
            let until = self.positions_of(&self.options.id, &kept.from).await?;
            self.progress = progress(&kept.from, &at, &until);
            let behind = self.progress.of - self.progress.done;
            if behind <= self.close || behind > before / 2 {
                return Ok(true);
            }
            before = behind;
            let positions = self.job.progress();
            let loading = self.job.load_up_to(until.clone(), stop);
            let tell_of = |at: &Positions| progress(&kept.from, at, &until);
            at = match telling(loading, || tell(tell_of(&positions.borrow()))).await {
                Ok(at) => at,
                Err(Error::Gap(gap)) => return Err(self.gap(&gap)),
                Err(error) => return Err(error),
            };
            self.progress = tell_of(&at);
            tell(self.progress);
            if stop.is_requested() {
                return Ok(false);
            }
        }
    }
}

/// Two that load one table cannot have it made anew from what one of them has read.
fn refuse_sharing(
    options: &ConnectionOptions,
    schema: &str,
    others: &[ConnectionOptions],
) -> Result<(), Error> {
    if !options.warehouse.replaces() {
        return Err(Error::Job(format!(
            "the warehouse of connection {} only adds rows: its tables cannot be made anew",
            options.id
        )));
    }
    for other in others.iter().filter(|other| Arc::ptr_eq(&other.warehouse, &options.warehouse)) {
        if other.schema == options.schema || other.schema == schema {
            return Err(Error::Job(format!(
                "connection {} loads into schema {:?} of the same warehouse: the rebuild of {} would take its rows away",
                other.id, other.schema, options.id
            )));
        }
    }
    Ok(())
}

fn progress(from: &Positions, at: &Positions, until: &Positions) -> JobProgress {
    let offsets = |to: &Positions| {
        let of = |(partition, from): (&i32, &i64)| {
            let end = until.get(partition).copied().unwrap_or(*from);
            let to = to.get(partition).copied().unwrap_or(*from).min(end);
            u64::try_from(to - from).unwrap_or(0)
        };
        from.iter().map(of).sum()
    };
    JobProgress { done: offsets(at), of: offsets(until) }
}
