//! Rows of an Arrow batch in the form of binary COPY, straight from the arrays.
//!
//! | Arrow | column of the server |
//! |---|---|
//! | Int64 | bigint, integer, smallint, numeric, double precision, real |
//! | Float64 | double precision, real, numeric |
//! | Boolean | boolean |
//! | Timestamp(µs) with or without a zone | timestamptz, timestamp, date |
//! | Date32 | date |
//! | Utf8 | text, varchar, char |
//! | Utf8 marked `json` | also json, jsonb |
//! | Utf8 marked `decimal` | also numeric, double precision, real |
//! | Utf8 marked `time`, `uuid` | also time, uuid |
//!
//! What the server cannot hold in text and JSON is changed as [`super::text`] says. Why this is no library:
//! ADR 0008.

use bytes::{BufMut, BytesMut};
use chrono::{NaiveTime, Timelike};
use memchr::memchr;
use millrace_columnar::arrow::array::{Array, AsArray, RecordBatch, StringArray};
use millrace_columnar::arrow::buffer::{BooleanBuffer, NullBuffer};
use millrace_columnar::arrow::datatypes::{
    DataType, Date32Type, Field, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};
use millrace_columnar::field_type_of;
use millrace_connector::ConnectorError;
use millrace_event_model::FieldType;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::numeric::{self, Numeric};
use super::targets::Target;
use super::text::{storable_json, storable_text};

/// Microseconds from 1970, where Arrow counts from, to 2000, where PostgreSQL does.
pub(super) const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// The same in days.
pub(super) const EPOCH_DAYS: i32 = 10_957;
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Instead of a value's length.
const NULL: i32 = -1;
/// The version of jsonb's wire form.
const JSONB_VERSION: u8 = 1;

