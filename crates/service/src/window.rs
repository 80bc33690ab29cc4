//! Times of the day in which nothing runs by itself.

use std::borrow::Cow;
use std::fmt;

use chrono::{DateTime, Days, NaiveTime, TimeZone, Utc};
use chrono_tz::Tz;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::Schedule;

/// From one time of each day to another on the clock of a time zone: `08:00-18:00 Europe/Berlin`, or
/// `22:00-06:00` (UTC), which ends on the next day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Window {
    from: NaiveTime,
    /// Never the same as `from`.
    until: NaiveTime,
    /// Only where the text names one; else UTC.
    zone: Option<Tz>,
}

/// A text that is no window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no window: write the time of day from which and the one until which nothing is to run, such as \
     \"08:00-18:00\" (UTC) or \"22:00-06:00 Europe/Berlin\""
)]
pub struct InvalidWindow {
    text: String,
}

impl Window {
    /// Reads two times of day, with or without a time zone of the IANA database behind them.
    ///
    /// # Errors
    /// It is none, or has no length.
    pub fn parse(text: &str) -> Result<Self, InvalidWindow> {
        Self::read(text.trim()).ok_or_else(|| InvalidWindow { text: text.to_owned() })
    }

    fn read(text: &str) -> Option<Self> {
        let (times, zone) = match text.split_once(char::is_whitespace) {
            Some((times, zone)) => (times, Some(zone.trim().parse().ok()?)),
            None => (text, None),
        };
        let (from, until) = times.split_once('-')?;
        let (from, until) = (time_of_day(from)?, time_of_day(until)?);
        (from != until).then_some(Self { from, until, zone })
    }

    /// When the window that `now` lies in ends; none where it lies in none.
    fn end_around(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // It may have begun yesterday, on the clock of its zone.
        let today = now.with_timezone(&self.zone()).date_naive();
        let days = [today.checked_sub_days(Days::new(1)), Some(today)];
        days.into_iter().flatten().find_map(|day| {
            let (begin, end) = self.on(day)?;
            (begin <= now && now < end).then_some(end)
        })
    }

    /// When the first window after `now` begins.
    fn next_begin(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let today = now.with_timezone(&self.zone()).date_naive();
        // On the day after tomorrow at the latest, even where the clock leaps.
        let days = (0..3).filter_map(|days| today.checked_add_days(Days::new(days)));
        days.filter_map(|day| Some(self.on(day)?.0)).find(|begin| *begin > now)
    }

    /// The window that begins on a day of its zone.
    fn on(&self, day: chrono::NaiveDate) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
        let last = if self.until > self.from { day } else { day.checked_add_days(Days::new(1))? };
        Some((self.moment(day, self.from)?, self.moment(last, self.until)?))
    }

    /// A time of day as a moment. One that the clock repeats is the first of the two; one that it leaps over is as
    /// long after the leap as it would have been after its beginning.
    fn moment(&self, day: chrono::NaiveDate, time: NaiveTime) -> Option<DateTime<Utc>> {
        let local = day.and_time(time);
        let zone = self.zone();
        let found = zone.from_local_datetime(&local).earliest();
        let leapt = || {
            let hour = chrono::TimeDelta::hours(1);
            zone.from_local_datetime(&(local + hour)).earliest()
        };
        found.or_else(leapt).map(|moment| moment.with_timezone(&Utc))
    }

    fn zone(&self) -> Tz {
        self.zone.unwrap_or(Tz::UTC)
    }
}

/// Until when windows last that `now` lies in, those that follow without a pause included; none where it lies in
/// none.
#[must_use]
pub fn excluded_until(windows: &[Window], now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let mut until = None;
    // Each round leaves a window of a day behind; a day without an end is refused where windows are read.
    for _ in 0..=2 * windows.len() {
        let at = until.unwrap_or(now);
        let Some(end) = windows.iter().filter_map(|window| window.end_around(at)).max() else { break };
        until = Some(end);
    }
    until
}

/// When the next window begins; none without windows.
#[must_use]
pub fn excluded_from(windows: &[Window], now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    windows.iter().filter_map(|window| window.next_begin(now)).min()
}

