//! The type of a value, and its cell (warehouse schema rules §5).

use std::borrow::Cow;

use millrace_connector::Dialect;
use millrace_event_model::{FieldType, parse_moment};
use sonic_rs::{Array, JsonNumberTrait, Number, Value, ValueRef};

use super::cells::{NewCell, Typed};
use super::json::json_text;

/// Whether a value makes no column: null, the empty text, the empty list, and a list of one such.
pub(super) fn is_blank(value: &Value) -> bool {
    match value.as_ref() {
        ValueRef::Null => true,
        ValueRef::String(text) => text.is_empty(),
        ValueRef::Array(values) => is_blank_list(values),
        ValueRef::Bool(_) | ValueRef::Number(_) | ValueRef::Object(_) => false,
    }
}

/// The empty list, and a list of one blank.
pub(super) fn is_blank_list(values: &Array) -> bool {
    match values.as_slice() {
        [] => true,
        [only] => is_blank(only),
        _ => false,
    }
}

/// Neither blank nor a list nor an object.
pub(super) fn is_plain(value: &Value) -> bool {
    match value.as_ref() {
        ValueRef::Bool(_) | ValueRef::Number(_) => true,
        ValueRef::String(text) => !text.is_empty(),
        ValueRef::Null | ValueRef::Array(_) | ValueRef::Object(_) => false,
    }
}

/// The type and cell of a value that is neither blank nor a list nor an object.
pub(super) fn typed_plain<'e>(value: &'e Value, dialect: &Dialect) -> Option<Typed<'e>> {
    match value.as_ref() {
        ValueRef::Bool(value) => Some((FieldType::Boolean, NewCell::Boolean(value))),
        ValueRef::Number(number) => Some(typed_number(&number)),
        ValueRef::String(text) if !text.is_empty() => Some(typed_text(Cow::Borrowed(text), dialect)),
        _ => None,
    }
}

/// A list is a JSON cell in a column of text: a preview still shows its structure, and the load writes its
/// text.
pub(super) fn as_list(value: &Value, dialect: &Dialect) -> Typed<'static> {
    let text = json_text(value);
    (string_type(&text, dialect), NewCell::Json(Cow::Owned(text)))
}

/// A text's type and cell: a moment, or text.
pub(super) fn typed_text<'e>(text: Cow<'e, str>, dialect: &Dialect) -> Typed<'e> {
    match parse_moment(&text) {
        Some(micros) => (FieldType::DateTime, NewCell::DateTime(micros)),
        None => (string_type(&text, dialect), NewCell::String(text)),
    }
}

/// A whole number is an integer however it is written (`3.0`), as long as 64 bits hold it.
fn typed_number(number: &Number) -> Typed<'static> {
    if let Some(value) = number.as_i64() {
        return (FieldType::Int, NewCell::Int(value));
    }
    // Every number that is no i64 is a float, or near one.
    let value = number.as_f64().unwrap_or(f64::NAN);
    // Up to 2^53 a float tells whole numbers apart, so that the integer is the one that was meant.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT {
        return (FieldType::Int, NewCell::Int(value as i64));
    }
    (FieldType::Float, NewCell::Float(value))
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
pub(super) fn as_json(value: &Value, dialect: &Dialect) -> Typed<'static> {
    if dialect.json_columns {
        return (FieldType::Json, NewCell::Json(Cow::Owned(json_text(value))));
    }
    as_text(value, dialect)
}

/// A value as JSON text in a column of text.
pub(super) fn as_text(value: &Value, dialect: &Dialect) -> Typed<'static> {
    let text = json_text(value);
    (string_type(&text, dialect), NewCell::String(Cow::Owned(text)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use millrace_connector::dialect;
    use serde_json::json;

    use super::*;

    fn value(json: &serde_json::Value) -> Value {
        sonic_rs::from_str(&json.to_string()).unwrap()
    }

    fn type_of(json: &serde_json::Value, kind: &str) -> FieldType {
        let (value, dialect) = (value(json), dialect(kind).unwrap());
        typed_plain(&value, dialect).unwrap_or_else(|| as_list(&value, dialect)).0
    }

    #[test]
    fn values_have_the_type_that_they_look_like() {
        assert_eq!(type_of(&json!(3), "postgres"), FieldType::Int);
        assert_eq!(type_of(&json!(3.0), "postgres"), FieldType::Int);
        assert_eq!(type_of(&json!(-0.0), "postgres"), FieldType::Int);
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
            assert!(is_blank(&value(&blank)), "{blank}");
        }
        for there in [json!(0), json!(false), json!(" "), json!({}), json!(["", ""])] {
            assert!(!is_blank(&value(&there)), "{there}");
        }
    }
}
