//! Which tables are partitioned by date, and to which date a row belongs.
//!
//! A table of events lies in folders `millrace_date=2026-11-24`, by the day (UTC) on which the server
//! received the event: a query that names the column reads these folders only, and old days can be deleted
//! by whoever has to. The date is made of `received_at` when rows are written. It is a column of the table
//! for whoever reads it and of none for the loader, so that an event may have a property of any name.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, NaiveDate};
use deltalake_core::kernel::{DataType, StructField};
use millrace_columnar::TableSchema;
use millrace_columnar::arrow::array::{AsArray, BooleanArray, RecordBatch};
use millrace_columnar::arrow::compute::{cast, filter_record_batch};
use millrace_columnar::arrow::datatypes::{DataType as ArrowType, TimeUnit, TimestampMicrosecondType};
use millrace_columnar::arrow::error::ArrowError;
use millrace_connector::TableName;
use millrace_event_model::FieldType;

use crate::tables::OWN_FOLDER;

/// When the server had an event: in every table of events.
const RECEIVED_AT: &str = "received_at";

/// When a record was read: in every table of an ELT stream.
const EXTRACTED_AT: &str = "_millrace_extracted_at";

/// The table in which rows are merged by user: by date, every merge would move rows from one to another.
const USERS: &str = "users";

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// The folder of rows without a date, as Hive calls it and all readers know it.
const NO_DATE: &str = "__HIVE_DEFAULT_PARTITION__";

/// What is partitioned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Partitioning {
    /// Tables of ELT streams too.
    pub(crate) streams: bool,
}

impl Partitioning {
    /// The column that tables are partitioned by. Without an underscore before it: pyarrow and others take a
    /// folder that begins with one for hidden.
    pub(crate) const COLUMN: &str = "millrace_date";

    /// Whether a new table is to be partitioned.
    pub(crate) fn covers(self, name: &TableName, columns: &TableSchema) -> bool {
        let moment = |column| columns.get(column) == Some(&FieldType::DateTime);
        let stream = columns.contains_key(EXTRACTED_AT);
        let events = !stream && moment(RECEIVED_AT) && name.table != USERS;
        let taken = columns.contains_key(Self::COLUMN);
        name.schema != OWN_FOLDER && !taken && (events || (stream && self.streams && moment(EXTRACTED_AT)))
    }

    /// Its field.
    pub(crate) fn field() -> StructField {
        StructField::nullable(Self::COLUMN, DataType::DATE)
    }
}

/// Where rows of one date lie; of a table that is not partitioned, nowhere of their own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Partition {
    /// The table is not partitioned.
    Whole,
    /// Rows of a date, `yyyy-mm-dd`, or of none.
    Date(Option<String>),
}

impl Partition {
    /// The partition of a file, by the values that the log gives.
    pub(crate) fn of_file(partitioned: bool, values: &HashMap<String, Option<String>>) -> Self {
        if !partitioned {
            return Self::Whole;
        }
        Self::Date(values.get(Partitioning::COLUMN).cloned().flatten())
    }

    /// The folder within the table's.
    pub(crate) fn folder(&self) -> Option<String> {
        let Self::Date(date) = self else { return None };
        Some(format!("{}={}", Partitioning::COLUMN, date.as_deref().unwrap_or(NO_DATE)))
    }

    /// What the log says of a file in it.
    pub(crate) fn values(&self) -> HashMap<String, Option<String>> {
        match self {
            Self::Whole => HashMap::new(),
            Self::Date(date) => HashMap::from([(Partitioning::COLUMN.to_owned(), date.clone())]),
        }
    }
}

