//! When a failed item is tried again, and when it is given up: pure.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use chrono::{DateTime, Utc};
use millrace_event_model::Reason;
use millrace_service::later;

/// How patient a destination is with an item that fails.
///
/// The wait doubles or more with each attempt, from `min_delay` to `max_delay`, with as much random time
/// on top, so that many that failed together do not come back together. What the other side asks for
/// (`Retry-After`) is the least wait. The defaults try an item some ten times in three hours, at once
/// in the beginning and hourly in the end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    /// The first wait.
    pub min_delay: Duration,
    /// The longest wait; also the longest that a `Retry-After` is believed.
    pub max_delay: Duration,
    /// How much longer each wait is than the one before.
    pub factor: f32,
    /// An item is not given up before so many attempts.
    pub min_attempts: u32,
    /// An item is not given up before it has failed for so long; at the first failure after both, it is.
    pub give_up_after: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            min_delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(3600),
            factor: 3.0,
            min_attempts: 10,
            give_up_after: Duration::from_secs(3 * 3600),
        }
    }
}

/// The attempts at one item.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    count: u32,
    /// Those that failed in a way that may pass. A call that was refused whole and is divided says nothing
    /// about its items, so it is none.
    failures: Failing,
    /// Those that were too much for the other side: apart, since they say nothing of the item.
    throttlings: Failing,
}

/// What has gone wrong with an item in one way.
#[derive(Debug, Default)]
struct Failing {
    times: u32,
    since: Option<DateTime<Utc>>,
    delays: Option<ExponentialBackoff>,
}

/// What to do with an item that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// Try again then.
    RetryAt(DateTime<Utc>),
    /// It has been tried enough.
    GiveUp(Reason),
}

impl Attempts {
    /// Counts an attempt; called when it begins.
    pub(crate) fn begin(&mut self) {
        self.count += 1;
    }

    /// The one that had begun was none: nothing was sent.
    pub(crate) fn not_sent(&mut self) {
        self.count = self.count.saturating_sub(1);
    }

    /// How many have begun.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// An attempt failed in a way that may pass.
    pub(crate) fn failed(
        &mut self,
        policy: &RetryPolicy,
        now: DateTime<Utc>,
        after: Option<Duration>,
        reason: &Reason,
    ) -> Next {
        self.failures.again(self.count, policy, now, after, reason)
    }

    /// An attempt was too much for the other side.
    pub(crate) fn throttled(
        &mut self,
        policy: &RetryPolicy,
        now: DateTime<Utc>,
        after: Option<Duration>,
        reason: &Reason,
    ) -> Next {
        self.throttlings.again(self.count, policy, now, after, reason)
    }
}

impl Failing {
    /// It has gone wrong again, with the attempt of this number.
    fn again(
        &mut self,
        attempt: u32,
        policy: &RetryPolicy,
        now: DateTime<Utc>,
        after: Option<Duration>,
        reason: &Reason,
    ) -> Next {
        self.times += 1;
        let since = *self.since.get_or_insert(now);
        let failed_for = (now - since).to_std().unwrap_or(Duration::ZERO);
        if self.times >= policy.min_attempts && failed_for >= policy.give_up_after {
            let message =
                format!("given up after {attempt} attempts in {failed_for:.0?}: {}", reason.message);
            return Next::GiveUp(Reason::new(reason.code.clone(), message));
        }
        let delays = self.delays.get_or_insert_with(|| delays(policy));
        // The iterator has no end; should it have one, the longest wait is right.
        let backoff = delays.next().unwrap_or(policy.max_delay);
        let asked = after.unwrap_or(Duration::ZERO).min(policy.max_delay);
        Next::RetryAt(later(now, backoff.max(asked)))
    }
}

/// The waits of a policy, without end.
pub(crate) fn delays(policy: &RetryPolicy) -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(policy.min_delay)
        .with_max_delay(policy.max_delay)
        .with_factor(policy.factor)
        .with_jitter()
        .without_max_times()
        .build()
}

#[cfg(test)]
#[allow(clippy::panic, reason = "tests")]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn reason() -> Reason {
        Reason::new("http_503", "the receiver answered 503")
    }

    /// Fails an item until it is given up; returns the waits and the reason.
    fn fail(policy: &RetryPolicy, after: Option<Duration>) -> (Vec<Duration>, Reason) {
        let (mut attempts, mut now, mut waits) = (Attempts::default(), DateTime::UNIX_EPOCH, Vec::new());
        loop {
            attempts.begin();
            match attempts.failed(policy, now, after, &reason()) {
                Next::RetryAt(at) => {
                    waits.push((at - now).to_std().unwrap_or_default());
                    now = at;
                }
                Next::GiveUp(reason) => return (waits, reason),
            }
        }
    }

    #[test]
    fn by_default_an_item_is_tried_for_hours_quickly_at_first() {
        let policy = RetryPolicy::default();
        let (waits, reason) = fail(&policy, None);
        let total: Duration = waits.iter().sum();
        assert!(waits[0] >= Duration::from_secs(1) && waits[0] <= Duration::from_secs(2), "{waits:?}");
        assert!(waits.len() >= 9, "{waits:?}");
        assert!(total >= policy.give_up_after && total < Duration::from_secs(8 * 3600), "{total:?}");
        assert!(waits.iter().all(|wait| *wait <= policy.max_delay * 2));
        assert_eq!(reason.code, "http_503");
        assert!(reason.message.starts_with("given up after "), "{}", reason.message);
    }

    #[test]
    fn what_the_other_side_asks_for_is_the_least_wait() {
        let policy = RetryPolicy { give_up_after: Duration::ZERO, min_attempts: 3, ..RetryPolicy::default() };
        let (waits, _) = fail(&policy, Some(Duration::from_secs(90)));
        assert_eq!(waits, [Duration::from_secs(90); 2]);
        let (waits, _) = fail(&policy, Some(Duration::from_secs(999_999_999)));
        assert_eq!(waits, [policy.max_delay; 2], "but not for ever");
    }

    #[test]
    fn what_was_throttled_often_is_tried_again_soon_after_its_first_failure() {
        let policy = RetryPolicy::default();
        let (mut attempts, now) = (Attempts::default(), DateTime::UNIX_EPOCH);
        for _ in 0..8 {
            assert!(matches!(attempts.throttled(&policy, now, None, &reason()), Next::RetryAt(_)));
        }
        let late = now + TimeDelta::hours(4);
        let Next::RetryAt(at) = attempts.failed(&policy, late, None, &reason()) else { panic!("given up") };
        assert!(at - late <= TimeDelta::seconds(2), "{}", at - late);
        for _ in 0..9 {
            assert!(
                matches!(attempts.failed(&policy, late, None, &reason()), Next::RetryAt(_)),
                "since its own"
            );
        }
    }

    #[test]
    fn throttlings_and_failures_are_counted_apart() {
        let policy = RetryPolicy { give_up_after: Duration::ZERO, min_attempts: 3, ..RetryPolicy::default() };
        let (mut attempts, now) = (Attempts::default(), DateTime::UNIX_EPOCH);
        for _ in 0..2 {
            assert!(matches!(attempts.throttled(&policy, now, None, &reason()), Next::RetryAt(_)));
            assert!(matches!(attempts.failed(&policy, now, None, &reason()), Next::RetryAt(_)));
        }
        assert!(matches!(attempts.throttled(&policy, now, None, &reason()), Next::GiveUp(_)));
        assert!(matches!(attempts.failed(&policy, now, None, &reason()), Next::GiveUp(_)));
    }
}
