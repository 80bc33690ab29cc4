//! Several processes share a destination.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::receiver::{Answer, Receiver};
use crate::stack::{Stack, patient, until};

/// Members that come and go; `just rebalance-deliver` wants more.
const ROUNDS: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn a_rebalance_loses_nothing_and_drains_before_it_gives_away() {
    let stack = Stack::start().await;
    let receiver = Receiver::start(|_, _| Answer::Slow(Duration::from_millis(10))).await;
    let first = stack.stage(receiver.destination());
    let mut names = stack.publish_many(40, 10).await;
    until("the first gets on", async || receiver.requests().len() >= 60).await;
    let second = stack.stage(receiver.destination());
    until("both get on", async || receiver.requests().len() >= 250).await;
    let more = (0..40).flat_map(|person| (10..20).map(move |number| (person, number)));
    let more =
        more.map(|(person, number)| stack.event(&format!("p{person}"), &format!("p{person}-{number}")));
    let more = more.collect::<Vec<_>>();
    names.extend(more.iter().map(|event| event.message_id.to_string()));
    stack.publish(&more).await;
    until("all but the last arrive", async || receiver.requests().len() >= 500).await;
    first.stop().await;
    until("all are in the books", async || stack.books().await.len() == names.len()).await;
    second.stop().await;

    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for body in receiver.bodies() {
        *times.entry(body).or_default() += 1;
    }
    assert_eq!(times.len(), names.len(), "nothing is lost");
    assert!(times.values().all(|times| *times == 1), "each partition was drained first: {times:?}");
    assert_eq!(receiver.overlapped(), Vec::<String>::new(), "never two of a key at once");
}

/// Whether the receiver fails at the first attempt: at one body of seven.
fn fails_at_first(body: &str) -> bool {
    body.bytes().map(usize::from).sum::<usize>() % 7 == 0
}

#[tokio::test(flavor = "multi_thread")]
async fn order_per_key_is_kept_under_retries_while_members_join_and_leave() {
    let stack = Stack::start().await;
    let receiver = Receiver::start(|body, before| match before {
        0 if fails_at_first(body) => Answer::Status(503),
        _ => Answer::Slow(Duration::from_millis(2)),
    })
    .await;
    let member = || stack.stage_with(receiver.destination(), |hook| hook.retry = patient());
    let wanted = std::env::var("MILLRACE_TEST_ROUNDS").ok();
    let rounds = wanted.map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let (persons, each) = (40, 6);
    let mut members = vec![member()];
    let mut names = Vec::new();
    for round in 0..rounds {
        let numbers = (round * each..(round + 1) * each).flat_map(|n| (0..persons).map(move |p| (p, n)));
        let events = numbers.map(|(p, n)| stack.event(&format!("p{p}"), &format!("p{p}-{n}")));
        let events = events.collect::<Vec<_>>();
        names.extend(events.iter().map(|event| event.message_id.to_string()));
        stack.publish(&events).await;
        let so_far = receiver.requests().len();
        // One comes and one goes, in the middle of it.
        members.push(member());
        until("some arrive", async || receiver.requests().len() > so_far + persons).await;
        if members.len() > 2 {
            members.remove(round % 2).stop().await;
        }
    }
    until("all arrive", async || receiver.distinct() == names.len()).await;
    until("all are in the books", async || stack.books().await.len() == names.len()).await;
    for member in members {
        member.stop().await;
    }

    for name in &names {
        let expected = 1 + usize::from(fails_at_first(name));
        assert_eq!(receiver.times(name), expected, "{name}: each member drained before it left");
    }
    let mut last: BTreeMap<String, usize> = BTreeMap::new();
    for body in receiver.bodies() {
        let (person, number) = body.split_once('-').unwrap();
        let number = number.parse::<usize>().unwrap();
        let before = last.insert(person.to_owned(), number).unwrap_or(0);
        assert!(before <= number, "{body} came after number {before}");
    }
    assert_eq!(receiver.overlapped(), Vec::<String>::new(), "never two of a key at once");
    assert!(stack.dead_letters().await.is_empty());
}
