//! Who is promised how many turns, and whose turn it is: pure.
//!
//! The oldest batch goes first. One that has no call in line, since it awaits answers, holds up nobody, unless it
//! could not have all its turns in time if a younger one took this one.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use millrace_connector::{Rate, Turns};
use millrace_service::later;

use super::LATE;

/// A place in line: the batch, and the call's number.
pub(super) type Place = (u64, u64);

/// The turns of one destination.
#[derive(Debug)]
pub(super) struct Book {
    turns: Turns,
    /// By batch, the oldest first.
    promised: BTreeMap<u64, Promised>,
    line: BTreeSet<Place>,
    /// Numbers the batches and the places in line.
    count: u64,
}

#[derive(Debug)]
struct Promised {
    /// Turns that are not taken yet.
    left: usize,
    /// The last of them comes until then.
    latest: DateTime<Utc>,
}

/// Whether it is a call's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Now, and it is taken.
    Taken,
    /// Then, as things stand.
    Comes(DateTime<Utc>),
    /// Not in its batch's time.
    TooLate,
}

impl Book {
    pub(super) fn new(rate: Rate) -> Self {
        Self { turns: Turns::new(rate), promised: BTreeMap::new(), line: BTreeSet::new(), count: 0 }
    }

    /// Promises a new batch as many of the wanted turns as there are until `latest`: its number, how many, and when
    /// there is one more.
    pub(super) fn promise(
        &mut self,
        wanted: usize,
        now: DateTime<Utc>,
        latest: DateTime<Utc>,
    ) -> (u64, usize, DateTime<Utc>) {
        let before: usize = self.promised.values().map(|promised| promised.left).sum();
        let left = (0..wanted).take_while(|left| self.turns.next(before + left, now) <= latest).count();
        let batch = self.number();
        self.promised.insert(batch, Promised { left, latest });
        (batch, left, self.turns.next(before + left, now))
    }

    /// The batch needs no more turns.
    pub(super) fn give_back(&mut self, batch: u64) {
        self.promised.remove(&batch);
    }

    /// A call of a batch waits for its turn.
    pub(super) fn line_up(&mut self, batch: u64) -> Place {
        let place = (batch, self.number());
        self.line.insert(place);
        place
    }

    /// It waits no more.
    pub(super) fn leave(&mut self, place: Place) {
        self.line.remove(&place);
    }

    /// Takes the turn of who is at this place, if it has come.
    pub(super) fn take(&mut self, place: Place, now: DateTime<Utc>) -> Turn {
        let at = self.turn(place, now);
        let Some(promised) = self.promised.get_mut(&place.0) else { return Turn::TooLate };
        if at > later(promised.latest, LATE) {
            return Turn::TooLate;
        }
        if at > now {
            return Turn::Comes(at);
        }
        // A batch may make more requests than were planned, where one of its items fails; they wait as well.
        promised.left = promised.left.saturating_sub(1);
        self.turns.begin(now);
        self.line.remove(&place);
        Turn::Taken
    }

    /// When the turn comes of who is at this place.
    fn turn(&self, place: Place, now: DateTime<Utc>) -> DateTime<Utc> {
        let of_batch = self.line.range((place.0, 0)..place).count();
        let mut ahead = self.line.range(..place).count();
        let mut needed = 0;
        for older in self.promised.range(..place.0).map(|(_, promised)| promised) {
            needed += older.left;
            let Some(before_last) = needed.checked_sub(1).filter(|_| older.left > 0) else { continue };
            let in_time = |ahead| self.turns.next(ahead, now) <= older.latest;
            // One that comes too late anyway has the turns for which it is in line.
            if in_time(before_last) && !in_time(needed) {
                ahead = ahead.max(needed + of_batch);
            }
        }
        self.turns.next(ahead, now)
    }

    fn number(&mut self) -> u64 {
        self.count += 1;
        self.count
    }
}
