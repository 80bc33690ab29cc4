//! Several processes share a destination.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::receiver::{Answer, Receiver};
use crate::stack::{Stack, until};

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
