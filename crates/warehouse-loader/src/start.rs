//! Where a connection begins, the first time.

use millrace_bus::{Bus, Start};
use millrace_connector::{KafkaIdentity, Positions};
use millrace_state::{Generations, StateError, Store};
use serde::{Deserialize, Serialize};

use crate::Error;

/// The one generation: where a connection begins is decided once.
const ONLY: u64 = 1;

#[derive(Serialize, Deserialize)]
struct Began {
    positions: Positions,
}

/// The offsets at which the connection began in this topic, resolved from `start` the first time and kept.
///
/// Without keeping them, `latest` would mean another offset after each restart until the first load, and
/// what came in between would be skipped in silence; and what retention takes before the first load
/// would not be noticed.
pub(crate) async fn first_positions(
    state: &Store,
    bus: &Bus,
    kafka: &KafkaIdentity,
    start: Start,
) -> Result<Positions, Error> {
    let kept = Generations::<Began>::new(state.child("start").child(&kafka.cluster).child(&kafka.topic));
    if let Some(began) = kept.latest().await? {
        return Ok(began.value.positions);
    }
    let positions = resolve(bus, &kafka.topic, start).await?;
    let began = Began { positions };
    match kept.append(ONLY, &began).await {
        Ok(()) => Ok(began.positions),
        // A former self was faster, or its write was not answered.
        Err(StateError::Lost { .. }) => {
            Ok(kept.latest().await?.map_or(began.positions, |first| first.value.positions))
        }
        Err(error) => Err(error.into()),
    }
}

/// Has a connection begin at these offsets, unless it has begun.
pub(crate) async fn begin_at(
    state: &Store,
    cluster: &str,
    topic: &str,
    positions: Positions,
) -> Result<(), Error> {
    let kept = Generations::<Began>::new(state.child("start").child(cluster).child(topic));
    match kept.append(ONLY, &Began { positions }).await {
        Ok(()) | Err(StateError::Lost { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The offsets at which the connection began, if it has.
pub(crate) async fn begun(state: &Store, cluster: &str, topic: &str) -> Result<Option<Positions>, Error> {
    let kept = Generations::<Began>::new(state.child("start").child(cluster).child(topic));
    Ok(kept.latest().await?.map(|began| began.value.positions))
}

/// Where the tables of a connection begin: where it began itself, or earlier where backfills have loaded what came
/// before. `None` where it has never loaded.
pub(crate) async fn tables_begin(
    state: &Store,
    cluster: &str,
    topic: &str,
) -> Result<Option<Positions>, Error> {
    let Some(mut positions) = begun(state, cluster, topic).await? else { return Ok(None) };
    if let Some(backfilled) = backfilled(state, cluster, topic).latest().await? {
        lower(&mut positions, &backfilled.value.positions);
    }
    Ok(Some(positions))
}

/// Keeps that a backfill has loaded from these offsets on, so that who makes the tables anew knows.
pub(crate) async fn begins_as_early_as(
    state: &Store,
    cluster: &str,
    topic: &str,
    from: &Positions,
) -> Result<(), Error> {
    let kept = backfilled(state, cluster, topic);
    let latest = kept.latest().await?;
    let number = latest.as_ref().map_or(0, |latest| latest.number);
    let mut positions = latest.map(|latest| latest.value.positions).unwrap_or_default();
    lower(&mut positions, from);
    Ok(kept.append(number + 1, &Began { positions }).await?)
}

fn backfilled(state: &Store, cluster: &str, topic: &str) -> Generations<Began> {
    Generations::new(state.child("backfilled").child(cluster).child(topic))
}

fn lower(positions: &mut Positions, others: &Positions) {
    for (partition, other) in others {
        positions
            .entry(*partition)
            .and_modify(|position| *position = (*position).min(*other))
            .or_insert(*other);
    }
}

async fn resolve(bus: &Bus, topic: &str, start: Start) -> Result<Positions, Error> {
    if let Start::At(at) = start {
        return Ok(bus.offsets_at(topic, at).await?);
    }
    let watermarks = bus.watermarks(topic).await?;
    let first = |(low, high): (i64, i64)| if start == Start::Latest { high } else { low };
    Ok(watermarks.into_iter().map(|(partition, marks)| (partition, first(marks))).collect())
}
