//! Reading both sides.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use millrace_bus::{BatchLimits, Bus, Positions, Received, Start};
use millrace_event_model::topics::{EVENTS, RECORDS, TopicName};
use millrace_event_model::wire::Message;
use millrace_event_model::{Event, Lane, Record, RecordBody, SourceId};
use millrace_service::Stop;
use millrace_state::Store;

use super::sheet::{BalanceLine, Sheet, Stand, whole_hours};
use crate::options::Kind;
use crate::position::{complete, reached};
use crate::start::begun;
use crate::{ConnectionOptions, Error};

/// The clocks of ingest and of Kafka may be so far apart.
const SKEW: TimeDelta = TimeDelta::minutes(10);

/// How often positions and books are read until no load was under way meanwhile: a connection on an interval of two
/// seconds rests for longer than the two take. Then the balance says that it is loading.
const STILL_ATTEMPTS: usize = 5;

/// Between two of them: a load that was under way is often whole by then.
const STILL_PAUSE: Duration = Duration::from_millis(300);

/// What is in memory at a time.
const LIMITS: BatchLimits =
    BatchLimits { max_records: 20_000, max_bytes: 32 * 1024 * 1024, max_wait: Duration::from_millis(500) };

/// The balance of these connections for the hours from that of `from` up to that before `until`, whole hours as
/// the books have them, by hour, source and connection. It reads all that their topics hold from there on: about as long as loading it takes.
///
/// # Errors
/// Kafka, the state or a warehouse does not answer; or the warehouse cannot tell positions or books.
pub async fn balance(
    bus: &Bus,
    workspace: &Store,
    connections: &[ConnectionOptions],
    from: DateTime<Utc>,
    until: DateTime<Utc>,
    stop: &Stop,
) -> Result<Vec<BalanceLine>, Error> {
    let (from, until) = whole_hours(from, until);
    let mut topics: Vec<(&Lane, Kind)> = Vec::new();
    for connection in connections {
        if !topics.contains(&(&connection.lane, connection.kind)) {
            topics.push((&connection.lane, connection.kind));
        }
    }
    let mut lines = Vec::new();
    for (lane, kind) in topics {
        let name = match kind {
            Kind::Events => EVENTS.lane(bus.workspace(), lane).as_str().to_owned(),
            Kind::Records => RECORDS.lane(bus.workspace(), lane).as_str().to_owned(),
        };
        let mut stands = Vec::new();
        for connection in connections.iter().filter(|other| other.lane == *lane && other.kind == kind) {
            stands.push(stand(bus, workspace, connection, &name, (from, until)).await?);
        }
        let (sheet, hours) = (Sheet::new(stands), (from, until));
        let sheet = match kind {
            Kind::Events => {
                count(bus, &EVENTS.lane(bus.workspace(), lane), hours, sheet, event, stop).await?
            }
            Kind::Records => {
                count(bus, &RECORDS.lane(bus.workspace(), lane), hours, sheet, row, stop).await?
            }
        };
        lines.extend(sheet.lines());
    }
    lines.sort_by(|one, other| (one.hour, &one.source).cmp(&(other.hour, &other.source)));
    Ok(lines)
}

async fn stand(
    bus: &Bus,
    workspace: &Store,
    connection: &ConnectionOptions,
    topic: &str,
    (from, until): (DateTime<Utc>, DateTime<Utc>),
) -> Result<Stand, Error> {
    let state = workspace.child("connections").child(connection.id.as_str());
    let cluster = bus.identity(topic).await?.cluster;
    let began = begun(&state, &cluster, topic).await?.unwrap_or_default();
    let warehouse = &connection.warehouse;
    let mut next = warehouse.positions(&connection.id).await?;
    let mut attempts = 1;
    loop {
        let books = warehouse.counts(&connection.id, from, until).await?;
        // In this order: a load that was under way while the books were read is so still, or has moved the positions.
        let ahead = warehouse.counts_run_ahead(&connection.id).await?;
        let now = warehouse.positions(&connection.id).await?;
        let still = now == next && !ahead;
        if still || attempts == STILL_ATTEMPTS {
            let next = complete(&now, &began);
            let (connection, source) = (connection.id.clone(), connection.source.clone());
            return Ok(Stand { connection, source, began, next, books, still });
        }
        (next, attempts) = (now, attempts + 1);
        tokio::time::sleep(STILL_PAUSE).await;
    }
}

/// What a record is to the books: of which source where it says, and when it was received. None: no item.
type Item<M> = fn(&Received<M>) -> Option<(Option<SourceId>, DateTime<Utc>)>;

fn event(received: &Received<Event>) -> Option<(Option<SourceId>, DateTime<Utc>)> {
    match &received.message {
        Ok(event) => Some((Some(event.source.clone()), event.received_at)),
        Err(_) => Some((source_header(received), received.appended_at)),
    }
}

fn row(received: &Received<Record>) -> Option<(Option<SourceId>, DateTime<Utc>)> {
    match &received.message {
        Ok(record) if matches!(record.body, RecordBody::Row { .. }) => {
            Some((Some(record.source.clone()), received.appended_at))
        }
        Ok(_) => None,
        Err(_) => Some((source_header(received), received.appended_at)),
    }
}

/// Whose a record is that cannot be decoded.
fn source_header<M>(received: &Received<M>) -> Option<SourceId> {
    received.raw.text("source").ok().flatten()?.parse().ok()
}

async fn count<M: Message>(
    bus: &Bus,
    topic: &TopicName<M>,
    (from, until): (DateTime<Utc>, DateTime<Utc>),
    mut sheet: Sheet,
    item: Item<M>,
    stop: &Stop,
) -> Result<Sheet, Error> {
    let watermarks = bus.watermarks(topic.as_str()).await?;
    let end: Positions = watermarks.iter().map(|(partition, (_, high))| (*partition, *high)).collect();
    let mut start = bus.offsets_at(topic.as_str(), from - SKEW).await?;
    for (partition, (low, high)) in &watermarks {
        let first = start.entry(*partition).or_insert(*low);
        *first = (*first).clamp(*low, *high);
    }
    // Partitions of which retention may have taken a part of these hours, until their first record is seen.
    let mut cut: Vec<i32> = Vec::new();
    for (partition, (low, high)) in watermarks {
        if low > 0 && start.get(&partition) == Some(&low) {
            cut.push(partition);
            if low == high {
                sheet.taken_before(until);
            }
        }
    }
    let mut reader = bus.reader(topic, &start, Start::Earliest)?;
    while !stop.is_requested() && !reached(reader.positions(), &end) {
        let batch = reader.next_batch(&LIMITS, stop.token()).await?;
        for received in &batch.records {
            if cut.contains(&received.partition) {
                cut.retain(|partition| *partition != received.partition);
                sheet.taken_before(received.appended_at);
            }
            // What came since the end was asked for is not looked at.
            if end.get(&received.partition).is_none_or(|end| received.offset >= *end) {
                continue;
            }
            if let Some((source, at)) = item(received)
                && from <= at
                && at < until
            {
                sheet.count(source.as_ref(), at, received.partition, received.offset);
            }
        }
    }
    Ok(sheet)
}
