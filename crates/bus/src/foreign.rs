//! Publishing to topics that are somebody else's: any name, key and headers, and an answer for each record.
//!
//! What [`crate::Publisher`] promises for our own topics holds here too, record by record: an `Ok` is on all
//! in-sync replicas. Typed topics and their contracts are not: whoever owns a topic says what is in it.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer as _};

use crate::client::QUERY_TIMEOUT;
use crate::config::{self, Quiet};
use crate::{BusError, KafkaSettings, Placed, PublisherOptions};

/// A record for somebody else's topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignRecord {
    /// The topic's name.
    pub topic: String,
    /// What decides the partition; none: any.
    pub key: Option<Bytes>,
    /// Names and values.
    pub headers: Vec<(String, Bytes)>,
    /// The content; none is a tombstone, which takes the key out of a compacted topic.
    pub value: Option<Bytes>,
}

impl ForeignRecord {
    fn bytes(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        let length = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
        headers + length(&self.key) + length(&self.value)
    }
}

/// Publishes to any topic of a cluster. Nothing is connected before the first record.
pub struct ForeignPublisher {
    settings: KafkaSettings,
    options: PublisherOptions,
    producer: Mutex<Arc<Producer>>,
}

type Producer = FutureProducer<Quiet>;

impl std::fmt::Debug for ForeignPublisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ForeignPublisher").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl ForeignPublisher {
    /// A producer of its own.
    ///
    /// # Errors
    /// A property is unknown, malformed or reserved.
    pub fn new(settings: KafkaSettings, options: PublisherOptions) -> Result<Self, BusError> {
        config::check(&settings)?;
        let producer = Mutex::new(Arc::new(make(&settings, &options)?));
        Ok(Self { settings, options, producer })
    }

    /// Publishes records, those of one key in their order, and returns when each is acked or has failed,
    /// within the delivery timeout: one answer for each, in their order.
    pub async fn publish(&self, records: &[ForeignRecord]) -> Vec<Result<Placed, BusError>> {
        let producer = Arc::clone(&self.producer.lock().unwrap_or_else(PoisonError::into_inner));
        let sent: Vec<_> = records.iter().map(|record| enqueue(&producer, record)).collect();
        let mut answers = Vec::with_capacity(records.len());
        for (record, sent) in records.iter().zip(sent) {
            answers.push(match sent {
                Ok(delivery) => acked(record, delivery).await,
                Err(error) => Err(failure(record, error)),
            });
        }
        if answers.iter().any(Result::is_err) {
            self.replace_if_broken(&producer);
        }
        answers
    }

    /// Whether the cluster answers and has the topic. Makes nothing, where the cluster would make topics on
    /// demand: it is asked for all there are.
    ///
    /// # Errors
    /// It does not answer, refuses the credentials, or has no such topic.
    pub async fn reach(&self, topic: &str) -> Result<(), BusError> {
        let producer = Arc::clone(&self.producer.lock().unwrap_or_else(PoisonError::into_inner));
        let asked = tokio::task::spawn_blocking(move || {
            let metadata = producer.client().fetch_metadata(None, QUERY_TIMEOUT)?;
            Ok(metadata.topics().iter().map(|topic| topic.name().to_owned()).collect::<Vec<_>>())
        });
        // The blocking task panics nowhere, so it is missing only while the runtime shuts down.
        let topics = asked.await.unwrap_or(Err(KafkaError::Canceled));
        let topics = topics.map_err(BusError::kafka("ask for the topics there are"))?;
        if topics.iter().any(|known| known == topic) {
            return Ok(());
        }
        let source = KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition);
        Err(BusError::Kafka { doing: format!("find the topic {topic}"), source })
    }

    /// A fatal error is for ever: the library refuses every further record of that producer.
    fn replace_if_broken(&self, used: &Arc<Producer>) {
        let Some((code, reason)) = used.client().fatal_error() else { return };
        let mut current = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&current, used) {
            return;
        }
        match make(&self.settings, &self.options) {
            Ok(new) => {
                tracing::warn!(%code, reason, "the producer was broken and has been replaced");
                *current = Arc::new(new);
            }
            Err(error) => tracing::error!(%error, "the broken producer cannot be replaced"),
        }
    }
}

fn make(settings: &KafkaSettings, options: &PublisherOptions) -> Result<Producer, BusError> {
    config::foreign_producer(settings, options).create_with_context(Quiet).map_err(BusError::settings)
}

/// Hands a record to the library, which copies it.
fn enqueue(producer: &Producer, record: &ForeignRecord) -> Result<DeliveryFuture, KafkaError> {
    let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
    for (name, value) in &record.headers {
        headers = headers.insert(Header { key: name, value: Some(value.as_ref()) });
    }
    let mut out = FutureRecord::<[u8], [u8]>::to(&record.topic).headers(headers);
    out.key = record.key.as_deref();
    out.payload = record.value.as_deref();
    producer.send_result(out).map_err(|(error, _)| error)
}

async fn acked(record: &ForeignRecord, delivery: DeliveryFuture) -> Result<Placed, BusError> {
    match delivery.await {
        Ok(Ok(stored)) => Ok(Placed { partition: stored.partition, offset: stored.offset }),
        Ok(Err((error, _))) => Err(failure(record, error)),
        // The producer was dropped; whether it is stored is not known.
        Err(_) => Err(failure(record, KafkaError::Canceled)),
    }
}

fn failure(record: &ForeignRecord, error: KafkaError) -> BusError {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::QueueFull) => BusError::QueueFull,
        Some(RDKafkaErrorCode::MessageSizeTooLarge) => {
            BusError::TooLarge { topic: record.topic.clone(), bytes: record.bytes() }
        }
        _ => BusError::Kafka { doing: format!("publish to {}", record.topic), source: error },
    }
}
