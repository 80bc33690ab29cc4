//! Publishing: a call returns when every message of it is on all in-sync replicas.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use metrics::Counter;
use millrace_event_model::topics::{MAX_MESSAGE_BYTES, TopicName};
use millrace_event_model::wire::{Message, RecordRef, WriteRecord};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::statistics::Statistics;
use tokio::sync::Notify;

use crate::{BusError, KafkaSettings, config};

/// How a producer trades latency, memory and patience.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublisherOptions {
    /// How long a message may wait for others to share its batch.
    pub linger: Duration,
    /// After this long without acknowledgement a call fails; the broker may be away for shorter.
    pub delivery_timeout: Duration,
    /// At most so many messages wait in this process; one more is [`BusError::QueueFull`].
    pub queue_messages: usize,
    /// At most so many bytes of them.
    pub queue_bytes: usize,
}

impl Default for PublisherOptions {
    fn default() -> Self {
        Self {
            linger: Duration::from_millis(5),
            delivery_timeout: Duration::from_secs(30),
            queue_messages: 100_000,
            queue_bytes: 256 * 1024 * 1024,
        }
    }
}

/// Where a message is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Placed {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
}

/// All messages of a call are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Acked {
    count: usize,
    first: Option<Placed>,
}

impl Acked {
    /// How many messages.
    pub fn count(self) -> usize {
        self.count
    }
}

/// Publishes to typed topics. Cheap to clone; the clones share one producer.
///
/// The producer is idempotent: within one [`Publisher`] no retry of the client library doubles a message
/// or swaps two of one key, as long as none runs into the delivery timeout. One that does ends the producer's
/// epoch; those that shared its request are sent again in the next, and may then be stored twice, in their
/// order. Consumers know them by their ids. When the library declares the producer broken (a *fatal* error, such as a
/// sequence that the broker has forgotten), the next call makes a new one.
#[derive(Clone)]
pub struct Publisher(Arc<Shared>);

struct Shared {
    settings: KafkaSettings,
    options: PublisherOptions,
    producer: Mutex<Arc<Producer>>,
    /// By topic: looking a counter up by its labels takes longer than enqueuing a message.
    published: Mutex<Vec<(String, Counter)>>,
}

type Producer = ThreadedProducer<Deliveries>;

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").field("options", &self.0.options).finish_non_exhaustive()
    }
}

impl Publisher {
    pub(crate) fn new(settings: KafkaSettings, options: PublisherOptions) -> Result<Self, BusError> {
        let producer = Mutex::new(Arc::new(make_producer(&settings, &options)?));
        Ok(Self(Arc::new(Shared { settings, options, producer, published: Mutex::default() })))
    }

    /// Publishes messages, each to the partition of its key, and returns when **all** are acknowledged by
    /// all in-sync replicas.
    ///
    /// # Errors
    /// Not all were acknowledged, within the delivery timeout at the latest. Some may be stored all the
    /// same. Dropping the future takes nothing back.
    pub async fn publish<M, W: WriteRecord<M>>(
        &self,
        topic: &TopicName<M>,
        messages: impl IntoIterator<Item = W>,
    ) -> Result<Acked, BusError> {
        self.enqueue(topic, messages)?.acked().await
    }

    /// Publishes one message to a partition by number: barriers go to each of them.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub async fn publish_to<M: Message>(
        &self,
        topic: &TopicName<M>,
        partition: i32,
        message: &M,
    ) -> Result<Placed, BusError> {
        let acked = self.enqueue_all(topic, [(message, Some(partition))])?.acked().await?;
        // One message was acked, so it has one place.
        Ok(acked.first.unwrap_or(Placed { partition, offset: -1 }))
    }

    /// Hands messages to the producer without waiting: the order of calls is the order of messages of one
    /// key. Await [`Pending::acked`] afterwards; meanwhile more can be enqueued.
    ///
    /// # Errors
    /// [`BusError::QueueFull`], [`BusError::TooLarge`], or the producer is broken; what came before in the
    /// call is on its way all the same.
    pub fn enqueue<M, W: WriteRecord<M>>(
        &self,
        topic: &TopicName<M>,
        messages: impl IntoIterator<Item = W>,
    ) -> Result<Pending, BusError> {
        self.enqueue_all(topic, messages.into_iter().map(|message| (message, None)))
    }

    /// Returns when nothing is on its way any more.
    ///
    /// # Errors
    /// Something still is after the delivery timeout.
    pub async fn flush(&self) -> Result<(), BusError> {
        let producer = self.producer();
        let timeout = self.0.options.delivery_timeout;
        let flushed = tokio::task::spawn_blocking(move || producer.flush(timeout)).await;
        flushed.unwrap_or(Err(KafkaError::Canceled)).map_err(BusError::kafka("flush the producer"))
    }

    fn enqueue_all<M, W: WriteRecord<M>>(
        &self,
        topic: &TopicName<M>,
        messages: impl IntoIterator<Item = (W, Option<i32>)>,
    ) -> Result<Pending, BusError> {
        let producer = self.producer();
        let acks = Arc::new(Acks::new());
        let mut sent = 0;
        for (message, partition) in messages {
            message
                .write(|record| send(&producer, topic.as_str(), record, partition, &acks))
                .inspect_err(|_| self.replace_if_broken(&producer))?;
            sent += 1;
        }
        acks.release();
        self.count_published(topic.as_str(), sent);
        let topic = topic.as_str().to_owned();
        Ok(Pending { publisher: self.clone(), producer, topic, acks, sent })
    }

    fn count_published(&self, topic: &str, messages: usize) {
        let mut counters = self.0.published.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, counter)) = counters.iter().find(|(known, _)| known == topic) {
            return counter.increment(messages as u64);
        }
        let counter = metrics::counter!("millrace_bus_published_messages_total", "topic" => topic.to_owned());
        counter.increment(messages as u64);
        counters.push((topic.to_owned(), counter));
    }

    fn producer(&self) -> Arc<Producer> {
        Arc::clone(&self.0.producer.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A fatal error is for ever: the library refuses every further message of that producer.
    fn replace_if_broken(&self, used: &Arc<Producer>) {
        let Some((code, reason)) = used.client().fatal_error() else { return };
        let mut current = self.0.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&current, used) {
            return;
        }
        match make_producer(&self.0.settings, &self.0.options) {
            Ok(new) => {
                tracing::warn!(%code, reason, "the producer was broken and has been replaced");
                metrics::counter!("millrace_bus_producers_replaced_total").increment(1);
                *current = Arc::new(new);
            }
            Err(error) => tracing::error!(%error, "the broken producer cannot be replaced"),
        }
    }
}

