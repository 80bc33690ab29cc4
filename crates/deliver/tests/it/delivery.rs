//! What works: everything arrives, in order, and is in the books.

use std::collections::BTreeSet;
use std::time::Duration;

use millrace_event_model::{Disposition, Origin};
use millrace_transform::Filter;

use crate::receiver::{Answer, Receiver};
use crate::stack::{Stack, until};

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_in_order_per_key_and_are_in_the_books() {
    let stack = Stack::start().await;
    let receiver =
        Receiver::start(|body, _| Answer::Slow(Duration::from_millis(body.len() as u64 % 5))).await;
    let names = stack.publish_many(20, 10).await;
    let stage = stack.stage(receiver.destination());

    until("all arrive", async || receiver.requests().len() >= names.len()).await;
    until("all are in the books", async || stack.books().await.len() >= names.len()).await;
    stage.stop().await;

    let bodies = receiver.bodies();
    assert_eq!(bodies.len(), names.len(), "each once");
    assert_eq!(bodies.iter().collect::<BTreeSet<_>>(), names.iter().collect());
    for person in 0..20 {
        let prefix = format!("p{person}-");
        let of_person = bodies.iter().filter(|body| body.starts_with(&prefix)).collect::<Vec<_>>();
        let expected = names.iter().filter(|name| name.starts_with(&prefix)).collect::<Vec<_>>();
        assert_eq!(of_person, expected);
    }
    assert_eq!(receiver.overlapped(), Vec::<String>::new(), "never two of a key at once");
    assert!(stack.books().await.values().all(|end| *end == Disposition::Delivered));
    let progress = stack.progress().await;
    assert_eq!(progress.values().map(|p| p.low).sum::<i64>(), names.len() as i64);
    assert!(progress.values().all(|p| p.done.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn filtered_events_and_duplicates_are_in_the_books_too() {
    let stack = Stack::start().await;
    let receiver = Receiver::willing().await;
    let mut events =
        vec![stack.event("a", "\"one\""), stack.event("a", "\"two\""), stack.event("a", "\"one\"")];
    events[1].event_type = "page".into();
    events.push(stack.event("a", "\"last\""));
    events.push(stack.event("a", "\"foreign\""));
    events[4].source = "other".parse().unwrap();
    stack.publish(&events).await;
    let places = stack.places().await;
    let stage = stack.stage_with(receiver.destination(), |hook| {
        hook.connections[0].filter = Some(Filter::compile("type == 'track'").unwrap());
    });

    until("all are in the books", async || stack.books().await.len() >= 4).await;
    stage.stop().await;

    assert_eq!(receiver.bodies(), ["\"one\"", "\"last\""]);
    let books = stack.books().await;
    let ends = places.iter().map(|place| books.get(place).copied());
    let expected = [
        Some(Disposition::Delivered),
        Some(Disposition::Filtered),
        Some(Disposition::Duplicate),
        Some(Disposition::Delivered),
        None,
    ];
    assert_eq!(ends.collect::<Vec<_>>(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_change_has_its_outcome() {
    let stack = Stack::start().await;
    let receiver = Receiver::start(|body, _| match body {
        "\"refused\"" => Answer::Status(400),
        _ => Answer::Status(200),
    })
    .await;
    stack.publish_change("anna", 1, "\"first\"").await;
    stack.publish_change("ben", 1, "\"refused\"").await;
    let stage = stack.stage(receiver.destination());
    until("both have outcomes", async || stack.outcomes().await.len() >= 2).await;
    stack.publish_change("anna", 2, "\"second\"").await;
    stack.publish_change("anna", 1, "\"late\"").await;
    until("all have outcomes", async || stack.outcomes().await.len() >= 4).await;
    stage.stop().await;

    let mut ends = Vec::new();
    for outcome in stack.outcomes().await {
        let Origin::Change { run, key, row_hash, .. } = outcome.origin else { panic!("{outcome:?}") };
        assert_eq!(row_hash.0, [run as u8; 16]);
        let row = if key == stack.row("anna") { "anna" } else { "ben" };
        ends.push((row, run, outcome.disposition));
    }
    ends.sort();
    let expected = [
        ("anna", 1, Disposition::Delivered),
        ("anna", 1, Disposition::Superseded),
        ("anna", 2, Disposition::Delivered),
        ("ben", 1, Disposition::Rejected),
    ];
    assert_eq!(ends, expected);
    assert_eq!(receiver.times("\"late\""), 0, "older than what the row has");
    let letters = stack.dead_letters().await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].reason.code, "http_400");
}
