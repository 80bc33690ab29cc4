//! The intent log: positions, redo, fences.

use std::collections::BTreeMap;

use millrace_columnar::Cell;
use millrace_connector::{KafkaIdentity, OffsetRange, Resume, Warehouse, WriteMode};
use millrace_event_model::FieldType::{Int, String as Text};

use crate::rig::{Rig, With, connection, kafka, load, open, pause_code, query, retry_code, rows, text};

const ID: (&str, millrace_event_model::FieldType) = ("id", Text);

fn one_row(id: &str) -> millrace_columnar::arrow::array::RecordBatch {
    rows([ID], vec![[text(id)]])
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_are_carried_forward_from_load_to_load() {
    let rig = Rig::new().await;
    let range = |partition, start, end| OffsetRange { partition, start, end };
    let mut first = load(0, 5);
    first.ranges.push(range(3, 100, 101));
    rig.load(first).await;
    rig.load(load(5, 9)).await;
    let resumed = rig.other().resume(&connection(), 2, &kafka()).await.unwrap();
    assert_eq!(resumed, Resume { positions: BTreeMap::from([(0, 9), (3, 101)]), redo: None });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_does_not_begin_where_the_last_ended_is_refused() {
    let rig = Rig::new().await;
    rig.load(load(0, 5)).await;
    assert_eq!(pause_code(rig.lake.load(load(6, 7)).await), "unexpected_position");
    assert_eq!(rig.resume(1).await.unwrap().positions, BTreeMap::from([(0, 5)]));
    rig.load(load(5, 7)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn loading_needs_resuming_first_and_again_after_a_failure() {
    let rig = Rig::new().await;
    let lake = open(rig.folder.path());
    assert_eq!(retry_code(lake.load(load(0, 1)).await), "not_resumed");
    // There is no such table.
    let failed = rig.lake.load(load(0, 1).rows("gone", one_row("a"), WriteMode::Append)).await;
    assert_eq!(retry_code(failed), "missing_table");
    assert_eq!(retry_code(rig.lake.load(load(0, 1)).await), "not_resumed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_began_is_done_again_with_the_same_ranges() {
    let rig = Rig::new().await;
    rig.create("tracks", &[ID]).await;
    let batch = || load(0, 2).rows("tracks", one_row("a"), WriteMode::Append).seen(&[1]).counted(1);
    let doomed = batch().rows("gone", one_row("a"), WriteMode::Append);
    assert_eq!(retry_code(rig.lake.load(doomed).await), "missing_table");

    let resumed = rig.resume(1).await.unwrap();
    let ranges = vec![OffsetRange { partition: 0, start: 0, end: 2 }];
    assert_eq!(resumed, Resume { positions: BTreeMap::new(), redo: Some(ranges) });
    assert_eq!(retry_code(rig.lake.load(load(0, 1)).await), "redo_first");
    rig.resume(1).await.unwrap();
    rig.create("gone", &[ID]).await;
    rig.load(batch().rows("gone", one_row("a"), WriteMode::Append)).await;

    assert_eq!(rig.query("SELECT * FROM web.tracks").await, ["id=a"]);
    assert_eq!(rig.query("SELECT * FROM web.gone").await, ["id=a"]);
    assert_eq!(rig.query("SELECT sum(items) AS n FROM _millrace.counts").await, ["n=1"]);
    assert_eq!(rig.resume(1).await.unwrap(), Resume { positions: BTreeMap::from([(0, 2)]), redo: None });
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_live_loaders_the_older_is_refused() {
    let rig = Rig::new().await;
    rig.create("tracks", &[ID]).await;
    rig.load(load(0, 1).rows("tracks", one_row("a"), WriteMode::Append)).await;

    let newer = rig.other();
    assert_eq!(newer.resume(&connection(), 2, &kafka()).await.unwrap().positions[&0], 1);
    let stale = load(1, 2).rows("tracks", one_row("stale"), WriteMode::Append);
    assert_eq!(pause_code(rig.lake.load(stale.clone()).await), "fenced_off");
    assert_eq!(pause_code(rig.resume(1).await), "fenced_off");
    newer.load(load(1, 2).rows("tracks", one_row("b"), WriteMode::Append).epoch(2)).await.unwrap();
    assert_eq!(pause_code(newer.load(stale).await), "fenced_off");
    newer.load(load(2, 3).rows("tracks", one_row("c"), WriteMode::Append).epoch(2)).await.unwrap();
    let found = query(&newer, "SELECT id FROM web.tracks ORDER BY id").await.unwrap();
    assert_eq!(found, ["id=a", "id=b", "id=c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_do_the_same_load_at_once_do_it_once() {
    let columns = [ID, ("n", Int)];
    let upsert = || WriteMode::Upsert { key: vec!["id".to_owned()] };
    let rig = Rig::new().await;
    rig.create("tracks", &columns).await;
    rig.create("items", &columns).await;
    rig.create("full", &columns).await;
    let batch = |n| rows(columns, vec![[text("a"), Cell::Int(n)], [text("b"), Cell::Int(n)]]);
    rig.load(load(0, 2).rows("items", batch(1), upsert())).await;
    let stage = WriteMode::Stage { generation: 1 };
    let whole = load(2, 4)
        .rows("tracks", batch(2), WriteMode::Append)
        .rows("items", batch(2), upsert())
        .rows("full", batch(2), stage)
        .swap("full", 1)
        .counted(4);
    // The intent is written, and its loader fails at a table that is not there.
    let failed = rig.lake.load(whole.clone().rows("gone", one_row("a"), WriteMode::Append)).await;
    assert_eq!(retry_code(failed), "missing_table");

    let newer = rig.other();
    rig.resume(1).await.unwrap();
    newer.resume(&connection(), 2, &kafka()).await.unwrap();
    let theirs = whole.clone().epoch(2);
    let (one, two) = tokio::join!(rig.lake.load(whole), newer.load(theirs));
    one.unwrap();
    two.unwrap();
    for table in ["tracks", "items", "full"] {
        let found = rig.query(&format!("SELECT * FROM web.{table} ORDER BY id")).await;
        assert_eq!(found, ["id=a n=2", "id=b n=2"], "{table}");
    }
    assert_eq!(rig.query("SELECT sum(items) AS n FROM _millrace.counts").await, ["n=4"]);
    assert_eq!(pause_code(rig.lake.load(load(4, 5)).await), "fenced_off");
    newer.load(load(4, 5).epoch(2)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_of_another_kafka_are_refused() {
    let rig = Rig::new().await;
    let other = KafkaIdentity { cluster: "c2".to_owned(), ..kafka() };
    rig.lake.resume(&connection(), 2, &other).await.unwrap();
    rig.lake.resume(&connection(), 3, &kafka()).await.unwrap();
    rig.load(load(0, 5).epoch(3)).await;
    for other in [other, KafkaIdentity { topic_id: "t2".to_owned(), ..kafka() }] {
        let refused = rig.lake.resume(&connection(), 4, &other).await;
        let text = refused.as_ref().err().unwrap().full();
        assert!(text.contains("belong to topic") && text.contains("/_millrace/web--lake/loads"), "{text}");
        assert_eq!(pause_code(refused), "kafka_identity");
    }
    assert_eq!(rig.resume(4).await.unwrap().positions[&0], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_moved_away_begins_anew_and_loads_again() {
    let rig = Rig::new().await;
    rig.create("tracks", &[ID]).await;
    rig.load(load(0, 1).rows("tracks", one_row("a"), WriteMode::Append).seen(&[1])).await;
    let folder = rig.folder.path().join("_millrace/web--lake");
    std::fs::remove_dir_all(folder.join("loads")).unwrap();
    std::fs::remove_dir_all(folder.join("seals")).unwrap();
    let other = KafkaIdentity { cluster: "c2".to_owned(), ..kafka() };
    let resumed = rig.lake.resume(&connection(), 1, &other).await.unwrap();
    assert_eq!(resumed, Resume { positions: BTreeMap::new(), redo: None });
    rig.load(load(0, 1).rows("tracks", one_row("b"), WriteMode::Append)).await;
    assert_eq!(rig.query("SELECT id FROM web.tracks ORDER BY id").await, ["id=a", "id=b"]);
    let known = rig.lake.seen(&connection(), &[1], crate::rig::at("2026-11-25T00:00:00Z")).await.unwrap();
    assert_eq!(known, [Some(10)], "seen ids outlive the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_is_found_however_many_commits_came_after_it() {
    let rig = Rig::new().await;
    rig.create("tracks", &[ID]).await;
    rig.create("rare", &[ID]).await;
    // The rare table gets load 2 and then, by another connection, more commits than a checkpoint apart.
    let doomed = load(0, 1).rows("rare", one_row("a"), WriteMode::Append).rows(
        "zz_gone",
        one_row("a"),
        WriteMode::Append,
    );
    assert_eq!(retry_code(rig.lake.load(doomed).await), "missing_table");
    let busy = "busy--lake".parse().unwrap();
    let other = rig.other();
    other.resume(&busy, 1, &kafka()).await.unwrap();
    for n in 0..60 {
        let mut batch = load(n, n + 1).rows("rare", one_row("x"), WriteMode::Append);
        batch.connection = "busy--lake".parse().unwrap();
        other.load(batch).await.unwrap();
    }
    let again = rig.other();
    assert!(again.resume(&connection(), 2, &kafka()).await.unwrap().redo.is_some());
    again.load(load(0, 1).rows("rare", one_row("a"), WriteMode::Append).epoch(2)).await.unwrap();
    assert_eq!(rig.query("SELECT count(*) AS n FROM web.rare WHERE id = 'a'").await, ["n=1"]);
    assert_eq!(rig.query("SELECT count(*) AS n FROM web.rare").await, ["n=61"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_connections_that_upsert_one_key_at_once_leave_one_row() {
    let columns = [ID, ("n", Int)];
    let rig = Rig::new().await;
    rig.create("items", &columns).await;
    let other = rig.other();
    other.resume(&"other--lake".parse().unwrap(), 1, &kafka()).await.unwrap();
    for n in 0..5 {
        let write = WriteMode::Upsert { key: vec!["id".to_owned()] };
        let batch = rows(columns, vec![[text(&format!("k{n}")), Cell::Int(n)]]);
        let ours = load(n, n + 1).rows("items", batch, write);
        let mut theirs = ours.clone();
        theirs.connection = "other--lake".parse().unwrap();
        let (one, two) = tokio::join!(rig.lake.load(ours), other.load(theirs));
        one.unwrap();
        two.unwrap();
    }
    let found = rig.query("SELECT count(*) AS c, count(DISTINCT id) AS d FROM web.items").await;
    assert_eq!(found, ["c=5 d=5"]);
}
