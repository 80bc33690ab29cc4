//! One connection under one epoch: how far it got, and how a batch becomes durable.
//!
//! ```text
//!   resume ─▶ poll ─▶ stage ─────────────────────────────▶ commit ─▶ poll ─▶ …
//!                      dead letters, plan, schema changes    rows, seen ids, counts, positions
//! ```
//! Whatever a crash leaves behind, [`Session::resume`] asks the warehouse, which alone knows: a batch is
//! either in the tables with its positions or it is done again. Before `commit` nothing has happened but
//! dead letters, whose ids are stable, and schema changes, which are harmless to repeat. The crash points
//! `before-` and `after-poll`, `-stage` and `-commit` are where the kill test proves it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use millrace_bus::{Bus, Publisher, Start};
use millrace_columnar::batch_of;
use millrace_connector::{
    KafkaIdentity, Load, LoadReport, OffsetRange, Positions, SeenId, Swap, TableLoad, TableName, TableSchemas,
};
use millrace_event_model::topics::DEAD_LETTERS;
use millrace_event_model::{DeadLetter, Disposition};
use millrace_service::{HealthHandle, SharedClock, crash_point};
use millrace_state::Store;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use crate::books::Books;
use crate::dedup::distinct_ids;
use crate::metrics::{self, LoadSize};
use crate::position::{self, Gap};
use crate::runs::{Loaded, Runs};
use crate::start::first_positions;
use crate::{ConnectionOptions, Error, Plan, RowsByTable, Stamp, plan};

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
    progress: watch::Sender<Positions>,
    totals: Totals,
    /// While the connection holds its lease.
    pub(crate) runs: Option<Runs>,
    health: HealthHandle,
    /// A load has failed and not succeeded since: being able to resume does not make it ready.
    unfinished: bool,
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
    fn add(&mut self, size: LoadSize, books: Books, report: LoadReport) {
        self.batches += 1;
        self.report.statements += report.statements;
        self.report.bytes += report.bytes;
        self.books.add(books);
        for (table, rows) in size.rows {
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
    /// Tables and generations.
    pub(crate) swaps: Vec<(String, u64)>,
}

/// A load that only has to be committed.
#[derive(Debug)]
pub(crate) struct Staged {
    load: Load,
    books: Books,
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
            progress: watch::Sender::new(Positions::new()),
            totals: Totals::default(),
            runs: None,
            health,
            unfinished: false,
        }
    }

    /// Acts under this epoch from here on.
    pub(crate) fn begin(&mut self, epoch: u64) {
        self.epoch = epoch;
    }

    /// Takes over from whoever loaded before, this process included: raises the fence, and finds out how
    /// far the connection got. Passes over a gap where the connection accepts gaps.
    pub(crate) async fn resume(&mut self) -> Result<Resumed, Error> {
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
        Ok(Resumed { positions: self.positions(), redo: None })
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
        self.commit(staged).await
    }

    /// What the warehouse knows of these messages: the content that each id was loaded with.
    pub(crate) async fn seen(&self, messages: &[SeenId]) -> Result<HashMap<u128, u64>, Error> {
        if messages.is_empty() {
            return Ok(HashMap::new());
        }
        let ids = distinct_ids(messages);
        let seen = self.connection.warehouse.seen(&self.connection.id, &ids, self.clock.now()).await?;
        Ok(ids.into_iter().zip(seen).filter_map(|(id, content)| Some((id, content?))).collect())
    }

    /// Makes everything ready: dead letters are stored, tables and columns are there, rows are Arrow.
    pub(crate) async fn stage(&mut self, prepared: Prepared) -> Result<Staged, Error> {
        crash_point("before-stage");
        self.unfinished = true;
        if let Some(runs) = &mut self.runs {
            runs.begin();
        }
        self.publish(&prepared.dead_letters).await?;
        let at = self.clock.now();
        let stamp = Stamp::new(at, self.connection.warehouse.dialect());
        let plan = self.plan(prepared.rows, stamp).await?;
        let schema = self.connection.schema.clone();
        let tables = spawn_blocking(move || table_loads(&schema, plan)).await??;
        let name = |table| TableName { schema: self.connection.schema.clone(), table };
        let swaps = prepared
            .swaps
            .into_iter()
            .map(|(table, generation)| Swap { name: name(table), generation })
            .collect();
        let load = Load {
            connection: self.connection.id.clone(),
            epoch: self.epoch,
            ranges: prepared.ranges,
            tables,
            seen: prepared.seen,
            counts: prepared.books.lines(),
            swaps,
            replacements: Vec::new(),
            at: stamp.at,
        };
        crash_point("after-stage");
        Ok(Staged { load, books: prepared.books })
    }

    /// Makes it durable.
    pub(crate) async fn commit(&mut self, staged: Staged) -> Result<(), Error> {
        let Staged { load, books } = staged;
        let next = position::after(&self.positions(), &load.ranges);
        let size = LoadSize::of(&load);
        let ranges = load.ranges.clone();
        crash_point("before-commit");
        let report = self.connection.warehouse.load(load).await?;
        crash_point("after-commit");
        self.progress.send_replace(next);
        metrics::loaded(&size, &books, self.clock.now());
        self.note_oldest(None);
        if let Some(runs) = &mut self.runs {
            runs.loaded(Loaded::new(ranges, &size.rows, &books, report));
        }
        self.totals.add(size, books, report);
        self.unfinished = false;
        self.health.ready();
        Ok(())
    }

    /// How far everything is durable.
    pub(crate) fn positions(&self) -> Positions {
        self.progress.borrow().clone()
    }

    /// The same, for who watches it.
    pub(crate) fn progress(&self) -> watch::Receiver<Positions> {
        self.progress.subscribe()
    }

    pub(crate) fn totals(&self) -> &Totals {
        &self.totals
    }

    /// How long the oldest item of the batch in hand has been waiting.
    pub(crate) fn note_oldest(&self, appended_at: Option<DateTime<Utc>>) {
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

    /// Plans, makes what is missing, and looks whether it is there as planned.
    async fn plan(&mut self, rows: RowsByTable, stamp: Stamp) -> Result<Plan, Error> {
        if rows.is_empty() {
            return Ok(Plan { changes: Vec::new(), loads: RowsByTable::new() });
        }
        let existing = match self.tables.take() {
            Some(tables) => tables,
            None => self.describe().await?,
        };
        let known = Arc::clone(&existing);
        let planned = spawn_blocking(move || plan(&known, rows, stamp)).await??;
        if planned.changes.is_empty() {
            self.tables = Some(existing);
            return Ok(planned);
        }
        let (warehouse, schema) = (&self.connection.warehouse, &self.connection.schema);
        warehouse.apply(schema, &planned.changes).await?;
        let now = self.describe().await?;
        if !planned.fits(&now) {
            return Err(Error::TablesChanged { schema: schema.clone() });
        }
        tracing::info!(connection = %self.connection.id, changes = planned.changes.len(), "widened the schema");
        self.tables = Some(now);
        Ok(planned)
    }

    async fn describe(&self) -> Result<Arc<TableSchemas>, Error> {
        Ok(Arc::new(self.connection.warehouse.describe(&self.connection.schema).await?))
    }
}

fn table_loads(schema: &str, plan: Plan) -> Result<Vec<TableLoad>, Error> {
    let mut loads = Vec::new();
    for (table, parts) in plan.loads {
        for part in parts {
            let made = batch_of(&part.columns, &part.rows);
            let rows = made.map_err(|source| Error::Batch { table: table.clone(), source })?;
            let name = TableName { schema: schema.to_owned(), table: table.clone() };
            loads.push(TableLoad { name, rows: vec![rows], write: part.write });
        }
    }
    Ok(loads)
}
