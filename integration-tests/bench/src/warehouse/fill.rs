//! Fills a topic with events, and keeps their bodies in a file for those who read files.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use millrace_bus::ReplicationPolicy;
use millrace_event_model::wire::Message;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::events::{Events, Sums};
use crate::error::BenchError;
use crate::gateway::{bus, lane};

/// How long the broker may take for what is under way.
const FLUSH: Duration = Duration::from_secs(120);

/// Makes the topics of a workspace and puts `count` events into the one of its lane.
pub(crate) fn fill(
    brokers: &str,
    workspace: &str,
    topic: &str,
    count: u64,
    bodies: &Path,
) -> Result<Sums, BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(BenchError::io("start the runtime"))?;
    runtime.block_on(bus(brokers, workspace, "lz4")?.provision(&[lane()?], ReplicationPolicy::Single))?;
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("compression.type", "lz4")
        .set("linger.ms", "50")
        .set("partitioner", "murmur2_random")
        .set("queue.buffering.max.messages", "100000")
        .create()
        .map_err(BenchError::kafka("make the producer"))?;
    let mut file =
        BufWriter::new(File::create(bodies).map_err(BenchError::io(format!("make {}", bodies.display())))?);
    // Long enough ago that the last was received before now.
    let began = Utc::now() - TimeDelta::milliseconds(i64::try_from(count / 40).unwrap_or_default());
    let mut events = Events::new(began);
    for _ in 0..count {
        let event = events.next()?;
        let wrote = file.write_all(&event.body).and_then(|()| file.write_all(b"\n"));
        wrote.map_err(BenchError::io("write the bodies"))?;
        let record = event.encode();
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (key, value) in &record.headers {
            headers = headers.insert(Header { key, value: Some(value.as_ref()) });
        }
        let mut base: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).headers(headers);
        base.key = record.key.as_deref();
        base.payload = record.value.as_deref();
        while let Err((error, back)) = producer.send(base) {
            if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                return Err(BenchError::Kafka { doing: "produce", source: error });
            }
            producer.poll(Duration::from_millis(10));
            base = back;
        }
        producer.poll(Duration::ZERO);
    }
    producer.flush(FLUSH).map_err(BenchError::kafka("flush the producer"))?;
    file.flush().map_err(BenchError::io("write the bodies"))?;
    Ok(events.sums)
}
