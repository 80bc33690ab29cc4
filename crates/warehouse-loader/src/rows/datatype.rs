//! The type of a value, and its cell (warehouse schema rules §5).

use millrace_columnar::Cell;
use millrace_connector::Dialect;
use millrace_event_model::{FieldType, parse_moment};
use serde_json::{Number, Value};

/// Whether a value makes no column: null, the empty text, the empty list, and a list of one such.
pub(super) fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty() || matches!(values.as_slice(), [only] if is_blank(only)),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    }
}

/// A value's type in this dialect, and its cell. A list or object is a JSON cell in a column of text: a
/// preview still shows its structure, and the load writes its text.
pub(super) fn typed(value: &Value, dialect: &Dialect) -> (FieldType, Cell) {
    match value {
        Value::Null => (FieldType::String, Cell::Null),
        Value::Bool(value) => (FieldType::Boolean, Cell::Boolean(*value)),
        Value::Number(number) => typed_number(number),
        Value::String(text) => match parse_moment(text) {
            Some(micros) => (FieldType::DateTime, Cell::DateTime(micros)),
            None => (string_type(text, dialect), Cell::String(text.clone())),
        },
        Value::Array(_) | Value::Object(_) => {
            let text = value.to_string();
            (string_type(&text, dialect), Cell::Json(text))
        }
    }
}

/// A whole number is an integer however it is written (`3.0`), as long as 64 bits hold it.
fn typed_number(number: &Number) -> (FieldType, Cell) {
    if let Some(value) = number.as_i64() {
        return (FieldType::Int, Cell::Int(value));
    }
    // serde_json without arbitrary precision: every number that is no i64 is a float, or near one.
    let value = number.as_f64().unwrap_or(f64::NAN);
    // Up to 2^53 a float tells whole numbers apart, so that the integer is the one that was meant.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT {
        return (FieldType::Int, Cell::Int(value as i64));
    }
    (FieldType::Float, Cell::Float(value))
}

/// `string`, or `text` where the dialect tells it by length.
fn string_type(text: &str, dialect: &Dialect) -> FieldType {
    match dialect.text_above {
        // No text has more UTF-16 units than bytes.
        Some(limit) if text.len() > limit && text.encode_utf16().count() > limit => FieldType::Text,
        _ => FieldType::String,
    }
}

/// A value as JSON text, for a column of JSON, or of text where the dialect has no JSON.
pub(super) fn as_json(value: &Value, dialect: &Dialect) -> (FieldType, Cell) {
    let text = value.to_string();
    if dialect.json_columns {
        return (FieldType::Json, Cell::Json(text));
    }
    (string_type(&text, dialect), Cell::String(text))
}

/// A value as JSON text in a column of text.
pub(super) fn as_text(value: &Value, dialect: &Dialect) -> (FieldType, Cell) {
    let text = value.to_string();
    (string_type(&text, dialect), Cell::String(text))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use millrace_connector::dialect;
    use serde_json::json;

    use super::*;

    fn type_of(value: &Value, kind: &str) -> FieldType {
        typed(value, dialect(kind).unwrap()).0
    }

    #[test]
    fn values_have_the_type_that_they_look_like() {
        assert_eq!(type_of(&json!(3), "postgres"), FieldType::Int);
        assert_eq!(type_of(&json!(3.0), "postgres"), FieldType::Int);
        assert_eq!(type_of(&json!(3.5), "postgres"), FieldType::Float);
        assert_eq!(type_of(&json!(1e300), "postgres"), FieldType::Float);
        assert_eq!(type_of(&json!(u64::MAX), "postgres"), FieldType::Float);
        assert_eq!(type_of(&json!(true), "postgres"), FieldType::Boolean);
        assert_eq!(type_of(&json!("2024-01-01"), "postgres"), FieldType::DateTime);
        assert_eq!(type_of(&json!("3"), "postgres"), FieldType::String);
        assert_eq!(type_of(&json!([1]), "postgres"), FieldType::String);
    }

    #[test]
    fn redshift_tells_long_text_by_its_utf_16_length() {
        assert_eq!(type_of(&json!("x".repeat(512)), "redshift"), FieldType::String);
        assert_eq!(type_of(&json!("x".repeat(513)), "redshift"), FieldType::Text);
        assert_eq!(type_of(&json!("ä".repeat(512)), "redshift"), FieldType::String);
        assert_eq!(type_of(&json!(["x".repeat(509)]), "redshift"), FieldType::Text);
        assert_eq!(type_of(&json!("x".repeat(513)), "postgres"), FieldType::String);
    }

    #[test]
    fn blank_is_null_nothing_and_a_list_of_one_nothing() {
        for blank in [json!(null), json!(""), json!([]), json!([null]), json!([[""]])] {
            assert!(is_blank(&blank), "{blank}");
        }
        for value in [json!(0), json!(false), json!(" "), json!({}), json!(["", ""])] {
            assert!(!is_blank(&value), "{value}");
        }
    }

    #[test]
    fn json_text_has_its_keys_sorted() {
        let value: Value = serde_json::from_str(r#"{"b":{"z":1,"a":2},"a":"<&>"}"#).unwrap();
        let (_, cell) = as_json(&value, dialect("postgres").unwrap());
        assert_eq!(cell, Cell::Json(r#"{"a":"<&>","b":{"a":2,"z":1}}"#.to_owned()));
    }
}
