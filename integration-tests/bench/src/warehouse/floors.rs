//! What cannot be undercut with the same parts, and what others would load with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::events::TABLE;
use super::measured::{self, Cost};
use super::postgres::Postgres;
use crate::error::BenchError;

/// The tables that a load fills.
const TABLES: [&str; 2] = ["tracks", TABLE];

/// Which bytes go through COPY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Binary,
    Text,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::Text => "text",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Binary => "floor: raw COPY of the same rows, binary",
            Self::Text => "floor: `psql \\copy` of the same rows, text",
        }
    }
}

/// Writes the loaded tables into files.
pub(crate) fn export(server: &Postgres, folder: &Path) -> Result<(), BenchError> {
    for format in [Format::Binary, Format::Text] {
        let commands = TABLES.map(|table| {
            format!(
                "\\copy web.{table} TO '{}' (FORMAT {})",
                file(folder, table, format).display(),
                format.name()
            )
        });
        measured::run("psql", server.psql(&commands), None)?;
    }
    Ok(())
}

/// Copies the rows into empty tables that are otherwise equal, in one transaction.
pub(crate) fn copy(server: &Postgres, folder: &Path, format: Format, rows: i64) -> Result<Cost, BenchError> {
    server.ask("DROP SCHEMA IF EXISTS floor CASCADE")?;
    server.ask("CREATE SCHEMA floor")?;
    for table in TABLES {
        server.ask(&format!("CREATE TABLE floor.{table} (LIKE web.{table} INCLUDING ALL)"))?;
    }
    server.settle()?;
    let commands = TABLES.map(|table| {
        format!(
            "\\copy floor.{table} FROM '{}' (FORMAT {})",
            file(folder, table, format).display(),
            format.name()
        )
    });
    let copied = measured::run(format.title(), server.psql(&commands), Some(server))?;
    for table in TABLES {
        count(server, &format!("floor.{table}"), rows, format.title())?;
    }
    server.ask("DROP SCHEMA floor CASCADE")?;
    Ok(copied.cost)
}

fn file(folder: &Path, table: &str, format: Format) -> PathBuf {
    folder.join(format!("{table}.{}", format.name()))
}

fn count(server: &Postgres, table: &str, rows: i64, who: &str) -> Result<(), BenchError> {
    let found = server.ask(&format!("SELECT count(*) FROM {table}"))?;
    if found == rows.to_string() {
        return Ok(());
    }
    Err(BenchError::Void(format!("{who}: {table} has {found} rows, not {rows}")))
}

/// librdkafka's consumer alone, in a process of its own.
pub(crate) fn consumer(brokers: &str, topic: &str, messages: i64) -> Result<Cost, BenchError> {
    let program = std::env::current_exe().map_err(BenchError::io("find this program"))?;
    let mut command = Command::new(program);
    command.args(["consumer-floor", "--brokers", brokers, "--topic", topic]);
    command.args(["--messages", &messages.to_string()]);
    Ok(measured::run("the consumer", command, None)?.cost)
}

/// The title of a peer's row, how many rows it loaded, and what that cost.
pub(crate) type PeerCosts = BTreeMap<&'static str, (i64, Vec<Cost>)>;

/// Others, where they are installed.
pub(crate) struct Peers<'p> {
    /// As `peers/prepare.sh` prints it.
    pub(crate) installed: &'p Path,
    /// The events' bodies, a line each.
    pub(crate) bodies: &'p Path,
    pub(crate) folder: &'p Path,
}

impl Peers<'_> {
    /// From JSON lines to one Parquet file.
    pub(crate) fn parquet(&self, rows: i64, costs: &mut PeerCosts) -> Result<(), BenchError> {
        for (title, script) in [
            ("floor: pyarrow `read_json` and `write_table`, zstd", "arrow_parquet.py"),
            ("floor: DuckDB `COPY`, zstd", "duckdb_parquet.py"),
        ] {
            let out = self.folder.join("peer.parquet");
            let mut command = self.python(script);
            command.arg(self.bodies).arg(&out);
            let measured = measured::run(title, command, None)?;
            if measured.output.trim() != rows.to_string() {
                return Err(BenchError::Void(format!("{title} wrote {} rows", measured.output.trim())));
            }
            add(costs, title, rows, measured.cost);
        }
        Ok(())
    }

    /// From JSON lines, or a tap's messages, to PostgreSQL.
    pub(crate) fn postgres(
        &self,
        server: &Postgres,
        rows: i64,
        costs: &mut PeerCosts,
    ) -> Result<(), BenchError> {
        for (title, how) in [
            ("peer: dlt, JSON, append", "json"),
            ("peer: dlt, Arrow and CSV, append", "arrow"),
            ("peer: dlt, JSON, merge by id", "merge"),
        ] {
            server.fresh()?;
            let mut command = self.python("dlt_postgres.py");
            command.arg(self.bodies).args([&rows.to_string(), &server.url, how]);
            let cost = measured::run(title, command, Some(server))?.cost;
            count(server, "peer.events", rows, title)?;
            add(costs, title, rows, cost);
        }
        let title = "peer: pipelinewise-target-postgres";
        server.fresh()?;
        let cost = measured::run(title, self.singer(server, rows)?, Some(server))?.cost;
        count(server, "peer.events", rows, title)?;
        add(costs, title, rows, cost);
        Ok(())
    }

    fn python(&self, script: &str) -> Command {
        let mut command = Command::new(self.installed.join("dlt/bin/python"));
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(script));
        command
    }

    /// The target with a tap's messages, which are written beforehand, as its input.
    fn singer(&self, server: &Postgres, rows: i64) -> Result<Command, BenchError> {
        let messages = self.folder.join("messages.jsonl");
        if !messages.exists() {
            let mut tap = self.python("singer.py");
            tap.arg(self.bodies).arg(rows.to_string());
            let output = measured::run("the tap", tap, None)?.output;
            std::fs::write(&messages, output).map_err(BenchError::io("write the tap's messages"))?;
        }
        let (host, port) = server.address();
        let config = serde_json::json!({
            "host": host, "port": port, "user": "bench", "password": "none", "dbname": "bench",
            "default_target_schema": "peer", "batch_size_rows": 100_000, "hard_delete": false,
            "add_metadata_columns": false,
        });
        let file = self.folder.join("target.json");
        std::fs::write(&file, config.to_string()).map_err(BenchError::io("write the target's config"))?;
        let mut command = Command::new("sh");
        command.arg("-c").arg(r#"exec "$0" --config "$1" < "$2""#);
        command.arg(self.installed.join("pipelinewise/bin/target-postgres")).arg(file).arg(messages);
        Ok(command)
    }
}

fn add(costs: &mut PeerCosts, title: &'static str, rows: i64, cost: Cost) {
    costs.entry(title).or_insert_with(|| (rows, Vec::new())).1.push(cost);
}
