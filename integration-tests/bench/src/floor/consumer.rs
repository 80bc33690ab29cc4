//! librdkafka's consumer in a loop: it reads a topic to its end and does nothing with it.

use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use crate::error::BenchError;

/// A broker that sends nothing for so long has nothing more, or hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// What to read.
#[derive(Debug, clap::Args)]
pub(crate) struct ConsumerArgs {
    /// Kafka, `host:port`.
    #[arg(long)]
    brokers: String,
    /// From its first offsets.
    #[arg(long)]
    topic: String,
    /// How many messages it holds.
    #[arg(long)]
    messages: u64,
}

/// Reads, and prints how many bytes of values there were.
pub(crate) fn run(args: &ConsumerArgs) -> Result<(), BenchError> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &args.brokers)
        .set("group.id", "millrace-bench-consumer-floor")
        .set("enable.auto.commit", "false")
        .create()
        .map_err(BenchError::kafka("make the consumer"))?;
    let metadata = consumer
        .fetch_metadata(Some(&args.topic), PATIENCE)
        .map_err(BenchError::kafka("ask for the topic"))?;
    let mut assignment = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
        assignment
            .add_partition_offset(&args.topic, partition.id(), Offset::Beginning)
            .map_err(BenchError::kafka("assign the topic"))?;
    }
    consumer.assign(&assignment).map_err(BenchError::kafka("assign the topic"))?;
    let (mut left, mut bytes, mut heard) = (args.messages, 0, Instant::now());
    while left > 0 {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                bytes += message.payload().unwrap_or_default().len();
                left -= 1;
                // Once for many: the clock costs as much as a message.
                if left % 1_000 == 0 {
                    heard = Instant::now();
                }
            }
            Some(Err(source)) => return Err(BenchError::Kafka { doing: "read", source }),
            None if heard.elapsed() > PATIENCE => {
                return Err(BenchError::Void(format!("{left} messages of {} cannot be read", args.topic)));
            }
            None => {}
        }
    }
    crate::print_line(&bytes.to_string());
    Ok(())
}
