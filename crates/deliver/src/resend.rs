//! Sending again what was sent or given up: a job beside the stage, for an operator.
//!
//! It takes the events from Kafka, or from their dead letters, through the same flow as the stage: today's
//! connections and mapping, the same idempotency keys, the same outcomes. No position moves and no group is
//! joined. Each outcome names the event's own offset again, and of several the last counts, so the books
//! balance. A job that dies has stored no outcome for what was in flight: run again, it sends that again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millrace_bus::{Bus, Positions, PublisherOptions, Range, Reader, Start};
use millrace_connector::Payload;
use millrace_event_model::topics::EVENTS;
use millrace_event_model::wire::Message as _;
use millrace_event_model::{DeadLetter, Disposition, Event, Lane, Outcome, Workspace};
use millrace_service::{SharedClock, Stop};

use crate::admit::{Read, Routes};
use crate::books::Books;
use crate::flow::Flow;
use crate::intake::Topic;
use crate::ledger::Place;
use crate::progress::Position;
use crate::sends::Sends;
use crate::service::lanes;
use crate::{DeliverError, DestinationOptions, EventConnection, RetryPolicy};

/// Outcomes are stored so often: after a death so much is sent again at most, or a window of it.
const STORE_EVERY: Duration = Duration::from_secs(1);

/// How patient a job is with one item: five attempts in half a minute or so. What fails then is rejected
/// anew, and can be sent again later.
const PATIENCE: RetryPolicy = RetryPolicy {
    min_delay: Duration::from_secs(1),
    max_delay: Duration::from_secs(30),
    factor: 2.0,
    min_attempts: 5,
    give_up_after: Duration::ZERO,
};

/// What is to be sent again.
#[derive(Debug)]
pub enum Again {
    /// Events of these offsets. At most one range for each partition of a lane.
    Ranges(Vec<(Lane, Vec<Range>)>),
    /// The records that these letters hold.
    Letters(Vec<DeadLetter>),
}

/// What became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resent {
    /// Events by how they ended.
    pub ended: BTreeMap<Disposition, u64>,
    /// Letters that cannot be sent: see [`is_possible`].
    pub impossible: u64,
    /// Why it ended before its end, if it did: the rest is as it was.
    pub stopped: Option<String>,
    /// Of ranges, what has not ended: each begins with the first event that has not, and some of what follows may have.
    pub rest: Vec<(Lane, Vec<Range>)>,
}

/// Whether a letter can be sent again: it holds its record, and a connection leads to the destination from its
/// source, if that can be told, in its lane. Letters of changes cannot: their rows come back with the next run.
#[must_use]
pub fn is_possible(connections: &[EventConnection], workspace: &Workspace, letter: &DeadLetter) -> bool {
    if letter.original.value.is_none() {
        return false;
    }
    let event = Event::decode(&letter.original).ok();
    connections.iter().any(|connection| {
        event.as_ref().is_none_or(|event| event.source == connection.source)
            && EVENTS.lane(workspace, &connection.lane).as_str() == letter.topic
    })
}

