//! The dead letters that an operator asks for, and which of them are open.
//!
//! A letter is open until its event has another outcome: sent again and delivered, or discarded. The topic of
//! the letters is only ever added to, so which are open is read from the outcomes. Both topics are read in
//! batches; what stays in memory is one entry for each letter, without its record.
//!
//! Both are kept for 30 days, unless somebody has set that otherwise, and Kafka forgets by the segment: a letter
//! may outlive what was said of it. All outcomes of a destination are in one partition, which is forgotten from
//! its beginning, so one outcome that is left proves that the last word is. A letter of `deliver` of which there
//! is none, from a time of which Kafka has forgotten outcomes, is neither open nor closed: it is unknown.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use millrace_bus::{BatchLimits, Bus, CancellationToken, Received, Start};
use millrace_event_model::topics::{Cleanup, DEAD_LETTERS, OUTCOMES, TopicName};
use millrace_event_model::wire::{Message, WireRecord};
use millrace_event_model::{DeadLetter, Disposition, Event, MessageId, Origin, Outcome, SourceId, Stage};

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

/// A letter without its record.
#[derive(Debug, Clone)]
pub(super) struct Letter {
    /// Its record is empty.
    pub(super) said: DeadLetter,
    /// The event that it holds, if it holds one.
    pub(super) event: Option<(SourceId, MessageId)>,
    /// Whether it holds its record: one that is too large does not.
    pub(super) is_whole: bool,
    /// Where it is itself: partition and offset.
    pub(super) place: (i32, i64),
    /// When Kafka had it.
    pub(super) appended_at: DateTime<Utc>,
}

impl Letter {
    fn new(mut said: DeadLetter, place: (i32, i64), appended_at: DateTime<Utc>) -> Self {
        let event = Event::decode(&said.original).ok().map(|event| (event.source, event.message_id));
        let is_whole = said.original.value.is_some();
        // Its parts are slices of what was read: one that stays keeps a whole batch in memory.
        said.original = WireRecord::new(None, None);
        Self { said, event, is_whole, place, appended_at }
    }
}

/// Letters that wait for somebody.
#[derive(Debug, Default)]
pub(super) struct Open {
    /// The oldest first.
    pub(super) letters: Vec<Letter>,
    /// These may be open or not: Kafka has forgotten the outcomes of their time.
    pub(super) unknown: Vec<Letter>,
}

impl Open {
    /// Leaves out all others.
    pub(super) fn retain(&mut self, is_kept: impl Fn(&DeadLetter) -> bool) {
        for letters in [&mut self.letters, &mut self.unknown] {
            letters.retain(|letter| is_kept(&letter.said));
        }
    }
}

/// Those that the filter takes and that wait for somebody.
pub(super) async fn open(bus: &Bus, filter: &LetterFilter) -> Result<Open, Failure> {
    let letters = read(bus, filter).await?;
    let Some(oldest) = letters.first() else { return Ok(Open::default()) };
    let since = oldest.said.at;
    let mut words = LastWords::of(&letters);
    let take = |outcome: Received<Outcome>| {
        if let Ok(outcome) = outcome.message {
            words.add(&outcome);
        }
    };
    let forgotten = fold(bus, &OUTCOMES.of(bus.workspace()), Some(since), take).await?;
    Ok(words.sort(letters, forgotten))
}

/// Those that the filter takes, open or not, the oldest first.
pub(super) async fn read(bus: &Bus, filter: &LetterFilter) -> Result<Vec<Letter>, Failure> {
    let mut latest = Latest::default();
    fold(bus, &DEAD_LETTERS.of(bus.workspace()), filter.from, |received: Received<DeadLetter>| {
        let Ok(said) = received.message else { return };
        if filter.of.as_ref().is_none_or(|of| said.subject == *of) {
            latest.add(Letter::new(said, (received.partition, received.offset), received.appended_at));
        }
    })
    .await?;
    Ok(latest.taken_by(filter))
}

/// The last one of an id, with its record.
pub(super) async fn find(bus: &Bus, id: &str) -> Result<Option<DeadLetter>, Failure> {
    let mut found = None;
    fold(bus, &DEAD_LETTERS.of(bus.workspace()), None, |received: Received<DeadLetter>| {
        found = received.message.ok().filter(|said| said.id() == id).or(found.take());
    })
    .await?;
    Ok(found)
}

/// Gives what a topic holds now to `take`, from those on that were stored at a time. Returns until when Kafka has
/// forgotten some since that time, or may have.
async fn fold<M: Message>(
    bus: &Bus,
    topic: &TopicName<M>,
    since: Option<DateTime<Utc>>,
    mut take: impl FnMut(Received<M>),
) -> Result<Option<DateTime<Utc>>, Failure> {
    let watermarks = bus.watermarks(topic.as_str()).await?;
    let mut from: BTreeMap<i32, i64> =
        watermarks.iter().map(|(partition, (low, _))| (*partition, *low)).collect();
    if let Some(since) = since {
        for (partition, offset) in bus.offsets_at(topic.as_str(), since - CLOCKS).await? {
            from.entry(partition).and_modify(|low| *low = offset.max(*low));
        }
    }
    let mut forgotten = Forgotten::new(&watermarks, &from);
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
        for received in batch.records {
            forgotten.left(received.partition, received.appended_at);
            take(received);
        }
    }
    let kept = match topic.spec().cleanup {
        Cleanup::Delete { days } => TimeDelta::days(days.into()),
        Cleanup::Compact => TimeDelta::zero(),
    };
    Ok(forgotten.until(Utc::now() - kept))
}

