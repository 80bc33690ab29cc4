//! The poll thread of a [`crate::GroupReader`]: it brings the owner's word into each rebalance.

use std::collections::VecDeque;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millrace_event_model::topics::{Cleanup, TopicName};
use millrace_event_model::wire::Message;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use crate::batch::{Copies, Undecoded};
use crate::buffer::Shared;
use crate::client::QUERY_TIMEOUT;
use crate::error::kind_of;
use crate::reader::check_position;
use crate::{Assignment, Bus, BusError, ErrorKind, GroupEvent, GroupOptions, Positions, Revocation, config};

/// How soon the thread notices that a partition wants to be fetched again, or that it is to close.
const POLL: Duration = Duration::from_millis(50);

/// After so many messages, or so many bytes of them, that were there without waiting the owner hears of them: waking
/// it for each would cost more than all else. They are beyond what a partition's buffer holds.
const POLLED_AT_ONCE: usize = 256;
const POLLED_BYTES: usize = 1024 * 1024;

/// A partition that is full for so long is not fetched until the owner has taken half of it. To take it off at once
/// would be dear: the client throws away what it has fetched ahead, and fetches it again. Meanwhile the other
/// partitions wait, and so does a rebalance.
const FULL_FOR: Duration = Duration::from_millis(500);

/// The context of a member's client: it brings the owner's word into each rebalance.
pub(crate) struct Member<M> {
    group: String,
    bus: Bus,
    topic: TopicName<M>,
    shared: Arc<Shared<M>>,
    drain_timeout: Duration,
    answer_timeout: Duration,
    /// Here and not with the poll loop, since a rebalance comes in the middle of a poll: what was polled before it
    /// has to be taken in before.
    polled: Mutex<VecDeque<Undecoded>>,
}

impl<M: Message + Send> Member<M> {
    pub(crate) fn new(
        group: String,
        bus: Bus,
        topic: TopicName<M>,
        shared: Arc<Shared<M>>,
        options: &GroupOptions,
    ) -> Self {
        // Both waits happen between two polls, so they must end before the group takes the member for dead.
        let longest = options.max_poll_interval / 2;
        let drain_timeout = options.drain_timeout.min(longest);
        let polled = Mutex::new(VecDeque::with_capacity(POLLED_AT_ONCE));
        Self { group, bus, topic, shared, drain_timeout, answer_timeout: longest, polled }
    }

    fn polled(&self) -> MutexGuard<'_, VecDeque<Undecoded>> {
        self.polled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands over what was polled. Where offsets are left out, Kafka is asked whether that is all right.
    fn hand_over(&self, consumer: &BaseConsumer<Self>) {
        let gapless = matches!(self.topic.spec().cleanup, Cleanup::Delete { .. });
        let mut polled = self.polled();
        while let Some(gap) = self.shared.push(&mut polled, gapless) {
            if let Err(error) = check_with_kafka(self.topic.as_str(), gap.partition, gap.expected, consumer) {
                polled.clear();
                self.shared.fail(error);
                return;
            }
            self.shared.pass(&gap);
        }
    }

    /// Asks the owner where to begin, and waits for the answer.
    fn ask_for_positions(&self, partitions: Vec<i32>) -> Result<Positions, &'static str> {
        if self.shared.is_closing() {
            return Err("it is closing");
        }
        let (answer, answered) = mpsc::sync_channel(1);
        let topic = self.topic.as_str().to_owned();
        let assignment = Assignment::new(self.bus.clone(), topic, partitions, answer);
        self.shared.push_rebalance(GroupEvent::Assigned(assignment));
        answered.recv_timeout(self.answer_timeout).map_err(|error| match error {
            RecvTimeoutError::Timeout => "its owner did not say where to begin",
            RecvTimeoutError::Disconnected => "its owner dropped an assignment",
        })
    }

    fn assign(&self, consumer: &BaseConsumer<Self>, partitions: &mut TopicPartitionList) {
        let numbers = numbers(partitions);
        if !numbers.is_empty() {
            match self.ask_for_positions(numbers) {
                Ok(positions) => {
                    for (partition, offset) in &positions {
                        let topic = self.topic.as_str();
                        let set = partitions.set_partition_offset(topic, *partition, Offset::Offset(*offset));
                        if let Err(error) = set {
                            self.end(&error.to_string());
                        }
                    }
                    self.shared.assigned(&positions);
                }
                Err(reason) => self.end(reason),
            }
        }
        if let Err(error) = consumer.incremental_assign(partitions) {
            self.end(&error.to_string());
        }
    }

    fn revoke(&self, consumer: &BaseConsumer<Self>, partitions: &TopicPartitionList) {
        let numbers = numbers(partitions);
        self.hand_over(consumer);
        if !numbers.is_empty() {
            self.shared.revoked(&numbers);
            let lost = consumer.assignment_lost();
            let (done, is_done) = mpsc::sync_channel(0);
            self.shared.push_rebalance(GroupEvent::Revoked(Revocation::new(numbers, lost, done)));
            // The owner never sends: it drops its end when it is done.
            if !lost && is_done.recv_timeout(self.drain_timeout) == Err(RecvTimeoutError::Timeout) {
                tracing::warn!(
                    topic = self.topic.as_str(),
                    timeout = ?self.drain_timeout,
                    "the drain was not done in time; another member repeats what is in hand"
                );
            }
        }
        if let Err(error) = consumer.incremental_unassign(partitions) {
            self.end(&error.to_string());
        }
    }

    fn end(&self, reason: &str) {
        if self.shared.is_closing() {
            return;
        }
        self.shared.fail(BusError::GroupEnded { group: self.group.clone(), reason: reason.to_owned() });
    }
}

