//! What is sent next, and what the answer means.

use std::ops::Bound;

use chrono::{DateTime, Utc};
use millrace_connector::{Destination, ItemOutcome, Prepared};
use millrace_event_model::Reason;

use super::{Flow, Ticket};
use crate::admit::Pending;
use crate::backoff::Next;
use crate::call::Member;
use crate::gate::Allowance;
use crate::ledger::{End, Filtered};
use crate::window::Window;

impl Flow {
    /// The call to make now, if one may be made: items within the destination's limits, as it makes them.
    /// One that is not full waits for more as long as the limits say. Items that need no sending or cannot
    /// be sent end here.
    pub(crate) fn next_call(
        &mut self,
        destination: &dyn Destination,
        now: DateTime<Utc>,
    ) -> Option<Vec<(Ticket, Prepared)>> {
        if self.pace.not_before(now).is_some() || !self.breaker.allows(now) {
            return None;
        }
        let probe = match self.gate.allows(now) {
            Allowance::All => false,
            Allowance::Probe => true,
            Allowance::Nothing => return None,
        };
        // Whether it works again is found out with one item.
        let trial = probe || self.breaker.why_open().is_some();
        if trial {
            self.put_back_formed(|_| true);
        }
        while !self.is_made_up(trial)
            && let Some(ticket) = self.take(trial, now)
        {
            let Some(member) = self.member(ticket, destination, now) else { continue };
            if let Some(before) = self.forming.add(member, now) {
                let call = self.begin(before, now);
                self.put_back_stray(ticket);
                return Some(call);
            }
        }
        let due = self.forming.due()?;
        if !self.is_made_up(trial) && due > now {
            return None;
        }
        let members = self.forming.take();
        Some(self.begin(members, now))
    }

    /// Nothing more is to share the call: it is full, or the one item of a trial.
    fn is_made_up(&self, trial: bool) -> bool {
        self.forming.is_full() || trial && !self.forming.is_empty()
    }

    fn member(
        &mut self,
        ticket: Ticket,
        destination: &dyn Destination,
        now: DateTime<Utc>,
    ) -> Option<Member> {
        let pending = self.pending(ticket)?;
        match destination.transform(&pending.item) {
            Ok(requests) if requests.is_empty() => {
                self.end((ticket.place, ticket.offset), End::Filtered(Filtered::Destination), now);
                None
            }
            Ok(requests) => {
                let prepared = Prepared::of(&pending.item, requests);
                Some(Member { ticket, prepared, at_most: pending.at_most })
            }
            Err(reason) => {
                self.reject(ticket, reason, now);
                None
            }
        }
    }

    /// The items' call is made: that is an attempt at each.
    fn begin(&mut self, members: Vec<Member>, now: DateTime<Utc>) -> Vec<(Ticket, Prepared)> {
        self.gate.probe_sent();
        self.breaker.called();
        self.pace.called(now);
        for Member { ticket, .. } in &members {
            if let Some(owned) = self.owned.get_mut(&ticket.place) {
                owned.window.depart(ticket.offset);
                if let Some(pending) = owned.window.get_mut(ticket.offset) {
                    pending.attempts.begin();
                }
            }
        }
        members.into_iter().map(|member| (member.ticket, member.prepared)).collect()
    }

    /// The next item. For a trial one that has not failed, where there is one: those that have may fail for
    /// what they are, and would hold up all the others.
    fn take(&mut self, trial: bool, now: DateTime<Utc>) -> Option<Ticket> {
        let fresh = if trial { self.take_by(|window| window.take_fresh(now)) } else { None };
        fresh.or_else(|| self.take_by(|window| window.take(now)))
    }

    /// The item of the next partition that has one: each partition gets its turn.
    fn take_by(&mut self, mut take: impl FnMut(&mut Window<Box<Pending>>) -> Option<i64>) -> Option<Ticket> {
        let served = self.served.map_or(Bound::Unbounded, Bound::Excluded);
        let until = self.served.map_or(Bound::Unbounded, Bound::Included);
        let ticket =
            [(served, Bound::Unbounded), (Bound::Unbounded, until)].into_iter().find_map(|range| {
                self.owned.range_mut(range).filter(|(_, owned)| !owned.leaving).find_map(|(place, owned)| {
                    let offset = take(&mut owned.window)?;
                    Some(Ticket { place: *place, offset, ownership: owned.ownership })
                })
            })?;
        self.served = Some(ticket.place);
        Some(ticket)
    }

