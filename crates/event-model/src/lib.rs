//! What two stages must agree on: the messages that cross Kafka, their ids, the field types of
//! warehouse columns, and the topics themselves.
//!
//! Nothing here does I/O or is async. A stage that wants to talk to another stage does so by a type of
//! this crate and a topic of [`topics`]; there is no other way.
//!
//! Reading order: [`topics`] is the map of the river, then [`Event`], [`Record`] and [`Change`] (the
//! three things that flow down it), then [`Outcome`] and [`DeadLetter`] (what became of them). [`wire`]
//! is how each becomes a Kafka record; samples of every shape ever written are kept in
//! `tests/wire/v1`, and decoding them all is the compatibility promise.

mod change;
mod event;
mod event_times;
mod field;
mod geo;
mod header;
mod ids;
mod moment;
mod operations;
mod outcome;
mod record;
#[cfg(feature = "testing")]
pub mod testing;
mod time;
pub mod topics;
mod visible;
pub mod wire;

pub use change::{Change, ChangeOp};
pub use event::{Event, EventRef, EventType, UnknownEventType};
pub use event_times::EventTimes;
pub use field::FieldType;
pub use geo::Geo;
pub use ids::{
    AttemptId, ConnectionId, DestinationId, IdempotencyKey, InvalidId, KeyHasher, Lane, MessageId,
    PartitionKey, SourceId, SyncId, WarehouseId, Workspace, rudder_id,
};
pub use moment::parse_moment;
pub use operations::{AuditEntry, Control};
pub use outcome::{DeadLetter, Disposition, Origin, Outcome, Progress, Reason, Stage};
pub use record::{Barrier, LoadMode, Record, RecordBody, StreamSpec};
pub use visible::visible;
