//! `millrace dead-letters`: what was given up, by whom and why; what to do about it.

use std::collections::BTreeMap;

use chrono::{SecondsFormat, Utc};
use millrace_bus::{Bus, PublisherOptions};
use millrace_event_model::topics::{AUDIT, OUTCOMES};
use millrace_event_model::{DeadLetter, DestinationId, Disposition, Origin, Outcome, Reason, Stage};
use millrace_service::Stop;
use millrace_service::config::Mode;
use serde_json::{Value, json};

use super::held::Held;
use super::letters::{DISCARDED, Letter, Open, find, open, read};
use super::operate;
use crate::cli::{LetterFilter, Output, Place};
use crate::exit::Failure;
use crate::installation::{Installation, read_config};
use crate::output;

/// So many outcomes of discarded letters wait for Kafka at a time, a tenth of what the publisher's queue takes;
/// the next come when these are stored.
const DISCARDED_AT_ONCE: usize = 10_000;

/// `millrace dead-letters list`.
pub(crate) async fn list(
    place: &Place,
    filter: &LetterFilter,
    all: bool,
    output: Output,
) -> Result<(), Failure> {
    let config = read_config(place, Mode::Dev)?;
    let bus = Installation::attach(&config, place)?;
    let Open { letters, unknown } = match all {
        true => Open { letters: read(&bus, filter).await?, unknown: Vec::new() },
        false => open(&bus, filter).await?,
    };
    if !unknown.is_empty() {
        output::aside(told_unknown(unknown.len()));
    }
    if output == Output::Json {
        letters.iter().for_each(|letter| output::line(about(&letter.said).to_string()));
        return Ok(());
    }
    let rows = letters.iter().map(|Letter { said: letter, .. }| {
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
    let letter = find(&bus, id).await?.ok_or_else(|| {
        Failure::Usage(format!(
            "there is no dead letter {id:?}; ids are those of `dead-letters list -o json`"
        ))
    })?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = letter.original.headers.iter().map(|(name, value)| (name.to_string(), text(value).into()));
    let mut shown = about(&letter);
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
    if dry_run {
        let bus = Installation::attach(&config, place)?;
        let letters = given_up(&bus, filter).await?;
        tell_discarded(&destination, &letters, true, output);
        return Ok(());
    }
    let installation = Installation::open_attached(config, place).await?;
    let held = Held::take(&installation, &destination, "dead-letters-discard").await?;
    let letters = close(&installation.bus, &destination, filter, &held.stop()).await;
    held.release().await;
    tell_discarded(&destination, &letters?, false, output);
    Ok(())
}

/// Those of a destination that are open.
pub(super) async fn given_up(bus: &Bus, filter: &LetterFilter) -> Result<Open, Failure> {
    let mut open = open(bus, filter).await?;
    open.letters.retain(|letter| letter.said.stage == Stage::Deliver);
    Ok(open)
}

/// Of those that may be open or not.
pub(super) fn told_unknown(unknown: usize) -> String {
    format!(
        "{unknown} older ones may be open or not and are left out: Kafka's retention has taken what became of them \
         (`millrace dead-letters list --all` has them)"
    )
}

/// Closes those that are open. One that dies in between has closed some; run again, it closes the rest.
async fn close(
    bus: &Bus,
    destination: &DestinationId,
    filter: &LetterFilter,
    stop: &Stop,
) -> Result<Open, Failure> {
    let open = given_up(bus, filter).await?;
    let letters = &open.letters;
    if letters.is_empty() {
        return Ok(open);
    }
    let publisher = bus.publisher(PublisherOptions::default())?;
    let subject = format!("{destination}, {} dead letters", letters.len());
    let entry = operate::audit("dead-letters.discarded", &subject);
    let noted = publisher.publish(&AUDIT.of(bus.workspace()), [&entry]).await?;
    for some in letters.chunks(DISCARDED_AT_ONCE) {
        if stop.is_requested() {
            return Err(Failure::Partial(format!(
                "another command has taken {destination} over: not all are discarded; run it again to go on"
            )));
        }
        let outcomes: Vec<_> = some.iter().map(|letter| discarded(destination, letter)).collect();
        let told = publisher.publish(&OUTCOMES.of(bus.workspace()), &outcomes).await?;
        tracing::debug!(noted = noted.count(), told = told.count(), "dead letters are discarded");
    }
    Ok(open)
}

fn tell_discarded(destination: &DestinationId, open: &Open, dry_run: bool, output: Output) {
    let Open { letters, unknown } = open;
    let what = if dry_run { "would be discarded" } else { "discarded" };
    let json = json!({
        "destination": destination, "discarded": letters.len(), "unknown": unknown.len(), "dry_run": dry_run,
        "by_code": by_code(letters),
    });
    let mut text = format!("{} dead letters {what}{}", letters.len(), codes(letters));
    if !unknown.is_empty() {
        text.push_str(&format!("\n{}", told_unknown(unknown.len())));
    }
    output::result(output, &json, text);
}

/// The destination that a command is to act on: never on all at once.
pub(super) fn of(filter: &LetterFilter) -> Result<&str, Failure> {
    let missing = || Failure::Usage("say which destination's: --of ID".to_owned());
    filter.of.as_deref().ok_or_else(missing)
}

/// Counted as rejected, as before; but closed.
fn discarded(destination: &DestinationId, letter: &Letter) -> Outcome {
    let Letter { said: letter, event, .. } = letter;
    let (topic, partition, offset) = (letter.topic.clone(), letter.partition, letter.offset);
    let origin = match event.clone() {
        Some((source, message_id)) => Origin::Event { topic, partition, offset, source, message_id },
        None => Origin::Events { topic, partition, first: offset, last: offset, count: 1 },
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

pub(super) fn by_code(letters: &[Letter]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for letter in letters {
        *counts.entry(letter.said.reason.code.as_str()).or_default() += 1;
    }
    counts
}

/// The counts in parentheses, for people.
pub(super) fn codes(letters: &[Letter]) -> String {
    let counts = by_code(letters);
    if counts.is_empty() {
        return String::new();
    }
    let counts: Vec<_> = counts.iter().map(|(code, count)| format!("{code}: {count}")).collect();
    format!(" ({})", counts.join(", "))
}
