//! The way in: one [`Bus`] for each workspace and process.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use chrono::{DateTime, Utc};
use millrace_event_model::Workspace;
use millrace_event_model::topics::TopicName;
use millrace_event_model::wire::Message;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use crate::config::{self, Quiet};
use crate::provision::DEFAULT_PATIENCE;
use crate::reader::read_exactly;
use crate::{
    BusError, Follower, GroupOptions, GroupReader, KafkaSettings, Positions, Publisher, PublisherOptions,
    Range, Reader, Received, Start,
};

/// How long one question to the cluster may take. The client finds a new leader within it.
pub(crate) const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a question waits for a partition to have a leader again; an election takes a second or two.
const LEADER_PATIENCE: Duration = Duration::from_secs(10);

/// For each partition, the first offset that is kept and the offset that the next message will get.
pub type Watermarks = BTreeMap<i32, (i64, i64)>;

/// What positions are bound to: they mean nothing in another cluster or topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The cluster's id, made when the cluster was.
    pub cluster: String,
    /// The topic's full name. The client library (rdkafka 0.39) cannot tell Kafka's topic id; a topic that
    /// was deleted and made again under its name shows as [`BusError::OffsetAhead`] instead, as long as it
    /// is shorter than the old one was.
    pub topic: String,
}

/// The topics of one workspace on one Kafka cluster. Cheap to clone.
#[derive(Clone)]
pub struct Bus(Arc<Shared>);

struct Shared {
    settings: KafkaSettings,
    workspace: Workspace,
    patience: Duration,
    /// Answers questions about the cluster; connects at the first of them.
    queries: OnceLock<Arc<BaseConsumer<Quiet>>>,
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bus")
            .field("settings", &self.0.settings)
            .field("workspace", &self.0.workspace)
            .finish_non_exhaustive()
    }
}

impl Bus {
    /// Checks the settings; connects to nothing yet.
    ///
    /// # Errors
    /// A property is unknown, malformed or reserved.
    pub fn new(settings: KafkaSettings, workspace: Workspace) -> Result<Self, BusError> {
        config::check(&settings)?;
        let queries = OnceLock::new();
        Ok(Self(Arc::new(Shared { settings, workspace, patience: DEFAULT_PATIENCE, queries })))
    }

    /// How long [`Self::provision`] waits for a broker that is late; a minute, if not said.
    #[must_use]
    pub fn with_patience(&self, patience: Duration) -> Self {
        let settings = self.0.settings.clone();
        let workspace = self.0.workspace.clone();
        Self(Arc::new(Shared { settings, workspace, patience, queries: OnceLock::new() }))
    }

    /// Whose topics these are.
    #[must_use]
    pub fn workspace(&self) -> &Workspace {
        &self.0.workspace
    }

    pub(crate) fn settings(&self) -> &KafkaSettings {
        &self.0.settings
    }

    pub(crate) fn patience(&self) -> Duration {
        self.0.patience
    }

    /// A producer of its own, shared by the clones of what is returned.
    ///
    /// # Errors
    /// The client cannot be made from the settings.
    pub fn publisher(&self, options: PublisherOptions) -> Result<Publisher, BusError> {
        Publisher::new(self.0.settings.clone(), options)
    }

    /// Reads all partitions of a topic, from the given positions, and from `start` in partitions that have
    /// none. Nothing is asked of Kafka before the first batch. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// The client cannot be made from the settings.
    pub fn reader<M: Message>(
        &self,
        topic: &TopicName<M>,
        from: &Positions,
        start: Start,
    ) -> Result<Reader<M>, BusError> {
        Reader::new(self.clone(), topic.clone(), from.clone(), start)
    }

    /// Follows a compacted topic from its beginning. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// Kafka does not answer, or the topic is not there.
    pub async fn follow<M: Message>(&self, topic: &TopicName<M>) -> Result<Follower<M>, BusError> {
        Follower::new(self, topic).await
    }

