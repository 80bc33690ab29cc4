//! A transaction that counts what it sends and knows which statement failed.

use std::collections::HashMap;

use millrace_connector::LoadReport;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, CopyInSink, Error, Row, Statement, Transaction};

use super::error::Failure;

/// A server's session with the statements that it has prepared: those of our own tables, some dozen.
pub(super) struct Line {
    /// The connection.
    pub(super) client: Client,
    prepared: HashMap<String, Statement>,
}

impl Line {
    pub(super) fn new(client: Client) -> Self {
        Self { client, prepared: HashMap::new() }
    }

    /// Begins a transaction.
    pub(super) async fn begin(&mut self) -> Result<Work<'_>, Error> {
        let transaction = self.client.transaction().await?;
        Ok(Work { transaction, prepared: &mut self.prepared, report: LoadReport::default() })
    }
}

/// See the module's text. Dropped, it is undone.
pub(super) struct Work<'a> {
    transaction: Transaction<'a>,
    prepared: &'a mut HashMap<String, Statement>,
    report: LoadReport,
}

type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

impl Work<'_> {
    /// Runs a statement that has no parameters, or several of them.
    pub(super) async fn run(&mut self, sql: &str) -> Result<(), Failure> {
        self.report.statements += 1;
        self.transaction.batch_execute(sql).await.map_err(|error| Failure::of(error, sql))
    }

    /// Rows of a statement that is always the same but for its parameters: it is prepared once a session.
    pub(super) async fn query(&mut self, sql: &str, parameters: Parameters<'_>) -> Result<Vec<Row>, Failure> {
        let statement = self.prepare(sql).await?;
        self.report.statements += 1;
        self.transaction.query(&statement, parameters).await.map_err(|error| Failure::of(error, sql))
    }

    /// As [`query`](Self::query), of at most one row.
    pub(super) async fn query_opt(
        &mut self,
        sql: &str,
        parameters: Parameters<'_>,
    ) -> Result<Option<Row>, Failure> {
        Ok(self.query(sql, parameters).await?.into_iter().next())
    }

    /// As [`query`](Self::query); how many rows were changed.
    pub(super) async fn execute(&mut self, sql: &str, parameters: Parameters<'_>) -> Result<u64, Failure> {
        let statement = self.prepare(sql).await?;
        self.report.statements += 1;
        self.transaction.execute(&statement, parameters).await.map_err(|error| Failure::of(error, sql))
    }

    /// Begins a COPY.
    pub(super) async fn copy_in(&mut self, sql: &str) -> Result<CopyInSink<bytes::Bytes>, Failure> {
        self.report.statements += 1;
        self.transaction.copy_in(sql).await.map_err(|error| Failure::of(error, sql))
    }

    /// So much was sent by COPY.
    pub(super) fn note_bytes(&mut self, bytes: usize) {
        self.report.bytes += bytes as u64;
    }

    /// Makes all of it durable.
    pub(super) async fn commit(self) -> Result<LoadReport, Error> {
        self.transaction.commit().await?;
        Ok(self.report)
    }

    async fn prepare(&mut self, sql: &str) -> Result<Statement, Failure> {
        if let Some(statement) = self.prepared.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.transaction.prepare(sql).await.map_err(|error| Failure::of(error, sql))?;
        self.prepared.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }
}
