//! The checks prove themselves: a bug is planted around a warehouse, and the check that the right one passes
//! has to catch it. What is planted: offsets that are committed before the rows, ids that are not remembered,
//! and a fence that is ignored.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use millrace_connector::{ConnectorError, KafkaIdentity, Load, LoadReport, Resume, Warehouse};
use millrace_event_model::ConnectionId;
use millrace_service::Stop;
use millrace_warehouse_loader::{ConnectionOptions, Kind};
use tokio::sync::Semaphore;

use crate::around::{Around, Wrapped};
use crate::faults::{BadLine, Fault, SMALL, calm_and_shaken};
use crate::messages::mixed;
use crate::stack::{Stack, books, connection, contents, eventually, run_once};

/// An epoch that nobody has: whoever ignores the fence takes one.
const STOLEN: u64 = 1_000;

/// Runs until all is loaded: each dies a few times.
const RUNS: usize = 50;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    None,
    /// A load's offsets are made durable by themselves, and its rows after them.
    OffsetsFirst,
    /// No id was ever seen.
    NoDedup,
    /// A load that is refused is written all the same.
    NoFence,
}

/// A real warehouse and a bug, behind a gate that a test may shut.
struct Planted {
    inner: Arc<dyn Warehouse>,
    bug: Bug,
    gate: Semaphore,
    kafka: Mutex<Option<KafkaIdentity>>,
    /// Loads that came to their end, good or bad.
    ended: AtomicUsize,
}

impl Planted {
    fn new(inner: Arc<dyn Warehouse>, bug: Bug) -> Arc<Wrapped<Self>> {
        Self::behind_a_gate(inner, bug, Semaphore::MAX_PERMITS)
    }

    /// So many loads pass the gate.
    fn behind_a_gate(inner: Arc<dyn Warehouse>, bug: Bug, loads: usize) -> Arc<Wrapped<Self>> {
        let (gate, kafka) = (Semaphore::new(loads), Mutex::default());
        Arc::new(Wrapped(Self { inner, bug, gate, kafka, ended: AtomicUsize::new(0) }))
    }

    async fn load_with_bug(&self, load: Load) -> Result<LoadReport, ConnectorError> {
        match self.bug {
            Bug::None | Bug::NoDedup => self.inner.load(load).await,
            Bug::OffsetsFirst => {
                let offsets =
                    Load { tables: Vec::new(), seen: Vec::new(), counts: Vec::new(), ..load.clone() };
                self.inner.load(offsets).await?;
                self.inner.load(Load { ranges: Vec::new(), ..load }).await
            }
            Bug::NoFence => {
                let Err(refused) = self.inner.load(load.clone()).await else {
                    return Ok(LoadReport::default());
                };
                let Some(kafka) = self.kafka.lock().unwrap().clone() else { return Err(refused) };
                let epoch = load.epoch + STOLEN;
                self.inner.resume(&load.connection, epoch, &kafka).await?;
                self.inner.load(Load { epoch, ranges: Vec::new(), ..load }).await
            }
        }
    }
}

#[async_trait]
impl Around for Planted {
    fn inner(&self) -> &dyn Warehouse {
        &*self.inner
    }

    async fn resume(
        &self,
        connection: &ConnectionId,
        epoch: u64,
        kafka: &KafkaIdentity,
    ) -> Result<Resume, ConnectorError> {
        *self.kafka.lock().unwrap() = Some(kafka.clone());
        self.inner.resume(connection, epoch, kafka).await
    }

    async fn seen(
        &self,
        connection: &ConnectionId,
        ids: &[u128],
        now: DateTime<Utc>,
    ) -> Result<Vec<Option<u64>>, ConnectorError> {
        if self.bug == Bug::NoDedup {
            return Ok(vec![None; ids.len()]);
        }
        self.inner.seen(connection, ids, now).await
    }

    async fn load(&self, load: Load) -> Result<LoadReport, ConnectorError> {
        self.gate.acquire().await.unwrap().forget();
        let loaded = self.load_with_bug(load).await;
        self.ended.fetch_add(1, Ordering::SeqCst);
        loaded
    }
}

