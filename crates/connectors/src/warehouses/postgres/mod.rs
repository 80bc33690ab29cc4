//! PostgreSQL as a warehouse.
//!
//! Everything a batch changes is one transaction: rows by binary COPY, seen ids, counts and positions,
//! behind a fence that only the newest loader passes ([`positions`]). Schema changes come first, in a
//! transaction of their own ([`ddl`]). Our own tables stand in a schema of their own, `_millrace`:
//!
//! | table | a row for each |
//! |---|---|
//! | `connections` | connection: the epoch of its loader, and the Kafka its positions mean |
//! | `positions` | partition of a connection: the next offset to read |
//! | `counts` | connection, source, hour and disposition: how many items |
//! | `seen_runs` | load of the last 28 days, or several of them: the ids of its messages ([`seen`]) |
//! | `generations`, `staged_<n>` | full refresh under way, and its rows |
//!
//! The loader's tables have no primary keys, and no indexes but those that merges need ([`keys`]); their columns have the types RudderStack gives
//! them. Floating-point numbers are `numeric`, written as the shortest decimal that reads back as the same
//! double. What PostgreSQL cannot hold is changed as [`text`] says.

mod books;
mod client;
mod config;
mod copy;
mod ddl;
mod encode;
mod error;
mod jobs;
mod keys;
mod load;
mod numeric;
mod positions;
mod query;
mod rows;
mod seen;
mod swap;
mod targets;
mod text;
mod tls;
mod work;
mod write;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use millrace_connector::{
    ConnectorError, Context, Count, Dialect, DisplayName, KafkaIdentity, Load, LoadReport, Positions,
    QueryStream, Resume, SchemaChange, TableSchemas, Warehouse, WarehouseEntry, dialect,
};
use millrace_event_model::ConnectionId;
use millrace_service::crash_point;
use serde_json::Value;

use self::client::Sessions;
use self::config::{PostgresSettings, Settings};
use self::error::{During, Failure, classify};
use self::keys::KeyIndexes;
use self::positions::OwnTables;
use self::seen::SeenIds;

const KIND: &str = "postgres";

/// The oldest server: partitioned tables and their indexes as we use them.
const OLDEST_VERSION: i32 = 120_000;

/// See the module's text.
pub(crate) const ENTRY: WarehouseEntry = WarehouseEntry {
    kind: KIND,
    summary: "PostgreSQL 12 or newer: rows and positions in one transaction",
    schema: || schemars::schema_for!(PostgresSettings).to_value(),
    display_names: &[DisplayName::new("Postgres")],
    build,
};

fn build(settings: &Value, context: &Context) -> Result<Arc<dyn Warehouse>, ConnectorError> {
    Ok(Arc::new(Postgres::new(settings, context)?))
}

/// One configured server.
struct Postgres {
    sessions: Sessions,
    own: OwnTables,
    seen_ids: SeenIds,
    keys: KeyIndexes,
    dialect: &'static Dialect,
}

impl Postgres {
    fn new(settings: &Value, context: &Context) -> Result<Self, ConnectorError> {
        let settings = Settings::parse(settings, context)?;
        let dialect =
            dialect(KIND).ok_or_else(|| ConnectorError::pause("dialect", "no dialect for postgres"))?;
        Ok(Self {
            sessions: Sessions::new(&settings, &context.id)?,
            own: OwnTables::new(&settings.internal_schema, &settings.internal_prefix)?,
            seen_ids: SeenIds::default(),
            keys: KeyIndexes::default(),
            dialect,
        })
    }

    fn load_error(&self, error: tokio_postgres::Error, what: &str) -> ConnectorError {
        classify(error, During::Load, &self.sessions.doing(what))
    }
}

/// Where the schema of our own tables is not there, whether it may be made.
const CHECK: &str = "SELECT current_setting('server_version_num')::integer, pg_is_in_recovery(),
    coalesce((SELECT has_schema_privilege(oid, 'CREATE') FROM pg_catalog.pg_namespace WHERE nspname = $1),
        has_database_privilege(current_database(), 'CREATE')),
    has_database_privilege(current_database(), 'TEMPORARY')";

