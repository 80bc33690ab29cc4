//! How much one source may send: a token bucket, which the write keys of the source share.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock, Reference as _};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::error::Refusal;

/// What is counted against a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// A request is one, whatever is in it. Refused before its body is read.
    Requests,
    /// Each event of a batch is one.
    Events,
}

/// How much a source may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// What is counted.
    pub counted: Counted,
    /// So many …
    pub amount: NonZeroU32,
    /// … in this time.
    pub period: Duration,
    /// So many at once, after a pause.
    pub burst: NonZeroU32,
}

/// The longest time for which one batch, however large, keeps its source out.
const LONGEST_DEBT: Duration = Duration::from_secs(24 * 60 * 60);

/// The bucket.
#[derive(Debug)]
pub(crate) struct Bucket<C: Clock = DefaultClock> {
    counted: Counted,
    burst: NonZeroU32,
    /// In which one of them may be sent.
    token: Duration,
    /// Until then a batch that was larger than the burst is being paid for, and nothing passes.
    in_debt_until: Mutex<Option<C::Instant>>,
    clock: C,
    bucket: RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<C::Instant>>,
}

impl Bucket {
    pub(crate) fn new(limit: RateLimit) -> Self {
        Self::with_clock(limit, DefaultClock::default())
    }
}

impl<C: Clock + Clone> Bucket<C> {
    fn with_clock(limit: RateLimit, clock: C) -> Self {
        // A token a nanosecond is as good as no limit.
        let token = (limit.period / limit.amount.get()).max(Duration::from_nanos(1));
        let quota = Quota::with_period(token).unwrap_or(Quota::per_second(limit.amount));
        let quota = quota.allow_burst(limit.burst);
        let bucket = RateLimiter::direct_with_clock(quota, clock.clone());
        Self {
            counted: limit.counted,
            burst: limit.burst,
            token,
            in_debt_until: Mutex::new(None),
            clock,
            bucket,
        }
    }

    /// Takes so many tokens, if they are of the kind that is counted.
    ///
    /// # Errors
    /// They are not there; the refusal says when they will be.
    pub(crate) fn take(&self, counted: Counted, count: usize) -> Result<(), Refusal> {
        let Some(count) = u32::try_from(count).ok().and_then(NonZeroU32::new) else { return Ok(()) };
        if counted != self.counted {
            return Ok(());
        }
        let now = self.clock.now();
        let mut in_debt_until = self.in_debt_until.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = in_debt_until.filter(|until| *until > now) {
            return Err(limited(until.duration_since(now).into()));
        }
        // More than a full bucket holds would never pass: it takes all there is, and the rest on credit, or
        // whoever sends large batches would send at many times the rate.
        if let Ok(Err(not_until)) = self.bucket.check_n(count.min(self.burst)) {
            return Err(limited(not_until.wait_time_from(now)));
        }
        if count > self.burst {
            let debt = self.token.saturating_mul(count.get()).min(LONGEST_DEBT);
            *in_debt_until = Some(now + Nanos::from(debt));
        }
        Ok(())
    }
}

fn limited(wait: Duration) -> Refusal {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    Refusal::RateLimited { seconds: u32::try_from(seconds).unwrap_or(u32::MAX).max(1) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn bucket(
        counted: Counted,
        amount: u32,
        seconds: u64,
        burst: u32,
    ) -> (Bucket<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let limit = RateLimit {
            counted,
            amount: amount.try_into().unwrap(),
            period: Duration::from_secs(seconds),
            burst: burst.try_into().unwrap(),
        };
        (Bucket::with_clock(limit, clock.clone()), clock)
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_with_the_time_to_wait() {
        let (bucket, clock) = bucket(Counted::Events, 10, 1, 20);
        assert_eq!(bucket.take(Counted::Events, 20), Ok(()));
        assert_eq!(bucket.take(Counted::Events, 15), Err(Refusal::RateLimited { seconds: 2 }));
        assert_eq!(bucket.take(Counted::Events, 1), Err(Refusal::RateLimited { seconds: 1 }));
        clock.advance(Duration::from_millis(1500));
        assert_eq!(bucket.take(Counted::Events, 15), Ok(()));
    }

    #[test]
    fn a_batch_that_is_larger_than_the_burst_passes_when_the_bucket_is_full_and_is_paid_for() {
        let (bucket, clock) = bucket(Counted::Events, 60, 60, 5);
        assert_eq!(bucket.take(Counted::Events, 4), Ok(()));
        assert_eq!(bucket.take(Counted::Events, 500), Err(Refusal::RateLimited { seconds: 4 }));
        clock.advance(Duration::from_secs(4));
        for _ in 0..3 {
            assert_eq!(bucket.take(Counted::Events, 500), Ok(()));
            assert_eq!(bucket.take(Counted::Events, 1), Err(Refusal::RateLimited { seconds: 500 }));
            clock.advance(Duration::from_secs(499));
            assert_eq!(bucket.take(Counted::Events, 1), Err(Refusal::RateLimited { seconds: 1 }));
            clock.advance(Duration::from_secs(1));
        }
        assert_eq!(bucket.take(Counted::Events, 5), Ok(()));
        assert_eq!(bucket.take(Counted::Events, 1), Err(Refusal::RateLimited { seconds: 1 }));
    }

    #[test]
    fn only_what_is_counted_takes_tokens() {
        let (bucket, _) = bucket(Counted::Requests, 1, 60, 1);
        assert_eq!(bucket.take(Counted::Events, 50), Ok(()));
        assert_eq!(bucket.take(Counted::Requests, 1), Ok(()));
        assert_eq!(bucket.take(Counted::Requests, 1), Err(Refusal::RateLimited { seconds: 60 }));
    }
}
