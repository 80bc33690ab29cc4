//! `millrace dead-letters`: what was given up, by whom and why; what to do about it.
//!
//! A letter is open until its event has another outcome: sent again and delivered, or discarded. The topic of
//! the letters is only ever added to, so which are open is read from the outcomes.

use std::collections::BTreeMap;

use chrono::{SecondsFormat, Utc};
use millrace_bus::{Bus, PublisherOptions};
use millrace_event_model::topics::{AUDIT, DEAD_LETTERS, OUTCOMES};
use millrace_event_model::wire::Message;
use millrace_event_model::{DeadLetter, DestinationId, Disposition, Event, Origin, Outcome, Reason, Stage};
use millrace_service::config::Mode;
use serde_json::{Value, json};

use super::operate;
use crate::cli::{LetterFilter, Output, Place};
use crate::exit::Failure;
use crate::installation::{Installation, read_config};
use crate::output;

/// The reason of an outcome by which an operator has closed a letter.
const DISCARDED: &str = "discarded";

/// `millrace dead-letters list`.
pub(crate) async fn list(
    place: &Place,
    filter: &LetterFilter,
    all: bool,
    output: Output,
) -> Result<(), Failure> {
    let config = read_config(place, Mode::Dev)?;
    let bus = Installation::attach(&config, place)?;
    let letters = match all {
        true => read(&bus, filter).await?,
        false => open(&bus, filter).await?,
    };
    if output == Output::Json {
        letters.iter().for_each(|letter| output::line(about(letter).to_string()));
        return Ok(());
    }
    let rows = letters.iter().map(|letter| {
        vec![
            letter.at.to_rfc3339_opts(SecondsFormat::Secs, true),
            letter.subject.clone(),
            format!("{}/{}/{}", letter.topic, letter.partition, letter.offset),
            letter.reason.code.clone(),
            letter.reason.message.clone(),
        ]
    });
    output::line(output::table(&["at", "of", "topic/partition/offset", "code", "why"], rows));
    output::line(format!("({} dead letters)", letters.len()));
    Ok(())
}

/// `millrace dead-letters show ID`: with its content, for whoever may read the topic.
pub(crate) async fn show(place: &Place, id: &str) -> Result<(), Failure> {
    let config = read_config(place, Mode::Dev)?;
    let bus = Installation::attach(&config, place)?;
    let letters = read(&bus, &LetterFilter::default()).await?;
    let letter = letters.iter().find(|letter| letter.id() == id).ok_or_else(|| {
        Failure::Usage(format!(
            "there is no dead letter {id:?}; ids are those of `dead-letters list -o json`"
        ))
    })?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = letter.original.headers.iter().map(|(name, value)| (name.clone(), text(value).into()));
    let mut shown = about(letter);
    shown["headers"] = Value::Object(headers.collect());
    shown["value"] = letter.original.value.as_ref().map_or(Value::Null, |value| {
        serde_json::from_slice(value).unwrap_or_else(|_| Value::String(text(value)))
    });
    output::line(serde_json::to_string_pretty(&shown).unwrap_or_default());
    Ok(())
}

/// `millrace dead-letters discard`.
pub(crate) async fn discard(
    place: &Place,
    filter: &LetterFilter,
    dry_run: bool,
    output: Output,
) -> Result<(), Failure> {
    let config = read_config(place, Mode::Dev)?;
    let destination = operate::destination(&config, of(filter)?)?;
    let bus = Installation::attach(&config, place)?;
    let mut letters = open(&bus, filter).await?;
    letters.retain(|letter| letter.stage == Stage::Deliver);
    if !dry_run && !letters.is_empty() {
        let publisher = bus.publisher(PublisherOptions::default())?;
        let subject = format!("{destination}, {} dead letters", letters.len());
        let entry = operate::audit("dead-letters.discarded", &subject);
        let noted = publisher.publish(&AUDIT.of(bus.workspace()), [&entry]).await?;
        let outcomes: Vec<_> = letters.iter().map(|letter| discarded(&destination, letter)).collect();
        let told = publisher.publish(&OUTCOMES.of(bus.workspace()), &outcomes).await?;
        tracing::debug!(noted = noted.count(), told = told.count(), "dead letters are discarded");
    }
    let what = if dry_run { "would be discarded" } else { "discarded" };
    let json = json!({"destination": destination, "discarded": letters.len(), "dry_run": dry_run, "by_code": by_code(&letters)});
    output::result(output, &json, format!("{} dead letters {what}{}", letters.len(), codes(&letters)));
    Ok(())
}

/// The destination that a command is to act on: never on all at once.
pub(super) fn of(filter: &LetterFilter) -> Result<&str, Failure> {
    let missing = || Failure::Usage("say which destination's: --of ID".to_owned());
    filter.of.as_deref().ok_or_else(missing)
}

/// Those that wait for somebody, the oldest first.
pub(super) async fn open(bus: &Bus, filter: &LetterFilter) -> Result<Vec<DeadLetter>, Failure> {
    let mut letters = read(bus, filter).await?;
    let outcomes = bus.read_all(&OUTCOMES.of(bus.workspace())).await?;
    let outcomes = outcomes.into_iter().filter_map(|received| received.message.ok());
    let last = last_words(&letters, outcomes);
    letters.retain(|letter| last.get(&key(letter)).is_none_or(|open| *open));
    Ok(letters)
}

