//! What is counted, and the log lines of refused requests. Labels are names of ours: never an id, an
//! event's name or a key.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use metrics::{counter, histogram};
use millrace_event_model::Event;

use crate::auth::Source;
use crate::envelope::Opened;
use crate::error::Refusal;

const ROLE: &str = "ingest";

/// All events of a request are acked.
pub(crate) fn accepted(source: &Source, opened: &Opened) {
    let component = source.id.as_str();
    let mut by_type: BTreeMap<&'static str, u64> = BTreeMap::new();
    for event in &opened.events {
        *by_type.entry(known_type(event)).or_default() += 1;
    }
    for (event_type, count) in by_type {
        let labels =
            [("role", ROLE.to_owned()), ("component", component.to_owned()), ("type", event_type.to_owned())];
        counter!("millrace_component_received_events_total", &labels).increment(count);
        counter!("millrace_component_sent_events_total", &labels).increment(count);
    }
    for ((kind, action), count) in &opened.findings {
        let labels = [
            ("source", component.to_owned()),
            ("kind", kind.as_str().to_owned()),
            ("action", action.as_str().to_owned()),
        ];
        counter!("millrace_privacy_findings_total", &labels).increment(*count);
    }
}

/// A client can write any type: those that are not ours share one label.
fn known_type(event: &Event) -> &'static str {
    event.known_type().map_or("other", |known| known.as_str())
}

pub(crate) fn answered(path: &'static str, status: u16, took: Duration) {
    let labels = [("path", path.to_owned()), ("status", status.to_string())];
    histogram!("millrace_ingest_request_duration_seconds", &labels).record(took.as_secs_f64());
}

/// One log line for each class of refusal in this time, with the count: a client gone wild must not fill
/// the log.
const LOG_EVERY: chrono::Duration = chrono::Duration::seconds(10);

/// Counts refused requests and tells of them.
#[derive(Default)]
pub(crate) struct Refusals(Mutex<HashMap<(Refusal, String), Told>>);

struct Told {
    at: DateTime<Utc>,
    untold: u64,
}

impl Refusals {
    /// `source` is the name of the source where the key was good.
    pub(crate) fn refused(&self, refusal: Refusal, source: Option<&Source>, now: DateTime<Utc>) {
        let source = source.map_or("unknown", |source| source.id.as_str());
        let class = refusal.class();
        let labels = [("source", source.to_owned()), ("reason", class.to_owned())];
        counter!("millrace_ingest_refused_requests_total", &labels).increment(1);
        let errors = [("role", ROLE), ("stage", "receive"), ("error_class", class)];
        counter!("millrace_component_errors_total", &errors).increment(1);
        if let Some(requests) = self.to_tell(refusal, source, now) {
            let (status, _) = refusal.answer();
            tracing::warn!(source, reason = class, status = status.as_u16(), requests, "requests refused");
        }
    }

    /// How many to tell of, if it is time.
    fn to_tell(&self, refusal: Refusal, source: &str, now: DateTime<Utc>) -> Option<u64> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = told.get_mut(&(refusal, source.to_owned())) else {
            told.insert((refusal, source.to_owned()), Told { at: now, untold: 0 });
            return Some(1);
        };
        last.untold += 1;
        if now - last.at < LOG_EVERY {
            return None;
        }
        last.at = now;
        Some(std::mem::take(&mut last.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_of_refusal_is_told_once_in_ten_seconds_with_its_count() {
        let refusals = Refusals::default();
        let at = |seconds| DateTime::UNIX_EPOCH + chrono::Duration::seconds(seconds);
        assert_eq!(refusals.to_tell(Refusal::InvalidJson, "web", at(0)), Some(1));
        assert_eq!(refusals.to_tell(Refusal::InvalidJson, "web", at(1)), None);
        assert_eq!(refusals.to_tell(Refusal::InvalidJson, "app", at(1)), Some(1));
        assert_eq!(refusals.to_tell(Refusal::TooLarge, "web", at(1)), Some(1));
        assert_eq!(refusals.to_tell(Refusal::InvalidJson, "web", at(9)), None);
        assert_eq!(refusals.to_tell(Refusal::InvalidJson, "web", at(11)), Some(3));
    }
}