fn numbers(partitions: &TopicPartitionList) -> Vec<i32> {
    partitions
        .elements()
        .iter()
        .map(rdkafka::topic_partition_list::TopicPartitionListElem::partition)
        .collect()
}

impl<M: Message + Send> ClientContext for Member<M> {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        config::log(level, facility, message);
    }

    fn stats(&self, _statistics: Statistics) {}

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "kafka", %error, reason, "member error");
    }
}

impl<M: Message + Send> ConsumerContext for Member<M> {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        what: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        match what {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assign(consumer, partitions),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => self.revoke(consumer, partitions),
            other => tracing::warn!(error = ?other, "a rebalance failed; the client tries again"),
        }
    }
}

/// The body of the poll thread. It leaves the group at its end, by dropping the consumer.
pub(crate) fn poll_until_closed<M: Message + Send>(
    group: &str,
    topic: &TopicName<M>,
    consumer: Arc<BaseConsumer<Member<M>>>,
    shared: &Shared<M>,
) {
    let mut copies = Copies::of_a_member();
    while !shared.is_closing() {
        let error = poll(&consumer, &mut copies);
        consumer.context().hand_over(&consumer);
        if let Some(error) = error
            && let Err(error) = judge(error, group, topic, &consumer, shared)
        {
            shared.fail(error);
        }
        shared.wait_for_room(FULL_FOR);
        let (full, drained) = shared.regulate();
        let regulated = pause(topic, &full, &consumer).and_then(|()| resume(topic, &drained, &consumer));
        if let Err(source) = regulated {
            shared.fail(BusError::Kafka { doing: format!("regulate group {group}"), source });
        }
    }
}

/// Takes what is there, up to the bounds; waits for the first.
fn poll<M: Message + Send>(consumer: &BaseConsumer<Member<M>>, copies: &mut Copies) -> Option<KafkaError> {
    let (mut messages, mut bytes, mut wait) = (0, 0, POLL);
    while messages < POLLED_AT_ONCE && bytes < POLLED_BYTES {
        let message = match consumer.poll(wait)? {
            Ok(message) => copies.undecoded(&message),
            Err(error) => return Some(error),
        };
        messages += 1;
        bytes += message.bytes();
        wait = Duration::ZERO;
        consumer.context().polled().push_back(message);
    }
    None
}

/// Passes over what the client mends by itself.
fn judge<M: Message + Send>(
    error: KafkaError,
    group: &str,
    topic: &TopicName<M>,
    consumer: &BaseConsumer<Member<M>>,
    shared: &Shared<M>,
) -> Result<(), BusError> {
    if let KafkaError::MessageConsumptionFatal(code) = error {
        return Err(BusError::GroupEnded { group: group.to_owned(), reason: code.to_string() });
    }
    match error.rdkafka_error_code() {
        // The error does not say which partition: ask.
        Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
            for (partition, offset) in shared.positions() {
                check_with_kafka(topic.as_str(), partition, offset, consumer)?;
            }
        }
        _ if kind_of(&error) == ErrorKind::Retry => {
            tracing::debug!(group, %error, "the group goes on after an error");
            return Ok(());
        }
        _ => {}
    }
    Err(BusError::Kafka { doing: format!("read in group {group}"), source: error })
}

fn check_with_kafka<M: Message + Send>(
    topic: &str,
    partition: i32,
    offset: i64,
    consumer: &BaseConsumer<Member<M>>,
) -> Result<(), BusError> {
    let watermarks = consumer
        .fetch_watermarks(topic, partition, QUERY_TIMEOUT)
        .map_err(BusError::kafka(format!("ask what topic {topic} holds")))?;
    check_position(topic, partition, offset, &[(partition, watermarks)].into())
}

fn pause<M: Message + Send>(
    topic: &TopicName<M>,
    partitions: &[i32],
    consumer: &BaseConsumer<Member<M>>,
) -> Result<(), KafkaError> {
    if partitions.is_empty() {
        return Ok(());
    }
    consumer.pause(&list(topic, partitions))
}

fn resume<M: Message + Send>(
    topic: &TopicName<M>,
    partitions: &[i32],
    consumer: &BaseConsumer<Member<M>>,
) -> Result<(), KafkaError> {
    if partitions.is_empty() {
        return Ok(());
    }
    consumer.resume(&list(topic, partitions))
}

fn list<M>(topic: &TopicName<M>, partitions: &[i32]) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(topic.as_str(), *partition);
    }
    list
}
