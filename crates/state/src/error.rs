//! Why the state could not be read or written.

use std::error::Error;
use std::io::ErrorKind;

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

    /// Whether the store has answered that this is not allowed, or cannot be: a person has to act.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        use object_store::Error as Store;
        let Self::Store { source, .. } = self else { return false };
        match source {
            // An object that is not there is no error: this is the bucket.
            Store::NotFound { .. }
            | Store::PermissionDenied { .. }
            | Store::Unauthenticated { .. }
            | Store::NotSupported { .. } => true,
            _ => io_error(source).is_some_and(|error| NEEDS_A_PERSON.contains(&error.kind())),
        }
    }
}

/// Errors of a folder that do not go away by themselves.
const NEEDS_A_PERSON: [ErrorKind; 3] =
    [ErrorKind::PermissionDenied, ErrorKind::NotADirectory, ErrorKind::ReadOnlyFilesystem];

/// What the system said, where that is what is behind it.
fn io_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e std::io::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(source: object_store::Error) -> StateError {
        StateError::Store { action: "write", path: "key".to_owned(), source }
    }

    fn of_a_folder(kind: ErrorKind) -> StateError {
        let source = Box::new(std::io::Error::from(kind));
        store(object_store::Error::Generic { store: "LocalFileSystem", source })
    }

    #[test]
    fn a_store_that_refuses_is_no_store_that_is_away() {
        assert!(of_a_folder(ErrorKind::PermissionDenied).is_refused());
        assert!(of_a_folder(ErrorKind::NotADirectory).is_refused());
        assert!(!of_a_folder(ErrorKind::TimedOut).is_refused());
        let denied = object_store::Error::PermissionDenied { path: "key".to_owned(), source: "403".into() };
        assert!(store(denied).is_refused());
        assert!(!StateError::Random("none".to_owned()).is_refused());
    }
}
