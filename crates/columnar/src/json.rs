//! Arrow rows to JSON objects: for `query -o json` and for the field mapping of reverse ETL.
//!
//! Exact: a 64-bit integer keeps its digits, a decimal that a JSON number cannot hold is text, and NaN and
//! the infinities, which JSON has not, are text too. Moments are RFC 3339 in UTC with milliseconds, or
//! microseconds where they have any; a timestamp without a time zone has no `Z`. Columns of type `json`
//! are JSON again.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Decimal128Type, Field, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType, UInt64Type,
};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use millrace_event_model::FieldType;
use serde_json::{Map, Value};

use crate::batch::field_type_of;
use crate::format_moment;
use crate::moment::format_local;

/// The rows of one batch as JSON objects. What can be settled for a column at once is settled in
/// [`JsonRows::new`].
pub struct JsonRows {
    names: Vec<String>,
    columns: Vec<JsonColumn>,
    rows: usize,
}

/// A column, by how its values become JSON.
enum JsonColumn {
    Null,
    Boolean(ArrayRef),
    /// Any integer but `UInt64`, widened.
    Int(ArrayRef),
    UInt(ArrayRef),
    /// Any float, widened.
    Float(ArrayRef),
    Decimal {
        array: ArrayRef,
        scale: i8,
    },
    /// Microseconds; `utc` where the type has a time zone.
    Moment {
        array: ArrayRef,
        utc: bool,
    },
    Text(ArrayRef),
    Json(ArrayRef),
    List {
        array: ArrayRef,
        values: Box<JsonColumn>,
    },
    Struct {
        array: ArrayRef,
        names: Vec<String>,
        columns: Vec<JsonColumn>,
    },
    /// Dates, times, intervals, binary, maps: as Arrow prints them.
    Printed(ArrayRef),
}

impl JsonRows {
    /// Prepares a batch.
    ///
    /// # Errors
    /// A column cannot be widened to the type it is read as: a timestamp beyond what 64 bits of
    /// microseconds hold.
    pub fn new(batch: &RecordBatch) -> Result<Self, ArrowError> {
        let schema = batch.schema();
        let fields = schema.fields().iter().zip(batch.columns());
        let columns = fields.map(|(field, array)| JsonColumn::new(field, array)).collect::<Result<_, _>>()?;
        let names = schema.fields().iter().map(|field| field.name().clone()).collect();
        Ok(Self { names, columns, rows: batch.num_rows() })
    }

    /// All rows in order.
    ///
    /// # Errors
    /// As [`Self::object`].
    pub fn objects(&self) -> impl Iterator<Item = Result<Map<String, Value>, ArrowError>> + '_ {
        (0..self.rows).map(|row| self.object(row))
    }

    /// One row. A null is JSON's null: the column is there.
    ///
    /// # Errors
    /// A value cannot be printed.
    pub fn object(&self, row: usize) -> Result<Map<String, Value>, ArrowError> {
        object(&self.names, &self.columns, row)
    }
}

fn object(names: &[String], columns: &[JsonColumn], row: usize) -> Result<Map<String, Value>, ArrowError> {
    names.iter().zip(columns).map(|(name, column)| Ok((name.clone(), column.value(row)?))).collect()
}

impl JsonColumn {
    fn new(field: &Field, array: &ArrayRef) -> Result<Self, ArrowError> {
        Ok(match array.data_type() {
            DataType::Null => Self::Null,
            DataType::Boolean => Self::Boolean(array.clone()),
            DataType::UInt64 => Self::UInt(array.clone()),
            other if other.is_integer() => Self::Int(cast(array, &DataType::Int64)?),
            other if other.is_floating() => Self::Float(cast(array, &DataType::Float64)?),
            DataType::Decimal32(_, scale)
            | DataType::Decimal64(_, scale)
            | DataType::Decimal128(_, scale) => {
                let array = cast(array, &DataType::Decimal128(38, *scale))?;
                Self::Decimal { array, scale: *scale }
            }
            DataType::Timestamp(_, zone) => {
                let micros = DataType::Timestamp(TimeUnit::Microsecond, zone.clone());
                Self::Moment { array: cast(array, &micros)?, utc: zone.is_some() }
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                let text = cast(array, &DataType::Utf8View)?;
                if field_type_of(field) == FieldType::Json { Self::Json(text) } else { Self::Text(text) }
            }
            DataType::Dictionary(_, values) => {
                let field = field.clone().with_data_type(values.as_ref().clone());
                Self::new(&field, &cast(array, values)?)?
            }
            DataType::List(values) => {
                let inner = Self::new(values, array.as_list::<i32>().values())?;
                Self::List { array: array.clone(), values: Box::new(inner) }
            }
            DataType::LargeList(values) | DataType::FixedSizeList(values, _) | DataType::ListView(values) => {
                Self::new(field, &cast(array, &DataType::List(values.clone()))?)?
            }
            DataType::Struct(fields) => {
                let inner = fields.iter().zip(array.as_struct().columns());
                let columns =
                    inner.map(|(field, array)| Self::new(field, array)).collect::<Result<_, _>>()?;
                let names = fields.iter().map(|field| field.name().clone()).collect();
                Self::Struct { array: array.clone(), names, columns }
            }
            _ => Self::Printed(array.clone()),
        })
    }

