//! The dead letters that an operator asks for, and which of them are open.
//!
//! A letter is open until its event has another outcome: sent again and delivered, or discarded. The topic of
//! the letters is only ever added to, so which are open is read from the outcomes. Both topics are read in
//! batches; what stays in memory is one entry for each letter, with its record only for who needs it.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use millrace_bus::{BatchLimits, Bus, CancellationToken, Start};
use millrace_event_model::topics::{DEAD_LETTERS, OUTCOMES, TopicName};
use millrace_event_model::wire::{Message, WireRecord};
use millrace_event_model::{DeadLetter, Disposition, Event, MessageId, Origin, Outcome, SourceId};

use crate::cli::LetterFilter;
use crate::exit::Failure;

/// The reason of an outcome by which an operator has closed a letter.
pub(super) const DISCARDED: &str = "discarded";

/// What is in memory at a time of a topic that is read; the next batch waits for it.
const BATCH: BatchLimits =
    BatchLimits { max_records: 10_000, max_bytes: 32 * 1024 * 1024, max_wait: Duration::from_millis(100) };

/// After so many batches in a row without a message, half a minute, the command gives up: Kafka is away.
const EMPTY_BATCHES: u32 = 300;

/// Letters and outcomes are stored by clocks that may differ so much: so far before a time reading begins.
const CLOCKS: TimeDelta = TimeDelta::hours(1);

/// What is kept of a letter's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// All of it: it is sent or shown.
    Record,
    /// Nothing but whose event it is.
    Name,
}

/// A letter, and the event that it holds, if it holds one.
#[derive(Debug)]
pub(super) struct Letter {
    /// Its record is empty after [`Keep::Name`].
    pub(super) said: DeadLetter,
    pub(super) event: Option<(SourceId, MessageId)>,
}

impl Letter {
    pub(super) fn new(mut said: DeadLetter, keep: Keep) -> Self {
        let event = Event::decode(&said.original).ok().map(|event| (event.source, event.message_id));
        if keep == Keep::Name {
            // Its parts are slices of what was read: one that stays keeps a whole batch in memory.
            said.original = WireRecord::new(None, None);
        }
        Self { said, event }
    }
}

/// Those that wait for somebody, the oldest first.
pub(super) async fn open(bus: &Bus, filter: &LetterFilter, keep: Keep) -> Result<Vec<Letter>, Failure> {
    let mut letters = read(bus, filter, keep).await?;
    let Some(oldest) = letters.first() else { return Ok(letters) };
    let since = oldest.said.at;
    let mut words = LastWords::of(&letters);
    fold(bus, &OUTCOMES.of(bus.workspace()), Some(since), |outcome| words.add(&outcome)).await?;
    letters.retain(|letter| words.leave_open(&letter.said));
    Ok(letters)
}

/// Those that the filter takes, open or not, the oldest first.
pub(super) async fn read(bus: &Bus, filter: &LetterFilter, keep: Keep) -> Result<Vec<Letter>, Failure> {
    let mut latest = Latest::default();
    fold(bus, &DEAD_LETTERS.of(bus.workspace()), filter.from, |said: DeadLetter| {
        if filter.of.as_ref().is_none_or(|of| said.subject == *of) {
            latest.add(Letter::new(said, keep));
        }
    })
    .await?;
    Ok(latest.taken_by(filter))
}

/// Gives what a topic holds now to `take`, from those on that were stored at a time; what cannot be decoded is
/// passed over.
async fn fold<M: Message>(
    bus: &Bus,
    topic: &TopicName<M>,
    since: Option<DateTime<Utc>>,
    mut take: impl FnMut(M),
) -> Result<(), Failure> {
    let watermarks = bus.watermarks(topic.as_str()).await?;
    let mut from: BTreeMap<i32, i64> =
        watermarks.iter().map(|(partition, (low, _))| (*partition, *low)).collect();
    if let Some(since) = since {
        for (partition, offset) in bus.offsets_at(topic.as_str(), since - CLOCKS).await? {
            from.entry(partition).and_modify(|low| *low = offset.max(*low));
        }
    }
    let mut reader = bus.reader(topic, &from, Start::Earliest)?;
    let ends_at = |positions: &BTreeMap<i32, i64>| {
        watermarks
            .iter()
            .all(|(partition, (_, high))| positions.get(partition).is_some_and(|next| next >= high))
    };
    let mut empty = 0;
    while !ends_at(reader.positions()) {
        let batch = reader.next_batch(&BATCH, &CancellationToken::new()).await?;
        empty = if batch.is_empty() { empty + 1 } else { 0 };
        if empty == EMPTY_BATCHES {
            return Err(Failure::Unreachable(format!(
                "Kafka sends nothing more of topic {} before its end; try again when it is well",
                topic.as_str()
            )));
        }
        batch.records.into_iter().filter_map(|received| received.message.ok()).for_each(&mut take);
    }
    Ok(())
}

/// One for each id: a crash may have stored one twice, and what was sent again may have failed again.
#[derive(Debug, Default)]
struct Latest(BTreeMap<String, Letter>);

impl Latest {
    fn add(&mut self, letter: Letter) {
        let id = letter.said.id();
        if self.0.get(&id).is_none_or(|other| other.said.at <= letter.said.at) {
            self.0.insert(id, letter);
        }
    }

