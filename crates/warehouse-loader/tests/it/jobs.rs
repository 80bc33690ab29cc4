//! Replays and backfills beside a live connection.

use std::ops::Range;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use millrace_connector::Warehouse;
use millrace_lake::Lake;
use millrace_service::Stop;
use millrace_warehouse_loader::{
    ConnectionOptions, Error, JobKind, JobOutcome, JobRequest, Kind, LoadLimits, Start, run_log,
};

use crate::messages::{at, mixed};
use crate::stack::{Stack, connection, contents, query};

fn options(lake: &Arc<Lake>) -> ConnectionOptions {
    connection(Arc::clone(lake) as _, Kind::Events)
}

async fn job(
    stack: &Stack,
    connection: ConnectionOptions,
    (name, kind): (&str, JobKind),
    time: Option<Range<DateTime<Utc>>>,
    stop: &Stop,
) -> Result<JobOutcome, Error> {
    let (name, id) = (name.to_owned(), connection.id.clone());
    let limits = LoadLimits { max_records: 10, ..LoadLimits::default() };
    let service = stack.limited("job", connection, limits);
    service.run_job(&JobRequest { name, kind, connection: id, time }, |_| {}, stop).await
}

async fn ids(lake: &Arc<Lake>, table: &str) -> Vec<String> {
    query(&**lake, &format!("SELECT id FROM web.{table} ORDER BY id")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_doubles_nothing_and_does_not_go_beyond_its_connection() {
    let stack = Stack::start().await;
    let lake = stack.lake("lake");
    stack.publish(&mixed(40)).await;
    stack.load(options(&lake)).await.unwrap();
    let before = contents(&*lake).await;
    // Not loaded yet: the live connection's.
    stack.publish(&mixed(48)[40..]).await;
    let replay = ("r-1", JobKind::Replay);
    let outcome = job(&stack, options(&lake), replay, Some(at(10)..at(48)), &Stop::new()).await.unwrap();
    assert_eq!((outcome.done, outcome.cut, outcome.report.loaded), (true, false, 30));
    assert!(outcome.report.batches > 2, "{outcome:?}");
    assert_eq!(contents(&*lake).await, before);
    let report = stack.load(options(&lake)).await.unwrap();
    assert_eq!((report.loaded, report.duplicates), (8, 0), "the live connection goes on where it was");
    assert_eq!(ids(&lake, "pages").await.len(), 12);

    let runs = run_log(&stack.state, "web--lake").since("").await.unwrap();
    let jobs: Vec<_> = runs.iter().filter(|(_, run)| run.job.as_deref() == Some("r-1")).collect();
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].1.connection.as_str(), "web--lake@r-1");
    assert!(lake.positions(&"web--lake@r-1".parse().unwrap()).await.unwrap().is_empty(), "it is forgotten");
    let kept = stack.state.list("connections/web--lake@r-1").await.unwrap();
    assert_eq!(kept, Vec::<String>::new());
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backfill_loads_what_came_before_the_connection_began() {
    let stack = Stack::start().await;
    let lake = stack.lake("lake");
    let late = || ConnectionOptions { start: Start::Latest, ..options(&lake) };
    stack.publish(&mixed(20)).await;
    let backfill = ("b", JobKind::Backfill);
    let refused = job(&stack, late(), backfill, Some(at(0)..at(100)), &Stop::new()).await.unwrap_err();
    assert!(refused.to_string().contains("has never loaded"), "{refused}");
    stack.load(late()).await.unwrap();
    stack.publish(&mixed(28)[20..]).await;
    stack.load(late()).await.unwrap();
    assert_eq!(ids(&lake, "pages").await.len(), 2);
    let outcome = job(&stack, late(), backfill, Some(at(0)..at(100)), &Stop::new()).await.unwrap();
    assert_eq!((outcome.done, outcome.report.loaded), (true, 20));
    let whole = stack.lake("whole");
    let other = ConnectionOptions { id: "web--whole".parse().unwrap(), ..options(&whole) };
    stack.load(other).await.unwrap();
    assert_eq!(contents(&*lake).await, contents(&*whole).await, "as if it had begun at the earliest");
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_was_stopped_goes_on_under_its_name_and_no_other_job_takes_it() {
    let stack = Stack::start().await;
    let lake = stack.lake("lake");
    stack.publish(&mixed(40)).await;
    stack.load(options(&lake)).await.unwrap();
    let before = contents(&*lake).await;
    let stopped = Stop::new();
    stopped.trigger();
    let replay = ("r", JobKind::Replay);
    let outcome = job(&stack, options(&lake), replay, Some(at(0)..at(40)), &stopped).await.unwrap();
    assert!(!outcome.done, "{outcome:?}");
    for (kind, time) in [(JobKind::Backfill, None), (JobKind::Replay, Some(at(0)..at(39)))] {
        let refused = job(&stack, options(&lake), ("r", kind), time, &Stop::new()).await.unwrap_err();
        assert!(refused.to_string().contains("is a replay from 2025-11-24T16:00:00+00:00"), "{refused}");
    }
    let outcome = job(&stack, options(&lake), replay, None, &Stop::new()).await.unwrap();
    assert_eq!((outcome.done, outcome.progress.done), (true, 40));
    assert_eq!(contents(&*lake).await, before);
    let refused = job(&stack, options(&lake), replay, None, &Stop::new()).await.unwrap_err();
    assert_eq!(refused.to_string(), "connection web--lake has no job \"r\" that is not done");
    stack.stop().await;
}
