//! Which ids a lake knows, and for how long.

use millrace_connector::{Warehouse, WriteMode};
use millrace_event_model::FieldType::String as Text;

use crate::rig::{Rig, With, at, connection, kafka, load, rows, text};

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_known_for_28_days_and_not_for_ever() {
    let rig = Rig::new().await;
    rig.load(load(0, 3).seen(&[7, u128::MAX, 1])).await;
    let restarted = rig.other();
    restarted.resume(&connection(), 2, &kafka()).await.unwrap();
    for lake in [&rig.lake, &restarted] {
        let seen = async |now| lake.seen(&connection(), &[1, 2, u128::MAX], at(now)).await.unwrap();
        let content = 10_u64.wrapping_mul(u64::MAX);
        assert_eq!(seen("2026-11-24T12:00:01Z").await, [Some(10), None, Some(content)]);
        assert_eq!(seen("2026-12-22T11:59:59Z").await, [Some(10), None, Some(content)]);
        assert_eq!(seen("2026-12-24T00:00:00Z").await, [None; 3]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_connection_knows_its_own_ids() {
    let rig = Rig::new().await;
    rig.load(load(0, 1).seen(&[1])).await;
    let other = "other--lake".parse().unwrap();
    rig.lake.resume(&other, 1, &kafka()).await.unwrap();
    assert_eq!(rig.lake.seen(&other, &[1], at("2026-11-24T13:00:00Z")).await.unwrap(), [None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_of_a_load_that_is_done_again_are_not_duplicates() {
    let rig = Rig::new().await;
    let id = ("id", Text);
    rig.create("tracks", &[id]).await;
    rig.load(load(0, 1).seen(&[1])).await;
    // Everything of the load is written but the seal.
    let begun = load(1, 2).rows("tracks", rows([id], vec![[text("a")]]), WriteMode::Append).seen(&[2]);
    rig.load(begun.clone()).await;
    let seals = rig.folder.path().join("_millrace/web--lake/seals");
    let last = std::fs::read_dir(seals).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
    std::fs::remove_file(last).unwrap();

    assert!(rig.resume(1).await.unwrap().redo.is_some());
    let seen = async || rig.lake.seen(&connection(), &[1, 2], at("2026-11-24T13:00:00Z")).await.unwrap();
    assert_eq!(seen().await, [Some(10), None]);
    rig.load(begun).await;
    assert_eq!(seen().await, [Some(10), Some(20)]);
    assert_eq!(rig.query("SELECT id FROM web.tracks").await, ["id=a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_loads_leave_few_files_and_old_days_go() {
    let rig = Rig::new().await;
    let folder = rig.folder.path().join("_millrace/web--lake/seen");
    let files = |day: &str| std::fs::read_dir(folder.join(day)).map_or(0, |entries| entries.count());
    let mut old = load(0, 1).seen(&[1_000]);
    old.at = at("2026-10-01T00:00:00Z");
    rig.load(old).await;
    assert_eq!(files("2026-10-01"), 1);
    for n in 1..130 {
        rig.load(load(n, n + 1).seen(&[n as u128])).await;
    }
    assert_eq!(files("2026-10-01"), 0, "older than 28 days");
    assert!(files("2026-11-24") < 30, "{} files", files("2026-11-24"));
    let restarted = rig.other();
    restarted.resume(&connection(), 2, &kafka()).await.unwrap();
    let ids: Vec<u128> = (1..131).collect();
    for lake in [&rig.lake, &restarted] {
        let known = lake.seen(&connection(), &ids, at("2026-11-25T00:00:00Z")).await.unwrap();
        assert_eq!(known.iter().flatten().count(), 129);
    }
}
