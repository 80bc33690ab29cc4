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
    filled(keys, false)
}

fn filled(keys: &[u8], together: bool) -> Window<i64> {
    let mut window = Window::resume(0, &[], together);
    for (offset, number) in keys.iter().enumerate() {
        window.offer(offset as i64, Some((key(*number), 0)));
    }
    window
}

/// Takes what may be sent and makes its call.
fn take_all(window: &mut Window<i64>, now: DateTime<Utc>) -> Vec<i64> {
    let taken = std::iter::from_fn(|| window.take(now)).collect::<Vec<_>>();
    taken.iter().for_each(|offset| window.depart(*offset));
    taken
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
    let mut window = Window::resume(0, &[], false);
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
    let mut window = Window::resume(5, &[(20, 30)], false);
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

#[test]
fn items_of_a_key_share_a_call_where_they_may_and_one_that_fails_goes_alone() {
    let mut window = filled(&[1, 2, 1], true);
    assert_eq!([window.take(at(0)), window.take(at(0)), window.take(at(0))], [Some(0), Some(1), Some(2)]);
    window.offer(3, Some((key(1), 3)));
    assert_eq!(window.take(at(0)), Some(3), "one that came meanwhile");
    (0..4).for_each(|offset| window.depart(offset));
    window.offer(4, Some((key(1), 4)));
    assert_eq!(window.take(at(0)), None, "the call is made");
    [0, 2, 3].into_iter().for_each(|offset| window.postpone(offset, at(10)));
    assert_eq!((window.parked(), window.in_flight(), window.next_due()), (4, 1, Some(at(10))));
    assert_eq!(take_all(&mut window, at(10)), [0], "alone");
    window.finish(0);
    assert_eq!(take_all(&mut window, at(10)), [2, 3, 4]);
    window.put_back(3);
    assert_eq!(take_all(&mut window, at(10)), Vec::<i64>::new(), "behind one in flight");
    window.finish(2);
    assert_eq!(take_all(&mut window, at(10)), [3]);
}

#[derive(Debug, Clone)]
enum Step {
    Offer(Option<u8>),
    Gap,
    /// Into the call that is being made up.
    Take,
    Depart,
    /// What became of a call's items.
    Land(prop::sample::Index, Vec<Landing>),
    /// It ends before its call is made, as what cannot be mapped does.
    FinishJoining(prop::sample::Index),
    PutBackJoining,
    FinishUnsent(prop::sample::Index),
    Wait(i64),
    Crash,
}

#[derive(Debug, Clone)]
enum Landing {
    Finish,
    Postpone(i64),
    PutBack,
}

fn landing() -> impl Strategy<Value = Landing> {
    prop_oneof![
        4 => Just(Landing::Finish),
        2 => (1..20_i64).prop_map(Landing::Postpone),
        1 => Just(Landing::PutBack),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        6 => prop::option::weighted(0.8, 0..4_u8).prop_map(Step::Offer),
        1 => Just(Step::Gap),
        6 => Just(Step::Take),
        3 => Just(Step::Depart),
        4 => (index(), prop::collection::vec(landing(), 5)).prop_map(|(call, how)| Step::Land(call, how)),
        1 => index().prop_map(Step::FinishJoining),
        1 => Just(Step::PutBackJoining),
        1 => index().prop_map(Step::FinishUnsent),
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
    joining: Vec<i64>,
    calls: Vec<Vec<i64>>,
    ended: BTreeSet<i64>,
    now: i64,
}

impl Model {
    fn unfinished_of(&self, number: u8) -> impl Iterator<Item = i64> {
        let of_key = self.log.iter().filter(move |(_, key)| **key == Some(number));
        of_key.map(|(offset, _)| *offset).filter(|offset| !self.ended.contains(offset))
    }

    fn of(&self, number: u8, offsets: &[i64]) -> Vec<i64> {
        offsets.iter().copied().filter(|offset| self.log[offset] == Some(number)).collect()
    }

    fn in_flight(&self) -> usize {
        self.joining.len() + self.calls.iter().map(Vec::len).sum::<usize>()
    }

    fn end(&mut self, window: &mut Window<i64>, offset: i64) -> Result<(), TestCaseError> {
        prop_assert_eq!(window.finish(offset), Some(offset));
        prop_assert_eq!(window.finish(offset), None, "an offset ends once");
        prop_assert!(self.ended.insert(offset));
        Ok(())
    }

    fn depart(&mut self, window: &mut Window<i64>) {
        self.joining.iter().for_each(|offset| window.depart(*offset));
        self.calls.push(std::mem::take(&mut self.joining));
    }

    fn take(&mut self, window: &mut Window<i64>, together: bool) -> Result<bool, TestCaseError> {
        let Some(offset) = window.take(at(self.now)) else { return Ok(false) };
        prop_assert_eq!(window.get_mut(offset).map(|item| *item), Some(offset));
        let number = self.log[&offset].unwrap();
        if number > 0 {
            let other = self.calls.iter().find(|call| !self.of(number, call).is_empty());
            prop_assert_eq!(other, None, "two calls have items of a key");
            let mut sent = self.of(number, &self.joining);
            prop_assert!(together || sent.is_empty(), "two of a key");
            sent.push(offset);
            let expected = self.unfinished_of(number).take(sent.len()).collect::<Vec<_>>();
            prop_assert_eq!(sent, expected, "order of a key");
        }
        self.joining.push(offset);
        Ok(true)
    }
}

fn run(together: bool, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut model = Model::default();
    let mut window = Window::resume(0, &[], together);
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
                model.take(&mut window, together)?;
            }
            Step::Depart => model.depart(&mut window),
            Step::Land(which, how) => {
                if !model.calls.is_empty() {
                    let call = model.calls.remove(which.index(model.calls.len()));
                    for (offset, how) in call.into_iter().zip(how.iter().cycle()) {
                        match how {
                            Landing::Finish => model.end(&mut window, offset)?,
                            Landing::Postpone(after) => window.postpone(offset, at(model.now + after)),
                            Landing::PutBack => window.put_back(offset),
                        }
                    }
                }
            }
            Step::FinishJoining(which) => {
                if !model.joining.is_empty() {
                    let offset = model.joining.remove(which.index(model.joining.len()));
                    model.end(&mut window, offset)?;
                }
            }
            Step::PutBackJoining => {
                std::mem::take(&mut model.joining).into_iter().for_each(|offset| window.put_back(offset));
            }
            Step::FinishUnsent(which) => {
                let unsent = (1..4).flat_map(|number| of_key(&window, number)).collect::<Vec<_>>();
                if !unsent.is_empty() {
                    let offset = *which.get(&unsent);
                    prop_assert!(!model.joining.contains(&offset));
                    model.end(&mut window, offset)?;
                }
            }
            Step::Wait(seconds) => model.now += seconds,
            Step::Crash => {
                let (resumed_low, done) = (window.low(), window.done());
                window = Window::resume(resumed_low, &done, together);
                model.joining.clear();
                model.calls.clear();
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
        prop_assert_eq!(window.in_flight(), model.in_flight());
        prop_assert!(window.parked() <= window.unfinished());
        prop_assert!(window.done().len() <= window.unfinished() + 1);
    }
    // Whatever happened, everything can be brought to its end.
    model.now = i64::from(u32::MAX);
    loop {
        let flying = std::mem::take(&mut model.calls).into_iter().flatten();
        for offset in flying.chain(std::mem::take(&mut model.joining)).collect::<Vec<_>>() {
            model.end(&mut window, offset)?;
        }
        if !model.take(&mut window, together)? {
            break;
        }
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
    fn the_laws_hold(together in any::<bool>(), steps in prop::collection::vec(step(), 1..120)) {
        run(together, steps)?;
    }
}
