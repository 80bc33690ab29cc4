//! The stage: made from its options, run until the stop.

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::sync::Arc;

use millrace_bus::{Bus, PublisherOptions};
use millrace_event_model::KeyHasher;
use millrace_service::{Health, SharedClock, Stop};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::auth::Sources;
use crate::body::Budget;
use crate::broker::Broker;
use crate::door::Door;
use crate::forget::Forgotten;
use crate::geo::Locator;
use crate::metrics::{Durations, Refusals};
use crate::patience::Patience;
use crate::proxies::Proxies;
use crate::server::{self, Drained};
use crate::tls::Tls;
use crate::{IngestError, Options, routes};

/// The stage, ready to run.
pub struct Service {
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    bus: Bus,
    door: Arc<Door>,
    /// Of any source: by it the broker is asked whether it is there.
    topic: Option<String>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl Service {
    /// Makes the producer; connects to nothing yet. The topics of the sources' lanes must have been
    /// provisioned by the time of the first request.
    ///
    /// # Errors
    /// Two sources share a write key, the certificate cannot be used, or the bus's settings are invalid.
    pub fn new(
        options: Options,
        bus: Bus,
        keys: KeyHasher,
        clock: SharedClock,
        health: &Health,
    ) -> Result<Self, IngestError> {
        let limits = options.limits;
        let tls = options.tls.map(Tls::new).transpose().map_err(IngestError::Tls)?.map(Arc::new);
        let publisher = bus
            .publisher(PublisherOptions {
                linger: limits.linger,
                delivery_timeout: limits.ack_timeout,
                queue_bytes: limits.queue_bytes,
                ..PublisherOptions::default()
            })
            .map_err(IngestError::Bus)?;
        let sources = Sources::new(options.sources, bus.workspace(), keys.clone())?;
        let topic = sources.any_topic();
        let door = Arc::new(Door {
            sources,
            publisher,
            broker: Broker::new(health.component("ingest")),
            forgotten: Forgotten::new(health.component("ingest/suppressions")),
            locator: options.locator.map(Arc::new),
            requests: Semaphore::new(limits.requests),
            turns: Arc::new(Semaphore::new(
                std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            )),
            budget: Budget::new(limits.bytes_in_flight),
            patience: Patience::new(limits.body_timeout),
            refusals: Refusals::default(),
            durations: Durations::new(routes::event_paths()),
            version: options.version,
            workspace: bus.workspace().clone(),
            public_url: options.public_url,
            tls: tls.is_some(),
            internal: options.internal,
            proxies: Proxies::new(options.trusted_proxies),
            since: clock.now(),
            limits,
            keys,
            clock,
        });
        Ok(Self { listener: options.listener, tls, bus, door, topic })
    }

    /// Serves until the stop is requested, then answers what is under way.
    ///
    /// # Errors
    /// Events were still unacked at the end.
    pub async fn run(self, stop: Stop) -> Result<(), IngestError> {
        let Self { listener, tls, bus, door, topic } = self;
        if let Ok(address) = listener.local_addr() {
            tracing::info!(%address, tls = tls.is_some(), "receiving events");
        }
        let serve = async {
            tokio::select! {
                () = door.forgotten.head_start() => {}
                () = stop.requested() => {}
            }
            server::serve(listener, tls.clone(), &door.limits, &stop, Arc::clone(&door)).await
        };
        let drained = tokio::select! {
            drained = serve => drained,
            never = renewed(tls.as_ref()) => match never {},
            never = door.forgotten.watch(&bus) => match never {},
            never = located(door.locator.as_ref()) => match never {},
            never = door.broker.watch(&bus, topic.as_deref()) => match never {},
        };
        if let Drained::Cut(connections) = drained {
            tracing::warn!(connections, "some clients did not finish their requests in time");
        }
        door.publisher.flush().await.map_err(IngestError::Drain)?;
        tracing::info!("all accepted events are stored");
        Ok(())
    }
}

/// Keeps the places up to date, for ever.
async fn located(locator: Option<&Arc<Locator>>) -> Infallible {
    match locator {
        Some(locator) => locator.watch().await,
        None => std::future::pending().await,
    }
}

/// Keeps the certificate up to date, for ever.
async fn renewed(tls: Option<&Arc<Tls>>) -> Infallible {
    match tls {
        Some(tls) => tls.watch().await,
        None => std::future::pending().await,
    }
}
