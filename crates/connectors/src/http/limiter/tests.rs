#![allow(clippy::unwrap_used, reason = "tests")]

use std::num::NonZeroU32;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use millrace_service::ManualClock;
use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn rate(calls: u32, per: Duration) -> Rate {
    Rate { calls: NonZeroU32::new(calls).unwrap(), per }
}

fn limiter(calls: u32) -> (Limiter, ManualClock) {
    let clock = ManualClock::new(DateTime::UNIX_EPOCH);
    (Limiter::new(rate(calls, SECOND), Arc::new(clock.clone())), clock)
}

fn at(millis: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::milliseconds(millis)
}

/// Whether there is a turn for a call of the batch now.
fn take(promise: &Promise<'_>) -> bool {
    let mut book = promise.limiter.book();
    let place = book.line_up(promise.batch);
    let turn = book.take(place, promise.limiter.clock.now());
    book.leave(place);
    turn == Turn::Taken
}

#[test]
fn a_batch_gets_the_turns_of_its_time_and_leaves_none_to_the_next() {
    let (limiter, clock) = limiter(10);
    let first = limiter.promise(100, SECOND * 2);
    assert_eq!((first.granted, first.after), (30, SECOND * 3), "now, in a second and in two");
    assert_eq!(limiter.promise(1, SECOND * 2).granted, 0);
    for _ in 0..3 {
        assert_eq!((0..11).filter(|_| take(&first)).count(), 10);
        clock.advance(SECOND);
    }
    assert_eq!(limiter.promise(100, SECOND * 2).granted, 30);
}

#[test]
fn promises_that_are_not_taken_are_given_back() {
    let (limiter, _) = limiter(10);
    let first = limiter.promise(7, Duration::ZERO);
    assert!(take(&first));
    let second = limiter.promise(7, Duration::ZERO);
    assert_eq!((first.granted, second.granted, second.after), (7, 3, SECOND));
    drop(first);
    assert_eq!(limiter.promise(7, Duration::ZERO).granted, 6);
}

#[test]
fn a_promised_turn_is_taken_though_it_comes_late_and_not_at_any_time() {
    let (limiter, clock) = limiter(1);
    let promise = limiter.promise(3, SECOND);
    assert_eq!(promise.granted, 2);
    clock.advance(Duration::from_millis(900));
    assert!(take(&promise));
    clock.advance(Duration::from_millis(1_050));
    assert!(take(&promise), "it was promised for 1.0 s and comes at 1.95");
    let mut book = limiter.book();
    let place = book.line_up(promise.batch);
    assert_eq!(book.take(place, at(2_950)), Turn::Taken);
    let place = book.line_up(promise.batch);
    assert_eq!(book.take(place, at(2_951)), Turn::TooLate, "3.95 s is more than 2 s after the time");
}

#[test]
fn what_awaits_answers_holds_up_nobody_unless_it_would_come_too_late() {
    let mut book = Book::new(rate(2, SECOND * 10));
    // Its second call waits for the answer to the first.
    let (older, granted, _) = book.promise(2, at(0), at(5_000));
    let first = book.line_up(older);
    assert_eq!((granted, book.take(first, at(0))), (2, Turn::Taken));
    let (younger, granted, _) = book.promise(1, at(1_000), at(11_000));
    let other = book.line_up(younger);
    assert_eq!(
        (granted, book.take(other, at(1_000))),
        (1, Turn::Comes(at(10_000))),
        "not the last one in time"
    );
    let second = book.line_up(older);
    assert_eq!(book.take(second, at(1_500)), Turn::Taken);
    assert_eq!(book.take(other, at(10_000)), Turn::Taken);

    let mut book = Book::new(rate(2, SECOND * 10));
    let (_slow, _, _) = book.promise(2, at(0), at(20_000));
    let (younger, _, _) = book.promise(2, at(1_000), at(21_000));
    let places = [book.line_up(younger), book.line_up(younger)];
    assert_eq!(places.map(|place| book.take(place, at(1_000))), [Turn::Taken; 2], "there is time for both");
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_told_of_turns_that_are_given_back() {
    let clock = ManualClock::new(DateTime::UNIX_EPOCH);
    let limiter = Limiter::new(rate(1, SECOND * 10), Arc::new(clock.clone()));
    let older = limiter.promise(1, Duration::ZERO);
    let younger = limiter.promise(1, SECOND * 10);
    let waits = younger.turn();
    tokio::pin!(waits);
    assert!(futures::poll!(waits.as_mut()).is_pending());
    drop(older);
    assert!(tokio::time::timeout(SECOND, waits).await.unwrap());
}

proptest! {
    /// In no window begin more calls than the rate allows, and batches that take turns as they come have all that
    /// were promised, in time.
    #[test]
    fn promises_are_kept_and_the_rate_is_too(
        calls in 1..5_u32,
        per in 1..80_i64,
        batches in prop::collection::vec((0..60_i64, 0..180_i64, 1..12_usize), 1..8),
    ) {
        let mut book = Book::new(rate(calls, Duration::from_millis(per.unsigned_abs())));
        let mut begins = 0;
        let starts = batches.into_iter().map(|(gap, within, wanted)| {
            begins += gap;
            (begins, begins + within, wanted)
        });
        let starts = starts.collect::<Vec<_>>();
        let mut lines: Vec<(i64, Vec<Place>)> = Vec::new();
        let mut begun: Vec<i64> = Vec::new();
        for now in 0..700 {
            for (_, latest, wanted) in starts.iter().filter(|(begins, ..)| *begins == now) {
                let (batch, granted, _) = book.promise(*wanted, at(now), at(*latest));
                lines.push((*latest, (0..granted).map(|_| book.line_up(batch)).collect()));
            }
            for (latest, line) in &mut lines {
                line.retain(|place| book.take(*place, at(now)) != Turn::Taken || {
                    begun.push(now);
                    false
                });
                prop_assert!(line.is_empty() || now < *latest, "promised until {latest}, not taken at {now}");
            }
            let within = begun.iter().filter(|begun| **begun > now - per).count();
            prop_assert!(within <= calls as usize);
        }
    }
}
