use std::time::Duration;

use chrono::Utc;
use millrace_bus::{
    Batch, BatchLimits, Bus, BusError, CancellationToken, ErrorKind, Positions, PublisherOptions, Range,
    Reader, Start,
};
use millrace_event_model::topics::{EVENTS, PROGRESS};
use millrace_event_model::{Event, Progress};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::cluster::{Cluster, DEADLINE, events};
use crate::messages::{event, id, some_events, sorted_ids};

const SMALL: BatchLimits =
    BatchLimits { max_records: 70, max_bytes: 1 << 20, max_wait: Duration::from_millis(500) };

async fn publish(bus: &Bus, messages: &[Event]) {
    let publisher = bus.publisher(PublisherOptions::default()).unwrap();
    let _ = publisher.publish(&events(bus), messages).await.unwrap();
}

fn read_from(bus: &Bus, positions: &Positions) -> Reader<Event> {
    bus.reader(&events(bus), positions, Start::Earliest).unwrap()
}

/// All batches until `count` messages are there.
async fn read(reader: &mut Reader<Event>, count: usize, limits: &BatchLimits) -> Vec<Batch<Event>> {
    let stop = CancellationToken::new();
    let mut batches: Vec<Batch<Event>> = Vec::new();
    let read = async {
        while batches.iter().map(|batch| batch.records.len()).sum::<usize>() < count {
            let batch = reader.next_batch(limits, &stop).await.unwrap();
            if !batch.is_empty() {
                batches.push(batch);
            }
        }
    };
    tokio::time::timeout(DEADLINE, read).await.expect("all messages are read");
    batches
}

fn ids(batches: &[Batch<Event>]) -> Vec<String> {
    let mut ids: Vec<String> = batches.iter().flat_map(|batch| &batch.records).map(id).collect();
    ids.sort();
    ids
}

