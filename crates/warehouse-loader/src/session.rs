//! One connection under one epoch: how far it got, and how a batch becomes durable.
//!
//! ```text
//!   resume ─▶ poll ─▶ parse ─▶ stage ────────────────────────────▶ commit
//!              ▲        │       dead letters, plan, schema changes    rows, seen ids, counts, positions
//!              └────────┴──────────── meanwhile ◀─────────────────────┘
//! ```
//! While a load is committed ([`Flight`]), the next one is read and staged: at most one ahead, and it is committed
//! when the one before it has ended. Schema changes wait for the load in flight: it has locks on its tables.
//!
//! Whatever a crash leaves behind, [`Session::resume`] asks the warehouse, which alone knows: a batch is
//! either in the tables with its positions or it is done again. After an error all that was staged ahead is
//! thrown away. Before `commit` nothing has happened but dead letters, whose ids are stable, and schema changes,
//! which are harmless to repeat. The crash points `before-` and `after-poll`, `-parse`, `-stage`, `-ddl` and
//! `-commit` are where the kill test proves it; the warehouses have more.

mod schema;

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use millrace_bus::{Bus, Publisher, Start};
use millrace_connector::{
    KafkaIdentity, Load, LoadReport, OffsetRange, Positions, SeenId, Swap, TableName, TableSchemas,
};
use millrace_event_model::topics::DEAD_LETTERS;
use millrace_event_model::{DeadLetter, Disposition};
use millrace_service::{HealthHandle, SharedClock, crash_point};
use millrace_state::Store;
use tokio::sync::watch;

use crate::books::Books;
use crate::dedup::DistinctIds;
use crate::flight::{Flight, Landed};
use crate::jobs::Bound;
use crate::metrics;
use crate::position::{self, Gap};
use crate::runs::{Loaded, Runs};
use crate::start::first_positions;
use crate::{ConnectionOptions, Error, RowsByTable, Stamp};

/// Offsets of other sources that are passed over before their positions are committed without rows: longer,
/// and a restart would read too much of the lane again.
const CARRY_OFFSETS: i64 = 100_000;

/// How long they may be carried: retention must not come near a position because its source is silent.
const CARRY_FOR: TimeDelta = TimeDelta::minutes(10);

/// What all connections of a process share.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) bus: Bus,
    pub(crate) publisher: Publisher,
    pub(crate) clock: SharedClock,
}

/// What the loop around a session needs to know, whatever it loads.
pub(crate) struct Session {
    pub(crate) connection: Arc<ConnectionOptions>,
    pub(crate) bus: Bus,
    pub(crate) topic: String,
    pub(crate) clock: SharedClock,
    publisher: Publisher,
    state: Store,
    epoch: u64,
    /// The tables as they were last seen. Only ever too old: then columns are made that are there.
    tables: Option<Arc<TableSchemas>>,
    /// Everything below is durable.
    durable: Positions,
    /// The load that is being committed.
    flight: Option<Flight>,
    /// Ranges behind those that held nothing of this connection's, and since when they wait for a load.
    carried: Option<(Vec<OffsetRange>, DateTime<Utc>)>,
    /// What was last said on the audit topic, so that a repetition is not said again.
    announced: Vec<String>,
    progress: watch::Sender<Positions>,
    totals: Totals,
    /// While the connection holds its lease.
    pub(crate) runs: Option<Runs>,
    /// Of a job: what it must not go beyond.
    pub(crate) bound: Option<Bound>,
    /// Of a rebuild: the schema whose tables those of this one will replace.
    pub(crate) model: Option<String>,
    health: HealthHandle,
    /// A load has failed and not succeeded since: being able to resume does not make it ready.
    unfinished: bool,
    /// Since when the oldest item in hand has been waiting.
    waiting_since: Option<DateTime<Utc>>,
}

/// What a session has done, for `load --once`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Totals {
    pub(crate) books: Books,
    pub(crate) batches: u64,
    pub(crate) rows: BTreeMap<String, u64>,
    pub(crate) report: LoadReport,
}

impl Totals {
    fn add(&mut self, landed: Landed) {
        self.batches += 1;
        self.report.statements += landed.report.statements;
        self.report.bytes += landed.report.bytes;
        self.books.add(landed.books);
        for (table, rows) in landed.size.rows {
            *self.rows.entry(table).or_default() += rows;
        }
    }
}

