//! A row that reverse ETL found new, changed or gone.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::wire::{DecodeError, Message, WireRecord};
use crate::{DestinationId, IdempotencyKey, PartitionKey, SyncId};

/// What the destination is to do with the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeOp {
    /// Make it so: insert or update.
    Upsert,
    /// Remove it.
    Delete,
}

impl ChangeOp {
    /// `upsert` or `delete`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Upsert => "upsert",
            Self::Delete => "delete",
        }
    }
}

/// One change of one sync. Whoever delivers it answers with an outcome that names sync, run, key and hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The sync that found it.
    pub sync: SyncId,
    /// The run of the sync; a higher run is newer. Deliver drops a change older than its key's last.
    pub run: u64,
    /// Where it goes.
    pub destination: DestinationId,
    /// What is to be done.
    pub op: ChangeOp,
    /// Hash of the row's key columns: the record key, and the row's identity in the snapshot.
    pub key: PartitionKey,
    /// Hash of the mapped output, 16 bytes in hexadecimal: which version of the row this is.
    pub row_hash: PartitionKey,
    /// When the run published it.
    pub published_at: DateTime<Utc>,
    /// The mapped output: a JSON object. For a delete, the mapped key columns alone.
    pub body: Bytes,
}

const SYNC: &str = "sync";
const RUN: &str = "run";
const DESTINATION: &str = "destination";
const OP: &str = "op";
const ROW_HASH: &str = "row-hash";
const PUBLISHED_AT: &str = "published-at";

impl Change {
    /// Stable over retries and restarts: `<sync>/<run>/<key>`.
    #[must_use]
    pub fn idempotency_key(&self) -> IdempotencyKey {
        format!("{}/{}/{}", self.sync, self.run, self.key.to_hex()).into()
    }
}

impl Message for Change {
    fn encode(&self) -> WireRecord {
        WireRecord::new(Bytes::copy_from_slice(&self.key.0), self.body.clone())
            .with(SYNC, self.sync.to_string())
            .with(RUN, self.run.to_string())
            .with(DESTINATION, self.destination.to_string())
            .with(OP, self.op.as_str())
            .with(ROW_HASH, self.row_hash.to_hex())
            .with_time(PUBLISHED_AT, self.published_at)
    }

    fn decode(record: &WireRecord) -> Result<Self, DecodeError> {
        let op = match record.required(OP)? {
            "upsert" => ChangeOp::Upsert,
            "delete" => ChangeOp::Delete,
            _ => {
                return Err(DecodeError::MalformedHeader {
                    name: OP,
                    problem: "not upsert or delete".to_owned(),
                });
            }
        };
        let row_hash = PartitionKey::from_hex(record.required(ROW_HASH)?).ok_or_else(|| {
            DecodeError::MalformedHeader { name: ROW_HASH, problem: "not 32 hexadecimal digits".to_owned() }
        })?;
        Ok(Self {
            sync: record.parsed(SYNC)?,
            run: record.parsed(RUN)?,
            destination: record.parsed(DESTINATION)?,
            op,
            key: record.partition_key()?,
            row_hash,
            published_at: record.time(PUBLISHED_AT)?,
            body: record.body()?,
        })
    }
}
