//! Why the state could not be read or written.

/// An error of the state store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Someone else wrote this generation, or a later one, first. What the caller holds is out of date:
    /// read the latest and decide again, or stop.
    #[error("generation {number} was written by someone else first")]
    Lost {
        /// The number that was wanted.
        number: u64,
    },
    /// The location of the store cannot be used: mend the config.
    #[error("state location {location:?}: {problem}")]
    Location {
        /// As the config gives it.
        location: String,
        /// What is wrong, and what would do.
        problem: String,
    },
    /// Not a path within a store.
    #[error("invalid path {path:?} in the state store")]
    InvalidPath {
        /// The path.
        path: String,
        /// What is wrong with it.
        #[source]
        source: object_store::path::Error,
    },
    /// The store did not answer as it should: try again later.
    #[error("cannot {action} {path:?} in the state store")]
    Store {
        /// What was tried: read, write, list, delete.
        action: &'static str,
        /// On what.
        path: String,
        /// What the store said.
        #[source]
        source: object_store::Error,
    },
    /// What is stored there is not what was expected: a newer version wrote it, or the disk lost it.
    #[error("{path:?} in the state store is malformed: {problem}")]
    Malformed {
        /// Which object.
        path: String,
        /// What is wrong; never its content.
        problem: String,
    },
    /// A value that cannot be written as JSON: a mistake in the program.
    #[error("cannot encode {path:?} as JSON")]
    Encode {
        /// Where it was to be written.
        path: String,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// The system gave no random bytes for a new key.
    #[error("no random bytes for the workspace key: {0}")]
    Random(String),
}

impl StateError {
    /// Whether trying the same again later can help. `Lost` cannot: something must be read anew first.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Store { .. } | Self::Random(_))
    }
}
