//! `millrace replay --destination` and `millrace dead-letters replay`: events are sent to a destination again.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use millrace_bus::{Bus, PublisherOptions, Range, Start};
use millrace_deliver::{Again, DestinationOptions, Resent, is_possible, send_again};
use millrace_event_model::topics::{AUDIT, CONTROL, EVENTS};
use millrace_event_model::{Control, DeadLetter, DestinationId, Disposition, Lane};
use millrace_service::config::Mode;
use millrace_service::{Stop, stop_on_signals};
use serde_json::json;

use super::dead_letters::given_up;
use super::held::Held;
use super::letters::{Keep, Letter};
use super::{dead_letters, operate};
use crate::cli::{LetterFilter, Output, Place, ReplayArgs};
use crate::exit::Failure;
use crate::installation::{Installation, read_config};
use crate::{output, stages};

/// `millrace dead-letters replay`.
pub(crate) async fn letters(
    place: &Place,
    filter: &LetterFilter,
    dry_run: bool,
    output: Output,
) -> Result<(), Failure> {
    let job = Job::open(place, dead_letters::of(filter)?).await?;
    if dry_run {
        job.count_letters(&given_up(job.bus(), filter, Keep::Record).await?, output);
        return Ok(());
    }
    let held = Held::take(&job.installation, &job.id, "dead-letters-replay").await?;
    let stop = held.stop();
    let ended = async {
        let letters = given_up(job.bus(), filter, Keep::Record).await?;
        job.send_letters(letters, &stop, output).await
    };
    let ended = ended.await;
    held.release().await;
    ended
}

/// `millrace replay --destination`.
pub(crate) async fn replay(args: &ReplayArgs, id: &str, output: Output) -> Result<(), Failure> {
    let time = args.past.time(Utc::now())?;
    let (from, to) = (time.start, time.end);
    let job = Job::open(&args.place, id).await?;
    if args.dry_run {
        return job.replay(args, (from, to), &Stop::new(), output).await;
    }
    let held = Held::take(&job.installation, &job.id, "replay").await?;
    let ended = job.replay(args, (from, to), &held.stop(), output).await;
    held.release().await;
    ended
}

/// A destination of a running installation.
struct Job {
    installation: Installation,
    id: DestinationId,
    options: DestinationOptions,
}

impl Job {
    async fn open(place: &Place, id: &str) -> Result<Self, Failure> {
        let config = read_config(place, Mode::Dev)?;
        let id = operate::destination(&config, id)?;
        let installation = Installation::open_attached(config, place).await?;
        let known = installation.config.destinations.iter().find(|known| known.id == id);
        // It was found above; a destination that is turned off is sent nothing.
        let enabled = known.filter(|known| known.enabled);
        let enabled = enabled.ok_or_else(|| Failure::Usage(format!("destination {id} is turned off")))?;
        let options = stages::destination_options(&installation, enabled)?;
        Ok(Self { installation, id, options })
    }

    fn bus(&self) -> &Bus {
        &self.installation.bus
    }

    /// Sends what came in within a time, or counts it.
    async fn replay(
        self,
        args: &ReplayArgs,
        (from, to): (DateTime<Utc>, DateTime<Utc>),
        stop: &Stop,
        output: Output,
    ) -> Result<(), Failure> {
        let Asked { lanes, cut } = self.ranges(from, to).await?;
        if cut {
            output::aside(CUT);
        }
        if args.only.is_some() {
            let filter = LetterFilter { of: Some(self.id.to_string()), ..LetterFilter::default() };
            let mut letters = given_up(self.bus(), &filter, Keep::Record).await?;
            letters.retain(|letter| self.holds(&lanes, &letter.said));
            if args.dry_run {
                self.count_letters(&letters, output);
                return Ok(());
            }
            return self.send_letters(letters, stop, output).await;
        }
        let events: i64 =
            lanes.iter().flat_map(|(_, ranges)| ranges).map(|range| range.end - range.start).sum();
        if args.dry_run {
            let json = json!({"destination": self.id, "events": events, "cut": cut, "dry_run": true});
            let text = format!("{events} events of all sources in its lanes would be read for {}", self.id);
            output::result(output, &json, text);
            return Ok(());
        }
        let subject = format!("{}, {events} events", self.id);
        self.send(Again::Ranges(lanes), &subject, Some(to), stop, output).await
    }

