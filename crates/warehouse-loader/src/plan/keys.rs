//! Keys as a warehouse compares them: two that differ in a load and not in the table would be there twice, or one would
//! not replace the other.

use std::borrow::Cow;
use std::sync::Arc;

use millrace_columnar::arrow::array::{ArrayRef, AsArray, Float64Array, StringArray};
use millrace_columnar::arrow::datatypes::{Field, Float64Type};
use millrace_columnar::field_type_of;
use millrace_connector::Dialect;
use millrace_event_model::FieldType;
use serde_json::Value;

/// A key column in which keys are equal where the warehouse finds them equal.
pub(super) fn comparable(field: &Field, array: &ArrayRef, dialect: &Dialect) -> ArrayRef {
    match field_type_of(field) {
        FieldType::Decimal => texts(array, |digits| Cow::Borrowed(shortest(digits))),
        // Minus zero is zero to a server that keeps decimals.
        FieldType::Float if dialect.exact_floats => {
            let floats = array.as_primitive::<Float64Type>();
            Arc::new(floats.iter().map(|value| value.map(|value| value + 0.0)).collect::<Float64Array>())
        }
        FieldType::Json if dialect.json_columns => texts(array, |json| same_json(json, dialect)),
        FieldType::String | FieldType::Text if !dialect.holds_nul && has_nul(array) => {
            texts(array, |text| Cow::Owned(text.replace('\0', "")))
        }
        _ => Arc::clone(array),
    }
}

fn has_nul(array: &ArrayRef) -> bool {
    array.as_string::<i32>().value_data().contains(&0)
}

fn texts(array: &ArrayRef, same: impl Fn(&str) -> Cow<'_, str>) -> ArrayRef {
    let texts = array.as_string::<i32>().iter();
    Arc::new(texts.map(|text| text.map(&same)).collect::<StringArray>())
}

/// Digits of a decimal without what does not count: `-0.50` is `-0.5`, and `-0.0` is `0`.
fn shortest(digits: &str) -> &str {
    let shortest = match digits.contains('.') {
        true => digits.trim_end_matches('0').trim_end_matches('.'),
        false => digits,
    };
    if shortest == "-0" { "0" } else { shortest }
}

/// Numbers of so many digits may be another once they were read as floats: a document with such a one stays as it is.
/// Two documents that are taken for one would lose a row.
const EXACT_DIGITS: usize = 15;

/// A document, written one way.
fn same_json<'j>(json: &'j str, dialect: &Dialect) -> Cow<'j, str> {
    let numbers = json.split(|sign: char| !sign.is_ascii_digit() && sign != '.');
    let is_exact = numbers.into_iter().all(|digits| digits.len() <= EXACT_DIGITS);
    match serde_json::from_str::<Value>(json) {
        Ok(mut value) if is_exact => {
            unify(&mut value, dialect);
            Cow::Owned(value.to_string())
        }
        _ => Cow::Borrowed(json),
    }
}

fn unify(value: &mut Value, dialect: &Dialect) {
    match value {
        Value::Null | Value::Bool(_) => {}
        // `1.0` and `1e0` are 1.
        Value::Number(number) => {
            let float = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 1e15);
            if let Some(float) = float {
                *value = Value::from(float as i64);
            }
        }
        Value::String(text) => {
            if !dialect.holds_nul {
                text.retain(|sign| sign != '\0');
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| unify(value, dialect)),
        Value::Object(fields) => {
            fields.sort_keys();
            fields.values_mut().for_each(|value| unify(value, dialect));
        }
    }
}
