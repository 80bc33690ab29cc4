//! What becomes of a record that was read, before anything is sent: pure.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use millrace_connector::{Item, Payload};
use millrace_event_model::wire::{DecodeError, WireRecord};
use millrace_event_model::{Change, DestinationId, Event, Reason, SourceId};
use millrace_transform::Filter;

use crate::backoff::Attempts;
use crate::ledger::{End, Filtered, Subject};

/// A record as it was read.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) raw: WireRecord,
    pub(crate) message: Result<Payload, DecodeError>,
}

/// An item that is to be sent.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) item: Item,
    pub(crate) subject: Subject,
    /// The run of a change.
    pub(crate) run: Option<u64>,
    /// When it came in, for the latency.
    pub(crate) since: DateTime<Utc>,
    pub(crate) attempts: Attempts,
    /// For the dead letters.
    pub(crate) raw: WireRecord,
    pub(crate) bytes: usize,
}

/// The verdict on a record.
#[derive(Debug)]
pub(crate) enum Admission {
    /// Of no connection to this destination.
    Foreign,
    /// It ends here.
    Ends(Subject, End),
    /// It is to be sent.
    Send(Box<Pending>),
}

/// The connections that lead to a destination.
#[derive(Debug)]
pub(crate) struct Routes {
    pub(crate) destination: DestinationId,
    /// By the place of the lane's topic in the list of topics, and source.
    pub(crate) connections: HashMap<(usize, SourceId), Option<Filter>>,
}

impl Routes {
    pub(crate) fn admit(&self, topic: usize, read: Read) -> Admission {
        let Read { raw, message, .. } = read;
        match message {
            Ok(Payload::Event(event)) => self.admit_event(topic, event, raw),
            Ok(Payload::Change(change)) if change.destination != self.destination => Admission::Foreign,
            Ok(Payload::Change(change)) => Admission::Send(Box::new(pending_change(change, raw))),
            // No topic carries one: only a preview makes it.
            Ok(Payload::Document(_)) => Admission::Foreign,
            Err(error) => {
                let reason = Reason::new("malformed_record", error.to_string());
                Admission::Ends(Subject::Unknown, End::Rejected(reason, Box::new(raw)))
            }
        }
    }

    fn admit_event(&self, topic: usize, event: Event, raw: WireRecord) -> Admission {
        let Some(filter) = self.connections.get(&(topic, event.source.clone())) else {
            return Admission::Foreign;
        };
        match filter.as_ref().map_or(Ok(true), |filter| filter.keeps(&event)) {
            Ok(true) => Admission::Send(Box::new(pending_event(event, raw))),
            Ok(false) => Admission::Ends(Subject::of_event(&event), End::Filtered(Filtered::ByConnection)),
            Err(reason) => Admission::Ends(Subject::of_event(&event), End::Rejected(reason, Box::new(raw))),
        }
    }
}

fn pending_event(event: Event, raw: WireRecord) -> Pending {
    Pending {
        subject: Subject::of_event(&event),
        run: None,
        since: event.received_at,
        attempts: Attempts::default(),
        bytes: event.body.len(),
        raw,
        item: Item { id: event.idempotency_key(), key: event.key, payload: Payload::Event(event) },
    }
}

fn pending_change(change: Change, raw: WireRecord) -> Pending {
    Pending {
        subject: Subject::of_change(&change),
        run: Some(change.run),
        since: change.published_at,
        attempts: Attempts::default(),
        bytes: change.body.len(),
        raw,
        item: Item { id: change.idempotency_key(), key: change.key, payload: Payload::Change(change) },
    }
}
