//! What a record that cannot be loaded is kept as.

use chrono::{DateTime, Utc};
use millrace_bus::Received;
use millrace_event_model::{DeadLetter, Reason, Stage};

use crate::ConnectionOptions;

/// The record with its reason. Its id is that of the record's place, so that a repetition after a crash is
/// recognised.
pub(crate) fn dead_letter<M>(
    connection: &ConnectionOptions,
    topic: &str,
    at: DateTime<Utc>,
    record: &Received<M>,
    reason: Reason,
) -> DeadLetter {
    DeadLetter {
        stage: Stage::WarehouseLoader,
        subject: connection.id.to_string(),
        topic: topic.to_owned(),
        partition: record.partition,
        offset: record.offset,
        reason,
        at,
        original: record.raw.clone(),
    }
}
