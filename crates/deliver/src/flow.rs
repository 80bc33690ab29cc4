//! The state of one destination between reading and the end of each item: pure.
//!
//! The engine feeds it what was read and how the sending went; it says what may be sent now, how much
//! more may be read, and what is to be stored. All decisions of the stage are here and in the modules it is
//! made of; none of them awaits.

mod sending;

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use chrono::{DateTime, Utc};
use millrace_connector::{Limits, Payload};
use millrace_event_model::{Control, Event, PartitionKey};

use crate::RetryPolicy;
use crate::admit::{Admission, Pending, Read, Routes};
use crate::breaker::Breaker;
use crate::call::Forming;
use crate::gate::Gate;
use crate::ledger::{End, Ledger, Place, Statement};
use crate::metrics::Metrics;
use crate::options::Bounds;
use crate::pace::Pace;
use crate::progress::Position;
use crate::recent::Recent;
use crate::window::Window;

/// Client retries are removed for so long, while the process lives.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(3600);

/// Ids remembered for that, some 60 bytes each. A destination with more events an hour forgets sooner.
const RECENT_IDS: usize = 400_000;

/// Rows of which the last run is remembered. A change that comes after its row was forgotten is sent: the
/// topic's order makes it the newest in all but odd cases.
const RECENT_ROWS: usize = 200_000;

/// A statement of so many items is long enough: it is all in memory.
const MAX_STATEMENT: usize = 5_000;

/// An item on its way: where it came from. A ticket of a partition that was given up since, even if it
/// came back, is void.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    place: Place,
    offset: i64,
    ownership: u64,
}

/// An event by its source and message id: hashes of both, good for as long as the process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sighted([u64; 2]);

impl Sighted {
    fn new(sources: &ahash::RandomState, event: &Event, message_id: [u8; 16]) -> Self {
        let hash = u128::from_ne_bytes(message_id) ^ u128::from(sources.hash_one(&event.source));
        Self([hash as u64, (hash >> 64) as u64])
    }
}

impl Hash for Sighted {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // A hash already: a part of it serves.
        state.write_u64(self.0[1]);
    }
}

struct Owned {
    window: Window<Box<Pending>>,
    ownership: u64,
    /// It is being given up: nothing more is sent.
    leaving: bool,
    /// Something has changed since the last statement.
    dirty: bool,
}

/// See the module's text.
pub(crate) struct Flow {
    routes: Routes,
    retry: RetryPolicy,
    /// With an item that fails; `retry` unless a job is less patient with those. What is throttled waits by `retry`.
    patience: RetryPolicy,
    bounds: Bounds,
    /// Items of one key are sent one after the other.
    ordered: bool,
    /// But may share a call, which keeps their order.
    together: bool,
    owned: BTreeMap<Place, Owned>,
    /// How many partitions were ever assigned: numbers the ownerships.
    ownerships: u64,
    /// The partition that was served last, so that all get their turn.
    served: Option<Place>,
    bytes: usize,
    /// Items that were sent and have ended since the last statement: a crash would repeat them.
    unstored: usize,
    /// Those of the statement that is being stored.
    storing: usize,
    /// Where each event was seen first.
    seen: Recent<Sighted, (Place, i64)>,
    sources: ahash::RandomState,
    /// By row: the newest run.
    runs: Recent<PartitionKey, u64>,
    forming: Forming,
    gate: Gate,
    breaker: Breaker,
    pace: Pace,
    ledger: Ledger,
    metrics: Metrics,
}

impl Flow {
    pub(crate) fn new(
        routes: Routes,
        topics: Vec<String>,
        limits: &Limits,
        retry: RetryPolicy,
        bounds: Bounds,
        probe_every: Duration,
    ) -> Self {
        let metrics = Metrics::of(&routes.destination);
        Self {
            ledger: Ledger::new(routes.destination.clone(), topics),
            routes,
            retry,
            patience: retry,
            bounds,
            ordered: limits.ordered,
            together: limits.together,
            owned: BTreeMap::new(),
            ownerships: 0,
            served: None,
            bytes: 0,
            unstored: 0,
            storing: 0,
            seen: Recent::new(DUPLICATE_WINDOW, RECENT_IDS),
            sources: ahash::RandomState::new(),
            runs: Recent::new(DUPLICATE_WINDOW, RECENT_ROWS),
            forming: Forming::new(limits),
            gate: Gate::new(probe_every),
            breaker: Breaker::default(),
            pace: Pace::new(limits.rate, retry),
            metrics,
        }
    }