/// How a column of ours is written into a column of the server's.
enum Values<'a> {
    Int8(&'a [i64]),
    Int4(&'a [i64]),
    Int2(&'a [i64]),
    IntNumeric(&'a [i64]),
    IntFloat8(&'a [i64]),
    IntFloat4(&'a [i64]),
    Float8(&'a [f64]),
    Float4(&'a [f64]),
    FloatNumeric(&'a [f64]),
    Bool(&'a BooleanBuffer),
    /// Text without U+0000 in any of its values.
    Clean(&'a StringArray),
    Text(&'a StringArray),
    Json(&'a StringArray),
    Jsonb(&'a StringArray),
    Decimal(&'a StringArray),
    DecimalFloat8(&'a StringArray),
    DecimalFloat4(&'a StringArray),
    Time(&'a StringArray),
    Uuid(&'a StringArray),
    Moment(&'a [i64]),
    DayOfMoment(&'a [i64]),
    Day(&'a [i32]),
}

struct Column<'a> {
    nulls: Option<&'a NullBuffer>,
    values: Values<'a>,
}

/// A batch with the ways its columns are written.
pub(super) struct Encoder<'a> {
    table: &'a str,
    rows: &'a RecordBatch,
    targets: &'a [Target],
    columns: Vec<Column<'a>>,
    count: i16,
}

impl<'a> Encoder<'a> {
    /// `table` is for error messages.
    ///
    /// # Errors
    /// `Pause`: a column of the table has a type that its values cannot be written to.
    pub(super) fn new(
        table: &'a str,
        rows: &'a RecordBatch,
        targets: &'a [Target],
    ) -> Result<Self, ConnectorError> {
        // The server has at most 1,600 columns.
        let count = i16::try_from(targets.len()).unwrap_or(i16::MAX);
        let mut encoder = Self { table, rows, targets, columns: Vec::with_capacity(targets.len()), count };
        let schema = rows.schema_ref();
        for (index, (array, target)) in rows.columns().iter().zip(targets).enumerate() {
            let values = target.own.as_ref().and_then(|own| values(schema.field(index), array.as_ref(), own));
            let problem = || format!("{} cannot be written to it", field_type_of(schema.field(index)));
            let values = values.ok_or_else(|| encoder.misfit(index, &problem()))?;
            encoder.columns.push(Column { nulls: array.nulls(), values });
        }
        Ok(encoder)
    }

    pub(super) fn rows(&self) -> usize {
        self.rows.num_rows()
    }

    /// Appends a row.
    ///
    /// # Errors
    /// `Pause`: a value is beyond what its column can hold.
    pub(super) fn put_row(&self, row: usize, out: &mut BytesMut) -> Result<(), ConnectorError> {
        out.put_i16(self.count);
        for (index, column) in self.columns.iter().enumerate() {
            let put = column.put(row, out);
            put.ok_or_else(|| self.misfit(index, "a value is beyond its range"))?;
        }
        Ok(())
    }

    fn misfit(&self, index: usize, problem: &str) -> ConnectorError {
        let name = self.rows.schema_ref().fields().get(index).map(|field| field.name().as_str());
        let target = self.targets.get(index).map(|target| target.name.as_str());
        ConnectorError::pause(
            "column_type",
            format!(
                "column {:?} of table {} is of type {}: {problem}; change its type or rename it",
                name.unwrap_or_default(),
                self.table,
                target.unwrap_or_default()
            ),
        )
    }
}

/// `None`: values of this column cannot be written into a column of that type.
fn values<'a>(field: &Field, array: &'a dyn Array, target: &Type) -> Option<Values<'a>> {
    let ints = || array.as_primitive::<Int64Type>().values().as_ref();
    let floats = || array.as_primitive::<Float64Type>().values().as_ref();
    let micros = || array.as_primitive::<TimestampMicrosecondType>().values().as_ref();
    Some(match (array.data_type(), target) {
        (DataType::Int64, &Type::INT8) => Values::Int8(ints()),
        (DataType::Int64, &Type::INT4) => Values::Int4(ints()),
        (DataType::Int64, &Type::INT2) => Values::Int2(ints()),
        (DataType::Int64, &Type::NUMERIC) => Values::IntNumeric(ints()),
        (DataType::Int64, &Type::FLOAT8) => Values::IntFloat8(ints()),
        (DataType::Int64, &Type::FLOAT4) => Values::IntFloat4(ints()),
        (DataType::Float64, &Type::FLOAT8) => Values::Float8(floats()),
        (DataType::Float64, &Type::FLOAT4) => Values::Float4(floats()),
        (DataType::Float64, &Type::NUMERIC) => Values::FloatNumeric(floats()),
        (DataType::Boolean, &Type::BOOL) => Values::Bool(array.as_boolean().values()),
        (DataType::Timestamp(TimeUnit::Microsecond, _), &Type::TIMESTAMPTZ | &Type::TIMESTAMP) => {
            Values::Moment(micros())
        }
        (DataType::Timestamp(TimeUnit::Microsecond, _), &Type::DATE) => Values::DayOfMoment(micros()),
        (DataType::Date32, &Type::DATE) => Values::Day(array.as_primitive::<Date32Type>().values().as_ref()),
        (DataType::Utf8, target) => texts(field_type_of(field), array.as_string(), target)?,
        _ => return None,
    })
}

fn texts<'a>(own: FieldType, array: &'a StringArray, target: &Type) -> Option<Values<'a>> {
    Some(match (own, target) {
        (_, &Type::TEXT | &Type::VARCHAR | &Type::BPCHAR) => {
            // One look at all values together, which lie side by side.
            match memchr(0, array.value_data()) {
                None => Values::Clean(array),
                Some(_) => Values::Text(array),
            }
        }
        (FieldType::Json, &Type::JSON) => Values::Json(array),
        (FieldType::Json, &Type::JSONB) => Values::Jsonb(array),
        (FieldType::Decimal, &Type::NUMERIC) => Values::Decimal(array),
        (FieldType::Decimal, &Type::FLOAT8) => Values::DecimalFloat8(array),
        (FieldType::Decimal, &Type::FLOAT4) => Values::DecimalFloat4(array),
        (FieldType::Time, &Type::TIME) => Values::Time(array),
        (FieldType::Uuid, &Type::UUID) => Values::Uuid(array),
        _ => return None,
    })
}

impl Column<'_> {
    /// `None`: the value is beyond what the server's column can hold.
    fn put(&self, row: usize, out: &mut BytesMut) -> Option<()> {
        if self.nulls.is_some_and(|nulls| nulls.is_null(row)) {
            out.put_i32(NULL);
            return Some(());
        }
        match &self.values {
            Values::Int8(values) => put(out, values.get(row)?.to_be_bytes()),
            Values::Int4(values) => put(out, i32::try_from(*values.get(row)?).ok()?.to_be_bytes()),
            Values::Int2(values) => put(out, i16::try_from(*values.get(row)?).ok()?.to_be_bytes()),
            Values::IntNumeric(values) => numeric::put_i64(out, *values.get(row)?),
            Values::Float8(values) => put(out, values.get(row)?.to_be_bytes()),
            // Here and below: the column's owner chose a binary float, and gets the nearest.
            Values::IntFloat8(values) => put(out, (*values.get(row)? as f64).to_be_bytes()),
            Values::IntFloat4(values) => put(out, (*values.get(row)? as f32).to_be_bytes()),
            Values::Float4(values) => {
                let (value, nearest) = (*values.get(row)?, *values.get(row)? as f32);
                // No number becomes infinite, of whatever type the others of its load are.
                put(out, (nearest.is_finite() || !value.is_finite()).then_some(nearest)?.to_be_bytes());
            }
            Values::FloatNumeric(values) => numeric::put_f64(out, *values.get(row)?),
            Values::Bool(values) => put(out, [u8::from(values.value(row))]),
            Values::Clean(array) => put_bytes(out, &[], array.value(row).as_bytes())?,
            Values::Text(array) => put_bytes(out, &[], storable_text(array.value(row)).as_bytes())?,
            Values::Json(array) => put_bytes(out, &[], storable_json(array.value(row)).as_bytes())?,
            Values::Jsonb(array) => {
                put_bytes(out, &[JSONB_VERSION], storable_json(array.value(row)).as_bytes())?;
            }
            Values::Decimal(array) => numeric::put(out, &Numeric::from_text(array.value(row))?),
            Values::DecimalFloat8(array) => {
                let value: f64 = array.value(row).parse().ok()?;
                put(out, value.is_finite().then_some(value)?.to_be_bytes());
            }
            Values::DecimalFloat4(array) => {
                let value: f32 = array.value(row).parse().ok()?;
                put(out, value.is_finite().then_some(value)?.to_be_bytes());
            }
            Values::Time(array) => put(out, micros_of_day(array.value(row))?.to_be_bytes()),
            Values::Uuid(array) => put(out, Uuid::try_parse(array.value(row)).ok()?.into_bytes()),
            Values::Moment(values) => put(out, since_2000(*values.get(row)?)?.to_be_bytes()),
            Values::DayOfMoment(values) => {
                let day = i32::try_from(values.get(row)?.div_euclid(MICROS_PER_DAY)).ok()?;
                put(out, day.checked_sub(EPOCH_DAYS)?.to_be_bytes());
            }
            Values::Day(values) => put(out, values.get(row)?.checked_sub(EPOCH_DAYS)?.to_be_bytes()),
        }
        Some(())
    }
}

/// The largest and the smallest count are the server's infinities.
fn since_2000(micros: i64) -> Option<i64> {
    micros.checked_sub(EPOCH_MICROS).filter(|micros| *micros != i64::MIN)
}

fn micros_of_day(text: &str) -> Option<i64> {
    let time: NaiveTime = text.parse().ok()?;
    Some(i64::from(time.num_seconds_from_midnight()) * 1_000_000 + i64::from(time.nanosecond() / 1_000))
}

/// 16 bytes at most.
fn put<const N: usize>(out: &mut BytesMut, value: [u8; N]) {
    out.put_i32(N as i32);
    out.put_slice(&value);
}

/// `None`: the value is longer than the protocol counts. No batch comes near it.
fn put_bytes(out: &mut BytesMut, prefix: &[u8], value: &[u8]) -> Option<()> {
    out.put_i32(i32::try_from(prefix.len() + value.len()).ok()?);
    out.put_slice(prefix);
    out.put_slice(value);
    Some(())
}
