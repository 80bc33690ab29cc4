//! The loop of a records connection: read ahead, decide, load.
//!
//! Everything is read twice. A reader goes ahead and only takes notes ([`Scan`]); up to where all is decided,
//! the rows are read again in ranges of the size of a load, mostly from the broker's page cache. So memory
//! holds one batch whatever the distance between two barriers.

use std::sync::Arc;
use std::time::Duration;

use millrace_bus::{BatchLimits, Reader, Received, Start};
use millrace_connector::{OffsetRange, Positions};
use millrace_event_model::topics::TopicName;
use millrace_event_model::{Disposition, Record, StreamSpec};
use millrace_service::{Stop, crash_point, spawn_busy};
use millrace_state::Store;

use super::owners::Owners;
use super::prepare::{Judged, asked_table, prepare};
use super::scan::{Scan, Step};
use crate::position::{self, readable_ranges};
use crate::session::{Prepared, Redo, Session};
use crate::{Error, LoadLimits, metrics};

/// How long to wait for records that are known to be there: longer, and the broker is asked again.
const KNOWN_ROWS_WAIT: Duration = Duration::from_secs(5);

/// Loads the records of one connection.
pub(crate) struct RecordLoader<'s> {
    session: &'s mut Session,
    limits: BatchLimits,
    scan: Scan,
    owners: Owners,
    /// Goes ahead.
    ahead: Reader<Record>,
}

impl<'s> RecordLoader<'s> {
    /// Loads until `stop`, or with `until` what is decided up to there. `root` is that of the state.
    pub(crate) async fn run(
        session: &'s mut Session,
        root: &Store,
        topic: TopicName<Record>,
        limits: BatchLimits,
        until: Option<Positions>,
        stop: &Stop,
    ) -> Result<(), Error> {
        let resumed = session.resume().await?;
        let mut from = resumed.positions;
        if let Some(redo) = &resumed.redo {
            // What is gone is not read again.
            from = position::after(&from, &redo.ranges);
            from.extend(redo.readable.iter().map(|range| (range.partition, range.start)));
        }
        let ahead = session.bus.reader(&topic, &from, Start::Earliest)?;
        let owners = Owners::new(root, &session.connection);
        let mut loader = Self { session, limits, scan: Scan::new(&from), owners, ahead };
        if let Some(redo) = resumed.redo {
            loader.redo(redo, stop).await?;
        }
        loader.load_all(until, stop).await
    }

    async fn load_all(&mut self, until: Option<Positions>, stop: &Stop) -> Result<(), Error> {
        let read_all =
            |scan: &Scan| until.as_ref().is_some_and(|until| position::reached(&scan.positions(), until));
        while !stop.is_requested() {
            if !read_all(&self.scan) {
                crash_point("before-poll");
                self.read_ahead(self.limits.max_wait, stop).await?;
                crash_point("after-poll");
            }
            for step in self.scan.steps() {
                self.take(&step, stop).await?;
            }
            self.session.commit_what_was_carried_too_long().await?;
            if read_all(&self.scan) {
                break;
            }
        }
        self.session.finish().await
    }

    async fn read_ahead(&mut self, max_wait: Duration, stop: &Stop) -> Result<(), Error> {
        let limits = BatchLimits { max_wait, ..self.limits };
        let batch = {
            let mut reading = std::pin::pin!(self.ahead.next_batch(&limits, stop.token()));
            tokio::select! {
                batch = &mut reading => batch?,
                // The load that is on its way has ended, and reading goes on.
                settled = self.session.settle() => {
                    settled?;
                    reading.await?
                }
            }
        };
        for record in &batch.records {
            if let Ok(message) = &record.message
                && message.source == self.session.connection.source
            {
                self.scan.observe(record.partition, record.offset, message);
            }
        }
        for range in &batch.ranges {
            let of_it = batch.records.iter().filter(|record| record.partition == range.partition);
            self.scan.advance(range.partition, range.end, of_it.map(Received::bytes).sum());
        }
        Ok(())
    }

    /// A load that is done again has the rows that it had: the verdicts depend on the log alone, and
    /// they had been found before the crash.
    async fn redo(&mut self, redo: Redo, stop: &Stop) -> Result<(), Error> {
        while !self.scan.has_decided(&redo.readable) {
            let before = self.scan.positions();
            self.read_ahead(KNOWN_ROWS_WAIT, stop).await?;
            if stop.is_requested() {
                return Ok(());
            }
            if self.scan.positions() == before {
                return Err(Error::NotYetDecided);
            }
        }
        let batch = self.ahead.read_ranges(&readable_ranges(&redo.readable)).await?;
        let prepared = self.prepare(batch.records, redo.ranges, redo.expired).await?;
        let staged = self.session.stage(prepared).await?;
        self.session.commit(staged).await?;
        self.session.settle().await
    }

    async fn take(&mut self, step: &Step, stop: &Stop) -> Result<(), Error> {
        let limits = LoadLimits { max_records: self.limits.max_records, max_bytes: self.limits.max_bytes };
        while !stop.is_requested() {
            let taken = self.session.taken();
            let ranges = match step.at_once {
                true => position::between(&taken, &step.until),
                false => self.scan.next_load(&taken, &step.until, limits),
            };
            if ranges.is_empty() {
                break;
            }
            let batch = self.ahead.read_ranges(&readable_ranges(&ranges)).await?;
            let prepared = self.prepare(batch.records, ranges, 0).await?;
            if let Some(staged) = self.session.stage_or_carry(prepared).await? {
                self.session.commit(staged).await?;
            }
            self.scan.forget_below(&self.session.taken());
        }
        Ok(())
    }

    async fn prepare(
        &mut self,
        mut records: Vec<Received<Record>>,
        ranges: Vec<OffsetRange>,
        expired: u64,
    ) -> Result<Prepared, Error> {
        crash_point("before-parse");
        let connection = Arc::clone(&self.session.connection);
        metrics::received(&connection.id, records.len());
        self.session.note_oldest(records.iter().map(|record| record.appended_at).min());
        // The order of the log; stable.
        records.sort_by_key(|record| record.partition);
        let judged: Vec<Judged> = records
            .into_iter()
            .filter(|record| super::prepare::is_of(record, &connection.source))
            .map(|record| Judged::new(record, &self.scan))
            .collect::<Result<_, _>>()?;
        let swaps = self.scan.swaps(&ranges);
        self.take_tables(&judged, &swaps).await?;
        let owners = self.owners.known();
        let (topic, now) = (self.session.topic.clone(), self.session.clock.now());
        let source = connection.source.clone();
        let mut prepared =
            spawn_busy(async move { prepare(judged, swaps, ranges, &connection, &owners, &topic, now) })
                .await?;
        prepared.books.count_many(&source, now, Disposition::Expired, expired);
        metrics::nulled(&self.session.connection.id, prepared.nulled);
        crash_point("after-parse");
        Ok(prepared)
    }

    /// Before its first row is loaded, a stream has its table, or another has.
    async fn take_tables(&mut self, judged: &[Judged], swaps: &[StreamSpec]) -> Result<(), Error> {
        let mut streams: Vec<&StreamSpec> = Vec::new();
        for spec in judged.iter().filter_map(Judged::stream).chain(swaps) {
            // Rows of one stream have the very same.
            if !streams.iter().rev().any(|known| std::ptr::eq(*known, spec)) {
                streams.push(spec);
            }
        }
        for spec in streams {
            // One without a table has its rows rejected.
            if let Ok(table) = asked_table(spec, &self.session.connection) {
                self.owners.take(spec, &table).await?;
            }
        }
        Ok(())
    }
}