async fn read(bus: &Bus, filter: &LetterFilter) -> Result<Vec<DeadLetter>, Failure> {
    let all = bus.read_all(&DEAD_LETTERS.of(bus.workspace())).await?;
    let letters = all.into_iter().filter_map(|received| received.message.ok());
    Ok(latest(letters.filter(|letter| filter.takes(letter)).collect()))
}

/// One for each id: a crash may have stored one twice, and what was sent again may have failed again.
fn latest(letters: Vec<DeadLetter>) -> Vec<DeadLetter> {
    let mut by_id: BTreeMap<String, DeadLetter> = BTreeMap::new();
    for letter in letters {
        match by_id.get(&letter.id()) {
            Some(other) if other.at > letter.at => {}
            _ => drop(by_id.insert(letter.id(), letter)),
        }
    }
    let mut letters: Vec<_> = by_id.into_values().collect();
    letters.sort_by_key(|letter| letter.at);
    letters
}

/// Whose it is, and where its record was: subject, topic, partition, offset.
type Key = (String, String, i32, i64);

fn key(letter: &DeadLetter) -> Key {
    (letter.subject.clone(), letter.topic.clone(), letter.partition, letter.offset)
}

/// For each letter that has an outcome, whether the last one leaves it open. Outcomes of a destination come in
/// the order of writing.
fn last_words(letters: &[DeadLetter], outcomes: impl Iterator<Item = Outcome>) -> BTreeMap<Key, bool> {
    let mut last: BTreeMap<Key, bool> = letters.iter().map(|letter| (key(letter), true)).collect();
    for outcome in outcomes {
        let (topic, partition, first, end) = match &outcome.origin {
            Origin::Events { topic, partition, first, last, .. } => (topic, *partition, *first, *last),
            Origin::Event { topic, partition, offset, .. } => (topic, *partition, *offset, *offset),
            Origin::Change { .. } => continue,
        };
        let is_open = outcome.disposition == Disposition::Rejected
            && outcome.reason.as_ref().is_none_or(|reason| reason.code != DISCARDED);
        let at = |offset| (outcome.destination.to_string(), topic.clone(), partition, offset);
        for (_, open) in last.range_mut(at(first)..=at(end)) {
            *open = is_open;
        }
    }
    last
}

/// Counted as rejected, as before; but closed.
fn discarded(destination: &DestinationId, letter: &DeadLetter) -> Outcome {
    let (topic, partition, offset) = (letter.topic.clone(), letter.partition, letter.offset);
    let origin = match Event::decode(&letter.original) {
        Ok(event) => {
            Origin::Event { topic, partition, offset, source: event.source, message_id: event.message_id }
        }
        Err(_) => Origin::Events { topic, partition, first: offset, last: offset, count: 1 },
    };
    let message = format!("an operator discarded it; it had failed with {}", letter.reason.code);
    Outcome {
        destination: destination.clone(),
        origin,
        disposition: Disposition::Rejected,
        reason: Some(Reason::new(DISCARDED, message)),
        attempts: 0,
        at: Utc::now(),
    }
}

fn about(letter: &DeadLetter) -> Value {
    json!({
        "id": letter.id(), "at": letter.at, "stage": letter.stage, "of": letter.subject, "topic": letter.topic,
        "partition": letter.partition, "offset": letter.offset, "code": letter.reason.code,
        "message": letter.reason.message,
    })
}

pub(super) fn by_code(letters: &[DeadLetter]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for letter in letters {
        *counts.entry(letter.reason.code.as_str()).or_default() += 1;
    }
    counts
}

/// The counts in parentheses, for people.
pub(super) fn codes(letters: &[DeadLetter]) -> String {
    let counts = by_code(letters);
    if counts.is_empty() {
        return String::new();
    }
    let counts: Vec<_> = counts.iter().map(|(code, count)| format!("{code}: {count}")).collect();
    format!(" ({})", counts.join(", "))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use chrono::DateTime;
    use millrace_event_model::wire::WireRecord;

    use super::*;

    fn letter(offset: i64, second: i64) -> DeadLetter {
        DeadLetter {
            stage: Stage::Deliver,
            subject: "hook".to_owned(),
            topic: "acme.events.main".to_owned(),
            partition: 3,
            offset,
            reason: Reason::new("http_400", "no"),
            at: DateTime::from_timestamp(second, 0).unwrap(),
            original: WireRecord::new(None, None),
        }
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
        let outcomes = vec![
            outcome(1, 1, Disposition::Rejected, "http_400"),
            outcome(2, 2, Disposition::Rejected, "http_400"),
            outcome(3, 3, Disposition::Rejected, "http_400"),
            outcome(2, 2, Disposition::Delivered, ""),
            outcome(3, 3, Disposition::Delivered, ""),
            outcome(3, 3, Disposition::Rejected, "http_400"),
            discarded(&"hook".parse().unwrap(), &letters[0]),
        ];
        let last = last_words(&letters, outcomes.into_iter());
        let open = letters.iter().filter(|letter| last[&key(letter)]).map(|letter| letter.offset);
        assert_eq!(open.collect::<Vec<_>>(), [3, 9], "failed again, and of one that has no outcome yet");
    }

    #[test]
    fn of_several_letters_of_one_event_the_last_counts() {
        let letters = latest(vec![letter(1, 5), letter(2, 1), letter(1, 7), letter(1, 6)]);
        let found = letters.iter().map(|letter| (letter.offset, letter.at.timestamp()));
        assert_eq!(found.collect::<Vec<_>>(), [(2, 1), (1, 7)]);
    }
}
