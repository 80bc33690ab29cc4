//! The call that is being made up: pure.

use std::time::Duration;

use chrono::{DateTime, Utc};
use millrace_connector::{Limits, Prepared};
use millrace_service::later;

use crate::flow::Ticket;

/// An item that waits for its call.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) ticket: Ticket,
    pub(crate) prepared: Prepared,
    /// It may share a call with so many, itself included.
    pub(crate) at_most: usize,
}

/// Items that will share a call, within the destination's limits.
#[derive(Debug)]
pub(crate) struct Forming {
    max_items: usize,
    max_bytes: usize,
    max_wait: Duration,
    members: Vec<Member>,
    bytes: usize,
    /// The least of the members'.
    at_most: usize,
    since: DateTime<Utc>,
}

impl Forming {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            // A destination that takes none would take nothing ever.
            max_items: limits.max_items.max(1),
            max_bytes: limits.max_bytes,
            max_wait: limits.max_wait,
            members: Vec::new(),
            bytes: 0,
            at_most: usize::MAX,
            since: DateTime::<Utc>::MIN_UTC,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// Adds an item. If it does not fit, those before it are returned: their call is made, and the item is
    /// the first of the next.
    pub(crate) fn add(&mut self, member: Member, now: DateTime<Utc>) -> Option<Vec<Member>> {
        let bytes = member.prepared.requests.iter().map(|request| request.body.len()).sum::<usize>();
        let at_most = self.at_most.min(member.at_most);
        let fits = self.len() < at_most.min(self.max_items) && self.bytes + bytes <= self.max_bytes;
        let before = (!self.is_empty() && !fits).then(|| self.take());
        if self.is_empty() {
            self.since = now;
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.at_most = self.at_most.min(member.at_most);
        self.members.push(member);
        before
    }

    /// No more fit.
    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.max_items.min(self.at_most) || self.bytes >= self.max_bytes
    }

    /// When the call is made though it is not full.
    pub(crate) fn due(&self) -> Option<DateTime<Utc>> {
        (!self.is_empty()).then(|| later(self.since, self.max_wait))
    }

    /// All of them, for their call.
    pub(crate) fn take(&mut self) -> Vec<Member> {
        self.bytes = 0;
        self.at_most = usize::MAX;
        std::mem::take(&mut self.members)
    }

    /// Those that are to be left out of it, so that they can be put back.
    pub(crate) fn leave_out(&mut self, left_out: impl Fn(&Ticket) -> bool) -> Vec<Ticket> {
        let (out, stay): (Vec<_>, Vec<_>) = self.take().into_iter().partition(|m| left_out(&m.ticket));
        let since = self.since;
        for member in stay {
            // They fitted together before.
            let _ = self.add(member, since);
        }
        out.into_iter().map(|member| member.ticket).collect()
    }
}
