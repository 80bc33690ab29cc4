//! The state of one destination between reading and the end of each item: pure.
//!
//! The engine feeds it what was read and how the sending went; it says what may be sent now, how much
//! more may be read, and what is to be stored. All decisions of the stage are here and in the modules it is
//! made of; none of them awaits.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use millrace_connector::{Destination, ItemOutcome, Prepared};
use millrace_event_model::{Control, PartitionKey, Reason};

use crate::RetryPolicy;
use crate::admit::{Admission, Pending, Read, Routes};
use crate::backoff::Next;
use crate::gate::{Allowance, Gate};
use crate::ledger::{End, Filtered, Ledger, Place, Statement};
use crate::metrics::Metrics;
use crate::options::Bounds;
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
    bounds: Bounds,
    owned: BTreeMap<Place, Owned>,
    /// How many partitions were ever assigned: numbers the ownerships.
    ownerships: u64,
    /// The partition that was served last, so that all get their turn.
    served: Option<Place>,
    bytes: usize,
    /// Items that were sent and have ended since the last statement: a crash would repeat them.
    unstored: usize,
    /// By source and message id: where it was seen first.
    seen: Recent<[u8; 16], (Place, i64)>,
    /// By row: the newest run.
    runs: Recent<PartitionKey, u64>,
    pub(crate) gate: Gate,
    ledger: Ledger,
    metrics: Metrics,
}

impl Flow {
    pub(crate) fn new(
        routes: Routes,
        topics: Vec<String>,
        retry: RetryPolicy,
        bounds: Bounds,
        probe_every: Duration,
    ) -> Self {
        let metrics = Metrics::of(&routes.destination);
        Self {
            ledger: Ledger::new(routes.destination.clone(), topics),
            routes,
            retry,
            bounds,
            owned: BTreeMap::new(),
            ownerships: 0,
            served: None,
            bytes: 0,
            unstored: 0,
            seen: Recent::new(DUPLICATE_WINDOW, RECENT_IDS),
            runs: Recent::new(DUPLICATE_WINDOW, RECENT_ROWS),
            gate: Gate::new(probe_every),
            metrics,
        }
    }

    /// A partition is ours, from this position on.
    pub(crate) fn own(&mut self, position: &Position) {
        self.give_up(position.place);
        self.ownerships += 1;
        let window = Window::resume(position.low, &position.done);
        let owned = Owned { window, ownership: self.ownerships, leaving: false, dirty: true };
        self.owned.insert(position.place, owned);
    }

    /// A partition is to be given up: what is in flight may land, nothing more is sent.
    pub(crate) fn leave(&mut self, place: Place) {
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
        let Some(mut owned) = self.owned.remove(&place) else { return };
        while let Some(pending) = owned.window.pop() {
            self.bytes -= pending.bytes;
        }
    }

    /// All partitions are no longer ours, and nobody waits for what is in flight.
    pub(crate) fn give_up_all(&mut self) {
        self.owned.clear();
        self.bytes = 0;
        self.gate.forget_probe();
    }

    /// Retention took a range before it was read, and an operator has accepted that.
    pub(crate) fn expired(&mut self, place: Place, range: (i64, i64), now: DateTime<Utc>) {
        self.metrics.expired(u64::try_from(range.1 - range.0).unwrap_or_default());
        self.ledger.expired(place, range, now);
    }

    /// How many more records may be taken in. None at the bounds: what waits for a key that fails, or for
    /// a destination that is slow or paused, stays in Kafka.
    pub(crate) fn room(&self) -> usize {
        if self.bytes >= self.bounds.bytes || self.parked() >= self.bounds.parked {
            return 0;
        }
        let active = self.unfinished() - self.parked();
        self.bounds.active.saturating_sub(active + self.unstored)
    }

    /// Items that have not ended.
    pub(crate) fn unfinished(&self) -> usize {
        self.owned.values().map(|owned| owned.window.unfinished()).sum()
    }

