//! What of one partition may be sent now, and what is done: pure.
//!
//! A partition is read in order, but its items end out of order: each key is a queue of its own, of which
//! only the head may be in flight, and one that fails waits while the others go on. So "how far" is not one
//! offset. A window holds the items that were read and have not ended; everything else below [`Window::next`]
//! is done, which makes the resume state small: a low offset and the gaps between the unfinished.
//!
//! An item without a key is a queue by itself: where a destination does not care for order, all are. Where a
//! call keeps the order of its items, those behind the head may join it, and one that fails goes alone.
//!
//! The laws: *no two calls have items of a key*; *a key's items are sent in order*; *low only grows*;
//! *nothing is skipped and every offset ends exactly once*; *resuming skips what was done and nothing
//! else*. The property test `the_laws_hold` holds them against any order of events, crashes included.

mod unfinished;

use std::collections::{BTreeSet, HashMap, VecDeque};

use chrono::{DateTime, Utc};
use millrace_event_model::PartitionKey;

use unfinished::Unfinished;

/// The unfinished items of one partition.
#[derive(Debug)]
pub(crate) struct Window<T> {
    /// One past the last offset that was read.
    next: i64,
    /// From the resume state: ranges at or above `next` that are done already.
    done_ahead: VecDeque<(i64, i64)>,
    pending: Unfinished<Entry<T>>,
    keys: HashMap<PartitionKey, Queue, ahash::RandomState>,
    ready: BTreeSet<i64>,
    waiting: BTreeSet<(DateTime<Utc>, i64)>,
    parked: usize,
    in_flight: usize,
    /// Items of a key may share a call.
    together: bool,
}

#[derive(Debug)]
struct Entry<T> {
    /// `None`: its order does not matter, and it waits for no other.
    key: Option<PartitionKey>,
    state: State,
    /// The one before it of its key, and the next.
    ahead: Option<i64>,
    behind: Option<i64>,
    /// Without a key: it has failed and is parked.
    failing: bool,
    item: T,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Behind another of its key.
    Queued,
    /// At the head of its key, or next to those of it that join a call.
    Ready,
    /// In flight, in the call that is being made up.
    Joining,
    InFlight,
    Waiting(DateTime<Utc>),
}

/// The items of one key: each [`Entry`] knows the one behind it.
#[derive(Debug)]
struct Queue {
    head: i64,
    tail: i64,
    len: usize,
    /// The head has failed: it and all behind it are parked.
    failing: bool,
}

impl<T> Window<T> {
    /// A window that goes on from a resume state: `low`, and the ranges above it that are done. `together`:
    /// items of a key may share a call.
    pub(crate) fn resume(low: i64, done: &[(i64, i64)], together: bool) -> Self {
        let mut window = Self {
            next: low,
            done_ahead: done.iter().copied().filter(|(start, end)| start < end && *end > low).collect(),
            pending: Unfinished::new(),
            keys: HashMap::default(),
            ready: BTreeSet::new(),
            waiting: BTreeSet::new(),
            parked: 0,
            in_flight: 0,
            together,
        };
        window.skip_done();
        window
    }

    /// Whether an offset that was read has ended already, so that it must not be taken in again.
    pub(crate) fn is_done(&self, offset: i64) -> bool {
        let after = self.done_ahead.partition_point(|(_, end)| *end <= offset);
        offset < self.next || self.done_ahead.get(after).is_some_and(|(start, _)| *start <= offset)
    }

    /// Takes in what was read at `offset`; whatever lies between it and the last one is not there in Kafka.
    /// `None` is an item that has ended already: filtered, or not for this destination.
    pub(crate) fn offer(&mut self, offset: i64, item: Option<(Option<PartitionKey>, T)>) {
        if self.is_done(offset) {
            return;
        }
        self.next = offset + 1;
        self.skip_done();
        let Some((key, item)) = item else { return };
        let (state, ahead) = key.map_or((State::Ready, None), |key| self.queue_up(key, offset));
        self.pending.push(offset, Entry { key, state, ahead, behind: None, failing: false, item });
        if state == State::Ready {
            self.ready.insert(offset);
        }
    }

    /// How it stands, and which one of its key is before it.
    fn queue_up(&mut self, key: PartitionKey, offset: i64) -> (State, Option<i64>) {
        let Some(queue) = self.keys.get_mut(&key) else {
            self.keys.insert(key, Queue { head: offset, tail: offset, len: 1, failing: false });
            return (State::Ready, None);
        };
        queue.len += 1;
        self.parked += usize::from(queue.failing);
        let ahead = std::mem::replace(&mut queue.tail, offset);
        let before = self.pending.get_mut(ahead);
        let joins = |before: &mut Entry<T>| {
            before.behind = Some(offset);
            self.together && before.state == State::Joining && !queue.failing
        };
        let state = if before.is_some_and(joins) { State::Ready } else { State::Queued };
        (state, Some(ahead))
    }

