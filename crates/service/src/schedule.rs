//! When something runs by itself.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::Cron;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// When something runs by itself: `30s`, `"*/15 * * * *"`, `"0 6 * * * Europe/Berlin"`, or `manual`.
#[derive(Clone, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Schedule {
    /// This long after the last run began, or at once when it took longer.
    Every(Duration),
    /// At the times of a cron expression.
    Cron(Box<CronSchedule>),
    /// Never by itself.
    Manual,
}

/// A cron expression on the clock of a time zone.
#[derive(Clone, PartialEq)]
pub struct CronSchedule {
    cron: Cron,
    /// Only where the text names one; else UTC.
    zone: Option<Tz>,
}

impl CronSchedule {
    /// `None`: the text is none, or never comes.
    fn parse(text: &str) -> Option<Self> {
        // No day of the week is called as a zone is, so the last word tells by itself what it is.
        let (expression, zone) = match text.rsplit_once(char::is_whitespace) {
            Some((expression, last)) => match last.parse::<Tz>() {
                Ok(zone) => (expression, Some(zone)),
                Err(_) => (text, None),
            },
            None => (text, None),
        };
        let schedule = Self { cron: Cron::from_str(expression.trim()).ok()?, zone };
        // The 30th of February: better said here than found out by waiting.
        schedule.next_after(DateTime::UNIX_EPOCH)?;
        Some(schedule)
    }

    /// The first time after `now`. Where the clock is put forward over a time, it comes right after the gap;
    /// where it is put back over one, a time of day comes once.
    fn next_after(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let local = now.with_timezone(&self.zone.unwrap_or(Tz::UTC));
        Some(self.cron.find_next_occurrence(&local, false).ok()?.with_timezone(&Utc))
    }
}

impl fmt::Display for CronSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.cron.as_str())?;
        self.zone.map_or(Ok(()), |zone| write!(f, " {zone}"))
    }
}

/// A text that is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no schedule: use an interval such as 500ms, 30s, 5m, 2h or 1d, \
     a cron expression such as \"*/15 * * * *\" (UTC) or \"0 6 * * * Europe/Berlin\", or manual"
)]
pub struct InvalidSchedule {
    text: String,
}

impl Schedule {
    /// Reads an interval, a cron expression with or without a time zone of the IANA database behind it, or
    /// `manual`.
    ///
    /// # Errors
    /// It is none of them, or an interval of nothing, or a cron expression that never comes.
    pub fn parse(text: &str) -> Result<Self, InvalidSchedule> {
        let invalid = || InvalidSchedule { text: text.to_owned() };
        let trimmed = text.trim();
        if trimmed == "manual" {
            return Ok(Self::Manual);
        }
        if let Some(interval) = parse_interval(trimmed) {
            return Ok(Self::Every(interval));
        }
        CronSchedule::parse(trimmed).map(|cron| Self::Cron(Box::new(cron))).ok_or_else(invalid)
    }

    /// The first run after `now`; none for `manual`.
    #[must_use]
    pub fn next_after(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Every(interval) => now.checked_add_signed(chrono::Duration::from_std(*interval).ok()?),
            Self::Cron(cron) => cron.next_after(now),
            Self::Manual => None,
        }
    }
}

/// Units by length, longest first.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

pub(crate) fn parse_interval(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let milliseconds = UNITS.iter().find(|(name, _)| *name == unit)?.1;
    let total = number.parse::<u64>().ok()?.checked_mul(milliseconds)?;
    if total == 0 { None } else { Some(Duration::from_millis(total)) }
}

impl TryFrom<String> for Schedule {
    type Error = InvalidSchedule;

    fn try_from(text: String) -> Result<Self, InvalidSchedule> {
        Self::parse(&text)
    }
}

impl From<Schedule> for String {
    fn from(schedule: Schedule) -> Self {
        schedule.to_string()
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(interval) => {
                let milliseconds = interval.as_millis();
                let whole = |(_, length): &&(&str, u64)| milliseconds.is_multiple_of(u128::from(*length));
                let (unit, length) = UNITS.iter().find(whole).unwrap_or(&("ms", 1));
                write!(f, "{}{unit}", milliseconds / u128::from(*length))
            }
            Self::Cron(cron) => cron.fmt(f),
            Self::Manual => f.write_str("manual"),
        }
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schedule({self})")
    }
}

