//! A warehouse that is away, or dies in the middle; a topic that has forgotten.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use async_trait::async_trait;
use millrace_connector::{ConnectorError, KafkaIdentity, Load, LoadReport, Resume, Warehouse};
use millrace_event_model::ConnectionId;
use millrace_lake::Lake;
use millrace_service::Stop;
use millrace_warehouse_loader::{Error, Kind, LoadLimits};
use serde_json::json;

use crate::around::{Around, Wrapped};
use crate::messages::{mixed, track};
use crate::stack::{
    Stack, books, connection, contents, eventually, forget_all_but_the_last, query, run_once,
};

/// A real warehouse behind a bad line: loads may be cut off in the middle, and answers lost.
pub(crate) struct BadLine {
    inner: Arc<dyn Warehouse>,
    fault: Fault,
    calls: AtomicUsize,
}

#[derive(Clone, Copy)]
pub(crate) enum Fault {
    /// Every other load is dropped after so many polls more than the one before.
    CutOff,
    /// Every other load is done and its answer lost.
    AnswerLost,
    /// Nothing is reached for the first so many calls.
    AwayFor(usize),
}

impl BadLine {
    pub(crate) fn new(inner: Arc<dyn Warehouse>, fault: Fault) -> Arc<Wrapped<Self>> {
        Arc::new(Wrapped(Self { inner, fault, calls: AtomicUsize::new(0) }))
    }

    fn lost() -> ConnectorError {
        ConnectorError::retry("connection_lost", "the line to the warehouse broke")
    }

    fn reach(&self) -> Result<(), ConnectorError> {
        let Fault::AwayFor(calls) = self.fault else { return Ok(()) };
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        if call < calls { Err(Self::lost()) } else { Ok(()) }
    }
}

#[async_trait]
impl Around for BadLine {
    fn inner(&self) -> &dyn Warehouse {
        &*self.inner
    }

    async fn resume(
        &self,
        connection: &ConnectionId,
        epoch: u64,
        kafka: &KafkaIdentity,
    ) -> Result<Resume, ConnectorError> {
        self.reach()?;
        self.inner.resume(connection, epoch, kafka).await
    }

    async fn load(&self, load: Load) -> Result<LoadReport, ConnectorError> {
        self.reach()?;
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        if call % 2 == 1 {
            return self.inner.load(load).await;
        }
        match self.fault {
            Fault::CutOff => {
                let mut loading = self.inner.load(load);
                let mut polls = call;
                std::future::poll_fn(|context| {
                    if polls == 0 {
                        return Poll::Ready(Err(Self::lost()));
                    }
                    polls -= 1;
                    loading.as_mut().poll(context)
                })
                .await
            }
            Fault::AnswerLost => {
                self.inner.load(load).await?;
                Err(Self::lost())
            }
            Fault::AwayFor(_) => self.inner.load(load).await,
        }
    }
}

/// A lake that holds all that was published, and one that is to hold it by loads of [`SMALL`].
pub(crate) async fn calm_and_shaken(stack: &Stack) -> (Arc<Lake>, Arc<Lake>) {
    stack.publish(&mixed(150)).await;
    // Some of them again: a load that was cut off must not take its own for duplicates.
    stack.publish(&mixed(30)).await;
    let calm = stack.lake("calm");
    stack.load(connection(calm.clone(), Kind::Events)).await.unwrap();
    (calm, stack.lake("shaken"))
}

/// So small that there are many.
pub(crate) const SMALL: LoadLimits = LoadLimits { max_records: 12, max_bytes: 1024 * 1024 };

async fn is_loaded_as_if_undisturbed(fault: Fault) {
    let stack = Stack::start().await;
    let (calm, shaken) = calm_and_shaken(&stack).await;
    let mut options = connection(BadLine::new(shaken.clone(), fault), Kind::Events);
    options.id = "web--shaken".parse().unwrap();
    let stop = Stop::new();
    let running = tokio::spawn(stack.limited("test", options, SMALL).run(stop.clone()));
    let all = books(&*calm).await;
    eventually("the end of the shaken load", async || {
        let made = shaken.describe("_millrace").await.is_ok_and(|tables| tables.contains_key("counts"));
        made && books(&*shaken).await == all
    })
    .await;
    stop.trigger();
    running.await.unwrap().unwrap();
    assert_eq!(contents(&*shaken).await, contents(&*calm).await);
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_is_cut_off_anywhere_is_done_again_and_once() {
    is_loaded_as_if_undisturbed(Fault::CutOff).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_whose_answer_is_lost_is_not_done_again() {
    is_loaded_as_if_undisturbed(Fault::AnswerLost).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_warehouse_that_is_away_shows_in_the_health_and_loses_nothing() {
    let stack = Stack::start().await;
    let lake = stack.lake("lake");
    stack.publish(&[track(1, "ann", "Order Placed", json!({}))]).await;
    let away = BadLine::new(lake.clone(), Fault::AwayFor(4));
    let stop = Stop::new();
    let running = tokio::spawn(stack.service("test", connection(away, Kind::Events)).run(stop.clone()));
    eventually("a reason in the health", async || {
        let readiness = stack.health.readiness();
        let mut reasons = readiness.components.values().filter_map(|component| component.reason.as_deref());
        reasons.any(|reason| reason.contains("the line to the warehouse broke"))
    })
    .await;
    eventually("the load", async || {
        let tables = lake.describe("web").await.unwrap();
        tables.contains_key("tracks") && query(&*lake, "SELECT id FROM web.tracks").await.len() == 1
    })
    .await;
    eventually("readiness", async || stack.health.readiness().ready).await;
    stop.trigger();
    running.await.unwrap().unwrap();
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_stops_the_connection_until_it_is_accepted_and_is_counted_then() {
    let stack = Stack::start().await;
    let lake = stack.lake("lake");
    let load = async |accept_gap: bool| {
        let mut options = connection(lake.clone(), Kind::Events);
        options.accept_gap = accept_gap;
        run_once(stack.service("test", options)).await
    };
    stack.publish(&[track(1, "ann", "First", json!({}))]).await;
    load(false).await.unwrap();
    stack.publish(&[track(2, "ann", "Second", json!({})), track(3, "ann", "Third", json!({}))]).await;
    forget_all_but_the_last(&stack).await;

    let refused = load(false).await.unwrap_err();
    assert!(matches!(refused, Error::Gap(ref gap) if gap.items() == 1), "{refused}");
    assert!(refused.to_string().contains("accept_gap"), "{refused}");
    let report = load(true).await.unwrap();
    assert_eq!((report.loaded, report.expired), (1, 1));
    let events = query(&*lake, "SELECT event FROM web.tracks ORDER BY event").await;
    assert_eq!(events, ["event=first", "event=third"]);
    stack.stop().await;
}
