//! A batch of events to rows: which are here for the first time, and what those make. Pure.
//!
//! Whether an event was seen is asked before it is mapped, since the answer needs its headers only and a
//! duplicate is not worth parsing. An id counts as seen once its event is *loaded*: of several events with one
//! id, the first that makes rows is loaded, so that the tables do not depend on how the batches were cut.

use std::collections::HashMap;

use ahash::RandomState;
use chrono::{DateTime, Utc};
use millrace_bus::Received;
use millrace_connector::{SeenId, WriteMode};
use millrace_event_model::wire::DecodeError;
use millrace_event_model::{DeadLetter, Disposition, Event, Reason, SourceId};
use millrace_privacy::{LeftOutBy, left_out_by};

use crate::books::Books;
use crate::dead_letters::dead_letter;
use crate::dedup::{Sighting, seen_id};
use crate::gather;
use crate::rows::{RowMapper, RowsOfTables, TableBlock};
use crate::session::Prepared;
use crate::{ConnectionOptions, RowMode, RowsByTable, TableRows, position};

/// An event of the connection's source that has not been looked into yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) seen: SeenId,
    /// Its place among the records.
    record: usize,
}

/// The records of the connection's source, in the order of the log. The records themselves stay where they are:
/// they are large.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    pub(super) events: Vec<Candidate>,
    /// What is no event.
    undecodable: Vec<usize>,
}

impl Incoming {
    /// Passes over what is of other sources.
    pub(super) fn of(records: &[Received<Event>], connection: &ConnectionOptions) -> Self {
        let mut incoming = Self { events: Vec::with_capacity(records.len()), undecodable: Vec::new() };
        for (place, record) in position::in_log_order(records) {
            if !is_of(record, &connection.source) {
                continue;
            }
            match &record.message {
                Ok(event) => {
                    let seen = match connection.dedup {
                        true => seen_id(&event.source, &event.message_id, &event.body),
                        // Nobody will ask.
                        false => SeenId { id: 0, content: 0 },
                    };
                    incoming.events.push(Candidate { seen, record: place });
                }
                Err(_) => incoming.undecodable.push(place),
            }
        }
        incoming
    }

    /// Parts the events into those that are here for the first time and those that repeat one.
    pub(super) fn part(self, sightings: Vec<Sighting>) -> (Vec<Candidate>, Rest) {
        let mut rest = Rest { repeated: Vec::new(), undecodable: self.undecodable };
        let mut firsts = Vec::with_capacity(self.events.len());
        for (candidate, sighting) in self.events.into_iter().zip(sightings) {
            match sighting {
                Sighting::First => firsts.push(candidate),
                Sighting::Duplicate | Sighting::Conflict => rest.repeated.push((candidate, sighting)),
            }
        }
        (firsts, rest)
    }

    /// All of them, where nobody looks for duplicates.
    pub(super) fn all(self) -> (Vec<Candidate>, Rest) {
        (self.events, Rest { repeated: Vec::new(), undecodable: self.undecodable })
    }
}

/// What is left of a batch beside the events to map.
#[derive(Debug)]
pub(super) struct Rest {
    repeated: Vec<(Candidate, Sighting)>,
    undecodable: Vec<usize>,
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

/// What events came to.
#[derive(Debug, Default)]
pub(super) struct Mapped {
    rows: RowsByTable,
    loaded: Vec<SeenId>,
    /// Ids of events that made no rows.
    unloaded: Vec<u128>,
    books: Books,
    dead_letters: Vec<DeadLetter>,
}

/// Maps events in order. Pure, but for `at`, which dates the dead letters.
pub(super) fn map(events: &[Candidate], mapper: &mut RowMapper<'static>, given: Given<'_>) -> Mapped {
    let mut mapping = Mapping::new(given, mapper.begin());
    for candidate in events {
        mapping.take(*candidate, mapper);
    }
    mapping.finish(|rows| mapper.end(rows))
}

/// What is the same for all events of a batch.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    pub(super) connection: &'a ConnectionOptions,
    pub(super) records: &'a [Received<Event>],
    pub(super) topic: &'a str,
    pub(super) at: DateTime<Utc>,
}

impl Given<'_> {
    fn dead_letter(&self, record: &Received<Event>, reason: Reason) -> DeadLetter {
        dead_letter(self.connection, self.topic, self.at, record, reason)
    }
}

fn undecodable(error: &DecodeError) -> Reason {
    Reason::new("undecodable", error.to_string())
}

struct Mapping<'a> {
    given: Given<'a>,
    rows: RowsOfTables,
    mapped: Mapped,
}

impl<'a> Mapping<'a> {
    fn new(given: Given<'a>, rows: RowsOfTables) -> Self {
        Self { given, rows, mapped: Mapped::default() }
    }