/// The rows of a batch by their date.
pub(crate) fn by_date(rows: &RecordBatch) -> Result<Vec<(Partition, RecordBatch)>, ArrowError> {
    let Some(column) =
        [EXTRACTED_AT, RECEIVED_AT].iter().find_map(|column| rows.column_by_name(column).cloned())
    else {
        return Ok(vec![(Partition::Date(None), rows.clone())]);
    };
    let micros = cast(&column, &ArrowType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))?;
    let days: Vec<Option<i64>> = micros
        .as_primitive::<TimestampMicrosecondType>()
        .iter()
        .map(|moment| moment.map(|micros| micros.div_euclid(MICROS_PER_DAY)))
        .collect();
    let mut rows_of_day: BTreeMap<Option<i64>, usize> = BTreeMap::new();
    for day in &days {
        *rows_of_day.entry(*day).or_default() += 1;
    }
    let of_day = |day: Option<i64>, count: usize| {
        if count == rows.num_rows() {
            return Ok((Partition::Date(date(day)), rows.clone()));
        }
        let mask: BooleanArray = days.iter().map(|of_row| Some(*of_row == day)).collect();
        Ok((Partition::Date(date(day)), filter_record_batch(rows, &mask)?))
    };
    rows_of_day.into_iter().map(|(day, count)| of_day(day, count)).collect()
}

fn date(day: Option<i64>) -> Option<String> {
    let moment = DateTime::from_timestamp_micros(day?.checked_mul(MICROS_PER_DAY)?)?;
    let date: NaiveDate = moment.date_naive();
    Some(date.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use millrace_columnar::{Cell, Row, batch_of, rows_of};

    use super::*;

    fn columns(names: &[(&str, FieldType)]) -> TableSchema {
        names.iter().map(|(name, column)| ((*name).to_owned(), *column)).collect()
    }

    #[test]
    fn tables_of_events_are_partitioned_and_streams_where_one_asks() {
        let events = columns(&[("id", FieldType::String), (RECEIVED_AT, FieldType::DateTime)]);
        let stream = columns(&[(RECEIVED_AT, FieldType::DateTime), (EXTRACTED_AT, FieldType::DateTime)]);
        let name =
            |schema: &str, table: &str| TableName { schema: schema.to_owned(), table: table.to_owned() };
        let cases = [
            (false, name("web", "tracks"), &events, true),
            (false, name("web", "users"), &events, false),
            (false, name(OWN_FOLDER, "counts"), &events, false),
            (false, name("crm", "contacts"), &stream, false),
            (true, name("crm", "contacts"), &stream, true),
        ];
        for (streams, name, columns, expected) in cases {
            assert_eq!(Partitioning { streams }.covers(&name, columns), expected, "{name:?}");
        }
    }

    #[test]
    fn rows_are_split_by_the_day_on_which_they_were_received() {
        let columns = columns(&[("n", FieldType::Int), (RECEIVED_AT, FieldType::DateTime)]);
        let moments = [Some(0), Some(MICROS_PER_DAY - 1), Some(-1), None, Some(20_781 * MICROS_PER_DAY)];
        let rows: Vec<Row> = (0..)
            .zip(moments)
            .map(|(n, moment)| {
                let mut row = Row::from([("n".to_owned(), Cell::Int(n))]);
                row.extend(moment.map(|micros| (RECEIVED_AT.to_owned(), Cell::DateTime(micros))));
                row
            })
            .collect();
        let split = by_date(&batch_of(&columns, &rows).unwrap()).unwrap();
        let found: Vec<(String, Vec<Cell>)> = split
            .iter()
            .map(|(partition, rows)| {
                let numbers =
                    rows_of(rows).unwrap().into_iter().map(|row| row.get("n").cloned().unwrap()).collect();
                (partition.folder().unwrap(), numbers)
            })
            .collect();
        let expected = [
            ("millrace_date=__HIVE_DEFAULT_PARTITION__", vec![Cell::Int(3)]),
            ("millrace_date=1969-12-31", vec![Cell::Int(2)]),
            ("millrace_date=1970-01-01", vec![Cell::Int(0), Cell::Int(1)]),
            ("millrace_date=2026-11-24", vec![Cell::Int(4)]),
        ];
        assert_eq!(found, expected.map(|(folder, rows)| (folder.to_owned(), rows)));
    }
}
