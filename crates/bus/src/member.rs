//! The poll thread of a [`crate::GroupReader`], and what it shares with the owner.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millrace_event_model::topics::{Cleanup, TopicName};
use millrace_event_model::wire::Message;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Message as _, Offset, TopicPartitionList};
use tokio::sync::Notify;

use crate::batch::{Filling, receive};
use crate::client::QUERY_TIMEOUT;
use crate::error::kind_of;
use crate::reader::check_position;
use crate::{
    Assignment, Bus, BusError, ErrorKind, GroupEvent, GroupOptions, Positions, Received, Revocation, config,
};

/// How soon the thread notices that a partition wants to be fetched again, or that it is to close.
const POLL: Duration = Duration::from_millis(50);

/// A partition with so many messages, or so many bytes of them, that the owner has not taken is not fetched
/// until half of them are gone.
const BUFFERED_MESSAGES: usize = 1_000;
const BUFFERED_BYTES: usize = 2 * 1024 * 1024;

/// What the poll thread and the owner share.
pub(crate) struct Shared<M> {
    state: Mutex<State<M>>,
    changed: Notify,
}

struct State<M> {
    rebalances: VecDeque<GroupEvent<M>>,
    /// The partitions that are assigned.
    partitions: BTreeMap<i32, Buffer<M>>,
    /// Those the owner takes nothing from.
    held: BTreeSet<i32>,
    /// The partition that was served last: the next one comes first.
    served: i32,
    failed: Option<BusError>,
    closing: bool,
}

struct Buffer<M> {
    records: VecDeque<Received<M>>,
    bytes: usize,
    /// The offset that comes next from Kafka.
    next: i64,
    /// Where the owner's next range begins.
    taken: i64,
    /// Kafka is told not to send more.
    fetching: bool,
}

impl<M> Default for Shared<M> {
    fn default() -> Self {
        let state = State {
            rebalances: VecDeque::new(),
            partitions: BTreeMap::new(),
            held: BTreeSet::new(),
            served: -1,
            failed: None,
            closing: false,
        };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }
}

impl<M> Buffer<M> {
    fn is_full(&self) -> bool {
        self.records.len() >= BUFFERED_MESSAGES || self.bytes >= BUFFERED_BYTES
    }

    fn is_half_empty(&self) -> bool {
        self.records.len() <= BUFFERED_MESSAGES / 2 && self.bytes <= BUFFERED_BYTES / 2
    }
}

impl<M> Shared<M> {
    fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when something may have come. One owner waits, so one permit is enough.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(crate) fn take(&self, room: usize) -> Option<Result<GroupEvent<M>, BusError>> {
        let mut state = self.lock();
        if let Some(event) = state.rebalances.pop_front() {
            return Some(Ok(event));
        }
        if let Some(error) = state.failed.take() {
            return Some(Err(error));
        }
        let filling = state.take_records(room);
        (!filling.is_empty()).then(|| Ok(GroupEvent::Records(filling.finish())))
    }

    pub(crate) fn hold(&self, partitions: &[i32], hold: bool) {
        let mut state = self.lock();
        for partition in partitions {
            if hold {
                state.held.insert(*partition);
            } else {
                state.held.remove(partition);
            }
        }
        drop(state);
        self.changed.notify_one();
    }

    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closing = true;
        // Whoever waits for an answer to these hears that none will come.
        state.rebalances.clear();
    }

    fn is_closing(&self) -> bool {
        self.lock().closing
    }

    fn fail(&self, error: BusError) {
        let mut state = self.lock();
        state.failed = Some(error);
        state.closing = true;
        drop(state);
        self.changed.notify_one();
    }

    fn push_rebalance(&self, event: GroupEvent<M>) {
        self.lock().rebalances.push_back(event);
        self.changed.notify_one();
    }

    fn assigned(&self, positions: &Positions) {
        let mut state = self.lock();
        for (partition, offset) in positions {
            let buffer =
                Buffer { records: VecDeque::new(), bytes: 0, next: *offset, taken: *offset, fetching: true };
            state.partitions.insert(*partition, buffer);
        }
    }

    /// What the owner has not taken of them is dropped: their next owner reads it again.
    fn revoked(&self, partitions: &[i32]) {
        let mut state = self.lock();
        for partition in partitions {
            state.partitions.remove(partition);
            state.held.remove(partition);
        }
    }

    /// What comes next from a partition, if it is assigned.
    fn expected(&self, partition: i32) -> Option<i64> {
        self.lock().partitions.get(&partition).map(|buffer| buffer.next)
    }

    fn push(&self, received: Received<M>) {
        let mut state = self.lock();
        // Revoked meanwhile: its next owner reads it.
        let Some(buffer) = state.partitions.get_mut(&received.partition) else { return };
        buffer.next = received.offset + 1;
        buffer.bytes += received.bytes();
        buffer.records.push_back(received);
        drop(state);
        self.changed.notify_one();
    }

    /// The partitions that Kafka is to stop sending, and to send again.
    fn regulate(&self) -> (Vec<i32>, Vec<i32>) {
        let (mut full, mut drained) = (Vec::new(), Vec::new());
        for (partition, buffer) in &mut self.lock().partitions {
            if buffer.fetching && buffer.is_full() {
                buffer.fetching = false;
                full.push(*partition);
            } else if !buffer.fetching && buffer.is_half_empty() {
                buffer.fetching = true;
                drained.push(*partition);
            }
        }
        (full, drained)
    }

    fn positions(&self) -> Positions {
        self.lock().partitions.iter().map(|(partition, buffer)| (*partition, buffer.next)).collect()
    }
}