    /// What the lanes of its connections hold of a time, by when Kafka had it.
    async fn ranges(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> Result<Asked, Failure> {
        let mut lanes: BTreeMap<Lane, Vec<Range>> = BTreeMap::new();
        let mut cut = false;
        for connection in &self.options.connections {
            if lanes.contains_key(&connection.lane) {
                continue;
            }
            let topic = EVENTS.lane(self.bus().workspace(), &connection.lane);
            let starts = self.bus().offsets_at(topic.as_str(), from).await?;
            let ends = self.bus().offsets_at(topic.as_str(), to).await?;
            // After the offsets: what retention has taken meanwhile counts as taken.
            let watermarks = self.bus().watermarks(topic.as_str()).await?;
            let mut ranges = Vec::new();
            for (partition, (low, high)) in &watermarks {
                let at = |offsets: &millrace_bus::Positions| offsets.get(partition).copied().unwrap_or(*high);
                ranges.push(Range::stored(*partition, at(&starts).max(*low), at(&ends).max(*low)));
                cut |= is_cut(at(&starts), *low);
            }
            lanes.insert(connection.lane.clone(), ranges);
        }
        Ok(Asked { lanes: lanes.into_iter().collect(), cut })
    }

    fn holds(&self, lanes: &[(Lane, Vec<Range>)], letter: &DeadLetter) -> bool {
        lanes.iter().any(|(lane, ranges)| {
            EVENTS.lane(self.bus().workspace(), lane).as_str() == letter.topic
                && ranges.iter().any(|range| {
                    range.partition == letter.partition && (range.start..range.end).contains(&letter.offset)
                })
        })
    }

    /// Those that can be sent, and how many cannot.
    fn possible(&self, letters: &[Letter]) -> (usize, usize) {
        let workspace = self.bus().workspace();
        let can = |letter: &&Letter| is_possible(&self.options.connections, workspace, &letter.said);
        let possible = letters.iter().filter(can).count();
        (possible, letters.len() - possible)
    }

    fn count_letters(&self, letters: &[Letter], output: Output) {
        let (possible, impossible) = self.possible(letters);
        let (id, by_code) = (&self.id, dead_letters::by_code(letters));
        let json = json!({
            "destination": id, "letters": possible, "impossible": impossible, "by_code": by_code, "dry_run": true,
        });
        let mut text = format!("{possible} dead letters would be sent to {id} again");
        if impossible > 0 {
            text.push_str(&told_impossible(id, impossible as u64));
        }
        let codes = dead_letters::codes(letters);
        if !codes.is_empty() {
            text.push_str(&format!("\nall by code:{codes}"));
        }
        output::result(output, &json, text);
    }

    async fn send_letters(self, letters: Vec<Letter>, stop: &Stop, output: Output) -> Result<(), Failure> {
        let subject = format!("{}, {} dead letters", self.id, letters.len());
        let letters = letters.into_iter().map(|letter| letter.said).collect();
        self.send(Again::Letters(letters), &subject, None, stop, output).await
    }

    /// `to`: where the time ends whose events are sent.
    async fn send(
        self,
        again: Again,
        subject: &str,
        to: Option<DateTime<Utc>>,
        stop: &Stop,
        output: Output,
    ) -> Result<(), Failure> {
        let Self { installation, id, options } = self;
        let bus = installation.bus.clone();
        refuse_paused(&bus, &id).await?;
        let publisher = bus.publisher(PublisherOptions::default())?;
        let entry = operate::audit("destination.replayed", subject);
        let noted = publisher.publish(&AUDIT.of(bus.workspace()), [&entry]).await?;
        tracing::info!(destination = %id, noted = noted.count(), "sending again");
        tokio::spawn(stop_on_signals(stop.clone()));
        let resent = send_again(options, again, &bus, Arc::clone(&installation.clock), stop).await;
        let resent = resent.map_err(|error| Failure::Failed(error.full()))?;
        let go_on = go_on_from(&bus, &resent.rest).await?;
        output::result(output, &as_json(&id, &resent, go_on), text(&id, &resent));
        let Some(why) = resent.stopped else { return Ok(()) };
        let how = match (go_on, to) {
            (Some(from), Some(to)) => format!(
                "to go on: millrace replay --destination {id} --from {} --to {} (what came in after that and was \
                 sent already is sent again)",
                instant(from),
                instant(to)
            ),
            _ => "run it again to go on".to_owned(),
        };
        Err(Failure::Partial(format!("stopped before the end, and the rest is as it was: {why}; {how}")))
    }
}

/// What a time means in offsets.
struct Asked {
    lanes: Vec<(Lane, Vec<Range>)>,
    /// Retention may have taken its beginning.
    cut: bool,
}

const CUT: &str = "Kafka's retention has taken the oldest events already, and maybe the beginning of this time: what \
                   Kafka still holds counts (dead letters are kept longer: `millrace dead-letters replay`)";

/// Whether what retention took may have been of a time: the first event that is left, `low`, came in after its
/// beginning, and it is not the first ever.
fn is_cut(start: i64, low: i64) -> bool {
    low > 0 && start <= low
}

/// When the first came in that has not ended.
async fn go_on_from(bus: &Bus, rest: &[(Lane, Vec<Range>)]) -> Result<Option<DateTime<Utc>>, Failure> {
    let mut from = None;
    for (lane, ranges) in rest {
        let reader = bus.reader(&EVENTS.lane(bus.workspace(), lane), &BTreeMap::new(), Start::Latest)?;
        let firsts: Vec<_> =
            ranges.iter().map(|range| Range::stored(range.partition, range.start, range.start + 1)).collect();
        let batch = reader.read_ranges(&firsts).await?;
        from = batch.records.iter().map(|record| record.appended_at).chain(from).min();
    }
    Ok(from)
}

fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// What an operator has stopped, another does not pass by.
async fn refuse_paused(bus: &Bus, id: &DestinationId) -> Result<(), Failure> {
    let words = bus.read_all(&CONTROL.of(bus.workspace())).await?;
    let words = words.into_iter().filter_map(|received| received.message.ok());
    match words.filter(|word| word.destination() == Some(id)).last() {
        Some(Control::Pause { reason, .. }) => {
            Err(Failure::Failed(format!("{id} is paused ({reason}); `millrace resume {id}` first")))
        }
        _ => Ok(()),
    }
}

fn as_json(id: &DestinationId, resent: &Resent, go_on: Option<DateTime<Utc>>) -> serde_json::Value {
    let ended: BTreeMap<_, _> = resent.ended.iter().map(|(end, count)| (end.as_str(), count)).collect();
    json!({
        "destination": id, "ended": ended, "impossible": resent.impossible, "stopped": resent.stopped,
        "go_on_from": go_on.map(instant),
    })
}

fn text(id: &DestinationId, resent: &Resent) -> String {
    let of = |disposition| resent.ended.get(&disposition).copied().unwrap_or_default();
    let mut text = format!(
        "sent to {id} again: {} delivered, {} filtered, {} duplicate, {} rejected",
        of(Disposition::Delivered),
        of(Disposition::Filtered),
        of(Disposition::Duplicate),
        of(Disposition::Rejected)
    );
    if resent.impossible > 0 {
        text.push_str(&told_impossible(id, resent.impossible));
    }
    text
}

fn told_impossible(id: &DestinationId, count: u64) -> String {
    format!(
        "\n{count} letters cannot be sent from here: they are of changes, of a source or lane that leads to {id} no \
         more, or too large to be kept whole (`millrace replay --destination {id}` reads the events themselves)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_cut_where_retention_took_something_and_it_begins_with_what_is_left() {
        assert!(!is_cut(0, 0), "all that ever was is there");
        assert!(!is_cut(8, 5), "what it begins with is there, and something before");
        assert!(is_cut(5, 5));
        assert!(is_cut(4, 5), "retention went on meanwhile");
    }
}
