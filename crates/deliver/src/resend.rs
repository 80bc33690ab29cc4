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
use millrace_event_model::{DeadLetter, Disposition, Event, Lane, Outcome};
use millrace_service::{SharedClock, Stop};

use crate::admit::{Read, Routes};
use crate::books::Books;
use crate::flow::Flow;
use crate::intake::Topic;
use crate::ledger::Place;
use crate::progress::Position;
use crate::sends::Sends;
use crate::service::lanes;
use crate::{DeliverError, DestinationOptions, RetryPolicy};

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
    /// Letters without a record, or of a topic that leads to the destination no more.
    pub impossible: u64,
    /// Why it ended before its end, if it did: the rest is as it was.
    pub stopped: Option<String>,
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
    let mut resent = Resent::default();
    let mut feed = Feed::new(again, &topics, &books.topics, bus, &mut resent).map_err(failed)?;
    for (place, low) in feed.begin() {
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
            store(&mut flow, &books, &clock, &mut resent).await.map_err(failed)?;
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
    store(&mut flow, &books, &clock, &mut resent).await.map_err(failed)?;
    Ok(resent)
}

async fn store(
    flow: &mut Flow,
    books: &Books,
    clock: &SharedClock,
    resent: &mut Resent,
) -> Result<(), millrace_bus::BusError> {
    // The positions are of this job alone: the stage's stay where they are.
    let (statement, _) = flow.state(clock.now());
    books.store(&statement, &[]).await?;
    flow.stored();
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
        resent: &mut Resent,
    ) -> Result<Self, millrace_bus::BusError> {
        let letters = match again {
            Again::Letters(letters) => letters,
            Again::Ranges(lanes) => {
                let mut feed = Vec::new();
                for (lane, ranges) in lanes {
                    let is_lane = |topic: &Topic| matches!(topic, Topic::Events(other) if *other == lane);
                    let Some(number) = topics.iter().position(|(topic, _)| is_lane(topic)) else { continue };
                    let name = EVENTS.lane(bus.workspace(), &lane);
                    let reader = bus.reader(&name, &Positions::new(), Start::Latest)?;
                    feed.push((number, reader, ranges.into_iter().filter(|r| r.start < r.end).collect()));
                }
                return Ok(Self::Ranges(feed));
            }
        };
        let mut known = Vec::new();
        for letter in letters {
            match names.iter().position(|name| *name == letter.topic) {
                Some(number) if letter.original.value.is_some() => known.push((number, letter)),
                _ => resent.impossible += 1,
            }
        }
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
