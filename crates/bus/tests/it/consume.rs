//! The crash points of the consume loop. A crash is a task that is dropped, or an error, at the point.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millrace_bus::{
    Batch, BatchLimits, Bus, BusError, CancellationToken, Consume, Positions, PublisherOptions, Range,
    Resume, Start, consume,
};
use millrace_event_model::Event;

use crate::cluster::{Cluster, DEADLINE, events};
use crate::messages::{id, some_events, sorted_ids};

const MESSAGES: usize = 200;
const LIMITS: BatchLimits =
    BatchLimits { max_records: 50, max_bytes: 1 << 20, max_wait: Duration::from_millis(200) };

/// A store that outlives its consumers: one transaction, or an intent that is sealed.
#[derive(Default)]
struct Store {
    positions: Positions,
    rows: Vec<String>,
    intent: Vec<Range>,
    /// What was staged, in order.
    staged: Vec<Vec<Range>>,
    resumed: usize,
}

/// Where the consumer dies, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Crash {
    Never,
    AtResume,
    AtStage,
    AfterStage,
    BeforeTheAnswer,
    AfterCommit,
}

#[derive(Clone)]
struct Loader {
    store: Arc<Mutex<Store>>,
    /// With intents, or with transactions.
    intents: bool,
    crash: Arc<Mutex<Crash>>,
    /// Cancelled when everything is there.
    stop: CancellationToken,
}

