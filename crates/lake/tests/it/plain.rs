//! Plain Parquet: files cut by offset, whole by the intent log.

use std::path::{Path, PathBuf};

use millrace_columnar::Cell;
use millrace_connector::{Load, OffsetRange, SchemaChange, Swap, Warehouse, WriteMode};
use millrace_event_model::FieldType::{self, DateTime, Int, String as Text};
use millrace_lake::{Lake, LakeFormat, LakeSettings};

use crate::rig::{
    SCHEMA, With, at, connection, in_s3, kafka, load, name, open_with, pause_code, query, rows, schema, text,
};

const COLUMNS: [(&str, FieldType); 3] = [("id", Text), ("n", Int), ("received_at", DateTime)];

const DAY: i64 = 86_400_000_000;

pub(crate) fn settings(folder: &Path) -> LakeSettings {
    LakeSettings { format: LakeFormat::Parquet, ..LakeSettings::at(folder.display().to_string()) }
}

async fn create(lake: &Lake, table: &str, columns: &[(&str, FieldType)]) {
    let create = SchemaChange::CreateTable { table: table.to_owned(), columns: schema(columns) };
    lake.apply(SCHEMA, &[create]).await.unwrap();
}

fn batch(cells: &[(&str, i64, i64)]) -> millrace_columnar::arrow::array::RecordBatch {
    let row = |&(id, n, day): &(&str, i64, i64)| [text(id), Cell::Int(n), Cell::DateTime(day * DAY)];
    rows(COLUMNS, cells.iter().map(row).collect())
}

/// The data files of a table, below its folder, sorted.
pub(crate) fn files(folder: &Path, table: &str) -> Vec<String> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let root = folder.join(SCHEMA).join(table);
    let mut found = Vec::new();
    walk(&root, &mut found);
    let mut names: Vec<String> =
        found.iter().map(|path| path.strip_prefix(&root).unwrap().display().to_string()).collect();
    names.sort();
    names
}

