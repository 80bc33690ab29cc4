//! What the service is told at start.

use std::sync::Arc;
use std::time::Duration;

use millrace_bus::Start;
use millrace_connector::Warehouse;
use millrace_event_model::{ConnectionId, Lane, SourceId};
use millrace_privacy::{Consent, IntegrationNames};
use millrace_service::{Schedule, Window};
use millrace_transform::Filter;

use crate::rows::Mapping;
use crate::{Contract, RowMode};

/// Settings of the loader.
pub struct Options {
    /// The connections to load.
    pub connections: Vec<ConnectionOptions>,
    /// Names this process in leases: the same after a restart, another in another process.
    pub holder: String,
    /// How long a dead process keeps others from loading its connections.
    pub lease_ttl: Duration,
    /// How large a load may be.
    pub limits: LoadLimits,
}

/// How large a load may be: what a batch of events or records holds in memory at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadLimits {
    /// Items.
    pub max_records: usize,
    /// Bytes on the wire. While a load is committed the next one is read and staged, so two of them are in
    /// memory, each at most twice: as it was read, and as the columns of its rows.
    pub max_bytes: usize,
}

impl Default for LoadLimits {
    /// 20,000 items, as RudderStack batches, of 800 bytes: what a connection takes of memory then stands in
    /// docs/performance.md.
    fn default() -> Self {
        Self { max_records: 20_000, max_bytes: 16 * 1024 * 1024 }
    }
}

/// What decides, beside the schedule, when a connection loads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timing {
    /// When it does not. What has not begun to be committed when a window begins waits for its end.
    pub exclude: Vec<Window>,
    /// Items of a load; those of [`Options::limits`] where there are none.
    pub max_records: Option<usize>,
    /// Bytes of a load; those of [`Options::limits`] where there are none.
    pub max_bytes: Option<usize>,
    /// How long the oldest item may wait, where the schedule is an interval that is longer.
    pub max_age: Option<Duration>,
}

/// What a connection's source makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Events of users, from the lane's `events` topic.
    Events,
    /// Rows of ELT streams, from the lane's `records` topic.
    Records,
}

/// One connection to a warehouse.
#[derive(Clone)]
pub struct ConnectionOptions {
    /// Its id.
    pub id: ConnectionId,
    /// Whose items it loads; others of the lane are passed over.
    pub source: SourceId,
    /// The source's lane.
    pub lane: Lane,
    /// What the source makes.
    pub kind: Kind,
    /// The warehouse's schema that gets the tables.
    pub schema: String,
    /// When to load. An interval gathers for so long, or until a load is full.
    pub schedule: Schedule,
    /// What else decides when, and how large a load becomes.
    pub timing: Timing,
    /// Where to begin, the first time. It is resolved once and kept in the state: a later change of it
    /// changes nothing.
    pub start: Start,
    /// What the client may call the warehouse in the `integrations` object of an event. Not for records.
    pub names: IntegrationNames,
    /// What a user must have consented to for their events to go there. Not for records.
    pub consent: Consent,
    /// Which events go over the connection; all where there is none. Not for records.
    pub when: Option<Arc<Filter>>,
    /// Where to.
    pub warehouse: Arc<dyn Warehouse>,
    /// How events become rows. Its dialect is the warehouse's.
    pub mapping: Mapping<'static>,
    /// How rows of events are written.
    pub mode: RowMode,
    /// Leave out events whose message id was loaded within 28 days. Without it, an event that a client sends
    /// twice is there twice; whatever the loader itself repeats is not, in either case.
    pub dedup: bool,
    /// What may be changed in the schema.
    pub contract: Contract,
    /// Go on behind a gap that retention has made, and count what is gone as expired. Without it the
    /// connection stops at a gap and says so.
    pub accept_gap: bool,
}