    /// The oldest item that may be sent now. From here on it is in flight, in the call that is being made up:
    /// until [`Self::depart`], those behind it may join it.
    pub(crate) fn take(&mut self, now: DateTime<Utc>) -> Option<i64> {
        self.wake(now);
        let offset = self.ready.first().copied()?;
        self.begin(offset)
    }

    /// The same of those that have not failed.
    pub(crate) fn take_fresh(&mut self, now: DateTime<Utc>) -> Option<i64> {
        self.wake(now);
        let fresh = |offset: &&i64| !self.pending.get(**offset).is_some_and(|entry| self.has_failed(entry));
        let offset = self.ready.iter().find(fresh).copied()?;
        self.begin(offset)
    }

    fn has_failed(&self, entry: &Entry<T>) -> bool {
        let queue = entry.key.and_then(|key| self.keys.get(&key));
        entry.failing || queue.is_some_and(|queue| queue.failing)
    }

    /// Those whose wait is over may be sent.
    fn wake(&mut self, now: DateTime<Utc>) {
        while let Some((due, offset)) = self.waiting.first().copied()
            && due <= now
        {
            self.waiting.pop_first();
            self.ready.insert(offset);
        }
    }

    fn begin(&mut self, offset: i64) -> Option<i64> {
        self.ready.remove(&offset);
        let entry = self.pending.get_mut(offset)?;
        entry.state = State::Joining;
        self.in_flight += 1;
        let (key, behind) = (entry.key, entry.behind);
        let failing = || key.and_then(|key| self.keys.get(&key)).is_some_and(|queue| queue.failing);
        if let Some(behind) = behind.filter(|_| self.together && !failing()) {
            self.change(behind, State::Queued, State::Ready);
        }
        Some(offset)
    }

    /// The call of an item is made: nothing more joins it.
    pub(crate) fn depart(&mut self, offset: i64) {
        let Some(entry) = self.pending.get_mut(offset) else { return };
        entry.state = State::InFlight;
        if let Some(behind) = entry.behind {
            self.change(behind, State::Ready, State::Queued);
        }
    }

    /// Whether no other of its key is before it.
    pub(crate) fn is_head(&self, offset: i64) -> bool {
        self.pending.get(offset).is_none_or(|entry| entry.ahead.is_none())
    }

    /// Lets an item that is in this state into that one; one of the two is [`State::Ready`].
    fn change(&mut self, offset: i64, from: State, to: State) {
        let Some(entry) = self.pending.get_mut(offset).filter(|entry| entry.state == from) else { return };
        entry.state = to;
        match to {
            State::Ready => self.ready.insert(offset),
            _ => self.ready.remove(&offset),
        };
    }

    /// An item has ended, however it did; the next of its key may be sent. `None`: it is not in this
    /// window.
    pub(crate) fn finish(&mut self, offset: i64) -> Option<T> {
        let entry = self.pending.remove(offset)?;
        self.forget_state(offset, entry.state);
        let Some((key, queue)) = entry.key.and_then(|key| Some((key, self.keys.get_mut(&key)?))) else {
            self.parked -= usize::from(entry.failing);
            return Some(entry.item);
        };
        self.parked -= usize::from(queue.failing);
        queue.len -= 1;
        if let Some(ahead) = entry.ahead {
            if queue.tail == offset {
                queue.tail = ahead;
            }
            self.link(Some(ahead), entry.behind);
            return Some(entry.item);
        }
        if std::mem::take(&mut queue.failing) {
            self.parked -= queue.len;
        }
        match entry.behind {
            Some(next) => {
                queue.head = next;
                self.link(None, Some(next));
                self.change(next, State::Queued, State::Ready);
            }
            None => drop(self.keys.remove(&key)),
        }
        Some(entry.item)
    }

    /// These two of a key are next to each other from now on.
    fn link(&mut self, ahead: Option<i64>, behind: Option<i64>) {
        if let Some(entry) = ahead.and_then(|offset| self.pending.get_mut(offset)) {
            entry.behind = behind;
        }
        if let Some(entry) = behind.and_then(|offset| self.pending.get_mut(offset)) {
            entry.ahead = ahead;
        }
    }

