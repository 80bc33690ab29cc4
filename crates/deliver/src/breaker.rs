//! Whether a destination answers at all: pure.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use chrono::{DateTime, Utc};
use millrace_event_model::Reason;
use millrace_service::later;

use crate::ledger::Place;

/// So many different items failed one after the other, and none was answered in between: it is the
/// destination that fails, not a key. Items are counted and not calls, so that a key that is tried again
/// and again opens no breaker for the others.
const OPENS_AFTER: usize = 10;

/// The first wait; each that follows is twice as long, with up to as much random time on top.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest wait: a destination that is back is noticed after two minutes at the latest.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Closed while calls are answered. Open after a run of failures: nothing is sent, but for one call after
/// each wait. So an outage costs a call a minute and not an attempt at each item, and items that were never
/// tried are not given up for it.
#[derive(Debug)]
pub(crate) enum Breaker {
    /// With the items that have failed since the last answer.
    Closed { failed: Vec<(Place, i64)> },
    /// Until a call is answered.
    Open { why: String, until: DateTime<Utc>, trying: bool, waits: ExponentialBackoff },
}

impl Default for Breaker {
    fn default() -> Self {
        Self::Closed { failed: Vec::new() }
    }
}

impl Breaker {
    /// Whether a call may be made.
    pub(crate) fn allows(&self, now: DateTime<Utc>) -> bool {
        match self {
            Self::Closed { .. } => true,
            Self::Open { until, trying, .. } => !trying && *until <= now,
        }
    }

    /// A call is made.
    pub(crate) fn called(&mut self) {
        if let Self::Open { trying, .. } = self {
            *trying = true;
        }
    }

    /// Nobody waits for a call's answer any more.
    pub(crate) fn forget_call(&mut self) {
        if let Self::Open { trying, .. } = self {
            *trying = false;
        }
    }

    /// A call was answered, whatever the answer was.
    pub(crate) fn answered(&mut self) {
        match self {
            Self::Closed { failed } => failed.clear(),
            Self::Open { .. } => *self = Self::default(),
        }
    }

    /// A call failed, the first item of which stood there.
    pub(crate) fn failed(&mut self, first: (Place, i64), reason: &Reason, now: DateTime<Utc>) {
        match self {
            Self::Closed { failed } => {
                if !failed.contains(&first) {
                    failed.push(first);
                }
                if failed.len() >= OPENS_AFTER {
                    let mut waits = ExponentialBuilder::new()
                        .with_min_delay(FIRST_WAIT)
                        .with_max_delay(LONGEST_WAIT)
                        .with_jitter()
                        .without_max_times()
                        .build();
                    let until = later(now, waits.next().unwrap_or(LONGEST_WAIT));
                    let why = format!(
                        "it does not answer ({}); it is tried now and then: {}",
                        reason.code, reason.message
                    );
                    *self = Self::Open { why, until, trying: false, waits };
                }
            }
            // Not the late answers of calls that were made before it opened.
            Self::Open { until, trying: trying @ true, waits, .. } => {
                *trying = false;
                *until = later(now, waits.next().unwrap_or(LONGEST_WAIT));
            }
            Self::Open { .. } => {}
        }
    }

    /// Why nothing is sent, while it is open.
    pub(crate) fn why_open(&self) -> Option<&str> {
        match self {
            Self::Closed { .. } => None,
            Self::Open { why, .. } => Some(why),
        }
    }

    /// When the next call may be made, while it is open and none is under way.
    pub(crate) fn next_due(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Open { until, trying: false, .. } => Some(*until),
            Self::Open { .. } | Self::Closed { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + chrono::Duration::seconds(seconds)
    }

    fn item(offset: i64) -> (Place, i64) {
        (Place { topic: 0, partition: 0 }, offset)
    }

    fn reason() -> Reason {
        Reason::new("http_503", "the receiver answered 503")
    }

    fn open() -> Breaker {
        let mut breaker = Breaker::default();
        for offset in 0..OPENS_AFTER as i64 {
            assert!(breaker.allows(at(0)));
            breaker.failed(item(offset), &reason(), at(0));
        }
        breaker
    }

    #[test]
    fn a_run_of_failures_opens_it_and_one_answer_closes_it() {
        let mut breaker = open();
        assert!(!breaker.allows(at(0)));
        assert!(breaker.allows(at(2)), "the first wait is at most two seconds");
        breaker.called();
        assert!(!breaker.allows(at(1_000)), "one call is enough");
        breaker.answered();
        assert!(breaker.allows(at(1_000)) && breaker.why_open().is_none());
    }

    #[test]
    fn each_call_that_fails_makes_the_wait_longer_up_to_a_bound() {
        let mut breaker = open();
        let mut now = at(2);
        let mut waits = Vec::new();
        for _ in 0..12 {
            breaker.called();
            breaker.failed(item(99), &reason(), now);
            let due = breaker.next_due().unwrap_or(now);
            waits.push((due - now).num_milliseconds());
            now = due;
        }
        assert!(waits[0] >= 2_000 && waits[0] <= 4_000, "{waits:?}");
        assert!(waits[11] >= 60_000 && waits[11] <= 120_000, "{waits:?}");
    }

    #[test]
    fn one_item_that_fails_for_ever_does_not_open_it_nor_do_failures_between_answers() {
        let mut breaker = Breaker::default();
        for _ in 0..100 {
            breaker.failed(item(1), &reason(), at(0));
        }
        assert!(breaker.allows(at(0)));
        for offset in 0..100 {
            breaker.failed(item(offset), &reason(), at(0));
            if offset % 8 == 0 {
                breaker.answered();
            }
        }
        assert!(breaker.allows(at(0)));
    }

    #[test]
    fn late_answers_of_calls_made_before_do_not_make_the_wait_longer() {
        let mut breaker = open();
        let due = breaker.next_due();
        breaker.failed(item(77), &reason(), at(1));
        assert_eq!(breaker.next_due(), due);
    }
}
