//! Why a run did not come to its end.

use chrono::{DateTime, Utc};
use millrace_bus::BusError;
use millrace_connector::{ConnectorError, ErrorKind};
use millrace_state::StateError;
use millrace_transform::FieldMapError;

/// Why a run did not come to its end. Whatever it is, the next run loses nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no sync of that name.
    #[error("there is no sync {0:?}")]
    UnknownSync(String),
    /// Another process runs it.
    #[error("the sync is being run by {holder:?}, whose lease holds until {until}")]
    Held {
        /// Who.
        holder: String,
        /// Until when, unless it is renewed.
        until: DateTime<Utc>,
    },
    /// Another process has taken the lease over while this one ran.
    #[error("another process has taken over the sync; this run ends")]
    LeaseLost,
    /// The process is to stop.
    #[error("the run was stopped; what is not known to have arrived is sent again by the next one")]
    Stopped,
    /// The model does not give what the sync needs.
    #[error("the model has no column {column:?}; it has {columns}")]
    MissingColumn {
        /// What is missing.
        column: String,
        /// What there is.
        columns: String,
    },
    /// The map cannot be applied.
    #[error("the sync's map cannot be applied")]
    Map(#[from] FieldMapError),
    /// The model failed.
    #[error("the model cannot be run")]
    Warehouse(#[from] ConnectorError),
    /// Outcomes do not come.
    #[error("{unsettled} changes have no outcome after {waited:?}: is deliver running?")]
    Unsettled {
        /// How many.
        unsettled: u64,
        /// How long it was waited for them.
        waited: std::time::Duration,
    },
    /// Kafka.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The state store.
    #[error(transparent)]
    State(#[from] StateError),
    /// A snapshot or a row cannot be read or written.
    #[error("cannot read or write a snapshot")]
    Columns(#[from] millrace_columnar::ParquetError),
    /// A value of the model cannot be read.
    #[error("cannot read the model's rows")]
    Rows(#[from] millrace_columnar::arrow::error::ArrowError),
    /// What is stored is not a snapshot of this version.
    #[error("the snapshot {path:?} is malformed: {problem}")]
    Snapshot {
        /// Which file.
        path: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// The work folder.
    #[error("cannot use the work folder")]
    WorkDir(#[from] std::io::Error),
    /// A blocking task was cut off, which happens when the runtime ends, or panicked.
    #[error("a task of the run was cut off")]
    Task(#[from] tokio::task::JoinError),
}

impl Error {
    /// Whether the next run may succeed without anybody doing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Held { .. } | Self::LeaseLost | Self::Stopped | Self::Unsettled { .. } | Self::Task(_) => {
                true
            }
            Self::Warehouse(error) => matches!(error.kind, ErrorKind::Retry { .. }),
            Self::Bus(error) => error.is_retryable(),
            Self::State(error) => error.is_retryable(),
            _ => false,
        }
    }
}
