//! Proof that what was acked is stored: reads the topic, counts, and sums the content hashes.
//!
//! A run whose topic does not hold exactly what was acked has no figures; it is void.

use std::time::{Duration, Instant};

use millrace_bus::Watermarks;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use crate::error::BenchError;
use crate::load::LoadReport;
use crate::workload::content_hash;

/// A broker that sends nothing for so long has nothing more, or hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a part of a topic holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored {
    events: u64,
    hash: u128,
}

/// Reads all between two looks at the topic.
pub(crate) fn read(
    brokers: &str,
    topic: &str,
    from: &Watermarks,
    to: &Watermarks,
) -> Result<Stored, BenchError> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "millrace-bench-readback")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error")
        .create()
        .map_err(BenchError::kafka("make the consumer that reads back"))?;
    let mut assignment = TopicPartitionList::new();
    let mut left = 0;
    for (partition, (_, end)) in to {
        let begin = from.get(partition).map_or(0, |(_, high)| *high);
        left += end - begin;
        assignment
            .add_partition_offset(topic, *partition, Offset::Offset(begin))
            .map_err(BenchError::kafka("assign the topic"))?;
    }
    consumer.assign(&assignment).map_err(BenchError::kafka("assign the topic"))?;

    let mut stored = Stored { events: 0, hash: 0 };
    let mut heard = Instant::now();
    while left > 0 {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                stored.events += 1;
                stored.hash = stored.hash.wrapping_add(content_hash(message.payload().unwrap_or_default()));
                left -= 1;
                heard = Instant::now();
            }
            Some(Err(source)) => return Err(BenchError::Kafka { doing: "read back", source }),
            None if heard.elapsed() > PATIENCE => {
                return Err(BenchError::Void(format!("{left} records of {topic} cannot be read")));
            }
            None => {}
        }
    }
    Ok(stored)
}

/// Whether it is what the generator was told.
pub(crate) fn compare(stored: Stored, acked: &LoadReport) -> Result<(), BenchError> {
    let hash = format!("{:032x}", stored.hash);
    if stored.events == acked.acked_events && hash == acked.acked_hash {
        return Ok(());
    }
    Err(BenchError::Void(format!(
        "{} events were acked with hash {}, {} are stored with hash {hash}; unexpected answers: {:?}",
        acked.acked_events, acked.acked_hash, stored.events, acked.unexpected
    )))
}
