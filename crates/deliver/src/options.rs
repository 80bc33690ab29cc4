//! What the stage is told by the binary.

use std::sync::Arc;
use std::time::Duration;

use millrace_bus::Start;
use millrace_connector::{Destination, Limits};
use millrace_event_model::{DestinationId, Lane, SourceId};
use millrace_privacy::{Consent, IntegrationNames};
use millrace_transform::Filter;

use crate::RetryPolicy;

/// All that the stage delivers to.
#[derive(Debug)]
pub struct Options {
    /// The destinations; each is served by itself, and none waits for another.
    pub destinations: Vec<DestinationOptions>,
    /// A name of this process that stays over restarts and that no other process has: with it, a restart
    /// is no rebalance. `None` joins anew each time.
    pub instance: Option<String>,
    /// How often outcomes and resume state are stored, at least.
    pub store_every: Duration,
    /// How long a stop waits for what is in flight.
    pub drain: Duration,
}

/// One destination.
pub struct DestinationOptions {
    /// Its id in the config.
    pub id: DestinationId,
    /// The connector.
    pub destination: Arc<dyn Destination>,
    /// The connections that lead events to it.
    pub connections: Vec<EventConnection>,
    /// Whether a sync of reverse ETL leads to it.
    pub takes_changes: bool,
    /// What an event's `integrations` object may call it.
    pub names: IntegrationNames,
    /// What a user must have consented to for their events to go there.
    pub consent: Consent,
    /// When failed items are tried again and given up.
    pub retry: RetryPolicy,
    /// How much may be unfinished at once.
    pub bounds: Bounds,
    /// How often one item is tried while the destination says that a person must act.
    pub probe_every: Duration,
}

/// A connection from a source of events to a destination.
#[derive(Debug)]
pub struct EventConnection {
    /// The source.
    pub source: SourceId,
    /// The lane that its events are in.
    pub lane: Lane,
    /// The connection's `when`.
    pub filter: Option<Filter>,
    /// Where to begin in partitions that were never read for this destination. Where several connections
    /// share a lane, the earliest counts for all.
    pub start: Start,
}

/// How much of a destination may be unfinished at once. At a bound nothing more is read; the items wait
/// in Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The window: items that wait for their turn, are in flight, or have ended and are not stored yet. It
    /// is the most that a crash repeats.
    pub active: usize,
    /// Items that wait for keys that fail.
    pub parked: usize,
    /// Bytes of all of them together.
    pub bytes: usize,
}

/// The smallest window by default: some hundred requests a second at a second each.
const LEAST_ACTIVE: usize = 1_000;

/// The largest by default: a small machine's memory bears some of them, and so many repeats a receiver.
const MOST_ACTIVE: usize = 20_000;

impl Bounds {
    /// What a destination with such limits keeps busy: as much as is in flight, as much that has ended and is
    /// being stored, and twice as much that waits for its turn; but 1,000 items at least and 20,000 at most.
    #[must_use]
    pub fn of(limits: &Limits) -> Self {
        let in_flight = limits.max_items.saturating_mul(limits.concurrency);
        let active = in_flight.saturating_mul(4).clamp(LEAST_ACTIVE, MOST_ACTIVE);
        Self { active, parked: 2 * active, bytes: 64 * 1024 * 1024 }
    }
}

impl Options {
    /// These destinations, with the defaults for the rest.
    #[must_use]
    pub fn new(destinations: Vec<DestinationOptions>) -> Self {
        Self {
            destinations,
            instance: None,
            store_every: Duration::from_secs(1),
            drain: Duration::from_secs(20),
        }
    }
}

impl DestinationOptions {
    /// A destination without connections yet, with the defaults for the rest.
    #[must_use]
    pub fn new(id: DestinationId, destination: Arc<dyn Destination>) -> Self {
        let bounds = Bounds::of(&destination.limits());
        Self {
            names: IntegrationNames::new([id.as_str()]),
            consent: Consent::default(),
            id,
            destination,
            connections: Vec::new(),
            takes_changes: false,
            retry: RetryPolicy::default(),
            bounds,
            probe_every: Duration::from_secs(300),
        }
    }
}

impl std::fmt::Debug for DestinationOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DestinationOptions")
            .field("id", &self.id)
            .field("connections", &self.connections)
            .field("takes_changes", &self.takes_changes)
            .finish_non_exhaustive()
    }
}