impl JsonSchema for Schedule {
    fn schema_name() -> Cow<'static, str> {
        "Schedule".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "An interval (500ms, 30s, 5m, 2h, 1d), a cron expression in UTC or with a time zone behind it, or manual.",
            "examples": ["30s", "*/15 * * * *", "0 6 * * * Europe/Berlin", "manual"]
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn next(schedule: &str, after: &str) -> Option<String> {
        let now = DateTime::parse_from_rfc3339(after).unwrap().with_timezone(&Utc);
        Schedule::parse(schedule).unwrap().next_after(now).map(|at| at.to_rfc3339())
    }

    #[test]
    fn an_interval_counts_from_now_and_cron_from_the_clock() {
        let now = "2026-11-24T10:07:30Z";
        assert_eq!(next("2s", now).as_deref(), Some("2026-11-24T10:07:32+00:00"));
        assert_eq!(next("500ms", now).as_deref(), Some("2026-11-24T10:07:30.500+00:00"));
        assert_eq!(next("*/15 * * * *", now).as_deref(), Some("2026-11-24T10:15:00+00:00"));
        assert_eq!(next("0 * * * *", "2026-11-24T11:00:00Z").as_deref(), Some("2026-11-24T12:00:00+00:00"));
        assert_eq!(next("manual", now), None);
    }

    #[test]
    fn a_time_of_day_in_a_zone_follows_its_clock_through_summer_and_winter() {
        let berlin = |after| next("0 6 * * * Europe/Berlin", after);
        assert_eq!(berlin("2026-07-01T00:00:00Z").as_deref(), Some("2026-07-01T04:00:00+00:00"));
        assert_eq!(berlin("2026-12-01T00:00:00Z").as_deref(), Some("2026-12-01T05:00:00+00:00"));
        assert_eq!(berlin("2026-12-01T05:00:00Z").as_deref(), Some("2026-12-02T05:00:00+00:00"));
        let mondays = next("30 9 * * MON Asia/Kolkata", "2026-11-24T00:00:00Z");
        assert_eq!(mondays.as_deref(), Some("2026-11-30T04:00:00+00:00"));
    }

    #[test]
    fn a_time_that_the_clock_leaps_over_comes_right_after_and_one_it_repeats_comes_once() {
        let half_past_two = |after| next("30 2 * * * Europe/Berlin", after);
        // 29 March 2026: from 2:00 (1:00 UTC) straight to 3:00.
        assert_eq!(half_past_two("2026-03-28T12:00:00Z").as_deref(), Some("2026-03-29T01:00:00+00:00"));
        // 25 October 2026: 2:30 is at 0:30 and again at 1:30 UTC.
        let first = half_past_two("2026-10-24T12:00:00Z");
        assert_eq!(first.as_deref(), Some("2026-10-25T00:30:00+00:00"));
        assert_eq!(half_past_two("2026-10-25T00:30:00Z").as_deref(), Some("2026-10-26T01:30:00+00:00"));
        // What comes every half hour goes on through both.
        let every_half_hour = |after| next("*/30 * * * * Europe/Berlin", after);
        assert_eq!(every_half_hour("2026-10-25T00:30:00Z").as_deref(), Some("2026-10-25T01:00:00+00:00"));
        assert_eq!(every_half_hour("2026-10-25T01:00:00Z").as_deref(), Some("2026-10-25T01:30:00+00:00"));
    }

    #[test]
    fn a_schedule_is_written_as_it_was_read() {
        let zoned = "0 6 * * 1-5 America/New_York";
        for text in ["500ms", "2s", "1m", "90s", "2h", "1d", "*/15 * * * *", zoned, "manual"] {
            assert_eq!(Schedule::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Schedule::parse("60s").unwrap().to_string(), "1m");
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        let unknown_zone = "0 6 * * * Europe/Entenhausen";
        for text in [
            "",
            "0s",
            "5",
            "5 minutes",
            "-1s",
            "1.5h",
            "* * *",
            "99 * * * *",
            "0 0 30 2 *",
            "hourly",
            "UTC",
            unknown_zone,
        ] {
            assert!(Schedule::parse(text).is_err(), "{text:?}");
        }
        assert!(Schedule::parse("99999999999999999999d").is_err());
    }
}
