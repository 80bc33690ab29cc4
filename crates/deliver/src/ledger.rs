//! What has ended, as the outcomes and dead letters to store: pure.
//!
//! A failure and each change get an outcome of their own. The rest, most of everything, is told as runs of
//! offsets. A run from `first` to `last` says: every event between them, of a source that is connected to
//! the destination, ended this way. So stating an offset twice is harmless, as happens when a process dies
//! between its outcomes and its resume state: whoever counts takes the union of the runs.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use millrace_connector::Payload;
use millrace_event_model::topics::MAX_MESSAGE_BYTES;
use millrace_event_model::wire::WireRecord;
use millrace_event_model::{DeadLetter, DestinationId, Disposition, Origin, Outcome, Reason, Stage};

/// The rest of a record's size is for its key and headers, ours and its own.
const MAX_DEAD_LETTER_VALUE: usize = MAX_MESSAGE_BYTES - 64 * 1024;

/// A partition of one of the topics that a destination reads, the topic by its place in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) topic: usize,
    pub(crate) partition: i32,
}

/// How one item ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    Delivered,
    Filtered(Filtered),
    /// Left out by the destination when it was sent, which says why.
    LeftOut(Reason),
    Duplicate,
    Superseded,
    /// With the record, for the dead letters.
    Rejected(Reason, Box<WireRecord>),
}

/// Who left it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Filtered {
    /// The user has denied what the destination needs.
    Consent,
    /// The event's `integrations` object.
    Client,
    /// The connection's `when`.
    Connection,
    /// The destination makes no request of it.
    Destination,
}

/// An end that is told in runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Quiet {
    Delivered,
    Filtered(Filtered),
    Duplicate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// Of no connection: it neither counts nor interrupts a run.
    Foreign,
    Quiet(Quiet, u32),
    /// Has an outcome of its own.
    Loud,
}

/// What has ended since the last statement.
#[derive(Debug)]
pub(crate) struct Ledger {
    destination: DestinationId,
    topics: Vec<String>,
    /// In the order of the ends: sorted when they are told.
    marks: BTreeMap<Place, Vec<(i64, Mark)>>,
    statement: Statement,
    /// Records that the next statement tells of, those of no connection among them.
    told: usize,
    /// Bytes of the dead letters in it.
    bytes: usize,
}

/// What is to be stored, before the resume state that covers it.
#[derive(Debug, Default)]
pub(crate) struct Statement {
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) dead_letters: Vec<DeadLetter>,
}

impl Ledger {
    pub(crate) fn new(destination: DestinationId, topics: Vec<String>) -> Self {
        Self {
            destination,
            topics,
            marks: BTreeMap::new(),
            statement: Statement::default(),
            told: 0,
            bytes: 0,
        }
    }

    /// An item of no connection.
    pub(crate) fn foreign(&mut self, place: Place, offset: i64) {
        self.told += 1;
        self.mark(place, offset, Mark::Foreign);
    }

    /// An item has ended; one without a payload is a record that could not be read.
    pub(crate) fn ended(
        &mut self,
        (place, offset): (Place, i64),
        payload: Option<&Payload>,
        end: End,
        attempts: u32,
        at: DateTime<Utc>,
    ) {
        self.told += 1;
        let quiet = match (&end, payload) {
            (End::Delivered, Some(Payload::Event(_))) => Some(Quiet::Delivered),
            (End::Duplicate, Some(Payload::Event(_))) => Some(Quiet::Duplicate),
            (End::Filtered(by), Some(Payload::Event(_))) => Some(Quiet::Filtered(*by)),
            _ => None,
        };
        if let Some(quiet) = quiet {
            self.mark(place, offset, Mark::Quiet(quiet, attempts));
            return;
        }
        self.mark(place, offset, Mark::Loud);
        let (disposition, reason) = describe(&end);
        let origin = self.origin(place, offset, payload);
        let destination = self.destination.clone();
        self.statement.outcomes.push(Outcome { destination, origin, disposition, reason, attempts, at });
        if let End::Rejected(reason, original) = end {
            self.bytes += original.value.as_ref().map_or(0, |value| value.len());
            self.statement.dead_letters.push(DeadLetter {
                stage: Stage::Deliver,
                subject: self.destination.to_string(),
                topic: self.topic(place),
                partition: place.partition,
                offset,
                reason,
                at,
                original: fitting(*original),
            });
        }
    }

    /// Retention took these before they were read.
    pub(crate) fn expired(&mut self, place: Place, (start, end): (i64, i64), at: DateTime<Utc>) {
        self.told += 1;
        let origin = self.events(place, start, end - 1, u64::try_from(end - start).unwrap_or_default());
        let reason = Reason::new("expired", "the topic's retention removed it before it was read");
        self.statement.outcomes.push(Outcome {
            destination: self.destination.clone(),
            origin,
            disposition: Disposition::Expired,
            reason: Some(reason),
            attempts: 0,
            at,
        });
    }

    /// How many records the next statement tells of.
    pub(crate) fn len(&self) -> usize {
        self.told
    }

