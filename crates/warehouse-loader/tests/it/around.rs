//! A warehouse that a test puts something around.

use std::ops::Deref;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use millrace_connector::{
    ConnectorError, Count, Dialect, KafkaIdentity, Load, LoadReport, Positions, QueryStream, Resume,
    SchemaChange, TableSchemas, Warehouse,
};
use millrace_event_model::ConnectionId;

type Result<T> = std::result::Result<T, ConnectorError>;

/// What stands around a warehouse: a call that it does not take goes to the one within.
#[async_trait]
pub(crate) trait Around: Send + Sync {
    fn inner(&self) -> &dyn Warehouse;

    async fn describe(&self, schema: &str) -> Result<TableSchemas> {
        self.inner().describe(schema).await
    }

    async fn apply(&self, schema: &str, changes: &[SchemaChange]) -> Result<()> {
        self.inner().apply(schema, changes).await
    }

    async fn resume(&self, connection: &ConnectionId, epoch: u64, kafka: &KafkaIdentity) -> Result<Resume> {
        self.inner().resume(connection, epoch, kafka).await
    }

    async fn seen(
        &self,
        connection: &ConnectionId,
        ids: &[u128],
        now: DateTime<Utc>,
    ) -> Result<Vec<Option<u64>>> {
        self.inner().seen(connection, ids, now).await
    }

    async fn load(&self, load: Load) -> Result<LoadReport> {
        self.inner().load(load).await
    }

    async fn counts(
        &self,
        connection: &ConnectionId,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Vec<Count>> {
        self.inner().counts(connection, from, until).await
    }

    async fn forget(&self, job: &ConnectionId, schema: Option<&str>) -> Result<()> {
        self.inner().forget(job, schema).await
    }
}

/// The two together.
pub(crate) struct Wrapped<A>(pub(crate) A);

impl<A> Deref for Wrapped<A> {
    type Target = A;

    fn deref(&self) -> &A {
        &self.0
    }
}

#[async_trait]
impl<A: Around> Warehouse for Wrapped<A> {
    fn dialect(&self) -> &'static Dialect {
        self.0.inner().dialect()
    }

    fn replaces(&self) -> bool {
        self.0.inner().replaces()
    }

    async fn check(&self) -> Result<()> {
        self.0.inner().check().await
    }

    async fn describe(&self, schema: &str) -> Result<TableSchemas> {
        self.0.describe(schema).await
    }

    async fn apply(&self, schema: &str, changes: &[SchemaChange]) -> Result<()> {
        self.0.apply(schema, changes).await
    }

    async fn resume(&self, connection: &ConnectionId, epoch: u64, kafka: &KafkaIdentity) -> Result<Resume> {
        self.0.resume(connection, epoch, kafka).await
    }

    async fn seen(
        &self,
        connection: &ConnectionId,
        ids: &[u128],
        now: DateTime<Utc>,
    ) -> Result<Vec<Option<u64>>> {
        self.0.seen(connection, ids, now).await
    }

    async fn load(&self, load: Load) -> Result<LoadReport> {
        self.0.load(load).await
    }

    async fn counts(
        &self,
        connection: &ConnectionId,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Vec<Count>> {
        self.0.counts(connection, from, until).await
    }

    async fn counts_run_ahead(&self, connection: &ConnectionId) -> Result<bool> {
        self.0.inner().counts_run_ahead(connection).await
    }

    async fn positions(&self, connection: &ConnectionId) -> Result<Positions> {
        self.0.inner().positions(connection).await
    }

    async fn forget(&self, job: &ConnectionId, schema: Option<&str>) -> Result<()> {
        self.0.forget(job, schema).await
    }

    async fn query(&self, sql: &str) -> Result<QueryStream> {
        self.0.inner().query(sql).await
    }
}
