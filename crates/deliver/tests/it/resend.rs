//! What was given up or sent is sent again, for an operator.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use millrace_bus::Range;
use millrace_deliver::{Again, DestinationOptions, LetterRoutes, News, Resent, Stopped, send_again};
use millrace_event_model::topics::DEAD_LETTERS;
use millrace_event_model::wire::Message as _;
use millrace_event_model::{Control, DeadLetter, Disposition, Lane, MessageId, Reason, Stage};
use millrace_service::{Stop, SystemClock};

use crate::receiver::{Answer, Receiver};
use crate::stack::{Stack, patient, small, until};

async fn resend(stack: &Stack, receiver: &Receiver, again: Again) -> Resent {
    resend_with(stack, receiver, again, |_| {}).await
}

async fn resend_with(
    stack: &Stack,
    receiver: &Receiver,
    again: Again,
    change: impl FnOnce(&mut DestinationOptions),
) -> Resent {
    let mut hook = Stack::connected("hook", receiver.destination());
    change(&mut hook);
    send_again(hook, again, &stack.bus, Arc::new(SystemClock), &Stop::new(), &mut |_| {}).await
}

/// All letters that there are.
async fn letters(stack: &Stack) -> Again {
    let mut letters = BTreeMap::<i32, BTreeSet<i64>>::new();
    for received in stack.bus.read_all(&DEAD_LETTERS.of(stack.bus.workspace())).await.unwrap() {
        letters.entry(received.partition).or_default().insert(received.offset);
    }
    Again::Letters(letters)
}

/// The events of one person, and `more` offsets after them.
async fn range(stack: &Stack, more: i64) -> Range {
    let places = stack.places().await;
    let (partition, first) = places.iter().copied().min().unwrap();
    assert!(places.iter().all(|place| place.0 == partition), "{places:?}");
    Range::stored(partition, first, first + places.len() as i64 + more)
}