    /// With another patience with items that fail.
    pub(crate) fn with_patience(mut self, patience: RetryPolicy) -> Self {
        self.patience = patience;
        self
    }

    /// A partition is ours, from this position on.
    pub(crate) fn own(&mut self, position: &Position) {
        self.give_up(position.place);
        self.ownerships += 1;
        // Rows do not share: a failure of the older one alone would bring it behind the newer.
        let together = self.together && position.place.topic < self.routes.connections.len();
        let window = Window::resume(position.low, &position.done, together);
        let owned = Owned { window, ownership: self.ownerships, leaving: false, dirty: true };
        self.owned.insert(position.place, owned);
    }

    /// A partition is to be given up: what is in flight may land, nothing more is sent.
    pub(crate) fn leave(&mut self, place: Place) {
        self.put_back_formed(|ticket| ticket.place == place);
        if let Some(owned) = self.owned.get_mut(&place) {
            owned.leaving = true;
        }
    }

    /// How many of a partition's items are in flight.
    pub(crate) fn in_flight(&self, place: Place) -> usize {
        self.owned.get(&place).map_or(0, |owned| owned.window.in_flight())
    }

    /// A partition is no longer ours. What had not ended is for the next owner.
    pub(crate) fn give_up(&mut self, place: Place) {
        self.put_back_formed(|ticket| ticket.place == place);
        let Some(mut owned) = self.owned.remove(&place) else { return };
        while let Some(pending) = owned.window.pop() {
            self.bytes -= pending.bytes;
        }
    }

    /// All partitions are no longer ours, and nobody waits for what is in flight.
    pub(crate) fn give_up_all(&mut self) {
        drop(self.forming.take());
        self.owned.clear();
        self.bytes = 0;
        self.unstored = 0;
        self.storing = 0;
        self.gate.forget_probe();
        self.breaker.forget_call();
    }

    /// Retention took a range before it was read, and an operator has accepted that.
    pub(crate) fn expired(&mut self, place: Place, range: (i64, i64), now: DateTime<Utc>) {
        self.metrics.expired(u64::try_from(range.1 - range.0).unwrap_or_default());
        self.ledger.expired(place, range, now);
    }

    /// How many more records may be taken in. None at the bounds: what waits for a key that fails, or for
    /// a destination that is slow or paused, stays in Kafka.
    pub(crate) fn room(&self) -> usize {
        let bytes = self.bytes + self.ledger.bytes();
        if bytes >= self.bounds.bytes || self.parked() >= self.bounds.parked {
            return 0;
        }
        let active = self.unfinished() - self.parked();
        let window = self.bounds.active.saturating_sub(active + self.unstored + self.storing);
        // While a statement is on its way, the next one must not grow without end.
        let room = window.min(MAX_STATEMENT.saturating_sub(self.ledger.len()));
        // To ask for one whenever one has ended would cost more than to send it.
        let has_enough = active >= self.bounds.active / 4;
        let few = (self.bounds.active / 8).min(MAX_STATEMENT);
        if has_enough && room < few { 0 } else { room }
    }

    /// Items that have not ended.
    pub(crate) fn unfinished(&self) -> usize {
        self.owned.values().map(|owned| owned.window.unfinished()).sum()
    }

    /// Those of them that wait for a key that fails.
    pub(crate) fn parked(&self) -> usize {
        self.owned.values().map(|owned| owned.window.parked()).sum()
    }

    /// Why nothing is sent, where that is not a matter of moments: it refuses or does not answer.
    pub(crate) fn closed(&self) -> Option<&str> {
        self.gate.why_closed().or_else(|| self.breaker.why_open())
    }

    /// Why the destination is not well, if it is not.
    pub(crate) fn trouble(&self) -> Option<String> {
        if let Some(why) = self.closed() {
            return Some(format!("nothing is sent: {why}"));
        }
        if self.parked() >= self.bounds.parked {
            let bound = self.bounds.parked;
            return Some(format!(
                "{bound} items wait for keys that fail; no more are read until some of them end"
            ));
        }
        None
    }

