//! Which load may come now.

use millrace_connector::{ConnectorError, Load, OffsetRange};
use millrace_event_model::ConnectionId;

use crate::error::Result;
use crate::intent_log::{Cursor, unexpected_range};

/// Whether the load is the one that has to come now.
pub(crate) fn check_ranges(load: &Load, cursor: &Cursor) -> Result<()> {
    let connection = &load.connection;
    if let Some(intent) = &cursor.redo {
        if same_ranges(&intent.ranges, &load.ranges) {
            return Ok(());
        }
        let text = format!("connection {connection} must first do load {} again as it began", intent.number);
        return Err(ConnectorError::retry("redo_first", text));
    }
    let Some(range) = unexpected_range(&cursor.positions, &load.ranges) else { return Ok(()) };
    let expected = cursor.positions.get(&range.partition);
    let text = format!(
        "connection {connection} is to load partition {} from offset {} to {}, but the lake has it up to {expected:?}; \
         another loader has taken over",
        range.partition, range.start, range.end
    );
    Err(ConnectorError::pause("unexpected_position", text))
}

fn same_ranges(a: &[OffsetRange], b: &[OffsetRange]) -> bool {
    let by_partition = |ranges: &[OffsetRange]| {
        let mut ranges: Vec<_> =
            ranges.iter().map(|range| (range.partition, range.start, range.end)).collect();
        ranges.sort_unstable();
        ranges
    };
    by_partition(a) == by_partition(b)
}

/// A load without a resume before it.
pub(crate) fn not_resumed(connection: &ConnectionId) -> ConnectorError {
    let text =
        format!("connection {connection} must be resumed before it loads, and after a load that failed");
    ConnectorError::retry("not_resumed", text)
}