/// Where a session goes on.
#[derive(Debug)]
pub(crate) struct Resumed {
    /// Before `redo`, where there is one.
    pub(crate) positions: Positions,
    /// A load that is to be done again first.
    pub(crate) redo: Option<Redo>,
}

/// A load to be done again.
#[derive(Debug)]
pub(crate) struct Redo {
    /// Its ranges.
    pub(crate) ranges: Vec<OffsetRange>,
    /// The part of them that can still be read.
    pub(crate) readable: Vec<OffsetRange>,
    /// How many offsets cannot.
    pub(crate) expired: u64,
}

/// A batch whose items were judged and mapped: all that a load is made of.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    pub(crate) ranges: Vec<OffsetRange>,
    pub(crate) rows: RowsByTable,
    pub(crate) seen: Vec<SeenId>,
    pub(crate) books: Books,
    pub(crate) dead_letters: Vec<DeadLetter>,
    /// Values of records that did not fit their columns: null there, and told in `_meta`.
    pub(crate) nulled: u64,
    /// Tables and generations.
    pub(crate) swaps: Vec<(String, u64)>,
}

impl Prepared {
    /// Whether there is nothing in it of this connection's.
    fn is_void(&self) -> bool {
        self.rows.is_empty() && self.books.is_empty() && self.dead_letters.is_empty() && self.swaps.is_empty()
    }
}

/// A load that only has to be committed.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) load: Load,
    pub(crate) books: Books,
    /// How many of its values and rows are discards.
    pub(crate) discarded: u64,
}

impl Session {
    /// A session that has not begun: [`Self::begin`] it under an epoch.
    pub(crate) fn new(
        connection: Arc<ConnectionOptions>,
        topic: String,
        surroundings: &Surroundings,
        state: Store,
        health: HealthHandle,
    ) -> Self {
        Self {
            connection,
            bus: surroundings.bus.clone(),
            topic,
            clock: surroundings.clock.clone(),
            publisher: surroundings.publisher.clone(),
            state,
            epoch: 0,
            tables: None,
            durable: Positions::new(),
            flight: None,
            carried: None,
            announced: Vec::new(),
            progress: watch::Sender::new(Positions::new()),
            totals: Totals::default(),
            runs: None,
            bound: None,
            model: None,
            health,
            unfinished: false,
            waiting_since: None,
        }
    }

    /// Acts under this epoch from here on.
    pub(crate) fn begin(&mut self, epoch: u64) {
        self.epoch = epoch;
    }

    /// Takes over from whoever loaded before, this process included: raises the fence, and finds out how
    /// far the connection got. Passes over a gap where the connection accepts gaps.
    pub(crate) async fn resume(&mut self) -> Result<Resumed, Error> {
        // Nothing of ours may still be under way when the warehouse is asked how far we got.
        self.abandon().await;
        self.carried = None;
        self.tables = None;
        let identity = self.bus.identity(&self.topic).await?;
        // The client cannot tell Kafka's topic id (see `millrace_bus::Identity`): the name stands in.
        let kafka = KafkaIdentity {
            cluster: identity.cluster.clone(),
            topic: identity.topic.clone(),
            topic_id: identity.topic,
        };
        let warehouse = &self.connection.warehouse;
        let resume = warehouse.resume(&self.connection.id, self.epoch, &kafka).await?;
        let watermarks = self.bus.watermarks(&self.topic).await?;
        let began = match watermarks.keys().all(|partition| resume.positions.contains_key(partition)) {
            true => Positions::new(),
            false => self.first_positions(&kafka).await?,
        };
        let positions = position::complete(&resume.positions, &began);
        self.durable.clone_from(&positions);
        self.progress.send_replace(positions.clone());
        if !self.unfinished {
            self.health.ready();
        }
        tracing::info!(
            connection = %self.connection.id, epoch = self.epoch, redo = resume.redo.is_some(), "resumed"
        );
        if let Some(ranges) = resume.redo {
            let gap = Gap::within(&self.topic, &ranges, &watermarks);
            let readable = gap.as_ref().map_or_else(|| ranges.clone(), |gap| gap.cut_from(&ranges));
            let expired = gap.map(|gap| self.accept(gap)).transpose()?.map_or(0, |gap| gap.items());
            let redo = Redo { ranges, readable, expired };
            return Ok(Resumed { positions, redo: Some(redo) });
        }
        if let Some(gap) = Gap::before(&self.topic, &positions, &watermarks) {
            self.pass_over(gap).await?;
        }
        Ok(Resumed { positions: self.taken(), redo: None })
    }