    /// How many bytes the dead letters of the next statement have.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// All that has ended since the last time.
    pub(crate) fn take(&mut self, at: DateTime<Utc>) -> Statement {
        self.told = 0;
        self.bytes = 0;
        let mut statement = std::mem::take(&mut self.statement);
        for (place, mut marks) in std::mem::take(&mut self.marks) {
            // An offset that ended twice, before and after its partition was away, is told as it ended last.
            marks.reverse();
            marks.sort_by_key(|(offset, _)| *offset);
            marks.dedup_by_key(|(offset, _)| *offset);
            for run in runs(&marks) {
                let (disposition, reason) = describe(&run.quiet.into());
                statement.outcomes.push(Outcome {
                    destination: self.destination.clone(),
                    origin: self.events(place, run.first, run.last, run.count),
                    disposition,
                    reason,
                    attempts: run.attempts,
                    at,
                });
            }
        }
        statement
    }

    fn mark(&mut self, place: Place, offset: i64, mark: Mark) {
        self.marks.entry(place).or_default().push((offset, mark));
    }

    fn origin(&self, place: Place, offset: i64, payload: Option<&Payload>) -> Origin {
        match payload {
            Some(Payload::Event(event)) => Origin::Event {
                topic: self.topic(place),
                partition: place.partition,
                offset,
                source: event.source.clone(),
                message_id: event.message_id.clone(),
            },
            Some(Payload::Change(change)) => Origin::Change {
                sync: change.sync.clone(),
                run: change.run,
                key: change.key,
                row_hash: change.row_hash,
            },
            // No topic carries a document.
            Some(Payload::Document(_)) | None => self.events(place, offset, offset, 1),
        }
    }

    fn events(&self, place: Place, first: i64, last: i64, count: u64) -> Origin {
        Origin::Events { topic: self.topic(place), partition: place.partition, first, last, count }
    }

    fn topic(&self, place: Place) -> String {
        self.topics.get(place.topic).cloned().unwrap_or_default()
    }
}

/// A record that fits into the dead letters with the headers they add. Of a larger one the headers are
/// kept: the letter says where the record is, for as long as its topic keeps it.
fn fitting(mut original: WireRecord) -> WireRecord {
    if original.value.as_ref().is_some_and(|value| value.len() > MAX_DEAD_LETTER_VALUE) {
        original.value = None;
    }
    original
}

fn describe(end: &End) -> (Disposition, Option<Reason>) {
    match end {
        End::Delivered => (Disposition::Delivered, None),
        End::Filtered(Filtered::Consent) => {
            let reason =
                Reason::new("no_consent", "the user has denied a consent that the destination needs");
            (Disposition::Filtered, Some(reason))
        }
        End::Filtered(Filtered::Client) => {
            let reason =
                Reason::new("integrations", "the event's integrations object left the destination out");
            (Disposition::Filtered, Some(reason))
        }
        End::Filtered(Filtered::Connection) => {
            let reason = Reason::new("filtered", "the connection's filter left it out");
            (Disposition::Filtered, Some(reason))
        }
        End::Filtered(Filtered::Destination) => {
            let reason = Reason::new("nothing_to_send", "the destination makes no request of it");
            (Disposition::Filtered, Some(reason))
        }
        End::LeftOut(reason) => (Disposition::Filtered, Some(reason.clone())),
        End::Duplicate => {
            let reason = Reason::new("duplicate", "the same message id came within the hour");
            (Disposition::Duplicate, Some(reason))
        }
        End::Superseded => {
            let reason = Reason::new("superseded", "a newer run has changed the same row");
            (Disposition::Superseded, Some(reason))
        }
        End::Rejected(reason, _) => (Disposition::Rejected, Some(reason.clone())),
    }
}

impl From<Quiet> for End {
    fn from(quiet: Quiet) -> Self {
        match quiet {
            Quiet::Delivered => Self::Delivered,
            Quiet::Filtered(by) => Self::Filtered(by),
            Quiet::Duplicate => Self::Duplicate,
        }
    }
}

/// Neighbours that ended alike.
struct Run {
    quiet: Quiet,
    attempts: u32,
    first: i64,
    last: i64,
    count: u64,
}

