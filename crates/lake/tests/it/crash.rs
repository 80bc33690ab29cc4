//! The process dies between any two steps of a load, and the next one makes it whole.
//!
//! The victim is this very test binary, started again with the name of a crash point in its environment:
//! it loads until it aborts, as a loader that is killed does.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use millrace_columnar::Cell;
use millrace_connector::{Load, Warehouse, WriteMode};
use millrace_event_model::FieldType::{self, DateTime, Int, String as Text};
use millrace_lake::{Lake, LakeFormat, LakeSettings};
use millrace_service::arm_crash_point;

use crate::plain;
use crate::rig::{
    Rig, SCHEMA, With, at, connection, in_azure, in_s3, kafka, load, open_with, query, rows, schema, text,
};

/// How a process ends that a crash point aborts; a test that fails ends otherwise.
const SIGABRT: i32 = 6;

const SETTINGS: &str = "MILLRACE_LAKE_TEST_SETTINGS";
const POINT: &str = "MILLRACE_LAKE_TEST_POINT";
const EPOCH: &str = "MILLRACE_LAKE_TEST_EPOCH";

const COLUMNS: [(&str, FieldType); 3] = [("id", Text), ("n", Int), ("received_at", DateTime)];
const TABLES: [&str; 4] = ["tracks", "users", "items", "full"];

/// Four loads, of which each writes tables in every way; offsets are tens.
fn loads() -> Vec<Load> {
    let load_of = |n: i64| {
        let batch = |prefix: &str| {
            let row =
                |k: i64| [text(&format!("{prefix}{}", k % 3)), Cell::Int(10 * n + k), Cell::DateTime(n)];
            rows(COLUMNS, (0..3).map(row).collect())
        };
        let upsert = WriteMode::Upsert { key: vec!["id".to_owned()] };
        let latest = WriteMode::MergeLatest { key: "id".to_owned(), order: "received_at".to_owned() };
        let whole = load(10 * n, 10 * n + 10)
            .rows("tracks", batch("t"), WriteMode::Append)
            .rows("users", batch("u"), latest)
            .rows("items", batch("i"), upsert)
            .rows("full", batch("f"), WriteMode::Stage { generation: 1 + n as u64 / 2 })
            .seen(&[n as u128 + 1])
            .counted(3);
        // Every second load completes a generation.
        if n % 2 == 1 { whole.swap("full", 1 + n as u64 / 2) } else { whole }
    };
    (0..4).map(load_of).collect()
}

/// The same loads for plain files, which take rows by key for `users` alone.
fn plain_loads() -> Vec<Load> {
    let plain = |mut load: Load| {
        load.swaps.clear();
        load.tables.iter_mut().filter(|table| table.name.table != "users").for_each(|table| {
            table.write = WriteMode::Append;
        });
        load
    };
    loads().into_iter().map(plain).collect()
}

fn loads_for(settings: &LakeSettings) -> Vec<Load> {
    match settings.format {
        LakeFormat::Delta => loads(),
        LakeFormat::Parquet => plain_loads(),
    }
}

/// What a loader does: resume, do again what began, go on.
async fn run(lake: &Lake, epoch: u64, loads: Vec<Load>) {
    let columns = schema(&COLUMNS);
    for table in TABLES {
        let change = millrace_connector::SchemaChange::CreateTable {
            table: table.to_owned(),
            columns: columns.clone(),
        };
        lake.apply(SCHEMA, &[change]).await.unwrap();
    }
    let resumed = lake.resume(&connection(), epoch, &kafka()).await.unwrap();
    let next = resumed.positions.get(&0).copied().unwrap_or(0);
    if let Some(redo) = &resumed.redo {
        assert_eq!((redo.len(), redo[0].start, redo[0].end), (1, next, next + 10));
    }
    for load in loads.into_iter().filter(|load| load.ranges[0].start >= next) {
        let ids: Vec<u128> = load.seen.iter().map(|seen| seen.id).collect();
        let known = lake.seen(&connection(), &ids, at("2026-11-24T12:30:00Z")).await.unwrap();
        assert!(known.iter().all(Option::is_none), "no id of a load that is not whole is a duplicate");
        lake.load(load.epoch(epoch)).await.unwrap();
    }
}

/// Everything that a lake holds.
async fn contents(lake: &Lake) -> Vec<String> {
    let mut all = Vec::new();
    for table in TABLES {
        all.push(table.to_owned());
        all.extend(query(lake, &format!("SELECT * FROM web.{table} ORDER BY id, n")).await.unwrap());
    }
    all.push("counts".to_owned());
    all.extend(query(lake, "SELECT sum(items) AS n, count(*) AS c FROM _millrace.counts").await.unwrap());
    let seen = lake.seen(&connection(), &[1, 2, 3, 4, 5], at("2026-11-24T12:30:00Z")).await.unwrap();
    all.push(format!("{seen:?}"));
    let positions = lake.resume(&connection(), 100, &kafka()).await.unwrap();
    all.push(format!("{positions:?}"));
    all
}