    /// Whether the event is loaded.
    fn take(&mut self, Candidate { seen, record }: Candidate, mapper: &mut RowMapper<'static>) -> bool {
        let Given { connection, records, .. } = self.given;
        let Some(record) = records.get(record) else { return false };
        let made = match &record.message {
            Ok(event) => made(event, connection, mapper, &mut self.rows),
            Err(error) => Err(undecodable(error)),
        };
        let (books, source, received) = (&mut self.mapped.books, &connection.source, received_at(record));
        match made {
            Ok(Made::LeftOut(by)) => books.count_left_out(source, received, by),
            Ok(Made::Nothing) => books.count(source, received, Disposition::Filtered),
            Ok(Made::Rows) => {
                books.count(source, received, Disposition::Loaded);
                if connection.dedup {
                    self.mapped.loaded.push(seen);
                }
                return true;
            }
            Err(reason) => {
                books.count(source, received, Disposition::Rejected);
                self.mapped.dead_letters.push(self.given.dead_letter(record, reason));
            }
        }
        self.mapped.unloaded.push(seen.id);
        false
    }

    fn finish(self, finish: impl FnOnce(RowsOfTables) -> Vec<TableBlock>) -> Mapped {
        let mut rows = RowsByTable::new();
        for made in finish(self.rows) {
            let part =
                TableRows { write: write_of(made.write, self.given.connection), blocks: vec![made.block] };
            rows.entry(made.table).or_default().push(part);
        }
        Mapped { rows, ..self.mapped }
    }
}

/// What an event makes.
enum Made {
    Rows,
    /// It has none, or the connection's `when` is false.
    Nothing,
    LeftOut(LeftOutBy),
}

/// Adds the rows of an event. What the user and the client say of it comes first: neither is the operator's to
/// overrule.
fn made(
    event: &Event,
    connection: &ConnectionOptions,
    mapper: &mut RowMapper<'static>,
    into: &mut RowsOfTables,
) -> Result<Made, Reason> {
    if let Some(by) = left_out_by(&connection.consent, &connection.names, &event.body) {
        return Ok(Made::LeftOut(by));
    }
    if let Some(when) = &connection.when
        && !when.keeps(event)?
    {
        return Ok(Made::Nothing);
    }
    Ok(if mapper.event(event, into)? == 0 { Made::Nothing } else { Made::Rows })
}

fn write_of(write: WriteMode, connection: &ConnectionOptions) -> WriteMode {
    if write != WriteMode::Append || connection.mode == RowMode::Append {
        return write;
    }
    let id = if connection.mapping.dialect.upper_case { "ID" } else { "id" };
    WriteMode::Upsert { key: vec![id.to_owned()] }
}

/// The server's time where it can be read; the broker's is a moment later.
fn received_at(record: &Received<Event>) -> DateTime<Utc> {
    record.message.as_ref().map_or(record.appended_at, |event| event.received_at)
}

/// Puts a batch together.
pub(super) fn settle(
    chunks: Vec<Mapped>,
    rest: Rest,
    mapper: &mut RowMapper<'static>,
    given: Given<'_>,
) -> Prepared {
    let Given { connection, records, .. } = given;
    let mut prepared = Prepared::default();
    let mut unloaded: HashMap<u128, Option<u64>, RandomState> = HashMap::default();
    for chunk in chunks {
        unloaded.extend(chunk.unloaded.iter().map(|id| (*id, None)));
        add(&mut prepared, chunk);
    }
    // Those that repeat an event which was not loaded have their turn now, in the order of the log.
    let mut late = Mapping::new(given, RowsOfTables::default());
    for (candidate, sighting) in rest.repeated {
        let SeenId { id, content } = candidate.seen;
        let sighting = match unloaded.get(&id) {
            Some(None) => {
                if late.take(candidate, mapper) {
                    unloaded.insert(id, Some(content));
                }
                continue;
            }
            Some(Some(loaded)) if *loaded == content => Sighting::Duplicate,
            Some(Some(_)) => Sighting::Conflict,
            None => sighting,
        };
        let Some(received) = records.get(candidate.record).map(received_at) else { continue };
        match sighting {
            Sighting::Conflict => prepared.books.count_conflict(&connection.source, received),
            _ => prepared.books.count(&connection.source, received, Disposition::Duplicate),
        }
    }
    add(&mut prepared, late.finish(RowsOfTables::finish));
    for record in rest.undecodable.into_iter().filter_map(|place| records.get(place)) {
        let Err(error) = &record.message else { continue };
        prepared.books.count(&connection.source, received_at(record), Disposition::Rejected);
        prepared.dead_letters.push(given.dead_letter(record, undecodable(error)));
    }
    prepared
}

fn add(prepared: &mut Prepared, mapped: Mapped) {
    gather::append(&mut prepared.rows, mapped.rows);
    prepared.seen.extend(mapped.loaded);
    prepared.books.add(mapped.books);
    prepared.dead_letters.extend(mapped.dead_letters);
}
