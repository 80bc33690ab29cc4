//! From the errors of Delta, Arrow and the store to the one error of connectors.

use deltalake_core::DeltaTableError;
use deltalake_core::kernel::transaction::TransactionError;
use millrace_connector::ConnectorError;
use millrace_state::StateError;

pub(crate) type Result<T> = std::result::Result<T, ConnectorError>;

/// A failure of a Delta table. All are retried but those that only a person can mend.
pub(crate) fn delta(context: String, error: DeltaTableError) -> ConnectorError {
    let unsupported = matches!(
        &error,
        DeltaTableError::Transaction {
            source: TransactionError::UnsupportedTableFeatures(_)
                | TransactionError::TableFeaturesRequired(_)
                | TransactionError::DeltaTableAppendOnly
        }
    );
    if unsupported {
        return ConnectorError::pause("table_features", context).caused_by(error);
    }
    ConnectorError::retry("delta", context).caused_by(error)
}

/// Whether another writer's commit came first: what was planned was planned on an old version.
pub(crate) fn is_conflict(error: &DeltaTableError) -> bool {
    matches!(
        error,
        DeltaTableError::VersionAlreadyExists(_)
            | DeltaTableError::Transaction {
                source: TransactionError::CommitConflict(_)
                    | TransactionError::MaxCommitAttempts(_)
                    | TransactionError::VersionAlreadyExists(_)
            }
    )
}

/// A failure of the store beneath the intent log, the seen ids and the staged rows.
pub(crate) fn state(context: &str, error: StateError) -> ConnectorError {
    if error.is_retryable() {
        return ConnectorError::retry("store", context).caused_by(error);
    }
    ConnectorError::pause("store", context).caused_by(error)
}

/// Rows that do not fit their table, or a file that is not Parquet: trying again cannot help.
pub(crate) fn rows(
    context: String,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> ConnectorError {
    ConnectorError::pause("rows", context).caused_by(error)
}
