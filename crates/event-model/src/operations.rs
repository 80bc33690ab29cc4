//! What operators say to the stages, and the record of who said it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::wire::{DecodeError, Message, WireRecord, from_json, json_record};
use crate::{DestinationId, PartitionKey, SourceId};

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
    /// Store nothing more of this user: they asked to be forgotten.
    Suppress {
        /// The user, by [`KeyHasher::user`](crate::KeyHasher::user): the id itself is nowhere in the topic.
        user: PartitionKey,
        /// Only what comes in by this source; by any of the workspace's where there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<SourceId>,
        /// Why, for whoever looks later.
        reason: String,
        /// Since when.
        at: DateTime<Utc>,
    },
    /// Take the user's events again.
    Unsuppress {
        /// As in `Suppress`.
        user: PartitionKey,
        /// As in `Suppress`: each of them is taken back alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<SourceId>,
        /// Since when.
        at: DateTime<Utc>,
    },
}

impl Control {
    /// What the word is about, in the form of the record's key: a later word on the same subject replaces
    /// it. Also the subject of the audit entry.
    #[must_use]
    pub fn subject(&self) -> String {
        match self {
            Self::Pause { destination, .. } | Self::Resume { destination, .. } => {
                format!("destination/{destination}")
            }
            Self::Suppress { user, source, .. } | Self::Unsuppress { user, source, .. } => match source {
                Some(source) => format!("user/{}/{source}", user.to_hex()),
                None => format!("user/{}", user.to_hex()),
            },
        }
    }

    /// The destination that the word is about, if it is about one.
    #[must_use]
    pub fn destination(&self) -> Option<&DestinationId> {
        match self {
            Self::Pause { destination, .. } | Self::Resume { destination, .. } => Some(destination),
            Self::Suppress { .. } | Self::Unsuppress { .. } => None,
        }
    }
}

impl Message for Control {
    fn encode(&self) -> WireRecord {
        json_record(self.subject(), self)
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
    /// What was done, in dotted words: `service.started`, `destination.paused`, `user.suppressed`.
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
