//! What fails: it is tried again, parked, given up or kept, and nothing else suffers.

use std::time::Duration;

use chrono::Utc;
use millrace_event_model::{Control, Disposition};

use crate::receiver::{Answer, Receiver};
use crate::stack::{Stack, patient, small, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_fails_delays_no_other() {
    let stack = Stack::start().await;
    // The first event of p0 fails for ever, and its receiver hangs on p1's.
    let receiver = Receiver::start(|body, _| match body {
        "p0-0" => Answer::Status(503),
        "p1-0" => Answer::Never,
        _ => Answer::Status(200),
    })
    .await;
    let names = stack.publish_many(30, 10).await;
    let stage = stack.stage_with(receiver.destination(), |hook| hook.retry = patient());
    let of_others = names.iter().filter(|name| !name.starts_with("p0-") && !name.starts_with("p1-"));
    let others = of_others.count();
    until("the others arrive", async || {
        let bodies = receiver.bodies();
        bodies.iter().filter(|body| !body.starts_with("p0-") && !body.starts_with("p1-")).count() == others
    })
    .await;
    assert!(receiver.bodies().iter().all(|body| !body.starts_with("p0-") || body == "p0-0"), "in order");
    assert_eq!(stage.trouble(), None);

    receiver.now_answers(|_, _| Answer::Status(200));
    until("these arrive too", async || receiver.times("p0-9") == 1 && receiver.times("p1-9") == 1).await;
    until("all are in the books", async || stack.books().await.len() == names.len()).await;
    stage.stop().await;
    assert_eq!(receiver.overlapped(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_receiver_asks_for_is_waited() {
    let stack = Stack::start().await;
    let receiver = Receiver::start(|_, before| match before {
        0 => Answer::TooMany(2),
        _ => Answer::Status(200),
    })
    .await;
    stack.publish_many(1, 1).await;
    let stage = stack.stage(receiver.destination());
    until("it is tried again", async || receiver.requests().len() == 2).await;
    stage.stop().await;
    let requests = receiver.requests();
    assert!(requests[1].at - requests[0].at >= Duration::from_secs(2));
    assert_eq!(requests[0].id, requests[1].id, "the idempotency key is the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_up_is_in_the_dead_letters_and_its_key_goes_on() {
    let stack = Stack::start().await;
    let receiver = Receiver::start(|body, _| match body {
        "p0-0" => Answer::Status(500),
        "p0-1" => Answer::Status(400),
        _ => Answer::Status(200),
    })
    .await;
    let placed = stack.publish_many(1, 3).await.len();
    let stage = stack.stage(receiver.destination());
    until("all have ended", async || stack.books().await.len() == placed).await;
    stage.stop().await;

    assert_eq!((receiver.times("p0-0"), receiver.times("p0-1")), (4, 1));
    let mut letters = stack.dead_letters().await;
    letters.sort_by_key(|letter| letter.offset);
    let codes = letters.iter().map(|letter| letter.reason.code.as_str()).collect::<Vec<_>>();
    assert_eq!(codes, ["http_500", "http_400"]);
    assert!(
        letters[0].reason.message.starts_with("given up after 4 attempts"),
        "{}",
        letters[0].reason.message
    );
    assert_eq!(letters[0].original.value.as_deref(), Some(&b"p0-0"[..]));
    let ends = stack.books().await.into_values().collect::<Vec<_>>();
    assert_eq!(ends, [Disposition::Rejected, Disposition::Rejected, Disposition::Delivered]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_needs_a_person_keeps_everything_until_it_is_resumed() {
    let stack = Stack::start().await;
    let receiver = Receiver::start(|_, _| Answer::Status(401)).await;
    let names = stack.publish_many(10, 5).await;
    let stage = stack.stage(receiver.destination());
    until("it says so", async || stage.trouble().is_some_and(|why| why.contains("http_401"))).await;
    let tried = receiver.requests().len();
    assert!(tried <= 8, "no more than were under way: {tried}");

    receiver.now_answers(|_, _| Answer::Status(200));
    stack.order(Control::Resume { destination: "hook".parse().unwrap(), at: Utc::now() }).await;
    until("all arrive", async || stack.books().await.len() == names.len()).await;
    until("it is well", async || stage.trouble().is_none()).await;
    stage.stop().await;
    assert!(stack.dead_letters().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_pause_holds_over_a_restart() {
    let stack = Stack::start().await;
    let receiver = Receiver::willing().await;
    let hook = || "hook".parse().unwrap();
    stack.order(Control::Pause { destination: hook(), reason: "migration".to_owned(), at: Utc::now() }).await;
    stack.publish_many(2, 2).await;
    let stage = stack.stage(receiver.destination());
    until("it says so", async || stage.trouble().is_some_and(|why| why.contains("migration"))).await;
    until("it has its partitions", async || stack.progress().await.len() == 12).await;
    assert!(receiver.requests().is_empty());
    stack.order(Control::Resume { destination: hook(), at: Utc::now() }).await;
    until("all arrive", async || receiver.requests().len() == 4).await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_too_much_is_parked_nothing_more_is_read_and_it_says_so() {
    let stack = Stack::start().await;
    // Fewer keys than it takes for the destination itself to be taken for broken.
    let receiver = Receiver::start(|_, _| Answer::Status(503)).await;
    let names = stack.publish_many(8, 8).await;
    let stage = stack.stage_with(receiver.destination(), |hook| {
        hook.retry = patient();
        hook.bounds = small();
    });
    until("it says so", async || stage.trouble().is_some_and(|why| why.contains("keys that fail"))).await;
    let tried = receiver.bodies().into_iter().collect::<std::collections::BTreeSet<_>>();
    assert!(tried.iter().all(|body| body.ends_with("-0")), "the first of each key alone: {tried:?}");

    receiver.now_answers(|_, _| Answer::Status(200));
    until("all arrive", async || stack.books().await.len() == names.len()).await;
    until("it is well", async || stage.trouble().is_none()).await;
    stage.stop().await;
    assert!(stack.dead_letters().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_answers_nothing_costs_a_call_now_and_then_and_comes_back_by_itself() {
    let stack = Stack::start().await;
    let receiver = Receiver::start(|_, _| Answer::Status(503)).await;
    let names = stack.publish_many(40, 2).await;
    let stage = stack.stage_with(receiver.destination(), |hook| hook.retry = patient());
    until("it says so", async || stage.trouble().is_some_and(|why| why.contains("does not answer"))).await;
    let tried = receiver.requests().len();
    assert!(tried <= 10 + 8, "a run of ten, and what was under way besides: {tried}");

    receiver.now_answers(|_, _| Answer::Status(200));
    until("all arrive", async || stack.books().await.len() == names.len()).await;
    until("it is well", async || stage.trouble().is_none()).await;
    stage.stop().await;
    assert!(stack.dead_letters().await.is_empty());
}
