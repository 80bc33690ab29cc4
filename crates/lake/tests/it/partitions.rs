//! Tables by date, and what is made without being asked.

use millrace_columnar::Cell;
use millrace_connector::{Warehouse, WriteMode};
use millrace_event_model::FieldType::{DateTime, Int, String as Text};
use millrace_lake::LakeSettings;

use crate::rig::{Rig, With, load, open_with, rows, schema, text};

const DAY: i64 = 86_400_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn rows_lie_by_the_date_they_were_received_and_are_found_whatever_changes_them() {
    let rig = Rig::new().await;
    let columns = [("id", Text), ("n", Int), ("received_at", DateTime)];
    rig.create("orders", &columns).await;
    let row = |id: &str, n, day| [text(id), Cell::Int(n), Cell::DateTime(day * DAY)];
    let first = rows(columns, vec![row("a", 1, 0), row("b", 1, 1), row("c", 1, 1)]);
    rig.load(load(0, 3).rows("orders", first, WriteMode::Append)).await;
    let folder = rig.folder.path().join("web/orders");
    let days = ["millrace_date=1970-01-01", "millrace_date=1970-01-02"];
    assert!(days.iter().all(|day| folder.join(day).is_dir()));
    // The second moves to another date and the third stays.
    let upsert = WriteMode::Upsert { key: vec!["id".to_owned()] };
    rig.load(load(3, 4).rows("orders", rows(columns, vec![row("b", 2, 2)]), upsert)).await;
    let found = rig.query("SELECT id, n, millrace_date AS d FROM web.orders ORDER BY id").await;
    assert_eq!(found, ["d=1970-01-01 id=a n=1", "d=1970-01-03 id=b n=2", "d=1970-01-02 id=c n=1"]);
    let of_day = rig.query("SELECT id FROM web.orders WHERE millrace_date = '1970-01-02'").await;
    assert_eq!(of_day, ["id=c"]);
    assert_eq!(
        rig.lake.describe("web").await.unwrap()["orders"],
        schema(&columns),
        "the loader does not see it"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_may_have_a_property_of_any_name() {
    let rig = Rig::new().await;
    let columns = [("event_date", Text), ("id", Text), ("received_at", DateTime)];
    rig.create("meetings", &columns).await;
    let meeting = rows(columns, vec![[text("tomorrow"), text("a"), Cell::DateTime(0)]]);
    rig.load(load(0, 1).rows("meetings", meeting, WriteMode::Append)).await;
    assert_eq!(rig.query("SELECT event_date AS e FROM web.meetings").await, ["e=tomorrow"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_have_statistics_of_their_columns() {
    let rig = Rig::new().await;
    let columns = [("id", Text), ("n", Int), ("received_at", DateTime)];
    rig.create("tracks", &columns).await;
    let row = |n: i64| [text(&format!("id{n}")), Cell::Int(n), Cell::DateTime(n)];
    rig.load(load(0, 9).rows("tracks", rows(columns, (0..9).map(row).collect()), WriteMode::Append)).await;
    let log = rig.folder.path().join("web/tracks/_delta_log/00000000000000000001.json");
    let text = std::fs::read_to_string(log).unwrap();
    let add = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .find(|action| action.get("add").is_some())
        .unwrap();
    let stats: serde_json::Value = serde_json::from_str(add["add"]["stats"].as_str().unwrap()).unwrap();
    assert_eq!(stats["numRecords"], 9);
    assert_eq!((&stats["minValues"]["n"], &stats["maxValues"]["n"]), (&0.into(), &8.into()));
    assert_eq!(stats["maxValues"]["id"], "id8");
}

#[tokio::test(flavor = "multi_thread")]
async fn checking_and_querying_make_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let lake = open_with(&LakeSettings::at(missing.display().to_string()));
    lake.check().await.unwrap();
    assert_eq!(crate::rig::query(&lake, "SELECT 1 AS one").await.unwrap(), ["one=1"]);
    assert!(lake.describe("web").await.unwrap().is_empty());
    assert!(!missing.exists());
}
