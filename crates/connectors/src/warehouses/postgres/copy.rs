//! Arrow rows into a table by binary COPY, the fastest way in that PostgreSQL has.

use std::borrow::Cow;
use std::error::Error;

use bytes::{BufMut, BytesMut};
use millrace_columnar::arrow::array::{
    Array, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use millrace_columnar::arrow::datatypes::{
    DataType, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};
use millrace_connector::ConnectorError;
use tokio_postgres::Transaction;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{IsNull, Kind, ToSql, Type, to_sql_checked};

use super::error::Failure;
use super::numeric::Numeric;
use super::text::{storable_json, storable_text};

/// Microseconds from 1970, where Arrow counts from, to 2000, where PostgreSQL does.
pub(super) const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// The same in days.
pub(super) const EPOCH_DAYS: i32 = 10_957;
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// One value on the wire.
#[derive(Debug)]
pub(super) enum Value<'a> {
    Null,
    Int8(i64),
    Int4(i32),
    Int2(i16),
    Float8(f64),
    Float4(f32),
    Numeric(f64),
    Bool(bool),
    Text(Cow<'a, str>),
    Json(Cow<'a, str>),
    Jsonb(Cow<'a, str>),
    /// Microseconds since 2000.
    Moment(i64),
    /// Days since 2000.
    Day(i32),
    Uuid(u128),
}

impl ToSql for Value<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Null => return Ok(IsNull::Yes),
            Self::Int8(value) | Self::Moment(value) => out.put_i64(*value),
            Self::Int4(value) | Self::Day(value) => out.put_i32(*value),
            Self::Int2(value) => out.put_i16(*value),
            Self::Float8(value) => out.put_f64(*value),
            Self::Float4(value) => out.put_f32(*value),
            Self::Numeric(value) => Numeric::from_f64(*value).write(out),
            Self::Bool(value) => out.put_u8(u8::from(*value)),
            Self::Text(text) | Self::Json(text) => out.put_slice(text.as_bytes()),
            Self::Jsonb(text) => {
                // The version of jsonb's wire form.
                out.put_u8(1);
                out.put_slice(text.as_bytes());
            }
            Self::Uuid(value) => out.put_u128(*value),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        // `Column::new` has matched value and type; there is no second opinion to be had here.
        true
    }

    to_sql_checked!();
}

/// How a column of ours is written into a column of the server's.
enum Column<'a> {
    Int8(&'a Int64Array),
    Int4(&'a Int64Array),
    Int2(&'a Int64Array),
    Float8(&'a Float64Array),
    Float4(&'a Float64Array),
    Numeric(&'a Float64Array),
    Bool(&'a BooleanArray),
    Text(&'a StringArray),
    Json(&'a StringArray),
    Jsonb(&'a StringArray),
    Moment(&'a TimestampMicrosecondArray),
    Day(&'a TimestampMicrosecondArray),
}

impl<'a> Column<'a> {
    /// `None`: values of this Arrow type cannot be written into a column of that type.
    fn new(array: &'a dyn Array, target: &Type) -> Option<Self> {
        let target = match target.kind() {
            Kind::Domain(base) => base,
            _ => target,
        };
        Some(match (array.data_type(), target) {
            (DataType::Int64, &Type::INT8) => Self::Int8(array.as_primitive::<Int64Type>()),
            (DataType::Int64, &Type::INT4) => Self::Int4(array.as_primitive::<Int64Type>()),
            (DataType::Int64, &Type::INT2) => Self::Int2(array.as_primitive::<Int64Type>()),
            (DataType::Float64, &Type::FLOAT8) => Self::Float8(array.as_primitive::<Float64Type>()),
            (DataType::Float64, &Type::FLOAT4) => Self::Float4(array.as_primitive::<Float64Type>()),
            (DataType::Float64, &Type::NUMERIC) => Self::Numeric(array.as_primitive::<Float64Type>()),
            (DataType::Boolean, &Type::BOOL) => Self::Bool(array.as_boolean()),
            (DataType::Utf8, &Type::TEXT | &Type::VARCHAR | &Type::BPCHAR) => Self::Text(array.as_string()),
            (DataType::Utf8, &Type::JSON) => Self::Json(array.as_string()),
            (DataType::Utf8, &Type::JSONB) => Self::Jsonb(array.as_string()),
            (DataType::Timestamp(TimeUnit::Microsecond, _), &Type::TIMESTAMPTZ | &Type::TIMESTAMP) => {
                Self::Moment(array.as_primitive::<TimestampMicrosecondType>())
            }
            (DataType::Timestamp(TimeUnit::Microsecond, _), &Type::DATE) => {
                Self::Day(array.as_primitive::<TimestampMicrosecondType>())
            }
            _ => return None,
        })
    }

    fn array(&self) -> &dyn Array {
        match self {
            Self::Int8(array) | Self::Int4(array) | Self::Int2(array) => array,
            Self::Float8(array) | Self::Float4(array) | Self::Numeric(array) => array,
            Self::Bool(array) => array,
            Self::Text(array) | Self::Json(array) | Self::Jsonb(array) => array,
            Self::Moment(array) | Self::Day(array) => array,
        }
    }

    /// `None`: the value is beyond what the server's column can hold.
    fn value(&self, row: usize) -> Option<Value<'a>> {
        if self.array().is_null(row) {
            return Some(Value::Null);
        }
        Some(match self {
            Self::Int8(array) => Value::Int8(array.value(row)),
            Self::Int4(array) => Value::Int4(array.value(row).try_into().ok()?),
            Self::Int2(array) => Value::Int2(array.value(row).try_into().ok()?),
            Self::Float8(array) => Value::Float8(array.value(row)),
            #[expect(clippy::cast_possible_truncation, reason = "the column's owner chose real")]
            Self::Float4(array) => Value::Float4(array.value(row) as f32),
            Self::Numeric(array) => Value::Numeric(array.value(row)),
            Self::Bool(array) => Value::Bool(array.value(row)),
            Self::Text(array) => Value::Text(storable_text(array.value(row))),
            Self::Json(array) => Value::Json(storable_json(array.value(row))),
            Self::Jsonb(array) => Value::Jsonb(storable_json(array.value(row))),
            Self::Moment(array) => Value::Moment(array.value(row).checked_sub(EPOCH_MICROS)?),
            Self::Day(array) => {
                let days = array.value(row).div_euclid(MICROS_PER_DAY);
                Value::Day(i32::try_from(days).ok()?.checked_sub(EPOCH_DAYS)?)
            }
        })
    }
}

/// Copies rows into a table whose columns are `types`, in the order of the batch.
/// `table` and `columns` are quoted.
pub(super) async fn copy_rows(
    transaction: &Transaction<'_>,
    table: &str,
    columns: &str,
    types: &[Type],
    rows: &RecordBatch,
) -> Result<(), Failure> {
    let schema = rows.schema();
    let misfit = |index: usize, problem: &str| {
        let name = schema.fields().get(index).map(|field| field.name().as_str()).unwrap_or_default();
        let target = types.get(index).map(Type::name).unwrap_or_default();
        Failure::Known(ConnectorError::pause(
            "column_type",
            format!(
                "column {name:?} of table {table} is of type {target}: {problem}; change its type or rename it"
            ),
        ))
    };
    let mut writers = Vec::with_capacity(types.len());
    for (index, (array, target)) in rows.columns().iter().zip(types).enumerate() {
        let writer = Column::new(array.as_ref(), target);
        writers.push(
            writer.ok_or_else(|| misfit(index, &format!("{} cannot be written to it", array.data_type())))?,
        );
    }
    let sink = transaction.copy_in(&format!("COPY {table} ({columns}) FROM STDIN (FORMAT binary)")).await?;
    let writer = BinaryCopyInWriter::new(sink, types);
    let mut writer = std::pin::pin!(writer);
    let mut values = Vec::with_capacity(writers.len());
    for row in 0..rows.num_rows() {
        values.clear();
        for (index, column) in writers.iter().enumerate() {
            values.push(column.value(row).ok_or_else(|| misfit(index, "a value is beyond its range"))?);
        }
        writer.as_mut().write_raw(values.iter()).await?;
    }
    writer.finish().await?;
    Ok(())
}