#[derive(Debug)]
struct Died(#[expect(dead_code, reason = "for the message of a failing test")] String);

impl From<BusError> for Died {
    fn from(error: BusError) -> Self {
        panic!("the bus failed: {error:?}")
    }
}

impl Loader {
    fn die_at(&self, point: Crash) -> Result<(), Died> {
        let mut crash = self.crash.lock().unwrap();
        if *crash == point {
            *crash = Crash::Never;
            return Err(Died(format!("{point:?}")));
        }
        Ok(())
    }
}

impl Consume<Event> for Loader {
    type Staged = (Vec<Range>, Vec<String>);
    type Error = Died;

    async fn resume(&mut self) -> Result<Resume, Died> {
        self.store.lock().unwrap().resumed += 1;
        self.die_at(Crash::AtResume)?;
        let store = self.store.lock().unwrap();
        let mut positions = store.positions.clone();
        positions.extend(store.intent.iter().map(|range| (range.partition, range.end)));
        Ok(Resume { positions, unsealed: store.intent.clone() })
    }

    async fn stage(&mut self, batch: Batch<Event>) -> Result<Self::Staged, Died> {
        self.die_at(Crash::AtStage)?;
        let ids: Vec<String> = batch.records.iter().map(id).collect();
        let mut store = self.store.lock().unwrap();
        store.staged.push(batch.ranges.clone());
        if self.intents {
            store.intent.clone_from(&batch.ranges);
        }
        drop(store);
        self.die_at(Crash::AfterStage)?;
        Ok((batch.ranges, ids))
    }

    async fn commit(&mut self, (ranges, ids): Self::Staged) -> Result<(), Died> {
        let mut store = self.store.lock().unwrap();
        for range in ranges {
            let position = store.positions.insert(range.partition, range.end).unwrap_or(0);
            assert_eq!(position, range.start, "the fence: a commit follows the one before it");
        }
        store.rows.extend(ids);
        store.intent.clear();
        let complete = store.rows.len() >= MESSAGES;
        drop(store);
        self.die_at(Crash::BeforeTheAnswer)?;
        if complete {
            self.stop.cancel();
        }
        self.die_at(Crash::AfterCommit)
    }
}

async fn run(bus: &Bus, loader: &mut Loader) -> Result<(), Died> {
    let topic = events(bus);
    let stop = loader.stop.clone();
    let running = consume::run(bus, &topic, Start::Earliest, &LIMITS, loader, &stop);
    tokio::time::timeout(DEADLINE, running).await.expect("the loop ends")
}

/// Runs until it dies at the point, then again; says how often each batch was staged, on each broker.
async fn check(point: Crash, intents: bool) -> Vec<BTreeMap<Vec<Range>, usize>> {
    let mut staged = Vec::new();
    for cluster in Cluster::each() {
        staged.push(check_on(&cluster, point, intents).await);
    }
    staged
}

async fn check_on(cluster: &Cluster, point: Crash, intents: bool) -> BTreeMap<Vec<Range>, usize> {
    let bus = cluster.bus().await;
    let messages = some_events(MESSAGES);
    let publisher = bus.publisher(PublisherOptions::default()).unwrap();
    let _ = publisher.publish(&events(&bus), &messages).await.unwrap();

    let mut loader = Loader {
        store: Arc::default(),
        intents,
        crash: Arc::new(Mutex::new(point)),
        stop: CancellationToken::new(),
    };
    run(&bus, &mut loader).await.expect_err("it dies the first time");
    // At the last commit the loop has been told to stop; a restart has not.
    loader.stop = CancellationToken::new();
    if loader.store.lock().unwrap().rows.len() >= MESSAGES {
        loader.stop.cancel();
    }
    run(&bus, &mut loader).await.expect("it lives the second time");

    let store = loader.store.lock().unwrap();
    assert_eq!(store.resumed, 2);
    let mut rows = store.rows.clone();
    rows.sort();
    assert_eq!(rows, sorted_ids(&messages), "each message once");
    let mut counts = BTreeMap::new();
    for mut ranges in store.staged.iter().cloned() {
        ranges.sort_by_key(|range| range.partition);
        *counts.entry(ranges).or_insert(0) += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_the_first_read_changes_nothing() {
    let staged = check(Crash::AtResume, false).await;
    assert!(staged.iter().flat_map(BTreeMap::values).all(|times| *times == 1), "{staged:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_after_the_read_reads_again() {
    check(Crash::AtStage, false).await;
    check(Crash::AtStage, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_the_commit_redoes_the_same_ranges() {
    check(Crash::AfterStage, false).await;
    for staged in check(Crash::AfterStage, true).await {
        assert_eq!(staged.values().filter(|times| **times == 2).count(), 1, "{staged:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_was_not_heard_of_is_not_done_twice() {
    for intents in [false, true] {
        let staged = check(Crash::BeforeTheAnswer, intents).await;
        assert!(staged.iter().flat_map(BTreeMap::values).all(|times| *times == 1), "{staged:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_after_the_commit_repeats_nothing() {
    let staged = check(Crash::AfterCommit, false).await;
    assert!(staged.iter().flat_map(BTreeMap::values).all(|times| *times == 1), "{staged:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_finishes_the_batch_in_hand() {
    for cluster in Cluster::each() {
        let bus = cluster.bus().await;
        let messages = some_events(MESSAGES);
        let publisher = bus.publisher(PublisherOptions::default()).unwrap();
        let _ = publisher.publish(&events(&bus), &messages).await.unwrap();
        let mut loader = Loader {
            store: Arc::default(),
            intents: false,
            crash: Arc::new(Mutex::new(Crash::Never)),
            stop: CancellationToken::new(),
        };
        // The stop comes with the last commit; the loop returns without another batch.
        run(&bus, &mut loader).await.unwrap();
        let store = loader.store.lock().unwrap();
        assert_eq!(store.rows.len(), MESSAGES);
        assert_eq!(store.resumed, 1);
    }
}

/// A loader whose commits go on behind the loop: each is done only when the loop settles it.
struct Behind {
    loader: Loader,
    committing: Option<(Vec<Range>, Vec<String>)>,
}

impl Consume<Event> for Behind {
    type Staged = (Vec<Range>, Vec<String>);
    type Error = Died;

    async fn resume(&mut self) -> Result<Resume, Died> {
        self.loader.resume().await
    }

    async fn stage(&mut self, batch: Batch<Event>) -> Result<Self::Staged, Died> {
        self.loader.stage(batch).await
    }

    async fn commit(&mut self, staged: Self::Staged) -> Result<(), Died> {
        self.settle().await?;
        self.committing = Some(staged);
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), Died> {
        // Longer than a poll of it, and it may be dropped here.
        tokio::task::yield_now().await;
        match self.committing.take() {
            Some(staged) => self.loader.commit(staged).await,
            None => Ok(()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_behind_the_loop_is_settled_while_it_waits() {
    for cluster in Cluster::each() {
        let bus = cluster.bus().await;
        let messages = some_events(MESSAGES);
        let publisher = bus.publisher(PublisherOptions::default()).unwrap();
        let _ = publisher.publish(&events(&bus), &messages).await.unwrap();
        let stop = CancellationToken::new();
        let crash = Arc::new(Mutex::new(Crash::Never));
        let loader = Loader { store: Arc::default(), intents: false, crash, stop: stop.clone() };
        let mut behind = Behind { loader, committing: None };
        // Only the last commit gives the stop, and nothing is read after it: the loop has to settle it by itself.
        let topic = events(&bus);
        let running = consume::run(&bus, &topic, Start::Earliest, &LIMITS, &mut behind, &stop);
        tokio::time::timeout(DEADLINE, running).await.expect("the loop ends").unwrap();
        assert_eq!(behind.loader.store.lock().unwrap().rows.len(), MESSAGES);
    }
}
