//! Sending again what was sent or given up: a job beside the stage, for an operator.
//!
//! It takes the events from Kafka, or from their dead letters, through the same flow as the stage: today's
//! connections and mapping, the same idempotency keys, the same outcomes. No position moves and no group is
//! joined. Each outcome names the event's own offset again, and of several the last counts, so the books
//! balance. A job that dies has stored no outcome for what was in flight: run again, it sends that again.
//!
//! Like the stage it waits as long as a destination asks for that says that it is too much, and sends nothing
//! while an operator has paused it. Unlike the stage it has an end: an item that fails is given up soon, and a
//! destination that refuses or does not answer ends the job, which says what was done and where to go on.

mod feed;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use millrace_bus::{Bus, PublisherOptions, Range, Start};
use millrace_connector::{Destination, Limits};
use millrace_event_model::topics::EVENTS;
use millrace_event_model::{Control, DestinationId, Disposition, Lane, Origin, Outcome, SourceId, Workspace};
use millrace_service::{SharedClock, Stop};
use tokio::sync::watch;
use tokio::time::Instant;

use self::feed::{Fed, Feed, Letters, Ranges};
use crate::books::Books;
use crate::engine::Controls;
use crate::flow::Flow;
use crate::intake::Topic;
use crate::ledger::{Place, Statement};
use crate::progress::Position;
use crate::sends::Sends;
use crate::service::{Served, listen};
use crate::{DeliverError, DestinationOptions, EventConnection, RetryPolicy};

/// Outcomes are stored so often: after a death so much is sent again at most, or a window of it.
const STORE_EVERY: Duration = Duration::from_secs(1);

/// A wait of so long is told: whoever watches the command would take it for dead.
const LONG_WAIT: TimeDelta = TimeDelta::seconds(10);

/// How patient a job is with one item that fails: so many attempts, a minute or so. What fails then is rejected
/// anew, and can be sent again later.
const ATTEMPTS: u32 = 5;

/// What is to be sent again.
#[derive(Debug)]
pub enum Again {
    /// Events of these offsets. At most one range for each partition of a lane.
    Ranges(Vec<(Lane, Vec<Range>)>),
    /// The records that letters hold: the offsets of the letters by partition of their topic.
    Letters(BTreeMap<i32, BTreeSet<i64>>),
}

/// What became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resent {
    /// Events by how they ended, as far as that is stored.
    pub ended: BTreeMap<Disposition, u64>,
    /// Letters that cannot be sent: see [`LetterRoutes`]. Or retention has taken them meanwhile.
    pub impossible: u64,
    /// Why it ended before its end, if it did: the rest is as it was.
    pub stopped: Option<Stopped>,
    /// Of ranges, what has not ended: each begins with the first event that has not, and some of what follows may have.
    pub rest: Vec<(Lane, Vec<Range>)>,
    /// When Kafka had the first event of the rest; `None` where a part of the rest was not begun.
    pub rest_since: Option<DateTime<Utc>>,
}

/// Why a job ended before its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// By the stop.
    Told,
    /// The destination refuses or does not answer.
    Closed(String),
    /// Kafka does not answer, or retention has taken what was to be read.
    Failed {
        /// All of it.
        why: String,
        /// Whether trying again may help, without a person.
        is_retryable: bool,
    },
}

/// What a job tells on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// An operator has paused the destination: nothing is sent until it is resumed.
    Paused(String),
    /// The destination is resumed.
    Resumed,
    /// Nothing is sent until then: the destination asks for time, or all that is left has failed and is tried
    /// again.
    Waiting(DateTime<Utc>),
}

/// Which letters can be sent to a destination again: those that hold their record, whose event is in a lane and,
/// if that can be told, of a source that leads there. Letters of changes cannot: their rows come back with the
/// next run.
#[derive(Debug, Clone)]
pub struct LetterRoutes(BTreeSet<(String, SourceId)>);

impl LetterRoutes {
    /// Of a destination's connections.
    #[must_use]
    pub fn new(connections: &[EventConnection], workspace: &Workspace) -> Self {
        let topic = |lane| EVENTS.lane(workspace, lane).as_str().to_owned();
        Self(connections.iter().map(|c| (topic(&c.lane), c.source.clone())).collect())
    }

