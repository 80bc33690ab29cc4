//! From settings to the configuration of each kind of Kafka client, and where its log goes.

use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::statistics::Statistics;

use crate::publish::PublisherOptions;
use crate::{BusError, KafkaSettings};
use millrace_event_model::topics::MAX_MESSAGE_BYTES;

/// Properties that a user cannot set, and why.
const RESERVED: [(&str, &str); 18] = [
    ("bootstrap.servers", "it is `brokers`"),
    ("metadata.broker.list", "it is `brokers`"),
    ("acks", "HTTP 200 means that all in-sync replicas have the event"),
    ("request.required.acks", "HTTP 200 means that all in-sync replicas have the event"),
    ("enable.idempotence", "without it a retry inside the client may double or reorder events"),
    ("transactional.id", "transactions are not used: positions live with the data"),
    ("partitioner", "another one would move keys to other partitions and break their order"),
    ("delivery.timeout.ms", "each stage sets it to what it promises"),
    ("message.timeout.ms", "each stage sets it to what it promises"),
    ("allow.auto.create.topics", "a topic with a wrong name must be an error, never a new topic"),
    ("auto.offset.reset", "a position that is gone must be an error, never a silent skip"),
    ("enable.auto.commit", "a position is committed after the data is durable, never by the clock"),
    ("enable.auto.offset.store", "a position is committed after the data is durable, never by the clock"),
    ("partition.assignment.strategy", "members of one group must agree on it"),
    ("group.id", "it follows from the workspace and the reader"),
    ("group.instance.id", "it follows from the destination and the member"),
    ("group.protocol", "the drain on revocation is made for the classic protocol"),
    ("enable.partition.eof", "exact reads depend on it"),
];

/// A broker that comes back is found within a second; the client's own bound is ten.
const RECONNECT_BACKOFF_MAX_MS: &str = "1000";

/// What a client may hold that the stage has not taken yet. The client's own bound is 64 MiB for each
/// consumer, which twenty connections would make a gigabyte.
const READER_QUEUE_KIB: &str = "8192";
const MEMBER_QUEUE_KIB: &str = "4096";

/// What a broker may answer a reader at once: a queue is over its bound by one answer, which decompressed is three to
/// four times as large. The client's own bound is that of the queue.
const READER_FETCH_BYTES: &str = "2097152";

/// A member's queue is over its bound by one answer of a broker, which is 50 MiB before it is decompressed unless
/// the client asks for less.
const MEMBER_FETCH_BYTES: &str = "1048576";

/// How long the broker may wait for the first message of those partitions of a member that are asked for. The
/// others, whose messages were enough for the moment, are asked for only after that: with the client's own half a
/// second an empty partition would slow the full ones down to a queue's worth each half a second. For it
/// an idle member asks each broker twenty times a second.
const MEMBER_FETCH_WAIT_MS: &str = "50";

/// How soon a consumer asks again after its queue was full or a fetch failed; the client's own bounds of
/// one and half a second would be felt as a stall.
const FETCH_BACKOFF_MS: &str = "20";

/// How long a topic that the cluster does not know may be one that was made just now. The client's own bound
/// is half a minute: longer than a record of [`crate::ForeignPublisher`] may take, so that a topic that is not
/// there would look like a broker that does not answer.
const FOREIGN_TOPIC_PROPAGATION_MS: &str = "5000";

/// Java's default partitioner for keyed records, so that a key lies where other tools expect it.
const PARTITIONER: &str = "murmur2_random";

pub(crate) fn check(settings: &KafkaSettings) -> Result<(), BusError> {
    for (property, reason) in RESERVED {
        if settings.properties.contains_key(property) {
            return Err(BusError::ReservedProperty { property: property.to_owned(), reason });
        }
    }
    base(settings).create_native_config().map(|_| ()).map_err(BusError::settings)
}

/// Our defaults first, then the user's properties; what is reserved comes after both.
fn base(settings: &KafkaSettings) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("client.id", "millrace")
        .set("socket.keepalive.enable", "true")
        .set("reconnect.backoff.max.ms", RECONNECT_BACKOFF_MAX_MS)
        .set("queued.max.messages.kbytes", READER_QUEUE_KIB)
        .set("fetch.queue.backoff.ms", FETCH_BACKOFF_MS)
        .set("fetch.error.backoff.ms", FETCH_BACKOFF_MS);
    for (property, value) in &settings.properties {
        config.set(property, value);
    }
    config.set("bootstrap.servers", &settings.brokers);
    // Everything is handed to `log` below, which hands it on to the log's own filter.
    config.set_log_level(RDKafkaLogLevel::Info);
    config
}

pub(crate) fn admin(settings: &KafkaSettings) -> ClientConfig {
    base(settings)
}

pub(crate) fn producer(settings: &KafkaSettings, options: &PublisherOptions) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("compression.type", "lz4")
        .set("linger.ms", options.linger.as_millis().to_string())
        .set("queue.buffering.max.messages", options.queue_messages.to_string())
        .set("queue.buffering.max.kbytes", (options.queue_bytes / 1024).max(1).to_string())
        .set("message.max.bytes", MAX_MESSAGE_BYTES.to_string());
    let shared = base(settings);
    for (property, value) in shared.config_map() {
        config.set(property, value);
    }
    config
        .set("acks", "all")
        .set("enable.idempotence", "true")
        // A producer asks the broker to make what it does not know, unless it is told not to.
        .set("allow.auto.create.topics", "false")
        .set("partitioner", PARTITIONER)
        .set("delivery.timeout.ms", options.delivery_timeout.as_millis().to_string());
    config.set_log_level(RDKafkaLogLevel::Info);
    config
}