/// Not a test of its own: the victim of the tests below.
#[tokio::test(flavor = "multi_thread")]
async fn victim() {
    let (Ok(settings), Ok(point)) = (std::env::var(SETTINGS), std::env::var(POINT)) else { return };
    arm_crash_point(point.parse().unwrap());
    let epoch = std::env::var(EPOCH).unwrap().parse().unwrap();
    let settings = serde_json::from_str(&settings).unwrap();
    run(&open_with(&settings), epoch, loads_for(&settings)).await;
}

fn run_victim(settings: &LakeSettings, epoch: u64, point: &str) {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::victim"])
        .env(SETTINGS, serde_json::to_string(settings).unwrap())
        .env(POINT, point)
        .env(EPOCH, epoch.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.signal(), Some(SIGABRT), "{point}: the victim was to die there: {status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_at_any_step_the_tables_are_those_of_an_undisturbed_run() {
    let undisturbed = Rig::new().await;
    run(&undisturbed.lake, 1, loads()).await;
    let expected = contents(&undisturbed.lake).await;
    // The fourth table is the counts, the fifth of a load that swaps; the pass counts over all loads.
    let points = [
        "before-intent:2",
        "after-intent:1",
        "after-intent:4",
        "between-tables:1",
        "between-tables:8",
        "between-tables:18",
        "before-seal:1",
        "before-seal:4",
        "after-seal:2",
    ];
    for point in points {
        let folder = tempfile::tempdir().unwrap();
        let settings = LakeSettings::at(folder.path().display().to_string());
        run_victim(&settings, 1, point);
        let lake = open_with(&settings);
        run(&lake, 2, loads()).await;
        assert_eq!(contents(&lake).await, expected, "{point}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loader_that_dies_again_and_again_still_gets_there() {
    let undisturbed = Rig::new().await;
    run(&undisturbed.lake, 1, loads()).await;
    let expected = contents(&undisturbed.lake).await;
    let folder = tempfile::tempdir().unwrap();
    let settings = LakeSettings::at(folder.path().display().to_string());
    for point in ["between-tables:2", "between-tables:3", "before-seal:1", "after-seal:1", "between-tables:4"]
    {
        run_victim(&settings, 1, point);
    }
    let lake = open_with(&settings);
    run(&lake, 2, loads()).await;
    assert_eq!(contents(&lake).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_at_any_step_an_object_store_holds_what_a_folder_does() {
    let undisturbed = Rig::new().await;
    run(&undisturbed.lake, 1, loads()).await;
    let expected = contents(&undisturbed.lake).await;
    for (n, point) in
        ["after-intent:2", "between-tables:8", "before-seal:3", "after-seal:1"].into_iter().enumerate()
    {
        let stores = [in_s3(&format!("crash-{n}")), in_azure(&format!("crash-{n}"))];
        for settings in stores.into_iter().flatten() {
            run_victim(&settings, 1, point);
            let lake = open_with(&settings);
            run(&lake, 2, loads()).await;
            assert_eq!(contents(&lake).await, expected, "{point} in {}", settings.url);
        }
    }
}

/// The points that a load into plain files passes, each at its first, a later and one of its last passes: a
/// load writes five files, the counts among them.
const POINTS_OF_PLAIN_FILES: [&str; 13] = [
    "before-intent:1",
    "before-intent:4",
    "after-intent:1",
    "after-intent:3",
    "between-files:1",
    "between-files:5",
    "between-files:8",
    "between-files:20",
    "before-seal:1",
    "before-seal:3",
    "before-seal:4",
    "after-seal:1",
    "after-seal:4",
];

/// What a lake of plain files holds, and which files lie there, by offsets and part: fences take numbers too.
async fn contents_and_files(settings: &LakeSettings) -> (Vec<String>, Vec<String>) {
    let folder = std::path::Path::new(&settings.url);
    let mut names = Vec::new();
    for table in TABLES {
        for file in plain::files(folder, table) {
            let (folder, name) = file.split_once("web--lake-").unwrap();
            let parts: Vec<&str> = name.split('-').collect();
            names.push(format!("{table}/{folder}{} {}", parts[3], parts[4]));
        }
    }
    (contents(&open_with(settings)).await, names)
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_at_any_step_plain_files_are_those_of_an_undisturbed_run() {
    let folder = tempfile::tempdir().unwrap();
    let settings = plain::settings(folder.path());
    run(&open_with(&settings), 1, plain_loads()).await;
    let (expected, files) = contents_and_files(&settings).await;
    // Redone at once and from there on, and killed again while that is done.
    let lives = POINTS_OF_PLAIN_FILES.map(|point| vec![point]).into_iter().chain([
        vec!["between-files:7", "between-files:2", "between-files:4"],
        vec!["before-seal:2", "after-seal:1", "between-files:1"],
        vec!["after-intent:2", "before-seal:1", "before-seal:1", "after-seal:1"],
    ]);
    for points in lives {
        let folder = tempfile::tempdir().unwrap();
        let settings = plain::settings(folder.path());
        for (epoch, point) in (1..).zip(&points) {
            run_victim(&settings, epoch, point);
        }
        run(&open_with(&settings), 9, plain_loads()).await;
        let (found, left) = contents_and_files(&settings).await;
        assert_eq!(found, expected, "{points:?}");
        assert_eq!(left, files, "{points:?}: what attempts that died have left is gone");
    }
}