    /// Whether an event of this topic leads there. `source`: `None` if its record cannot be read.
    #[must_use]
    pub fn lead(&self, topic: &str, source: Option<&SourceId>) -> bool {
        self.0.iter().any(|(from, of)| from == topic && source.is_none_or(|source| source == of))
    }
}

/// Sends to one destination again, until all has ended, the destination refuses or does not answer, or the stop.
/// What keeps it from its end is in what it returns.
pub async fn send_again(
    options: DestinationOptions,
    again: Again,
    bus: &Bus,
    clock: SharedClock,
    stop: &Stop,
    tell: &mut (dyn FnMut(News) + Send),
) -> Resent {
    let asked = match &again {
        Again::Ranges(lanes) => lanes.clone(),
        Again::Letters(_) => Vec::new(),
    };
    match Job::new(options, again, bus, clock, tell) {
        Ok(mut job) => {
            let ended = job.run(stop).await;
            job.end(ended, asked).await
        }
        Err(stopped) => Resent { stopped: Some(stopped), rest: asked, ..Resent::default() },
    }
}

fn failed(error: &DeliverError) -> Stopped {
    Stopped::Failed { why: error.full(), is_retryable: error.is_retryable() }
}

/// A job on its way.
struct Job<'a> {
    id: DestinationId,
    destination: Arc<dyn Destination>,
    limits: Limits,
    /// The lanes, by number.
    topics: Vec<(Topic, Start)>,
    flow: Flow,
    feed: Feed,
    sends: Sends,
    books: Books,
    clock: SharedClock,
    tell: &'a mut (dyn FnMut(News) + Send),
    /// The last word that was acted on.
    told: Option<Control>,
    /// The wait that was told last.
    told_wait: Option<DateTime<Utc>>,
    stored_at: Instant,
    /// What is to be stored before anything else: it could not be.
    unstored: Option<(Statement, Vec<Position>)>,
    resent: Resent,
    /// Everything below has ended and is stored.
    lows: BTreeMap<Place, i64>,
    /// When Kafka had the events from the low on: no more than the window.
    times: BTreeMap<Place, BTreeMap<i64, DateTime<Utc>>>,
}

impl<'a> Job<'a> {
    fn new(
        options: DestinationOptions,
        again: Again,
        bus: &Bus,
        clock: SharedClock,
        tell: &'a mut (dyn FnMut(News) + Send),
    ) -> Result<Self, Stopped> {
        let letter_routes = LetterRoutes::new(&options.connections, bus.workspace());
        let patience = RetryPolicy { min_attempts: ATTEMPTS, give_up_after: Duration::ZERO, ..options.retry };
        // Rows come back with the next run.
        let options = DestinationOptions { takes_changes: false, ..options };
        let Served { id, destination, limits, topics, names, flow } = Served::of(options, bus);
        let flow = flow.with_patience(patience);
        let feed = match again {
            Again::Ranges(lanes) => {
                let numbered =
                    lanes.into_iter().filter_map(|(lane, r)| Some((number(&topics, &lane)?, lane, r)));
                let ranges = Ranges::new(bus, numbered.collect());
                Feed::Ranges(
                    ranges
                        .map_err(|source| failed(&DeliverError::Bus { destination: id.clone(), source }))?,
                )
            }
            Again::Letters(wanted) => {
                let topics = names.clone();
                Feed::Letters(Box::new(Letters::new(bus, id.clone(), letter_routes, topics, wanted)))
            }
        };
        let publisher = bus.publisher(PublisherOptions::default());
        let publisher = publisher.map_err(|source| failed(&DeliverError::Publisher(source)))?;
        let books = Books {
            bus: bus.clone(),
            publisher,
            destination: id.clone(),
            topics: names,
            cluster: String::new(),
        };
        Ok(Self {
            id,
            destination,
            limits,
            topics,
            flow,
            feed,
            sends: Sends::default(),
            books,
            clock,
            tell,
            told: None,
            told_wait: None,
            stored_at: Instant::now(),
            unstored: None,
            resent: Resent::default(),
            lows: BTreeMap::new(),
            times: BTreeMap::new(),
        })
    }