impl<M> State<M> {
    /// Each partition in turn gives what it has, beginning behind the one that was served last.
    fn take_records(&mut self, room: usize) -> Filling<M> {
        let mut filling = Filling::default();
        let served = self.served;
        let order: Vec<i32> = self
            .partitions
            .range(served + 1..)
            .chain(self.partitions.range(..=served))
            .map(|(partition, _)| *partition)
            .filter(|partition| !self.held.contains(partition))
            .collect();
        for partition in order {
            let Some(buffer) = self.partitions.get_mut(&partition) else { continue };
            while filling.len() < room {
                let Some(received) = buffer.records.pop_front() else { break };
                buffer.bytes -= received.bytes();
                let start = buffer.taken;
                buffer.taken = received.offset + 1;
                filling.push(received, start);
                self.served = partition;
            }
        }
        filling
    }
}

/// The context of a member's client: it brings the owner's word into each rebalance.
pub(crate) struct Member<M> {
    group: String,
    bus: Bus,
    topic: TopicName<M>,
    shared: Arc<Shared<M>>,
    drain_timeout: Duration,
    answer_timeout: Duration,
}

impl<M: Send> Member<M> {
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
        Self { group, bus, topic, shared, drain_timeout, answer_timeout: longest }
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
        if !numbers.is_empty() {
            self.shared.revoked(&numbers);
            let lost = consumer.assignment_lost();
            let (done, is_done) = mpsc::sync_channel(0);
            if !self.shared.is_closing() {
                self.shared.push_rebalance(GroupEvent::Revoked(Revocation::new(numbers, lost, done)));
            }
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

impl<M: Send> ClientContext for Member<M> {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        config::log(level, facility, message);
    }

    fn stats(&self, _statistics: Statistics) {}

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "kafka", %error, reason, "member error");
    }
}

impl<M: Send> ConsumerContext for Member<M> {
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
    while !shared.is_closing() {
        match consumer.poll(POLL) {
            None => {}
            Some(Ok(message)) => {
                if let Err(error) = accept(&message, topic, &consumer, shared) {
                    shared.fail(error);
                }
            }
            Some(Err(error)) => {
                if let Err(error) = judge(error, group, topic, &consumer, shared) {
                    shared.fail(error);
                }
            }
        }
        let (full, drained) = shared.regulate();
        let regulated = pause(topic, &full, &consumer).and_then(|()| resume(topic, &drained, &consumer));
        if let Err(source) = regulated {
            shared.fail(BusError::Kafka { doing: format!("regulate group {group}"), source });
        }
    }
}

fn accept<M: Message + Send>(
    message: &BorrowedMessage<'_>,
    topic: &TopicName<M>,
    consumer: &BaseConsumer<Member<M>>,
    shared: &Shared<M>,
) -> Result<(), BusError> {
    let (partition, offset) = (message.partition(), message.offset());
    let Some(expected) = shared.expected(partition) else { return Ok(()) };
    // Fetched twice around a pause.
    if offset < expected {
        return Ok(());
    }
    if offset > expected && matches!(topic.spec().cleanup, Cleanup::Delete { .. }) {
        check_with_kafka(topic.as_str(), partition, expected, consumer)?;
    }
    shared.push(receive(message));
    Ok(())
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

fn pause<M: Send>(
    topic: &TopicName<M>,
    partitions: &[i32],
    consumer: &BaseConsumer<Member<M>>,
) -> Result<(), KafkaError> {
    if partitions.is_empty() {
        return Ok(());
    }
    consumer.pause(&list(topic, partitions))
}

fn resume<M: Send>(
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
