//! A database of one's own on the PostgreSQL server that `./test` lends, and a role that owns it and is
//! nothing more: a loader needs no superuser.

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
        Some(Self::on(&lent("MILLRACE_TEST_POSTGRES")?, name))
    }

    /// Makes the database `name` on a server whose superuser's URL this is.
    pub(crate) fn on(server: &str, name: &str) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let name = format!("it_{name}_{}", std::process::id());
        let (_, address) = server.rsplit_once('@').expect("postgres://user@host:port/database");
        let (address, _) = address.split_once('/').expect("postgres://user@host:port/database");
        let url = format!("postgres://{name}@{address}/{name}");
        let client = runtime.block_on(async {
            let maintenance = connect(server).await;
            for statement in [
                format!("DROP DATABASE IF EXISTS {name}"),
                format!("DROP ROLE IF EXISTS {name}"),
                format!("CREATE ROLE {name} LOGIN"),
                format!("CREATE DATABASE {name} OWNER {name}"),
            ] {
                maintenance.batch_execute(&statement).await.unwrap();
            }
            connect(&url).await
        });
        Self { url, runtime, client }
    }

    /// The same database by way of another address.
    pub(crate) fn url_through(&self, address: &str) -> String {
        let (before, rest) = self.url.split_once('@').expect("postgres://user@host:port/database");
        let (_, database) = rest.split_once('/').expect("postgres://user@host:port/database");
        format!("{before}@{address}/{database}")
    }

    /// The same database in a new session: the server was away.
    pub(crate) fn reconnect(&mut self) {
        self.client = self.runtime.block_on(connect(&self.url));
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
