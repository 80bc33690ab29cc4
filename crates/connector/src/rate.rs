//! How often somebody may be called: pure.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

use chrono::{DateTime, Utc};
use millrace_service::later;

/// So many times of calls are remembered at most, 16 bytes each. A rate of more calls is held in as many
/// parts of its time as it takes.
const MAX_COUNTED: u32 = 10_000;

/// So many calls in so long. A burst is as many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Calls.
    pub calls: NonZeroU32,
    /// In which time.
    pub per: Duration,
}

impl Rate {
    /// So many calls fit into a time of this length at most.
    #[must_use]
    pub fn most_in(&self, time: Duration) -> usize {
        let times = time.as_nanos().checked_div(self.per.as_nanos());
        let calls = times.map_or(u128::MAX, |times| (times + 1).saturating_mul(self.calls.get().into()));
        usize::try_from(calls).unwrap_or(usize::MAX)
    }

    /// The same rate with at most [`MAX_COUNTED`] calls.
    fn counted(self) -> Self {
        let parts = self.calls.get().div_ceil(MAX_COUNTED);
        let calls = NonZeroU32::new(self.calls.get() / parts).unwrap_or(NonZeroU32::MIN);
        Self { calls, per: self.per.mul_f64(f64::from(calls.get()) / f64::from(self.calls.get())) }
    }
}

/// A rate, and when its last calls began.
///
/// A call may begin when fewer than the rate's calls began within its time before. That is stricter than a
/// token bucket of the same rate, which lets twice as many through in the first window after a silence: a
/// vendor that counts by windows then answers 429.
#[derive(Debug)]
pub struct Turns {
    rate: Rate,
    /// The oldest first; no more than the rate's calls.
    begun: VecDeque<DateTime<Utc>>,
}

impl Turns {
    /// Of a rate of which nothing has been used.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self { rate: rate.counted(), begun: VecDeque::new() }
    }

    /// When a call may begin that has so many others before it, at the earliest now.
    #[must_use]
    pub fn next(&self, ahead: usize, now: DateTime<Utc>) -> DateTime<Utc> {
        let calls = self.calls();
        let (rounds, ahead) = (ahead / calls, ahead % calls);
        let oldest = (self.begun.len() + ahead).checked_sub(calls).and_then(|place| self.begun.get(place));
        let first = oldest.map_or(now, |begun| later(*begun, self.rate.per).max(now));
        later(first, self.rate.per.saturating_mul(u32::try_from(rounds).unwrap_or(u32::MAX)))
    }

    /// A call begins, or will begin at this time, which is not before [`Self::next`].
    pub fn begin(&mut self, at: DateTime<Utc>) {
        while self.begun.len() >= self.calls() {
            self.begun.pop_front();
        }
        self.begun.push_back(at);
    }

    fn calls(&self) -> usize {
        self.rate.calls.get() as usize
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + chrono::Duration::milliseconds(millis)
    }

    fn rate(calls: u32, per: u64) -> Rate {
        Rate { calls: NonZeroU32::new(calls).unwrap(), per: Duration::from_millis(per) }
    }

    #[test]
    fn a_rate_of_many_calls_is_held_in_parts() {
        assert_eq!(rate(1_000_000, 60_000).counted(), rate(10_000, 600));
        assert_eq!(rate(10, 1_000).counted(), rate(10, 1_000));
    }

    #[test]
    fn no_more_calls_fit_into_a_time_than_begin_in_its_windows() {
        assert_eq!(rate(10, 1_000).most_in(Duration::from_millis(2_500)), 30);
        assert_eq!(rate(2, 60_000).most_in(Duration::from_secs(15)), 2);
        assert_eq!(rate(1, 0).most_in(Duration::ZERO), usize::MAX);
    }

    proptest! {
        /// In no window of its time begin more calls than the rate allows, none waits without need, and what
        /// is said of those ahead comes true.
        #[test]
        fn the_rate_is_kept_in_every_window(
            calls in 1..20_u32,
            per in 1..2_000_u64,
            steps in prop::collection::vec((0..500_i64, 1..50_usize), 1..50),
        ) {
            let mut turns = Turns::new(rate(calls, per));
            let mut begun: Vec<i64> = Vec::new();
            let mut now = 0;
            for (silence, together) in steps {
                now += silence;
                let told: Vec<_> = (0..together).map(|ahead| turns.next(ahead, at(now))).collect();
                for told in told {
                    let turn = turns.next(0, at(now));
                    prop_assert_eq!(turn, told);
                    turns.begin(turn);
                    let turn = turn.timestamp_millis();
                    begun.push(turn);
                    let within = begun.iter().filter(|begun| **begun > turn - per as i64).count();
                    prop_assert!(within <= calls as usize);
                    prop_assert!(turn == now || begun.iter().filter(|begun| **begun >= turn - per as i64).count() > calls as usize);
                }
                now = now.max(begun.last().copied().unwrap_or(now));
            }
        }
    }
}