#[async_trait]
impl Warehouse for Postgres {
    fn dialect(&self) -> &'static Dialect {
        self.dialect
    }

    async fn check(&self) -> Result<(), ConnectorError> {
        let what = "check of";
        let mut session = self.sessions.get().await?;
        let row = session
            .client()
            .query_one(CHECK, &[&self.own.schema_name()])
            .await
            .map_err(|error| self.load_error(error, what))?;
        let get = || -> Result<(i32, bool, bool, bool), tokio_postgres::Error> {
            Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?))
        };
        let (version, standby, may_create, may_stage) =
            get().map_err(|error| self.load_error(error, what))?;
        session.release();
        let doing = self.sessions.doing(what);
        if version < OLDEST_VERSION {
            return Err(ConnectorError::pause(
                "version",
                format!("{doing}: the server's version {version} is older than {OLDEST_VERSION}"),
            ));
        }
        if standby {
            return Err(ConnectorError::retry("standby", format!("{doing}: the server is a standby")));
        }
        if !may_create {
            return Err(ConnectorError::pause(
                "permission",
                format!(
                    "{doing}: the role may not make Millrace's own tables in schema {:?}; grant it CREATE on the \
                     database, or name a schema of its own in internal_schema (and give internal_prefix)",
                    self.own.schema_name()
                ),
            ));
        }
        if !may_stage {
            let problem = "the role may not make temporary tables; grant it TEMPORARY on the database";
            return Err(ConnectorError::pause("permission", format!("{doing}: {problem}")));
        }
        Ok(())
    }

    async fn describe(&self, schema: &str) -> Result<TableSchemas, ConnectorError> {
        let mut session = self.sessions.get().await?;
        let tables = ddl::describe(session.client(), schema).await;
        let tables = tables.map_err(|error| self.load_error(error, "description of"))?;
        session.release();
        Ok(tables)
    }

    async fn apply(&self, schema: &str, changes: &[SchemaChange]) -> Result<(), ConnectorError> {
        let mut session = self.sessions.get().await?;
        crash_point("before-ddl");
        let done = ddl::apply(&mut session.line, schema, changes).await;
        done.map_err(|failure| failure.classify(During::Load, &self.sessions.doing("schema change of")))?;
        crash_point("after-ddl");
        session.release();
        Ok(())
    }

    async fn resume(
        &self,
        connection: &ConnectionId,
        epoch: u64,
        kafka: &KafkaIdentity,
    ) -> Result<Resume, ConnectorError> {
        let mut session = self.sessions.get().await?;
        let line = &mut session.line;
        let resumed = async {
            self.own.ensure(&mut line.client).await?;
            let mut work = line.begin().await?;
            let resume = positions::resume(&mut work, &self.own, connection, epoch, kafka).await?;
            work.commit().await?;
            Ok::<_, Failure>(resume)
        };
        let resume = resumed
            .await
            .map_err(|failure| failure.classify(During::Load, &self.sessions.doing("resumption from")))?;
        self.seen_ids.forget(connection);
        self.keys.forget();
        session.release();
        Ok(resume)
    }

    async fn seen(
        &self,
        connection: &ConnectionId,
        ids: &[u128],
        now: DateTime<Utc>,
    ) -> Result<Vec<Option<u64>>, ConnectorError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut session = self.sessions.get().await?;
        let known = self.seen_ids.look_up(session.client(), &self.own, connection, ids, now).await;
        let known = known.map_err(|failure| {
            self.seen_ids.forget(connection);
            failure.classify(During::Load, &self.sessions.doing("look-up of seen ids in"))
        })?;
        session.release();
        Ok(known)
    }

    async fn load(&self, load: Load) -> Result<LoadReport, ConnectorError> {
        let mut session = self.sessions.get().await?;
        self.keys.ensure(session.client(), &load).await;
        let loaded = load::run(&mut session.line, &self.own, &load).await;
        let (report, remembered) = loaded.map_err(|failure| {
            self.seen_ids.forget(&load.connection);
            failure.classify(During::Load, &self.sessions.doing("load into"))
        })?;
        let committed = (&load.connection, load.epoch, load.at.date_naive());
        match self.seen_ids.settle(&mut session.line, &self.own, committed, remembered).await {
            Ok(()) => session.release(),
            Err(failure) => {
                self.seen_ids.forget(&load.connection);
                let error = failure.classify(During::Load, &self.sessions.doing("merging seen ids in"));
                tracing::warn!(connection = %load.connection, error = error.full(), "tried again after the next load");
            }
        }
        Ok(report)
    }

    async fn positions(&self, connection: &ConnectionId) -> Result<Positions, ConnectorError> {
        let mut session = self.sessions.get().await?;
        let read = positions::read(session.client(), &self.own, connection).await;
        let positions = read.map_err(|failure| {
            failure.classify(During::Load, &self.sessions.doing("reading the positions of"))
        })?;
        session.release();
        Ok(positions)
    }

    async fn counts(
        &self,
        connection: &ConnectionId,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Vec<Count>, ConnectorError> {
        let mut session = self.sessions.get().await?;
        let counts = books::read(session.client(), &self.own, connection, from, until).await;
        let counts = counts.map_err(|failure| {
            failure.classify(During::Load, &self.sessions.doing("reading the books of"))
        })?;
        session.release();
        Ok(counts)
    }

    async fn forget(&self, job: &ConnectionId, schema: Option<&str>) -> Result<(), ConnectorError> {
        self.seen_ids.forget(job);
        let mut session = self.sessions.get().await?;
        let forgotten = jobs::forget(&mut session.line, &self.own, job, schema).await;
        forgotten
            .map_err(|failure| failure.classify(During::Load, &self.sessions.doing("end of a job in")))?;
        session.release();
        Ok(())
    }

    async fn query(&self, sql: &str) -> Result<QueryStream, ConnectorError> {
        query::run(&self.sessions, sql).await
    }
}
