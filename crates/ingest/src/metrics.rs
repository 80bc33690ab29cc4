//! What is counted, and the log lines of refused requests. Labels are names of ours: never an id, an
//! event's name or a key.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use metrics::{Counter, Histogram, counter, histogram};
use millrace_event_model::SourceId;
use millrace_privacy::{Action, Kind};

use crate::auth::Source;
use crate::envelope::{Dropped, Opened};
use crate::error::Refusal;

const ROLE: &str = "ingest";

/// Label values for the types of events. A client can write any type: those that are not ours share one.
const TYPES: [&str; 8] = ["track", "page", "identify", "screen", "group", "alias", "merge", "other"];

/// SDKs drop larger events by themselves: one that comes all the same was made by something else. It is
/// taken, and counted.
const LARGE_EVENT_BYTES: usize = 32 * 1024;

/// What is counted of one source's events. The counters are looked up once: finding one by its labels takes
/// longer than splitting an event.
pub(crate) struct Counters {
    source: String,
    received: [Counter; TYPES.len()],
    sent: [Counter; TYPES.len()],
    large: Counter,
    blocked: Counter,
    suppressed: Counter,
}

impl Counters {
    pub(crate) fn new(source: &SourceId) -> Self {
        let labels = |event_type: &'static str| {
            [("role", ROLE.to_owned()), ("component", source.to_string()), ("type", event_type.to_owned())]
        };
        Self {
            source: source.to_string(),
            received: TYPES.map(|name| counter!("millrace_component_received_events_total", &labels(name))),
            sent: TYPES.map(|name| counter!("millrace_component_sent_events_total", &labels(name))),
            large: counter!("millrace_ingest_large_events_total", "source" => source.to_string()),
            blocked: counter!("millrace_ingest_blocked_events_total", "source" => source.to_string()),
            suppressed: counter!("millrace_ingest_suppressed_events_total", "source" => source.to_string()),
        }
    }

    /// All events of a request are acked.
    pub(crate) fn accepted(&self, tally: &Tally) {
        for ((received, sent), count) in self.received.iter().zip(&self.sent).zip(tally.by_type) {
            if count > 0 {
                received.increment(count);
                sent.increment(count);
            }
        }
        for (counter, count) in [
            (&self.large, tally.large),
            (&self.blocked, tally.dropped.blocked),
            (&self.suppressed, tally.dropped.suppressed),
        ] {
            if count > 0 {
                counter.increment(count);
            }
        }
        for ((kind, action), count) in &tally.findings {
            let labels = [
                ("source", self.source.clone()),
                ("kind", kind.as_str().to_owned()),
                ("action", action.as_str().to_owned()),
            ];
            counter!("millrace_privacy_findings_total", &labels).increment(*count);
        }
    }
}

/// What is remembered of a request's events once they are on their way.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    by_type: [u64; TYPES.len()],
    large: u64,
    dropped: Dropped,
    findings: BTreeMap<(Kind, Action), u64>,
}

impl Tally {
    pub(crate) fn of(opened: Opened<'_>) -> Self {
        let mut tally = Self::default();
        for event in opened.events() {
            let known = TYPES.iter().position(|name| *name == event.event_type);
            if let Some(count) = tally.by_type.get_mut(known.unwrap_or(TYPES.len() - 1)) {
                *count += 1;
            }
            tally.large += u64::from(event.body.len() > LARGE_EVENT_BYTES);
        }
        tally.dropped = opened.dropped;
        tally.findings = opened.findings;
        tally
    }
}

/// How long requests took, by path and status.
pub(crate) struct Durations(HashMap<&'static str, Histogram>);

impl Durations {
    /// For the paths that take events.
    pub(crate) fn new(paths: impl Iterator<Item = &'static str>) -> Self {
        Self(paths.map(|path| (path, duration(path, ACCEPTED))).collect())
    }

    pub(crate) fn answered(&self, path: &'static str, status: u16, took: Duration) {
        match self.0.get(path).filter(|_| status == ACCEPTED) {
            Some(accepted) => accepted.record(took.as_secs_f64()),
            None => duration(path, status).record(took.as_secs_f64()),
        }
    }
}

const ACCEPTED: u16 = 200;

fn duration(path: &'static str, status: u16) -> Histogram {
    let labels = [("path", path.to_owned()), ("status", status.to_string())];
    histogram!("millrace_ingest_request_duration_seconds", &labels)
}

/// One log line for each class of refusal in this time, with the count: a client gone wild must not fill
/// the log.
const LOG_EVERY: chrono::Duration = chrono::Duration::seconds(10);

/// Counts refused requests and tells of them.
#[derive(Default)]
pub(crate) struct Refusals(Mutex<HashMap<(&'static str, String), Told>>);

struct Told {
    at: DateTime<Utc>,
    untold: u64,
}

impl Refusals {
    /// `source` is the name of the source where the key was good.
    pub(crate) fn refused(&self, refusal: Refusal, source: Option<&Source>, now: DateTime<Utc>) {
        let source = source.map_or("unknown", |source| source.rules.id.as_str());
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
        let Some(last) = told.get_mut(&(refusal.class(), source.to_owned())) else {
            told.insert((refusal.class(), source.to_owned()), Told { at: now, untold: 0 });
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
