//! Tables that are made anew while their connection loads on, and a rebuild that dies on its way.

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use millrace_connector::{ConnectorError, Load, LoadReport, SchemaChange, TableSchemas, Warehouse};
use millrace_event_model::{ConnectionId, FieldType};
use millrace_lake::Lake;
use millrace_service::Stop;
use millrace_warehouse_loader::{
    ConnectionOptions, Error, Filter, JobKind, JobRequest, Kind, LoadLimits, RebuildOutcome, RebuildRequest,
    RunState, Service, Start, run_log,
};
use serde_json::json;

use crate::around::{Around, Wrapped};
use crate::messages::{at, mixed, track};
use crate::stack::{DEADLINE, Stack, connection, contents, eventually, forget_all_but_the_last, query};

/// So short that a test can wait for the end of a dead process's lease.
pub(crate) const TTL: Duration = Duration::from_secs(3);

pub(crate) const LIMITS: LoadLimits = LoadLimits { max_records: 10, max_bytes: 1024 * 1024 };

pub(crate) fn options(lake: &Arc<Lake>) -> ConnectionOptions {
    connection(Arc::clone(lake) as _, Kind::Events)
}

pub(crate) fn request() -> RebuildRequest {
    RebuildRequest { connection: "web--lake".parse().unwrap(), accept_gap: false }
}

pub(crate) fn job(stack: &Stack, connections: Vec<ConnectionOptions>) -> Service {
    stack.process("job", connections, LIMITS, TTL)
}

pub(crate) async fn rebuild(stack: &Stack, connection: ConnectionOptions) -> Result<RebuildOutcome, Error> {
    job(stack, vec![connection]).rebuild(&request(), |_| {}, &Stop::new()).await
}

pub(crate) async fn discard(stack: &Stack, lake: &Arc<Lake>) -> Result<bool, Error> {
    job(stack, vec![options(lake)]).discard_rebuild(&request().connection).await
}

/// A machine that is busy for longer than a lease lives stops it: then it is called again, as by its user.
pub(crate) async fn rebuild_to_the_end(stack: &Stack, lake: &Arc<Lake>) -> RebuildOutcome {
    for _ in 0..5 {
        let outcome = rebuild(stack, options(lake)).await.unwrap();
        if outcome.done {
            return outcome;
        }
    }
    panic!("five calls have not ended it");
}

/// What a connection that begins now makes of the same topic.
pub(crate) async fn fresh(
    stack: &Stack,
    connection: impl FnOnce(&Arc<Lake>) -> ConnectionOptions,
) -> Vec<String> {
    let lake = stack.lake("fresh");
    let fresh = ConnectionOptions { id: "web--fresh".parse().unwrap(), ..connection(&lake) };
    stack.load(fresh).await.unwrap();
    contents(&*lake).await
}

pub(crate) fn is_page(row: &str) -> bool {
    row.starts_with("pages:")
}

