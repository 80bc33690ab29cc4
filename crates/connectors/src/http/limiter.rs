//! The vendor's rate, kept for each request: a batch whose requests are not alike makes several.
//!
//! A batch is promised turns for all of its requests before the first is sent, so that items are not left half
//! done: but for turns at the very end of its time, which may be over when they are taken. What there are no
//! turns for within the batch's time is not sent.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use millrace_connector::{Rate, Turns};
use millrace_service::SharedClock;

/// The turns of one destination.
pub(super) struct Limiter {
    rate: Rate,
    clock: SharedClock,
    book: Mutex<Book>,
}

#[derive(Debug)]
struct Book {
    turns: Turns,
    /// Turns that were promised and are not yet taken.
    promised: usize,
}

impl Book {
    /// Promises as many of the wanted turns as there are until `latest`.
    fn promise(&mut self, wanted: usize, now: DateTime<Utc>, latest: DateTime<Utc>) -> usize {
        let until = |granted: usize| self.turns.next(self.promised + granted, now) <= latest;
        let granted = (0..wanted).take_while(|granted| until(*granted)).count();
        self.promised += granted;
        granted
    }

    /// The turn of a request, if it comes until `latest`.
    fn take(&mut self, now: DateTime<Utc>, latest: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let turn = self.turns.next(0, now);
        (turn <= latest).then(|| self.turns.begin(turn))?;
        Some(turn)
    }
}

impl Limiter {
    pub(super) fn new(rate: Rate, clock: SharedClock) -> Self {
        Self { rate, clock, book: Mutex::new(Book { turns: Turns::new(rate), promised: 0 }) }
    }

    /// Turns within this time from now, as many of the wanted ones as there are.
    pub(super) fn promise(&self, wanted: usize, within: Duration) -> Promise<'_> {
        let now = self.clock.now();
        let latest = now + within;
        let mut book = self.book();
        let granted = book.promise(wanted, now, latest);
        let next = book.turns.next(book.promised, now);
        Promise {
            limiter: self,
            latest,
            granted,
            left: AtomicUsize::new(granted),
            after: (next - now).to_std().unwrap_or_default(),
        }
    }

    /// The vendor's rate.
    pub(super) fn rate(&self) -> Rate {
        self.rate
    }

    /// Nothing in it can be half done by who panicked.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Turns of a batch. What is not taken is given back when it is dropped.
pub(super) struct Promise<'l> {
    limiter: &'l Limiter,
    latest: DateTime<Utc>,
    /// How many there were.
    pub(super) granted: usize,
    left: AtomicUsize,
    /// How long it takes until there is one more than these.
    pub(super) after: Duration,
}

impl Promise<'_> {
    /// Waits for the turn of one request. `false`: it does not come in the batch's time, since those before
    /// it came late.
    pub(super) async fn turn(&self) -> bool {
        let Some(wait) = self.take() else { return false };
        tokio::time::sleep(wait).await;
        true
    }

    fn take(&self) -> Option<Duration> {
        let now = self.limiter.clock.now();
        let mut book = self.limiter.book();
        let turn = book.take(now, self.latest)?;
        // A batch may make more requests than were planned, where one of its items fails; they wait as well.
        let took = |left: usize| left.checked_sub(1);
        if self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, took).is_ok() {
            book.promised = book.promised.saturating_sub(1);
        }
        Some((turn - now).to_std().unwrap_or_default())
    }
}

impl Drop for Promise<'_> {
    fn drop(&mut self) {
        let mut book = self.limiter.book();
        book.promised = book.promised.saturating_sub(self.left.load(Ordering::Relaxed));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::Arc;

    use millrace_service::ManualClock;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limiter(calls: u32) -> (Limiter, ManualClock) {
        let clock = ManualClock::new(DateTime::UNIX_EPOCH);
        let rate = Rate { calls: NonZeroU32::new(calls).unwrap(), per: SECOND };
        (Limiter::new(rate, Arc::new(clock.clone())), clock)
    }

    #[test]
    fn a_batch_gets_the_turns_of_its_time_and_leaves_none_to_the_next() {
        let (limiter, clock) = limiter(10);
        let first = limiter.promise(100, SECOND * 2);
        assert_eq!((first.granted, first.after), (30, SECOND * 3), "now, in a second and in two");
        let waits: Vec<_> = (0..30).map(|_| first.take().unwrap().as_secs()).collect();
        assert_eq!(waits, [[0; 10], [1; 10], [2; 10]].concat());
        assert_eq!(limiter.promise(1, SECOND * 2).granted, 0);
        clock.advance(SECOND);
        assert_eq!(limiter.promise(100, SECOND * 2).granted, 10);
    }

    #[test]
    fn promises_that_are_not_taken_are_given_back() {
        let (limiter, _) = limiter(10);
        let first = limiter.promise(7, Duration::ZERO);
        assert_eq!(first.take(), Some(Duration::ZERO));
        let second = limiter.promise(7, Duration::ZERO);
        assert_eq!((first.granted, second.granted, second.after), (7, 3, SECOND));
        drop(first);
        assert_eq!(limiter.promise(7, Duration::ZERO).granted, 6);
    }
}
