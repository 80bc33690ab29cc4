//! Which text is a moment: what the consumers of events must agree on.

use std::ops::RangeInclusive;

/// The longest text that is tried: the same bound as RudderStack's, so that the same texts are times.
const MAX_LENGTH: usize = 40;

/// The moment that a text names, in microseconds since 1970 UTC, to the millisecond; `None` for a text
/// that is no moment between the years 1 and 9999.
///
/// The shapes of warehouse schema rules §5: a date, perhaps with a time after `T` or a blank, perhaps with
/// `Z` or an offset. Without an offset it is UTC. A day that its month has not rolls over into the next,
/// as in JavaScript, so that a slip of a client's date arithmetic is still a time.
#[must_use]
pub fn parse_moment(text: &str) -> Option<i64> {
    if text.len() > MAX_LENGTH || text.len() < 10 {
        return None;
    }
    let mut rest = text.as_bytes();
    let year = number(&mut rest, 4)?;
    take(&mut rest, b"-")?;
    let month = number(&mut rest, 2).filter(|month| (1..=12).contains(month))?;
    take(&mut rest, b"-")?;
    let day = number(&mut rest, 2).filter(|day| (1..=31).contains(day))?;
    let midnight = (first_of(year, month) + i64::from(day) - 1) * MILLIS_PER_DAY;
    if rest.is_empty() {
        return in_range(midnight);
    }
    take(&mut rest, b"Tt \t\n")?;
    let time = time_of_day(&mut rest)?;
    let offset = offset(&mut rest)?;
    if !rest.is_empty() {
        return None;
    }
    in_range(midnight + time - offset)
}

const MILLIS_PER_MINUTE: i64 = 60_000;
const MILLIS_PER_DAY: i64 = 86_400_000;

