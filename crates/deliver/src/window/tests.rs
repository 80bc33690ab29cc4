#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use chrono::Duration;
use proptest::prelude::*;

use super::*;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + Duration::seconds(seconds)
}

/// Number 0 stands for an item without a key.
fn key(number: u8) -> Option<PartitionKey> {
    (number > 0).then_some(PartitionKey([number; 16]))
}

fn of_key(window: &Window<i64>, number: u8) -> Vec<i64> {
    let key = key(number).unwrap_or(PartitionKey([0; 16]));
    window.of_key(key).map(|(offset, _)| offset).collect()
}

/// A window that has read items of these keys, from offset 0 on.
fn window(keys: &[u8]) -> Window<i64> {
    let mut window = Window::resume(0, &[]);
    for (offset, number) in keys.iter().enumerate() {
        window.offer(offset as i64, Some((key(*number), 0)));
    }
    window
}

fn take_all(window: &mut Window<i64>, now: DateTime<Utc>) -> Vec<i64> {
    std::iter::from_fn(|| window.take(now)).collect()
}

#[test]
fn the_heads_of_all_keys_may_be_sent_at_once() {
    let mut window = window(&[1, 1, 2, 1, 3]);
    assert_eq!(take_all(&mut window, at(0)), [0, 2, 4]);
    window.finish(0);
    assert_eq!(take_all(&mut window, at(0)), [1]);
}

#[test]
fn a_failing_key_holds_back_itself_alone() {
    let mut window = window(&[1, 1, 2]);
    take_all(&mut window, at(0));
    window.postpone(0, at(10));
    window.finish(2);
    window.offer(3, Some((key(1), 0)));
    window.offer(4, Some((key(2), 0)));
    assert_eq!(take_all(&mut window, at(9)), [4], "the other key goes on");
    assert_eq!((window.parked(), window.unfinished()), (3, 4));
    assert_eq!(window.next_due(), Some(at(10)));
    assert_eq!(take_all(&mut window, at(10)), [0], "the head is tried again, alone");
    window.finish(0);
    assert_eq!(window.parked(), 0, "a key whose head has ended is not failing any more");
    assert_eq!(take_all(&mut window, at(10)), [1]);
}

#[test]
fn items_without_a_key_wait_for_no_other_and_fail_alone() {
    let mut window = window(&[0, 0, 0]);
    assert_eq!(take_all(&mut window, at(0)), [0, 1, 2]);
    window.postpone(1, at(10));
    window.finish(0);
    assert_eq!((window.parked(), window.unfinished()), (1, 2));
    assert_eq!(take_all(&mut window, at(10)), [1]);
    window.finish(1);
    assert_eq!((window.parked(), window.in_flight(), window.low()), (0, 1, 2));
}

#[test]
fn the_resume_state_is_as_small_as_what_is_unfinished() {
    let mut window = Window::resume(0, &[]);
    window.offer(0, Some((key(0), ())));
    for offset in 1..100_000 {
        window.offer(offset, None);
    }
    assert_eq!((window.low(), window.done()), (0, vec![(1, 100_000)]));
    window.finish(0);
    assert_eq!((window.low(), window.done()), (100_000, vec![]));
}

#[test]
fn gaps_in_the_topic_are_done() {
    let mut window = Window::resume(5, &[(20, 30)]);
    window.offer(9, None);
    assert_eq!(window.low(), 10);
    assert!(window.is_done(25) && !window.is_done(19) && !window.is_done(30));
    window.offer(30, Some((key(0), ())));
    assert_eq!((window.low(), window.done()), (30, vec![]));
}

#[test]
fn later_items_of_a_key_can_take_an_older_ones_place() {
    let mut window = window(&[1, 1, 1, 2]);
    assert_eq!(take_all(&mut window, at(0)), [0, 3]);
    window.postpone(0, at(60));
    assert_eq!(of_key(&window, 1), [0, 1, 2]);
    window.finish(1);
    window.finish(0);
    assert_eq!(take_all(&mut window, at(0)), [2], "the newest need not wait for what it replaced");
    assert_eq!((window.parked(), window.in_flight()), (0, 2));
}

#[derive(Debug, Clone)]
enum Step {
    Offer(Option<u8>),
    Gap,
    Take,
    Finish(prop::sample::Index),
    FinishUnsent(prop::sample::Index),
    Postpone(prop::sample::Index, i64),
    PutBack(prop::sample::Index),
    Wait(i64),
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::option::weighted(0.8, 0..4_u8).prop_map(Step::Offer),
        1 => Just(Step::Gap),
        6 => Just(Step::Take),
        4 => any::<prop::sample::Index>().prop_map(Step::Finish),
        1 => any::<prop::sample::Index>().prop_map(Step::FinishUnsent),
        2 => (any::<prop::sample::Index>(), 1..20_i64).prop_map(|(which, after)| Step::Postpone(which, after)),
        1 => any::<prop::sample::Index>().prop_map(Step::PutBack),
        1 => (1..30_i64).prop_map(Step::Wait),
        1 => Just(Step::Crash),
    ]
}

