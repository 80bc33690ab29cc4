//! A field's value as a cell of the type that the source declared, or why it is none.
//!
//! Numbers are read from the digits that the source wrote, so that neither a decimal nor a large integer goes
//! through a float. A number in a column of floats whose digits a float would round is a whole number or a decimal
//! here, and the plan finds its place; only fractions into a warehouse whose floats are binary are rounded to the
//! nearest, which is what such a column is for.

use std::ops::RangeInclusive;

use chrono::{DateTime, Datelike as _, NaiveDate, NaiveDateTime, NaiveTime, Timelike as _};
use millrace_columnar::Cell;
use millrace_connector::Dialect;
use millrace_event_model::FieldType;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::digits::{plain_digits, shortest};

/// Why a value is null in its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// It is not of the declared type.
    Type,
    /// It is, but larger than the warehouse can hold.
    Size,
}

impl Unfit {
    /// In Airbyte's words, as its `_airbyte_meta` has them.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Type => "DESTINATION_TYPECAST_ERROR",
            Self::Size => "DESTINATION_FIELD_SIZE_LIMITATION",
        }
    }
}

/// A value in a column of a declared type; JSON's null is null in all of them.
pub(crate) fn declared(raw: &RawValue, own: FieldType, dialect: &Dialect) -> Result<Cell, Unfit> {
    let json = raw.get();
    if json == "null" {
        return Ok(Cell::Null);
    }
    if own == FieldType::Json {
        return Ok(Cell::Json(json.to_owned()));
    }
    let text = text_of(raw);
    if matches!(own, FieldType::String | FieldType::Text) {
        return Ok(Cell::String(text.unwrap_or_else(|| json.to_owned())));
    }
    if own == FieldType::Decimal {
        return decimal(text.as_deref().unwrap_or(json), dialect);
    }
    let cell = match (own, text) {
        (FieldType::Int, None) => integer(json).map(Cell::Int),
        (FieldType::Float, None) => number(json, dialect),
        (FieldType::Boolean, None) => json.parse().ok().map(Cell::Boolean),
        (FieldType::DateTime, Some(text)) => moment(&text).map(Cell::DateTime),
        (FieldType::LocalDateTime, Some(text)) => moment(&text).map(Cell::LocalDateTime),
        (FieldType::Date, Some(text)) => date(&text).map(Cell::Date),
        (FieldType::Time, Some(text)) => time(&text).map(Cell::Time),
        (FieldType::Uuid, Some(text)) => Uuid::parse_str(&text).ok().map(|id| Cell::Uuid(id.to_string())),
        _ => None,
    };
    cell.ok_or(Unfit::Type)
}

/// A value in a column that nobody declared: of the type that it shows.
pub(crate) fn natural(raw: &RawValue, dialect: &Dialect) -> Cell {
    let json = raw.get();
    match json.as_bytes().first() {
        Some(b'n') | None => Cell::Null,
        Some(b't' | b'f') => Cell::Boolean(json == "true"),
        // Half of a surrogate pair is no text: it stays as the source escaped it.
        Some(b'"') => Cell::String(text_of(raw).unwrap_or_else(|| json.to_owned())),
        Some(b'{' | b'[') if dialect.json_columns => Cell::Json(json.to_owned()),
        Some(b'{' | b'[') => Cell::String(json.to_owned()),
        Some(_) => match json.parse() {
            Ok(value) => Cell::Int(value),
            // An integer beyond 64 bits keeps its digits as text.
            Err(_) if json.bytes().all(|digit| digit == b'-' || digit.is_ascii_digit()) => {
                Cell::String(json.to_owned())
            }
            // A number that no float holds (`1e400` would be infinity) keeps its digits as text too.
            Err(_) => number(json, dialect).unwrap_or_else(|| Cell::String(json.to_owned())),
        },
    }
}

/// The text, where the value is one.
fn text_of(raw: &RawValue) -> Option<String> {
    raw.get().starts_with('"').then(|| serde_json::from_str(raw.get()).ok()).flatten()
}

/// A float, or what it would round: two keys of so many digits would be one float, and one of their rows lost.
fn number(json: &str, dialect: &Dialect) -> Option<Cell> {
    let float: f64 = json.parse().ok().filter(|value: &f64| value.is_finite())?;
    // So few digits are always the shortest of their float.
    let is_short = json.len() <= f64::DIGITS as usize && !json.contains(['e', 'E']);
    let digits = if is_short { None } else { plain_digits(json) };
    let Some(digits) = digits.filter(|digits| shortest(digits) != shortest(&float.to_string())) else {
        return Some(Cell::Float(float));
    };
    if let Some(whole) = integer(json) {
        return Some(Cell::Int(whole));
    }
    let is_kept =
        dialect.exact_floats || (!shortest(&digits).contains('.') && dialect.holds_decimal(&digits));
    Some(if is_kept { Cell::Decimal(digits) } else { Cell::Float(float) })
}