/// The partitions of which Kafka may have forgotten messages of the time that is read, each with when the first
/// that is left was stored.
struct Forgotten(BTreeMap<i32, Option<DateTime<Utc>>>);

impl Forgotten {
    /// Those whose beginning is gone, and that are read from what is their beginning now.
    fn new(watermarks: &BTreeMap<i32, (i64, i64)>, from: &BTreeMap<i32, i64>) -> Self {
        let is_cut =
            |(partition, (low, _)): &(&i32, &(i64, i64))| *low > 0 && from.get(partition) == Some(low);
        Self(watermarks.iter().filter(is_cut).map(|(partition, _)| (*partition, None)).collect())
    }

    /// A message of a partition is left, which has come after those before it.
    fn left(&mut self, partition: i32, appended_at: DateTime<Utc>) {
        if let Some(first) = self.0.get_mut(&partition) {
            first.get_or_insert(appended_at);
        }
    }

    /// Until when messages may be gone. `emptied`: of a partition of which none is left, by the topic's contract;
    /// one that nobody writes to any more must not make all letters doubtful.
    fn until(&self, emptied: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.0.values().map(|first| first.unwrap_or(emptied)).max()
    }
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

/// Of each letter, whether the last outcome leaves it open, if there is one. Outcomes of a destination come in
/// the order of writing.
struct LastWords(BTreeMap<Key, Option<bool>>);

impl LastWords {
    fn of(letters: &[Letter]) -> Self {
        Self(letters.iter().map(|letter| (key(&letter.said), None)).collect())
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
            *open = Some(is_open);
        }
    }

    /// `forgotten`: until when Kafka may have forgotten outcomes.
    fn sort(&self, letters: Vec<Letter>, forgotten: Option<DateTime<Utc>>) -> Open {
        let mut open = Open::default();
        for letter in letters {
            // The other stages write no outcomes.
            let may_be_closed = letter.said.stage == Stage::Deliver
                && forgotten.is_some_and(|until| letter.appended_at < until + CLOCKS);
            match self.0.get(&key(&letter.said)).copied().flatten() {
                Some(false) => {}
                None if may_be_closed => open.unknown.push(letter),
                Some(true) | None => open.letters.push(letter),
            }
        }
        open
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use millrace_event_model::Reason;

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
        let appended_at = said.at;
        Letter::new(said, (0, offset), appended_at)
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
        let sort = |forgotten: Option<i64>| {
            let until = forgotten.and_then(|second| DateTime::from_timestamp(second, 0));
            let open = words.sort(letters.to_vec(), until);
            (open.letters.iter().map(|letter| letter.said.offset).collect::<Vec<_>>(), open.unknown.len())
        };
        assert_eq!(sort(None), (vec![3, 9], 0), "failed again, and of one that has no outcome yet");
        assert_eq!(sort(Some(10)), (vec![3], 1), "its outcomes may have been there");
        assert_eq!(sort(Some(-2 * 3600)), (vec![3, 9], 0), "what is forgotten was before it");
    }

    #[test]
    fn outcomes_may_be_gone_until_the_first_that_is_left_where_reading_begins_with_it() {
        let at = |second| DateTime::from_timestamp(second, 0).unwrap();
        let until = |watermarks: &[(i64, i64)], from: &[i64], left: &[(i32, i64)]| {
            let numbered = |n: usize| i32::try_from(n).unwrap();
            let watermarks = watermarks.iter().enumerate().map(|(p, marks)| (numbered(p), *marks)).collect();
            let from = from.iter().enumerate().map(|(p, offset)| (numbered(p), *offset)).collect();
            let mut forgotten = Forgotten::new(&watermarks, &from);
            left.iter().for_each(|(partition, second)| forgotten.left(*partition, at(*second)));
            forgotten.until(at(3))
        };
        assert_eq!(
            until(&[(0, 9), (0, 0)], &[0, 0], &[(0, 50), (0, 51)]),
            None,
            "all that ever was is there"
        );
        assert_eq!(until(&[(4, 9)], &[6], &[(0, 50)]), None, "and all of the time that is asked for");
        assert_eq!(until(&[(4, 9), (0, 5)], &[4, 0], &[(0, 50), (1, 7), (0, 51)]), Some(at(50)));
        assert_eq!(until(&[(4, 9), (5, 5)], &[4, 5], &[(0, 1)]), Some(at(3)), "of the second none is left");
    }

    #[test]
    fn letters_of_other_stages_are_never_unknown() {
        let mut letter = letter(1, 0);
        letter.said.stage = Stage::WarehouseLoader;
        let open = LastWords::of(&[letter.clone()]).sort(vec![letter], Some(Utc::now()));
        assert_eq!((open.letters.len(), open.unknown.len()), (1, 0));
    }

    #[test]
    fn what_is_left_out_is_not_counted_as_unknown_either() {
        let letters = vec![letter(1, 0), letter(2, 0), letter(9, 0)];
        let mut open = LastWords::of(&letters).sort(letters, DateTime::from_timestamp(10, 0));
        assert_eq!(open.unknown.len(), 3);
        open.retain(|letter| letter.offset < 3);
        assert_eq!((open.letters.len(), open.unknown.len()), (0, 2));
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
        let letters = || vec![letter(1, 5), letter(2, 6), again.clone()];
        let code = |code: &str| LetterFilter { code: Some(code.to_owned()), ..LetterFilter::default() };
        assert_eq!(latest(letters(), &code("http_400")), [(2, 6)]);
        assert_eq!(latest(letters(), &code("http_422")), [(1, 7)]);
        let before = LetterFilter { to: DateTime::from_timestamp(7, 0), ..LetterFilter::default() };
        assert_eq!(latest(letters(), &before), [(2, 6)]);
    }
}
