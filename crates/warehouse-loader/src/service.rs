//! The stage: one task per connection.

use std::sync::Arc;
use std::time::Duration;

use millrace_bus::{Bus, PublisherOptions};
use millrace_event_model::ConnectionId;
use millrace_service::{Health, SharedClock, Stop, Tasks};
use millrace_state::Store;

use crate::connection::Connection;
use crate::options::LoadLimits;
use crate::report::Report;
use crate::session::Surroundings;
use crate::{ConnectionOptions, Error, Options};

/// How long connections may take to finish the load in hand after the stop.
const DRAIN: Duration = Duration::from_secs(60);

/// Loads the connections of a config into their warehouses.
pub struct Service {
    options: Options,
    bus: Bus,
    store: Store,
    clock: SharedClock,
    health: Health,
}

/// What `load --once` came to, by connection.
#[derive(Debug)]
pub struct Run {
    /// Which connection.
    pub connection: ConnectionId,
    /// What it loaded, or why it could not.
    pub outcome: Result<Report, Error>,
}

impl Service {
    /// A loader; nothing happens before [`Self::run`]. `store` is rooted at the workspace: leases and the
    /// like are under `connections/<id>` there.
    #[must_use]
    pub fn new(options: Options, bus: Bus, store: Store, clock: SharedClock, health: Health) -> Self {
        Self { options, bus, store, clock, health }
    }

    /// Loads on schedule until `stop`. A connection that cannot load says why in the health, and goes on
    /// when it can; the others do not wait for it.
    ///
    /// # Errors
    /// The Kafka settings are invalid; or a task of a connection ended by itself.
    pub async fn run(self, stop: Stop) -> Result<(), Error> {
        let mut tasks = Tasks::new(stop.clone());
        for (id, connection) in self.connections(None)? {
            let serving = connection.serve(stop.clone());
            tasks.spawn(format!("load {id}"), async {
                serving.await;
                Ok::<(), Error>(())
            });
        }
        let errors = tasks.join(DRAIN).await;
        // Without connections there is nothing to do but to wait, as others do.
        stop.requested().await;
        errors.into_iter().next().map_or(Ok(()), |error| Err(error.into()))
    }

    /// Loads what is there now, of the named connections, or of all where none is named; all at once.
    ///
    /// # Errors
    /// A named connection does not exist, or the Kafka settings are invalid. What goes wrong with one
    /// connection is in its [`Run`].
    pub async fn run_once(self, ids: &[ConnectionId], stop: Stop) -> Result<Vec<Run>, Error> {
        let chosen = if ids.is_empty() { None } else { Some(ids) };
        let mut running = Vec::new();
        for (id, connection) in self.connections(chosen)? {
            running.push((id, tokio::spawn(connection.load_once(stop.clone()))));
        }
        let mut runs = Vec::new();
        for (connection, task) in running {
            let outcome = task.await.unwrap_or_else(|error| Err(error.into()));
            runs.push(Run { connection, outcome });
        }
        Ok(runs)
    }

    /// What makes connections, and the options of those that the config has.
    pub(crate) fn workshop(self) -> Result<(Workshop, Vec<ConnectionOptions>), Error> {
        let Options { connections, holder, lease_ttl, limits } = self.options;
        let publisher = self.bus.publisher(PublisherOptions::default())?;
        let surroundings = Surroundings { bus: self.bus, publisher, clock: self.clock };
        let (store, health) = (self.store, self.health);
        Ok((Workshop { surroundings, store, holder, lease_ttl, limits, health }, connections))
    }

    fn connections(self, chosen: Option<&[ConnectionId]>) -> Result<Vec<(ConnectionId, Connection)>, Error> {
        let known =
            |id: &&ConnectionId| !self.options.connections.iter().any(|connection| connection.id == **id);
        if let Some(unknown) = chosen.unwrap_or_default().iter().find(known) {
            return Err(Error::UnknownConnection(unknown.clone()));
        }
        let (workshop, connections) = self.workshop()?;
        let is_chosen = |id: &ConnectionId| chosen.is_none_or(|ids| ids.contains(id));
        let made = connections.into_iter().filter(|connection| is_chosen(&connection.id));
        Ok(made.map(|options| (options.id.clone(), workshop.connection(options))).collect())
    }
}

/// What all connections of a process are made with.
pub(crate) struct Workshop {
    pub(crate) surroundings: Surroundings,
    /// Rooted at the workspace.
    pub(crate) store: Store,
    pub(crate) holder: String,
    pub(crate) lease_ttl: Duration,
    pub(crate) limits: LoadLimits,
    health: Health,
}

impl Workshop {
    /// A connection that does nothing yet.
    pub(crate) fn connection(&self, options: ConnectionOptions) -> Connection {
        let health = self.health.component(&format!("load {}", options.id));
        Connection::new(
            Arc::new(options),
            self.surroundings.clone(),
            &self.store,
            self.holder.clone(),
            self.lease_ttl,
            self.limits,
            health,
        )
    }
}
