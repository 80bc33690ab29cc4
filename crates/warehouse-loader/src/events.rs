//! Events to loads: the consumer that the bus's loop drives.

mod judge;

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use millrace_bus::{Batch, BatchLimits, Consume, Received, Resume, Start, consume};
use millrace_connector::{OffsetRange, Positions, SeenId};
use millrace_event_model::topics::TopicName;
use millrace_event_model::{Disposition, Event};
use millrace_service::{Stop, busy_threads, crash_point, spawn_busy};

use crate::dedup::DistinctIds;
use crate::position::{self, readable_ranges};
use crate::rows::RowMapper;
use crate::session::{Prepared, Session, Staged};
use crate::{ConnectionOptions, Error, dedup, metrics};
use judge::{Candidate, Given, Incoming, Rest};

/// Events that are worth a task of their own: some milliseconds of work.
const MIN_CHUNK: usize = 1_000;

/// Events whose rows have columns of their own. Columns of more rows, if not of long texts, are pieces of more than
/// 84 KiB, for which the allocator has pages of 4 MiB for each thread and size: with those of a whole chunk a loader had
/// 40 to 80 MiB more.
const STRETCH: usize = 1_000;

/// Loads the events of one connection, driven by [`consume::run`].
pub(crate) struct EventLoader<'s> {
    session: &'s mut Session,
    topic: TopicName<Event>,
    /// With a target: where to stop.
    until: Option<Positions>,
    done: Stop,
    mappers: Arc<Mappers>,
}

/// Mappers that wait for work. Each remembers the names that it has made, so it is used again; there are no more
/// than chunks that were mapped at once.
#[derive(Default)]
struct Mappers(Mutex<Vec<RowMapper<'static>>>);

impl Mappers {
    /// Lends a mapper to some work of a connection.
    fn with<T>(&self, connection: &ConnectionOptions, work: impl FnOnce(&mut RowMapper<'static>) -> T) -> T {
        let waiting = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lent = waiting().pop();
        let mut mapper = lent.unwrap_or_else(|| RowMapper::new(connection.mapping.clone()));
        let done = work(&mut mapper);
        waiting().push(mapper);
        done
    }
}

/// What all tasks of a batch share.
struct Work {
    connection: Arc<ConnectionOptions>,
    records: Arc<Vec<Received<Event>>>,
    topic: String,
    at: DateTime<Utc>,
}

impl Work {
    fn given(&self) -> Given<'_> {
        Given { connection: &self.connection, records: &self.records, topic: &self.topic, at: self.at }
    }
}

/// How many events of a batch one task maps: as many tasks as there are cores. With more of them, as many
/// threads would each have memory of their own for the rows.
fn chunk_of(events: usize) -> usize {
    events.div_ceil(busy_threads()).max(MIN_CHUNK)
}

/// Stretches of a chunk, all alike: a short one at its end would leave the columns of the next too little room.
fn stretch_of(events: usize) -> usize {
    events.div_ceil(events.div_ceil(STRETCH).max(1)).max(1)
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
        let mappers = Arc::default();
        let mut loader = Self { session, topic: topic.clone(), until, done: done.clone(), mappers };
        // `resume` gives every partition a position, so this start is never used.
        consume::run(&bus, &topic, Start::Earliest, &limits, &mut loader, done.token()).await?;
        loader.session.finish().await
    }

    async fn prepare(
        &self,
        mut records: Vec<Received<Event>>,
        ranges: Vec<OffsetRange>,
    ) -> Result<Prepared, Error> {
        if let Some(bound) = &self.session.bound {
            records.retain(|record| bound.takes(record));
        }
        crash_point("before-parse");
        let connection = Arc::clone(&self.session.connection);
        metrics::received(&connection.id, records.len());
        let (of_connection, records) = (Arc::clone(&connection), Arc::new(records));
        let of_records = Arc::clone(&records);
        let incoming = spawn_busy(async move { Incoming::of(&of_records, &of_connection) }).await?;
        let (firsts, rest) = self.part(incoming).await?;
        let (topic, at) = (self.session.topic.clone(), self.session.clock.now());
        let work = Arc::new(Work { connection, records, topic, at });
        let mut tasks = Vec::new();
        for chunk in firsts.chunks(chunk_of(firsts.len())) {
            let (chunk, work, mappers) = (chunk.to_vec(), Arc::clone(&work), Arc::clone(&self.mappers));
            tasks.push(spawn_busy(async move {
                mappers.with(&work.connection, |mapper| {
                    let stretches = chunk.chunks(stretch_of(chunk.len()));
                    let mapped = stretches.map(|stretch| judge::map(stretch, mapper, work.given()));
                    mapped.collect::<Vec<_>>()
                })
            }));
        }
        let mut chunks = Vec::with_capacity(tasks.len());
        for task in tasks {
            chunks.extend(task.await?);
        }
        let mappers = Arc::clone(&self.mappers);
        let settle = async move {
            mappers.with(&work.connection, |mapper| judge::settle(chunks, rest, mapper, work.given()))
        };
        let settled = spawn_busy(settle).await?;
        crash_point("after-parse");
        Ok(Prepared { ranges, ..settled })
    }

    async fn part(&self, incoming: Incoming) -> Result<(Vec<Candidate>, Rest), Error> {
        if !self.session.connection.dedup {
            return Ok(incoming.all());
        }
        let messages: Vec<SeenId> = incoming.events.iter().map(|candidate| candidate.seen).collect();
        let ids = DistinctIds::of(&messages);
        let seen = self.session.seen(&ids).await?;
        Ok(incoming.part(dedup::judge(&messages, &ids, seen)))
    }

    fn finish_at_target(&self) {
        if self.until.as_ref().is_some_and(|until| position::reached(&self.session.taken(), until)) {
            self.done.trigger();
        }
    }
}

impl Consume<Event> for EventLoader<'_> {
    /// Nothing to commit where a batch held nothing of this connection's.
    type Staged = Option<Staged>;
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
            self.session.settle().await?;
        }
        self.finish_at_target();
        crash_point("before-poll");
        Ok(Resume { positions: self.session.taken(), unsealed: Vec::new() })
    }

    async fn stage(&mut self, batch: Batch<Event>) -> Result<Option<Staged>, Error> {
        crash_point("after-poll");
        let batch = match &self.session.bound {
            Some(bound) => bound.cut(batch),
            None => batch,
        };
        self.session.note_oldest(batch.records.iter().map(|record| record.appended_at).min());
        let ranges = position::stored_ranges(&batch.ranges);
        let prepared = self.prepare(batch.records, ranges).await?;
        self.session.stage_or_carry(prepared).await
    }

    async fn commit(&mut self, staged: Option<Staged>) -> Result<(), Error> {
        if let Some(staged) = staged {
            self.session.commit(staged).await?;
        }
        self.finish_at_target();
        crash_point("before-poll");
        Ok(())
    }

    async fn idle(&mut self) -> Result<(), Error> {
        self.session.commit_what_was_carried_too_long().await
    }

    async fn settle(&mut self) -> Result<(), Error> {
        self.session.settle().await
    }
}