    /// Those of them that wait for a key that fails.
    pub(crate) fn parked(&self) -> usize {
        self.owned.values().map(|owned| owned.window.parked()).sum()
    }

    /// Why the destination is not well, if it is not.
    pub(crate) fn trouble(&self) -> Option<String> {
        if let Some(why) = self.gate.why_closed() {
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
            Admission::Ends(subject, end) => {
                owned.window.offer(offset, None);
                self.metrics.ended(&end);
                self.ledger.ended((place, offset), &subject, end, 0, now);
                return;
            }
            Admission::Send(pending) => pending,
        };
        if let Some(end) = self.overtaken(place, offset, &pending, now) {
            self.end_unsent(place, offset, &pending, end, now);
            return;
        }
        self.bytes += pending.bytes;
        if let Some(owned) = self.owned.get_mut(&place) {
            owned.window.offer(offset, Some((pending.item.key, pending)));
        }
    }

    /// Whether an item need not be sent for what came before it; makes it the newest of its row.
    fn overtaken(&mut self, place: Place, offset: i64, pending: &Pending, now: DateTime<Utc>) -> Option<End> {
        let Some(run) = pending.run else {
            let id = blake3::hash(pending.item.id.as_bytes());
            let id = *id.as_bytes().first_chunk::<16>()?;
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
        self.ledger.ended((place, offset), &pending.subject, end, 0, now);
        if let Some(owned) = self.owned.get_mut(&place) {
            owned.window.offer(offset, None);
        }
    }

    /// At most `limit` items to send now, no two of a key, as the destination makes them. Items that need
    /// no sending or cannot be sent end here.
    pub(crate) fn next_batch(
        &mut self,
        destination: &dyn Destination,
        limit: usize,
        now: DateTime<Utc>,
    ) -> Vec<(Ticket, Prepared)> {
        let limit = match self.gate.allows(now) {
            Allowance::All => limit,
            Allowance::Probe => 1,
            Allowance::Nothing => 0,
        };
        let mut batch = Vec::new();
        while batch.len() < limit
            && let Some((ticket, pending)) = self.take(now)
        {
            match destination.transform(&pending.item) {
                Ok(requests) if requests.is_empty() => {
                    self.end((ticket.place, ticket.offset), End::Filtered(Filtered::Destination), now);
                }
                Ok(requests) => {
                    pending.attempts.begin();
                    batch.push((ticket, Prepared { id: pending.item.id.clone(), requests }));
                }
                Err(reason) => self.reject(ticket, reason, now),
            }
        }
        if !batch.is_empty() {
            self.gate.probe_sent();
        }
        batch
    }

    /// The next item of the next partition that has one.
    fn take(&mut self, now: DateTime<Utc>) -> Option<(Ticket, &mut Pending)> {
        let after = self.owned.keys().copied().filter(|place| Some(*place) > self.served);
        let before = self.owned.keys().copied().filter(|place| Some(*place) <= self.served);
        let order = after.chain(before).collect::<Vec<_>>();
        let found = order.into_iter().find_map(|place| {
            let owned = self.owned.get_mut(&place).filter(|owned| !owned.leaving)?;
            let offset = owned.window.take(now)?;
            Some(Ticket { place, offset, ownership: owned.ownership })
        });
        let ticket = found?;
        self.served = Some(ticket.place);
        let owned = self.owned.get_mut(&ticket.place)?;
        Some((ticket, owned.window.get_mut(ticket.offset)?))
    }

    /// How the sending of an item went.
    pub(crate) fn sent(&mut self, ticket: Ticket, outcome: ItemOutcome, now: DateTime<Utc>) {
        // What it says of the destination holds, whoever owns the partition by now.
        match &outcome {
            ItemOutcome::Delivered
            | ItemOutcome::Filtered(_)
            | ItemOutcome::Rejected(_)
            | ItemOutcome::Oversize(_)
            | ItemOutcome::Unclear(_) => self.gate.answered(),
            ItemOutcome::Throttled { reason, .. } | ItemOutcome::Transient { reason, .. } => {
                self.metrics.failed(reason);
                self.gate.not_answered(now);
            }
            ItemOutcome::Auth(reason) | ItemOutcome::Config(reason) => {
                self.metrics.failed(reason);
                self.gate.refused(reason, now);
            }
        }
        let known = self.owned.get_mut(&ticket.place).filter(|owned| owned.ownership == ticket.ownership);
        let Some(owned) = known else { return };
        match outcome {
            ItemOutcome::Delivered => {
                if let Some(pending) = owned.window.get_mut(ticket.offset) {
                    self.metrics.delivered(now - pending.since);
                }
                self.end((ticket.place, ticket.offset), End::Delivered, now);
            }
            ItemOutcome::Filtered(_) => {
                self.end((ticket.place, ticket.offset), End::Filtered(Filtered::Destination), now);
            }
            ItemOutcome::Rejected(reason) | ItemOutcome::Oversize(reason) | ItemOutcome::Unclear(reason) => {
                self.reject(ticket, reason, now);
            }
            ItemOutcome::Throttled { after, reason } | ItemOutcome::Transient { after, reason } => {
                let Some(pending) = owned.window.get_mut(ticket.offset) else { return };
                match pending.attempts.failed(&self.retry, now, after, &reason) {
                    Next::RetryAt(at) => owned.window.postpone(ticket.offset, at),
                    Next::GiveUp(reason) => self.reject(ticket, reason, now),
                }
            }
            ItemOutcome::Auth(_) | ItemOutcome::Config(_) => owned.window.put_back(ticket.offset),
        }
    }

    /// An operator has spoken.
    pub(crate) fn told(&mut self, control: &Control) {
        self.gate.told(control);
    }

    fn reject(&mut self, ticket: Ticket, reason: Reason, now: DateTime<Utc>) {
        let owned = self.owned.get_mut(&ticket.place);
        let Some(pending) = owned.and_then(|owned| owned.window.get_mut(ticket.offset)) else { return };
        let raw = Box::new(std::mem::take(&mut pending.raw));
        self.end((ticket.place, ticket.offset), End::Rejected(reason, raw), now);
    }

    fn end(&mut self, (place, offset): (Place, i64), end: End, now: DateTime<Utc>) {
        let Some(owned) = self.owned.get_mut(&place) else { return };
        let Some(pending) = owned.window.finish(offset) else { return };
        owned.dirty = true;
        self.bytes -= pending.bytes;
        self.unstored += usize::from(pending.attempts.count() > 0);
        self.metrics.ended(&end);
        self.ledger.ended((place, offset), &pending.subject, end, pending.attempts.count(), now);
    }

    /// Whether a statement is due before its time: half the window is taken by what was sent and is not
    /// stored, or there is much to say.
    pub(crate) fn must_state(&self) -> bool {
        self.unstored > self.bounds.active / 2 || self.ledger.len() >= MAX_STATEMENT
    }

    /// What has ended since the last time, and the positions that cover it. The statement is to be stored
    /// before the positions.
    pub(crate) fn state(&mut self, now: DateTime<Utc>) -> (Statement, Vec<Position>) {
        let unstored = std::mem::take(&mut self.unstored);
        let mut positions = Vec::new();
        for (place, owned) in &mut self.owned {
            if std::mem::take(&mut owned.dirty) {
                let (low, done) = (owned.window.low(), owned.window.done());
                positions.push(Position { place: *place, low, done });
            }
        }
        let paused = self.gate.why_closed().is_some();
        self.metrics.standing(self.unfinished(), unstored, self.parked(), paused);
        (self.ledger.take(now), positions)
    }

    /// When something can be sent that cannot be sent now.
    pub(crate) fn next_due(&self) -> Option<DateTime<Utc>> {
        if self.gate.why_closed().is_some() {
            return self.gate.next_due();
        }
        self.owned.values().filter_map(|owned| owned.window.next_due()).min()
    }
}

#[cfg(test)]
mod tests;
