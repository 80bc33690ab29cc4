//! What can go wrong in a benchmark: all of it ends the run.

use millrace_bus::BusError;
use millrace_ingest::IngestError;
use rdkafka::error::KafkaError;

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// A file, a process or a connection.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was tried.
        doing: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The stage under test did not start or did not drain.
    #[error("ingest failed: {0}")]
    Ingest(Box<IngestError>),
    /// The topics could not be made or asked.
    #[error("kafka failed: {0}")]
    Bus(Box<BusError>),
    /// The client library, used by itself.
    #[error("cannot {doing}: {source}")]
    Kafka {
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        source: KafkaError,
    },
    /// A part of the benchmark did not do its part.
    #[error("{0}")]
    Failed(String),
    /// What is in the topic is not what was acked.
    #[error("void: {0}")]
    Void(String),
}

impl From<IngestError> for BenchError {
    fn from(error: IngestError) -> Self {
        Self::Ingest(Box::new(error))
    }
}

impl From<BusError> for BenchError {
    fn from(error: BusError) -> Self {
        Self::Bus(Box::new(error))
    }
}

impl BenchError {
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    pub(crate) fn kafka(doing: &'static str) -> impl FnOnce(KafkaError) -> Self {
        move |source| Self::Kafka { doing, source }
    }

    pub(crate) fn corpus(error: impl std::fmt::Display) -> Self {
        Self::Failed(format!("an event of the corpus is refused by the scanner: {error}"))
    }
}
