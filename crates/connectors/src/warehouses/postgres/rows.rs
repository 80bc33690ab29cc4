//! Rows of a query to Arrow; the table of types is in [`super::query`].

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;

use millrace_columnar::TYPE_KEY;
use millrace_columnar::arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, RecordBatch,
    StringArray, TimestampMicrosecondArray,
};
use millrace_columnar::arrow::datatypes::{DataType, Field, SchemaRef, TimeUnit};
use millrace_connector::ConnectorError;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Kind, Type};

use super::encode::{EPOCH_DAYS, EPOCH_MICROS};
use super::error::Failure;
use super::numeric::Numeric;

/// The most digits of an Arrow decimal of 128 bits.
const MAX_DECIMAL_PRECISION: u8 = 38;

/// How a column is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decoder {
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    Numeric,
    Decimal {
        precision: u8,
        scale: u8,
    },
    Boolean,
    Instant,
    LocalTime,
    Day,
    Text,
    Json,
    Bytes,
    /// Turned into text by the server.
    Printed,
    /// Turned into JSON by the server.
    PrintedJson,
}

impl Decoder {
    pub(super) fn new(column: &Type, modifier: i32) -> Self {
        match *column {
            Type::INT2 => Self::Int2,
            Type::INT4 => Self::Int4,
            Type::INT8 => Self::Int8,
            Type::OID => Self::Oid,
            Type::FLOAT4 => Self::Float4,
            Type::FLOAT8 => Self::Float8,
            Type::NUMERIC => decimal(modifier),
            Type::BOOL => Self::Boolean,
            Type::TIMESTAMPTZ => Self::Instant,
            Type::TIMESTAMP => Self::LocalTime,
            Type::DATE => Self::Day,
            Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN => Self::Text,
            Type::JSON | Type::JSONB => Self::Json,
            Type::BYTEA => Self::Bytes,
            Type::RECORD => Self::PrintedJson,
            _ => match column.kind() {
                Kind::Domain(base) => Self::new(base, modifier),
                Kind::Enum(_) => Self::Text,
                Kind::Array(_) | Kind::Composite(_) => Self::PrintedJson,
                _ => Self::Printed,
            },
        }
    }

    /// What the server has to do with the column `name` first.
    pub(super) fn cast(self, name: &str) -> Option<String> {
        match self {
            Self::Printed => Some(format!("{name}::pg_catalog.text")),
            Self::PrintedJson => Some(format!("pg_catalog.to_jsonb({name})")),
            _ => None,
        }
    }

    /// The Arrow field of a column.
    pub(super) fn field(self, name: &str) -> Field {
        let data_type = match self {
            Self::Int2 | Self::Int4 | Self::Int8 | Self::Oid => DataType::Int64,
            Self::Float4 | Self::Float8 | Self::Numeric => DataType::Float64,
            Self::Decimal { precision, scale } => DataType::Decimal128(precision, scale.cast_signed()),
            Self::Boolean => DataType::Boolean,
            Self::Instant => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::LocalTime => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Day => DataType::Date32,
            Self::Text | Self::Json | Self::Printed | Self::PrintedJson => DataType::Utf8,
            Self::Bytes => DataType::Binary,
        };
        let field = Field::new(name, data_type, true);
        match self {
            Self::Json | Self::PrintedJson => {
                field.with_metadata(HashMap::from([(TYPE_KEY.to_owned(), "json".to_owned())]))
            }
            _ => field,
        }
    }
}

/// A `numeric` by its type modifier: −1, or 4 more than precision in the upper and scale in the lower half.
fn decimal(modifier: i32) -> Decoder {
    let packed = modifier - 4;
    if packed < 0 {
        return Decoder::Numeric;
    }
    // The scale has 11 bits; those that are negative, or larger than the precision, Arrow does not hold.
    let (precision, scale) = (packed >> 16, packed & 0x7FF);
    match (u8::try_from(precision), u8::try_from(scale)) {
        (Ok(precision), Ok(scale)) if precision <= MAX_DECIMAL_PRECISION && scale <= precision => {
            Decoder::Decimal { precision, scale }
        }
        _ => Decoder::Printed,
    }
}

/// Rows as a batch.
pub(super) fn to_batch(
    rows: &[Row],
    columns: &[(String, Decoder)],
    schema: &SchemaRef,
) -> Result<RecordBatch, Failure> {
    let mut arrays = Vec::with_capacity(columns.len());
    for (index, (name, decoder)) in columns.iter().enumerate() {
        arrays.push(array(rows, index, name, *decoder)?);
    }
    RecordBatch::try_new(schema.clone(), arrays).map_err(|error| {
        Failure::Known(ConnectorError::reject("arrow", "rows do not fit into Arrow").caused_by(error))
    })
}

/// The column's values as `T`.
fn values<'a, T: FromSql<'a>>(
    rows: &'a [Row],
    index: usize,
) -> Result<Vec<Option<T>>, tokio_postgres::Error> {
    rows.iter().map(|row| row.try_get(index)).collect()
}

