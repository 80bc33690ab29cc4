//! Records with their verdicts to rows by table. Pure.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use millrace_bus::Received;
use millrace_connector::{OffsetRange, WriteMode};
use millrace_event_model::{Disposition, Reason, Record, RecordBody, SourceId, StreamSpec};

use super::owners::{OwnersByTable, table_of};
use super::row::{Origin, RecordRows, TableRow, rows_of};
use super::scan::{Scan, Verdict};
use super::table::StreamTable;
use crate::dead_letters::dead_letter;
use crate::gather::Gathered;
use crate::session::Prepared;
use crate::{ConnectionOptions, Error};

/// A record of the source, and what became of it.
#[derive(Debug)]
pub(crate) struct Judged {
    record: Received<Record>,
    fate: Fate,
}

#[derive(Debug)]
enum Fate {
    /// A barrier or a beginning: no row.
    NoRow,
    /// A row to load, as the stream at this index says.
    Real(Arc<[StreamSpec]>, usize),
    /// A newer attempt took its place.
    Void,
    Rejected(Reason),
}

impl Judged {
    /// Looks the verdict up.
    ///
    /// # Errors
    /// The row is still pending. No load reaches that far; should one, the row waits and is not taken for
    /// void, which would lose it.
    pub(crate) fn new(record: Received<Record>, scan: &Scan) -> Result<Self, Error> {
        let fate = match &record.message {
            Err(error) => Fate::Rejected(Reason::new("undecodable", error.to_string())),
            Ok(message) => match &message.body {
                RecordBody::Begin | RecordBody::Barrier(_) => Fate::NoRow,
                RecordBody::Row { stream, namespace, .. } => {
                    match scan.verdict(record.partition, record.offset) {
                        Verdict::Real(streams) => fate_of_real_row(stream, namespace.as_deref(), streams),
                        Verdict::Void => Fate::Void,
                        Verdict::Pending => return Err(Error::NotYetDecided),
                    }
                }
            },
        };
        Ok(Self { record, fate })
    }

    /// The stream of a row that is to be loaded.
    pub(crate) fn stream(&self) -> Option<&StreamSpec> {
        match &self.fate {
            Fate::Real(streams, index) => streams.get(*index),
            Fate::NoRow | Fate::Void | Fate::Rejected(_) => None,
        }
    }
}

fn fate_of_real_row(stream: &str, namespace: Option<&str>, streams: &Arc<[StreamSpec]>) -> Fate {
    let is_it = |spec: &StreamSpec| spec.name == stream && spec.namespace.as_deref() == namespace;
    match streams.iter().position(is_it) {
        Some(index) => Fate::Real(Arc::clone(streams), index),
        None => Fate::Rejected(Reason::new(
            "unknown_stream",
            format!("the barrier after the row does not know its stream {stream:?}"),
        )),
    }
}

/// Whether the record is of the source; one that does not say is taken in, as with events.
pub(crate) fn is_of(record: &Received<Record>, source: &SourceId) -> bool {
    match &record.message {
        Ok(message) => message.source == *source,
        Err(_) => match record.raw.text("source") {
            Ok(Some(of)) => of == source.as_str(),
            _ => true,
        },
    }
}

/// Sorts the rows by table and counts every one of them. Hours are those of the broker's append time: a
/// source's own clock is a client's.
pub(crate) fn prepare(
    records: Vec<Judged>,
    swaps: Vec<StreamSpec>,
    ranges: Vec<OffsetRange>,
    connection: &ConnectionOptions,
    owners: &OwnersByTable,
    topic: &str,
    now: DateTime<Utc>,
) -> Prepared {
    let mut prepared = Prepared { ranges, ..Prepared::default() };
    let (known, rows) = (Vec::new(), Gathered::default());
    let mut tables = Tables { connection, owners, known, rows, nulled: 0 };
    for Judged { record, fate } in records {
        let at = record.appended_at;
        let loaded = match fate {
            Fate::NoRow => continue,
            Fate::Void => {
                prepared.books.count(&connection.source, at, Disposition::Superseded);
                continue;
            }
            Fate::Rejected(reason) => Err(reason),
            Fate::Real(streams, index) => tables.add(&streams, index, &record),
        };
        match loaded {
            Ok(()) => prepared.books.count(&connection.source, at, Disposition::Loaded),
            Err(reason) => {
                prepared.books.count(&connection.source, at, Disposition::Rejected);
                prepared.dead_letters.push(dead_letter(connection, topic, now, &record, reason));
            }
        }
    }
    for spec in swaps {
        // A stream that has no table has had every row rejected: there is nothing to swap.
        let Ok(table) = tables.table_of(&spec) else { continue };
        for table in table.with_lists() {
            prepared.swaps.push((table.name.clone(), spec.generation));
            // The table is made even where the refresh had no rows.
            tables.rows.declare(&table.name, &table.write, &table.columns);
        }
    }
    prepared.nulled = tables.nulled;
    prepared.rows = tables.rows.finish();
    prepared
}

