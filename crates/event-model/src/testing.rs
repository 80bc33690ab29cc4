//! Messages for tests, behind the feature `testing`: one of each kind, whose fields a test changes by struct
//! update.
#![allow(clippy::unwrap_used, reason = "for tests")]

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::{Change, ChangeOp, Event, MessageId, PartitionKey};

/// When all of them happened: 2023-11-14T22:13:20Z.
#[must_use]
pub fn moment() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(1_700_000_000)
}

/// The `track` event `m-1` of the source `web` with this body, and nothing else that the server knows.
#[must_use]
pub fn event(body: &str) -> Event {
    Event {
        event_type: "track".into(),
        message_id: MessageId("m-1".to_owned()),
        rudder_id: Uuid::nil(),
        received_at: moment(),
        sent_at: None,
        request_ip: None,
        geo: None,
        source: "web".parse().unwrap(),
        policy: None,
        traceparent: None,
        key: PartitionKey([1; 16]),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

/// A row that run 7 of the sync `people` found for the destination `crm`.
#[must_use]
pub fn change(op: ChangeOp, body: &str) -> Change {
    Change {
        sync: "people".parse().unwrap(),
        run: 7,
        destination: "crm".parse().unwrap(),
        op,
        key: PartitionKey([2; 16]),
        row_hash: PartitionKey([3; 16]),
        published_at: moment(),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}
