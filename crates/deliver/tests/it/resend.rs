//! What was given up or sent is sent again, for an operator.

use std::sync::Arc;

use millrace_bus::Range;
use millrace_deliver::{Again, Resent, is_possible, send_again};
use millrace_event_model::{DeadLetter, Disposition, Lane};
use millrace_service::{Stop, SystemClock};

use crate::receiver::{Answer, Receiver};
use crate::stack::{Stack, until};

async fn resend(stack: &Stack, receiver: &Receiver, again: Again) -> Resent {
    let hook = Stack::connected("hook", receiver.destination());
    send_again(hook, again, &stack.bus, Arc::new(SystemClock), &Stop::new()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_sent_again_under_their_keys_and_the_books_still_balance() {
    let stack = Stack::start().await;
    let receiver = Receiver::start(|body, _| match body {
        "p0-1" | "p1-2" => Answer::Status(400),
        _ => Answer::Status(200),
    })
    .await;
    let names = stack.publish_many(3, 3).await;
    let stage = stack.stage(receiver.destination());
    until("all have ended", async || stack.books().await.len() == names.len()).await;
    stage.stop().await;
    assert_eq!(stack.dead_letters().await.len(), 2);
    let before = receiver.requests();

    receiver.now_answers(|body, _| if body == "p0-1" { Answer::Status(200) } else { Answer::Status(400) });
    let resent = resend(&stack, &receiver, Again::Letters(stack.dead_letters().await)).await;
    let ended = [(Disposition::Delivered, 1), (Disposition::Rejected, 1)];
    assert_eq!(resent, Resent { ended: ended.into(), ..Resent::default() });
    for again in &receiver.requests()[before.len()..] {
        let first = before.iter().find(|request| request.body == again.body).unwrap();
        assert_eq!(first.id, again.id, "the idempotency key is the same");
    }
    let books = stack.books().await;
    let rejected = books.values().filter(|end| **end == Disposition::Rejected).count();
    assert_eq!((books.len(), rejected), (names.len(), 1), "the last word of each offset counts");
    assert_eq!(stack.dead_letters().await.len(), 3, "what was refused again is a letter again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_sent_again_and_no_position_moves() {
    let stack = Stack::start().await;
    let receiver = Receiver::willing().await;
    stack.publish_many(4, 5).await;
    let stage = stack.stage(receiver.destination());
    until("all arrive", async || stack.books().await.len() == 20).await;
    stage.stop().await;
    let progress = stack.progress().await;
    let mut ranges = std::collections::BTreeMap::<i32, (i64, i64)>::new();
    for (partition, offset) in stack.places().await {
        let range = ranges.entry(partition).or_insert((offset, offset));
        range.1 = range.1.max(offset + 1);
    }
    let ranges = ranges.into_iter().map(|(partition, (start, end))| Range::stored(partition, start, end));
    let again = Again::Ranges(vec![(Lane::main(), ranges.collect())]);
    let resent = resend(&stack, &receiver, again).await;
    assert_eq!(resent.ended, [(Disposition::Delivered, 20)].into());
    assert_eq!((receiver.requests().len(), receiver.distinct()), (40, 20));
    assert_eq!(stack.progress().await, progress);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_refuses_ends_the_job_and_keeps_the_letters() {
    let stack = Stack::start().await;
    let receiver = Receiver::start(|_, _| Answer::Status(400)).await;
    stack.publish_many(2, 1).await;
    let stage = stack.stage(receiver.destination());
    until("all have ended", async || stack.books().await.len() == 2).await;
    stage.stop().await;
    receiver.now_answers(|_, _| Answer::Status(401));
    let resent = resend(&stack, &receiver, Again::Letters(stack.dead_letters().await)).await;
    assert!(resent.stopped.is_some_and(|why| why.contains("http_401")));
    assert_eq!(resent.ended, Default::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_that_lead_nowhere_are_counted_and_not_sent() {
    let stack = Stack::start().await;
    let receiver = Receiver::start(|_, _| Answer::Status(400)).await;
    stack.publish_many(1, 1).await;
    let stage = stack.stage(receiver.destination());
    until("it has ended", async || stack.books().await.len() == 1).await;
    stage.stop().await;
    let letter = stack.dead_letters().await.remove(0);
    let mut without_record = letter.clone();
    without_record.original.value = None;
    let of_a_change = DeadLetter { topic: "acme.changes".to_owned(), ..letter.clone() };
    let mut hook = Stack::connected("hook", receiver.destination());
    let workspace = stack.bus.workspace();
    let possible = [&letter, &without_record, &of_a_change]
        .map(|letter| is_possible(&hook.connections, workspace, letter));
    assert_eq!(possible, [true, false, false]);

    // Its source leads there no more.
    for connection in &mut hook.connections {
        connection.source = "another".parse().unwrap();
    }
    let before = receiver.requests().len();
    let again = Again::Letters(vec![letter, without_record, of_a_change]);
    let resent = send_again(hook, again, &stack.bus, Arc::new(SystemClock), &Stop::new()).await.unwrap();
    assert_eq!(resent, Resent { impossible: 3, ..Resent::default() });
    assert_eq!(receiver.requests().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_that_is_stopped_says_what_has_not_ended() {
    let stack = Stack::start().await;
    let receiver = Receiver::start(|_, _| Answer::Status(401)).await;
    stack.publish_many(1, 3).await;
    let places = stack.places().await;
    let (partition, first) = places.iter().copied().min().unwrap();
    let range = Range::stored(partition, first, first + 3);
    let again = || Again::Ranges(vec![(Lane::main(), vec![range])]);
    let resent = resend(&stack, &receiver, again()).await;
    assert!(resent.stopped.is_some());
    assert_eq!(resent.rest, [(Lane::main(), vec![range])], "none was taken");
    receiver.now_answers(|_, _| Answer::Status(200));
    assert_eq!(resend(&stack, &receiver, again()).await.rest, []);
}