    /// Only now: an earlier letter says nothing of an event that has failed again since.
    fn taken_by(self, filter: &LetterFilter) -> Vec<Letter> {
        let mut letters: Vec<_> = self.0.into_values().filter(|letter| filter.takes(&letter.said)).collect();
        letters.sort_by_key(|letter| letter.said.at);
        letters
    }
}

/// Whose it is, and where its record was: subject, topic, partition, offset.
type Key = (String, String, i32, i64);

fn key(letter: &DeadLetter) -> Key {
    (letter.subject.clone(), letter.topic.clone(), letter.partition, letter.offset)
}

/// For each letter, whether the last outcome leaves it open. Outcomes of a destination come in the order of
/// writing.
struct LastWords(BTreeMap<Key, bool>);

impl LastWords {
    fn of(letters: &[Letter]) -> Self {
        Self(letters.iter().map(|letter| (key(&letter.said), true)).collect())
    }

    fn add(&mut self, outcome: &Outcome) {
        let (topic, partition, first, end) = match &outcome.origin {
            Origin::Events { topic, partition, first, last, .. } => (topic, *partition, *first, *last),
            Origin::Event { topic, partition, offset, .. } => (topic, *partition, *offset, *offset),
            Origin::Change { .. } => return,
        };
        let is_open = outcome.disposition == Disposition::Rejected
            && outcome.reason.as_ref().is_none_or(|reason| reason.code != DISCARDED);
        let at = |offset| (outcome.destination.to_string(), topic.clone(), partition, offset);
        for (_, open) in self.0.range_mut(at(first)..=at(end)) {
            *open = is_open;
        }
    }

    fn leave_open(&self, letter: &DeadLetter) -> bool {
        self.0.get(&key(letter)).is_none_or(|open| *open)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use millrace_event_model::{Reason, Stage};

    use super::*;

    fn letter(offset: i64, second: i64) -> Letter {
        let said = DeadLetter {
            stage: Stage::Deliver,
            subject: "hook".to_owned(),
            topic: "acme.events.main".to_owned(),
            partition: 3,
            offset,
            reason: Reason::new("http_400", "no"),
            at: DateTime::from_timestamp(second, 0).unwrap(),
            original: WireRecord::new(None, None),
        };
        Letter::new(said, Keep::Name)
    }

    fn outcome(first: i64, last: i64, disposition: Disposition, code: &str) -> Outcome {
        let origin =
            Origin::Events { topic: "acme.events.main".to_owned(), partition: 3, first, last, count: 1 };
        let reason = Some(Reason::new(code, ""));
        let (destination, at) = ("hook".parse().unwrap(), DateTime::UNIX_EPOCH);
        Outcome { destination, origin, disposition, reason, attempts: 1, at }
    }

    #[test]
    fn a_letter_is_open_until_its_event_is_delivered_or_discarded() {
        let letters = [letter(1, 0), letter(2, 0), letter(3, 0), letter(9, 0)];
        let mut words = LastWords::of(&letters);
        for outcome in [
            outcome(1, 1, Disposition::Rejected, "http_400"),
            outcome(2, 2, Disposition::Rejected, "http_400"),
            outcome(3, 3, Disposition::Rejected, "http_400"),
            outcome(2, 2, Disposition::Delivered, ""),
            outcome(3, 3, Disposition::Delivered, ""),
            outcome(3, 3, Disposition::Rejected, "http_400"),
            outcome(1, 1, Disposition::Rejected, DISCARDED),
        ] {
            words.add(&outcome);
        }
        let open = letters.iter().filter(|letter| words.leave_open(&letter.said));
        let open: Vec<_> = open.map(|letter| letter.said.offset).collect();
        assert_eq!(open, [3, 9], "failed again, and of one that has no outcome yet");
    }

    fn latest(letters: Vec<Letter>, filter: &LetterFilter) -> Vec<(i64, i64)> {
        let mut latest = Latest::default();
        letters.into_iter().for_each(|letter| latest.add(letter));
        let taken = latest.taken_by(filter);
        taken.iter().map(|letter| (letter.said.offset, letter.said.at.timestamp())).collect()
    }

    #[test]
    fn of_several_letters_of_one_event_the_last_counts() {
        let letters = vec![letter(1, 5), letter(2, 1), letter(1, 7), letter(1, 6)];
        assert_eq!(latest(letters, &LetterFilter::default()), [(2, 1), (1, 7)]);
    }

    #[test]
    fn a_filter_takes_no_letter_whose_event_has_failed_otherwise_since() {
        let mut again = letter(1, 7);
        again.said.reason = Reason::new("http_422", "no");
        let letters = || vec![letter(1, 5), letter(2, 6), Letter { said: again.said.clone(), event: None }];
        let code = |code: &str| LetterFilter { code: Some(code.to_owned()), ..LetterFilter::default() };
        assert_eq!(latest(letters(), &code("http_400")), [(2, 6)]);
        assert_eq!(latest(letters(), &code("http_422")), [(1, 7)]);
        let before = LetterFilter { to: DateTime::from_timestamp(7, 0), ..LetterFilter::default() };
        assert_eq!(latest(letters(), &before), [(2, 6)]);
    }
}
