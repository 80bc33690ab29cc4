//! What a table asks of whoever reads and writes it, where a new column changes that.

use deltalake_core::DeltaTableError;
use deltalake_core::kernel::{DataType, Protocol, StructType};
use serde_json::{Value, json};

/// The feature of columns of local times.
const LOCAL_TIMES: &str = "timestampNtz";

/// The feature of files of which some rows are deleted.
const DELETION_VECTORS: &str = "deletionVectors";

/// Features that every writer of version 2 has, and that version 7 wants named.
const OF_OLD: [&str; 2] = ["appendOnly", "invariants"];

/// The protocol for these columns, if it is not the present one. Only local times ask for more than a table
/// of the lake has from the start.
pub(crate) fn protocol_for(
    present: &Protocol,
    columns: &StructType,
) -> Result<Option<Protocol>, DeltaTableError> {
    let has_local_times = columns.fields().any(|field| *field.data_type() == DataType::TIMESTAMP_NTZ);
    let mut protocol = serde_json::to_value(present)?;
    let features = |key: &str, of_old: &[&str]| -> Vec<Value> {
        let present = protocol.get(key).and_then(Value::as_array).cloned();
        present.unwrap_or_else(|| of_old.iter().map(|feature| json!(feature)).collect())
    };
    let (mut readers, mut writers) = (features("readerFeatures", &[]), features("writerFeatures", &OF_OLD));
    if !has_local_times || readers.contains(&json!(LOCAL_TIMES)) {
        return Ok(None);
    }
    readers.push(json!(LOCAL_TIMES));
    writers.push(json!(LOCAL_TIMES));
    protocol = json!({
        "minReaderVersion": 3,
        "minWriterVersion": 7,
        "readerFeatures": readers,
        "writerFeatures": writers,
    });
    Ok(Some(serde_json::from_value(protocol)?))
}

/// Whether files of the table may have rows that are deleted, without looking at the files.
pub(crate) fn has_deletion_vectors(present: &Protocol) -> bool {
    let features = present.writer_features().unwrap_or_default();
    features.iter().any(|feature| feature.as_ref() == DELETION_VECTORS)
}
