//! What a stop and a crash leave behind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use millrace_connector::{ConnectorError, Destination, HttpRequest, Item, ItemOutcome, Limits, Prepared};
use millrace_event_model::topics::PROGRESS;
use millrace_event_model::{Progress, Reason};
use tokio::sync::watch;

use crate::receiver::{Answer, Post, Receiver};
use crate::stack::{Stack, patient, small, until};

fn times(bodies: Vec<String>) -> BTreeMap<String, usize> {
    let mut times = BTreeMap::new();
    for body in bodies {
        *times.entry(body).or_default() += 1;
    }
    times
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_repeats_at_most_the_window() {
    let stack = Stack::start().await;
    let receiver = Receiver::start(|_, _| Answer::Slow(Duration::from_millis(3))).await;
    let names = stack.publish_many(40, 25).await;
    let window = small().active;
    let mut crashes = 0;
    while crashes < 4 {
        let before = receiver.requests().len();
        let stage = stack.stage_with(receiver.destination(), |hook| hook.bounds = small());
        until("it gets on", async || receiver.requests().len() >= before + 150).await;
        stage.kill().await;
        crashes += 1;
    }
    let stage = stack.stage_with(receiver.destination(), |hook| hook.bounds = small());
    until("all are in the books", async || stack.books().await.len() == names.len()).await;
    stage.stop().await;

    let times = times(receiver.bodies());
    assert_eq!(times.len(), names.len(), "nothing is lost");
    let repeats = times.values().map(|times| times - 1).sum::<usize>();
    assert!(repeats <= crashes * window, "{repeats} repeats after {crashes} crashes");
    for request in receiver.requests() {
        assert_eq!(request.id, stack.event("", &request.body).idempotency_key().to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_repeats_nothing() {
    let stack = Stack::start().await;
    let receiver = Receiver::start(|_, _| Answer::Slow(Duration::from_millis(20))).await;
    let names = stack.publish_many(30, 10).await;
    for rounds in 1..4 {
        let stage = stack.stage(receiver.destination());
        until("it gets on", async || receiver.requests().len() >= rounds * 60).await;
        stage.stop().await;
    }
    let stage = stack.stage(receiver.destination());
    until("all arrive", async || stack.books().await.len() == names.len()).await;
    stage.stop().await;
    assert!(times(receiver.bodies()).values().all(|times| *times == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_the_turns_of_a_rate() {
    let stack = Stack::start().await;
    let receiver = Receiver::willing().await;
    let names = stack.publish_many(10, 1).await;
    let held = HeldByRate { post: receiver.destination(), is_draining: watch::Sender::new(false) };
    let stage = stack.stage(Arc::new(held));
    until("the first arrives", async || !receiver.requests().is_empty()).await;
    let stopped_at = Instant::now();
    stage.stop().await;
    assert!(stopped_at.elapsed() < Stack::DRAIN, "{:?}", stopped_at.elapsed());
    let stage = stack.stage(receiver.destination());
    until("all are in the books", async || stack.books().await.len() == names.len()).await;
    stage.stop().await;
    assert!(times(receiver.bodies()).values().all(|times| *times == 1));
}

/// Sends the first of a batch, and holds the others for ever, unless it drains.
struct HeldByRate {
    post: Arc<Post>,
    is_draining: watch::Sender<bool>,
}

#[async_trait]
impl Destination for HeldByRate {
    async fn check(&self) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn limits(&self) -> Limits {
        Limits { max_items: 10, ..Limits::single(1, Duration::from_secs(600)) }
    }

    fn transform(&self, item: &Item) -> Result<Vec<HttpRequest>, Reason> {
        self.post.transform(item)
    }

    async fn deliver(&self, mut batch: Vec<Prepared>) -> Vec<ItemOutcome> {
        let held = batch.split_off(1);
        let mut outcomes = self.post.deliver(batch).await;
        let mut is_draining = self.is_draining.subscribe();
        is_draining.wait_for(|is_draining| *is_draining).await.unwrap();
        outcomes.extend(held.iter().map(|_| ItemOutcome::NotSent { after: Duration::ZERO }));
        outcomes
    }

    fn drain(&self, is_draining: bool) {
        self.is_draining.send_replace(is_draining);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_beyond_a_failing_key_is_not_sent_again() {
    let stack = Stack::start().await;
    let receiver = Receiver::start(|body, _| match body {
        "p0-0" => Answer::Status(503),
        _ => Answer::Status(200),
    })
    .await;
    let names = stack.publish_many(10, 10).await;
    let stage = stack.stage_with(receiver.destination(), |hook| hook.retry = patient());
    until("the others are in the books", async || stack.books().await.len() == names.len() - 10).await;
    until("the progress covers them", async || {
        let progress = stack.progress().await;
        let done = progress.values().flat_map(|p| &p.done).map(|(start, end)| end - start).sum::<i64>();
        done + progress.values().map(|p| p.low).sum::<i64>() == names.len() as i64 - 10
    })
    .await;
    stage.kill().await;

    // The group's own offset was never committed, or stands at the failing item: the progress counts.
    receiver.now_answers(|_, _| Answer::Status(200));
    let stage = stack.stage(receiver.destination());
    until("all are in the books", async || stack.books().await.len() == names.len()).await;
    stage.stop().await;
    let times = times(receiver.bodies());
    assert!(times.iter().all(|(body, times)| body == "p0-0" || *times == 1), "{times:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_at_the_latest_does_not_jump_with_a_restart() {
    let stack = Stack::start().await;
    let receiver = Receiver::willing().await;
    stack.publish(&[stack.event("a", "before")]).await;
    let latest = |hook: &mut millrace_deliver::DestinationOptions| {
        hook.connections[0].start = millrace_deliver::Start::Latest;
    };
    let stage = stack.stage_with(receiver.destination(), latest);
    until("it knows where it is", async || stack.progress().await.len() == 12).await;
    stage.kill().await;
    stack.publish(&[stack.event("a", "between")]).await;
    let stage = stack.stage_with(receiver.destination(), latest);
    until("it arrives", async || receiver.requests().len() == 1).await;
    stage.stop().await;
    assert_eq!(receiver.bodies(), ["between"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_of_another_cluster_is_refused_and_says_what_to_do() {
    let stack = Stack::start().await;
    let receiver = Receiver::willing().await;
    stack.publish_many(3, 1).await;
    let of_elsewhere = Progress {
        destination: "hook".parse().unwrap(),
        topic: stack.lane().as_str().to_owned(),
        partition: 0,
        cluster: "elsewhere".to_owned(),
        low: 1,
        done: Vec::new(),
    };
    stack.say(&PROGRESS.of(stack.bus.workspace()), &of_elsewhere).await;
    let stage = stack.stage(receiver.destination());
    until("it says so", async || stage.trouble().is_some_and(|why| why.contains("\"elsewhere\""))).await;
    stage.stop().await;
    assert!(receiver.requests().is_empty());
}