    /// Until all has ended, or something keeps it from that.
    async fn run(&mut self, stop: &Stop) -> Result<Option<Stopped>, DeliverError> {
        let bus = self.books.bus.clone();
        let (say, mut controls) = watch::channel(Controls::default());
        let listening = listen(&bus, &say, stop);
        tokio::pin!(listening);
        // The operators' word comes first. The ear hears until the stop.
        tokio::select! {
            _ = controls.changed() => {}
            () = &mut listening => return Ok(Some(Stopped::Told)),
        }
        loop {
            let is_paused = self.heed(&mut controls);
            if self.feed.is_over() && self.flow.unfinished() == 0 {
                return Ok(None);
            }
            if !is_paused {
                if let Some(why) = self.flow.closed() {
                    return Ok(Some(Stopped::Closed(why.to_owned())));
                }
                if self.feed.is_empty() && self.flow.unfinished() == 0 && !self.begin(stop).await? {
                    return Ok(stop.is_requested().then_some(Stopped::Told));
                }
                self.read().await?;
                self.send();
            }
            if self.flow.must_state() || self.stored_at.elapsed() >= STORE_EVERY {
                self.store().await?;
            }
            let wait = self.wait();
            tokio::select! {
                () = stop.requested() => return Ok(Some(Stopped::Told)),
                () = &mut listening => return Ok(Some(Stopped::Told)),
                _ = controls.changed() => {}
                Some(answers) = self.sends.next(), if self.sends.len() > 0 => {
                    self.flow.landed(answers, self.clock.now());
                }
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Acts on the operators' last word, if it is a new one; whether it is that nothing is sent.
    fn heed(&mut self, controls: &mut watch::Receiver<Controls>) -> bool {
        let word = controls.borrow_and_update().get(&self.id).cloned();
        if let Some(word) = word.filter(|word| self.told.as_ref() != Some(word)) {
            match &word {
                Control::Pause { reason, .. } => (self.tell)(News::Paused(reason.clone())),
                Control::Resume { .. } if self.is_paused() => (self.tell)(News::Resumed),
                _ => {}
            }
            // A word of before says nothing of a destination that has refused since.
            self.flow.told(&word);
            self.told = Some(word);
        }
        self.is_paused()
    }

    fn is_paused(&self) -> bool {
        matches!(self.told, Some(Control::Pause { .. }))
    }

    /// Begins the next batch; whether there is one.
    async fn begin(&mut self, stop: &Stop) -> Result<bool, DeliverError> {
        let begun = self.feed.begin(stop).await?;
        let Some(begins) = begun else { return Ok(false) };
        for (place, low) in begins {
            self.flow.own(&Position { place, low, done: Vec::new() });
            self.lows.insert(place, low);
        }
        Ok(true)
    }

    async fn read(&mut self) -> Result<(), DeliverError> {
        let room = self.flow.room();
        if room == 0 || self.feed.is_empty() {
            return Ok(());
        }
        let fed = self.feed.next(room).await;
        let now = self.clock.now();
        for Fed { topic, read, at } in
            fed.map_err(|source| DeliverError::Bus { destination: self.id.clone(), source })?
        {
            if let Some(at) = at {
                let place = Place { topic, partition: read.partition };
                self.times.entry(place).or_default().insert(read.offset, at);
            }
            self.flow.read(topic, read, now);
        }
        Ok(())
    }

    /// Sends what may be sent, up to the destination's concurrency.
    fn send(&mut self) {
        while self.sends.len() < self.limits.concurrency
            && let Some(call) = self.flow.next_call(self.destination.as_ref(), self.clock.now())
        {
            self.sends.start(Arc::clone(&self.destination), call, self.limits.timeout);
        }
    }

    /// How long there is nothing to do but to wait for answers and words.
    fn wait(&mut self) -> Duration {
        let now = self.clock.now();
        let Some(due) = self.flow.next_due(now) else { return STORE_EVERY };
        let is_long = self.sends.len() == 0 && due - now >= LONG_WAIT;
        if is_long && self.told_wait.is_none_or(|told| due - told >= LONG_WAIT) {
            self.told_wait = Some(due);
            (self.tell)(News::Waiting(due));
        }
        (due - now).to_std().unwrap_or_default().clamp(Duration::from_millis(1), STORE_EVERY)
    }

    /// Stores what has ended, and counts it then.
    async fn store(&mut self) -> Result<(), DeliverError> {
        self.stored_at = Instant::now();
        // What could not be stored comes first: the last word on an event is the one that was said last.
        for _ in 0..=usize::from(self.unstored.is_some()) {
            let now = self.clock.now();
            let (statement, positions) = self.unstored.get_or_insert_with(|| self.flow.state(now));
            // The positions are of this job alone: the stage's stay where they are.
            let stored = self.books.store(statement, &[]).await;
            stored.map_err(|source| DeliverError::Bus { destination: self.id.clone(), source })?;
            for outcome in &statement.outcomes {
                *self.resent.ended.entry(outcome.disposition).or_default() += count(outcome);
            }
            for Position { place, low, .. } in positions.drain(..) {
                self.lows.insert(place, low);
                if let Some(times) = self.times.get_mut(&place) {
                    forget_below(times, low);
                }
            }
            self.unstored = None;
            self.flow.stored();
        }
        Ok(())
    }

    /// Awaits what is in flight, and stores what has ended: after an error too, so that less is sent again.
    async fn end(
        mut self,
        ended: Result<Option<Stopped>, DeliverError>,
        asked: Vec<(Lane, Vec<Range>)>,
    ) -> Resent {
        // Each call has a time limit, so this ends.
        self.destination.drain(true);
        while let Some(answers) = self.sends.next().await {
            self.flow.landed(answers, self.clock.now());
        }
        let stored = self.store().await;
        self.resent.stopped = match (ended, stored) {
            (Err(error), _) | (Ok(_), Err(error)) => Some(failed(&error)),
            (Ok(stopped), Ok(())) => stopped,
        };
        for (lane, ranges) in asked {
            let Some(topic) = number(&self.topics, &lane) else { continue };
            let left = self.left(topic, ranges);
            if !left.is_empty() {
                self.resent.rest.push((lane, left));
            }
        }
        self.resent.rest_since = self.rest_since();
        self.resent.impossible = self.feed.impossible();
        self.resent
    }

    /// What has not ended of a lane.
    fn left(&self, topic: usize, ranges: Vec<Range>) -> Vec<Range> {
        let left = ranges.into_iter().map(|range| {
            let low = self.lows.get(&Place { topic, partition: range.partition }).copied();
            Range::stored(range.partition, low.unwrap_or(range.start).max(range.start), range.end)
        });
        left.filter(|range| range.start < range.end).collect()
    }

    /// See [`Resent::rest_since`].
    fn rest_since(&self) -> Option<DateTime<Utc>> {
        let mut since = None;
        for (lane, ranges) in &self.resent.rest {
            let topic = number(&self.topics, lane)?;
            for range in ranges {
                let times = self.times.get(&Place { topic, partition: range.partition })?;
                let (_, first) = times.first_key_value()?;
                since = Some(since.map_or(*first, |since: DateTime<Utc>| since.min(*first)));
            }
        }
        since
    }
}

/// Forgets the times of offsets below `low`, but for the last one that is known: the next is no earlier.
fn forget_below(times: &mut BTreeMap<i64, DateTime<Utc>>, low: i64) {
    let after = times.split_off(&low);
    let before = std::mem::replace(times, after);
    if times.is_empty() {
        times.extend(before.into_iter().next_back());
    }
}

/// The place of a lane's topic in the list of topics.
fn number(topics: &[(Topic, Start)], lane: &Lane) -> Option<usize> {
    topics.iter().position(|(topic, _)| matches!(topic, Topic::Events(other) if other == lane))
}

fn count(outcome: &Outcome) -> u64 {
    match &outcome.origin {
        Origin::Events { count, .. } => *count,
        Origin::Event { .. } | Origin::Change { .. } => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_has_ended_the_last_time_is_kept_where_nothing_after_it_was_read() {
        let at = |second: i64| DateTime::UNIX_EPOCH + TimeDelta::seconds(second);
        let mut times = BTreeMap::from([(3, at(1)), (4, at(2)), (7, at(9))]);
        forget_below(&mut times, 4);
        assert_eq!(times, [(4, at(2)), (7, at(9))].into());
        forget_below(&mut times, 8);
        assert_eq!(times, [(7, at(9))].into(), "offset 8 came no earlier");
    }
}
