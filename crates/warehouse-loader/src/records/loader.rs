//! The loop of a records connection: read ahead, decide, load.
//!
//! Two readers of one topic. The first goes ahead and only takes notes ([`Scan`]); the second reads the rows
//! again up to where all is decided. So memory holds one batch whatever the distance between two barriers,
//! and every byte is read twice, the second time from the broker's page cache.

use std::sync::Arc;
use std::time::Duration;

use millrace_bus::{Batch, BatchLimits, Reader, Received, Start};
use millrace_connector::{OffsetRange, Positions};
use millrace_event_model::topics::TopicName;
use millrace_event_model::{Disposition, Record};
use millrace_service::{Stop, crash_point};
use tokio::task::spawn_blocking;

use super::prepare::{Judged, prepare};
use super::scan::{Scan, Step};
use crate::position::{self, readable_ranges, stored_ranges};
use crate::session::{Redo, Session};
use crate::{Error, metrics};

/// How long to wait for records that are known to be there: longer, and the broker is asked again.
const KNOWN_ROWS_WAIT: Duration = Duration::from_secs(5);

/// Loads the records of one connection.
pub(crate) struct RecordLoader<'s> {
    session: &'s mut Session,
    limits: BatchLimits,
    scan: Scan,
    /// Goes ahead.
    ahead: Reader<Record>,
    /// Reads the rows.
    rows: Reader<Record>,
}

impl<'s> RecordLoader<'s> {
    /// Loads until `stop`, or with `until` what is decided up to there.
    pub(crate) async fn run(
        session: &'s mut Session,
        topic: TopicName<Record>,
        limits: BatchLimits,
        until: Option<Positions>,
        stop: &Stop,
    ) -> Result<(), Error> {
        let resumed = session.resume().await?;
        let reader = |from: &Positions| session.bus.reader(&topic, from, Start::Earliest);
        let mut from = resumed.positions.clone();
        let mut behind_redo = from.clone();
        if let Some(redo) = &resumed.redo {
            // What is gone is not read again.
            from.extend(redo.readable.iter().map(|range| (range.partition, range.start)));
            behind_redo = position::after(&resumed.positions, &redo.ranges);
        }
        let (scan, ahead, rows) = (Scan::new(&from), reader(&from)?, reader(&behind_redo)?);
        let mut loader = Self { session, limits, scan, ahead, rows };
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
            if read_all(&self.scan) {
                break;
            }
        }
        Ok(())
    }

    async fn read_ahead(&mut self, max_wait: Duration, stop: &Stop) -> Result<(), Error> {
        let limits = BatchLimits { max_wait, ..self.limits };
        let batch = self.ahead.next_batch(&limits, stop.token()).await?;
        for record in &batch.records {
            if let Ok(message) = &record.message
                && message.source == self.session.connection.source
            {
                self.scan.observe(record.partition, record.offset, message);
            }
        }
        for range in &batch.ranges {
            self.scan.advance(range.partition, range.end);
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
        let batch = self.rows.read_ranges(&readable_ranges(&redo.readable)).await?;
        self.load(batch.records, redo.ranges, redo.expired).await
    }

    async fn take(&mut self, step: &Step, stop: &Stop) -> Result<(), Error> {
        if step.at_once {
            let ranges = position::between(&self.session.positions(), &step.until);
            if ranges.is_empty() {
                return Ok(());
            }
            let batch = self.rows.read_ranges(&readable_ranges(&ranges)).await?;
            self.load(batch.records, ranges, 0).await?;
            return self.stand_at(&step.until).await;
        }
        while !stop.is_requested() {
            let known = items_between(&self.session.positions(), &step.until);
            if known == 0 {
                break;
            }
            // No more than are known to be there, or the batch would wait for others to come.
            let max_records = self.limits.max_records.min(known);
            let limits = BatchLimits { max_records, max_wait: KNOWN_ROWS_WAIT, ..self.limits };
            let batch = self.rows.next_batch(&limits, stop.token()).await?;
            let (records, ranges) = up_to(batch, &step.until);
            if !ranges.is_empty() {
                self.load(records, ranges, 0).await?;
            }
            self.stand_at(&step.until).await?;
        }
        Ok(())
    }

    /// Where the second reader went past what is decided, it goes back.
    async fn stand_at(&mut self, until: &Positions) -> Result<(), Error> {
        let loaded = self.session.positions();
        let standing = self.rows.positions().clone();
        for (partition, position) in loaded {
            let past_it = until.get(&partition) == Some(&position);
            if past_it && standing.get(&partition).is_some_and(|next| *next != position) {
                self.rows.seek(partition, position).await?;
            }
        }
        Ok(())
    }

    async fn load(
        &mut self,
        mut records: Vec<Received<Record>>,
        ranges: Vec<OffsetRange>,
        expired: u64,
    ) -> Result<(), Error> {
        let connection = Arc::clone(&self.session.connection);
        metrics::received(&connection.id, records.len());
        self.session.note_oldest(records.iter().map(|record| record.appended_at).min());
        records.sort_by_key(|record| (record.partition, record.offset));
        let judged: Vec<Judged> = records
            .into_iter()
            .filter(|record| super::prepare::is_of(record, &connection.source))
            .map(|record| Judged::new(record, &self.scan))
            .collect();
        let swaps = self.scan.swaps(&ranges);
        let (topic, now) = (self.session.topic.clone(), self.session.clock.now());
        let source = connection.source.clone();
        let mut prepared =
            spawn_blocking(move || prepare(judged, swaps, ranges, &connection, &topic, now)).await?;
        prepared.books.count_many(&source, now, Disposition::Expired, expired);
        let staged = self.session.stage(prepared).await?;
        self.session.commit(staged).await?;
        self.scan.forget_below(&self.session.positions());
        Ok(())
    }
}

fn items_between(from: &Positions, until: &Positions) -> usize {
    let ranges = position::between(from, until);
    ranges.iter().map(|range| usize::try_from(range.end - range.start).unwrap_or(usize::MAX)).sum()
}

/// What of a batch lies below the positions.
fn up_to(batch: Batch<Record>, until: &Positions) -> (Vec<Received<Record>>, Vec<OffsetRange>) {
    let end_of = |partition: i32| until.get(&partition).copied().unwrap_or(0);
    let cut = |range: OffsetRange| OffsetRange { end: range.end.min(end_of(range.partition)), ..range };
    let ranges = stored_ranges(&batch.ranges).into_iter().map(cut);
    let ranges = ranges.filter(|range| range.start < range.end).collect();
    let records = batch.records.into_iter().filter(|record| record.offset < end_of(record.partition));
    (records.collect(), ranges)
}