fn array(rows: &[Row], index: usize, name: &str, decoder: Decoder) -> Result<ArrayRef, Failure> {
    let ints = |values: Vec<Option<i64>>| Arc::new(Int64Array::from(values)) as ArrayRef;
    Ok(match decoder {
        Decoder::Int2 => ints(values::<i16>(rows, index)?.into_iter().map(|v| v.map(i64::from)).collect()),
        Decoder::Int4 => ints(values::<i32>(rows, index)?.into_iter().map(|v| v.map(i64::from)).collect()),
        Decoder::Oid => ints(values::<u32>(rows, index)?.into_iter().map(|v| v.map(i64::from)).collect()),
        Decoder::Int8 => ints(values(rows, index)?),
        Decoder::Float4 => {
            let wide = values::<f32>(rows, index)?.into_iter().map(|value| value.map(f64::from));
            Arc::new(wide.collect::<Float64Array>())
        }
        Decoder::Float8 => Arc::new(Float64Array::from(values::<f64>(rows, index)?)),
        Decoder::Numeric => {
            let mut doubles = Vec::with_capacity(rows.len());
            for number in values::<WireNumeric>(rows, index)? {
                doubles
                    .push(number.map(|number| number.0.to_f64().ok_or_else(|| inexact(name))).transpose()?);
            }
            Arc::new(Float64Array::from(doubles))
        }
        Decoder::Decimal { precision, scale } => {
            let mut unscaled = Vec::with_capacity(rows.len());
            for number in values::<WireNumeric>(rows, index)? {
                let value = number.map(|number| number.0.to_unscaled(scale).ok_or_else(|| inexact(name)));
                unscaled.push(value.transpose()?);
            }
            let array =
                Decimal128Array::from(unscaled).with_precision_and_scale(precision, scale.cast_signed());
            Arc::new(array.map_err(|_| inexact(name))?)
        }
        Decoder::Boolean => Arc::new(BooleanArray::from(values::<bool>(rows, index)?)),
        Decoder::Instant => Arc::new(moments(rows, index)?.with_timezone("UTC")),
        Decoder::LocalTime => Arc::new(moments(rows, index)?),
        Decoder::Day => {
            let days = values::<WireDay>(rows, index)?.into_iter().map(|day| day.and_then(|day| day.0));
            Arc::new(days.collect::<Date32Array>())
        }
        Decoder::Text | Decoder::Printed => Arc::new(StringArray::from(values::<&str>(rows, index)?)),
        Decoder::Json | Decoder::PrintedJson => {
            let documents =
                values::<WireJson<'_>>(rows, index)?.into_iter().map(|json| json.map(|json| json.0));
            Arc::new(documents.collect::<StringArray>())
        }
        Decoder::Bytes => Arc::new(BinaryArray::from(values::<&[u8]>(rows, index)?)),
    })
}

fn moments(rows: &[Row], index: usize) -> Result<TimestampMicrosecondArray, tokio_postgres::Error> {
    let moments =
        values::<WireMoment>(rows, index)?.into_iter().map(|moment| moment.and_then(|moment| moment.0));
    Ok(moments.collect())
}

fn inexact(name: &str) -> ConnectorError {
    ConnectorError::reject(
        "inexact",
        format!(
            "column {name:?} holds a number that a double or decimal of its size cannot: cast it to text in the query"
        ),
    )
}

struct WireNumeric(Numeric);
struct WireMoment(Option<i64>);
struct WireDay(Option<i32>);
struct WireJson<'a>(&'a str);

type WireError = Box<dyn Error + Sync + Send>;

impl<'a> FromSql<'a> for WireNumeric {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, WireError> {
        Ok(Self(Numeric::read(raw)?))
    }

    fn accepts(column: &Type) -> bool {
        *column == Type::NUMERIC
    }
}

impl<'a> FromSql<'a> for WireMoment {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, WireError> {
        let micros = i64::from_be_bytes(raw.try_into()?);
        // The largest and the smallest are the infinities.
        let finite = micros != i64::MAX && micros != i64::MIN;
        Ok(Self(finite.then(|| micros.checked_add(EPOCH_MICROS)).flatten()))
    }

    fn accepts(column: &Type) -> bool {
        matches!(*column, Type::TIMESTAMPTZ | Type::TIMESTAMP)
    }
}

impl<'a> FromSql<'a> for WireDay {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, WireError> {
        let days = i32::from_be_bytes(raw.try_into()?);
        let finite = days != i32::MAX && days != i32::MIN;
        Ok(Self(finite.then(|| days.checked_add(EPOCH_DAYS)).flatten()))
    }

    fn accepts(column: &Type) -> bool {
        *column == Type::DATE
    }
}

impl<'a> FromSql<'a> for WireJson<'a> {
    fn from_sql(column: &Type, raw: &'a [u8]) -> Result<Self, WireError> {
        // jsonb has a byte with the version of its form in front.
        let text = if *column == Type::JSONB { raw.get(1..).unwrap_or_default() } else { raw };
        Ok(Self(std::str::from_utf8(text)?))
    }

    fn accepts(column: &Type) -> bool {
        matches!(*column, Type::JSON | Type::JSONB)
    }
}
