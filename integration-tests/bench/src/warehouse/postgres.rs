//! A PostgreSQL of the benchmark's own, and its client program.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::error::BenchError;
use crate::process::{self, Cpu};

/// The database that is made anew for each run, and the role that owns it.
const NAME: &str = "bench";

/// See the module. Stopped when it is dropped.
pub(crate) struct Postgres {
    /// Of the superuser.
    server_url: String,
    /// Of the role, in its database.
    pub(crate) url: String,
    folder: TempDir,
}

impl Postgres {
    /// As the script of the tests starts it, with its durable settings.
    pub(crate) fn start() -> Result<Self, BenchError> {
        let folder = tempfile::Builder::new()
            .prefix("millrace-bench-postgres-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir()
            .map_err(BenchError::io("make a folder for PostgreSQL"))?;
        let output = script("start", folder.path())?;
        let url = output.lines().find_map(|line| line.strip_prefix("export MILLRACE_TEST_POSTGRES="));
        let Some(server_url) = url.map(str::to_owned) else {
            return Err(BenchError::Failed(format!(
                "there is no PostgreSQL to measure with: {}",
                output.trim()
            )));
        };
        let address = server_url.split(['@', '/']).nth(3).unwrap_or_default();
        let url = format!("postgres://{NAME}@{address}/{NAME}");
        let postgres = Self { server_url, url, folder };
        postgres.ask_server(&format!("CREATE ROLE {NAME} LOGIN"))?;
        Ok(postgres)
    }

    /// Its host and port.
    pub(crate) fn address(&self) -> (&str, &str) {
        let address = self.server_url.split(['@', '/']).nth(3).unwrap_or_default();
        address.split_once(':').unwrap_or((address, "5432"))
    }

    /// An empty database, and nothing of the last one left to be written.
    pub(crate) fn fresh(&self) -> Result<(), BenchError> {
        for statement in [
            format!("DROP DATABASE IF EXISTS {NAME} WITH (FORCE)"),
            format!("CREATE DATABASE {NAME} OWNER {NAME}"),
            "CHECKPOINT".to_owned(),
        ] {
            self.ask_server(&statement)?;
        }
        Ok(())
    }

    /// Everything of the last run is on disk: the next one does not pay for it.
    pub(crate) fn settle(&self) -> Result<(), BenchError> {
        self.ask_server("CHECKPOINT").map(|_| ())
    }

    fn ask_server(&self, sql: &str) -> Result<String, BenchError> {
        ask(&self.server_url, sql)
    }

    /// The answer to a question to the database, without formatting, columns parted by `|`.
    pub(crate) fn ask(&self, sql: &str) -> Result<String, BenchError> {
        ask(&self.url, sql)
    }

    /// The client program with these commands in one transaction.
    pub(crate) fn psql(&self, commands: &[String]) -> Command {
        let mut psql = psql(&self.url);
        psql.arg("--single-transaction");
        for command in commands {
            psql.args(["-c", command]);
        }
        psql
    }

    /// CPU seconds of all its processes, those that have ended included.
    pub(crate) fn cpu_s(&self) -> Result<f64, BenchError> {
        let file = self.folder.path().join("server/db/postmaster.pid");
        let text = std::fs::read_to_string(&file).map_err(BenchError::io("read postmaster.pid"))?;
        let pid = text.lines().next().and_then(|line| line.trim().parse().ok());
        let Some(postmaster) = pid else {
            return Err(BenchError::Failed("postmaster.pid has no number".to_owned()));
        };
        let living = process::children(postmaster)?.into_iter().filter_map(|pid| Cpu::of(pid).ok());
        let living: f64 = living.map(Cpu::seconds).sum();
        Ok(living + Cpu::with_children(postmaster)?.seconds())
    }

    /// What bytes its tables and their indexes take.
    pub(crate) fn table_bytes(&self, like: &str) -> Result<u64, BenchError> {
        let sql = format!(
            "SELECT COALESCE(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c \
             JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind IN ('r', 'p') AND n.nspname || '.' || c.relname LIKE '{like}'"
        );
        Ok(self.ask(&sql)?.parse().unwrap_or_default())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = script("stop", self.folder.path());
    }
}

fn psql(url: &str) -> Command {
    let mut psql = Command::new("psql");
    psql.args([url, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]);
    psql
}

fn ask(url: &str, sql: &str) -> Result<String, BenchError> {
    let output = psql(url).args(["-c", sql]).output().map_err(BenchError::io("run psql"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(BenchError::Failed(format!("PostgreSQL refuses {sql}: {}", text.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn script(command: &str, folder: &Path) -> Result<String, BenchError> {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../servers/postgres.sh");
    // Its processes are measured, so it is not one that others use.
    let output = Command::new("bash")
        .arg(script)
        .arg(command)
        .arg(folder.join("server"))
        .env_remove("MILLRACE_TEST_POSTGRES")
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(BenchError::io("run servers/postgres.sh"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