    async fn first_positions(&self, kafka: &KafkaIdentity) -> Result<Positions, Error> {
        let start: Start = self.connection.start;
        first_positions(&self.state, &self.bus, kafka, start).await
    }

    fn accept(&self, gap: Gap) -> Result<Gap, Error> {
        if !self.connection.accept_gap {
            return Err(Error::Gap(gap));
        }
        tracing::warn!(connection = %self.connection.id, %gap, "going on behind a gap");
        Ok(gap)
    }

    /// A load without rows that moves the positions behind the gap, and counts what is gone: by now, since
    /// nobody can tell any more when it was received.
    async fn pass_over(&mut self, gap: Gap) -> Result<(), Error> {
        let gap = self.accept(gap)?;
        let mut books = Books::default();
        books.count_many(&self.connection.source, self.clock.now(), Disposition::Expired, gap.items());
        let staged = self.stage(Prepared { ranges: gap.ranges, books, ..Prepared::default() }).await?;
        self.commit(staged).await?;
        self.settle().await
    }

    /// What is known of these ids: the content that each was loaded with, or is being loaded with, in their order. The
    /// warehouse may or may not tell of the load in flight already; it makes no difference.
    pub(crate) async fn seen(&self, ids: &DistinctIds) -> Result<Vec<Option<u64>>, Error> {
        if ids.in_order.is_empty() {
            return Ok(Vec::new());
        }
        let now = self.clock.now();
        let mut seen = self.connection.warehouse.seen(&self.connection.id, &ids.in_order, now).await?;
        // Whatever it answers: repeats within a batch and of the load in flight are found here.
        seen.resize(ids.in_order.len(), None);
        for loading in self.flight.iter().flat_map(Flight::seen) {
            if let Some(known) = ids.place(loading.id).and_then(|place| seen.get_mut(place)) {
                *known = Some(loading.content);
            }
        }
        Ok(seen)
    }

    /// As [`Self::stage`], but where there is nothing in the batch its ranges are carried to the next load: no
    /// statement is sent for what concerns others.
    pub(crate) async fn stage_or_carry(&mut self, prepared: Prepared) -> Result<Option<Staged>, Error> {
        if prepared.is_void() {
            let now = self.clock.now();
            let (carried, since) = self.carried.get_or_insert_with(|| (Vec::new(), now));
            position::extend(carried, &prepared.ranges);
            let offsets: i64 = carried.iter().map(|range| range.end - range.start).sum();
            if offsets < CARRY_OFFSETS && !is_due(*since, now) {
                self.progress.send_replace(self.taken());
                // What waited was not ours.
                self.note_oldest(None);
                return Ok(None);
            }
            return self.stage(Prepared::default()).await.map(Some);
        }
        self.stage(prepared).await.map(Some)
    }

    /// Where a lane has fallen silent nothing comes that they could be committed with.
    pub(crate) async fn commit_what_was_carried_too_long(&mut self) -> Result<(), Error> {
        match &self.carried {
            Some((_, since)) if is_due(*since, self.clock.now()) => {}
            _ => return Ok(()),
        }
        let staged = self.stage(Prepared::default()).await?;
        self.commit(staged).await
    }

    /// Ends a round of loading: what is on its way has ended, and what was only carried is durable.
    pub(crate) async fn finish(&mut self) -> Result<(), Error> {
        if self.carried.is_some() {
            let staged = self.stage(Prepared::default()).await?;
            self.commit(staged).await?;
        }
        self.settle().await
    }

    /// Makes everything ready: dead letters are stored, tables and columns are there, rows are Arrow.
    pub(crate) async fn stage(&mut self, prepared: Prepared) -> Result<Staged, Error> {
        crash_point("before-stage");
        self.unfinished = true;
        self.publish(&prepared.dead_letters).await?;
        let at = self.clock.now();
        let stamp = Stamp::new(at, self.connection.warehouse.dialect());
        let plan = self.plan(prepared.rows, stamp).await?;
        let name = |table| TableName { schema: self.connection.schema.clone(), table };
        let discarded = plan.discarded;
        let tables = plan.into_table_loads(&self.connection.schema);
        // Where the contract makes no table its rows are discards, and there is nothing to replace.
        let is_there = |table: &String| self.tables.as_ref().is_none_or(|tables| tables.contains_key(table));
        let swaps = prepared
            .swaps
            .into_iter()
            .filter(|(table, _)| is_there(table))
            .map(|(table, generation)| Swap { name: name(table), generation })
            .collect();
        let mut ranges = self.carried.take().map_or_else(Vec::new, |(ranges, _)| ranges);
        position::extend(&mut ranges, &prepared.ranges);
        let load = Load {
            connection: self.connection.id.clone(),
            epoch: self.epoch,
            ranges,
            tables,
            seen: prepared.seen,
            counts: prepared.books.lines(),
            swaps,
            replacements: Vec::new(),
            at: stamp.at,
        };
        crash_point("after-stage");
        Ok(Staged { load, books: prepared.books, discarded })
    }