    /// An item in flight did not make it: it and all later ones of its key are parked until then; behind another of
    /// its key until that one has ended.
    pub(crate) fn postpone(&mut self, offset: i64, until: DateTime<Utc>) {
        let is_head = self.is_head(offset);
        let Some(entry) = self.pending.get_mut(offset) else { return };
        self.in_flight -= 1;
        if is_head {
            entry.state = State::Waiting(until);
            self.waiting.insert((until, offset));
        } else {
            // One before it in the same call did not make it either, and is tried first.
            entry.state = State::Queued;
        }
        let Some(key) = entry.key else {
            self.parked += usize::from(!std::mem::replace(&mut entry.failing, true));
            return;
        };
        if let Some(queue) = self.keys.get_mut(&key)
            && !std::mem::replace(&mut queue.failing, true)
        {
            self.parked += queue.len;
        }
    }

    /// An item in flight was not sent after all: it may be sent at once, if no other of its key is before it.
    pub(crate) fn put_back(&mut self, offset: i64) {
        let is_head = self.is_head(offset);
        let Some(entry) = self.pending.get_mut(offset) else { return };
        let behind = entry.behind;
        entry.state = State::Queued;
        self.in_flight -= 1;
        if is_head {
            self.change(offset, State::Queued, State::Ready);
        }
        if let Some(behind) = behind {
            self.change(behind, State::Ready, State::Queued);
        }
    }

    /// Unfinished items of a key that are not in flight, the oldest first.
    pub(crate) fn of_key(&self, key: PartitionKey) -> impl Iterator<Item = (i64, &T)> {
        let of_key = self.keys.get(&key).into_iter().flat_map(|queue| successors(&self.pending, queue));
        of_key
            .filter(|(_, entry)| !matches!(entry.state, State::Joining | State::InFlight))
            .map(|(offset, entry)| (offset, &entry.item))
    }

    /// Takes out any unfinished item; for a window that is given up.
    pub(crate) fn pop(&mut self) -> Option<T> {
        self.pending.pop_first().map(|entry| entry.item)
    }

    /// An unfinished item.
    pub(crate) fn get_mut(&mut self, offset: i64) -> Option<&mut T> {
        self.pending.get_mut(offset).map(|entry| &mut entry.item)
    }

    /// One past the last offset that was read.
    #[cfg(test)]
    pub(crate) fn next(&self) -> i64 {
        self.next
    }

    /// Everything below it is done.
    pub(crate) fn low(&self) -> i64 {
        self.pending.first().unwrap_or(self.next)
    }

    /// What above [`Self::low`] is done too: at most one range for each unfinished item, and what is left
    /// of the resume state.
    pub(crate) fn done(&self) -> Vec<(i64, i64)> {
        let mut ranges = Vec::new();
        let mut start = self.low();
        for offset in self.pending.offsets() {
            if start < offset {
                ranges.push((start, offset));
            }
            start = offset + 1;
        }
        if start < self.next {
            ranges.push((start, self.next));
        }
        ranges.extend(self.done_ahead.iter().copied());
        ranges
    }

    /// How many items have not ended.
    pub(crate) fn unfinished(&self) -> usize {
        self.pending.len()
    }

    /// How many of them are of keys that fail.
    pub(crate) fn parked(&self) -> usize {
        self.parked
    }

    /// How many of them are in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether something may be sent as soon as the destination may be called.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// When the next parked item is due.
    pub(crate) fn next_due(&self) -> Option<DateTime<Utc>> {
        self.waiting.first().map(|(due, _)| *due)
    }

    fn forget_state(&mut self, offset: i64, state: State) {
        match state {
            State::Ready => drop(self.ready.remove(&offset)),
            // One that became due stands among the ready ones, still in this state.
            State::Waiting(due) => {
                self.waiting.remove(&(due, offset));
                self.ready.remove(&offset);
            }
            State::Joining | State::InFlight => self.in_flight -= 1,
            State::Queued => {}
        }
    }

    /// Moves `next` past what the resume state says is done.
    fn skip_done(&mut self) {
        while let Some((start, end)) = self.done_ahead.front().copied()
            && start <= self.next
        {
            self.next = self.next.max(end);
            self.done_ahead.pop_front();
        }
    }
}

/// The items of a key, the head first.
fn successors<'w, T>(
    pending: &'w Unfinished<Entry<T>>,
    queue: &Queue,
) -> impl Iterator<Item = (i64, &'w Entry<T>)> + use<'w, T> {
    let item = |offset: i64| pending.get(offset).map(|entry| (offset, entry));
    std::iter::successors(item(queue.head), move |(_, entry)| item(entry.behind?))
}

#[cfg(test)]
mod tests;
