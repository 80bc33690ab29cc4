//! What operators say to the stages, and the record of who said it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::DestinationId;
use crate::wire::{DecodeError, Message, WireRecord, from_json, json_record};

/// The present word of an operator on one subject; the topic keeps the last of each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub enum Control {
    /// Send nothing to this destination until it is resumed.
    Pause {
        /// Which.
        destination: DestinationId,
        /// Why, for whoever looks later.
        reason: String,
        /// Since when.
        at: DateTime<Utc>,
    },
    /// Go on sending.
    Resume {
        /// Which.
        destination: DestinationId,
        /// Since when.
        at: DateTime<Utc>,
    },
}

impl Message for Control {
    fn encode(&self) -> WireRecord {
        let (Self::Pause { destination, .. } | Self::Resume { destination, .. }) = self;
        json_record(format!("destination/{destination}"), self)
    }

    fn decode(record: &WireRecord) -> Result<Self, DecodeError> {
        from_json(record)
    }
}

/// Something an auditor will ask about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When it happened.
    pub at: DateTime<Utc>,
    /// Who did it: an operator, or a stage with its process id.
    pub actor: String,
    /// What was done, in dotted words: `service.started`, `destination.paused`.
    pub action: String,
    /// To what.
    pub subject: String,
}

impl Message for AuditEntry {
    fn encode(&self) -> WireRecord {
        json_record(self.subject.clone(), self)
    }

    fn decode(record: &WireRecord) -> Result<Self, DecodeError> {
        from_json(record)
    }
}