/// Retention, on demand: removes what is below the offsets.
async fn delete_before(cluster: &Cluster, topic: &str, offsets: &[(i32, i64)]) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", cluster.brokers()).create().unwrap();
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset)).unwrap();
    }
    admin.delete_records(&list, &AdminOptions::new()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ranges_of_successive_batches_touch_and_hold_each_message_once() {
    for cluster in Cluster::each() {
        let bus = cluster.bus().await;
        let messages = some_events(1_000);
        publish(&bus, &messages).await;

        let mut reader = read_from(&bus, &Positions::new());
        let batches = read(&mut reader, messages.len(), &SMALL).await;

        let mut position = Positions::new();
        for batch in &batches {
            assert!(batch.records.len() <= SMALL.max_records);
            for range in &batch.ranges {
                assert_eq!(position.insert(range.partition, range.end).unwrap_or(0), range.start);
            }
            let covered: i64 = batch.ranges.iter().map(|range| range.end - range.start).sum();
            assert_eq!(covered, i64::try_from(batch.records.len()).unwrap());
        }
        assert_eq!(ids(&batches), sorted_ids(&messages));
        assert_eq!(&position, reader.positions());
        assert!(batches[0].records.iter().all(|record| (Utc::now() - record.appended_at).num_minutes() < 60));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_ends_at_its_bytes() {
    for cluster in Cluster::each() {
        let bus = cluster.bus().await;
        publish(&bus, &some_events(100)).await;
        let limits = BatchLimits { max_bytes: 1_000, ..SMALL };
        for batch in read(&mut read_from(&bus, &Positions::new()), 100, &limits).await {
            let last = batch.records.last().unwrap().bytes();
            assert!(batch.bytes < limits.max_bytes + last, "{} bytes", batch.bytes);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_goes_on_where_the_last_one_stopped() {
    for cluster in Cluster::each() {
        let bus = cluster.bus().await;
        let messages = some_events(300);
        publish(&bus, &messages).await;
        let mut first = read_from(&bus, &Positions::new());
        let mut batches = read(&mut first, 100, &SMALL).await;
        let positions = first.positions().clone();
        drop(first);
        let left = messages.len() - batches.iter().map(|batch| batch.records.len()).sum::<usize>();
        batches.extend(read(&mut read_from(&bus, &positions), left, &SMALL).await);
        assert_eq!(ids(&batches), sorted_ids(&messages));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_the_same_ranges_can_be_read_again() {
    for cluster in Cluster::each() {
        let bus = cluster.bus().await;
        publish(&bus, &some_events(500)).await;
        let mut reader = read_from(&bus, &Positions::new());
        let batches = read(&mut reader, 500, &SMALL).await;
        let before = reader.positions().clone();
        for batch in &batches {
            // As a stored intent would bring them back.
            let stored = serde_json::to_string(&batch.ranges).unwrap();
            let ranges: Vec<Range> = serde_json::from_str(&stored).unwrap();
            let again = reader.read_ranges(&ranges).await.unwrap();
            assert_eq!(again.ranges, batch.ranges);
            assert_eq!(ids(&[again]), ids(std::slice::from_ref(batch)));
        }
        assert_eq!(reader.positions(), &before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_is_given_up_loses_nothing() {
    for cluster in Cluster::each() {
        let bus = cluster.bus().await;
        let messages = some_events(200);
        publish(&bus, &messages).await;
        let mut reader = read_from(&bus, &Positions::new());
        let patient = BatchLimits { max_records: 1_000, max_wait: DEADLINE, ..SMALL };
        // It reads the two hundred and waits for more.
        let given_up = tokio::time::timeout(
            Duration::from_secs(1),
            reader.next_batch(&patient, &CancellationToken::new()),
        )
        .await;
        assert!(given_up.is_err());
        assert_eq!(ids(&read(&mut reader, 200, &SMALL).await), sorted_ids(&messages));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_the_wait_for_more() {
    for cluster in Cluster::each() {
        let bus = cluster.bus().await;
        let stop = CancellationToken::new();
        let patient = BatchLimits { max_wait: Duration::from_secs(3_600), ..SMALL };
        let mut reader = read_from(&bus, &Positions::new());
        let stopped = stop.clone();
        let read =
            tokio::spawn(async move { reader.next_batch(&patient, &stopped).await.unwrap().records.len() });
        stop.cancel();
        assert_eq!(tokio::time::timeout(DEADLINE, read).await.unwrap().unwrap(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_is_the_end_or_a_time() {
    for cluster in Cluster::each() {
        let bus = cluster.bus().await;
        let topic = events(&bus);
        let mut latest = bus.reader(&topic, &Positions::new(), Start::Latest).unwrap();
        publish(&bus, &some_events(100)).await;
        // The clock of the broker is this machine's, in milliseconds.
        tokio::time::sleep(Duration::from_millis(5)).await;
        let between = Utc::now();
        tokio::time::sleep(Duration::from_millis(5)).await;
        let stop = CancellationToken::new();
        assert!(latest.next_batch(&SMALL, &stop).await.unwrap().is_empty());
        let later: Vec<Event> = (100..150).map(|number| event(number, 50)).collect();
        publish(&bus, &later).await;

        assert_eq!(ids(&read(&mut latest, later.len(), &SMALL).await), sorted_ids(&later));
        let mut by_time = bus.reader(&topic, &Positions::new(), Start::At(between)).unwrap();
        assert_eq!(ids(&read(&mut by_time, later.len(), &SMALL).await), sorted_ids(&later));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_took_unread_is_an_error_until_someone_seeks() {
    for cluster in Cluster::each() {
        let bus = cluster.bus().await;
        let one_person: Vec<Event> = (0..50).map(|number| event(number, 1)).collect();
        publish(&bus, &one_person).await;
        let full = bus.watermarks(events(&bus).as_str()).await.unwrap();
        let partition =
            full.iter().find(|(_, (_, high))| *high == 50).map(|(partition, _)| *partition).unwrap();
        let mut positions = Positions::from([(partition, 10)]);
        delete_before(&cluster, events(&bus).as_str(), &[(partition, 30)]).await;

        let mut reader = read_from(&bus, &positions);
        let stop = CancellationToken::new();
        for _ in 0..2 {
            let error = reader.next_batch(&SMALL, &stop).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Operator, "{error}");
            let BusError::OffsetGone { partition: gone, wanted: 10, low: 30, .. } = error else {
                panic!("{error}")
            };
            assert_eq!(gone, partition);
        }
        assert!(reader.seek(partition, 20).await.is_err());
        reader.seek(partition, 30).await.unwrap();
        assert_eq!(ids(&read(&mut reader, 20, &SMALL).await), sorted_ids(&one_person[30..]));

        positions.insert(partition, 51);
        let error = read_from(&bus, &positions).next_batch(&SMALL, &stop).await.unwrap_err();
        assert!(matches!(error, BusError::OffsetAhead { wanted: 51, high: 50, .. }), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_that_overtakes_a_reader_at_work_is_not_passed_over() {
    for cluster in Cluster::each() {
        let bus = cluster.bus().await;
        let one_person: Vec<Event> = (0..50).map(|number| event(number, 1)).collect();
        publish(&bus, &one_person).await;
        let mut reader = read_from(&bus, &Positions::new());
        let batch = &read(&mut reader, 50, &SMALL).await[0];
        let partition = batch.ranges[0].partition;
        // Back to a place that is there now and is not when it is read.
        reader.seek(partition, 5).await.unwrap();
        delete_before(&cluster, events(&bus).as_str(), &[(partition, 40)]).await;
        let error = reader.next_batch(&SMALL, &CancellationToken::new()).await.unwrap_err();
        assert!(matches!(error, BusError::OffsetGone { wanted: 5, low: 40, .. }), "{error}");
        let error = reader.read_ranges(&batch.ranges).await.unwrap_err();
        assert!(matches!(error, BusError::OffsetGone { wanted: 0, low: 40, .. }), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_topic_is_read_whole_and_ends_with_the_last_word() {
    for cluster in Cluster::each() {
        let bus = cluster.bus().await;
        let topic = PROGRESS.of(bus.workspace());
        let publisher = bus.publisher(PublisherOptions::default()).unwrap();
        let progress = |low| Progress {
            destination: "hook".parse().unwrap(),
            topic: "t".to_owned(),
            partition: 0,
            cluster: "c".to_owned(),
            low,
            done: Vec::new(),
        };
        assert!(bus.read_all(&topic).await.unwrap().is_empty());
        for low in 0..20 {
            let _ = publisher.publish(&topic, [&progress(low)]).await.unwrap();
        }
        let all = bus.read_all(&topic).await.unwrap();
        assert_eq!(all.last().unwrap().message.as_ref().unwrap(), &progress(19));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_has_an_id_and_a_topic_that_is_not_there_is_named() {
    for cluster in Cluster::each() {
        let bus = cluster.bus().await;
        let topic = events(&bus);
        let identity = bus.identity(topic.as_str()).await.unwrap();
        assert!(!identity.cluster.is_empty());
        assert_eq!(identity, bus.identity(topic.as_str()).await.unwrap());
        let absent = EVENTS.lane(bus.workspace(), &"absent".parse().unwrap());
        let error = bus.watermarks(absent.as_str()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Operator, "{error}");
        assert!(error.to_string().contains(absent.as_str()), "{error}");
    }
}