    /// Takes in a record. One of a partition that is not ours any more is for its new owner.
    pub(crate) fn read(&mut self, topic: usize, read: Read, now: DateTime<Utc>) {
        let place = Place { topic, partition: read.partition };
        let offset = read.offset;
        let Some(owned) = self.owned.get_mut(&place) else { return };
        if owned.window.is_done(offset) {
            return;
        }
        owned.dirty = true;
        let pending = match self.routes.admit(topic, read) {
            Admission::Foreign => {
                owned.window.offer(offset, None);
                self.ledger.foreign(place, offset);
                return;
            }
            Admission::Ends(payload, end) => {
                owned.window.offer(offset, None);
                self.metrics.ended(&end);
                self.ledger.ended((place, offset), payload.as_deref(), end, 0, now);
                return;
            }
            Admission::Send(pending) => pending,
        };
        if let Some(end) = self.overtaken(place, offset, &pending, now) {
            self.end_unsent(place, offset, &pending, end, now);
            return;
        }
        self.bytes += pending.bytes;
        // Changes are of rows, and an older one must not come last: they have their order everywhere.
        let in_order = self.ordered || !matches!(pending.item.payload, Payload::Event(_));
        if let Some(owned) = self.owned.get_mut(&place) {
            owned.window.offer(offset, Some((in_order.then_some(pending.item.key), pending)));
        }
    }

    /// Whether an item need not be sent for what came before it; makes it the newest of its row.
    fn overtaken(&mut self, place: Place, offset: i64, pending: &Pending, now: DateTime<Utc>) -> Option<End> {
        let Some(run) = pending.run else {
            let Payload::Event(event) = &pending.item.payload else { return None };
            let id = Sighted::new(&self.sources, event, pending.item.id.hash()?);
            // Where it is the first itself, this is the same record read again.
            let first = self.seen.get_or_insert(id, (place, offset), now);
            return (first != (place, offset)).then_some(End::Duplicate);
        };
        if self.runs.get_or_insert(pending.item.key, run, now) > run {
            return Some(End::Superseded);
        }
        self.runs.insert(pending.item.key, run, now);
        let older = match self.owned.get(&place) {
            Some(owned) => owned.window.of_key(pending.item.key).map(|(offset, older)| (offset, older.run)),
            None => return None,
        };
        let older =
            older.filter(|(_, other)| *other < Some(run)).map(|(offset, _)| offset).collect::<Vec<_>>();
        for offset in older {
            self.end((place, offset), End::Superseded, now);
        }
        None
    }

    fn end_unsent(&mut self, place: Place, offset: i64, pending: &Pending, end: End, now: DateTime<Utc>) {
        self.metrics.ended(&end);
        self.ledger.ended((place, offset), Some(&pending.item.payload), end, 0, now);
        if let Some(owned) = self.owned.get_mut(&place) {
            owned.window.offer(offset, None);
        }
    }

    /// An operator has spoken.
    pub(crate) fn told(&mut self, control: &Control) {
        self.gate.told(control);
    }

    fn end(&mut self, (place, offset): (Place, i64), end: End, now: DateTime<Utc>) {
        let Some(owned) = self.owned.get_mut(&place) else { return };
        let Some(pending) = owned.window.finish(offset) else { return };
        owned.dirty = true;
        self.bytes -= pending.bytes;
        self.unstored += usize::from(pending.attempts.count() > 0);
        self.metrics.ended(&end);
        let (payload, attempts) = (&pending.item.payload, pending.attempts.count());
        self.ledger.ended((place, offset), Some(payload), end, attempts, now);
    }

    /// Whether a statement is due before its time: half the window is taken by what was sent and is not
    /// stored, or there is much to say.
    pub(crate) fn must_state(&self) -> bool {
        self.unstored > self.bounds.active / 2
            || self.ledger.len() >= MAX_STATEMENT
            || self.ledger.bytes() >= self.bounds.bytes / 2
    }

    /// What has ended since the last time, and the positions that cover it. The statement is to be stored
    /// before the positions.
    pub(crate) fn state(&mut self, now: DateTime<Utc>) -> (Statement, Vec<Position>) {
        let unstored = std::mem::take(&mut self.unstored);
        self.storing += unstored;
        let mut positions = Vec::new();
        for (place, owned) in &mut self.owned {
            if std::mem::take(&mut owned.dirty) {
                let (low, done) = (owned.window.low(), owned.window.done());
                positions.push(Position { place: *place, low, done });
            }
        }
        self.metrics.standing(self.unfinished(), unstored, self.parked());
        let held = self.pace.held_until(now).is_some();
        self.metrics.open(self.gate.why_closed().is_none(), self.breaker.why_open().is_none(), held);
        (self.ledger.take(now), positions)
    }

    /// What was stated is stored: a crash repeats none of it.
    pub(crate) fn stored(&mut self) {
        self.storing = 0;
    }
}

#[cfg(test)]
mod tests;
