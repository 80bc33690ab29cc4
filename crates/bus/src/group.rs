//! Sharing a topic with the other members of a consumer group.
//!
//! The members of a group divide a topic's partitions between them, cooperatively: a rebalance takes from
//! a member only what another one gets. What is read and where reading begins is the owner's business: it
//! is told of each assignment and says from which positions; and of each revocation, and has a bounded
//! time to finish what it has in hand before another member begins.
//!
//! A thread of its own polls Kafka whatever the owner does, so a slow owner is never taken for dead. What
//! the owner has not taken yet waits in a bounded buffer for each partition; a partition whose buffer stays
//! full for half a second is not fetched, and holds up no other for longer.

use std::sync::{Arc, Weak, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use millrace_event_model::topics::TopicName;
use millrace_event_model::wire::Message;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::oneshot;

use crate::buffer::Shared;
use crate::client::QUERY_TIMEOUT;
use crate::member::{Member, poll_until_closed};
use crate::reader::check_position;
use crate::{Batch, Bus, BusError, Positions, Start, config};

/// How a member takes part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOptions {
    /// The group's name within the workspace, such as `deliver.hook`.
    pub name: String,
    /// A name that stays over restarts makes a static member: if it is back within `session_timeout` it
    /// has its partitions again and nobody else noticed. No two members may have the same.
    pub instance: Option<String>,
    /// A member that is silent for so long is dead, and the others take its partitions.
    pub session_timeout: Duration,
    /// Between two polls at most. The bounds below must stay under it.
    pub max_poll_interval: Duration,
    /// How long a revocation waits for the owner; longer than its request timeout.
    pub drain_timeout: Duration,
}

impl GroupOptions {
    /// A member without a name of its own, with Kafka's timeouts and half a minute to drain.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            instance: None,
            session_timeout: Duration::from_secs(45),
            max_poll_interval: Duration::from_secs(300),
            drain_timeout: Duration::from_secs(30),
        }
    }
}

/// What a member hears.
#[derive(Debug)]
pub enum GroupEvent<M> {
    /// It has more partitions. Nothing is read from them before [`Assignment::begin`].
    Assigned(Assignment),
    /// It has fewer. Nothing more comes from them.
    Revoked(Revocation),
    /// Messages of its partitions.
    Records(Batch<M>),
}

/// Partitions that wait to be told where reading begins. Dropping it without an answer ends the
/// membership.
#[derive(Debug)]
pub struct Assignment {
    bus: Bus,
    topic: String,
    partitions: Vec<i32>,
    answer: mpsc::SyncSender<Positions>,
}

impl Assignment {
    pub(crate) fn new(
        bus: Bus,
        topic: String,
        partitions: Vec<i32>,
        answer: mpsc::SyncSender<Positions>,
    ) -> Self {
        Self { bus, topic, partitions, answer }
    }

    /// Which partitions.
    #[must_use]
    pub fn partitions(&self) -> &[i32] {
        &self.partitions
    }

    /// Begins reading: at the given positions, and at `start` in partitions that have none. Returns where
    /// each partition really begins: with `Start::Latest` that is worth storing before anything is read.
    ///
    /// # Errors
    /// [`BusError::OffsetGone`] or [`BusError::OffsetAhead`]; it may be called again with other positions.
    pub async fn begin(&self, from: &Positions, start: Start) -> Result<Positions, BusError> {
        let watermarks = self.bus.watermarks(&self.topic).await?;
        let by_time = match start {
            Start::At(at) => self.bus.offsets_at(&self.topic, at).await?,
            Start::Earliest | Start::Latest => Positions::new(),
        };
        let mut positions = Positions::new();
        for partition in &self.partitions {
            let (low, high) = watermarks.get(partition).copied().unwrap_or((0, 0));
            let first = match start {
                Start::Earliest => low,
                Start::Latest => high,
                Start::At(_) => by_time.get(partition).copied().unwrap_or(high),
            };
            let position = from.get(partition).copied().unwrap_or(first);
            check_position(&self.topic, *partition, position, &watermarks)?;
            positions.insert(*partition, position);
        }
        // An error means that the member was closed meanwhile, or that this came too late.
        let _ = self.answer.try_send(positions.clone());
        Ok(positions)
    }
}

/// Partitions that go to another member once this is dropped, or when the drain's time is over.
#[derive(Debug)]
pub struct Revocation {
    partitions: Vec<i32>,
    lost: bool,
    /// The poll thread waits until this is dropped.
    _done: mpsc::SyncSender<()>,
}

impl Revocation {
    pub(crate) fn new(partitions: Vec<i32>, lost: bool, done: mpsc::SyncSender<()>) -> Self {
        Self { partitions, lost, _done: done }
    }

    /// Which partitions.
    #[must_use]
    pub fn partitions(&self) -> &[i32] {
        &self.partitions
    }

    /// Another member may have them already: there is nothing to wait for, and commits are refused.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// What was in hand is done and committed.
    pub fn finish(self) {}
}

