//! Events to loads: the mapping of a batch, and the consumer that the bus's loop drives.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use millrace_bus::{Batch, BatchLimits, Consume, Received, Resume, Start, consume};
use millrace_columnar::widen;
use millrace_connector::{OffsetRange, Positions, SeenId};
use millrace_event_model::topics::TopicName;
use millrace_event_model::{DeadLetter, Disposition, Event, Reason, SourceId};
use millrace_service::{Stop, crash_point};
use tokio::task::spawn_blocking;

use crate::books::Books;
use crate::dead_letters::dead_letter;
use crate::dedup::{Sighting, judge, seen_id};
use crate::plan::part_of;
use crate::position::{self, readable_ranges};
use crate::rows::{MappedRow, rows_of_event};
use crate::session::{Prepared, Session, Staged};
use crate::{ConnectionOptions, Error, RowsByTable, metrics};

/// Events that one blocking task maps: some milliseconds of work, so that the cores share a batch.
const CHUNK: usize = 500;

/// What became of the events of a chunk before anyone has asked which are duplicates.
#[derive(Debug, Default)]
struct Mapped {
    events: Vec<MappedEvent>,
    dead_letters: Vec<DeadLetter>,
    books: Books,
}

#[derive(Debug)]
struct MappedEvent {
    received_at: DateTime<Utc>,
    seen: SeenId,
    rows: Vec<MappedRow>,
}

/// What an event of the connection's source comes to.
enum Judged {
    Rows(Vec<MappedRow>),
    /// By the connection's `when`; or it makes no rows.
    Filtered,
}

fn judge_event(event: &Event, connection: &ConnectionOptions) -> Result<Judged, Reason> {
    if let Some(when) = &connection.when
        && !when.keeps(event)?
    {
        return Ok(Judged::Filtered);
    }
    let rows = rows_of_event(event, &connection.mapping)?;
    Ok(if rows.is_empty() { Judged::Filtered } else { Judged::Rows(rows) })
}

/// Maps events in order. Pure, but for `at`, which dates the dead letters.
fn map_events(
    records: Vec<Received<Event>>,
    connection: &ConnectionOptions,
    topic: &str,
    at: DateTime<Utc>,
) -> Mapped {
    let mut mapped = Mapped::default();
    for record in records {
        if !is_of(&record, &connection.source) {
            continue;
        }
        // The server's time where it can be read; the broker's is a moment later.
        let received_at = record.message.as_ref().map_or(record.appended_at, |event| event.received_at);
        let judged = match &record.message {
            Ok(event) => judge_event(event, connection).map(|judged| (judged, event)),
            Err(error) => Err(Reason::new("undecodable", error.to_string())),
        };
        match judged {
            Ok((Judged::Rows(rows), event)) => {
                let seen = seen_id(&event.source, &event.message_id, &event.body);
                mapped.events.push(MappedEvent { received_at, seen, rows });
            }
            Ok((Judged::Filtered, _)) => {
                mapped.books.count(&connection.source, received_at, Disposition::Filtered);
            }
            Err(reason) => {
                mapped.books.count(&connection.source, received_at, Disposition::Rejected);
                mapped.dead_letters.push(dead_letter(connection, topic, at, record, reason));
            }
        }
    }
    mapped
}

/// Whether the record is of the source. One that does not even say so is taken in: better a dead letter in
/// each connection of the lane than a record that nobody counts.
fn is_of(record: &Received<Event>, source: &SourceId) -> bool {
    match &record.message {
        Ok(event) => event.source == *source,
        Err(_) => match record.raw.text("source") {
            Ok(Some(of)) => of == source.as_str(),
            _ => true,
        },
    }
}

/// Leaves out the duplicates and sorts the rest by table. Pure.
fn settle(
    chunks: Vec<Mapped>,
    seen: HashMap<u128, u64>,
    source: &SourceId,
    ranges: Vec<OffsetRange>,
) -> Prepared {
    let mut prepared = Prepared { ranges, ..Prepared::default() };
    let mut events = Vec::new();
    for chunk in chunks {
        prepared.books.add(chunk.books);
        prepared.dead_letters.extend(chunk.dead_letters);
        events.extend(chunk.events);
    }
    let messages: Vec<SeenId> = events.iter().map(|event| event.seen).collect();
    for (event, sighting) in events.into_iter().zip(judge(&messages, seen)) {
        match sighting {
            Sighting::First => {
                prepared.books.count(source, event.received_at, Disposition::Loaded);
                prepared.seen.push(event.seen);
                event.rows.into_iter().for_each(|row| add_row(&mut prepared.rows, row));
            }
            Sighting::Duplicate => prepared.books.count(source, event.received_at, Disposition::Duplicate),
            Sighting::Conflict => prepared.books.count_conflict(source, event.received_at),
        }
    }
    prepared
}