/// Sends to one destination again, until all has ended, the destination refuses or does not answer, or the stop.
///
/// # Errors
/// Kafka does not answer, or retention has taken the beginning of a range.
pub async fn send_again(
    options: DestinationOptions,
    again: Again,
    bus: &Bus,
    clock: SharedClock,
    stop: &Stop,
) -> Result<Resent, DeliverError> {
    let DestinationOptions { id, destination, connections, names, consent, bounds, probe_every, .. } =
        options;
    let failed = |source| DeliverError::Bus { destination: id.clone(), source };
    let mut resent = Resent::default();
    let again = match again {
        Again::Letters(mut letters) => {
            let all = letters.len();
            letters.retain(|letter| is_possible(&connections, bus.workspace(), letter));
            resent.impossible = (all - letters.len()) as u64;
            Again::Letters(letters)
        }
        ranges @ Again::Ranges(_) => ranges,
    };
    let asked = match &again {
        Again::Ranges(lanes) => lanes.clone(),
        Again::Letters(_) => Vec::new(),
    };
    let (topics, connections) = lanes(connections);
    let topic_names = topics.iter().map(|(topic, _)| topic.name(bus)).collect::<Vec<_>>();
    let limits = destination.limits();
    let routes = Routes { destination: id.clone(), connections, names, consent };
    let mut flow = Flow::new(routes, topic_names.clone(), &limits, PATIENCE, bounds, probe_every);
    let books = Books {
        bus: bus.clone(),
        publisher: bus.publisher(PublisherOptions::default()).map_err(DeliverError::Publisher)?,
        destination: id.clone(),
        topics: topic_names,
        cluster: String::new(),
    };
    let mut feed = Feed::new(again, &topics, &books.topics, bus).map_err(failed)?;
    let mut lows = feed.begin();
    for (place, low) in lows.clone() {
        flow.own(&Position { place, low, done: Vec::new() });
    }
    let mut sends = Sends::default();
    let mut stored_at = tokio::time::Instant::now();
    loop {
        if flow.room() > 0 {
            for (topic, read) in feed.next(flow.room()).await.map_err(failed)? {
                flow.read(topic, read, clock.now());
            }
        }
        while sends.len() < limits.concurrency
            && let Some(call) = flow.next_call(destination.as_ref(), clock.now())
        {
            sends.start(Arc::clone(&destination), call, limits.timeout);
        }
        if flow.must_state() || stored_at.elapsed() >= STORE_EVERY {
            store(&mut flow, &books, &clock, &mut resent, &mut lows).await.map_err(failed)?;
            stored_at = tokio::time::Instant::now();
        }
        if let Some(why) = flow.closed() {
            resent.stopped = Some(why.to_owned());
            break;
        }
        if feed.is_empty() && flow.unfinished() == 0 {
            break;
        }
        let now = clock.now();
        let due = flow.next_due(now).map(|due| (due - now).to_std().unwrap_or_default());
        let wait = due.unwrap_or(STORE_EVERY).clamp(Duration::from_millis(1), STORE_EVERY);
        tokio::select! {
            () = stop.requested() => {
                resent.stopped = Some("it was told to stop".to_owned());
                break;
            }
            Some(answers) = sends.next(), if sends.len() > 0 => flow.landed(answers, clock.now()),
            () = tokio::time::sleep(wait) => {}
        }
    }
    // Each call has a time limit, so this ends.
    while let Some(answers) = sends.next().await {
        flow.landed(answers, clock.now());
    }
    store(&mut flow, &books, &clock, &mut resent, &mut lows).await.map_err(failed)?;
    resent.rest = rest(asked, &topics, &lows);
    Ok(resent)
}

/// What has not ended of what was asked for.
fn rest(
    asked: Vec<(Lane, Vec<Range>)>,
    topics: &[(Topic, Start)],
    lows: &BTreeMap<Place, i64>,
) -> Vec<(Lane, Vec<Range>)> {
    let mut rest = Vec::new();
    for (lane, ranges) in asked {
        let Some(topic) = number(topics, &lane) else { continue };
        let left = |range: Range| {
            let low = lows.get(&Place { topic, partition: range.partition }).copied();
            Range::stored(range.partition, low.unwrap_or(range.start).max(range.start), range.end)
        };
        let left: Vec<_> = ranges.into_iter().map(left).filter(|range| range.start < range.end).collect();
        if !left.is_empty() {
            rest.push((lane, left));
        }
    }
    rest
}

/// The place of a lane's topic in the list of topics.
fn number(topics: &[(Topic, Start)], lane: &Lane) -> Option<usize> {
    topics.iter().position(|(topic, _)| matches!(topic, Topic::Events(other) if other == lane))
}

async fn store(
    flow: &mut Flow,
    books: &Books,
    clock: &SharedClock,
    resent: &mut Resent,
    lows: &mut BTreeMap<Place, i64>,
) -> Result<(), millrace_bus::BusError> {
    // The positions are of this job alone: the stage's stay where they are.
    let (statement, positions) = flow.state(clock.now());
    books.store(&statement, &[]).await?;
    flow.stored();
    lows.extend(positions.into_iter().map(|position| (position.place, position.low)));
    for outcome in &statement.outcomes {
        *resent.ended.entry(outcome.disposition).or_default() += count(outcome);
    }
    Ok(())
}

