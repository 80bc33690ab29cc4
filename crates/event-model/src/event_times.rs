//! The times of an event, by the server's clock.

use chrono::{DateTime, Utc};

use crate::moment::parse_moment;
use crate::time::Rfc3339;

/// When an event happened, was sent and was received (gateway protocol §4.10), in microseconds since 1970
/// UTC, each to the millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventTimes {
    /// `originalTimestamp`: when the client says it happened, else when the server had it.
    pub original: i64,
    /// `sentAt`: when the client says it sent the event, or the batch, else when the server had it.
    pub sent: i64,
    /// `timestamp`: as given, else received − (sent − original): the original time by the server's clock,
    /// whatever the client's clock shows.
    pub happened: i64,
    /// `receivedAt`: when the server had it.
    pub received: i64,
}

impl EventTimes {
    /// `given` looks up the text of a field in the event's body. Text that is no moment counts as missing.
    pub fn of<'t>(
        given: impl Fn(&str) -> Option<&'t str>,
        received_at: DateTime<Utc>,
        batch_sent_at: Option<&str>,
    ) -> Self {
        let received = received_at.timestamp_millis() * 1_000;
        let given = |name: &str| given(name).and_then(parse_moment);
        let original = given(ORIGINAL).unwrap_or(received);
        let sent = given(SENT).or_else(|| batch_sent_at.and_then(parse_moment)).unwrap_or(received);
        let happened = given(HAPPENED).unwrap_or(received - (sent - original));
        Self { original, sent, happened, received }
    }

    /// Each with the name of its field, in RFC 3339 in UTC with milliseconds.
    #[must_use]
    pub fn fields(&self) -> [(&'static str, String); 4] {
        [
            (ORIGINAL, self.original),
            (SENT, self.sent),
            (HAPPENED, self.happened),
            ("receivedAt", self.received),
        ]
        .map(|(name, micros)| (name, format(micros)))
    }
}

const ORIGINAL: &str = "originalTimestamp";
const SENT: &str = "sentAt";
const HAPPENED: &str = "timestamp";

fn format(micros: i64) -> String {
    // Differences of moments of four-digit years: the calendar has them all.
    let at = DateTime::from_timestamp_micros(micros).unwrap_or_default();
    Rfc3339::new(at).as_str().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECEIVED: &str = "2024-05-01T12:00:10.000Z";

    /// original, sent, happened of an event with these fields.
    fn times(body: &[(&str, &'static str)], batch_sent_at: Option<&str>) -> [String; 3] {
        let given = |name: &str| body.iter().find(|(other, _)| *other == name).map(|(_, text)| *text);
        let received_at = RECEIVED.parse().unwrap_or_default();
        let [original, sent, happened, received] =
            EventTimes::of(given, received_at, batch_sent_at).fields().map(|(_, text)| text);
        assert_eq!(received, RECEIVED);
        [original, sent, happened]
    }

    #[test]
    fn a_wrong_clock_is_corrected_by_when_it_sent() {
        let (original, sent) = ("2030-01-01T00:00:00Z", "2030-01-01T00:00:03Z");
        let corrected = ["2030-01-01T00:00:00.000Z", "2030-01-01T00:00:03.000Z", "2024-05-01T12:00:07.000Z"];
        assert_eq!(times(&[("originalTimestamp", original), ("sentAt", sent)], None), corrected);
        assert_eq!(times(&[("originalTimestamp", original)], Some(sent)), corrected, "the batch's");
        let own = times(&[("originalTimestamp", original), ("sentAt", sent)], Some("2031-01-01"));
        assert_eq!(own, corrected, "the event's own wins");
    }

    #[test]
    fn a_given_time_stands_and_missing_times_are_the_servers() {
        let fields = [("timestamp", "2024-04-30T10:00:00+02:00"), ("originalTimestamp", "soon")];
        assert_eq!(
            times(&fields, Some("2024-05-01T12:00:09Z")),
            [RECEIVED, "2024-05-01T12:00:09.000Z", "2024-04-30T08:00:00.000Z"]
        );
        assert_eq!(times(&[], None), [RECEIVED; 3]);
        assert_eq!(times(&[("sentAt", "")], Some("later")), [RECEIVED; 3]);
    }

    #[test]
    fn the_widest_clocks_apart_are_still_a_time() {
        let fields = [("originalTimestamp", "0001-01-01"), ("sentAt", "9999-12-31")];
        assert_eq!(times(&fields, None)[2], "-7975-05-03T12:00:10.000Z");
    }
}