    /// Items that were to share a call may be sent at once instead.
    pub(super) fn put_back_formed(&mut self, which: impl Fn(&Ticket) -> bool) {
        if self.forming.is_empty() {
            return;
        }
        for ticket in self.forming.leave_out(which) {
            if let Some(owned) = self.owned.get_mut(&ticket.place) {
                owned.window.put_back(ticket.offset);
            }
        }
    }

    /// The first of a new call did not fit into the one that has just been made: if that has others of its key,
    /// it waits for them.
    fn put_back_stray(&mut self, ticket: Ticket) {
        let window = self.owned.get(&ticket.place).map(|owned| &owned.window);
        if window.is_some_and(|window| !window.is_head(ticket.offset)) {
            self.put_back_formed(|formed| *formed == ticket);
        }
    }

    /// A call has come back, with how it went for each of its items.
    pub(crate) fn landed(&mut self, answers: Vec<(Ticket, ItemOutcome)>, now: DateTime<Utc>) {
        self.judge(&answers, now);
        if let Some(since) = self.oldest_delivered(&answers) {
            self.metrics.delivered(now - since);
        }
        let shared_by = answers.len();
        for (ticket, outcome) in answers {
            self.sent(ticket, outcome, shared_by, now);
        }
    }

    /// Since when the one that waited longest of those that a call delivered was under way.
    fn oldest_delivered(&mut self, answers: &[(Ticket, ItemOutcome)]) -> Option<DateTime<Utc>> {
        let delivered = answers.iter().filter(|(_, outcome)| *outcome == ItemOutcome::Delivered);
        delivered.filter_map(|(ticket, _)| self.pending(*ticket).map(|pending| pending.since)).min()
    }

    /// What a call says of the destination: that holds whoever owns the partitions by now.
    fn judge(&mut self, answers: &[(Ticket, ItemOutcome)], now: DateTime<Utc>) {
        let Some((first, _)) = answers.first() else { return };
        let (mut answered, mut refused, mut broken) = (false, None, None);
        let (mut throttled, mut not_sent) = (None, 0);
        for (_, outcome) in answers {
            match outcome {
                ItemOutcome::Delivered
                | ItemOutcome::Filtered(_)
                | ItemOutcome::Rejected(_)
                | ItemOutcome::Oversize(_)
                | ItemOutcome::Unclear(_) => answered = true,
                // What was sent of it was answered.
                ItemOutcome::OutOfTime(reason) => {
                    answered = true;
                    self.metrics.failed(reason);
                }
                ItemOutcome::Throttled { after, reason } => {
                    throttled = throttled.max(Some(*after));
                    self.metrics.failed(reason);
                }
                ItemOutcome::Transient { reason, .. } => {
                    broken = Some(reason);
                    self.metrics.failed(reason);
                }
                ItemOutcome::NotSent { after } => {
                    not_sent += 1;
                    self.pace.no_room(*after, now);
                }
                ItemOutcome::Auth(reason) | ItemOutcome::Config(reason) => {
                    refused = Some(reason);
                    self.metrics.failed(reason);
                }
            }
        }
        if not_sent == answers.len() {
            // The destination was not asked, so another trial may be made.
            self.gate.forget_probe();
            self.breaker.forget_call();
            return;
        }
        if let Some(after) = throttled {
            self.pace.throttled(after, now);
        }
        if let Some(reason) = refused {
            self.breaker.answered();
            self.gate.refused(reason, now);
            return;
        }
        if answered {
            self.gate.answered();
        } else {
            self.gate.not_answered(now);
        }
        match broken {
            Some(reason) if !answered && throttled.is_none() => {
                self.breaker.failed((first.place, first.offset), reason, now);
            }
            _ => self.breaker.answered(),
        }
        if throttled.is_none() && answered {
            self.pace.accepted(now);
        }
    }

