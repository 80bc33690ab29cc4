//! What becomes of a record that was read, before anything is sent: pure.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use millrace_bus::Received;
use millrace_connector::{Item, Payload};
use millrace_event_model::wire::{DecodeError, WireRecord};
use millrace_event_model::{Change, DestinationId, Event, Reason, SourceId};
use millrace_privacy::{Consent, IntegrationNames, LeftOutBy, left_out_by};
use millrace_transform::Filter;

use crate::backoff::Attempts;
use crate::ledger::{End, Filtered};

/// A record as it was read.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) raw: WireRecord,
    pub(crate) message: Result<Payload, DecodeError>,
}

impl Read {
    pub(crate) fn of<M>(received: Received<M>, payload: impl FnOnce(M) -> Payload) -> Self {
        let Received { partition, offset, raw, message, .. } = received;
        Self { partition, offset, raw, message: message.map(payload) }
    }
}

/// An item that is to be sent.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) item: Item,
    /// The run of a change.
    pub(crate) run: Option<u64>,
    /// When it came in, for the latency.
    pub(crate) since: DateTime<Utc>,
    pub(crate) attempts: Attempts,
    /// It may share a call with so many: fewer each time that its call was refused whole.
    pub(crate) at_most: usize,
    /// For the dead letters.
    pub(crate) raw: WireRecord,
    pub(crate) bytes: usize,
}

/// The verdict on a record.
#[derive(Debug)]
pub(crate) enum Admission {
    /// Of no connection to this destination.
    Foreign,
    /// It ends here; `None`: it could not be read.
    Ends(Option<Box<Payload>>, End),
    /// It is to be sent.
    Send(Box<Pending>),
}

/// The connections of each lane, by source, with the `when` of each.
pub(crate) type Connections = Vec<HashMap<SourceId, Option<Filter>, ahash::RandomState>>;

/// The connections that lead to a destination.
#[derive(Debug)]
pub(crate) struct Routes {
    pub(crate) destination: DestinationId,
    /// Of each lane: its topic has the same place in the list of topics.
    pub(crate) connections: Connections,
    /// What the client may call the destination.
    pub(crate) names: IntegrationNames,
    /// What the user must have consented to.
    pub(crate) consent: Consent,
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
                Admission::Ends(None, End::Rejected(reason, Box::new(raw)))
            }
        }
    }

    fn admit_event(&self, topic: usize, event: Event, raw: WireRecord) -> Admission {
        let of_lane = self.connections.get(topic);
        let Some(filter) = of_lane.and_then(|sources| sources.get(&event.source)) else {
            return Admission::Foreign;
        };
        // What the user said comes first, then what the client said: neither is the operator's to overrule.
        let end = match left_out_by(&self.consent, &self.names, &event.body) {
            Some(LeftOutBy::User) => End::Filtered(Filtered::Consent),
            Some(LeftOutBy::Client) => End::Filtered(Filtered::Client),
            None => match filter.as_ref().map_or(Ok(true), |filter| filter.keeps(&event)) {
                Ok(true) => return Admission::Send(Box::new(pending_event(event, raw))),
                Ok(false) => End::Filtered(Filtered::Connection),
                Err(reason) => End::Rejected(reason, Box::new(raw)),
            },
        };
        Admission::Ends(Some(Box::new(Payload::Event(event))), end)
    }
}

fn pending_event(event: Event, raw: WireRecord) -> Pending {
    Pending {
        run: None,
        since: event.received_at,
        attempts: Attempts::default(),
        at_most: usize::MAX,
        bytes: event.body.len(),
        raw,
        item: Item { id: event.idempotency_key(), key: event.key, payload: Payload::Event(event) },
    }
}

fn pending_change(change: Change, raw: WireRecord) -> Pending {
    Pending {
        run: Some(change.run),
        since: change.published_at,
        attempts: Attempts::default(),
        at_most: usize::MAX,
        bytes: change.body.len(),
        raw,
        item: Item { id: change.idempotency_key(), key: change.key, payload: Payload::Change(change) },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use millrace_event_model::testing::event;

    use super::*;

    /// How an event of the source `web` with this body ends; `send` where it is to be sent.
    fn admit(body: &str) -> String {
        let when = Filter::compile("event != 'Noise'").unwrap();
        let routes = Routes {
            destination: "hook".parse().unwrap(),
            connections: vec![HashMap::from_iter([("web".parse().unwrap(), Some(when))])],
            names: IntegrationNames::new(["hook", "webhook"]),
            consent: Consent::try_from(vec![millrace_privacy::ConsentRule {
                provider: None,
                categories: vec!["C0004".to_owned()],
                require: None,
            }])
            .unwrap(),
        };
        let raw = WireRecord::new(bytes::Bytes::new(), bytes::Bytes::new());
        let read = Read { partition: 0, offset: 0, raw, message: Ok(Payload::Event(event(body))) };
        match routes.admit(0, read) {
            Admission::Foreign => "foreign".to_owned(),
            Admission::Send(_) => "send".to_owned(),
            Admission::Ends(_, end) => format!("{end:?}"),
        }
    }

    #[test]
    fn the_user_the_client_and_the_operator_may_each_leave_an_event_out() {
        let denied = r#""context":{"consentManagement":{"deniedConsentIds":["C0004"]}}"#;
        let cases = [
            (r#"{"event":"Order"}"#.to_owned(), "send"),
            (r#"{"event":"Noise"}"#.to_owned(), "Filtered(Connection)"),
            (r#"{"integrations":{"All":false},"event":"Order"}"#.to_owned(), "Filtered(Client)"),
            (r#"{"integrations":{"All":false,"Hook":true},"event":"Order"}"#.to_owned(), "send"),
            (format!("{{{denied}}}"), "Filtered(Consent)"),
            (format!(r#"{{{denied},"integrations":{{"All":false}}}}"#), "Filtered(Consent)"),
        ];
        for (body, expected) in cases {
            assert_eq!(admit(&body), expected, "{body}");
        }
    }
}
