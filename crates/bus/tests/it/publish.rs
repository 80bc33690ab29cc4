use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use millrace_bus::{BusError, ErrorKind, Placed, PublisherOptions};
use millrace_event_model::topics::{EVENTS, MAX_MESSAGE_BYTES};

use crate::cluster::{Cluster, DEADLINE, events, eventually};
use crate::messages::{event, id, some_events, sorted_ids};

/// Short, so that a test of a broker that is away is short.
fn impatient() -> PublisherOptions {
    PublisherOptions { delivery_timeout: Duration::from_secs(2), ..PublisherOptions::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acked_can_be_read() {
    for cluster in Cluster::each() {
        let bus = cluster.bus().await;
        let messages = some_events(500);
        let publisher = bus.publisher(PublisherOptions::default()).unwrap();

        let acked = publisher.publish(&events(&bus), &messages).await.unwrap();

        assert_eq!(acked.count(), messages.len());
        let stored = bus.read_all(&events(&bus)).await.unwrap();
        let mut stored: Vec<String> = stored.iter().map(id).collect();
        stored.sort();
        assert_eq!(stored, sorted_ids(&messages));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_messages_of_one_person_stay_in_order_over_calls_that_overlap() {
    for cluster in Cluster::each() {
        let bus = cluster.bus().await;
        let messages = some_events(1_000);
        let publisher = bus.publisher(PublisherOptions::default()).unwrap();

        let mut pending = Vec::new();
        for chunk in messages.chunks(37) {
            pending.push(publisher.enqueue(&events(&bus), chunk).unwrap());
        }
        for call in pending {
            let _ = call.acked().await.unwrap();
        }

        let mut last = BTreeMap::new();
        for received in bus.read_all(&events(&bus)).await.unwrap() {
            let key = received.raw.key.clone().unwrap();
            let previous = last.insert(key, id(&received));
            assert!(previous.is_none_or(|previous| previous < id(&received)));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_can_be_sent_to_each_partition_by_number() {
    for cluster in Cluster::each() {
        let bus = cluster.bus().await;
        let publisher = bus.publisher(PublisherOptions::default()).unwrap();
        for partition in 0..EVENTS.spec.partitions {
            let placed = publisher.publish_to(&events(&bus), partition, &event(1, 1)).await.unwrap();
            assert_eq!(placed, Placed { partition, offset: 0 });
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_no_topic_takes_is_rejected() {
    for cluster in Cluster::each() {
        let bus = cluster.bus().await;
        let publisher = bus.publisher(PublisherOptions::default()).unwrap();
        let mut large = event(1, 1);
        large.body = Bytes::from(vec![b' '; MAX_MESSAGE_BYTES]);
        let error = publisher.publish(&events(&bus), [&large]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Reject, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_call_is_acked_at_once() {
    for cluster in Cluster::each() {
        let bus = cluster.bus().await;
        let publisher = bus.publisher(PublisherOptions::default()).unwrap();
        assert_eq!(
            publisher.publish(&events(&bus), [] as [&millrace_event_model::Event; 0]).await.unwrap().count(),
            0
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_is_a_retryable_error_in_time_and_the_publisher_recovers_by_itself() {
    let mut cluster = Cluster::embedded();
    let bus = cluster.bus().await;
    let publisher = bus.publisher(impatient()).unwrap();
    let (before, during, after) = (some_events(10), event(100, 1), event(200, 1));
    let _ = publisher.publish(&events(&bus), &before).await.unwrap();

    cluster.stop().await;
    let started = Instant::now();
    let error = publisher.publish(&events(&bus), [&during]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Retry, "{error}");
    // The bound is the option's; the rest is for a busy machine.
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());

    cluster.start_again();
    let _ =
        eventually("publishing again", || async { publisher.publish(&events(&bus), [&after]).await.ok() })
            .await;

    let stored = bus.read_all(&events(&bus)).await.unwrap();
    let mut ids: Vec<String> = stored.iter().map(id).collect();
    ids.sort();
    ids.dedup();
    for acked in sorted_ids(before.iter().chain([&after])) {
        assert!(ids.contains(&acked), "{acked} was acked and is gone");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_a_retryable_error_and_empties_again() {
    let mut cluster = Cluster::embedded();
    let bus = cluster.bus().await;
    let options = PublisherOptions { queue_messages: 10, ..impatient() };
    let publisher = bus.publisher(options).unwrap();
    cluster.stop().await;

    let error = publisher.publish(&events(&bus), &some_events(50)).await.unwrap_err();
    assert!(matches!(error, BusError::QueueFull), "{error}");
    assert_eq!(error.kind(), ErrorKind::Retry);

    cluster.start_again();
    let _ = eventually("publishing again", || async {
        publisher.publish(&events(&bus), &some_events(5)).await.ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_waits_for_what_is_on_its_way() {
    for cluster in Cluster::each() {
        let bus = cluster.bus().await;
        let options = PublisherOptions { linger: Duration::from_millis(200), ..PublisherOptions::default() };
        let publisher = bus.publisher(options).unwrap();
        let pending = publisher.enqueue(&events(&bus), &some_events(20)).unwrap();
        publisher.flush().await.unwrap();
        let acked = tokio::time::timeout(DEADLINE, pending.acked()).await.unwrap().unwrap();
        assert_eq!(acked.count(), 20);
    }
}
