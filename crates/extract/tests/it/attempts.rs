//! What an attempt leaves behind, whole or cut off.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_bus::PublisherOptions;
use millrace_event_model::topics::RECORDS;
use millrace_event_model::{Lane, LoadMode, RecordBody};
use millrace_extract::Error;
use serde_json::json;
use tokio::sync::Barrier;

use crate::river::{River, Step, rows};

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_masked_and_each_state_puts_a_barrier_everywhere() {
    let river = River::start(LoadMode::Upsert).await;
    let steps = [rows(1..=5), vec![Step::State(json!({"at": 5}))], rows(6..=7)].concat();
    let report = river.attempt(steps).await.unwrap();
    assert_eq!((report.streams[0].rows, report.streams[0].barriers), (7, 2));

    let mut barriers: BTreeMap<u64, Vec<i32>> = BTreeMap::new();
    for (partition, record) in river.records().await {
        match record.body {
            RecordBody::Barrier(barrier) => barriers.entry(barrier.number).or_default().push(partition),
            RecordBody::Row { json, .. } => {
                assert!(
                    !String::from_utf8_lossy(&json).contains("@mail.example"),
                    "an address was published"
                );
            }
            RecordBody::Begin => {}
        }
    }
    let everywhere: Vec<i32> = (0..RECORDS.spec.partitions).collect();
    assert_eq!(barriers, BTreeMap::from([(1, everywhere.clone()), (2, everywhere)]));
    assert_eq!(river.real_rows().await, [1, 2, 3, 4, 5, 6, 7]);
    river.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_dies_leaves_nothing_half_done() {
    let river = River::start(LoadMode::Append).await;
    let steps = [rows(1..=5), vec![Step::State(json!(5))], rows(6..=9), vec![Step::Die]].concat();
    let error = river.attempt(steps).await.unwrap_err().to_string();
    assert!(error.contains("crm") && error.contains("died"), "{error}");

    // The source goes on from the state it was given.
    river.attempt(rows(6..=12)).await.unwrap();
    assert_eq!(*river.source.given.lock().unwrap(), [None, Some(json!(5))]);
    assert_eq!(river.real_rows().await, (1..=12).collect::<Vec<_>>());
    river.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_barrier_that_a_crash_cut_off_is_finished_by_the_next_attempt() {
    let river = River::start(LoadMode::Append).await;
    river.attempt([rows(1..=3), vec![Step::State(json!(3))]].concat()).await.unwrap();
    // As if the process had died while it put its next barrier: rows 4 and 5 are acked, the barrier
    // stands on one partition, the cursor knows nothing of it.
    let topic = RECORDS.lane(river.bus.workspace(), &Lane::main());
    let publisher = river.bus.publisher(PublisherOptions::default()).unwrap();
    let records = river.records().await;
    let last =
        records.iter().rev().find(|(_, record)| matches!(record.body, RecordBody::Barrier(_))).unwrap();
    let mut barrier = last.1.clone();
    for id in [4, 5] {
        let mut row = records
            .iter()
            .find(|(_, record)| matches!(record.body, RecordBody::Row { .. }))
            .unwrap()
            .1
            .clone();
        row.body = RecordBody::Row {
            stream: "orders".into(),
            namespace: None,
            json: json!({"id": id}).to_string().into(),
        };
        assert_eq!(publisher.publish(&topic, [&row]).await.unwrap().count(), 1);
    }
    if let RecordBody::Barrier(inner) = &mut barrier.body {
        inner.number += 1;
        inner.state = Some(json!(5));
    }
    publisher.publish_to(&topic, 2, &barrier).await.unwrap();

    river.attempt(rows(6..=6)).await.unwrap();
    assert_eq!(
        river.source.given.lock().unwrap().last(),
        Some(&Some(json!(5))),
        "it went on behind that barrier"
    );
    assert_eq!(river.real_rows().await, [1, 2, 3, 4, 5, 6]);
    river.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_lost_its_lease_and_did_not_notice_changes_nothing() {
    let river = River::start(LoadMode::Append).await;
    river.attempt([rows(1..=1), vec![Step::State(json!(1))]].concat()).await.unwrap();
    let meeting = Arc::new(Barrier::new(2));
    let meet = || vec![Step::Meet(Arc::clone(&meeting))];
    // Its rows and its barrier come when the newer attempt has begun, long before its lease expires.
    let older = river.attempt([rows(2..=4), meet(), meet(), vec![Step::State(json!(4))]].concat());
    let newer = async {
        meeting.wait().await;
        // Held: the older renewed its lease at this very moment.
        let report = loop {
            match river.attempt(rows(2..=5)).await {
                Err(Error::Held { .. }) => {}
                report => break report,
            }
        };
        meeting.wait().await;
        report
    };
    let (older, newer) = tokio::join!(older, newer);
    assert!(matches!(older.unwrap_err(), Error::TakenOver { .. }));
    newer.unwrap();
    assert_eq!(river.real_rows().await, [1, 2, 3, 4, 5]);

    river.attempt(Vec::new()).await.unwrap();
    let given = river.source.given.lock().unwrap().clone();
    assert_eq!(given.last(), Some(&Some(json!(1))), "the state of the older counts for nothing");
    river.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_refresh_gets_a_new_generation_each_time() {
    let river = River::start(LoadMode::Overwrite).await;
    river.attempt([rows(1..=2), vec![Step::Die]].concat()).await.unwrap_err();
    river.attempt(rows(1..=2)).await.unwrap();
    river.attempt(rows(1..=1)).await.unwrap();
    let mut complete = Vec::new();
    for (partition, record) in river.records().await {
        if let (0, RecordBody::Barrier(barrier)) = (partition, record.body) {
            assert!(barrier.complete);
            complete.push(barrier.streams[0].generation);
        }
    }
    assert_eq!(complete, [1, 2], "the attempt that died completed none");
    river.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_no_topic_takes_is_kept_in_state_with_a_dead_letter() {
    let river = River::start(LoadMode::Append).await;
    let huge = Step::Row(json!({"id": 1, "blob": "x".repeat(950_000)}));
    let report = river.attempt([vec![huge], rows(2..=2)].concat()).await.unwrap();
    assert_eq!((report.streams[0].rows, report.streams[0].oversize), (1, 1));
    let letters = millrace_event_model::topics::DEAD_LETTERS.of(river.bus.workspace());
    let letters = river.bus.read_all(&letters).await.unwrap();
    let letter = letters[0].message.as_ref().unwrap();
    assert_eq!(letter.reason.code, "row_too_large");
    assert!(letter.reason.message.contains("claims/crm/"), "{}", letter.reason.message);
    assert!(letter.id().starts_with("crm/state:claims/crm/"), "each row has its own: {}", letter.id());
    river.stop().await;
}