/// The day of 1970 UTC, from 0, with which a month begins. chrono's dates know more of a day than this, which took
/// them a third of the time of reading a moment; an event has some four. The years here begin with March, so that the
/// day that a leap year has more is their last, and 153 days are five months from March on, wherever they are rounded.
fn first_of(year: u32, month: u32) -> i64 {
    let (year, months) = match month {
        ..3 => (i64::from(year) - 1, i64::from(month) + 9),
        3.. => (i64::from(year), i64::from(month) - 3),
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leap_days + (153 * months + 2) / 5 - DAYS_TO_1970
}

/// From the first of March of the year 0 to 1970.
const DAYS_TO_1970: i64 = 719_468;

/// The years 1 to 9999 in milliseconds since 1970 UTC.
const YEARS: RangeInclusive<i64> = -62_135_596_800_000..=253_402_300_799_999;

fn in_range(millis: i64) -> Option<i64> {
    YEARS.contains(&millis).then(|| millis * 1_000)
}

/// `HH:MM`, `HH:MM:SS`, `HH:MM:SS.fff…`, in milliseconds; digits beyond those are dropped.
fn time_of_day(rest: &mut &[u8]) -> Option<i64> {
    let hour = number(rest, 2).filter(|hour| *hour < 24)?;
    take(rest, b":")?;
    let minute = number(rest, 2).filter(|minute| *minute < 60)?;
    if take(rest, b":").is_none() {
        return Some(i64::from(hour * 60 + minute) * MILLIS_PER_MINUTE);
    }
    let second = number(rest, 2).filter(|second| *second < 60)?;
    let mut millis = 0;
    if take(rest, b".").is_some() {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (fraction, after) = rest.split_at_checked(digits).filter(|(fraction, _)| !fraction.is_empty())?;
        let value = |place: usize| fraction.get(place).map_or(0, |digit| u32::from(digit - b'0'));
        millis = value(0) * 100 + value(1) * 10 + value(2);
        *rest = after;
    }
    Some(i64::from(hour * 60 + minute) * MILLIS_PER_MINUTE + i64::from(second * 1_000 + millis))
}

/// Nothing, `Z`, `+HH`, `+HHMM`, `+HH:MM`, in milliseconds.
fn offset(rest: &mut &[u8]) -> Option<i64> {
    if rest.is_empty() || take(rest, b"Zz").is_some() {
        return Some(0);
    }
    let sign = if take(rest, b"+-")? == b'+' { 1 } else { -1 };
    let hours = number(rest, 2).filter(|hours| *hours < 24)?;
    take(rest, b":");
    let minutes = if rest.is_empty() { 0 } else { number(rest, 2).filter(|minutes| *minutes < 60)? };
    Some(sign * i64::from(hours * 60 + minutes) * MILLIS_PER_MINUTE)
}

fn take(rest: &mut &[u8], any_of: &[u8]) -> Option<u8> {
    let (first, after) = rest.split_first()?;
    any_of.contains(first).then(|| *rest = after)?;
    Some(*first)
}

fn number(rest: &mut &[u8], length: usize) -> Option<u32> {
    let (digits, after) = rest.split_at_checked(length)?;
    let mut value = 0;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u32::from(digit);
    }
    *rest = after;
    Some(value)
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, NaiveDate};
    use proptest::prelude::*;

    use super::*;
    use crate::time::Rfc3339;

    fn normal(text: &str) -> Option<String> {
        parse_moment(text).map(format)
    }

    fn format(micros: i64) -> String {
        Rfc3339::new(DateTime::from_timestamp_micros(micros).unwrap_or_default()).as_str().to_owned()
    }

    #[test]
    fn dates_and_times_of_iso_8601_are_moments() {
        let same = |text, expected: &str| assert_eq!(normal(text).as_deref(), Some(expected), "{text}");
        same("2023-06-14", "2023-06-14T00:00:00.000Z");
        same("2023-06-14T05:23", "2023-06-14T05:23:00.000Z");
        same("2023-06-14 05:23:59", "2023-06-14T05:23:59.000Z");
        same("2023-06-14T05:23:59.1239Z", "2023-06-14T05:23:59.123Z");
        same("2023-06-14T05:23:59.1+02", "2023-06-14T03:23:59.100Z");
        same("2023-06-14T05:23:59-0530", "2023-06-14T10:53:59.000Z");
        same("2023-06-14T05:23:59+05:30", "2023-06-13T23:53:59.000Z");
        same("2023-04-31", "2023-05-01T00:00:00.000Z");
        same("0001-01-01", "0001-01-01T00:00:00.000Z");
        same("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn what_only_looks_like_a_moment_is_text() {
        for text in [
            "",
            "2023",
            "2023-06",
            "2023-6-14",
            "2023-13-01",
            "2023-00-10",
            "2023-06-32",
            "05:23:59Z",
            "+2023-06-14",
            "-2023-06-14T00:00:00Z",
            "2023-06-14T",
            "2023-06-14T24:00",
            "2023-06-14T05",
            "2023-06-14T05:23:61",
            "2023-06-14T05:23:59.",
            "2023-06-14T05:23:59Zulu",
            "2023-06-14Z05:23",
            "0000-12-31",
            "9999-12-31T23:59:59-01",
            "2023-06-14T05:23:59.0000000000000000000000000001Z",
        ] {
            assert_eq!(normal(text), None, "{text}");
        }
    }

    #[test]
    fn months_begin_when_they_do_in_the_calendar() {
        for year in 0..=9999 {
            for month in 1..=12 {
                let day = NaiveDate::from_ymd_opt(year, month, 1).map(|day| i64::from(day.to_epoch_days()));
                assert_eq!(Some(first_of(year.unsigned_abs(), month)), day, "{year}-{month}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_moment_is_the_same_when_it_is_read_again(
            millis in -62_135_596_800_000_i64..=253_402_300_799_999,
        ) {
            prop_assert_eq!(parse_moment(&format(millis * 1_000)), Some(millis * 1_000));
        }

        #[test]
        fn parse_moment_never_panics(text in "[0-9T: .Z+-]{0,45}|\\PC{0,45}") {
            let _ = parse_moment(&text);
        }
    }
}
