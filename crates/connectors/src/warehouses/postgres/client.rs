//! Sessions with the server: made when first needed, kept while they are good, bounded in number.

use std::sync::{Arc, Mutex, PoisonError};

use millrace_connector::ConnectorError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::config::Settings;
use super::error::{During, classify};
use super::tls;
use super::work::Line;

/// Sessions that load and describe at once. One more waits; a connection has one loader, so this is a
/// bound on connections that load one warehouse at the same moment.
const MAX_SESSIONS: usize = 8;

/// Queries at once. They have a bound of their own, so that long queries do not hold up loads.
const MAX_QUERIES: usize = 4;

/// What every session is told first.
/// - The server ends a transaction whose loader froze in the middle: else the zombie would hold the
///   fence's lock for ever, and its successor could not resume.
/// - Nobody waits longer than this for a lock: the caller tries again, and says so.
const SESSION: &str = "SET idle_in_transaction_session_timeout = '60s'; SET lock_timeout = '20s'; \
    SET client_min_messages = warning; SET timezone = 'UTC'; SET standard_conforming_strings = on";

/// A statement whose loader was killed ends within this time, not when it is done: until then it has the fence's
/// lock. A server older than 14, or one on a system that cannot tell, does without.
const WATCH: &str = "SET client_connection_check_interval = '10s'";

/// A query waits in its transaction while its reader is busy with what it has read: a sync may well be for
/// minutes.
const QUERY_SESSION: &str = "SET idle_in_transaction_session_timeout = '1h'";

/// The way to one server.
pub(super) struct Sessions {
    connection: Config,
    tls: MakeRustlsConnect,
    /// The warehouse's id, for error messages.
    id: String,
    allow_superuser: bool,
    idle: Mutex<Vec<Line>>,
    loads: Arc<Semaphore>,
    queries: Arc<Semaphore>,
}

impl Sessions {
    /// Connects to nothing yet.
    pub(super) fn new(settings: &Settings, id: &str) -> Result<Self, ConnectorError> {
        Ok(Self {
            connection: settings.connection.clone(),
            tls: tls::connector(&settings.trust)?,
            id: id.to_owned(),
            allow_superuser: settings.allow_superuser,
            idle: Mutex::new(Vec::new()),
            loads: Arc::new(Semaphore::new(MAX_SESSIONS)),
            queries: Arc::new(Semaphore::new(MAX_QUERIES)),
        })
    }

    /// A session for loads and descriptions.
    pub(super) async fn get(&self) -> Result<Session<'_>, ConnectorError> {
        let permit = permit(&self.loads).await?;
        let line = match self.take_idle() {
            Some(line) => line,
            None => Line::new(self.connect().await?),
        };
        Ok(Session { line, sessions: self, _permit: permit })
    }

    /// A session of its own for a query, which keeps it to its end.
    pub(super) async fn for_query(&self) -> Result<(Client, OwnedSemaphorePermit), ConnectorError> {
        let permit = permit(&self.queries).await?;
        let client = self.connect().await?;
        let set = client.batch_execute(QUERY_SESSION).await;
        set.map_err(|error| classify(error, During::Connect, &self.doing("connecting to")))?;
        Ok((client, permit))
    }

    /// Needed to cancel a query.
    pub(super) fn tls(&self) -> MakeRustlsConnect {
        self.tls.clone()
    }

    /// `what` this warehouse, for error messages.
    pub(super) fn doing(&self, what: &str) -> String {
        format!("{what} warehouse {:?}", self.id)
    }

    fn take_idle(&self) -> Option<Line> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|line| !line.client.is_closed());
        idle.pop()
    }

    async fn connect(&self) -> Result<Client, ConnectorError> {
        let what = self.doing("connecting to");
        let failed = |error| classify(error, During::Connect, &what);
        let (client, connection) = self.connection.connect(self.tls.clone()).await.map_err(failed)?;
        // The server says so by itself to everybody who signs in.
        if connection.parameter("is_superuser") == Some("on") && !self.allow_superuser {
            return Err(ConnectorError::pause(
                "superuser",
                format!(
                    "{what}: the role is a superuser, and whoever may write a sync's query could read files and \
                     run programs on the server; give Millrace a role of its own, or set allow_superuser: true"
                ),
            ));
        }
        let id = self.id.clone();
        // Ends when the client is dropped, which every owner of a client does in bounded time.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(warehouse = id, %error, "connection to the warehouse broke");
            }
        });
        client.batch_execute(SESSION).await.map_err(failed)?;
        if let Err(error) = client.batch_execute(WATCH).await {
            // One that is gone shows at its next statement.
            tracing::debug!(warehouse = self.id, %error, "the server does not watch its clients");
        }
        Ok(client)
    }
}

async fn permit(semaphore: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, ConnectorError> {
    let permit = semaphore.clone().acquire_owned().await;
    permit.map_err(|_| ConnectorError::retry("closed", "the warehouse's sessions are closed"))
}

/// A session in use. Dropped, it closes, and the server undoes what was not committed; [`release`] keeps
/// it for the next.
///
/// [`release`]: Self::release
pub(super) struct Session<'a> {
    /// The connection.
    pub(super) line: Line,
    sessions: &'a Sessions,
    _permit: OwnedSemaphorePermit,
}

impl Session<'_> {
    /// The connection.
    pub(super) fn client(&mut self) -> &mut Client {
        &mut self.line.client
    }

    /// Keeps the session for the next: only after all that was begun has ended well.
    pub(super) fn release(self) {
        self.sessions.idle.lock().unwrap_or_else(PoisonError::into_inner).push(self.line);
    }
}
