//! What is measured: `millrace load --once`, the built binary, into an empty warehouse.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::events::{Sums, TABLE, sums_of, sums_of_tracks};
use super::measured::{self, Cost};
use super::postgres::Postgres;
use crate::error::BenchError;

/// A way to load. Each is a row of the table of figures.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Way {
    /// Into PostgreSQL, as a connection is by default: ids are remembered and duplicates dropped.
    PostgresDedup,
    /// Into PostgreSQL with `dedup: false`.
    Postgres,
    /// Into the lake, as a connection is by default.
    LakeDedup,
    /// Into the lake with `dedup: false`.
    Lake,
}

impl Way {
    pub(crate) const ALL: [Self; 4] = [Self::PostgresDedup, Self::Postgres, Self::LakeDedup, Self::Lake];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::PostgresDedup => "Kafka to PostgreSQL, dedup on",
            Self::Postgres => "Kafka to PostgreSQL, dedup off",
            Self::LakeDedup => "Kafka to the lake, dedup on",
            Self::Lake => "Kafka to the lake, dedup off",
        }
    }

    pub(crate) fn is_postgres(self) -> bool {
        matches!(self, Self::PostgresDedup | Self::Postgres)
    }

    fn dedup(self) -> bool {
        matches!(self, Self::PostgresDedup | Self::LakeDedup)
    }
}

/// A config and a folder for one load.
pub(crate) struct Loader<'l> {
    pub(crate) binary: &'l Path,
    pub(crate) folder: PathBuf,
    pub(crate) way: Way,
    pub(crate) brokers: &'l str,
    pub(crate) workspace: &'l str,
    pub(crate) server: &'l Postgres,
}

impl Loader<'_> {
    /// Loads the topic, and stops the benchmark unless the warehouse then holds what the topic does.
    pub(crate) fn load(&self, expected: Sums) -> Result<Cost, BenchError> {
        std::fs::create_dir_all(&self.folder).map_err(BenchError::io("make the load's folder"))?;
        std::fs::write(self.folder.join("millrace.yaml"), self.config())
            .map_err(BenchError::io("write the config"))?;
        let server = self.way.is_postgres().then_some(self.server);
        let load = self.command(&["load", "--once", "-o", "json"]);
        let measured = measured::run(self.way.title(), load, server)?;
        self.check(expected)?;
        Ok(measured.cost)
    }

    fn config(&self) -> String {
        let (brokers, workspace, folder) = (self.brokers, self.workspace, self.folder.display());
        let (kind, url) = match self.way.is_postgres() {
            true => ("postgres", self.server.url.clone()),
            false => ("lake", self.lake().display().to_string()),
        };
        // What is not said is the default, and a binary that has no such option yet can be measured, too.
        let dedup = if self.way.dedup() { "" } else { ", dedup: false" };
        format!(
            r#"workspace: {workspace}
kafka: {{ brokers: "{brokers}", replication: accept }}
state: "{folder}/state"
sources:
  - {{ id: bench-00, kind: http, write_key: "${{WRITE_KEY}}" }}
warehouses:
  - {{ id: main, kind: {kind}, settings: {{ url: "${{WAREHOUSE_URL:-{url}}}" }} }}
connections:
  - {{ from: bench-00, to: main, schema: web{dedup} }}
"#
        )
    }

    /// Where a lake is.
    pub(crate) fn lake(&self) -> PathBuf {
        self.folder.join("lake")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.binary);
        command
            .args(arguments)
            .current_dir(&self.folder)
            .env("MILLRACE_CONFIG", self.folder.join("millrace.yaml"))
            .env("MILLRACE_DATA_DIR", self.folder.join("data"))
            .env("MILLRACE_LOG", "error")
            .env("WRITE_KEY", "of-nobody");
        command
    }

    fn check(&self, expected: Sums) -> Result<(), BenchError> {
        let found = self.ask(&sums_of(&format!("web.{TABLE}")))?;
        let of = |answer: &Value, column: &str| answer[column].as_i64().unwrap_or_default();
        let sums = Sums {
            events: of(&found, "events"),
            quantity: of(&found, "quantity"),
            cents: of(&found, "cents"),
            characters: of(&found, "characters"),
            ids: of(&found, "ids"),
        };
        let tracks = self.ask(&sums_of_tracks("web.tracks"))?;
        let right = sums == expected
            && of(&found, "distinct_ids") == expected.events
            && of(&tracks, "events") == expected.events
            && of(&tracks, "distinct_ids") == expected.events
            && of(&tracks, "ids") == expected.ids;
        if right {
            return Ok(());
        }
        Err(BenchError::Void(format!(
            "{}: the topic holds {expected:?}, the warehouse {found} and {tracks}",
            self.way.title()
        )))
    }

    /// The one row that answers a question, by the warehouse's own hand.
    fn ask(&self, sql: &str) -> Result<Value, BenchError> {
        let failed = |text: &str| BenchError::Failed(format!("{} cannot be asked: {text}", self.way.title()));
        if self.way.is_postgres() {
            let answer = self.server.ask(&format!("SELECT row_to_json(t) FROM ({sql}) t"))?;
            return serde_json::from_str(&answer).map_err(|_| failed(&answer));
        }
        let output = self
            .command(&["query", "-o", "json", sql])
            .stdin(Stdio::null())
            .output()
            .map_err(BenchError::io("run a query"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(text.trim())
            .map_err(|_| failed(&format!("{text} {}", String::from_utf8_lossy(&output.stderr))))
    }
}