fn runs(marks: &[(i64, Mark)]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    // Whether the last run may go on, and at which offset.
    let mut open_at = None;
    for (offset, mark) in marks {
        let touches = open_at == Some(*offset);
        match (*mark, runs.last_mut()) {
            (Mark::Foreign, Some(_)) if touches => open_at = Some(offset + 1),
            (Mark::Quiet(quiet, attempts), Some(run))
                if touches && run.quiet == quiet && run.attempts == attempts =>
            {
                run.last = *offset;
                run.count += 1;
                open_at = Some(offset + 1);
            }
            (Mark::Quiet(quiet, attempts), _) => {
                runs.push(Run { quiet, attempts, first: *offset, last: *offset, count: 1 });
                open_at = Some(offset + 1);
            }
            (Mark::Foreign | Mark::Loud, _) => open_at = None,
        }
    }
    runs
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use bytes::Bytes;
    use millrace_event_model::{Change, ChangeOp, Event, MessageId, PartitionKey, testing};

    use super::*;

    const PLACE: Place = Place { topic: 0, partition: 3 };

    fn ledger() -> Ledger {
        Ledger::new("hook".parse().unwrap(), vec!["acme.events.main".to_owned()])
    }

    fn event() -> Payload {
        Payload::Event(Event {
            message_id: MessageId("m".to_owned()),
            received_at: at(),
            ..testing::event("")
        })
    }

    fn at() -> DateTime<Utc> {
        DateTime::UNIX_EPOCH
    }

    /// `disposition first-last xcount` of each run, in order.
    fn told(ledger: &mut Ledger) -> Vec<String> {
        let outcomes = ledger.take(at()).outcomes;
        let line = |outcome: &Outcome| match &outcome.origin {
            Origin::Events { first, last, count, .. } => {
                format!("{} {first}-{last} x{count}", outcome.disposition.as_str())
            }
            Origin::Event { offset, .. } => format!("{} {offset}", outcome.disposition.as_str()),
            Origin::Change { run, .. } => format!("{} run {run}", outcome.disposition.as_str()),
        };
        outcomes.iter().map(line).collect()
    }

    #[test]
    fn neighbours_that_ended_alike_are_one_run_in_whatever_order_they_ended() {
        let mut ledger = ledger();
        for offset in [4, 2, 3, 7, 8] {
            ledger.ended((PLACE, offset), Some(&event()), End::Delivered, 1, at());
        }
        ledger.ended((PLACE, 5), Some(&event()), End::Filtered(Filtered::Connection), 0, at());
        assert_eq!(ledger.len(), 6);
        assert_eq!(told(&mut ledger), ["delivered 2-4 x3", "filtered 5-5 x1", "delivered 7-8 x2"]);
        assert_eq!(told(&mut ledger), Vec::<String>::new(), "each is told once");
    }

    #[test]
    fn what_ended_twice_is_told_as_it_ended_last() {
        let mut ledger = ledger();
        for end in [End::Delivered, End::Duplicate] {
            ledger.ended((PLACE, 4), Some(&event()), end, 1, at());
        }
        assert_eq!(told(&mut ledger), ["duplicate 4-4 x1"]);
    }

    #[test]
    fn events_of_other_sources_do_not_interrupt_a_run_nor_count() {
        let mut ledger = ledger();
        for offset in [0, 2, 3, 5, 6] {
            ledger.foreign(PLACE, offset);
        }
        for offset in [1, 4, 8] {
            ledger.ended((PLACE, offset), Some(&event()), End::Delivered, 1, at());
        }
        let expected = ["delivered 1-4 x2", "delivered 8-8 x1"];
        assert_eq!(told(&mut ledger), expected, "7 has not ended, so the run may not cover it");
    }

    #[test]
    fn what_took_several_attempts_is_told_apart() {
        let mut ledger = ledger();
        for (offset, attempts) in [(0, 1), (1, 3), (2, 3)] {
            ledger.ended((PLACE, offset), Some(&event()), End::Delivered, attempts, at());
        }
        let attempts = ledger.take(at()).outcomes.iter().map(|outcome| outcome.attempts).collect::<Vec<_>>();
        assert_eq!(attempts, [1, 3]);
    }

    #[test]
    fn a_failure_has_an_outcome_and_a_dead_letter_with_the_record() {
        let mut ledger = ledger();
        let record = WireRecord::new(None, None).with("type", "track");
        let end = End::Rejected(Reason::new("http_400", "no"), Box::new(record.clone()));
        ledger.ended((PLACE, 9), Some(&event()), end, 2, at());
        let statement = ledger.take(at());
        let [outcome] = &statement.outcomes[..] else { panic!("{statement:?}") };
        assert_eq!((outcome.disposition, outcome.attempts), (Disposition::Rejected, 2));
        assert_eq!(outcome.reason.as_ref().unwrap().code, "http_400");
        let [letter] = &statement.dead_letters[..] else { panic!("{statement:?}") };
        assert_eq!(letter.id(), "hook/acme.events.main/3/9");
        assert_eq!(letter.original, record);
    }

    #[test]
    fn each_change_has_an_outcome_of_its_own() {
        let mut ledger = ledger();
        for (offset, end) in [(0, End::Superseded), (1, End::Delivered)] {
            let key = PartitionKey([1; 16]);
            let change = Payload::Change(Change {
                sync: "s".parse().unwrap(),
                run: 7,
                destination: "hook".parse().unwrap(),
                op: ChangeOp::Upsert,
                key,
                row_hash: key,
                published_at: at(),
                body: Bytes::new(),
            });
            ledger.ended((PLACE, offset), Some(&change), end, 1, at());
        }
        assert_eq!(told(&mut ledger), ["superseded run 7", "delivered run 7"]);
    }

    #[test]
    fn a_gap_of_retention_is_told() {
        let mut ledger = ledger();
        ledger.expired(PLACE, (10, 25), at());
        assert_eq!(told(&mut ledger), ["expired 10-24 x15"]);
    }
}