fn add_row(rows: &mut RowsByTable, row: MappedRow) {
    let part = part_of(rows, &row.table, &row.write);
    widen::extend(&mut part.columns, &row.columns);
    part.rows.push(row.cells);
}

/// Loads the events of one connection, driven by [`consume::run`].
pub(crate) struct EventLoader<'s> {
    session: &'s mut Session,
    topic: TopicName<Event>,
    /// With a target: where to stop.
    until: Option<Positions>,
    done: Stop,
}

impl<'s> EventLoader<'s> {
    /// Loads until `stop`, or with `until` up to there.
    pub(crate) async fn run(
        session: &'s mut Session,
        topic: TopicName<Event>,
        limits: BatchLimits,
        until: Option<Positions>,
        stop: &Stop,
    ) -> Result<(), Error> {
        let (bus, done) = (session.bus.clone(), stop.child());
        let mut loader = Self { session, topic: topic.clone(), until, done: done.clone() };
        // `resume` gives every partition a position, so this start is never used.
        consume::run(&bus, &topic, Start::Earliest, &limits, &mut loader, done.token()).await
    }

    async fn prepare(
        &self,
        mut records: Vec<Received<Event>>,
        ranges: Vec<OffsetRange>,
    ) -> Result<Prepared, Error> {
        let connection = &self.session.connection;
        metrics::received(&connection.id, records.len());
        // The partitions' turns in a batch are the network's; done again, the order must be the same.
        records.sort_by_key(|record| (record.partition, record.offset));
        let at = self.session.clock.now();
        let mut tasks = Vec::new();
        while !records.is_empty() {
            let rest = records.split_off(records.len().min(CHUNK));
            let chunk = std::mem::replace(&mut records, rest);
            let (connection, topic) = (Arc::clone(connection), self.session.topic.clone());
            tasks.push(spawn_blocking(move || map_events(chunk, &connection, &topic, at)));
        }
        let mut chunks = Vec::with_capacity(tasks.len());
        for task in tasks {
            chunks.push(task.await?);
        }
        let messages: Vec<SeenId> =
            chunks.iter().flat_map(|chunk| &chunk.events).map(|event| event.seen).collect();
        let seen = self.session.seen(&messages).await?;
        let source = connection.source.clone();
        Ok(spawn_blocking(move || settle(chunks, seen, &source, ranges)).await?)
    }

    fn finish_at_target(&self) {
        if self.until.as_ref().is_some_and(|until| position::reached(&self.session.positions(), until)) {
            self.done.trigger();
        }
    }
}

impl Consume<Event> for EventLoader<'_> {
    type Staged = Staged;
    type Error = Error;

    async fn resume(&mut self) -> Result<Resume, Error> {
        let resumed = self.session.resume().await?;
        if let Some(redo) = resumed.redo {
            let reader = self.session.bus.reader(&self.topic, &resumed.positions, Start::Earliest)?;
            let batch = reader.read_ranges(&readable_ranges(&redo.readable)).await?;
            let mut prepared = self.prepare(batch.records, redo.ranges).await?;
            let (source, now) = (&self.session.connection.source, self.session.clock.now());
            prepared.books.count_many(source, now, Disposition::Expired, redo.expired);
            let staged = self.session.stage(prepared).await?;
            self.session.commit(staged).await?;
        }
        self.finish_at_target();
        crash_point("before-poll");
        Ok(Resume { positions: self.session.positions(), unsealed: Vec::new() })
    }

    async fn stage(&mut self, batch: Batch<Event>) -> Result<Staged, Error> {
        crash_point("after-poll");
        self.session.note_oldest(batch.records.iter().map(|record| record.appended_at).min());
        let ranges = position::stored_ranges(&batch.ranges);
        let prepared = self.prepare(batch.records, ranges).await?;
        self.session.stage(prepared).await
    }

    async fn commit(&mut self, staged: Staged) -> Result<(), Error> {
        self.session.commit(staged).await?;
        self.finish_at_target();
        crash_point("before-poll");
        Ok(())
    }
}