/// For topics of others.
pub(crate) fn foreign_producer(settings: &KafkaSettings, options: &PublisherOptions) -> ClientConfig {
    let mut config = producer(settings, options);
    if !settings.properties.contains_key("topic.metadata.propagation.max.ms") {
        config.set("topic.metadata.propagation.max.ms", FOREIGN_TOPIC_PROPAGATION_MS);
    }
    config
}

fn consumer(settings: &KafkaSettings, group: &str) -> ClientConfig {
    let mut config = base(settings);
    config
        .set("group.id", group)
        .set("auto.offset.reset", "error")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false");
    if !sizes_fetches(settings) {
        config.set("fetch.max.bytes", READER_FETCH_BYTES);
    }
    config
}

/// Whether somebody has said how much is fetched at once, or must be: the client refuses answers that are smaller than
/// its largest message.
fn sizes_fetches(settings: &KafkaSettings) -> bool {
    let properties = [
        "fetch.max.bytes",
        "message.max.bytes",
        "max.partition.fetch.bytes",
        "fetch.message.max.bytes",
        "queued.max.messages.kbytes",
    ];
    properties.iter().any(|property| settings.properties.contains_key(*property))
}

/// For a consumer that is assigned by hand. It never joins its group, but the client wants a name.
pub(crate) fn reader(settings: &KafkaSettings, group: &str) -> ClientConfig {
    consumer(settings, group)
}

/// As [`reader`], and it tells when it has reached the end of a partition.
pub(crate) fn exact_reader(settings: &KafkaSettings, group: &str) -> ClientConfig {
    let mut config = consumer(settings, group);
    config.set("enable.partition.eof", "true");
    config
}

/// For a member of a group.
pub(crate) fn member(
    settings: &KafkaSettings,
    group: &str,
    instance: Option<&str>,
    session_timeout: Duration,
    max_poll_interval: Duration,
) -> ClientConfig {
    let mut config = consumer(settings, group);
    config
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", session_timeout.as_millis().to_string())
        .set("max.poll.interval.ms", max_poll_interval.as_millis().to_string());
    if !sizes_fetches(settings) {
        config.set("fetch.max.bytes", MEMBER_FETCH_BYTES);
    }
    for (property, value) in
        [("queued.max.messages.kbytes", MEMBER_QUEUE_KIB), ("fetch.wait.max.ms", MEMBER_FETCH_WAIT_MS)]
    {
        if !settings.properties.contains_key(property) {
            config.set(property, value);
        }
    }
    if let Some(instance) = instance {
        config.set("group.instance.id", instance);
    }
    config
}

/// Hands the client's log to ours.
pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        // A broker that is away is an error of the call that needed it and is logged there, once; the client
        // says it again with each try to connect.
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error
        | RDKafkaLogLevel::Warning => tracing::debug!(target: "kafka", facility, message, "client warning"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
            tracing::trace!(target: "kafka", facility, message, "client log");
        }
    }
}

/// The context of clients that need no callbacks.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn stats(&self, _statistics: Statistics) {}

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "kafka", %error, reason, "client error");
    }
}

impl rdkafka::consumer::ConsumerContext for Quiet {}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn with(property: &str, value: &str) -> KafkaSettings {
        let mut settings = KafkaSettings::new("localhost:9092");
        settings.properties.insert(property.to_owned(), value.to_owned());
        settings
    }

    #[test]
    fn what_the_promises_depend_on_cannot_be_set() {
        for (property, _) in RESERVED {
            let error = check(&with(property, "1")).unwrap_err();
            assert!(error.to_string().contains(property), "{error}");
        }
    }

    #[test]
    fn a_property_that_kafka_does_not_know_is_refused() {
        assert!(check(&with("no.such.property", "1")).is_err());
        assert!(check(&with("fetch.wait.max.ms", "many")).is_err());
        assert!(check(&with("fetch.wait.max.ms", "20")).is_ok());
    }

    #[test]
    fn clients_can_be_made_for_messages_that_are_larger_than_ours() {
        let settings = with("message.max.bytes", "4194304");
        let member = member(&settings, "g", None, Duration::from_secs(45), Duration::from_secs(300));
        for config in [reader(&settings, "g"), member] {
            let made: Result<rdkafka::consumer::BaseConsumer, _> = config.create();
            assert!(made.is_ok(), "{:?}", made.err());
        }
    }

    #[test]
    fn what_is_refused_is_named_without_its_value() {
        for (property, value) in [("sasl.pasword", "hunter2"), ("fetch.wait.max.ms", "hunter2")] {
            let error = check(&with(property, value)).unwrap_err();
            let told = format!("{error}: {} {error:?}", std::error::Error::source(&error).unwrap());
            assert!(told.contains(property) && !told.contains(value), "{told}");
        }
    }

    #[test]
    fn a_user_tunes_what_is_not_reserved() {
        let settings = with("compression.type", "zstd");
        let config = producer(&settings, &PublisherOptions::default());
        assert_eq!(config.get("compression.type"), Some("zstd"));
        assert_eq!(config.get("acks"), Some("all"));
    }

    #[test]
    fn no_producer_makes_topics() {
        let settings = KafkaSettings::new("localhost:9092");
        for make in [producer, foreign_producer] {
            let config = make(&settings, &PublisherOptions::default());
            assert_eq!(config.get("allow.auto.create.topics"), Some("false"));
        }
    }
}
