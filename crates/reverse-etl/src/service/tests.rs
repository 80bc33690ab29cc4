#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use tokio::sync::watch;
use tokio::time::timeout;

use super::*;
use crate::Mode;
use crate::run::tests::Stand;

/// Long enough for any step on a busy machine; a test that is fine never waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

async fn service(stand: &Stand, sync: Sync, health: &Health) -> Service {
    let mut options = stand.runner.options.clone();
    options.syncs = vec![sync];
    let (bus, store) = (stand.runner.bus.clone(), stand.runner.store.clone());
    Service::new(options, bus, store, Arc::new(stand.clock.clone()), health.clone()).await.unwrap()
}

async fn next_changes(stand: &mut Stand) -> usize {
    let waiting = async {
        loop {
            // Polls Kafka, which takes its time.
            let changes = stand.changes().await.len();
            if changes > 0 {
                return changes;
            }
        }
    };
    timeout(PATIENCE, waiting).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_runs_the_sync_and_a_stop_ends_it() {
    let mut stand = Stand::new(Mode::Upsert).await;
    // Nobody delivers in this test: each run finds the time for outcomes over.
    stand.runner.options.settle_timeout = Duration::ZERO;
    let (commits, signal) = watch::channel(0);
    let sync = Sync { trigger: Trigger::Signal(signal), ..stand.sync.clone() };
    let health = Health::new();
    let service = service(&stand, sync, &health).await;
    stand.model.set(&[(1, "ann")]);
    let running = tokio::spawn({
        let stop = stand.stop.clone();
        async move { service.run(stop).await }
    });
    assert_eq!(next_changes(&mut stand).await, 1, "it runs at the start");
    commits.send(1).unwrap();
    assert_eq!(next_changes(&mut stand).await, 1, "and at each signal");
    assert!(health.readiness().ready, "{health:?}");
    stand.stop.trigger();
    timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_fails_is_not_ready_and_says_why() {
    let stand = Stand::new(Mode::Upsert).await;
    let every = Schedule::parse("1h").unwrap();
    let key = vec!["uuid".to_owned()];
    let sync = Sync { trigger: Trigger::Schedule(every), key, ..stand.sync.clone() };
    let health = Health::new();
    let service = service(&stand, sync, &health).await;
    let stop = stand.stop.clone();
    let running = tokio::spawn(async move { service.run(stop).await });
    let waiting = async {
        loop {
            let reason =
                health.readiness().components.get("sync people").and_then(|sync| sync.reason.clone());
            if let Some(reason) = reason.filter(|reason| reason != "starting") {
                return reason;
            }
            tokio::task::yield_now().await;
        }
    };
    let reason = timeout(PATIENCE, waiting).await.unwrap();
    assert_eq!(reason, "the model has no column \"uuid\"; it has id, name");
    stand.stop.trigger();
    timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_is_run_by_its_name() {
    let stand = Stand::new(Mode::Upsert).await;
    let service = service(&stand, stand.sync.clone(), &Health::new()).await;
    stand.model.set(&[(1, "ann")]);
    assert_eq!(service.plan("people", &stand.stop).await.unwrap().upserts, 1);
    assert_eq!(service.run_once("people", &stand.stop).await.unwrap().upserts, 1);
    let unknown = service.run_once("nobody", &stand.stop).await.unwrap_err();
    assert!(matches!(unknown, Error::UnknownSync(name) if name == "nobody"));
    stand.end().await;
}

#[test]
fn a_failed_run_is_tried_again_soon_unless_its_schedule_comes_first() {
    let now: DateTime<Utc> = "2026-11-24T10:07:30Z".parse().unwrap();
    let next = |schedule: &str, failed| {
        let trigger = Trigger::Schedule(Schedule::parse(schedule).unwrap());
        trigger.next(now, failed).map(|at| (at - now).num_seconds())
    };
    assert_eq!(next("1h", false), Some(3600));
    assert_eq!(next("1h", true), Some(60));
    assert_eq!(next("5s", true), Some(5));
    assert_eq!(next("manual", false), None);
    assert_eq!(next("manual", true), Some(60));
}
