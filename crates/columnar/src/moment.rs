//! Moments as text, one way everywhere.

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};

/// RFC 3339 in UTC with a `Z`: milliseconds, or microseconds where the moment has any.
///
/// A count of microseconds that no calendar date has (beyond the year 262,000) is written as the number.
#[must_use]
pub fn format_moment(micros: i64) -> String {
    let Some(at) = DateTime::<Utc>::from_timestamp_micros(micros) else { return micros.to_string() };
    let format = if micros % 1_000 == 0 { SecondsFormat::Millis } else { SecondsFormat::Micros };
    at.to_rfc3339_opts(format, true)
}

/// As [`format_moment`], without a zone.
pub(crate) fn format_local(micros: i64) -> String {
    let mut text = format_moment(micros);
    if text.ends_with('Z') {
        text.pop();
    }
    text
}

/// `yyyy-mm-dd`; a day that no calendar has is written as the number.
pub(crate) fn format_date(days: i32) -> String {
    let day = NaiveDate::from_epoch_days(days);
    day.map_or_else(|| days.to_string(), |day| day.to_string())
}

#[cfg(test)]
mod tests {
    use super::format_moment;

    #[test]
    fn moments_have_milliseconds_and_microseconds_only_where_needed() {
        assert_eq!(format_moment(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(format_moment(1_500_000), "1970-01-01T00:00:01.500Z");
        assert_eq!(format_moment(1_500_001), "1970-01-01T00:00:01.500001Z");
        assert_eq!(format_moment(i64::MAX), i64::MAX.to_string());
    }
}
