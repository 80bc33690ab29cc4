//! Records for topics of others.

use std::time::Duration;

use bytes::Bytes;
use millrace_bus::{BusError, ErrorKind, ForeignPublisher, ForeignRecord, KafkaSettings, PublisherOptions};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::cluster::{Cluster, DEADLINE, events};

fn publisher(brokers: &str) -> ForeignPublisher {
    let options =
        PublisherOptions { delivery_timeout: Duration::from_secs(20), ..PublisherOptions::default() };
    ForeignPublisher::new(KafkaSettings::new(brokers), options).unwrap()
}

fn record(topic: &str, key: Option<&str>, value: Option<&str>) -> ForeignRecord {
    ForeignRecord {
        topic: topic.to_owned(),
        key: key.map(|key| Bytes::copy_from_slice(key.as_bytes())),
        headers: vec![("id".to_owned(), Bytes::from_static(b"m-1"))],
        value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
    }
}

/// Key, header `id` and value of the record at a place.
fn read(brokers: &str, topic: &str, partition: i32, offset: i64) -> [Option<String>; 3] {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", "reads-one").create().unwrap();
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(topic, partition, Offset::Offset(offset)).unwrap();
    consumer.assign(&from).unwrap();
    let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
    let found = consumer.poll(DEADLINE).unwrap().unwrap();
    let header = found.headers().and_then(|headers| text(headers.get(0).value));
    [text(found.key()), header, text(found.payload())]
}

#[tokio::test]
async fn a_record_arrives_as_it_was_given_and_a_tombstone_without_value() {
    for cluster in Cluster::each() {
        let bus = cluster.bus().await;
        let topic = events(&bus).as_str().to_owned();
        let publisher = publisher(cluster.brokers());
        publisher.reach(&topic).await.unwrap();
        let records = [record(&topic, Some("k"), Some("{}")), record(&topic, Some("k"), None)];
        let placed: Vec<_> =
            publisher.publish(&records).await.into_iter().map(|answer| answer.unwrap()).collect();
        assert_eq!(placed[0].partition, placed[1].partition, "one key, one partition");
        assert!(placed[0].offset < placed[1].offset, "in order");
        let text = |text: &str| Some(text.to_owned());
        let read =
            |index: usize| read(cluster.brokers(), &topic, placed[index].partition, placed[index].offset);
        assert_eq!(read(0), [text("k"), text("m-1"), text("{}")]);
        assert_eq!(read(1), [text("k"), text("m-1"), None]);
    }
}

#[tokio::test]
async fn each_record_has_an_answer_of_its_own() {
    let cluster = Cluster::embedded();
    let bus = cluster.bus().await;
    let topic = events(&bus).as_str().to_owned();
    let publisher = publisher(cluster.brokers());
    let large = "x".repeat(8 * 1024 * 1024);
    let records = [
        record(&topic, None, Some("{}")),
        record(&topic, None, Some(&large)),
        record(&topic, None, Some("{}")),
    ];
    let answers = publisher.publish(&records).await;
    assert!(answers[0].is_ok() && answers[2].is_ok(), "{answers:?}");
    assert!(matches!(&answers[1], Err(BusError::TooLarge { bytes, .. }) if *bytes > large.len()));
    let missing = publisher.reach("no-such-topic").await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Operator, "{missing}");
}

#[test]
fn what_the_promises_depend_on_cannot_be_set_here_either() {
    let mut settings = KafkaSettings::new("localhost:9092");
    settings.properties.insert("acks".to_owned(), "0".to_owned());
    let error = ForeignPublisher::new(settings, PublisherOptions::default()).unwrap_err();
    assert!(error.to_string().contains("acks"), "{error}");
}
