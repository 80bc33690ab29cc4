//! `millrace replay --destination` and `millrace dead-letters replay`: events are sent to a destination again.

mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range as Times;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use millrace_bus::{Bus, PublisherOptions, Range};
use millrace_deliver::{Again, DestinationOptions, LetterRoutes, send_again};
use millrace_event_model::topics::{AUDIT, CONTROL, EVENTS};
use millrace_event_model::{Control, DeadLetter, DestinationId, Lane};
use millrace_service::config::Mode;
use millrace_service::{Stop, stop_on_signals};
use serde_json::json;

use self::report::{Asked, as_json, finish, text, told, told_impossible};
use super::dead_letters::{given_up, told_unknown};
use super::held::Held;
use super::letters::{Letter, Open};
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
        job.count_letters(&given_up(job.bus(), filter).await?, output);
        return Ok(());
    }
    let held = Held::take(&job.installation, &job.id, "dead-letters-replay").await?;
    let stop = held.stop();
    let ended = async {
        let open = given_up(job.bus(), filter).await?;
        job.send_letters(open, &Asked::Letters(filter.clone()), &stop, output).await
    };
    let ended = ended.await;
    held.release().await;
    ended
}

/// `millrace replay --destination`.
pub(crate) async fn replay(args: &ReplayArgs, id: &str, output: Output) -> Result<(), Failure> {
    let time = args.past.time(Utc::now())?;
    let job = Job::open(&args.place, id).await?;
    if args.dry_run {
        return job.replay(args, time, &Stop::new(), output).await;
    }
    let held = Held::take(&job.installation, &job.id, "replay").await?;
    let ended = job.replay(args, time, &held.stop(), output).await;
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
        time: Times<DateTime<Utc>>,
        stop: &Stop,
        output: Output,
    ) -> Result<(), Failure> {
        let Offsets { lanes, cut } = self.offsets(&time).await?;
        if cut {
            output::aside(CUT);
        }
        if args.only.is_some() {
            let filter = LetterFilter { of: Some(self.id.to_string()), ..LetterFilter::default() };
            let mut open = given_up(self.bus(), &filter).await?;
            open.retain(|letter| self.holds(&lanes, letter));
            if args.dry_run {
                self.count_letters(&open, output);
                return Ok(());
            }
            return self.send_letters(open, &Asked::Failed(time), stop, output).await;
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
        self.send(Again::Ranges(lanes), &subject, &Asked::Time(time), stop, output).await
    }

    /// What the lanes of its connections hold of a time, by when Kafka had it.
    async fn offsets(&self, time: &Times<DateTime<Utc>>) -> Result<Offsets, Failure> {
        let mut lanes: BTreeMap<Lane, Vec<Range>> = BTreeMap::new();
        let mut cut = false;
        for connection in &self.options.connections {
            if lanes.contains_key(&connection.lane) {
                continue;
            }
            let topic = EVENTS.lane(self.bus().workspace(), &connection.lane);
            let starts = self.bus().offsets_at(topic.as_str(), time.start).await?;
            let ends = self.bus().offsets_at(topic.as_str(), time.end).await?;
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
        Ok(Offsets { lanes: lanes.into_iter().collect(), cut })
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
        let routes = LetterRoutes::new(&self.options.connections, self.bus().workspace());
        let can = |letter: &&Letter| {
            letter.is_whole
                && routes.lead(&letter.said.topic, letter.event.as_ref().map(|(source, _)| source))
        };
        let possible = letters.iter().filter(can).count();
        (possible, letters.len() - possible)
    }

    fn count_letters(&self, Open { letters, unknown }: &Open, output: Output) {
        let (possible, impossible) = self.possible(letters);
        let (id, by_code) = (&self.id, dead_letters::by_code(letters));
        let json = json!({
            "destination": id, "letters": possible, "impossible": impossible, "unknown": unknown.len(),
            "by_code": by_code, "dry_run": true,
        });
        let mut text = format!("{possible} dead letters would be sent to {id} again");
        if impossible > 0 {
            text.push_str(&told_impossible(id, impossible as u64));
        }
        if !unknown.is_empty() {
            text.push_str(&format!("\n{}", told_unknown(unknown.len())));
        }
        let codes = dead_letters::codes(letters);
        if !codes.is_empty() {
            text.push_str(&format!("\nall by code:{codes}"));
        }
        output::result(output, &json, text);
    }

    async fn send_letters(
        self,
        Open { letters, unknown }: Open,
        asked: &Asked,
        stop: &Stop,
        output: Output,
    ) -> Result<(), Failure> {
        if !unknown.is_empty() {
            output::aside(told_unknown(unknown.len()));
        }
        let subject = format!("{}, {} dead letters", self.id, letters.len());
        let mut places = BTreeMap::<i32, BTreeSet<i64>>::new();
        for Letter { place: (partition, offset), .. } in letters {
            places.entry(partition).or_default().insert(offset);
        }
        self.send(Again::Letters(places), &subject, asked, stop, output).await
    }

    async fn send(
        self,
        again: Again,
        subject: &str,
        asked: &Asked,
        stop: &Stop,
        output: Output,
    ) -> Result<(), Failure> {
        let Self { installation, id, options } = self;
        let bus = installation.bus.clone();
        refuse_paused(&bus, &id, stop).await?;
        let publisher = bus.publisher(PublisherOptions::default())?;
        let entry = operate::audit("destination.replayed", subject);
        let noted = publisher.publish(&AUDIT.of(bus.workspace()), [&entry]).await?;
        tracing::info!(destination = %id, noted = noted.count(), "sending again");
        tokio::spawn(stop_on_signals(stop.clone()));
        let clock = Arc::clone(&installation.clock);
        let mut tell = |news| output::aside(told(&id, &news));
        let resent = send_again(options, again, &bus, clock, stop, &mut tell).await;
        output::result(output, &as_json(&id, &resent, asked), text(&id, &resent));
        finish(&id, &resent, asked)
    }
}

/// What a time means in offsets.
struct Offsets {
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

/// What an operator has stopped, another does not pass by.
async fn refuse_paused(bus: &Bus, id: &DestinationId, stop: &Stop) -> Result<(), Failure> {
    let mut operators = bus.follow(&CONTROL.of(bus.workspace())).await?;
    let mut last = None;
    while !operators.is_current() && !stop.is_requested() {
        let words = operators.next(stop.token()).await?;
        last = words.into_iter().rfind(|word| word.destination() == Some(id)).or(last);
    }
    match last {
        Some(Control::Pause { reason, .. }) => {
            Err(Failure::Failed(format!("{id} is paused ({reason}); `millrace resume {id}` first")))
        }
        _ => Ok(()),
    }
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
