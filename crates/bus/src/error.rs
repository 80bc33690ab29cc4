//! What can go wrong between a stage and Kafka, and what to do then.

use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// What the caller does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Try again, with backoff: the broker is away, busy or moving a partition.
    Retry,
    /// This message can never be published; the others can.
    Reject,
    /// Nothing changes until a person does something; the message says what.
    Operator,
}

/// What went wrong; [`BusError::kind`] says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// Kafka said no, or nothing.
    #[error("cannot {doing}")]
    Kafka {
        /// What was being done, to what.
        doing: String,
        /// Kafka's answer.
        source: KafkaError,
    },
    /// Not all messages of the call are acked. Some may be stored: publishing them again may double them,
    /// which their ids undo downstream.
    #[error("{failed} of {sent} messages to {topic} were not acknowledged")]
    NotAcked {
        /// The topic.
        topic: String,
        /// How many messages the call had.
        sent: usize,
        /// How many of them failed.
        failed: usize,
        /// The first failure.
        source: KafkaError,
    },
    /// No answer within the delivery timeout. Whether the messages are stored is not known.
    #[error("no acknowledgement from {topic} within {waited:?}")]
    AckTimeout {
        /// The topic.
        topic: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The producer's queue is full: more is published than the broker takes. Nothing further of this call
    /// was queued.
    #[error("the producer's queue is full")]
    QueueFull,
    /// The message is larger than the topics allow.
    #[error("a message to {topic} has {bytes} bytes, more than a record may have")]
    TooLarge {
        /// The topic.
        topic: String,
        /// Its key, headers and value together.
        bytes: usize,
    },
    /// The settings name something that Kafka's client does not know.
    #[error("the kafka settings are invalid")]
    InvalidSettings(#[source] KafkaError),
    /// The settings name something that the promises depend on.
    #[error("the kafka property {property:?} cannot be set: {reason}")]
    ReservedProperty {
        /// The property.
        property: String,
        /// Why it is ours.
        reason: &'static str,
    },
    /// A topic is not there.
    #[error(
        "topic {topic} does not exist: create it as deploy/kafka/topics.yaml says, or allow {workspace} to"
    )]
    MissingTopic {
        /// The topic.
        topic: String,
        /// Whose it is.
        workspace: String,
    },
    /// A topic has another number of partitions than this version of it.
    #[error(
        "topic {topic} has {actual} partitions and must have {expected}: growing is a new topic version, \
         since more partitions would move keys and break their order"
    )]
    PartitionCount {
        /// The topic.
        topic: String,
        /// What its contract says.
        expected: i32,
        /// What Kafka says.
        actual: i32,
    },
    /// A topic may lose what was acked.
    #[error("topic {topic} is not safe: {problem}")]
    Unsafe {
        /// The topic.
        topic: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A topic forgets or stamps otherwise than its contract.
    #[error("topic {topic} has {setting}={actual} and must have {expected}: run kafka-configs --alter on it")]
    TopicSetting {
        /// The topic.
        topic: String,
        /// The setting, in Kafka's name.
        setting: &'static str,
        /// What its contract says.
        expected: String,
        /// What Kafka says.
        actual: String,
    },
    /// Retention overtook a position: what is between `wanted` and `low` is gone, unread.
    #[error(
        "retention has removed offsets {wanted} to {low} of partition {partition} of {topic} before they were read"
    )]
    OffsetGone {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Where reading was to go on.
        wanted: i64,
        /// The first offset that is still there.
        low: i64,
    },
    /// A position is beyond the end: the topic was made anew, or lost acked messages.
    #[error(
        "position {wanted} of partition {partition} of {topic} is beyond its end at {high}: \
         the topic was deleted and made again, or has lost data"
    )]
    OffsetAhead {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Where reading was to go on.
        wanted: i64,
        /// The offset that the next message will get.
        high: i64,
    },
    /// The membership in a consumer group has ended.
    #[error("the membership in group {group} has ended: {reason}")]
    GroupEnded {
        /// The group.
        group: String,
        /// Why.
        reason: String,
    },
}

impl BusError {
    pub(crate) fn kafka(doing: impl Into<String>) -> impl FnOnce(KafkaError) -> Self {
        let doing = doing.into();
        move |source| Self::Kafka { doing, source }
    }

    /// The client library quotes the value that it does not take, and that may be a password.
    pub(crate) fn settings(source: KafkaError) -> Self {
        let KafkaError::ClientConfig(result, told, property, value) = source else {
            return Self::InvalidSettings(source);
        };
        let told = if value.is_empty() { told } else { told.replace(&value, "***") };
        Self::InvalidSettings(KafkaError::ClientConfig(result, told, property, "***".to_owned()))
    }

    /// What the caller does next.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Kafka { source, .. } | Self::NotAcked { source, .. } => kind_of(source),
            Self::AckTimeout { .. } | Self::QueueFull | Self::GroupEnded { .. } => ErrorKind::Retry,
            Self::TooLarge { .. } => ErrorKind::Reject,
            Self::InvalidSettings(_)
            | Self::ReservedProperty { .. }
            | Self::MissingTopic { .. }
            | Self::PartitionCount { .. }
            | Self::Unsafe { .. }
            | Self::TopicSetting { .. }
            | Self::OffsetGone { .. }
            | Self::OffsetAhead { .. } => ErrorKind::Operator,
        }
    }

    /// Whether it is about the topic alone, which is not there or may not be written or read: other topics
    /// of the cluster are none the worse.
    #[must_use]
    pub fn is_of_topic(&self) -> bool {
        use RDKafkaErrorCode as Code;
        let (Self::Kafka { source, .. } | Self::NotAcked { source, .. }) = self else {
            return matches!(self, Self::MissingTopic { .. });
        };
        matches!(
            source.rdkafka_error_code(),
            Some(
                Code::TopicAuthorizationFailed
                    | Code::UnknownTopicOrPartition
                    | Code::UnknownTopic
                    | Code::InvalidTopic
            )
        )
    }

    /// Whether trying again may help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.kind() == ErrorKind::Retry
    }
}

/// Most of what Kafka answers passes by itself; these do not.
pub(crate) fn kind_of(error: &KafkaError) -> ErrorKind {
    use RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        Some(Code::MessageSizeTooLarge | Code::InvalidMessage | Code::InvalidRecord) => ErrorKind::Reject,
        Some(
            Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::UnknownTopicOrPartition
            | Code::UnknownTopic
            | Code::UnknownPartition
            | Code::InvalidTopic
            | Code::InvalidConfig
            | Code::InvalidReplicationFactor
            | Code::PolicyViolation
            | Code::UnsupportedVersion,
        ) => ErrorKind::Operator,
        _ => ErrorKind::Retry,
    }
}
