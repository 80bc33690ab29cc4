//! What can go wrong, and what to do about it.

use millrace_bus::BusError;
use millrace_connector::ConnectorError;
use millrace_event_model::SourceId;
use millrace_state::StateError;

/// An attempt failed. The next one begins from the last barrier; nothing is lost.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source said so.
    #[error("source {source_id:?} failed: {}", error.full())]
    Source {
        /// Which.
        source_id: SourceId,
        /// Why.
        error: Box<ConnectorError>,
    },
    /// Kafka did not take a record or a barrier.
    #[error("rows of source {source_id:?} could not be published: {error}")]
    Bus {
        /// Whose.
        source_id: SourceId,
        /// Why.
        #[source]
        error: Box<BusError>,
    },
    /// State cannot be read or written.
    #[error("the state of source {source_id:?} could not be kept: {error}")]
    State {
        /// Whose.
        source_id: SourceId,
        /// Why.
        #[source]
        error: Box<StateError>,
    },
    /// Another process reads the source now.
    #[error("source {source_id:?} is being read by {holder}: wait for it, or stop it")]
    Held {
        /// Which.
        source_id: SourceId,
        /// By whom.
        holder: String,
    },
    /// The lease was lost in the middle: another process took over.
    #[error("source {source_id:?} was taken over by another process; this attempt counts for nothing")]
    TakenOver {
        /// Which.
        source_id: SourceId,
    },
    /// A row cannot be scanned for personal data, so it must not be published.
    #[error("a row of source {source_id:?} could not be scanned for personal data: {problem}")]
    Privacy {
        /// Whose.
        source_id: SourceId,
        /// Why.
        problem: String,
    },
    /// The process is to stop.
    #[error(
        "source {source_id:?} was stopped before it was done; the next attempt goes on from its last barrier"
    )]
    Stopped {
        /// Which.
        source_id: SourceId,
    },
    /// `--once` named a source that is not there.
    #[error("there is no ELT source {0:?} in the config")]
    Unknown(String),
}
