//! What is told of loads afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use millrace_connector::{ConnectorError, Load, LoadReport, Warehouse};
use millrace_event_model::Disposition;
use millrace_lake::Lake;
use millrace_service::Stop;
use millrace_warehouse_loader::{Kind, LoadLimits, NextAttempt, RunRecord, RunState, run_log};
use serde_json::json;

use crate::around::{Around, Wrapped};
use crate::messages::{mixed, track};
use crate::stack::{Stack, connection, eventually, run_once};

async fn runs(stack: &Stack) -> Vec<RunRecord> {
    let log = run_log(&stack.state, "web--lake");
    log.since("").await.unwrap().into_iter().map(|(_, run)| run).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_once_loads_is_one_run_and_nothing_is_none() {
    let stack = Stack::start().await;
    let lake = stack.lake("lake");
    let mut not_json = track(90, "ann", "x", json!({}));
    not_json.body = "{".into();
    let mut events = mixed(40);
    events.extend([events[1].clone(), not_json]);
    stack.publish(&events).await;
    let limits = LoadLimits { max_records: 10, ..LoadLimits::default() };
    let service = stack.limited("test", connection(lake.clone(), Kind::Events), limits);
    let report = run_once(service).await.unwrap();
    let again = stack.load(connection(lake.clone(), Kind::Events)).await.unwrap();
    assert_eq!((again.batches, again.run), (0, None));

    let runs = runs(&stack).await;
    let [run] = &runs[..] else { panic!("{runs:?}") };
    assert_eq!(Some(&run.id), report.run.as_ref());
    assert_eq!((run.state, run.attempts, run.loads), (RunState::Loaded, 1, report.batches));
    assert!(run.loads > 2, "{run:?}");
    let items: Vec<_> = run.items.iter().map(|(disposition, items)| (disposition.as_str(), *items)).collect();
    assert_eq!(items, [("loaded", 40), ("duplicate", 1), ("rejected", 1)]);
    assert_eq!((run.rows["tracks"], run.rows["pages"]), (20, 10));
    assert_eq!(run.ranges.iter().map(|range| range.end - range.start).sum::<i64>(), 42);
    assert_eq!((run.holder.as_str(), run.job.as_deref(), &run.error), ("test", None, &None));
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_that_fail_alike_are_one_run_that_says_which_statement_failed() {
    let stack = Stack::start().await;
    let warehouse = Arc::new(Wrapped(Failing { lake: stack.lake("lake"), failures: AtomicUsize::new(3) }));
    stack.publish(&mixed(8)).await;
    let report = stack.load(connection(warehouse, Kind::Events)).await.unwrap();
    assert_eq!(report.loaded, 8);
    let runs = runs(&stack).await;
    let [failed, loaded] = &runs[..] else { panic!("{runs:?}") };
    assert_eq!((failed.state, failed.attempts, failed.loads), (RunState::Failed, 3, 0));
    let error = failed.error.as_ref().unwrap();
    assert_eq!((error.class.as_str(), error.code.as_deref()), ("warehouse", Some("disk_full")));
    assert_eq!(error.message, "warehouse: the disk is full");
    assert_eq!(error.statement.as_deref(), Some("COPY web.tracks FROM STDIN"));
    assert_eq!(error.next, NextAttempt::Retry);
    assert_eq!((loaded.state, loaded.items[&Disposition::Loaded]), (RunState::Loaded, 8));
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_shows_its_run_while_it_goes_on_and_ends_it_when_it_stops() {
    let stack = Stack::start().await;
    let stop = Stop::new();
    let service = stack.service("test", connection(stack.lake("lake"), Kind::Events));
    let running = tokio::spawn(service.run(stop.clone()));
    stack.publish(&mixed(8)).await;
    eventually("a run that is open", async || runs(&stack).await.iter().any(|run| run.loads > 0)).await;
    stop.trigger();
    running.await.unwrap().unwrap();
    let runs = runs(&stack).await;
    assert!(runs.iter().all(|run| run.state == RunState::Loaded), "{runs:?}");
    assert_eq!(runs.iter().map(|run| run.items[&Disposition::Loaded]).sum::<u64>(), 8);
    let open = run_log(&stack.state, "web--lake").open("live").await.unwrap();
    assert_eq!(open, None);
    stack.stop().await;
}

/// However often the warehouse fails, nobody has to start the connection again: it says what is wrong from the first
/// failure on, and goes on when it can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_fails_again_and_again_says_so_and_never_gives_up() {
    let stack = Stack::start().await;
    let warehouse =
        Arc::new(Wrapped(Failing { lake: stack.lake("lake"), failures: AtomicUsize::new(usize::MAX) }));
    stack.publish(&mixed(8)).await;
    let stop = Stop::new();
    let service = stack.service("test", connection(warehouse.clone(), Kind::Events));
    let running = tokio::spawn(service.run(stop.clone()));
    let third = |run: &RunRecord| run.state == RunState::Failed && run.attempts >= 3;
    eventually("a third attempt", async || runs(&stack).await.iter().any(third)).await;
    let failed = runs(&stack).await.into_iter().find(third).unwrap();
    let error = failed.error.unwrap();
    assert_eq!(error.statement.as_deref(), Some("COPY web.tracks FROM STDIN"));
    assert_eq!(error.next, NextAttempt::Retry);
    let readiness = stack.health.readiness();
    assert!(!readiness.ready);
    let mut reasons = readiness.components.values().filter_map(|component| component.reason.as_deref());
    assert!(reasons.any(|reason| reason.contains("the disk is full")));
    warehouse.failures.store(0, Ordering::SeqCst);
    eventually("readiness", async || stack.health.readiness().ready).await;
    stop.trigger();
    running.await.unwrap().unwrap();
    let loaded =
        runs(&stack).await.into_iter().filter_map(|run| run.items.get(&Disposition::Loaded).copied());
    assert_eq!(loaded.sum::<u64>(), 8);
    stack.stop().await;
}

/// A lake whose loads fail at first.
struct Failing {
    lake: Arc<Lake>,
    failures: AtomicUsize,
}

#[async_trait]
impl Around for Failing {
    fn inner(&self) -> &dyn Warehouse {
        &*self.lake
    }

    async fn load(&self, load: Load) -> Result<LoadReport, ConnectorError> {
        let take = |left: usize| left.checked_sub(1);
        if self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok() {
            let error = ConnectorError::retry("disk_full", "the disk is full");
            return Err(error.in_statement("COPY web.tracks FROM STDIN"));
        }
        self.lake.load(load).await
    }
}