fn count(outcome: &Outcome) -> u64 {
    match &outcome.origin {
        millrace_event_model::Origin::Events { count, .. } => *count,
        _ => 1,
    }
}

/// What is still to be read.
enum Feed {
    Ranges(Vec<(usize, Reader<Event>, Vec<Range>)>),
    /// The next is the last.
    Letters(Vec<(usize, DeadLetter)>),
}

impl Feed {
    fn new(
        again: Again,
        topics: &[(Topic, Start)],
        names: &[String],
        bus: &Bus,
    ) -> Result<Self, millrace_bus::BusError> {
        let letters = match again {
            Again::Letters(letters) => letters,
            Again::Ranges(lanes) => {
                let mut feed = Vec::new();
                for (lane, ranges) in lanes {
                    let Some(number) = number(topics, &lane) else { continue };
                    let name = EVENTS.lane(bus.workspace(), &lane);
                    let reader = bus.reader(&name, &Positions::new(), Start::Latest)?;
                    feed.push((number, reader, ranges.into_iter().filter(|r| r.start < r.end).collect()));
                }
                return Ok(Self::Ranges(feed));
            }
        };
        let topic = |letter: &DeadLetter| names.iter().position(|name| *name == letter.topic);
        let known = letters.into_iter().filter_map(|letter| Some((topic(&letter)?, letter)));
        let mut known: Vec<_> = known.collect();
        known.sort_by_key(|(number, letter)| std::cmp::Reverse((*number, letter.partition, letter.offset)));
        Ok(Self::Letters(known))
    }

    /// Where each partition begins.
    fn begin(&self) -> BTreeMap<Place, i64> {
        match self {
            Self::Ranges(lanes) => lanes
                .iter()
                .flat_map(|(topic, _, ranges)| {
                    let place = |range: &Range| Place { topic: *topic, partition: range.partition };
                    ranges.iter().map(move |range| (place(range), range.start))
                })
                .collect(),
            // In falling order, so that the first of each partition is the one that stays.
            Self::Letters(letters) => letters
                .iter()
                .map(|(topic, letter)| (Place { topic: *topic, partition: letter.partition }, letter.offset))
                .collect(),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Ranges(lanes) => lanes.iter().all(|(_, _, ranges)| ranges.is_empty()),
            Self::Letters(letters) => letters.is_empty(),
        }
    }

    /// At most `room` more.
    async fn next(&mut self, room: usize) -> Result<Vec<(usize, Read)>, millrace_bus::BusError> {
        match self {
            Self::Letters(letters) => {
                let some = letters.split_off(letters.len().saturating_sub(room));
                Ok(some.into_iter().rev().map(|(topic, letter)| (topic, of_letter(letter))).collect())
            }
            Self::Ranges(lanes) => {
                let Some((topic, reader, ranges)) =
                    lanes.iter_mut().find(|(_, _, ranges)| !ranges.is_empty())
                else {
                    return Ok(Vec::new());
                };
                let each = i64::try_from(room / ranges.len()).unwrap_or(i64::MAX).max(1);
                let mut now = ranges.clone();
                // No more partitions than there is room.
                now.truncate(room);
                for range in &mut now {
                    range.end = range.end.min(range.start.saturating_add(each));
                }
                let batch = reader.read_ranges(&now).await?;
                for (range, read) in ranges.iter_mut().zip(&now) {
                    range.start = read.end;
                }
                ranges.retain(|range| range.start < range.end);
                let topic = *topic;
                let read = |record: millrace_bus::Received<Event>| Read {
                    partition: record.partition,
                    offset: record.offset,
                    raw: record.raw,
                    message: record.message.map(Payload::Event),
                };
                Ok(batch.records.into_iter().map(|record| (topic, read(record))).collect())
            }
        }
    }
}

fn of_letter(letter: DeadLetter) -> Read {
    Read {
        partition: letter.partition,
        offset: letter.offset,
        message: Event::decode(&letter.original).map(Payload::Event),
        raw: letter.original,
    }
}
