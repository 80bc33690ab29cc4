//! How often a destination may be called: pure.

use std::time::Duration;

use backon::ExponentialBackoff;
use chrono::{DateTime, Utc};
use millrace_connector::{Rate, Turns};
use millrace_service::later;

use crate::RetryPolicy;
use crate::backoff::delays;

/// Where a rate is configured, so many calls that are throttled in a row hold the destination back. Fewer
/// concern their own items: within its rate, a destination that says now and then that it is too much is
/// not told anything by silence.
const THROTTLED_IN_A_ROW: u32 = 3;

/// The configured rate, and what the destination itself asks for when it says that it is too much.
#[derive(Debug)]
pub(crate) struct Pace {
    turns: Option<Turns>,
    held_until: Option<DateTime<Utc>>,
    /// Calls that were throttled since the last that was not.
    throttled: u32,
    retry: RetryPolicy,
    /// Of throttlings that follow each other.
    waits: Option<ExponentialBackoff>,
}

impl Pace {
    pub(crate) fn new(rate: Option<Rate>, retry: RetryPolicy) -> Self {
        Self { turns: rate.map(Turns::new), held_until: None, throttled: 0, retry, waits: None }
    }

    /// When the next call may begin, if that is later than now.
    pub(crate) fn not_before(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let by_rate = self.turns.as_ref().map(|turns| turns.next(0, now));
        by_rate.max(self.held_until).filter(|at| *at > now)
    }

    /// A call begins.
    pub(crate) fn called(&mut self, now: DateTime<Utc>) {
        if let Some(turns) = &mut self.turns {
            turns.begin(now);
        }
    }

    /// The rate has no room until then, as the connector knows that counts requests: nothing is sent.
    pub(crate) fn no_room(&mut self, after: Duration, now: DateTime<Utc>) {
        self.held_until = self.held_until.max(Some(later(now, after.min(self.retry.max_delay))));
    }

    /// The destination says that it is too much: nothing is sent for as long as it asks for, or for longer
    /// each time where it asks for nothing. Calls that were under way together are one time.
    pub(crate) fn throttled(&mut self, after: Option<Duration>, now: DateTime<Utc>) {
        self.throttled += 1;
        if self.turns.is_some() && self.throttled < THROTTLED_IN_A_ROW {
            return;
        }
        let again = self.held_until.is_none_or(|until| until <= now);
        let wait = match after {
            Some(after) => after.min(self.retry.max_delay),
            None if again => {
                let waits = self.waits.get_or_insert_with(|| delays(&self.retry));
                waits.next().unwrap_or(self.retry.max_delay)
            }
            None => return,
        };
        self.held_until = self.held_until.max(Some(later(now, wait)));
    }

    /// The destination took a call that was made after the last throttling.
    pub(crate) fn accepted(&mut self, now: DateTime<Utc>) {
        self.throttled = 0;
        if self.held_until.is_none_or(|until| until <= now) {
            self.held_until = None;
            self.waits = None;
        }
    }

    /// Until when it is held back by the destination's own word, if it is.
    pub(crate) fn held_until(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.held_until.filter(|until| *until > now)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn at(millis: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + chrono::Duration::milliseconds(millis)
    }

    fn rate(calls: u32, per: u64) -> Rate {
        Rate { calls: NonZeroU32::new(calls).unwrap(), per: Duration::from_millis(per) }
    }

    fn pace(rate: Option<Rate>) -> Pace {
        Pace::new(rate, RetryPolicy::default())
    }

    #[test]
    fn what_the_destination_asks_for_is_waited_and_no_longer() {
        let mut pace = pace(None);
        pace.throttled(Some(Duration::from_secs(3)), at(0));
        pace.throttled(Some(Duration::from_secs(1)), at(100));
        assert_eq!(pace.not_before(at(100)), Some(at(3_000)));
        assert_eq!(pace.not_before(at(3_000)), None);
        pace.throttled(Some(Duration::from_secs(1_000_000)), at(3_000));
        assert_eq!(pace.not_before(at(3_000)), Some(at(3_603_000)), "but not for ever");
    }

    #[test]
    fn without_a_word_on_how_long_it_waits_longer_each_time_until_a_call_is_accepted() {
        let mut pace = pace(None);
        pace.throttled(None, at(0));
        let first = pace.not_before(at(0)).unwrap();
        assert!(first >= at(1_000) && first <= at(2_000));
        pace.throttled(None, at(10));
        assert_eq!(pace.not_before(at(10)), Some(first), "it was under way together with the first");
        pace.throttled(None, first);
        let second = pace.not_before(first).unwrap();
        assert!(second - first >= chrono::Duration::seconds(3));
        pace.accepted(second - chrono::Duration::milliseconds(1));
        assert_eq!(pace.not_before(first), Some(second), "an answer to an earlier call ends no wait");
        pace.accepted(second);
        pace.throttled(None, second);
        assert!(pace.not_before(second).unwrap() - second <= chrono::Duration::seconds(2));
    }

    #[test]
    fn what_the_connector_says_of_the_rate_is_waited_at_once() {
        let mut pace = pace(Some(rate(2, 1_000)));
        pace.called(at(0));
        assert_eq!(pace.not_before(at(0)), None);
        pace.no_room(Duration::from_secs(4), at(0));
        assert_eq!((pace.not_before(at(0)), pace.not_before(at(4_000))), (Some(at(4_000)), None));
    }

    #[test]
    fn within_a_rate_a_single_throttling_holds_nobody_else_and_a_run_of_them_all() {
        let mut pace = pace(Some(rate(100, 1_000)));
        let second = Some(Duration::from_secs(1));
        for _ in 0..10 {
            pace.throttled(second, at(0));
            pace.throttled(second, at(0));
            pace.accepted(at(0));
        }
        assert_eq!(pace.not_before(at(0)), None);
        for _ in 0..3 {
            pace.throttled(second, at(0));
        }
        assert_eq!(pace.not_before(at(0)), Some(at(1_000)));
    }
}
