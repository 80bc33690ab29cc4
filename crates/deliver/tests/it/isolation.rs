//! No destination is in another's way.

use std::time::Duration;

use crate::receiver::{Answer, Receiver};
use crate::stack::{Stack, patient, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_and_a_slow_destination_hold_up_no_other() {
    let stack = Stack::start().await;
    let healthy = [Receiver::willing().await, Receiver::willing().await];
    let dead = Receiver::start(|_, _| Answer::Status(503)).await;
    let silent = Receiver::start(|_, _| Answer::Never).await;
    let refusing = Receiver::start(|_, _| Answer::Status(401)).await;
    let names = stack.publish_many(50, 40).await;
    let mut destinations = vec![
        Stack::connected("dead", dead.destination()),
        Stack::connected("silent", silent.destination()),
        Stack::connected("refusing", refusing.destination()),
        Stack::connected("healthy-0", healthy[0].destination()),
        Stack::connected("healthy-1", healthy[1].destination()),
    ];
    for destination in &mut destinations {
        destination.retry = patient();
    }
    let stage = stack.run(destinations);
    for receiver in &healthy {
        until("the healthy have all", async || receiver.distinct() == names.len()).await;
        assert_eq!(receiver.requests().len(), names.len(), "each once");
    }
    assert!(stage.trouble_of("dead").is_some_and(|why| why.contains("does not answer")));
    assert!(stage.trouble_of("refusing").is_some_and(|why| why.contains("http_401")));
    assert_eq!((stage.trouble_of("healthy-0"), stage.trouble_of("healthy-1")), (None, None));

    for receiver in [&dead, &silent, &refusing] {
        receiver.now_answers(|_, _| Answer::Slow(Duration::from_millis(1)));
    }
    for receiver in [&dead, &silent] {
        until("they get all of it, too", async || receiver.distinct() == names.len()).await;
    }
    stage.stop().await;
    assert!(stack.dead_letters().await.is_empty(), "and nothing was lost");
}