pub(crate) async fn assert_nothing_is_left(stack: &Stack, lake: &Lake) {
    let job: ConnectionId = "web--lake@rebuild".parse().unwrap();
    assert!(lake.describe("web__rebuild").await.unwrap().is_empty());
    assert!(lake.positions(&job).await.unwrap().is_empty());
    assert_eq!(stack.state.list("connections/web--lake@rebuild").await.unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tables_have_the_rows_of_a_fresh_load_by_todays_settings_and_the_connection_goes_on() {
    let stack = Stack::start().await;
    let lake = stack.lake("lake");
    let mut events = mixed(60);
    events.push(track(60, "ann", "Order Placed", json!({"coupon": "x"})));
    stack.publish(&events).await;
    stack.load(options(&lake)).await.unwrap();
    // A column that only the tables of old have, and a table.
    let columns = [("gone".to_owned(), FieldType::Int)].into();
    lake.apply("web", &[SchemaChange::AddColumns { table: "tracks".to_owned(), columns }]).await.unwrap();
    let before = contents(&*lake).await;
    let today = |lake: &Arc<Lake>| {
        let when = Filter::compile("type != 'page' and event != 'Signed Up'").unwrap();
        ConnectionOptions { when: Some(Arc::new(when)), ..options(lake) }
    };
    let outcome = rebuild(&stack, today(&lake)).await.unwrap();
    assert!(outcome.done, "{outcome:?}");
    assert_eq!(outcome.left, ["pages", "signed_up"]);
    assert_eq!((outcome.report.loaded, outcome.report.filtered), (31, 30));
    assert_eq!((outcome.progress.done, outcome.progress.of), (61, 61));

    let after = contents(&*lake).await;
    let is_left = |row: &&String| is_page(row) || row.starts_with("signed_up:");
    let (left, anew): (Vec<_>, Vec<_>) = after.iter().partition(is_left);
    assert_eq!(left, before.iter().filter(is_left).collect::<Vec<_>>());
    assert_eq!(anew, fresh(&stack, today).await.iter().collect::<Vec<_>>());
    assert!(lake.describe("web").await.unwrap()["tracks"].contains_key("gone"), "no column is lost");
    assert_nothing_is_left(&stack, &lake).await;

    // What it has seen it has seen, and what is new is new.
    stack.publish(&events[..8]).await;
    stack.publish(&[track(70, "ann", "Order Placed", json!({}))]).await;
    let report = stack.load(today(&lake)).await.unwrap();
    assert_eq!((report.loaded, report.filtered, report.duplicates), (1, 0, 8));
    let runs = run_log(&stack.state, "web--lake").since("").await.unwrap();
    let of_job: Vec<_> = runs.iter().filter(|(_, run)| run.job.as_deref() == Some("rebuild")).collect();
    let [(_, run)] = &of_job[..] else { panic!("{of_job:?}") };
    assert_eq!((run.state, Some(&run.id)), (RunState::Loaded, outcome.report.run.as_ref()));
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_in_meanwhile_is_neither_lost_nor_doubled_and_nobody_sees_an_empty_table() {
    let stack = Stack::start().await;
    let all = mixed(400);
    stack.publish(&all[..100]).await;
    let lake = stack.lake("lake");
    stack.load(options(&lake)).await.unwrap();
    let stop = Stop::new();
    let live = stack.process("load", vec![options(&stack.lake("lake"))], LIMITS, TTL);
    let live = tokio::spawn(live.run(stop.clone()));
    let sending = async {
        for part in all[100..].chunks(10) {
            stack.publish(part).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let looking = async {
        let reader = stack.lake("lake");
        let mut most = 0;
        while !stop.is_requested() {
            let count = query(&*reader, "SELECT CAST(count(*) AS BIGINT) AS c FROM web.tracks").await;
            let count: u64 = count[0].strip_prefix("c=").unwrap().parse().unwrap();
            assert!(count >= most, "there were {most} rows, and now {count}");
            most = count;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let anew = stack.lake("lake");
    let working = async {
        tokio::join!(rebuild_to_the_end(&stack, &anew), sending);
        eventually("all is loaded", async || {
            let rows = contents(&*lake).await.iter().filter(|row| is_page(row)).count();
            rows == 100
        })
        .await;
        stop.trigger();
    };
    tokio::join!(working, looking);
    live.await.unwrap().unwrap();
    assert_eq!(contents(&*lake).await, fresh(&stack, options).await);
    assert_nothing_is_left(&stack, &lake).await;
    stack.stop().await;
}

/// Where the process of a rebuild dies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Death {
    BeforeTheSwap,
    /// When the swap has been asked so often whether it is done.
    InTheSwap(usize),
    AfterTheSwap,
    BeforeForgetting,
    AfterForgetting,
    /// When the tables of the rebuild are gone, and its positions are not.
    InTheDiscard,
}

struct Deadly {
    lake: Arc<Lake>,
    at: Death,
    dead: Mutex<Sender<()>>,
}

impl Deadly {
    async fn die<T>(&self) -> T {
        self.dead.lock().unwrap_or_else(PoisonError::into_inner).send(()).unwrap();
        std::future::pending().await
    }
}

#[async_trait]
impl Around for Deadly {
    fn inner(&self) -> &dyn Warehouse {
        &*self.lake
    }

    async fn load(&self, load: Load) -> Result<LoadReport, ConnectorError> {
        if load.replacements.is_empty() {
            return self.lake.load(load).await;
        }
        match self.at {
            Death::BeforeTheSwap => self.die().await,
            Death::InTheSwap(polls) => {
                let (mut loading, mut left) = (self.lake.load(load), polls);
                std::future::poll_fn(|context| {
                    if left == 0 {
                        return Poll::Ready(());
                    }
                    left -= 1;
                    loading.as_mut().poll(context).map(|_| ())
                })
                .await;
                self.die().await
            }
            Death::AfterTheSwap => {
                self.lake.load(load).await?;
                self.die().await
            }
            Death::BeforeForgetting | Death::AfterForgetting | Death::InTheDiscard => {
                self.lake.load(load).await
            }
        }
    }

    async fn forget(&self, job: &ConnectionId, schema: Option<&str>) -> Result<(), ConnectorError> {
        if self.at == Death::AfterForgetting {
            self.lake.forget(job, schema).await?;
        }
        if self.at == Death::InTheDiscard {
            self.lake.forget(&"nobody--lake@x".parse().unwrap(), schema).await?;
        }
        self.die().await
    }
}

/// A rebuild, or its discard, in a process of its own, which dies there: whatever it does beside its work stops too,
/// and its leases are not given back.
pub(crate) async fn rebuild_and_die(stack: &Stack, at: Death) {
    let (dead, died) = std::sync::mpsc::channel();
    let deadly = Deadly { lake: stack.lake("lake"), at, dead: Mutex::new(dead) };
    let service = job(stack, vec![connection(Arc::new(Wrapped(deadly)), Kind::Events)]);
    let process = tokio::task::spawn_blocking(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let working = runtime.spawn(async move {
            match at {
                Death::InTheDiscard => service.discard_rebuild(&request().connection).await.map(|_| ()),
                _ => service.rebuild(&request(), |_| {}, &Stop::new()).await.map(|_| ()),
            }
        });
        let is_dead = died.recv_timeout(DEADLINE);
        assert!(is_dead.is_ok(), "{at:?}: it lives, or {:?}", runtime.block_on(working));
        runtime.shutdown_background();
    });
    process.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wherever_a_rebuild_dies_the_connection_goes_on_and_the_same_call_ends_it() {
    let stack = Stack::start().await;
    let mut sent = mixed(40);
    stack.publish(&sent).await;
    let lake = stack.lake("lake");
    stack.load(options(&lake)).await.unwrap();
    let stop = Stop::new();
    let live = stack.process("load", vec![options(&stack.lake("lake"))], LIMITS, TTL);
    let live = tokio::spawn(live.run(stop.clone()));
    let deaths = [
        Death::BeforeTheSwap,
        Death::InTheSwap(1),
        Death::InTheSwap(3),
        Death::AfterTheSwap,
        Death::BeforeForgetting,
        Death::AfterForgetting,
    ];
    let pages = async || contents(&*lake).await.iter().filter(|row| is_page(row)).count();
    for (round, death) in (0..).zip(deaths) {
        rebuild_and_die(&stack, death).await;
        let new: Vec<_> = mixed(40 + 8 * (round + 1)).split_off(sent.len());
        stack.publish(&new).await;
        sent.extend(new);
        eventually(&format!("loading on after the death {death:?}"), async || {
            pages().await == sent.len() / 4
        })
        .await;
        let outcome = rebuild_to_the_end(&stack, &stack.lake("lake")).await;
        let was_in_place = matches!(death, Death::BeforeForgetting | Death::AfterForgetting);
        assert_eq!(outcome.earlier, was_in_place, "{death:?}: {outcome:?}");
        assert_nothing_is_left(&stack, &lake).await;
        assert_eq!(pages().await, sent.len() / 4, "{death:?}");
    }
    stop.trigger();
    live.await.unwrap().unwrap();
    assert_eq!(contents(&*lake).await, fresh(&stack, options).await);
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_made_anew_without_loss_is_refused_by_name() {
    let stack = Stack::start().await;
    let lake = stack.lake("lake");
    let refused = async |connections: Vec<ConnectionOptions>, words: &str| {
        let refused = job(&stack, connections).rebuild(&request(), |_| {}, &Stop::new()).await.unwrap_err();
        let (Error::Job(text) | Error::JobState(text)) = &refused else { panic!("{refused}") };
        assert!(text.contains(words), "{text}");
    };
    refused(vec![options(&lake)], "has never loaded").await;
    stack.publish(&mixed(12)).await;
    stack.load(options(&lake)).await.unwrap();
    refused(vec![connection(lake.clone(), Kind::Records)], "records of an ELT source").await;
    for schema in ["web", "web__rebuild"] {
        let id = "app--lake".parse().unwrap();
        let other = ConnectionOptions { id, schema: schema.to_owned(), ..options(&lake) };
        refused(vec![options(&lake), other], "app--lake").await;
    }
    let create = SchemaChange::CreateTable {
        table: "mine".to_owned(),
        columns: [("id".to_owned(), FieldType::String)].into(),
    };
    lake.apply("web__rebuild", &[create]).await.unwrap();
    refused(vec![options(&lake)], "\"web__rebuild\" has tables, which are no rebuild's").await;
    lake.forget(&"nobody--lake@x".parse().unwrap(), Some("web__rebuild")).await.unwrap();

    let stopped = Stop::new();
    stopped.trigger();
    let replay = |time| {
        let name = "r".to_owned();
        JobRequest { name, kind: JobKind::Replay, connection: request().connection, time }
    };
    let begun = job(&stack, vec![options(&lake)]);
    let begun = begun.run_job(&replay(Some(at(0)..at(40))), |_| {}, &stopped).await.unwrap();
    assert!(!begun.done);
    refused(vec![options(&lake)], "has a job \"r\" that is not done").await;
    let ended = job(&stack, vec![options(&lake)]).run_job(&replay(None), |_| {}, &Stop::new()).await.unwrap();
    assert!(ended.done);
    forget_all_but_the_last(&stack).await;
    refused(vec![options(&lake)], "would be missing from the rebuild; --accept-gap").await;
    let nothing: TableSchemas = lake.describe("web__rebuild").await.unwrap();
    assert!(nothing.is_empty(), "{nothing:?}");
    let kept = stack.state.list("connections/web--lake@rebuild/job").await.unwrap();
    assert_eq!(kept, Vec::<String>::new());

    let accepted = RebuildRequest { accept_gap: true, ..request() };
    let outcome = job(&stack, vec![options(&lake)]).rebuild(&accepted, |_| {}, &Stop::new()).await.unwrap();
    assert!(outcome.done && outcome.report.expired > 0, "{outcome:?}");
    assert_eq!(outcome.report.loaded + outcome.report.expired, 12);
    assert_nothing_is_left(&stack, &lake).await;
    stack.stop().await;
}

/// One that is stopped when it has loaded the first time.
pub(crate) async fn rebuild_and_stop(stack: &Stack, lake: &Arc<Lake>) {
    let stopped = Stop::new();
    let stop_at_once = stopped.clone();
    let tell = move |_| stop_at_once.trigger();
    let outcome = job(stack, vec![options(lake)]).rebuild(&request(), tell, &stopped).await.unwrap();
    assert!(!outcome.done, "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_that_was_stopped_keeps_other_jobs_away_until_it_goes_on_or_is_discarded() {
    let stack = Stack::start().await;
    let lake = stack.lake("lake");
    stack.publish(&mixed(40)).await;
    stack.load(options(&lake)).await.unwrap();
    let before = contents(&*lake).await;
    let refused = discard(&stack, &lake).await.unwrap_err();
    assert!(refused.to_string().contains("no rebuild that is not done"), "{refused}");
    rebuild_and_stop(&stack, &lake).await;
    assert_eq!(contents(&*lake).await, before);
    let name = "r".to_owned();
    let (kind, connection, time) = (JobKind::Replay, request().connection, Some(at(0)..at(40)));
    let replay = JobRequest { name, kind, connection, time };
    let refused = job(&stack, vec![options(&lake)]).run_job(&replay, |_| {}, &Stop::new()).await.unwrap_err();
    assert!(refused.to_string().contains("has a rebuild that is not done"), "{refused}");
    assert!(discard(&stack, &lake).await.unwrap(), "nothing has been put in place");
    assert_nothing_is_left(&stack, &lake).await;
    assert_eq!(contents(&*lake).await, before);
    job(&stack, vec![options(&lake)]).run_job(&replay, |_| {}, &Stop::new()).await.unwrap();
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_backfill_has_loaded_is_made_anew_too() {
    let stack = Stack::start().await;
    let lake = stack.lake("lake");
    let late = || ConnectionOptions { start: Start::Latest, ..options(&lake) };
    stack.publish(&mixed(20)).await;
    stack.load(late()).await.unwrap();
    stack.publish(&mixed(28)[20..]).await;
    stack.load(late()).await.unwrap();
    let name = "b".to_owned();
    let (kind, connection, time) = (JobKind::Backfill, request().connection, Some(at(0)..at(100)));
    let backfill = JobRequest { name, kind, connection, time };
    job(&stack, vec![late()]).run_job(&backfill, |_| {}, &Stop::new()).await.unwrap();
    let before = contents(&*lake).await;
    let outcome = rebuild(&stack, late()).await.unwrap();
    assert_eq!((outcome.done, outcome.report.loaded), (true, 28));
    assert_eq!(contents(&*lake).await, before);
    stack.stop().await;
}
