//! Keys as a warehouse compares them: two that differ in a load and not in the table would be there twice, or one would
//! not replace the other.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_columnar::arrow::array::{ArrayRef, AsArray, Float64Array, StringArray};
use millrace_columnar::arrow::datatypes::{Field, Float64Type};
use millrace_columnar::field_type_of;
use millrace_connector::Dialect;
use millrace_event_model::FieldType;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::digits::{plain_digits, shortest};

/// A key column in which keys are equal where the warehouse finds them equal.
pub(super) fn comparable(field: &Field, array: &ArrayRef, dialect: &Dialect) -> ArrayRef {
    match field_type_of(field) {
        FieldType::Decimal => texts(array, |digits| Cow::Borrowed(shortest(digits))),
        // Minus zero is zero to a server that keeps decimals.
        FieldType::Float if dialect.exact_floats => {
            let floats = array.as_primitive::<Float64Type>();
            Arc::new(floats.iter().map(|value| value.map(|value| value + 0.0)).collect::<Float64Array>())
        }
        FieldType::Json if dialect.json_columns => texts(array, |json| Cow::Owned(same_json(json, dialect))),
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

/// So deep a document is looked into, as deep as the parser of [`serde_json`] goes; what is further in is compared as
/// it is written.
const MAX_DEPTH: usize = 128;

/// A document, written one way.
fn same_json(json: &str, dialect: &Dialect) -> String {
    let mut same = String::with_capacity(json.len());
    match serde_json::from_str(json) {
        Ok(raw) => write_same(raw, dialect, MAX_DEPTH, &mut same),
        Err(_) => same.push_str(json),
    }
    same
}

/// Strings by what they mean, fields by name, the last of a name; numbers digit by digit: as floats, two that differ
/// would be taken for one, and a row be lost.
fn write_same(raw: &RawValue, dialect: &Dialect, depth: usize, same: &mut String) {
    let json = raw.get();
    let deeper = depth.checked_sub(1);
    match (json.as_bytes().first(), deeper) {
        (Some(b'"'), _) => match serde_json::from_str(json) {
            Ok(text) => write_text(text, dialect, same),
            // Half of a surrogate pair.
            Err(_) => same.push_str(json),
        },
        (Some(b'-' | b'0'..=b'9'), _) => match plain_digits(json) {
            Some(digits) => same.push_str(shortest(&digits)),
            None => same.push_str(json),
        },
        (Some(b'['), Some(deeper)) => match serde_json::from_str::<Vec<&RawValue>>(json) {
            Ok(values) => {
                same.push('[');
                for value in values {
                    write_same(value, dialect, deeper, same);
                    same.push(',');
                }
                same.push(']');
            }
            Err(_) => same.push_str(json),
        },
        (Some(b'{'), Some(deeper)) => match serde_json::from_str::<BTreeMap<String, &RawValue>>(json) {
            Ok(fields) => {
                same.push('{');
                for (name, value) in fields {
                    write_text(name, dialect, same);
                    same.push(':');
                    write_same(value, dialect, deeper, same);
                    same.push(',');
                }
                same.push('}');
            }
            Err(_) => same.push_str(json),
        },
        _ => same.push_str(json),
    }
}

fn write_text(mut text: String, dialect: &Dialect, same: &mut String) {
    if !dialect.holds_nul {
        text.retain(|sign| sign != '\0');
    }
    same.push_str(&Value::String(text).to_string());
}