fn again(range: Range) -> Again {
    Again::Ranges(vec![(Lane::main(), vec![range])])
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
    let resent = resend(&stack, &receiver, letters(&stack).await).await;
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
    let resent = resend(&stack, &receiver, letters(&stack).await).await;
    assert!(matches!(&resent.stopped, Some(Stopped::Closed(why)) if why.contains("http_401")), "{resent:?}");
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
    let mut without_record = DeadLetter { offset: 7, ..letter.clone() };
    without_record.original.value = None;
    let of_a_change = DeadLetter { topic: "acme.changes".to_owned(), ..letter.clone() };
    for letter in [&without_record, &of_a_change] {
        stack.say(&DEAD_LETTERS.of(stack.bus.workspace()), letter).await;
    }
    let resent = resend(&stack, &receiver, letters(&stack).await).await;
    assert_eq!((resent.impossible, resent.ended), (2, [(Disposition::Rejected, 1)].into()));

    // Its source leads there no more.
    let before = receiver.requests().len();
    let elsewhere = |hook: &mut DestinationOptions| {
        for connection in &mut hook.connections {
            connection.source = "another".parse().unwrap();
        }
    };
    let resent = resend_with(&stack, &receiver, letters(&stack).await, elsewhere).await;
    assert_eq!(resent, Resent { impossible: 4, ..Resent::default() });
    assert_eq!(receiver.requests().len(), before);

    let routes = LetterRoutes::new(
        &Stack::connected("hook", receiver.destination()).connections,
        stack.bus.workspace(),
    );
    let (web, another) = ("web".parse().unwrap(), "another".parse().unwrap());
    let leads = [Some(&web), Some(&another), None].map(|source| routes.lead(&letter.topic, source));
    assert_eq!((leads, routes.lead("acme.changes", None)), ([true, false, true], false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_that_is_stopped_says_what_has_not_ended() {
    let stack = Stack::start().await;
    let receiver = Receiver::start(|_, _| Answer::Status(401)).await;
    stack.publish_many(1, 3).await;
    let range = range(&stack, 0).await;
    let resent = resend(&stack, &receiver, again(range)).await;
    assert!(matches!(resent.stopped, Some(Stopped::Closed(_))), "{resent:?}");
    assert_eq!(resent.rest, [(Lane::main(), vec![range])], "none was taken");
    assert!(resent.rest_since.is_some_and(|since| since <= Utc::now()));
    receiver.now_answers(|_, _| Answer::Status(200));
    assert_eq!(resend(&stack, &receiver, again(range)).await.rest, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttling_is_nobodys_fault_and_waited_for_as_the_stage_does() {
    let stack = Stack::start().await;
    // More often than an item that fails is tried, and then with a second to wait.
    let receiver = Receiver::start(|_, before| match before {
        0..7 => Answer::TooMany(0),
        7 => Answer::TooMany(1),
        _ => Answer::Status(200),
    })
    .await;
    stack.publish_many(1, 1).await;
    let range = range(&stack, 0).await;
    let resent = resend_with(&stack, &receiver, again(range), |hook| hook.retry = patient()).await;
    assert_eq!(resent.ended, [(Disposition::Delivered, 1)].into());
    let requests = receiver.requests();
    assert_eq!(requests.len(), 9);
    assert!(requests[8].at - requests[7].at >= Duration::from_secs(1));

    receiver.now_answers(|_, _| Answer::Status(503));
    let resent = resend_with(&stack, &receiver, again(range), |hook| hook.retry = patient()).await;
    assert_eq!(resent.ended, [(Disposition::Rejected, 1)].into());
    assert_eq!(receiver.requests().len(), 9 + 5, "less patient than the stage with what fails");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_a_job_until_the_resume() {
    let stack = Stack::start().await;
    let receiver = Receiver::start(|_, _| Answer::Slow(Duration::from_millis(30))).await;
    stack.publish_many(1, 50).await;
    let range = range(&stack, 0).await;
    let (say, mut news) = tokio::sync::mpsc::unbounded_channel();
    let hook = Stack::connected("hook", receiver.destination());
    let (bus, at) = (stack.bus.clone(), Utc::now());
    let job = tokio::spawn(async move {
        let mut tell = |news| say.send(news).unwrap();
        send_again(hook, again(range), &bus, Arc::new(SystemClock), &Stop::new(), &mut tell).await
    });
    until("it has begun", async || receiver.requests().len() > 2).await;
    let destination = || "hook".parse().unwrap();
    stack.order(Control::Pause { destination: destination(), reason: "maintenance".to_owned(), at }).await;
    assert_eq!(news.recv().await, Some(News::Paused("maintenance".to_owned())));
    let at_pause = receiver.requests().len();
    assert!(at_pause < 50, "the test is too slow for its receiver");
    // Longer than all the rest would take.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(receiver.requests().len() <= at_pause + 1, "only what was in flight may come");
    assert!(!job.is_finished());
    stack.order(Control::Resume { destination: destination(), at }).await;
    assert_eq!(news.recv().await, Some(News::Resumed));
    let resent = job.await.unwrap();
    assert_eq!((resent.stopped, resent.ended), (None, [(Disposition::Delivered, 50)].into()));
    assert_eq!(receiver.requests().len(), 50, "none twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_says_what_was_done_and_where_to_go_on() {
    let stack = Stack::start().await;
    let receiver = Receiver::willing().await;
    stack.publish_many(1, 50).await;
    // It ends beyond the end of the topic: after some windows that cannot be read.
    let range = range(&stack, 10).await;
    let resent = resend_with(&stack, &receiver, again(range), |hook| hook.bounds = small()).await;
    let Some(Stopped::Failed { why, is_retryable: false }) = &resent.stopped else { panic!("{resent:?}") };
    assert!(why.contains("beyond its end"), "{why}");
    let delivered = resent.ended[&Disposition::Delivered];
    assert!(delivered > 0, "{resent:?}");
    assert_eq!(delivered as usize, receiver.requests().len(), "all that was sent is stored and counted");
    let rest = Range::stored(range.partition, range.start + delivered as i64, range.end);
    assert_eq!(resent.rest, [(Lane::main(), vec![rest])]);
    let read = stack.bus.read_all(&stack.lane()).await.unwrap();
    let next = read.iter().find(|record| record.offset >= rest.start).or(read.last()).unwrap();
    assert!(resent.rest_since.is_some_and(|since| since <= next.appended_at), "{resent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_read_in_batches_and_each_ends_before_the_next_is_read() {
    const LETTERS: usize = 80;
    let stack = Stack::start().await;
    // Some 37 of them are a batch.
    let body = |number: usize| format!("{number:03}{}", "x".repeat(900 * 1024 - 3));
    for number in 0..LETTERS {
        let mut event = stack.event("one", &body(number));
        event.message_id = MessageId(number.to_string());
        let letter = DeadLetter {
            stage: Stage::Deliver,
            subject: "hook".to_owned(),
            topic: stack.lane().as_str().to_owned(),
            partition: 0,
            // Against the order in which they were given up.
            offset: (LETTERS - number) as i64,
            reason: Reason::new("http_400", "no"),
            at: Utc::now(),
            original: event.encode(),
        };
        stack.say(&DEAD_LETTERS.of(stack.bus.workspace()), &letter).await;
    }
    let receiver = Receiver::start(|body, before| match body.starts_with("000") && before < 3 {
        true => Answer::Status(503),
        false => Answer::Status(200),
    })
    .await;
    let unordered = letters(&stack).await;
    let resent = resend(&stack, &receiver, unordered).await;
    assert_eq!(resent, Resent { ended: [(Disposition::Delivered, 80)].into(), ..Resent::default() });
    let requests = receiver.requests();
    let numbers: Vec<_> =
        requests.iter().map(|request| request.body[..3].parse::<usize>().unwrap()).collect();
    let first_batch = numbers.iter().rposition(|number| *number == 0).unwrap() + 1;
    let (first, rest) = numbers.split_at(first_batch);
    let largest = first.iter().max().unwrap();
    assert!(*largest < 40 && first.len() > 30, "{numbers:?}");
    assert!(rest.iter().all(|number| number > largest), "{numbers:?}");
}
