//! A value whose type is not its column's, at load (warehouse schema rules §6).
//!
//! A column keeps the type it was made with; a later value of another type is converted where nothing or
//! only a fraction is lost, and otherwise leaves a null and a row in `rudder_discards`.

use millrace_event_model::FieldType;

use crate::moment::{format_date, format_local};
use crate::{Cell, format_moment};

/// What becomes of a value in its column.
#[derive(Debug, Clone, PartialEq)]
pub enum Coerced {
    /// The cell to store: null, or of the column's type.
    Converted(Cell),
    /// The column cannot hold it: store null, and a discard.
    Discarded {
        /// The value as text.
        value: String,
        /// Why, in the words of `rudder_discards`.
        reason: String,
    },
}

/// Fits a value into a column.
///
/// - into `string` and `text`: any value, as text;
/// - into `float`: an integer (beyond 2^53 to the nearest float);
/// - into `int`: a float, without its fraction, where 64 bits hold it;
/// - into `json`: any value, as JSON text;
/// - into `decimal`: an integer, and a float as the shortest decimal that reads back as the same;
/// - between `datetime`, `localdatetime` and `date`, taking the clock to be UTC's;
/// - all else is discarded.
#[must_use]
pub fn coerce(cell: Cell, column: FieldType) -> Coerced {
    let Some(own) = cell.field_type() else { return Coerced::Converted(Cell::Null) };
    let converted = match (column, cell) {
        (FieldType::String | FieldType::Text, cell) => Ok(Cell::String(text_of(cell))),
        (FieldType::Json, cell) => Ok(Cell::Json(json_of(cell))),
        (FieldType::Int, Cell::Float(value)) => whole(value).map(Cell::Int).ok_or(Cell::Float(value)),
        // The cast rounds to the nearest float: the column was made for that precision.
        (FieldType::Float, Cell::Int(value)) => Ok(Cell::Float(value as f64)),
        (FieldType::Int, cell @ Cell::Int(_))
        | (FieldType::Float, cell @ Cell::Float(_))
        | (FieldType::Boolean, cell @ Cell::Boolean(_))
        | (FieldType::DateTime, cell @ Cell::DateTime(_))
        | (FieldType::Decimal, cell @ Cell::Decimal(_))
        | (FieldType::Date, cell @ Cell::Date(_))
        | (FieldType::Time, cell @ Cell::Time(_))
        | (FieldType::LocalDateTime, cell @ Cell::LocalDateTime(_))
        | (FieldType::Uuid, cell @ Cell::Uuid(_)) => Ok(cell),
        (FieldType::Decimal, Cell::Int(value)) => Ok(Cell::Decimal(value.to_string())),
        (FieldType::Decimal, Cell::Float(value)) if value.is_finite() => Ok(Cell::Decimal(value.to_string())),
        (FieldType::LocalDateTime, Cell::DateTime(micros)) => Ok(Cell::LocalDateTime(micros)),
        (FieldType::DateTime, Cell::LocalDateTime(micros)) => Ok(Cell::DateTime(micros)),
        (FieldType::Date, Cell::DateTime(micros) | Cell::LocalDateTime(micros)) => {
            Ok(Cell::Date(day_of(micros)))
        }
        (FieldType::DateTime, Cell::Date(days)) => midnight(days).map(Cell::DateTime).ok_or(Cell::Date(days)),
        (FieldType::LocalDateTime, Cell::Date(days)) => {
            midnight(days).map(Cell::LocalDateTime).ok_or(Cell::Date(days))
        }
        (_, cell) => Err(cell),
    };
    match converted {
        Ok(cell) => Coerced::Converted(cell),
        Err(cell) => Coerced::Discarded {
            value: text_of(cell),
            reason: format!("incompatible schema conversion from {column} to {own}"),
        },
    }
}

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// `None` beyond what microseconds count.
fn midnight(days: i32) -> Option<i64> {
    i64::from(days).checked_mul(MICROS_PER_DAY)
}

fn day_of(micros: i64) -> i32 {
    // i64 microseconds are 107 million days at most.
    i32::try_from(micros.div_euclid(MICROS_PER_DAY)).unwrap_or_default()
}

/// The float without its fraction, where 64 bits hold it.
fn whole(value: f64) -> Option<i64> {
    // 2^63 is the first float above i64::MAX; -2^63 is i64::MIN itself.
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    let value = value.trunc();
    (-LIMIT..LIMIT).contains(&value).then_some(value as i64)
}

/// The value as a string column holds it. Null is the empty text.
#[must_use]
pub fn text_of(cell: Cell) -> String {
    match cell {
        Cell::Null => String::new(),
        Cell::Int(value) => value.to_string(),
        Cell::Float(value) => float_text(value),
        Cell::Boolean(value) => value.to_string(),
        Cell::DateTime(micros) => format_moment(micros),
        Cell::LocalDateTime(micros) => format_local(micros),
        Cell::Date(days) => format_date(days),
        Cell::String(text) | Cell::Json(text) | Cell::Decimal(text) | Cell::Time(text) | Cell::Uuid(text) => {
            text
        }
    }
}

fn json_of(cell: Cell) -> String {
    match cell {
        Cell::Null => "null".to_owned(),
        Cell::Int(_) | Cell::Boolean(_) | Cell::Json(_) | Cell::Decimal(_) => text_of(cell),
        // JSON has no infinity and no NaN: those become null, as in JavaScript.
        Cell::Float(value) => serde_json::Value::from(value).to_string(),
        Cell::String(text) => serde_json::Value::String(text).to_string(),
        Cell::DateTime(_) | Cell::LocalDateTime(_) | Cell::Date(_) | Cell::Time(_) | Cell::Uuid(_) => {
            serde_json::Value::String(text_of(cell)).to_string()
        }
    }
}

