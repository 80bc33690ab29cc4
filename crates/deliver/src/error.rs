//! What can keep a destination from being served.

use millrace_bus::{BusError, ErrorKind};
use millrace_event_model::DestinationId;

/// Why the stage, or one destination of it, cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeliverError {
    /// Kafka.
    #[error("destination {destination} cannot be served")]
    Bus {
        /// Whose topics were read or written.
        destination: DestinationId,
        /// What happened.
        source: BusError,
    },
    /// The stage's producer cannot be made.
    #[error("the stage cannot publish")]
    Publisher(#[source] BusError),
    /// Reading the dead letters came to no end.
    #[error("Kafka sends nothing more of the dead letters of destination {destination} before their end")]
    Silent {
        /// Whose.
        destination: DestinationId,
    },
    /// The resume state is of another Kafka cluster.
    #[error(
        "the progress of destination {destination} in {topic} is of Kafka cluster {stored:?}, and this is \
         {found:?}: point it at the old cluster, or give the destination a new id to start anew"
    )]
    OtherCluster {
        /// Whose.
        destination: DestinationId,
        /// Where.
        topic: String,
        /// The cluster that was read until now.
        stored: String,
        /// The cluster that is there.
        found: String,
    },
    /// A task of the stage ended as it should not.
    #[error("the stage has ended")]
    Task(#[source] millrace_service::TaskError),
}

impl DeliverError {
    /// Whether trying again may help, without a person.
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            Self::Bus { source, .. } | Self::Publisher(source) => source.kind() == ErrorKind::Retry,
            Self::Silent { .. } => true,
            Self::OtherCluster { .. } | Self::Task(_) => false,
        }
    }

    /// The error and all that lies beneath it, for the log and the health page.
    #[must_use]
    pub fn full(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(error) = next {
            text.push_str(": ");
            text.push_str(&error.to_string());
            next = error.source();
        }
        text
    }
}