    /// How the sending of an item went, in a call of so many.
    fn sent(&mut self, ticket: Ticket, outcome: ItemOutcome, shared_by: usize, now: DateTime<Utc>) {
        let known = self.owned.get_mut(&ticket.place).filter(|owned| owned.ownership == ticket.ownership);
        let Some(owned) = known else { return };
        let is_head = owned.window.is_head(ticket.offset);
        let Some(pending) = owned.window.get_mut(ticket.offset) else { return };
        let after = outcome.after();
        match outcome {
            ItemOutcome::Delivered => self.end((ticket.place, ticket.offset), End::Delivered, now),
            ItemOutcome::Filtered(reason) => {
                self.end((ticket.place, ticket.offset), End::LeftOut(reason), now);
            }
            ItemOutcome::Rejected(reason) => self.reject(ticket, reason, now),
            // Somewhere in it is the reason: halves say where, and those without it are not held up by it. Or all of it
            // was too much for its time.
            ItemOutcome::Oversize(_) | ItemOutcome::Unclear(_) | ItemOutcome::OutOfTime(_)
                if shared_by > 1 =>
            {
                pending.at_most = shared_by.div_ceil(2);
                owned.window.put_back(ticket.offset);
            }
            ItemOutcome::Oversize(reason) | ItemOutcome::Unclear(reason) => self.reject(ticket, reason, now),
            // The head of its key answers for the call: it is no attempt at those behind it.
            ItemOutcome::Throttled { .. } if !is_head => {
                pending.attempts.not_sent();
                owned.window.put_back(ticket.offset);
            }
            // Nor to blame, if not for the call's size: the head goes alone, and they in smaller calls.
            ItemOutcome::Transient { .. } if !is_head => {
                pending.attempts.not_sent();
                pending.at_most = shared_by.div_ceil(2);
                owned.window.put_back(ticket.offset);
            }
            ItemOutcome::Throttled { reason, .. } => {
                match pending.attempts.throttled(&self.retry, now, after, &reason) {
                    // All wait, and this one is not to blame.
                    Next::RetryAt(_) if self.pace.held_until(now).is_some() => {
                        owned.window.put_back(ticket.offset);
                    }
                    Next::RetryAt(at) => owned.window.postpone(ticket.offset, at),
                    Next::GiveUp(reason) => self.reject(ticket, reason, now),
                }
            }
            ItemOutcome::Transient { reason, .. } | ItemOutcome::OutOfTime(reason) => {
                match pending.attempts.failed(&self.patience, now, after, &reason) {
                    Next::RetryAt(at) => owned.window.postpone(ticket.offset, at),
                    Next::GiveUp(reason) => self.reject(ticket, reason, now),
                }
            }
            ItemOutcome::NotSent { .. } => {
                pending.attempts.not_sent();
                owned.window.put_back(ticket.offset);
            }
            ItemOutcome::Auth(_) | ItemOutcome::Config(_) => owned.window.put_back(ticket.offset),
        }
    }

    fn reject(&mut self, ticket: Ticket, reason: Reason, now: DateTime<Utc>) {
        let Some(pending) = self.pending(ticket) else { return };
        let raw = Box::new(std::mem::take(&mut pending.raw));
        self.end((ticket.place, ticket.offset), End::Rejected(reason, raw), now);
    }

    fn pending(&mut self, ticket: Ticket) -> Option<&mut Pending> {
        let pending = self.owned.get_mut(&ticket.place)?.window.get_mut(ticket.offset)?;
        Some(&mut **pending)
    }

    /// When something can be sent that cannot be sent now.
    pub(crate) fn next_due(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let windows = self.owned.values().filter(|owned| !owned.leaving).map(|owned| &owned.window);
        let items = windows
            .filter_map(|window| if window.has_ready() { Some(now) } else { window.next_due() })
            .chain(self.forming.due())
            .min()?;
        // A wait that ends with an answer or a word, and not with time, has no due.
        let gate = match self.gate.why_closed() {
            Some(_) => Some(self.gate.next_due()?),
            None => None,
        };
        let breaker = match self.breaker.why_open() {
            Some(_) => Some(self.breaker.next_due()?),
            None => None,
        };
        [gate, breaker, self.pace.not_before(now)].into_iter().flatten().chain([items]).max()
    }
}
