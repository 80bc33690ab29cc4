//! Upkeep while others load, ask and take over: nobody loses a row, sees one twice, or meets a file that is gone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use millrace_columnar::Cell;
use millrace_connector::{Load, SchemaChange, Warehouse, WriteMode};
use millrace_event_model::FieldType::{DateTime, Int, String as Text};
use millrace_lake::{Lake, LakeSettings};
use millrace_service::Schedule;

use crate::rig::{SCHEMA, With, kafka, load, open_with, query, rows, schema, text};

const COLUMNS: [(&str, millrace_event_model::FieldType); 3] =
    [("id", Text), ("n", Int), ("received_at", DateTime)];

/// By both connections: more than four times the sixteen small files of a day that become one.
const LOADS: i64 = 36;

const DAY: i64 = 86_400_000_000;

/// A row of today, one of a day ago, and a user whom both connections know.
fn load_of(connection: &str, offset: i64, epoch: u64) -> Load {
    let event = |day: i64| {
        [text(&format!("{connection} {offset} {day}")), Cell::Int(offset), Cell::DateTime(day * DAY)]
    };
    let user = [text(&format!("user {}", offset % 5)), Cell::Int(offset), Cell::DateTime(offset)];
    let latest = WriteMode::MergeLatest { key: "id".to_owned(), order: "received_at".to_owned() };
    let mut load = load(offset, offset + 1)
        .rows("tracks", rows(COLUMNS, vec![event(1), event(0)]), WriteMode::Append)
        .rows("users", rows(COLUMNS, vec![user]), latest)
        .epoch(epoch);
    load.connection = connection.parse().unwrap();
    load
}

async fn load_all(lake: &Lake, connection: &str, offsets: std::ops::Range<i64>, epoch: u64) {
    lake.resume(&connection.parse().unwrap(), epoch, &kafka()).await.unwrap();
    for offset in offsets {
        let loaded = lake.load(load_of(connection, offset, epoch)).await;
        loaded.unwrap_or_else(|error| panic!("{connection} {offset}: {}", error.full()));
    }
}

/// Asks again and again until both have loaded: what was there stays, each row once.
async fn ask(lake: &Lake, done: &AtomicBool) -> usize {
    let (mut asked, mut last) = (0, 0);
    while !done.load(Ordering::Relaxed) {
        let found = query(lake, "SELECT count(*) AS c, count(DISTINCT id) AS d FROM web.tracks").await;
        let found = found.unwrap_or_else(|error| panic!("{}", error.full()));
        let (all, distinct) = found[0].split_once(' ').unwrap();
        let all: i64 = all.strip_prefix("c=").unwrap().parse().unwrap();
        assert_eq!(distinct, format!("d={all}"), "each row once");
        assert!(all >= last, "{last} rows, and then {all}");
        (asked, last) = (asked + 1, all);
    }
    asked
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_merged_while_others_load_ask_and_take_over() {
    let folder = tempfile::tempdir().unwrap();
    let settings = LakeSettings {
        compact_every: Schedule::Every(Duration::from_millis(1)),
        ..LakeSettings::at(folder.path().display().to_string())
    };
    let (first, second, asking) = (open_with(&settings), open_with(&settings), open_with(&settings));
    for table in ["tracks", "users"] {
        let create = SchemaChange::CreateTable { table: table.to_owned(), columns: schema(&COLUMNS) };
        first.apply(SCHEMA, &[create]).await.unwrap();
    }
    let done = AtomicBool::new(false);
    let loading = async {
        tokio::join!(
            load_all(&first, "web--lake", 0..LOADS / 2, 1),
            load_all(&second, "app--lake", 0..LOADS, 1)
        );
        // The first goes on until it is refused, its upkeep too, while another takes over from it.
        let heir = open_with(&settings);
        let goes_on = async {
            let mut offset = LOADS / 2;
            while first.load(load_of("web--lake", offset, 1)).await.is_ok() {
                offset += 1;
            }
        };
        let takes_over = async {
            let resumed = heir.resume(&"web--lake".parse().unwrap(), 2, &kafka()).await.unwrap();
            load_all(&heir, "web--lake", resumed.positions[&0]..LOADS, 2).await;
        };
        tokio::join!(goes_on, takes_over);
        done.store(true, Ordering::Relaxed);
    };
    let ((), asked) = tokio::join!(loading, ask(&asking, &done));
    assert!(asked > 1, "{asked} queries");

    let expected = 4 * LOADS;
    let counted =
        query(&asking, "SELECT count(*) AS c, count(DISTINCT id) AS d FROM web.tracks").await.unwrap();
    assert_eq!(counted, [format!("c={expected} d={expected}")]);
    let users = query(&asking, "SELECT id, n FROM web.users ORDER BY id").await.unwrap();
    let latest = |user: i64| (0..LOADS).rev().find(|offset| offset % 5 == user).unwrap();
    let expected: Vec<String> = (0..5).map(|user| format!("id=user {user} n={}", latest(user))).collect();
    assert_eq!(users, expected);
    for day in ["1970-01-01", "1970-01-02"] {
        let log = format!("SELECT count(*) AS c FROM web.tracks WHERE millrace_date = '{day}'");
        assert_eq!(query(&asking, &log).await.unwrap(), [format!("c={}", 2 * LOADS)]);
    }
    let history = std::fs::read_dir(folder.path().join("web/tracks/_delta_log")).unwrap();
    let merges = history
        .filter_map(|entry| std::fs::read_to_string(entry.unwrap().path()).ok())
        .filter(|commit| commit.contains("\"OPTIMIZE\""))
        .count();
    assert!(merges > 1, "files were merged {merges} times");
}