/// Lines of which there are more or fewer than there should be.
#[derive(Debug, Default, PartialEq, Eq)]
struct Differences {
    missing: Vec<String>,
    too_many: Vec<String>,
}

/// Between what a warehouse holds, rows and books, and what an undisturbed one holds.
async fn differences(found: &dyn Warehouse, right: &dyn Warehouse) -> Differences {
    let mut balance: BTreeMap<String, i64> = BTreeMap::new();
    for (warehouse, sign) in [(found, 1), (right, -1)] {
        for line in contents(warehouse).await.into_iter().chain(books(warehouse).await) {
            *balance.entry(line).or_default() += sign;
        }
    }
    let mut differences = Differences::default();
    for (line, balance) in balance {
        match balance {
            0 => {}
            ..0 => differences.missing.push(line),
            _ => differences.too_many.push(line),
        }
    }
    differences
}

fn to(warehouse: Arc<dyn Warehouse>) -> ConnectionOptions {
    connection(warehouse, Kind::Events)
}

/// The check of `faults.rs`: every other load is cut off, each a little later than the one before.
async fn after_loads_were_cut_off(bug: Bug) -> Differences {
    let stack = Stack::start().await;
    let (calm, shaken) = calm_and_shaken(&stack).await;
    for _ in 0..RUNS {
        let line = BadLine::new(Planted::new(shaken.clone(), bug), Fault::CutOff);
        if run_once(stack.limited("test", to(line), SMALL)).await.is_ok() {
            let found = differences(&*shaken, &*calm).await;
            stack.stop().await;
            return found;
        }
    }
    panic!("{RUNS} runs have not loaded all");
}

/// A loader is held up on its way into the warehouse, another takes over and loads all, and the first goes on.
async fn after_another_took_over(bug: Bug) -> Differences {
    let stack = Stack::start().await;
    stack.publish(&mixed(40)).await;
    let (calm, shared) = (stack.lake("calm"), stack.lake("shared"));
    stack.load(to(calm.clone())).await.unwrap();
    let held_up = Planted::behind_a_gate(stack.lake("shared"), bug, 0);
    let stop = Stop::new();
    let older = tokio::spawn(stack.service("same", to(held_up.clone())).run(stop.clone()));
    eventually("the older loader is at the gate", async || {
        shared.describe("web").await.unwrap().contains_key("pages")
    })
    .await;
    // It comes back under the name of the older one, which makes it the heir of the lease.
    run_once(stack.service("same", to(shared.clone()))).await.unwrap();
    held_up.gate.add_permits(1);
    eventually("the older loader's load has ended", async || held_up.ended.load(Ordering::SeqCst) == 1).await;
    stop.trigger();
    // Whoever waits at the gate again waits for nothing.
    let _ = tokio::time::timeout(Duration::from_secs(1), older).await;
    let found = differences(&*stack.lake("shared"), &*calm).await;
    stack.stop().await;
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_checks_pass_where_nothing_is_planted() {
    assert_eq!(after_loads_were_cut_off(Bug::None).await, Differences::default());
    assert_eq!(after_another_took_over(Bug::None).await, Differences::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_that_are_committed_before_the_rows_are_caught() {
    let found = after_loads_were_cut_off(Bug::OffsetsFirst).await;
    assert!(found.missing.iter().any(|line| line.starts_with("tracks: ")), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_that_nobody_remembers_are_caught() {
    let found = after_loads_were_cut_off(Bug::NoDedup).await;
    assert!(found.too_many.iter().any(|line| line.starts_with("tracks: ")), "{found:?}");
    assert!(found.missing.iter().any(|line| line.contains("disposition=duplicate")), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_that_is_ignored_is_caught() {
    let found = after_another_took_over(Bug::NoFence).await;
    assert!(found.too_many.iter().any(|line| line.starts_with("tracks: ")), "{found:?}");
}