/// A whole number however it is written: `3`, `3.0`, `3e2`.
fn integer(json: &str) -> Option<i64> {
    if let Ok(value) = json.parse() {
        return Some(value);
    }
    let digits = plain_digits(json)?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((&digits, ""));
    whole.parse().ok().filter(|_| fraction.bytes().all(|digit| digit == b'0'))
}

/// A decimal within what the warehouse holds.
fn decimal(text: &str, dialect: &Dialect) -> Result<Cell, Unfit> {
    let digits = plain_digits(text).ok_or(Unfit::Type)?;
    if !dialect.holds_decimal(&digits) {
        return Err(Unfit::Size);
    }
    Ok(Cell::Decimal(digits))
}

/// Years that every warehouse has. Chrono reads signed years far beyond PostgreSQL's, whose server refuses the
/// whole load for one such row, again and again.
const YEARS: RangeInclusive<i32> = 1..=9_999;

/// RFC 3339; without an offset, UTC; a date, its midnight.
fn moment(text: &str) -> Option<i64> {
    let micros = any_moment(text)?;
    let year = DateTime::from_timestamp_micros(micros)?.year();
    YEARS.contains(&year).then_some(micros)
}

fn any_moment(text: &str) -> Option<i64> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Some(at.timestamp_micros());
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"] {
        if let Ok(at) = NaiveDateTime::parse_from_str(text, format) {
            return Some(at.and_utc().timestamp_micros());
        }
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z"] {
        if let Ok(at) = DateTime::parse_from_str(text, format) {
            return Some(at.timestamp_micros());
        }
    }
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some(day.and_time(NaiveTime::MIN).and_utc().timestamp_micros())
}

/// A day, or the midnight that begins it.
fn date(text: &str) -> Option<i32> {
    if let Ok(day) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return YEARS.contains(&day.year()).then(|| day.to_epoch_days());
    }
    let at = DateTime::from_timestamp_micros(moment(text)?)?.naive_utc();
    (at.time() == NaiveTime::MIN).then(|| at.date().to_epoch_days())
}