    fn array(&self) -> Option<&ArrayRef> {
        match self {
            Self::Null => None,
            Self::Boolean(array)
            | Self::Int(array)
            | Self::UInt(array)
            | Self::Float(array)
            | Self::Decimal { array, .. }
            | Self::Moment { array, .. }
            | Self::Text(array)
            | Self::Json(array)
            | Self::List { array, .. }
            | Self::Struct { array, .. }
            | Self::Printed(array) => Some(array),
        }
    }

    fn value(&self, row: usize) -> Result<Value, ArrowError> {
        if self.array().is_none_or(|array| array.is_null(row)) {
            return Ok(Value::Null);
        }
        Ok(match self {
            Self::Null => Value::Null,
            Self::Boolean(array) => Value::Bool(array.as_boolean().value(row)),
            Self::Int(array) => Value::from(array.as_primitive::<Int64Type>().value(row)),
            Self::UInt(array) => Value::from(array.as_primitive::<UInt64Type>().value(row)),
            Self::Float(array) => float(array.as_primitive::<Float64Type>().value(row)),
            Self::Decimal { array, scale } => {
                decimal(array.as_primitive::<Decimal128Type>().value(row), *scale)
            }
            Self::Moment { array, utc } => {
                let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
                Value::String(if *utc { format_moment(micros) } else { format_local(micros) })
            }
            Self::Text(array) => Value::from(array.as_string_view().value(row)),
            Self::Json(array) => {
                let text = array.as_string_view().value(row);
                // What another writer put there may be no JSON: then it is the text that it is.
                serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
            }
            Self::List { array, values } => {
                let offsets = array.as_list::<i32>().value_offsets();
                let (start, end) = (offset(offsets, row), offset(offsets, row + 1));
                Value::Array((start..end).map(|index| values.value(index)).collect::<Result<_, _>>()?)
            }
            Self::Struct { names, columns, .. } => Value::Object(object(names, columns, row)?),
            Self::Printed(array) => {
                let formatter = ArrayFormatter::try_new(array, &FormatOptions::default())?;
                Value::String(formatter.value(row).try_to_string()?)
            }
        })
    }
}

fn offset(offsets: &[i32], index: usize) -> usize {
    // Arrow keeps one offset more than rows, none of them negative.
    offsets.get(index).and_then(|offset| usize::try_from(*offset).ok()).unwrap_or(0)
}

fn float(value: f64) -> Value {
    serde_json::Number::from_f64(value).map_or_else(|| Value::String(value.to_string()), Value::Number)
}

/// A decimal of up to this many digits is the same decimal again after the way through a float.
const FLOAT_DIGITS: usize = 15;

