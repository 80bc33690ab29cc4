//! Topics of another Kafka cluster, or of another owner on the same one: each event or change is a record.
//!
//! No HTTP is spoken here, but a request is written in its terms, so that a preview shows it: the method is
//! `PRODUCE`, the address the topic, the query the record's key, the headers and the body those of the
//! record. A record without a body is a tombstone.
//!
//! The guard of addresses does not hold here: a cluster tells its brokers' names itself, and most are
//! inside.

mod config;
mod map;
mod rudder;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use millrace_bus::{BusError, ErrorKind as BusErrorKind, ForeignPublisher, ForeignRecord, PublisherOptions};
use millrace_connector::{
    ConnectorError, Context, Destination, DestinationEntry, DisplayName, ErrorKind, HttpRequest, Item,
    ItemOutcome, Limits, Prepared, RequestBody,
};
use millrace_event_model::Reason;
use serde_json::Value;

use crate::http::unanswered;
pub use config::Settings;

/// The line of the list of connectors.
#[must_use]
pub fn entry() -> DestinationEntry {
    DestinationEntry::new(
        "kafka",
        "Records in topics of a Kafka cluster",
        config::schema,
        |settings, context| Ok(Arc::new(Kafka::new(settings, context)?)),
    )
    .with_rudder("KAFKA", [DisplayName::new("Apache Kafka")], rudder::settings)
}

/// Records of one call. They share the producer's batches with those of other calls.
const BATCH_RECORDS: usize = 1_000;

/// Bytes of one call: a few of the producer's own batches.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Calls under way at once: while one waits for its acknowledgements, others are filled.
const CONCURRENCY: usize = 4;

/// A record that is not acked by then is tried again by deliver, which says so.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(20);

/// What deliver waits beyond it, so that it is the producer who says what happened.
const GRACE: Duration = Duration::from_secs(5);

/// What waits in the producer: no more than deliver gives it at once.
const QUEUE_BYTES: usize = 64 * 1024 * 1024;

/// Without the topic's name, which is the client's.
const OWN_TOPIC_REFUSED: &str =
    "integrations.Kafka.topic names a topic that is not there, or that these credentials may not write";

/// Topics of one cluster.
#[derive(Debug)]
pub struct Kafka {
    settings: Settings,
    publisher: ForeignPublisher,
    delivery_timeout: Duration,
}

impl Kafka {
    /// Reads the settings. Nothing is connected yet.
    ///
    /// # Errors
    /// `Pause`: the settings are not right.
    pub fn new(settings: &Value, context: &Context) -> Result<Self, ConnectorError> {
        Self::with_timeout(settings, context, DELIVERY_TIMEOUT)
    }

    fn with_timeout(
        settings: &Value,
        context: &Context,
        delivery_timeout: Duration,
    ) -> Result<Self, ConnectorError> {
        let settings = config::parse(settings, &context.id)?;
        let options = PublisherOptions {
            delivery_timeout,
            queue_messages: BATCH_RECORDS * CONCURRENCY * 2,
            queue_bytes: QUEUE_BYTES,
            ..PublisherOptions::default()
        };
        let publisher = ForeignPublisher::new(settings.cluster(), options).map_err(|error| {
            let context = format!("settings of destination {:?}: properties are not right", context.id);
            ConnectorError::pause("invalid_settings", context).caused_by(error)
        })?;
        Ok(Self { settings, publisher, delivery_timeout })
    }
}

#[async_trait]
impl Destination for Kafka {
    async fn check(&self) -> Result<(), ConnectorError> {
        for topic in self.settings.named_topics() {
            self.publisher.reach(topic).await.map_err(|error| failure(topic, error))?;
        }
        Ok(())
    }

    fn limits(&self) -> Limits {
        Limits {
            max_items: BATCH_RECORDS,
            max_bytes: BATCH_BYTES,
            max_wait: Duration::ZERO,
            concurrency: CONCURRENCY,
            timeout: self.delivery_timeout + GRACE,
            rate: None,
            ordered: true,
            // The producer has many records under way, and one may be refused alone.
            together: false,
        }
    }

    fn transform(&self, item: &Item) -> Result<Vec<HttpRequest>, Reason> {
        Ok(vec![map::record(&self.settings, item)?])
    }

    async fn deliver(&self, batch: Vec<Prepared>) -> Vec<ItemOutcome> {
        // One record for each item: `transform` makes no more and no less.
        let records: Vec<ForeignRecord> =
            batch.into_iter().flat_map(|prepared| prepared.requests).map(record).collect();
        let answers = self.publisher.publish(&records).await;
        let named = self.settings.named_topics();
        let outcome = |(record, answer): (&ForeignRecord, Result<_, BusError>)| match answer {
            Ok(_) => ItemOutcome::Delivered,
            // An event chose this topic, and whoever sends events must not stop those of others.
            Err(error) if error.is_of_topic() && !named.contains(record.topic.as_str()) => {
                ItemOutcome::Rejected(Reason::new("topic_refused", OWN_TOPIC_REFUSED))
            }
            Err(error) => unanswered(&failure(&record.topic, error)),
        };
        records.iter().zip(answers).map(outcome).collect()
    }
}

/// The record that a request of [`map`] stands for.
fn record(request: HttpRequest) -> ForeignRecord {
    let key = request.query.into_iter().next().map(|(_, key)| Bytes::from(key));
    let headers = request.headers.into_iter().map(|(name, value)| (name, Bytes::from(value))).collect();
    let value = match request.body {
        RequestBody::Json(bytes) => Some(bytes),
        _ => None,
    };
    ForeignRecord { topic: request.url, key, headers, value }
}

fn failure(topic: &str, error: BusError) -> ConnectorError {
    let (kind, code) = match error.kind() {
        BusErrorKind::Retry => (ErrorKind::Retry { after: None }, "kafka_unavailable"),
        BusErrorKind::Reject => (ErrorKind::Reject, "record_refused"),
        BusErrorKind::Operator => (ErrorKind::Pause, "kafka_refused"),
    };
    ConnectorError::new(kind, code, format!("nothing is stored in topic {topic}")).caused_by(error)
}