/// The table that a stream asks for, whoever has it.
///
/// # Errors
/// The stream has none: its rows are rejected.
pub(crate) fn asked_table(spec: &StreamSpec, connection: &ConnectionOptions) -> Result<StreamTable, Reason> {
    let warehouse = &connection.warehouse;
    let table = StreamTable::of(spec, warehouse.dialect(), connection.mapping.nested)?;
    if warehouse.replaces() || table.write == WriteMode::Append {
        return Ok(table);
    }
    // A load that the warehouse refuses would stop the connection for ever: what is in Kafka stays as it is.
    let what = if matches!(table.write, WriteMode::Stage { .. }) { "a full refresh" } else { "rows by key" };
    let text = format!(
        "stream {:?} is {what}, and this warehouse's tables only grow; load it into a lake of `format: delta`, or \
         into another kind of warehouse",
        spec.name
    );
    Err(Reason::new("append_only", text))
}

/// The tables of the streams of one batch, by the barriers that told of them.
struct Tables<'d> {
    connection: &'d ConnectionOptions,
    owners: &'d OwnersByTable,
    /// Barriers that say the same share their streams, so these are few.
    known: Vec<Known>,
    rows: Gathered,
    /// See [`Prepared::nulled`].
    nulled: u64,
}

struct Known {
    streams: Arc<[StreamSpec]>,
    /// In the order of the streams; a stream that has no table has its rows rejected.
    tables: Vec<Result<StreamTable, Reason>>,
}

impl Tables<'_> {
    fn add(
        &mut self,
        streams: &Arc<[StreamSpec]>,
        index: usize,
        record: &Received<Record>,
    ) -> Result<(), Reason> {
        let Ok(message) = &record.message else { return Ok(()) };
        let RecordBody::Row { json, .. } = &message.body else { return Ok(()) };
        let dialect = self.connection.warehouse.dialect();
        let known = self.know(streams);
        let table = self.known.get(known).and_then(|known| known.tables.get(index));
        let Some(table) = table else { return Ok(()) };
        let table = table.as_ref().map_err(Reason::clone)?;
        let origin =
            Origin { partition: record.partition, offset: record.offset, emitted_at: message.emitted_at };
        let RecordRows { rows, nulled } = rows_of(table, json, origin, dialect)?;
        for TableRow { table, cells, undeclared } in rows {
            let mut columns = table.columns.clone();
            columns.extend(undeclared);
            self.rows.add(&table.name, &table.write, &columns, &cells);
        }
        self.nulled += nulled;
        Ok(())
    }

    fn table_of(&self, spec: &StreamSpec) -> Result<StreamTable, Reason> {
        table_of(&self.connection.source, spec, asked_table(spec, self.connection)?, self.owners)
    }

    fn know(&mut self, streams: &Arc<[StreamSpec]>) -> usize {
        let known = self.known.iter().position(|known| Arc::ptr_eq(&known.streams, streams));
        known.unwrap_or_else(|| {
            let tables = streams.iter().map(|spec| self.table_of(spec)).collect();
            self.known.push(Known { streams: Arc::clone(streams), tables });
            self.known.len() - 1
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use millrace_connector::Positions;
    use millrace_event_model::wire::WireRecord;
    use millrace_event_model::{AttemptId, PartitionKey};

    use super::*;

    #[test]
    fn a_row_that_is_still_pending_is_not_taken_for_void() {
        let message = Record {
            source: "shop".parse().unwrap(),
            attempt: AttemptId(1),
            emitted_at: DateTime::UNIX_EPOCH,
            key: PartitionKey([0; 16]),
            body: RecordBody::Row { stream: "s".into(), namespace: None, json: "{}".into() },
        };
        let mut scan = Scan::new(&Positions::from([(0, 0)]));
        scan.observe(0, 0, &message);
        let record = Received {
            partition: 0,
            offset: 0,
            appended_at: DateTime::UNIX_EPOCH,
            raw: WireRecord::default(),
            message: Ok(message),
        };
        assert!(matches!(Judged::new(record, &scan), Err(Error::NotYetDecided)));
    }
}
