//! Where ELT reads from.

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use millrace_event_model::StreamSpec;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::ConnectorError;

/// One configured source of rows.
#[async_trait]
pub trait Source: Send + Sync {
    /// Whether the settings work: reaches what the source reads from.
    async fn check(&self) -> Result<(), ConnectorError>;

    /// The streams it can read, each with its schema, primary key and the best [`LoadMode`] it allows.
    ///
    /// [`LoadMode`]: millrace_event_model::LoadMode
    async fn streams(&self) -> Result<Vec<StreamSpec>, ConnectorError>;

    /// Reads from a state to the end, sending what it finds to `out`. A full channel makes it wait: that
    /// is the backpressure. Returns when the source is done; an error means that the attempt failed, and
    /// whatever followed the last state counts for nothing.
    ///
    /// A dropped receiver is the order to stop: the source ends its child processes and returns.
    async fn read(
        &self,
        request: ReadRequest,
        out: mpsc::Sender<SourceMessage>,
    ) -> Result<(), ConnectorError>;
}

/// What to read.
#[derive(Debug, Clone)]
pub struct ReadRequest {
    /// The streams, as [`Source::streams`] gave them.
    pub streams: Vec<StreamSpec>,
    /// The state to go on from, as a [`SourceMessage::State`] gave it; `None` reads from the start.
    pub state: Option<Value>,
}

/// What a source says while it is read.
#[derive(Debug)]
pub enum SourceMessage {
    /// A row.
    Record {
        /// Its stream.
        stream: String,
        /// The stream's namespace, where there is one.
        namespace: Option<String>,
        /// The row: a JSON object, byte for byte as the source wrote it.
        json: Bytes,
        /// When the source emitted it.
        emitted_at: DateTime<Utc>,
    },
    /// All rows before it are covered by this state; opaque.
    State(Value),
    /// A line for the log.
    Log {
        /// As the source graded it.
        level: &'static str,
        /// Its text.
        message: String,
    },
}