/// A membership in a consumer group. Dropping it leaves the group without drain.
pub struct GroupReader<M: Message + Send + 'static> {
    group: String,
    topic: TopicName<M>,
    shared: Arc<Shared<M>>,
    /// The poll thread owns it, so that leaving the group, which blocks, happens there.
    consumer: Weak<BaseConsumer<Member<M>>>,
    thread: Option<JoinHandle<()>>,
}

impl<M: Message + Send + 'static> std::fmt::Debug for GroupReader<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupReader")
            .field("group", &self.group)
            .field("topic", &self.topic.as_str())
            .finish_non_exhaustive()
    }
}

impl<M: Message + Send + 'static> GroupReader<M> {
    pub(crate) fn join(bus: &Bus, topic: &TopicName<M>, options: GroupOptions) -> Result<Self, BusError> {
        let group = format!("{}.{}", bus.workspace(), options.name);
        let shared = Arc::new(Shared::new(group.clone()));
        let member = Member::new(group.clone(), bus.clone(), topic.clone(), Arc::clone(&shared), &options);
        let config = config::member(
            bus.settings(),
            &group,
            options.instance.as_deref(),
            options.session_timeout,
            options.max_poll_interval,
        );
        let consumer: BaseConsumer<Member<M>> =
            config.create_with_context(member).map_err(BusError::settings)?;
        consumer.subscribe(&[topic.as_str()]).map_err(BusError::kafka(format!("join group {group}")))?;
        let consumer = Arc::new(consumer);
        let weak = Arc::downgrade(&consumer);
        let name = group.clone();
        let (polled, topic_name) = (Arc::clone(&shared), topic.clone());
        let thread = std::thread::Builder::new()
            .name("millrace-group".to_owned())
            .spawn(move || poll_until_closed(&name, &topic_name, consumer, &polled))
            .map_err(|error| BusError::GroupEnded { group: group.clone(), reason: error.to_string() })?;
        Ok(Self { group, topic: topic.clone(), shared, consumer: weak, thread: Some(thread) })
    }

    /// The group's full name.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.group
    }

    /// The next thing to hear: assignments and revocations first, then at most `room` messages as soon as
    /// there are any. With no room, only assignments and revocations. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The membership has ended: the owner drains nothing more and joins again.
    pub async fn next(&mut self, room: usize) -> Result<GroupEvent<M>, BusError> {
        loop {
            if let Some(event) = self.shared.take(room) {
                return event;
            }
            self.shared.changed().await;
        }
    }

    /// Stores positions as the group's offsets, for tools that show the lag: where reading goes on is for
    /// [`Assignment::begin`] to say.
    ///
    /// # Errors
    /// Kafka does not answer, or the partitions have another owner by now.
    pub async fn commit(&self, positions: &Positions) -> Result<(), BusError> {
        let offsets = self.offsets(positions.iter().map(|(p, offset)| (*p, Offset::Offset(*offset))))?;
        self.blocking("commit offsets", move |consumer| consumer.commit(&offsets, CommitMode::Sync)).await
    }

    /// The group's offsets of these partitions, where it has any.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub async fn committed(&self, partitions: &[i32]) -> Result<Positions, BusError> {
        let asked = self.offsets(partitions.iter().map(|partition| (*partition, Offset::Invalid)))?;
        self.blocking("ask for committed offsets", move |consumer| {
            let committed = consumer.committed_offsets(asked, QUERY_TIMEOUT)?;
            let known = committed.elements().into_iter().filter_map(|element| match element.offset() {
                Offset::Offset(offset) => Some((element.partition(), offset)),
                _ => None,
            });
            Ok(known.collect())
        })
        .await
    }

    /// Leaves the group. The owner has drained and committed what it wanted to.
    pub async fn close(mut self) {
        self.shared.close();
        if let Some(thread) = self.thread.take() {
            // A panic in there has been reported by the panic hook.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    fn offsets(&self, of: impl Iterator<Item = (i32, Offset)>) -> Result<TopicPartitionList, BusError> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in of {
            list.add_partition_offset(self.topic.as_str(), partition, offset)
                .map_err(BusError::kafka("name an offset"))?;
        }
        Ok(list)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        doing: &str,
        ask: impl FnOnce(&BaseConsumer<Member<M>>) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, BusError> {
        let consumer = Weak::clone(&self.consumer);
        let (tell, answer) = oneshot::channel();
        // A thread of its own and not the runtime's: the client's wait for the answer to a commit has no bound,
        // and the end of the runtime would wait for it. The end of the process does not.
        let asked = std::thread::Builder::new().name("millrace-ask".to_owned()).spawn(move || {
            let answer = consumer.upgrade().ok_or(KafkaError::Canceled).and_then(|consumer| ask(&consumer));
            // Whoever asked may not want to know any more.
            let _ = tell.send(answer);
        });
        // Without a thread nothing was asked.
        let answer = match asked {
            Ok(_) => answer.await.unwrap_or(Err(KafkaError::Canceled)),
            Err(_) => Err(KafkaError::Canceled),
        };
        answer.map_err(BusError::kafka(format!("{doing} of group {}", self.group)))
    }
}

impl<M: Message + Send + 'static> Drop for GroupReader<M> {
    fn drop(&mut self) {
        // The thread leaves the group by itself; waiting for it here could block the runtime.
        self.shared.close();
    }
}
