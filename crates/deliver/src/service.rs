//! The stage: an engine for each destination, and an ear for the operators.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use millrace_bus::{Bus, BusError, Publisher, PublisherOptions, Start};
use millrace_connector::{Destination, Limits};
use millrace_event_model::topics::CONTROL;
use millrace_event_model::{Control, DestinationId, Lane};
use millrace_service::{Health, SharedClock, Stop, Tasks};
use tokio::sync::watch;

use crate::admit::{Connections, Routes};
use crate::engine::{Controls, Engine};
use crate::flow::Flow;
use crate::intake::Topic;
use crate::{DeliverError, DestinationOptions, EventConnection, Options};

/// How long Kafka may take to ack outcomes and progress before they are published again.
const ACK_TIMEOUT: Duration = Duration::from_secs(10);

/// After an error of Kafka the operators' topic is read again.
const CONTROL_PAUSE: Duration = Duration::from_secs(2);

/// Beyond the drain of the engines, for storing and leaving the groups.
const STOP_MARGIN: Duration = Duration::from_secs(30);

/// The stage, ready to run.
pub struct Service {
    options: Options,
    bus: Bus,
    clock: SharedClock,
    health: Health,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Service {
    /// A stage that has not begun. The topics are provisioned by then, or soon.
    #[must_use]
    pub fn new(options: Options, bus: Bus, clock: SharedClock, health: Health) -> Self {
        Self { options, bus, clock, health }
    }

    /// Delivers until the stop; then lets what is in flight land, stores it and leaves the groups.
    ///
    /// # Errors
    /// The producer cannot be made, or a task panicked. What Kafka or a destination does is no error: it
    /// is tried again, and shown by health as `deliver/<destination>`.
    pub async fn run(self, stop: Stop) -> Result<(), DeliverError> {
        let Self { options, bus, clock, health } = self;
        let publisher = bus
            .publisher(PublisherOptions { delivery_timeout: ACK_TIMEOUT, ..PublisherOptions::default() })
            .map_err(DeliverError::Publisher)?;
        let stop = stop.child();
        let (tell, controls) = watch::channel(Controls::default());
        let mut tasks = Tasks::new(stop.clone());
        let drain = options.drain + STOP_MARGIN;
        let shared = Shared {
            bus: bus.clone(),
            publisher,
            clock,
            health,
            controls,
            instance: options.instance,
            store_every: options.store_every,
            drain: options.drain,
        };
        for destination in options.destinations {
            let name = format!("deliver/{}", destination.id);
            let engine = shared.engine(destination);
            let stop = stop.clone();
            // The operators' word comes first: a destination that they paused sends nothing.
            let mut controls = shared.controls.clone();
            tasks.spawn(name, async move {
                tokio::select! {
                    // Without the ear's end of the channel the stage is stopping.
                    _ = controls.changed() => engine.run(stop).await,
                    () = stop.requested() => {}
                }
                Ok::<(), Infallible>(())
            });
        }
        drop(shared);
        tasks.spawn("deliver/control", async move {
            listen(&bus, &tell, &stop).await;
            Ok::<(), Infallible>(())
        });
        match tasks.join(drain).await.into_iter().next() {
            Some(error) => Err(DeliverError::Task(error)),
            None => Ok(()),
        }
    }
}

/// What the engines have in common.
struct Shared {
    bus: Bus,
    publisher: Publisher,
    clock: SharedClock,
    health: Health,
    controls: watch::Receiver<Controls>,
    instance: Option<String>,
    store_every: Duration,
    drain: Duration,
}

impl Shared {
    fn engine(&self, options: DestinationOptions) -> Engine {
        let Served { id, destination, limits, topics, flow, .. } = Served::of(options, &self.bus);
        Engine {
            health: self.health.component(&format!("deliver/{id}")),
            id,
            destination,
            limits,
            topics,
            instance: self.instance.clone(),
            store_every: self.store_every,
            drain: self.drain,
            bus: self.bus.clone(),
            publisher: self.publisher.clone(),
            clock: Arc::clone(&self.clock),
            controls: self.controls.clone(),
            flow,
            accept_expired: false,
            told: None,
            told_health: None,
        }
    }
}

/// A destination with its topics and what decides of it.
pub(crate) struct Served {
    pub(crate) id: DestinationId,
    pub(crate) destination: Arc<dyn Destination>,
    pub(crate) limits: Limits,
    /// Each with where it begins.
    pub(crate) topics: Vec<(Topic, Start)>,
    /// Their names, in the same order.
    pub(crate) names: Vec<String>,
    pub(crate) flow: Flow,
}

impl Served {
    pub(crate) fn of(options: DestinationOptions, bus: &Bus) -> Self {
        let DestinationOptions {
            id,
            destination,
            connections,
            takes_changes,
            names,
            consent,
            retry,
            bounds,
            probe_every,
        } = options;
        let (mut topics, connections) = lanes(connections);
        if takes_changes {
            topics.push((Topic::Changes, Start::Earliest));
        }
        let routes = Routes { destination: id.clone(), connections, names, consent };
        let names = topics.iter().map(|(topic, _)| topic.name(bus)).collect::<Vec<_>>();
        let limits = destination.limits();
        let flow = Flow::new(routes, names.clone(), &limits, retry, bounds, probe_every);
        Self { id, destination, limits, topics, names, flow }
    }
}

/// The lanes of connections, each once with its earliest start, and their connections in the same order.
fn lanes(connections: Vec<EventConnection>) -> (Vec<(Topic, Start)>, Connections) {
    let mut lanes: Vec<(Lane, Start)> = Vec::new();
    let mut by_source = Connections::new();
    for EventConnection { source, lane, filter, start } in connections {
        let at = match lanes.iter().position(|(other, _)| *other == lane) {
            Some(at) => at,
            None => {
                lanes.push((lane, start));
                by_source.push(HashMap::default());
                lanes.len() - 1
            }
        };
        if let Some((_, earliest)) = lanes.get_mut(at)
            && start_order(start) < start_order(*earliest)
        {
            *earliest = start;
        }
        if let Some(of_lane) = by_source.get_mut(at) {
            of_lane.insert(source, filter);
        }
    }
    (lanes.into_iter().map(|(lane, start)| (Topic::Events(lane), start)).collect(), by_source)
}

fn start_order(start: Start) -> DateTime<Utc> {
    match start {
        Start::Earliest => DateTime::<Utc>::MIN_UTC,
        Start::At(at) => at,
        Start::Latest => DateTime::<Utc>::MAX_UTC,
    }
}

/// Keeps the last word of the operators on each destination, from the beginning of their topic on, until the stop.
pub(crate) async fn listen(bus: &Bus, tell: &watch::Sender<Controls>, stop: &Stop) {
    while !stop.is_requested() {
        if let Err(error) = follow(bus, tell, stop).await {
            tracing::warn!(%error, "the operators' topic cannot be read; trying again");
            tokio::select! {
                () = tokio::time::sleep(CONTROL_PAUSE) => {}
                () = stop.requested() => {}
            }
        }
    }
}

async fn follow(bus: &Bus, tell: &watch::Sender<Controls>, stop: &Stop) -> Result<(), BusError> {
    let mut operators = bus.follow(&CONTROL.of(bus.workspace())).await?;
    let mut words: BTreeMap<DestinationId, Control> = BTreeMap::new();
    // First all that was said until now, even if it is nothing, so that the engines begin with it.
    let mut news = true;
    while !stop.is_requested() {
        if news && operators.is_current() {
            tell.send_replace(Arc::new(words.clone()));
            news = false;
        }
        for word in operators.next(stop.token()).await? {
            if let Some(destination) = word.destination() {
                words.insert(destination.clone(), word);
                news = true;
            }
        }
    }
    Ok(())
}
