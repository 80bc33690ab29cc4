//! The books: `_millrace.counts`, a table like any other. A load appends what became of its items; the sum
//! over `items` by source, hour and disposition is what stands.

use millrace_columnar::arrow::array::RecordBatch;
use millrace_columnar::{Cell, Row, TableSchema, batch_of};
use millrace_connector::{ConnectorError, Count, TableLoad, TableName, WriteMode};
use millrace_event_model::{ConnectionId, FieldType};

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