    /// Begins to make it durable, once the load before it has ended. [`Self::settle`] waits for its end.
    pub(crate) async fn commit(&mut self, staged: Staged) -> Result<(), Error> {
        self.settle().await?;
        // Only now: while it waits for the load before, that one is the run's.
        if let Some(runs) = &mut self.runs {
            runs.begin();
        }
        // The load before has landed, and this one is in hand still.
        self.note_oldest(self.waiting_since);
        self.unfinished = true;
        let next = position::after(&self.durable, &staged.load.ranges);
        crash_point("before-commit");
        let warehouse = Arc::clone(&self.connection.warehouse);
        self.flight = Some(Flight::start(warehouse, staged, next, self.clock.now()));
        Ok(())
    }

    /// Waits for the load that is on its way, if one is. Dropped before its end, it can be called again.
    pub(crate) async fn settle(&mut self) -> Result<(), Error> {
        let Some(flight) = &mut self.flight else { return Ok(()) };
        let report = flight.ended().await;
        let Some(flight) = self.flight.take() else { return Ok(()) };
        let landed = flight.land(report?, self.clock.now());
        crash_point("after-commit");
        self.durable.clone_from(&landed.positions);
        self.progress.send_replace(self.taken());
        tracing::debug!(
            connection = %self.connection.id,
            statements = landed.report.statements,
            bytes = landed.report.bytes,
            milliseconds = (landed.at - landed.began).num_milliseconds(),
            "loaded"
        );
        metrics::loaded(&landed.size, &landed.books, landed.at);
        metrics::discarded(&self.connection.id, landed.discarded);
        metrics::oldest(&self.connection.id, 0.0);
        if let Some(runs) = &mut self.runs {
            runs.loaded(Loaded::new(landed.ranges.clone(), &landed.size.rows, &landed.books, landed.report));
        }
        self.totals.add(landed);
        self.unfinished = false;
        self.health.ready();
        Ok(())
    }

    /// Waits for the load that is on its way, whatever becomes of it: the warehouse will be asked.
    pub(crate) async fn abandon(&mut self) {
        if let Err(error) = self.settle().await {
            tracing::debug!(connection = %self.connection.id, error = error.full(), "a load ended with an error");
        }
    }

    /// How far everything was taken in: it is durable, on its way, or passed over.
    pub(crate) fn taken(&self) -> Positions {
        let positions = self.flight.as_ref().map_or(&self.durable, Flight::positions);
        match &self.carried {
            Some((carried, _)) => position::after(positions, carried),
            None => positions.clone(),
        }
    }

    /// How far the connection got, for who watches it.
    pub(crate) fn progress(&self) -> watch::Receiver<Positions> {
        self.progress.subscribe()
    }

    pub(crate) fn totals(&self) -> &Totals {
        &self.totals
    }

    /// How long the oldest item of the batch in hand has been waiting.
    pub(crate) fn note_oldest(&mut self, appended_at: Option<DateTime<Utc>>) {
        self.waiting_since = appended_at;
        let waited = appended_at.map_or(0, |at| (self.clock.now() - at).num_milliseconds());
        metrics::oldest(&self.connection.id, waited as f64 / 1_000.0);
    }

    async fn publish(&self, dead_letters: &[DeadLetter]) -> Result<(), Error> {
        if dead_letters.is_empty() {
            return Ok(());
        }
        let topic = DEAD_LETTERS.of(self.bus.workspace());
        let acked = self.publisher.publish(&topic, dead_letters).await?;
        tracing::warn!(connection = %self.connection.id, items = acked.count(), "rejected to the dead letters");
        Ok(())
    }
}

fn is_due(since: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    now - since >= CARRY_FOR
}