async fn check_appends_and_resumes(settings: &LakeSettings) {
    let lake = open_with(settings);
    lake.check().await.unwrap();
    create(&lake, "tracks", &COLUMNS).await;
    lake.resume(&connection(), 1, &kafka()).await.unwrap();
    let both_days = batch(&[("a", 1, 0), ("b", 2, 1)]);
    let first = load(0, 2).rows("tracks", both_days, WriteMode::Append).seen(&[1]).counted(2);
    let report = lake.load(first).await.unwrap();
    // The intent, a file for each day, the counts, and the seal.
    assert_eq!(report.statements, 5);
    assert!(report.bytes > 1_000, "{} bytes", report.bytes);
    create(&lake, "tracks", &[("plan", Text)]).await;
    let wide = [("id", Text), ("n", Int), ("plan", Text), ("received_at", DateTime)];
    let more = rows(wide, vec![[text("c"), Cell::Int(3), text("pro"), Cell::DateTime(DAY)]]);
    lake.load(load(2, 3).rows("tracks", more, WriteMode::Append)).await.unwrap();

    let other = open_with(settings);
    let found = query(&other, "SELECT id, n, plan, millrace_date AS d FROM web.tracks ORDER BY id").await;
    let expected = ["d=1970-01-01 id=a n=1", "d=1970-01-02 id=b n=2", "d=1970-01-02 id=c n=3 plan=pro"];
    assert_eq!(found.unwrap(), expected);
    let of_day = query(&other, "SELECT sum(n) AS s FROM web.tracks WHERE millrace_date = '1970-01-02'").await;
    assert_eq!(of_day.unwrap(), ["s=5"]);
    assert_eq!(other.describe(SCHEMA).await.unwrap()["tracks"], schema(&wide));
    let books =
        other.counts(&connection(), at("2026-11-24T12:00:00Z"), at("2026-11-24T13:00:00Z")).await.unwrap();
    assert_eq!(books.iter().map(|count| count.items).collect::<Vec<_>>(), [2]);
    let resumed = other.resume(&connection(), 2, &kafka()).await.unwrap();
    assert_eq!((resumed.positions[&0], resumed.redo), (3, None));
    assert_eq!(
        other.seen(&connection(), &[1, 2], at("2026-11-25T00:00:00Z")).await.unwrap(),
        [Some(10), None]
    );
    assert_eq!(pause_code(lake.load(load(3, 4)).await), "fenced_off");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_added_by_day_and_every_process_sees_them() {
    let folder = tempfile::tempdir().unwrap();
    check_appends_and_resumes(&settings(folder.path())).await;
    let names = files(folder.path(), "tracks");
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(names[0].starts_with("millrace_date=1970-01-01/web--lake-"), "{}", names[0]);
    assert!(names[0].ends_with("-000000000002-1-0.0.2-0.parquet"), "{}", names[0]);
    assert!(names.iter().any(|name| name.ends_with("-000000000003-1-0.2.3-0.parquet")), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_s3_holds_plain_parquet_too() {
    let Some(settings) = in_s3("plain") else { return };
    check_appends_and_resumes(&LakeSettings { format: LakeFormat::Parquet, ..settings }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_was_cut_off_is_not_seen_and_is_done_again_without_remains() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let lake = open_with(&settings);
    create(&lake, "tracks", &COLUMNS).await;
    lake.resume(&connection(), 1, &kafka()).await.unwrap();
    lake.load(load(0, 1).rows("tracks", batch(&[("a", 1, 0)]), WriteMode::Append)).await.unwrap();
    // Two days and thus two files, then a table that is not there: the load is cut off.
    let rows_of_two_days = batch(&[("b", 2, 0), ("c", 3, 1)]);
    let doomed = load(1, 3).rows("tracks", rows_of_two_days, WriteMode::Append).rows(
        "gone",
        batch(&[("x", 0, 0)]),
        WriteMode::Append,
    );
    assert!(lake.load(doomed).await.is_err());
    assert_eq!(files(folder.path(), "tracks").len(), 3);
    let other = open_with(&settings);
    let ids = async || query(&other, "SELECT id FROM web.tracks ORDER BY id").await.unwrap();
    assert_eq!(ids().await, ["id=a"], "rows of a load that is not whole are nobody's");

    let resumed = lake.resume(&connection(), 2, &kafka()).await.unwrap();
    assert_eq!(resumed.redo, Some(vec![OffsetRange { partition: 0, start: 1, end: 3 }]));
    // What was a file of its own the first time may be none the second: today's code may map otherwise.
    let again = load(1, 3).rows("tracks", batch(&[("b", 2, 0), ("c", 3, 0)]), WriteMode::Append).epoch(2);
    lake.load(again).await.unwrap();
    assert_eq!(ids().await, ["id=a", "id=b", "id=c"]);
    assert_eq!(files(folder.path(), "tracks").len(), 2, "what the first attempt left is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_taken_over_does_not_do_a_load_again() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let stale = open_with(&settings);
    create(&stale, "tracks", &COLUMNS).await;
    stale.resume(&connection(), 1, &kafka()).await.unwrap();
    let whole = || load(0, 2).rows("tracks", batch(&[("a", 1, 0), ("b", 2, 0)]), WriteMode::Append);
    let mut doomed = load(0, 2).rows("gone", batch(&[("x", 0, 0)]), WriteMode::Append);
    doomed.tables.extend(whole().tables);
    assert!(stale.load(doomed.clone()).await.is_err());
    assert!(stale.resume(&connection(), 1, &kafka()).await.unwrap().redo.is_some());

    let newer = open_with(&settings);
    assert!(newer.resume(&connection(), 2, &kafka()).await.unwrap().redo.is_some());
    // Taken over, but nothing is sealed yet: what it has mapped otherwise would be there twice.
    let of_old = load(0, 2).rows("tracks", batch(&[("a", 1, 0), ("b", 2, 1)]), WriteMode::Append);
    assert_eq!(pause_code(stale.load(of_old).await), "fenced_off");
    newer.load(whole().epoch(2)).await.unwrap();
    let written = files(folder.path(), "tracks");
    assert_eq!(written.len(), 1, "{written:?}");

    // A loader that stalled through all of it knows of the load what it did when it resumed.
    let stalled = open_with(&settings);
    stalled.resume(&connection(), 2, &kafka()).await.unwrap();
    stalled
        .load(load(2, 4).rows("gone", batch(&[("x", 0, 0)]), WriteMode::Append).epoch(2))
        .await
        .unwrap_err();
    stalled.resume(&connection(), 2, &kafka()).await.unwrap();
    newer.resume(&connection(), 3, &kafka()).await.unwrap();
    let more = load(2, 4).rows("tracks", batch(&[("c", 3, 0)]), WriteMode::Append);
    newer.load(more.epoch(3)).await.unwrap();
    let mut doomed = load(2, 4).rows("gone", batch(&[("x", 0, 0)]), WriteMode::Append).epoch(2);
    doomed = doomed.rows("tracks", batch(&[("c", 3, 0)]), WriteMode::Append);
    assert_eq!(pause_code(stalled.load(doomed).await), "fenced_off");
    let found = query(&newer, "SELECT id FROM web.tracks ORDER BY id").await.unwrap();
    assert_eq!(found, ["id=a", "id=b", "id=c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_versions_and_what_would_change_rows_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let lake = open_with(&settings);
    for table in ["users", "orders"] {
        create(&lake, table, &COLUMNS).await;
    }
    lake.resume(&connection(), 1, &kafka()).await.unwrap();
    let merge = || WriteMode::MergeLatest { key: "id".to_owned(), order: "received_at".to_owned() };
    lake.load(load(0, 1).rows("users", batch(&[("u", 1, 0)]), merge())).await.unwrap();
    lake.load(load(1, 2).rows("users", batch(&[("u", 2, 1)]), merge())).await.unwrap();
    let latest = "SELECT id, n FROM (SELECT *, row_number() OVER (PARTITION BY id ORDER BY received_at DESC) AS age \
                  FROM web.users) WHERE age = 1";
    assert_eq!(query(&lake, latest).await.unwrap(), ["id=u n=2"]);

    let refused = [
        load(2, 3).rows("orders", batch(&[("a", 1, 0)]), WriteMode::Upsert { key: vec!["id".to_owned()] }),
        load(2, 3).rows("orders", batch(&[("a", 1, 0)]), WriteMode::Stage { generation: 1 }),
        Load { swaps: vec![Swap { name: name("orders"), generation: 1 }], ..load(2, 3) },
    ];
    for (n, load) in refused.into_iter().enumerate() {
        let error = lake.load(load).await.unwrap_err();
        assert!(
            error.full().contains("plain Parquet") && error.full().contains("mode: append"),
            "{n}: {}",
            error.full()
        );
        assert_eq!(error.code, "append_only");
        // It was never announced, so that another load, of other offsets, can come.
        assert_eq!(lake.resume(&connection(), 1, &kafka()).await.unwrap().redo, None, "{n}");
    }
    lake.load(load(2, 5).rows("orders", batch(&[("a", 1, 0)]), WriteMode::Append)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wider_column_is_read_from_old_files_too_and_a_job_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let lake = open_with(&settings);
    create(&lake, "tracks", &COLUMNS).await;
    lake.resume(&connection(), 1, &kafka()).await.unwrap();
    lake.load(load(0, 1).rows("tracks", batch(&[("a", 1, 0)]), WriteMode::Append).counted(1)).await.unwrap();
    let columns = schema(&[("n", FieldType::Float)]);
    let widen = SchemaChange::WidenColumns { table: "tracks".to_owned(), columns };
    lake.apply(SCHEMA, &[widen]).await.unwrap();
    let half = [("id", Text), ("n", FieldType::Float), ("received_at", DateTime)];
    let half = rows(half, vec![[text("b"), Cell::Float(0.5), Cell::DateTime(0)]]);
    lake.load(load(1, 2).rows("tracks", half, WriteMode::Append)).await.unwrap();
    assert_eq!(query(&lake, "SELECT n FROM web.tracks ORDER BY id").await.unwrap(), ["n=1.0", "n=0.5"]);

    lake.forget(&connection(), Some(SCHEMA)).await.unwrap();
    let other = open_with(&settings);
    assert!(other.describe(SCHEMA).await.unwrap().is_empty());
    let hours = (at("2026-11-24T00:00:00Z"), at("2026-11-25T00:00:00Z"));
    assert_eq!(other.counts(&connection(), hours.0, hours.1).await.unwrap(), []);
    assert!(other.resume(&connection(), 1, &kafka()).await.unwrap().positions.is_empty());
}
