//! Records as they are made, and what becomes of them at a broker.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use millrace_broker::EmbeddedBroker;
use millrace_bus::{Bus, KafkaSettings, ReplicationPolicy};
use millrace_connector::conformance::{self, Place};
use millrace_connector::{
    Context, Destination, Document, ErrorKind, HttpRequest, Item, ItemOutcome, Payload, Prepared, RequestBody,
};
use millrace_event_model::topics::{EVENTS, TopicName};
use millrace_event_model::{ChangeOp, Event, Lane, PartitionKey, Reason, Workspace, testing};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Kafka, config, entry, map, rudder};
use crate::destinations::trial::kept;

fn context() -> Context {
    Context { id: "stream".to_owned(), work_dir: "/nonexistent".into() }
}

fn event(fields: Value) -> Item {
    let document = Document::complete(fields.as_object().unwrap().clone());
    Item { id: "web/1".to_owned().into(), key: PartitionKey([0; 16]), payload: Payload::Document(document) }
}

fn record(more: Value, item: &Item) -> Result<HttpRequest, Reason> {
    let mut settings = json!({"brokers": "kafka:9092", "topic": "all",
        "topics": {"Order Completed": "orders", "identify": "people"}});
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    map::record(&config::parse(&settings, "stream").unwrap(), item)
}

#[test]
fn a_record_has_the_persons_key_and_the_topic_of_its_name_or_type() {
    let made = |fields: Value| record(json!({}), &event(fields)).unwrap();
    let order = made(json!({"type": "track", "event": "Order Completed", "userId": 7, "anonymousId": "a"}));
    assert_eq!((order.method.as_str(), order.url.as_str()), ("PRODUCE", "orders"));
    assert_eq!(order.query, [("key".to_owned(), "7".to_owned())]);
    assert_eq!(order.headers, [("millrace-id".to_owned(), "web/1".to_owned())]);
    let RequestBody::Json(body) = &order.body else { panic!("{order:?}") };
    assert_eq!(serde_json::from_slice::<Value>(body).unwrap()["event"], "Order Completed");
    let person = made(json!({"type": "identify", "anonymousId": "a"}));
    assert_eq!((person.url.as_str(), person.query[0].1.as_str()), ("people", "a"));
    let other = made(json!({"type": "track", "event": "Seen"}));
    assert_eq!((other.url.as_str(), other.query.len()), ("all", 0));
}

#[test]
fn an_event_chooses_its_topic_only_where_it_may() {
    let choosing = |name: &str| event(json!({"type": "track", "integrations": {"Kafka": {"topic": name}}}));
    assert_eq!(record(json!({}), &choosing("mine")).unwrap().url, "all");
    let may = json!({"event_topics": true});
    assert_eq!(record(may.clone(), &choosing("mine")).unwrap().url, "mine");
    let refused = record(may, &choosing("no topic")).unwrap_err();
    assert!(refused.code == "invalid_field" && !refused.message.contains("no topic"), "{refused:?}");
}

#[test]
fn a_row_that_is_gone_is_a_record_or_a_tombstone_with_the_rows_key() {
    let change = |op: ChangeOp| {
        let change = testing::change(op, r#"{"userId":"u"}"#);
        Item { id: change.idempotency_key(), key: change.key, payload: Payload::Change(change) }
    };
    let there = record(json!({"tombstones": true}), &change(ChangeOp::Upsert)).unwrap();
    let gone = record(json!({"tombstones": true}), &change(ChangeOp::Delete)).unwrap();
    assert_eq!(there.query, gone.query, "one key");
    assert_eq!(gone.body, RequestBody::None);
    let told = record(json!({}), &change(ChangeOp::Delete)).unwrap();
    let RequestBody::Json(body) = told.body else { panic!("no body") };
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["op"], "delete");
}

#[test]
fn rudderstacks_config_becomes_properties_of_librdkafka() {
    let config = json!({"hostName": "a, b:9093", "port": "9092", "topic": "t", "sslEnabled": true,
        "caCertificate": "PEM", "useSASL": true, "saslType": "sha512", "username": "u", "password": "p",
        "enableMultiTopic": true, "eventTypeToTopicMap": [{"from": "page", "to": "pages"}],
        "eventToTopicMap": [{"from": "Seen", "to": "seen"}, {"from": "", "to": "x"}]});
    let settings = rudder::settings(&config).unwrap();
    assert_eq!(settings["brokers"], "a:9092,b:9093");
    assert_eq!(settings.get("event_topics"), None, "who sends events writes to no other topic unasked");
    assert_eq!(settings["topics"], json!({"page": "pages", "Seen": "seen"}));
    let expected = json!({"security.protocol": "SASL_SSL", "ssl.ca.pem": "PEM", "sasl.mechanism":
        "SCRAM-SHA-512", "sasl.username": "u", "sasl.password": "p"});
    assert_eq!(settings["properties"], expected);
    let error = rudder::settings(&json!({"convertToAvro": true})).unwrap_err();
    assert!(error.message.contains("convertToAvro"));
}

#[test]
fn settings_that_are_wrong_are_told_without_secrets() {
    let refused = |more: Value| {
        let mut settings = json!({"brokers": "kafka:9092", "topic": "t"});
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Kafka::new(&settings, &context()).unwrap_err().full()
    };
    assert!(refused(json!({"topics": {"Seen": "no topic"}})).contains("no topic"));
    assert!(refused(json!({"properties": {"acks": "0"}})).contains("acks"));
    let unknown = refused(json!({"properties": {"sasl.pasword": "hunter2"}}));
    assert!(unknown.contains("sasl.pasword") && !unknown.contains("hunter2"), "{unknown}");
}