/// Whether windows leave time on every day: some minute of a week, as their clocks are in winter and summer.
#[must_use]
pub fn leave_time(windows: &[Window]) -> bool {
    // A January and a July, so that zones are apart as far as they ever are.
    [1_767_225_600, 1_782_864_000].into_iter().filter_map(|second| DateTime::from_timestamp(second, 0)).all(
        |day| {
            let minutes =
                (0..24 * 60).filter_map(|minute| day.checked_add_signed(chrono::TimeDelta::minutes(minute)));
            minutes
                .into_iter()
                .any(|minute| !windows.iter().any(|window| window.end_around(minute).is_some()))
        },
    )
}

impl Schedule {
    /// The first run after `now` outside of these windows. Of an interval, a run that would fall into a window comes
    /// at its end; a time of a cron expression that does is left out.
    #[must_use]
    pub fn next_outside(&self, windows: &[Window], now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut next = self.next_after(now)?;
        while let Some(end) = excluded_until(windows, next) {
            match self {
                Self::Every(_) => return Some(end),
                // A time right at the end is outside.
                _ => next = self.next_after(end - chrono::TimeDelta::milliseconds(1))?,
            }
            // Windows and a time that never meet: a year holds every meeting there is.
            if next - now > chrono::TimeDelta::days(366) {
                return None;
            }
        }
        Some(next)
    }
}

fn time_of_day(text: &str) -> Option<NaiveTime> {
    match text.trim() {
        "24:00" => Some(NaiveTime::MIN),
        text => NaiveTime::parse_from_str(text, "%H:%M").ok(),
    }
}

impl TryFrom<String> for Window {
    type Error = InvalidWindow;

    fn try_from(text: String) -> Result<Self, InvalidWindow> {
        Self::parse(&text)
    }
}

impl From<Window> for String {
    fn from(window: Window) -> Self {
        window.to_string()
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.from.format("%H:%M"), self.until.format("%H:%M"))?;
        self.zone.map_or(Ok(()), |zone| write!(f, " {zone}"))
    }
}

impl JsonSchema for Window {
    fn schema_name() -> Cow<'static, str> {
        "Window".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "Two times of day, in UTC or with a time zone behind them.",
            "examples": ["08:00-18:00", "22:00-06:00 Europe/Berlin"]
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use chrono::TimeDelta;
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn windows(texts: &[&str]) -> Vec<Window> {
        texts.iter().map(|text| Window::parse(text).unwrap()).collect()
    }

    fn until(texts: &[&str], now: &str) -> Option<String> {
        excluded_until(&windows(texts), at(now)).map(|end| end.to_rfc3339())
    }

    #[test]
    fn a_window_is_from_its_first_moment_to_the_one_before_its_last() {
        let office = ["08:00-18:00"];
        assert_eq!(until(&office, "2026-11-24T07:59:59.999Z"), None);
        assert_eq!(until(&office, "2026-11-24T08:00:00Z").as_deref(), Some("2026-11-24T18:00:00+00:00"));
        assert_eq!(until(&office, "2026-11-24T18:00:00Z"), None);
        let night = ["22:00-06:00"];
        assert_eq!(until(&night, "2026-11-24T23:00:00Z").as_deref(), Some("2026-11-25T06:00:00+00:00"));
        assert_eq!(until(&night, "2026-11-25T05:59:00Z").as_deref(), Some("2026-11-25T06:00:00+00:00"));
        assert_eq!(
            until(&["18:00-24:00"], "2026-11-24T23:59:00Z").as_deref(),
            Some("2026-11-25T00:00:00+00:00")
        );
    }

    #[test]
    fn a_window_follows_the_clock_of_its_zone_through_summer_and_winter() {
        let berlin = ["08:00-18:00 Europe/Berlin"];
        assert_eq!(until(&berlin, "2026-07-01T06:30:00Z").as_deref(), Some("2026-07-01T16:00:00+00:00"));
        assert_eq!(until(&berlin, "2026-12-01T06:30:00Z"), None);
        assert_eq!(until(&berlin, "2026-12-01T07:30:00Z").as_deref(), Some("2026-12-01T17:00:00+00:00"));
        // 29 March 2026: the clock leaps from 2:00 (1:00 UTC) to 3:00.
        let leap = ["02:30-04:00 Europe/Berlin"];
        assert_eq!(until(&leap, "2026-03-29T01:15:00Z"), None);
        assert_eq!(until(&leap, "2026-03-29T01:30:00Z").as_deref(), Some("2026-03-29T02:00:00+00:00"));
        // Beyond the date line it is another day.
        let auckland = ["08:00-18:00 Pacific/Auckland"];
        assert_eq!(until(&auckland, "2026-11-23T20:00:00Z").as_deref(), Some("2026-11-24T05:00:00+00:00"));
    }

