//! What can go wrong with a connection, and what it does then.

use std::time::Duration;

use millrace_bus::BusError;
use millrace_connector::{ConnectorError, ErrorKind};
use millrace_event_model::ConnectionId;
use millrace_service::TaskError;
use millrace_state::StateError;

use crate::PlanError;
use crate::position::Gap;

/// What went wrong; [`Error::next_step`] says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Kafka.
    #[error("kafka: {0}")]
    Bus(#[from] BusError),
    /// The warehouse.
    #[error("warehouse: {0}")]
    Warehouse(#[from] ConnectorError),
    /// The state store.
    #[error("state: {0}")]
    State(#[from] StateError),
    /// The batch cannot be loaded as the tables are.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Retention overtook the connection.
    #[error("{0}; to go on behind it and count the rest as expired, set accept_gap on the connection")]
    Gap(Gap),
    /// Someone else changed the tables between plan and load.
    #[error("the tables of schema {schema:?} changed while a load was planned")]
    TablesChanged {
        /// The schema.
        schema: String,
    },
    /// The barriers that decide a load's rows are not there: of one that has to be done again, because the
    /// broker has not recovered all its log yet.
    #[error("the log that decides the rows of a load is not there yet")]
    NotYetDecided,
    /// A task that makes rows ended by itself: a mistake in the program, or the process is ending.
    #[error("a task of the loader ended: {0}")]
    Task(#[from] tokio::task::JoinError),
    /// The task of a connection ended by itself: a mistake in the program.
    #[error("{0}")]
    Ended(#[from] TaskError),
    /// `load --once` found another process at work.
    #[error("connection {connection} is being loaded by {holder}; wait for it or stop it")]
    Held {
        /// Which connection.
        connection: ConnectionId,
        /// By whom.
        holder: String,
    },
    /// A job that makes no sense as it was asked for.
    #[error("{0}")]
    Job(String),
    /// A job that cannot be done, or go on, as things are now.
    #[error("{0}")]
    JobState(String),
    /// `load --once` named a connection that the config does not have.
    #[error("there is no connection {0} to a warehouse")]
    UnknownConnection(ConnectionId),
}

/// What a connection does after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextStep {
    /// Resume after this long, or with backoff: it passes by itself.
    Retry {
        /// What the other side asked for.
        after: Option<Duration>,
    },
    /// Give back the lease, say why, and try for it again later: another loader has taken over, or a
    /// person has to act.
    StandBack,
}

impl Error {
    /// What to do.
    #[must_use]
    pub fn next_step(&self) -> NextStep {
        let retry = NextStep::Retry { after: None };
        match self {
            Self::Bus(error) if error.is_retryable() => retry,
            Self::Warehouse(error) => match error.kind {
                ErrorKind::Retry { after } => NextStep::Retry { after },
                // A warehouse that will never take a load needs a person as much as one without access.
                ErrorKind::Reject | ErrorKind::Pause => NextStep::StandBack,
            },
            Self::State(error) if error.is_retryable() => retry,
            Self::TablesChanged { .. } | Self::NotYetDecided => retry,
            Self::Bus(_)
            | Self::State(_)
            | Self::Plan(_)
            | Self::Gap(_)
            | Self::Task(_)
            | Self::Ended(_)
            | Self::Held { .. }
            | Self::Job(_)
            | Self::JobState(_)
            | Self::UnknownConnection(_) => NextStep::StandBack,
        }
    }

    /// The sentence and all that lies beneath it, joined by `: `.
    #[must_use]
    pub fn full(&self) -> String {
        // A connector's error tells its causes itself.
        if let Self::Warehouse(error) = self {
            return format!("warehouse: {}", error.full());
        }
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(error) = next {
            let cause = error.to_string();
            // A variant that only wraps another says the same as the one it wraps.
            if !text.ends_with(&cause) {
                text.push_str(": ");
                text.push_str(&cause);
            }
            next = error.source();
        }
        text
    }

    /// A short name to count by.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Bus(_) => "kafka",
            Self::Warehouse(_) => "warehouse",
            Self::State(_) => "state",
            Self::Plan(PlanError::Batch { .. }) => "internal",
            Self::Plan(PlanError::Frozen { .. }) => "frozen",
            Self::Plan(_) => "plan",
            Self::Task(_) | Self::Ended(_) => "internal",
            Self::Gap(_) => "gap",
            Self::TablesChanged { .. } => "tables_changed",
            Self::NotYetDecided => "not_yet_decided",
            Self::Held { .. } => "held",
            Self::Job(_) | Self::JobState(_) => "job",
            Self::UnknownConnection(_) => "unknown_connection",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_with_its_causes_and_each_once() {
        let cause = std::io::Error::other("no route");
        let warehouse = ConnectorError::retry("away", "cannot reach postgres").caused_by(cause);
        assert_eq!(Error::from(warehouse).full(), "warehouse: cannot reach postgres: no route");
        let state = StateError::Random("entropy is out".to_owned());
        let expected = "state: no random bytes for the workspace key: entropy is out";
        assert_eq!(Error::from(state).full(), expected);
    }

    #[test]
    fn what_passes_by_itself_is_tried_again_and_the_rest_stands_back() {
        let wait = Duration::from_secs(7);
        let retry = ErrorKind::Retry { after: Some(wait) };
        let step = |kind| Error::from(ConnectorError::new(kind, "x", "x")).next_step();
        assert_eq!(step(retry), NextStep::Retry { after: Some(wait) });
        assert_eq!(step(ErrorKind::Pause), NextStep::StandBack);
        assert_eq!(Error::NotYetDecided.next_step(), NextStep::Retry { after: None });
        assert_eq!(Error::from(StateError::Lost { number: 1 }).next_step(), NextStep::StandBack);
    }
}