/// What a partition holds, and what the laws say must become of it.
#[derive(Default)]
struct Model {
    /// By offset: the key, or `None` for what ends when it is read.
    log: BTreeMap<i64, Option<u8>>,
    next: i64,
    in_flight: BTreeMap<i64, u8>,
    ended: BTreeSet<i64>,
    now: i64,
}

impl Model {
    fn pick(&self, which: prop::sample::Index) -> Option<i64> {
        let flying = self.in_flight.keys().copied().collect::<Vec<_>>();
        (!flying.is_empty()).then(|| *which.get(&flying))
    }

    fn unfinished_of(&self, number: u8) -> impl Iterator<Item = i64> {
        let of_key = self.log.iter().filter(move |(_, key)| **key == Some(number));
        of_key.map(|(offset, _)| *offset).filter(|offset| !self.ended.contains(offset))
    }
}

fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut model = Model::default();
    let mut window = Window::resume(0, &[]);
    let mut low = 0;
    for step in steps {
        match step {
            Step::Offer(number) => {
                window.offer(model.next, number.map(|number| (key(number), model.next)));
                model.log.insert(model.next, number);
                if number.is_none() {
                    model.ended.insert(model.next);
                }
                model.next += 1;
            }
            Step::Gap => model.next += 3,
            Step::Take => {
                if let Some(offset) = window.take(at(model.now)) {
                    prop_assert_eq!(window.get_mut(offset).map(|item| *item), Some(offset));
                    let number = model.log[&offset].unwrap();
                    if number > 0 {
                        let two = model.in_flight.values().any(|other| *other == number);
                        prop_assert!(!two, "two of a key");
                        prop_assert_eq!(model.unfinished_of(number).next(), Some(offset), "order of a key");
                    }
                    model.in_flight.insert(offset, number);
                }
            }
            Step::Finish(which) => {
                if let Some(offset) = model.pick(which) {
                    prop_assert_eq!(window.finish(offset), Some(offset));
                    prop_assert_eq!(window.finish(offset), None, "an offset ends once");
                    model.in_flight.remove(&offset);
                    prop_assert!(model.ended.insert(offset));
                }
            }
            Step::FinishUnsent(which) => {
                let unsent = (1..4).flat_map(|number| of_key(&window, number)).collect::<Vec<_>>();
                if !unsent.is_empty() {
                    let offset = *which.get(&unsent);
                    prop_assert!(!model.in_flight.contains_key(&offset));
                    prop_assert_eq!(window.finish(offset), Some(offset));
                    prop_assert!(model.ended.insert(offset));
                }
            }
            Step::Postpone(which, after) => {
                if let Some(offset) = model.pick(which) {
                    window.postpone(offset, at(model.now + after));
                    model.in_flight.remove(&offset);
                }
            }
            Step::PutBack(which) => {
                if let Some(offset) = model.pick(which) {
                    window.put_back(offset);
                    model.in_flight.remove(&offset);
                }
            }
            Step::Wait(seconds) => model.now += seconds,
            Step::Crash => {
                let (resumed_low, done) = (window.low(), window.done());
                window = Window::resume(resumed_low, &done);
                model.in_flight.clear();
                for (offset, number) in model.log.range(resumed_low..) {
                    prop_assert_eq!(
                        window.is_done(*offset),
                        model.ended.contains(offset),
                        "resume skips what was done"
                    );
                    window.offer(*offset, number.map(|number| (key(number), *offset)));
                }
            }
        }
        prop_assert!(window.low() >= low, "low only grows");
        low = window.low();
        prop_assert_eq!(window.unfinished(), model.log.len() - model.ended.len(), "nothing is skipped");
        prop_assert_eq!(window.in_flight(), model.in_flight.len());
        prop_assert!(window.parked() <= window.unfinished());
        prop_assert!(window.done().len() <= window.unfinished() + 1);
    }
    // Whatever happened, everything can be brought to its end.
    loop {
        for offset in std::mem::take(&mut model.in_flight).into_keys() {
            window.finish(offset);
            prop_assert!(model.ended.insert(offset));
        }
        let Some(offset) = window.take(at(i64::from(u32::MAX))) else { break };
        model.in_flight.insert(offset, 0);
    }
    prop_assert_eq!(model.ended.len(), model.log.len(), "every offset ends exactly once");
    prop_assert_eq!(window.done(), vec![]);
    prop_assert_eq!((window.parked(), window.in_flight(), window.low()), (0, 0, window.next()));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Those of the module's text.
    #[test]
    fn the_laws_hold(steps in prop::collection::vec(step(), 1..120)) {
        run(steps)?;
    }
}
