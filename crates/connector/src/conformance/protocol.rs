//! Positions, fence, seen ids and redo.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use serde_json::json;

use super::rig::{Rig, ids, kafka, moment};
use crate::{ErrorKind, KafkaIdentity, Load, OffsetRange, SeenId, TableLoad, WriteMode};

/// One row, named by the offset it stands for.
fn numbered(rig: &Rig, start: i64) -> Load {
    let (schema, rows) = ids(&[&format!("row {start}")]);
    rig.batch(start, start + 1, vec![rig.rows("rows", &schema, &rows, WriteMode::Append)])
}

async fn create_rows(rig: &Rig) {
    rig.create("rows", &ids(&[]).0).await;
}

pub(super) async fn positions_move_with_the_rows(rig: Rig) {
    assert_eq!(rig.warehouse.positions(&rig.connection()).await.unwrap(), BTreeMap::new());
    create_rows(&rig).await;
    let mut first = numbered(&rig, 0);
    first.ranges.push(OffsetRange { partition: 7, start: 500, end: 510 });
    rig.load(first).await;
    // A batch without rows moves them too: all of it was filtered, or duplicates.
    rig.load(rig.batch(1, 20, Vec::new())).await;
    let resume = rig.resume(1).await;
    assert_eq!(resume.positions, BTreeMap::from([(0, 20), (7, 510)]));
    assert_eq!(resume.redo, None);
    let onlooker = rig.other.positions(&rig.connection()).await.unwrap();
    assert_eq!(onlooker, resume.positions, "an onlooker sees them, and fences nobody off");
    rig.load(rig.batch(20, 21, Vec::new())).await;
    let resume = rig.resume(1).await;
    let seen_by_other = rig.other.resume(&rig.connection(), 2, &kafka()).await.unwrap();
    assert_eq!(seen_by_other, resume, "whoever comes next gets the same answer");
}

pub(super) async fn a_batch_is_never_loaded_twice(rig: Rig) {
    create_rows(&rig).await;
    rig.load(numbered(&rig, 0)).await;
    for (what, again) in [("the same batch", numbered(&rig, 0)), ("a batch after a gap", numbered(&rig, 5))] {
        let refused = rig.warehouse.load(again).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Pause, "{what}: {}", refused.full());
    }
    let resume = rig.resume(1).await;
    assert_eq!((resume.positions, resume.redo), (BTreeMap::from([(0, 1)]), None));
    rig.load(numbered(&rig, 1)).await;
    assert_eq!(rig.select("id", "rows").await, json!([{"id": "row 0"}, {"id": "row 1"}]));
}

pub(super) async fn the_older_of_two_loaders_is_refused(rig: Rig) {
    create_rows(&rig).await;
    rig.load(numbered(&rig, 0)).await;
    rig.other.resume(&rig.connection(), 2, &kafka()).await.unwrap();
    let refused = rig.warehouse.load(numbered(&rig, 1)).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Pause, "{}", refused.full());
    let refused = rig.warehouse.resume(&rig.connection(), 1, &kafka()).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Pause, "the fence is never lowered: {}", refused.full());
    rig.other.load(Load { epoch: 2, ..numbered(&rig, 1) }).await.unwrap();
    assert_eq!(rig.select("id", "rows").await, json!([{"id": "row 0"}, {"id": "row 1"}]));
}

pub(super) async fn positions_of_another_kafka_are_refused(rig: Rig) {
    create_rows(&rig).await;
    rig.load(numbered(&rig, 0)).await;
    let recreated = KafkaIdentity { topic_id: "recreated".to_owned(), ..kafka() };
    let refused = rig.other.resume(&rig.connection(), 2, &recreated).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Pause, "{}", refused.full());
    let resume = rig.other.resume(&rig.connection(), 3, &kafka()).await.unwrap();
    assert_eq!(resume.positions, BTreeMap::from([(0, 1)]));
}

pub(super) async fn ids_are_known_for_28_days(rig: Rig) {
    let seen = vec![SeenId { id: u128::MAX, content: u64::MAX }, SeenId { id: 7, content: 1 }];
    rig.load(Load { seen, ..rig.batch(0, 2, Vec::new()) }).await;
    let asked = [7, 8, u128::MAX];
    let ask = async |days| {
        let now = moment() + TimeDelta::days(days);
        rig.other.seen(&rig.connection(), &asked, now).await.unwrap()
    };
    let known = vec![Some(1), None, Some(u64::MAX)];
    assert_eq!(ask(0).await, known, "in the order of the question");
    assert_eq!(ask(27).await, known);
    assert_eq!(ask(30).await, vec![None; 3]);
    let stranger = "stranger--conformance".parse().unwrap();
    let strangers = rig.warehouse.seen(&stranger, &asked, moment()).await.unwrap();
    assert_eq!(strangers, vec![None; 3], "each connection has ids of its own");
}

/// A load fails in its middle (one of its tables is gone). Whether the warehouse forgets it or asks for the
/// same ranges again, its rows are there once in the end.
pub(super) async fn a_load_that_fails_is_done_again_once(rig: Rig) {
    create_rows(&rig).await;
    rig.load(numbered(&rig, 0)).await;
    let good = numbered(&rig, 1);
    let missing = TableLoad { name: rig.table_name("missing"), ..good.tables.first().unwrap().clone() };
    let mut broken = good.clone();
    broken.tables.push(missing);
    broken.seen = vec![SeenId { id: 1, content: 1 }];
    assert!(rig.warehouse.load(broken.clone()).await.is_err());
    let resume = rig.resume(1).await;
    assert_eq!(resume.positions, BTreeMap::from([(0, 1)]), "not loaded, or not wholly");
    if let Some(redo) = resume.redo {
        assert_eq!(redo, good.ranges, "exactly the same ranges");
    }
    rig.create("missing", &ids(&[]).0).await;
    rig.load(broken).await;
    for table in ["rows", "missing"] {
        let rows = rig.select("id", table).await;
        let found = rows.as_array().unwrap().iter().filter(|row| row["id"] == "row 1").count();
        assert_eq!(found, 1, "{table}: {rows}");
    }
    assert_eq!(rig.resume(1).await.positions, BTreeMap::from([(0, 2)]));
}
