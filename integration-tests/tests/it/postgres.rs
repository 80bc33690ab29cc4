//! A database of one's own on the PostgreSQL server that `./test` lends.

use serde_json::Value;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::stack::lent;

/// A database that only one test uses.
pub(crate) struct Database {
    pub(crate) url: String,
    runtime: Runtime,
    client: Client,
}

impl Database {
    /// Makes the database `name`, or says that the test is skipped.
    pub(crate) fn new(name: &str) -> Option<Self> {
        let server = lent("MILLRACE_TEST_POSTGRES")?;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let name = format!("it_{name}_{}", std::process::id());
        let (base, _) = server.rsplit_once('/').expect("postgres://…/database");
        let url = format!("{base}/{name}");
        let client = runtime.block_on(async {
            let maintenance = connect(&server).await;
            maintenance.batch_execute(&format!("DROP DATABASE IF EXISTS {name}")).await.unwrap();
            maintenance.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
            connect(&url).await
        });
        Some(Self { url, runtime, client })
    }

    /// The rows of a query as texts; an error (no such table yet) is no rows.
    pub(crate) fn rows(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        let messages = self.runtime.block_on(self.client.simple_query(sql)).unwrap_or_default();
        messages
            .iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => {
                    Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect())
                }
                _ => None,
            })
            .collect()
    }

    /// Each row as a JSON object, by PostgreSQL's own hand.
    pub(crate) fn objects(&self, sql: &str) -> Vec<Value> {
        let rows = self.rows(&format!("SELECT row_to_json(t) FROM ({sql}) t"));
        rows.iter().map(|row| serde_json::from_str(row[0].as_deref().unwrap()).unwrap()).collect()
    }

    /// Runs statements that return nothing.
    pub(crate) fn execute(&self, statements: &str) {
        self.runtime.block_on(self.client.batch_execute(statements)).unwrap();
    }
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}
