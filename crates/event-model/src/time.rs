//! Times as text, for headers that are written and read a million times a second.

use std::fmt;

use chrono::{DateTime, Datelike as _, SecondsFormat, Timelike as _, Utc};
use serde::de::{Deserializer, Error, Visitor};

use crate::parse_moment;

/// `2026-11-24T20:37:16.123Z`.
const LENGTH: usize = 24;

/// A time in RFC 3339 with milliseconds in UTC, formatted without an allocation: chrono's own formatter
/// takes as long as splitting a whole event out of its batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rfc3339 {
    Short([u8; LENGTH]),
    /// Years of more or less than four digits.
    Long(String),
}

impl Rfc3339 {
    pub(crate) fn new(at: DateTime<Utc>) -> Self {
        let mut text = [0; LENGTH];
        let millis = at.nanosecond() / 1_000_000;
        let year = at.year();
        // A leap second has more than a thousand milliseconds here.
        if !(0..=9999).contains(&year) || millis > 999 {
            return Self::Long(at.to_rfc3339_opts(SecondsFormat::Millis, true));
        }
        text.copy_from_slice(b"0000-00-00T00:00:00.000Z");
        let [y1, y2, y3, y4, _, m1, m2, _, d1, d2, _, h1, h2, _, n1, n2, _, s1, s2, _, f1, f2, f3, _] =
            &mut text;
        let year = year.unsigned_abs();
        digits([y1, y2, y3, y4], year);
        digits([m1, m2], at.month());
        digits([d1, d2], at.day());
        digits([h1, h2], at.hour());
        digits([n1, n2], at.minute());
        digits([s1, s2], at.second());
        digits([f1, f2, f3], millis);
        Self::Short(text)
    }

    pub(crate) fn as_str(&self) -> &str {
        match self {
            // Digits and punctuation: it is text.
            Self::Short(text) => std::str::from_utf8(text).unwrap_or_default(),
            Self::Long(text) => text,
        }
    }
}

/// A time in RFC 3339. In the form of [`Rfc3339::Short`] it is read without chrono's parser, which takes as long as
/// the rest of an event's header.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<DateTime<Utc>, D::Error> {
    from.deserialize_str(Time)
}

struct Time;

impl Visitor<'_> for Time {
    type Value = DateTime<Utc>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time in RFC 3339")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        of_short(text).map_or_else(|| text.parse().map_err(E::custom), Ok)
    }
}

/// A time in the form of [`Rfc3339::Short`].
pub(crate) fn of_short(text: &str) -> Option<DateTime<Utc>> {
    if text.len() != LENGTH || !text.ends_with('Z') {
        return None;
    }
    let at = DateTime::from_timestamp_micros(parse_moment(text)?)?;
    // A moment's 30 February is 2 March.
    (text.get(8..10)?.parse() == Ok(at.day())).then_some(at)
}

fn digits<const N: usize>(places: [&mut u8; N], mut number: u32) {
    for place in places.into_iter().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_what_chrono_reads() {
        let texts = [
            "2026-11-24T20:37:16.123Z",
            "0001-01-01T00:00:00.000Z",
            "9999-12-31T23:59:59.999Z",
            "2026-11-24T20:37:16.123456Z",
            "2026-11-24T20:37:16+01:00",
            "2026-11-24T20:37:1+01:00Z",
            "2026-11-24T20:37:16.12 Z",
            "2026-13-24T20:37:16.123Z",
            "2026-02-30T20:37:16.123Z",
            "",
        ];
        for text in texts {
            let read = deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(text));
            assert_eq!(read.ok(), text.parse::<DateTime<Utc>>().ok(), "{text}");
        }
    }

    #[test]
    fn it_writes_what_chrono_writes() {
        for millis in
            [0, 1, 999, 1_764_000_000_123, 253_402_300_799_999, 253_402_300_800_000, -1, -62_167_219_200_001]
        {
            let at = DateTime::from_timestamp_millis(millis).unwrap_or_default();
            assert_eq!(Rfc3339::new(at).as_str(), at.to_rfc3339_opts(SecondsFormat::Millis, true));
        }
    }
}
