//! Rows as a file, and its name: pure.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use flate2::{Compression, GzBuilder};
use millrace_columnar::arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray};
use millrace_columnar::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use millrace_columnar::parquet_bytes;
use millrace_event_model::parse_moment;
use serde_json::{Map, Value};

use super::config::Format;
use crate::destinations::shared::fields::{at, text};
use crate::destinations::shared::hashing::sha256;

/// A row of a file.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// The item's idempotency key.
    pub(super) id: String,
    /// JSON without a line break.
    pub(super) line: Bytes,
}

/// Digits of a file's name: so many that no two batches have the same.
const NAME_DIGITS: usize = 32;

/// A name that the same rows always have, in whatever order.
pub(super) fn name(rows: &[Row], format: Format) -> String {
    let mut ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    ids.sort_unstable();
    let mut digits = sha256(&ids.join("\n"));
    digits.truncate(NAME_DIGITS);
    match format {
        Format::Ndjson => format!("{digits}.ndjson.gz"),
        Format::Parquet => format!("{digits}.parquet"),
    }
}

/// The file. The error says what is wrong, without values.
pub(super) fn encode(rows: &[Row], format: Format) -> Result<Bytes, String> {
    match format {
        Format::Ndjson => ndjson(rows).map_err(|error| error.to_string()),
        Format::Parquet => parquet(rows),
    }
}

fn ndjson(rows: &[Row]) -> std::io::Result<Bytes> {
    // Without a time, so that the same rows are the same bytes.
    let mut writer = GzBuilder::new().mtime(0).write(Vec::new(), Compression::default());
    for row in rows {
        writer.write_all(&row.line)?;
        writer.write_all(b"\n")?;
    }
    writer.finish().map(Bytes::from)
}

/// A column of text, and the paths of its value in an event and in a change.
const TEXTS: [(&str, &[&str]); 4] = [
    ("type", &["type"]),
    ("event", &["event"]),
    ("user_id", &["userId", "data.userId"]),
    ("anonymous_id", &["anonymousId", "data.anonymousId"]),
];

/// A column of moments, and where an event has them.
const MOMENTS: [(&str, &str); 2] = [("received_at", "receivedAt"), ("timestamp", "timestamp")];

fn parquet(rows: &[Row]) -> Result<Bytes, String> {
    let documents: Vec<Map<String, Value>> =
        rows.iter().map(|row| serde_json::from_slice(&row.line).unwrap_or_default()).collect();
    let mut fields = vec![Field::new("id", DataType::Utf8, false)];
    let mut columns: Vec<ArrayRef> =
        vec![Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.id.as_str())))];
    for (name, paths) in TEXTS {
        let value = |document| paths.iter().find_map(|path| at(document, path).and_then(text));
        fields.push(Field::new(name, DataType::Utf8, true));
        columns.push(Arc::new(documents.iter().map(value).collect::<StringArray>()));
    }
    for (name, path) in MOMENTS {
        let value = |document: &Map<String, Value>| at(document, path)?.as_str().and_then(parse_moment);
        let moments: TimestampMicrosecondArray = documents.iter().map(value).collect();
        fields.push(Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true));
        columns.push(Arc::new(moments.with_timezone("UTC")));
    }
    let lines: Result<Vec<&str>, _> = rows.iter().map(|row| std::str::from_utf8(&row.line)).collect();
    let lines = lines.map_err(|error| error.to_string())?;
    fields.push(Field::new("document", DataType::Utf8, false));
    columns.push(Arc::new(StringArray::from_iter_values(lines)));
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(schema.clone(), columns).map_err(|error| error.to_string())?;
    parquet_bytes(schema, &[batch]).map_err(|error| error.to_string())
}