fn decimal(unscaled: i128, scale: i8) -> Value {
    let Ok(places) = usize::try_from(scale) else {
        return Value::String(format!("{unscaled}e{}", -i32::from(scale)));
    };
    let digits = unscaled.unsigned_abs().to_string();
    let sign = if unscaled < 0 { "-" } else { "" };
    let padded = format!("{digits:0>width$}", width = places + 1);
    let (whole, fraction) = padded.split_at(padded.len() - places);
    if fraction.bytes().all(|digit| digit == b'0')
        && let Ok(value) = format!("{sign}{whole}").parse::<i64>()
    {
        return Value::from(value);
    }
    let text = format!("{sign}{whole}.{fraction}");
    match text.parse::<f64>() {
        Ok(value) if digits.len() <= FLOAT_DIGITS => float(value),
        _ => Value::String(text.trim_end_matches('.').to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        Date32Array, Decimal128Array, DictionaryArray, Float32Array, Int64Array, ListArray, StructArray,
        TimestampNanosecondArray, UInt64Array,
    };
    use arrow::datatypes::{Int32Type, Schema};
    use serde_json::json;

    use super::*;
    use crate::{Cell, Row, TableSchema, batch_of};

    fn first_value(array: ArrayRef) -> Value {
        let field = Field::new("v", array.data_type().clone(), true);
        let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![array]).unwrap();
        let row = JsonRows::new(&batch).unwrap().object(0).unwrap();
        row.get("v").unwrap().clone()
    }

    #[test]
    fn our_own_columns_become_json() {
        let columns = TableSchema::from([
            ("i".to_owned(), FieldType::Int),
            ("f".to_owned(), FieldType::Float),
            ("b".to_owned(), FieldType::Boolean),
            ("at".to_owned(), FieldType::DateTime),
            ("s".to_owned(), FieldType::String),
            ("j".to_owned(), FieldType::Json),
        ]);
        let row = Row::from([
            ("i".to_owned(), Cell::Int(i64::MAX)),
            ("f".to_owned(), Cell::Float(0.1)),
            ("b".to_owned(), Cell::Boolean(true)),
            ("at".to_owned(), Cell::DateTime(1_000_001)),
            ("s".to_owned(), Cell::String("[1]".to_owned())),
            ("j".to_owned(), Cell::Json("{\"a\":[1]}".to_owned())),
        ]);
        let batch = batch_of(&columns, &[row, Row::new()]).unwrap();
        let objects: Vec<_> =
            JsonRows::new(&batch).unwrap().objects().map(|row| Value::Object(row.unwrap())).collect();
        let expected = json!([
            {"i": i64::MAX, "f": 0.1, "b": true, "at": "1970-01-01T00:00:01.000001Z", "s": "[1]", "j": {"a": [1]}},
            {"i": null, "f": null, "b": null, "at": null, "s": null, "j": null},
        ]);
        assert_eq!(Value::Array(objects), expected);
    }

    #[test]
    fn foreign_columns_become_json_without_loss() {
        let decimal = |value, scale| {
            let array = Decimal128Array::from(vec![value]).with_precision_and_scale(38, scale).unwrap();
            first_value(Arc::new(array))
        };
        assert_eq!(decimal(123, 2), json!(1.23));
        assert_eq!(decimal(-5, 3), json!(-0.005));
        assert_eq!(decimal(1200, 2), json!(12));
        assert_eq!(decimal(12_345_678_901_234_567_890, 4), json!("1234567890123456.7890"));
        assert_eq!(decimal(12_345_678_901_234_567_890, 0), json!("12345678901234567890"));
        assert_eq!(first_value(Arc::new(UInt64Array::from(vec![u64::MAX]))), json!(u64::MAX));
        assert_eq!(first_value(Arc::new(Float32Array::from(vec![f32::NAN]))), json!("NaN"));
        assert_eq!(first_value(Arc::new(Date32Array::from(vec![1]))), json!("1970-01-02"));
        let naive = TimestampNanosecondArray::from(vec![1_500_000_000]);
        assert_eq!(first_value(Arc::new(naive)), json!("1970-01-01T00:00:01.500"));
        let words: DictionaryArray<Int32Type> = vec!["a", "b"].into_iter().collect();
        assert_eq!(first_value(Arc::new(words)), json!("a"));
    }

    #[test]
    fn lists_and_structs_nest() {
        let lists = [Some(vec![Some(1), None, Some(3)])];
        let list = ListArray::from_iter_primitive::<Int64Type, _, _>(lists);
        assert_eq!(first_value(Arc::new(list)), json!([1, null, 3]));
        let field = Arc::new(Field::new("x", DataType::Int64, true));
        let inner: ArrayRef = Arc::new(Int64Array::from(vec![7]));
        assert_eq!(first_value(Arc::new(StructArray::from(vec![(field, inner)]))), json!({"x": 7}));
    }
}