    /// Joins a consumer group to share a topic's partitions with its other members. The group's full name
    /// is `<workspace>.<name>`.
    ///
    /// # Errors
    /// The client cannot be made from the settings.
    pub fn group<M: Message + Send + 'static>(
        &self,
        topic: &TopicName<M>,
        options: GroupOptions,
    ) -> Result<GroupReader<M>, BusError> {
        GroupReader::join(self, topic, options)
    }

    /// All that the topic holds now, partition by partition. For compacted topics, tools and tests: it is
    /// all in memory.
    ///
    /// # Errors
    /// Kafka does not answer, or the topic is not there.
    pub async fn read_all<M: Message>(&self, topic: &TopicName<M>) -> Result<Vec<Received<M>>, BusError> {
        let watermarks = self.watermarks(topic.as_str()).await?;
        let ranges: Vec<Range> = watermarks
            .into_iter()
            .filter(|(_, (low, high))| low < high)
            .map(|(partition, (start, end))| Range { partition, start, end })
            .collect();
        let mut records = read_exactly(self, topic, &ranges).await?.records;
        records.sort_by_key(|record| (record.partition, record.offset));
        Ok(records)
    }

    /// Which cluster and topic this is.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub async fn identity(&self, topic: &str) -> Result<Identity, BusError> {
        let cluster = self
            .query("ask for the cluster's id", |client| {
                let id = client.client().fetch_cluster_id(QUERY_TIMEOUT);
                id.ok_or(KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut))
            })
            .await?;
        Ok(Identity { cluster, topic: topic.to_owned() })
    }

    /// What each partition of a topic holds.
    ///
    /// # Errors
    /// Kafka does not answer, or the topic is not there.
    pub async fn watermarks(&self, topic: &str) -> Result<Watermarks, BusError> {
        let name = topic.to_owned();
        let found = self
            .query(format!("ask what topic {topic} holds"), move |client| {
                let metadata = client.fetch_metadata(Some(&name), QUERY_TIMEOUT)?;
                let partitions = metadata.topics().first().map_or(&[][..], |topic| topic.partitions());
                let mut watermarks = Watermarks::new();
                for partition in partitions {
                    let marks = client.fetch_watermarks(&name, partition.id(), QUERY_TIMEOUT)?;
                    watermarks.insert(partition.id(), marks);
                }
                Ok(watermarks)
            })
            .await?;
        if found.is_empty() {
            let workspace = self.workspace().to_string();
            return Err(BusError::MissingTopic { topic: topic.to_owned(), workspace });
        }
        Ok(found)
    }

    /// For each partition, the offset of the first message appended at or after `at`; of the end where
    /// there is none.
    ///
    /// # Errors
    /// Kafka does not answer, or the topic is not there.
    pub async fn offsets_at(&self, topic: &str, at: DateTime<Utc>) -> Result<Positions, BusError> {
        let watermarks = self.watermarks(topic).await?;
        let partitions: Vec<i32> = watermarks.keys().copied().collect();
        let name = topic.to_owned();
        let found = self
            .query(format!("ask topic {topic} for offsets by time"), move |client| {
                let mut times = TopicPartitionList::new();
                for partition in &partitions {
                    times.add_partition_offset(&name, *partition, Offset::Offset(at.timestamp_millis()))?;
                }
                let answer = client.offsets_for_times(times, QUERY_TIMEOUT)?;
                Ok(answer.elements().iter().map(|e| (e.partition(), e.offset())).collect::<Vec<_>>())
            })
            .await?;
        let mut positions: Positions =
            watermarks.iter().map(|(partition, (_, high))| (*partition, *high)).collect();
        for (partition, offset) in found {
            if let Offset::Offset(offset) = offset {
                positions.insert(partition, offset);
            }
        }
        Ok(positions)
    }

    /// Asks the cluster something, on a thread that may block. Asks again while a partition has no leader.
    pub(crate) async fn query<T: Send + 'static>(
        &self,
        doing: impl Into<String>,
        ask: impl Fn(&BaseConsumer<Quiet>) -> Result<T, KafkaError> + Send + Sync + 'static,
    ) -> Result<T, BusError> {
        let client = self.queries()?;
        let ask = Arc::new(ask);
        let once = || async {
            let (client, ask) = (Arc::clone(&client), Arc::clone(&ask));
            let answer = tokio::task::spawn_blocking(move || ask(&client)).await;
            // The blocking task panics nowhere, so it is missing only while the runtime shuts down.
            answer.unwrap_or(Err(KafkaError::Canceled))
        };
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(20))
            .with_max_delay(Duration::from_secs(1))
            .with_total_delay(Some(LEADER_PATIENCE))
            .without_max_times();
        once.retry(backoff).when(has_no_leader).await.map_err(BusError::kafka(doing))
    }

    fn queries(&self) -> Result<Arc<BaseConsumer<Quiet>>, BusError> {
        if let Some(client) = self.0.queries.get() {
            return Ok(Arc::clone(client));
        }
        // Without a group: the client then only answers questions.
        let made = config::admin(&self.0.settings).create_with_context(Quiet);
        let client: BaseConsumer<Quiet> = made.map_err(BusError::settings)?;
        Ok(Arc::clone(self.0.queries.get_or_init(|| Arc::new(client))))
    }
}

/// True for a moment after a topic was made, and while its partitions move to another broker.
fn has_no_leader(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(Code::NotLeaderForPartition | Code::LeaderNotAvailable | Code::UnknownTopicOrPartition)
    )
}