/// A broker, and a topic to write to.
struct Cluster {
    broker: EmbeddedBroker,
    bus: Bus,
    topic: TopicName<Event>,
    _folder: TempDir,
}

impl Cluster {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broker = EmbeddedBroker::start(folder.path(), None).unwrap();
        let workspace: Workspace = "acme".parse().unwrap();
        let bus = Bus::new(KafkaSettings::new(broker.bootstrap()), workspace.clone()).unwrap();
        bus.provision(&[Lane::main()], ReplicationPolicy::Single).await.unwrap();
        let topic = EVENTS.lane(&workspace, &Lane::main());
        Self { broker, bus, topic, _folder: folder }
    }
}

#[tokio::test]
async fn records_are_stored_and_each_has_its_outcome() {
    let Cluster { broker, bus, topic, _folder } = Cluster::start().await;
    let settings = json!({"brokers": broker.bootstrap(), "topic": topic.as_str()});
    let kafka = Kafka::new(&settings, &context()).unwrap();
    kafka.check().await.unwrap();
    let prepared = |fields: Value| {
        let item = event(fields);
        Prepared::of(&item, kafka.transform(&item).unwrap())
    };
    let large = "x".repeat(4 * 1024 * 1024);
    let batch = vec![
        prepared(json!({"type": "track", "event": "Seen", "userId": "u"})),
        prepared(json!({"type": "track", "event": "Seen", "userId": "u", "properties": {"large": large}})),
        prepared(json!({"type": "page", "userId": "v"})),
    ];
    let outcomes = kafka.deliver(batch).await;
    let [ItemOutcome::Delivered, ItemOutcome::Rejected(reason), ItemOutcome::Delivered] = &outcomes[..]
    else {
        panic!("{outcomes:?}")
    };
    assert_eq!(reason.code, "record_refused");
    let stored: i64 =
        bus.watermarks(topic.as_str()).await.unwrap().values().map(|(low, high)| high - low).sum();
    assert_eq!(stored, 2);

    let elsewhere = json!({"brokers": broker.bootstrap(), "topic": "no-such-topic"});
    let error = Kafka::new(&elsewhere, &context()).unwrap().check().await.unwrap_err();
    assert!(error.kind == ErrorKind::Pause && error.context.contains("no-such-topic"), "{error:?}");
    let elsewhere =
        json!({"brokers": broker.bootstrap(), "topic": topic.as_str(), "topics": {"Seen": "nor-this"}});
    let error = Kafka::new(&elsewhere, &context()).unwrap().check().await.unwrap_err();
    assert!(error.kind == ErrorKind::Pause && error.context.contains("nor-this"), "{error:?}");
    assert!(kafka.limits().timeout > Duration::from_secs(20), "the producer says it first");
    broker.stop().await;
}

#[tokio::test]
async fn a_topic_that_an_event_chose_and_that_is_not_there_fails_that_event_alone() {
    let Cluster { broker, bus: _, topic, _folder } = Cluster::start().await;
    let settings = json!({"brokers": broker.bootstrap(), "topic": topic.as_str(), "event_topics": true,
        "topics": {"Lost": "of-the-settings"}});
    let kafka = Kafka::new(&settings, &context()).unwrap();
    let prepared = |fields: Value| {
        let item = event(fields);
        Prepared::of(&item, kafka.transform(&item).unwrap())
    };
    let batch = vec![
        prepared(json!({"type": "page", "integrations": {"Kafka": {"topic": "of-the-client"}}})),
        prepared(json!({"type": "page"})),
        prepared(json!({"type": "track", "event": "Lost"})),
    ];
    let outcomes = kafka.deliver(batch).await;
    let [ItemOutcome::Rejected(own), ItemOutcome::Delivered, ItemOutcome::Config(named)] = &outcomes[..]
    else {
        panic!("{outcomes:?}")
    };
    assert!(own.code == "topic_refused" && !own.message.contains("of-the-client"), "{own:?}");
    assert!(named.code == "kafka_refused" && named.message.contains("of-the-settings"), "{named:?}");
    for missing in ["of-the-client", "of-the-settings"] {
        let there = json!({"brokers": broker.bootstrap(), "topic": missing});
        let error = Kafka::new(&there, &context()).unwrap().check().await.unwrap_err();
        assert_eq!(error.code, "kafka_refused", "no topic is made");
    }
    broker.stop().await;
}

#[tokio::test]
async fn deliver_gets_what_every_destination_owes_it() {
    let Cluster { broker, bus, topic, _folder } = Cluster::start().await;
    let (bus, topic) = (&bus, &topic);
    // Nobody listens on the port of a listener that is gone.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let at = |brokers: String| {
        let properties = json!({"sasl.password": "secret-of-a-test"});
        json!({"brokers": brokers, "topic": topic.as_str(), "properties": properties})
    };
    let too_large = json!({"type": "track", "properties": {"large": "x".repeat(4 * 1024 * 1024)}});
    let place = Place {
        settings: at(broker.bootstrap()),
        nowhere: at(gone.to_string()),
        secrets: vec!["secret-of-a-test".to_owned()],
        refused: Some(event(too_large)),
        look: Box::new(move || {
            Box::pin(async move {
                let marks = bus.watermarks(topic.as_str()).await.unwrap();
                marks.values().map(|(low, high)| high - low).sum::<i64>().to_string()
            })
        }),
    };
    let mut impatient = entry();
    impatient.build = Arc::new(|settings, context| {
        Ok(Arc::new(Kafka::with_timeout(settings, context, Duration::from_secs(1))?))
    });
    let promises = conformance::any_destination(&impatient, place).await;
    kept(&promises, &["D1", "D2", "D4", "D5", "D6", "D8", "D11", "D13", "D14", "D15"]);
    broker.stop().await;
}