/// The shortest digits that read back as the same float; with an exponent only where plain digits would
/// be longer than a reader can count (at 1e21 and below 1e-4, where Go's `%v` changes over too).
fn float_text(value: f64) -> String {
    let magnitude = value.abs();
    if value.is_finite() && magnitude != 0.0 && !(1e-4..1e21).contains(&magnitude) {
        return format!("{value:e}");
    }
    value.to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::batch::tests::{any_cell, any_type};

    #[test]
    fn values_are_converted_where_nothing_but_a_fraction_is_lost() {
        let converted = |cell, column, expected| {
            assert_eq!(coerce(cell, column), Coerced::Converted(expected));
        };
        converted(Cell::Int(3), FieldType::String, Cell::String("3".into()));
        converted(Cell::Boolean(true), FieldType::Text, Cell::String("true".into()));
        converted(Cell::Float(0.1), FieldType::String, Cell::String("0.1".into()));
        converted(Cell::Float(1e21), FieldType::String, Cell::String("1e21".into()));
        converted(Cell::DateTime(0), FieldType::String, Cell::String("1970-01-01T00:00:00.000Z".into()));
        converted(Cell::Int(3), FieldType::Float, Cell::Float(3.0));
        converted(Cell::Float(-3.9), FieldType::Int, Cell::Int(-3));
        converted(Cell::Float(i64::MIN as f64), FieldType::Int, Cell::Int(i64::MIN));
        converted(Cell::String("a\"b".into()), FieldType::Json, Cell::Json("\"a\\\"b\"".into()));
        converted(Cell::Boolean(false), FieldType::Json, Cell::Json("false".into()));
        converted(Cell::Json("[1]".into()), FieldType::String, Cell::String("[1]".into()));
        converted(Cell::Null, FieldType::Int, Cell::Null);
    }

    #[test]
    fn types_of_elt_columns_are_converted_by_the_clock_of_utc_and_digit_by_digit() {
        let converted = |cell, column, expected| {
            assert_eq!(coerce(cell, column), Coerced::Converted(expected));
        };
        let late = -1;
        converted(Cell::DateTime(late), FieldType::Date, Cell::Date(-1));
        converted(Cell::LocalDateTime(MICROS_PER_DAY), FieldType::Date, Cell::Date(1));
        converted(Cell::Date(-1), FieldType::DateTime, Cell::DateTime(-MICROS_PER_DAY));
        converted(Cell::Date(2), FieldType::LocalDateTime, Cell::LocalDateTime(2 * MICROS_PER_DAY));
        converted(Cell::DateTime(late), FieldType::LocalDateTime, Cell::LocalDateTime(late));
        converted(Cell::LocalDateTime(late), FieldType::DateTime, Cell::DateTime(late));
        converted(Cell::Int(i64::MIN), FieldType::Decimal, Cell::Decimal("-9223372036854775808".into()));
        converted(Cell::Float(1e-7), FieldType::Decimal, Cell::Decimal("0.0000001".into()));
        converted(Cell::Date(-1), FieldType::String, Cell::String("1969-12-31".into()));
        let local = Cell::String("1969-12-31T23:59:59.999999".into());
        converted(Cell::LocalDateTime(late), FieldType::String, local);
        converted(Cell::Decimal("1.50".into()), FieldType::Json, Cell::Json("1.50".into()));
        converted(Cell::Time("12:00:00".into()), FieldType::Json, Cell::Json("\"12:00:00\"".into()));
        let beyond = coerce(Cell::Date(i32::MAX), FieldType::DateTime);
        assert!(matches!(beyond, Coerced::Discarded { .. }), "{beyond:?}");
    }

    #[test]
    fn what_does_not_fit_is_discarded_with_its_value_and_reason() {
        let discarded = |cell, column, expected_value: &str, expected_reason: &str| {
            let expected =
                Coerced::Discarded { value: expected_value.into(), reason: expected_reason.into() };
            assert_eq!(coerce(cell, column), expected);
        };
        let reason = "incompatible schema conversion from datetime to string";
        discarded(Cell::String("soon".into()), FieldType::DateTime, "soon", reason);
        let reason = "incompatible schema conversion from boolean to int";
        discarded(Cell::Int(1), FieldType::Boolean, "1", reason);
        let reason = "incompatible schema conversion from int to float";
        discarded(Cell::Float(f64::NAN), FieldType::Int, "NaN", reason);
        discarded(Cell::Float(9.3e18), FieldType::Int, "9300000000000000000", reason);
    }

    proptest! {
        #[test]
        fn coerce_gives_null_or_the_columns_type(cell in any_cell(), column in any_type()) {
            if let Coerced::Converted(cell) = coerce(cell, column) {
                let stored = cell.field_type();
                let same = |own| own == column || (own, column) == (FieldType::String, FieldType::Text);
                prop_assert!(stored.is_none_or(same));
            }
        }

        #[test]
        fn coerce_twice_is_coerce_once(cell in any_cell(), column in any_type()) {
            if let Coerced::Converted(once) = coerce(cell, column) {
                prop_assert_eq!(format!("{:?}", coerce(once.clone(), column)), format!("{:?}", Coerced::Converted(once)));
            }
        }
    }
}
