//! `millrace replay --destination` and `millrace dead-letters replay`: events are sent to a destination again.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use millrace_bus::{Bus, PublisherOptions, Range};
use millrace_deliver::{Again, DestinationOptions, Resent, send_again};
use millrace_event_model::topics::{AUDIT, CONTROL, EVENTS};
use millrace_event_model::{Control, DeadLetter, DestinationId, Disposition, Lane, Stage};
use millrace_service::config::Mode;
use millrace_service::{Stop, stop_on_signals};
use serde_json::json;

use super::letters::{Keep, Letter, open};
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
    let letters = job.open_letters(filter).await?;
    job.send_letters(letters, dry_run, output).await
}

/// `millrace replay --destination`.
pub(crate) async fn replay(args: &ReplayArgs, id: &str, output: Output) -> Result<(), Failure> {
    let now = Utc::now();
    let (from, to) = (args.from.unwrap_or(now), args.to.unwrap_or(now));
    if to <= from {
        return Err(Failure::Usage("--to is not after --from".to_owned()));
    }
    let job = Job::open(&args.place, id).await?;
    let lanes = job.ranges(from, to).await?;
    if args.only.is_some() {
        let filter = LetterFilter { of: Some(id.to_owned()), ..LetterFilter::default() };
        let mut letters = job.open_letters(&filter).await?;
        letters.retain(|letter| job.holds(&lanes, &letter.said));
        return job.send_letters(letters, args.dry_run, output).await;
    }
    let events: i64 = lanes.iter().flat_map(|(_, ranges)| ranges).map(|range| range.end - range.start).sum();
    if args.dry_run {
        let json = json!({"destination": id, "events": events, "dry_run": true});
        let text = format!("{events} events of all sources in its lanes would be read for {id}");
        output::result(output, &json, text);
        return Ok(());
    }
    job.send(Again::Ranges(lanes), &format!("{id}, {events} events"), output).await
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

    async fn open_letters(&self, filter: &LetterFilter) -> Result<Vec<Letter>, Failure> {
        let mut letters = open(self.bus(), filter, Keep::Record).await?;
        letters.retain(|letter| letter.said.stage == Stage::Deliver);
        Ok(letters)
    }

    /// What the lanes of its connections hold of a time, by when Kafka had it.
    async fn ranges(
        &self,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<Vec<(Lane, Vec<Range>)>, Failure> {
        let mut lanes: BTreeMap<Lane, Vec<Range>> = BTreeMap::new();
        for connection in &self.options.connections {
            if lanes.contains_key(&connection.lane) {
                continue;
            }
            let topic = EVENTS.lane(self.bus().workspace(), &connection.lane);
            let watermarks = self.bus().watermarks(topic.as_str()).await?;
            let starts = self.bus().offsets_at(topic.as_str(), from).await?;
            let ends = self.bus().offsets_at(topic.as_str(), to).await?;
            let range = |(partition, (low, high)): (&i32, &(i64, i64))| {
                let at = |offsets: &millrace_bus::Positions| offsets.get(partition).copied().unwrap_or(*high);
                Range::stored(*partition, at(&starts).max(*low), at(&ends).max(*low))
            };
            lanes.insert(connection.lane.clone(), watermarks.iter().map(range).collect());
        }
        Ok(lanes.into_iter().collect())
    }

    fn holds(&self, lanes: &[(Lane, Vec<Range>)], letter: &DeadLetter) -> bool {
        lanes.iter().any(|(lane, ranges)| {
            EVENTS.lane(self.bus().workspace(), lane).as_str() == letter.topic
                && ranges.iter().any(|range| {
                    range.partition == letter.partition && (range.start..range.end).contains(&letter.offset)
                })
        })
    }

    async fn send_letters(self, letters: Vec<Letter>, dry_run: bool, output: Output) -> Result<(), Failure> {
        let (count, codes) = (letters.len(), dead_letters::codes(&letters));
        if dry_run {
            let by_code = dead_letters::by_code(&letters);
            let json = json!({"destination": self.id, "letters": count, "by_code": by_code, "dry_run": true});
            let text = format!("{count} dead letters would be sent to {} again{codes}", self.id);
            output::result(output, &json, text);
            return Ok(());
        }
        let subject = format!("{}, {count} dead letters", self.id);
        let letters = letters.into_iter().map(|letter| letter.said).collect();
        self.send(Again::Letters(letters), &subject, output).await
    }

    async fn send(self, again: Again, subject: &str, output: Output) -> Result<(), Failure> {
        let Self { installation, id, options } = self;
        let bus = installation.bus.clone();
        refuse_paused(&bus, &id).await?;
        let publisher = bus.publisher(PublisherOptions::default())?;
        let entry = operate::audit("destination.replayed", subject);
        let noted = publisher.publish(&AUDIT.of(bus.workspace()), [&entry]).await?;
        tracing::info!(destination = %id, noted = noted.count(), "sending again");
        let stop = Stop::new();
        tokio::spawn(stop_on_signals(stop.clone()));
        let resent = send_again(options, again, &bus, Arc::clone(&installation.clock), &stop).await;
        let resent = resent.map_err(|error| Failure::Failed(error.full()))?;
        output::result(output, &as_json(&id, &resent), text(&id, &resent));
        match resent.stopped {
            None => Ok(()),
            Some(why) => Err(Failure::Partial(format!(
                "stopped before the end, and the rest is as it was: {why}; run it again to go on"
            ))),
        }
    }
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

fn as_json(id: &DestinationId, resent: &Resent) -> serde_json::Value {
    let ended: BTreeMap<_, _> = resent.ended.iter().map(|(end, count)| (end.as_str(), count)).collect();
    json!({"destination": id, "ended": ended, "impossible": resent.impossible, "stopped": resent.stopped})
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
        text.push_str(&format!(
            "\n{} letters cannot be sent from here: they are of changes, of a lane that leads to {id} no more, \
             or too large to be kept whole (`millrace replay --destination {id}` reads the events themselves)",
            resent.impossible
        ));
    }
    text
}