/// A time of day, to the microsecond.
fn time(text: &str) -> Option<String> {
    let at =
        ["%H:%M:%S%.f", "%H:%M"].iter().find_map(|format| NaiveTime::parse_from_str(text, format).ok())?;
    let micros = at.nanosecond() / 1_000;
    let clock = at.format("%H:%M:%S");
    // Chrono takes 23:59:60 for a leap second, which no column holds.
    match micros {
        0 => Some(clock.to_string()),
        1..1_000_000 => Some(format!("{clock}.{micros:06}").trim_end_matches('0').to_owned()),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use millrace_connector::dialect;
    use proptest::prelude::*;

    use super::*;

    fn cell(json: &str, own: FieldType) -> Result<Cell, Unfit> {
        declared(serde_json::from_str(json).unwrap(), own, dialect("postgres").unwrap())
    }

    #[test]
    fn values_are_kept_as_their_declared_types() {
        let kept = |json: &str, own, expected: Cell| assert_eq!(cell(json, own), Ok(expected), "{json}");
        kept("9223372036854775807", FieldType::Int, Cell::Int(i64::MAX));
        kept("3.0", FieldType::Int, Cell::Int(3));
        kept("12e2", FieldType::Int, Cell::Int(1200));
        kept("5e-324", FieldType::Float, Cell::Float(5e-324));
        kept("true", FieldType::Boolean, Cell::Boolean(true));
        kept(
            "12345678901234567890.1200",
            FieldType::Decimal,
            Cell::Decimal("12345678901234567890.1200".into()),
        );
        kept("\"-0.50\"", FieldType::Decimal, Cell::Decimal("-0.50".into()));
        kept("1.5e-3", FieldType::Decimal, Cell::Decimal("0.0015".into()));
        kept("\"2026-11-28\"", FieldType::Date, Cell::Date(20_785));
        kept("\"2026-11-28T00:00:00Z\"", FieldType::Date, Cell::Date(20_785));
        kept("\"09:30:00.120\"", FieldType::Time, Cell::Time("09:30:00.12".into()));
        kept("\"1970-01-01T01:00:00+01:00\"", FieldType::DateTime, Cell::DateTime(0));
        kept("\"1970-01-01 01:00:00.000001+01\"", FieldType::DateTime, Cell::DateTime(1));
        kept("\"1970-01-01T00:00:01\"", FieldType::LocalDateTime, Cell::LocalDateTime(1_000_000));
        let id = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        kept(&format!("\"{}\"", id.to_uppercase()), FieldType::Uuid, Cell::Uuid(id.into()));
        kept("1.10", FieldType::String, Cell::String("1.10".into()));
        kept("{\"a\": 1.10}", FieldType::Json, Cell::Json("{\"a\": 1.10}".into()));
        kept("null", FieldType::Json, Cell::Null);
    }

    #[test]
    fn a_number_that_a_float_would_round_keeps_its_digits() {
        let number = |kind: &str, json: &str, expected: Cell| {
            let raw: &RawValue = serde_json::from_str(json).unwrap();
            let dialect = dialect(kind).unwrap();
            assert_eq!(declared(raw, FieldType::Float, dialect), Ok(expected), "{kind}: {json}");
        };
        let decimal = |digits: &str| Cell::Decimal(digits.to_owned());
        for kind in ["postgres", "lake"] {
            number(kind, "9007199254740992", Cell::Float(9_007_199_254_740_992.0));
            number(kind, "9007199254740993", Cell::Int(9_007_199_254_740_993));
            number(kind, "-9.007199254740993e15", Cell::Int(-9_007_199_254_740_993));
            number(kind, "18446744073709551615", decimal("18446744073709551615"));
            // As programs write a float: the digits say which it is.
            number(kind, "1.2345678901234568e+18", Cell::Float(1.234_567_890_123_456_8e18));
            number(kind, "0.30000000000000004", Cell::Float(0.1 + 0.2));
            number(kind, "1e300", Cell::Float(1e300));
            number(kind, "5e-324", Cell::Float(5e-324));
            number(kind, "-0.0", Cell::Float(-0.0));
        }
        number("postgres", "12345678901234567.25", decimal("12345678901234567.25"));
        number("lake", "12345678901234567.25", Cell::Float(12_345_678_901_234_567.25));
        // More digits than the lake's decimals have.
        number("lake", "1234567890123456789012345678901", Cell::Float(1.234_567_890_123_456_8e30));
        let undeclared = RawValue::from_string("12345678901234567.25".to_owned()).unwrap();
        let natural = natural(&undeclared, dialect("postgres").unwrap());
        assert_eq!(natural, decimal("12345678901234567.25"));
    }

    #[test]
    fn what_is_not_of_its_type_is_unfit() {
        for (json, own) in [
            ("\"x\"", FieldType::Int),
            ("3.5", FieldType::Int),
            ("9223372036854775808", FieldType::Int),
            ("\"1\"", FieldType::Boolean),
            ("1", FieldType::DateTime),
            ("\"soon\"", FieldType::DateTime),
            ("\"2026-11-28T01:00:00Z\"", FieldType::Date),
            ("\"25:00\"", FieldType::Time),
            ("\"no\"", FieldType::Uuid),
            ("\"NaN\"", FieldType::Decimal),
            ("1e100000000000000000000", FieldType::Decimal),
            ("[1]", FieldType::Float),
        ] {
            assert_eq!(cell(json, own), Err(Unfit::Type), "{json}");
        }
    }

    #[test]
    fn a_decimal_beyond_what_a_warehouse_holds_is_unfit_by_its_size() {
        let lake = |json| {
            declared(serde_json::from_str(json).unwrap(), FieldType::Decimal, dialect("lake").unwrap())
        };
        assert!(lake("0.123456789000").is_ok());
        assert_eq!(lake("0.1234567891"), Err(Unfit::Size));
        assert_eq!(lake("123456789012345678901234567890"), Err(Unfit::Size));
    }

    #[test]
    fn dates_and_local_times_are_utc() {
        let day = 1_767_225_600_000_000;
        for text in ["2026-01-01", "2026-01-01T00:00:00", "2026-01-01 00:00:00.0", "2026-01-01T00:00:00Z"] {
            assert_eq!(moment(text), Some(day), "{text}");
        }
        assert_eq!(moment("01.01.2026"), None);
    }

    proptest! {
        #[test]
        fn no_text_of_digits_makes_it_panic(text in "[0-9eE.+-]{0,12}") {
            let _ = (plain_digits(&text), integer(&text), moment(&text), time(&text), date(&text));
        }
    }

    #[test]
    fn an_undeclared_number_beyond_floats_keeps_its_digits() {
        let raw = RawValue::from_string("1e400".to_owned()).unwrap();
        assert_eq!(natural(&raw, dialect("postgres").unwrap()), Cell::String("1e400".to_owned()));
    }

    #[test]
    fn half_of_a_surrogate_pair_stays_as_the_source_wrote_it() {
        let json = r#""a\ud800""#;
        let expected = Cell::String(json.to_owned());
        assert_eq!(cell(json, FieldType::String), Ok(expected.clone()));
        let raw = RawValue::from_string(json.to_owned()).unwrap();
        assert_eq!(natural(&raw, dialect("postgres").unwrap()), expected);
    }

    #[test]
    fn a_year_that_a_warehouse_lacks_does_not_fit() {
        for text in
            ["-9999-01-01T00:00:00Z", "-9999-01-01", "+12000-01-01", "0000-12-31", "+12000-01-01T00:00:00"]
        {
            assert_eq!((moment(text), date(text)), (None, None), "{text}");
        }
        // Its moment in UTC is in another year than its text says.
        assert_eq!(moment("0001-01-01T00:00:00+01:00"), None);
        assert!(moment("0001-01-01").is_some() && date("9999-12-31").is_some());
    }
}
