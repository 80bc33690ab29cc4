//! The books: `_millrace.counts`, a table like any other. A load appends what became of its items; the sum
//! over `items` by source, hour and disposition is what stands.

use chrono::{DateTime, SecondsFormat, Utc};
use millrace_columnar::arrow::array::RecordBatch;
use millrace_columnar::{Cell, Row, TableSchema, batch_of, rows_of};
use millrace_connector::{ConnectorError, Count, TableLoad, TableName, WriteMode};
use millrace_event_model::{ConnectionId, Disposition, FieldType};
use serde::Deserialize;
use serde::de::IntoDeserializer;

use crate::error::{self, Result};
use crate::tables::OWN_FOLDER;

/// Where the books are.
pub(crate) fn name() -> TableName {
    TableName { schema: OWN_FOLDER.to_owned(), table: "counts".to_owned() }
}

/// Its columns.
pub(crate) fn columns() -> TableSchema {
    let columns = [
        ("connection", FieldType::String),
        ("source", FieldType::String),
        ("hour", FieldType::DateTime),
        ("disposition", FieldType::String),
        ("items", FieldType::Int),
        ("conflicts", FieldType::Int),
    ];
    columns.into_iter().map(|(name, column)| (name.to_owned(), column)).collect()
}

/// The counts of a load as its rows.
pub(crate) fn rows(connection: &ConnectionId, counts: &[Count]) -> Result<TableLoad> {
    let rows = counts.iter().map(|count| row(connection, count)).collect::<Result<Vec<_>>>()?;
    let rows: RecordBatch = batch_of(&columns(), &rows)
        .map_err(|error| error::rows("cannot write the counts of a load".to_owned(), error))?;
    Ok(TableLoad { name: name(), rows: vec![rows], write: WriteMode::Append })
}

/// The key by which the rows of a connection are found: as rows and as the column's name.
pub(crate) fn key_of(connection: &ConnectionId) -> Result<(RecordBatch, String)> {
    let key = "connection".to_owned();
    let columns = TableSchema::from([(key.clone(), FieldType::String)]);
    let row = Row::from([(key.clone(), Cell::String(connection.as_str().to_owned()))]);
    let rows = batch_of(&columns, &[row])
        .map_err(|error| error::rows("cannot name the counts of a connection".to_owned(), error))?;
    Ok((rows, key))
}

/// The query that sums the counts of a connection over the hours from `from` up to `until`.
pub(crate) fn query(connection: &ConnectionId, from: DateTime<Utc>, until: DateTime<Utc>) -> String {
    let moment = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Micros, true);
    format!(
        "SELECT source, hour, disposition, sum(items) AS items, sum(conflicts) AS conflicts FROM {}.{} \
         WHERE connection = '{}' AND hour >= '{}' AND hour < '{}' GROUP BY source, hour, disposition \
         ORDER BY source, hour, disposition",
        OWN_FOLDER,
        name().table,
        connection.as_str().replace('\'', "''"),
        moment(from),
        moment(until),
    )
}

/// The answer to [`query`].
pub(crate) fn read(batch: &RecordBatch) -> Result<Vec<Count>> {
    let rows = rows_of(batch).map_err(|error| error::rows(MALFORMED.to_owned(), error))?;
    rows.into_iter()
        .map(|row| count(&row).ok_or_else(|| ConnectorError::pause("counts", MALFORMED)))
        .collect()
}

const MALFORMED: &str = "the table _millrace.counts has rows that this version did not write";

fn count(row: &Row) -> Option<Count> {
    let text = |name: &str| match row.get(name)? {
        Cell::String(text) => Some(text.as_str()),
        _ => None,
    };
    let number = |name: &str| match row.get(name)? {
        Cell::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    };
    let Cell::DateTime(hour) = row.get("hour")? else { return None };
    let disposition: std::result::Result<_, serde::de::value::Error> =
        Disposition::deserialize(text("disposition")?.into_deserializer());
    Some(Count {
        source: text("source")?.parse().ok()?,
        hour: DateTime::from_timestamp_micros(*hour)?,
        disposition: disposition.ok()?,
        conflicts: number("conflicts")?,
        items: number("items")?,
    })
}

fn row(connection: &ConnectionId, count: &Count) -> Result<Row> {
    let text = |text: &str| Cell::String(text.to_owned());
    let cells = [
        ("connection", text(connection.as_str())),
        ("source", text(count.source.as_str())),
        ("hour", Cell::DateTime(count.hour.timestamp_micros())),
        ("disposition", text(count.disposition.as_str())),
        ("items", number(count.items)?),
        ("conflicts", number(count.conflicts)?),
    ];
    Ok(cells.into_iter().map(|(name, cell)| (name.to_owned(), cell)).collect())
}

fn number(count: u64) -> Result<Cell> {
    let number = i64::try_from(count);
    number
        .map(Cell::Int)
        .map_err(|_| ConnectorError::pause("counts", format!("{count} items are too many to count")))
}