/// Messages on their way.
#[must_use = "a message counts only when it is acked"]
pub struct Pending {
    publisher: Publisher,
    producer: Arc<Producer>,
    topic: String,
    acks: Arc<Acks>,
    sent: usize,
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Pending {
    /// Waits for all of them.
    ///
    /// # Errors
    /// As [`Publisher::publish`].
    pub async fn acked(self) -> Result<Acked, BusError> {
        // The library looks for messages that are too old once a second: this bound is the exact one.
        let waited = self.publisher.0.options.delivery_timeout;
        let result = match tokio::time::timeout(waited, self.acks.settled.notified()).await {
            Ok(()) => self.acks.outcome(&self.topic, self.sent),
            Err(_) => Err(BusError::AckTimeout { topic: self.topic.clone(), waited }),
        };
        if result.is_err() {
            metrics::counter!("millrace_bus_publish_errors_total", "topic" => self.topic).increment(1);
            self.publisher.replace_if_broken(&self.producer);
        }
        result
    }
}

/// The acknowledgements of one call: one counter, however many messages. It goes with each of them through
/// the library, and comes back with its delivery report.
struct Acks {
    /// Messages that are under way, and one for the call as long as it enqueues more.
    open: AtomicUsize,
    failed: AtomicUsize,
    first: OnceLock<Placed>,
    first_failure: OnceLock<KafkaError>,
    /// Told once, when nothing is open any more.
    settled: Notify,
}

impl Acks {
    fn new() -> Self {
        Self {
            open: AtomicUsize::new(1),
            failed: AtomicUsize::new(0),
            first: OnceLock::new(),
            first_failure: OnceLock::new(),
            settled: Notify::new(),
        }
    }

    /// One more message is under way.
    fn expect_one(self: &Arc<Self>) -> Arc<Self> {
        self.open.fetch_add(1, Ordering::Relaxed);
        Arc::clone(self)
    }

    fn settle(&self, result: Result<Placed, KafkaError>) {
        match result {
            // Only the first of each is kept.
            Ok(placed) => drop(self.first.set(placed)),
            Err(error) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                drop(self.first_failure.set(error));
            }
        }
        self.release();
    }

    /// Release: what was noted before is seen by whoever is told.
    fn release(&self) {
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.settled.notify_one();
        }
    }

    fn outcome(&self, topic: &str, sent: usize) -> Result<Acked, BusError> {
        if let Some(source) = self.first_failure.get() {
            let failed = self.failed.load(Ordering::Relaxed);
            return Err(BusError::NotAcked { topic: topic.to_owned(), sent, failed, source: source.clone() });
        }
        Ok(Acked { count: sent, first: self.first.get().copied() })
    }
}

struct Deliveries;

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        config::log(level, facility, message);
    }

    fn stats(&self, _statistics: Statistics) {}

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "kafka", %error, reason, "producer error");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Arc<Acks>;

    fn delivery(&self, result: &DeliveryResult<'_>, acks: Arc<Acks>) {
        let result = match result {
            Ok(message) => Ok(Placed { partition: message.partition(), offset: message.offset() }),
            Err((error, _)) => Err(error.clone()),
        };
        acks.settle(result);
    }
}

fn make_producer(settings: &KafkaSettings, options: &PublisherOptions) -> Result<Producer, BusError> {
    config::producer(settings, options).create_with_context(Deliveries).map_err(BusError::settings)
}

fn send(
    producer: &Producer,
    topic: &str,
    record: RecordRef<'_>,
    partition: Option<i32>,
    acks: &Arc<Acks>,
) -> Result<(), BusError> {
    let bytes = record.size();
    if bytes > MAX_MESSAGE_BYTES {
        return Err(BusError::TooLarge { topic: topic.to_owned(), bytes });
    }
    let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
    for (key, value) in record.headers {
        headers = headers.insert(Header { key, value: Some(*value) });
    }
    let mut base = BaseRecord::with_opaque_to(topic, acks.expect_one()).headers(headers);
    base.key = record.key;
    base.payload = record.value;
    base.partition = partition;
    // A message that was not taken has no delivery report; nor does its call wait for one.
    let Err((error, _)) = producer.send(base) else { return Ok(()) };
    match error {
        KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) => Err(BusError::QueueFull),
        KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge) => {
            Err(BusError::TooLarge { topic: topic.to_owned(), bytes })
        }
        source => Err(BusError::Kafka { doing: format!("publish to {topic}"), source }),
    }
}