    #[test]
    fn windows_that_touch_are_one() {
        let both = ["08:00-12:00", "12:00-18:00", "17:00-20:00"];
        assert_eq!(until(&both, "2026-11-24T09:00:00Z").as_deref(), Some("2026-11-24T20:00:00+00:00"));
        let next = excluded_from(&windows(&both), at("2026-11-24T21:00:00Z")).unwrap();
        assert_eq!(next, at("2026-11-25T08:00:00Z"));
        assert_eq!(excluded_from(&[], at("2026-11-24T21:00:00Z")), None);
    }

    #[test]
    fn a_run_waits_for_the_end_of_a_window_and_a_time_in_it_is_left_out() {
        let office = windows(&["08:00-18:00"]);
        let next = |schedule: &str, now: &str| {
            Schedule::parse(schedule).unwrap().next_outside(&office, at(now)).map(|at| at.to_rfc3339())
        };
        assert_eq!(next("30m", "2026-11-24T07:00:00Z").as_deref(), Some("2026-11-24T07:30:00+00:00"));
        assert_eq!(next("30m", "2026-11-24T07:45:00Z").as_deref(), Some("2026-11-24T18:00:00+00:00"));
        assert_eq!(next("0 * * * *", "2026-11-24T07:30:00Z").as_deref(), Some("2026-11-24T18:00:00+00:00"));
        assert_eq!(
            next("30 9,20 * * *", "2026-11-24T07:30:00Z").as_deref(),
            Some("2026-11-24T20:30:00+00:00")
        );
        assert_eq!(next("0 12 * * *", "2026-11-24T07:30:00Z"), None, "never outside");
        assert_eq!(next("manual", "2026-11-24T07:30:00Z"), None);
    }

    #[test]
    fn windows_that_leave_no_time_are_recognised() {
        assert!(leave_time(&windows(&["08:00-07:59"])));
        assert!(!leave_time(&windows(&["00:00-12:00", "12:00-24:00"])));
        assert!(!leave_time(&windows(&["06:00-18:00 Europe/Berlin", "16:00-06:00 UTC"])));
        assert!(leave_time(&[]));
    }

    #[test]
    fn a_window_is_written_as_it_was_read_and_what_is_none_is_refused() {
        for text in ["08:00-18:00", "22:00-06:00 Europe/Berlin", "18:00-00:00"] {
            assert_eq!(Window::parse(text).unwrap().to_string(), text);
        }
        let none = [
            "",
            "8-18",
            "08:00",
            "08:00-08:00",
            "25:00-26:00",
            "08:00-18:00 Europe/Entenhausen",
            "00:00-24:00",
        ];
        for text in none {
            assert!(Window::parse(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn outside_is_outside_and_as_early_as_can_be(
            spans in proptest::collection::vec((0_u32..1440, 0_u32..1440), 0..4),
            minute in 0_i64..3 * 1440,
        ) {
            let text = |(from, until): &(u32, u32)| {
                format!("{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, until / 60, until % 60)
            };
            let windows: Vec<Window> = spans.iter().filter_map(|span| Window::parse(&text(span)).ok()).collect();
            prop_assume!(leave_time(&windows));
            let now = at("2026-11-24T00:00:00Z") + TimeDelta::minutes(minute);
            let inside = |at| windows.iter().any(|window| window.end_around(at).is_some());
            match excluded_until(&windows, now) {
                None => prop_assert!(!inside(now)),
                Some(end) => {
                    prop_assert!(inside(now) && !inside(end));
                    let minutes = (end - now).num_minutes();
                    prop_assert!((0..minutes).all(|ahead| inside(now + TimeDelta::minutes(ahead))));
                }
            }
            if let (false, Some(begin)) = (inside(now), excluded_from(&windows, now)) {
                let minutes = (begin - now).num_minutes();
                prop_assert!(inside(begin) && (0..minutes).all(|ahead| !inside(now + TimeDelta::minutes(ahead))));
            }
        }
    }
}
