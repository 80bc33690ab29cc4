//! What is kept of a run.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, Utc};
use millrace_connector::OffsetRange;
use millrace_event_model::{ConnectionId, Disposition};
use millrace_state::{RunLog, Store};
use serde::{Deserialize, Serialize};

use crate::Error;

/// A run's name: when it began, and letters that tell it from others of that second. Names sort by time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(String);

/// Letters and digits that cannot be taken for each other.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Letters of a run's name: one in a billion that two runs of one second have the same.
const LETTERS: usize = 6;

impl RunId {
    /// The name of the run that began at `at`; `of` is whatever tells it from others.
    #[must_use]
    pub(crate) fn new(at: DateTime<Utc>, of: &str) -> Self {
        let hash = blake3::hash(format!("{of} {}", at.timestamp_micros()).as_bytes());
        let letter =
            |byte: &u8| ALPHABET.get(usize::from(byte % 32)).map_or('a', |letter| char::from(*letter));
        let letters: String = hash.as_bytes().iter().take(LETTERS).map(letter).collect();
        Self(format!("{}-{letters}", Self::second(at)))
    }

    /// Sorts before the runs of this second, and behind those before it.
    #[must_use]
    pub fn second(at: DateTime<Utc>) -> String {
        at.format("%Y%m%d-%H%M%S").to_string()
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What was done, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Its name.
    pub id: RunId,
    /// The connection that was loaded.
    pub connection: ConnectionId,
    /// The job that it was part of; none for what comes in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// How it stands.
    pub state: RunState,
    /// When it began.
    pub began: DateTime<Utc>,
    /// When it last did something.
    pub ended: DateTime<Utc>,
    /// The process.
    pub holder: String,
    /// The lease's epoch.
    pub epoch: u64,
    /// Attempts, failed ones included.
    pub attempts: u64,
    /// Loads that were committed.
    pub loads: u64,
    /// Items by how they ended.
    #[serde(default)]
    pub items: BTreeMap<Disposition, u64>,
    /// Of those that were filtered, those of users who have denied a consent that the warehouse needs.
    #[serde(default)]
    pub no_consent: u64,
    /// Of those that were filtered, those whose `integrations` object leaves the warehouse out.
    #[serde(default)]
    pub integrations: u64,
    /// Duplicates whose content was another.
    #[serde(default)]
    pub conflicts: u64,
    /// Rows by table.
    #[serde(default)]
    pub rows: BTreeMap<String, u64>,
    /// Statements that were sent, or commits that were made; 0 where the warehouse does not count them.
    #[serde(default)]
    pub statements: u64,
    /// Bytes of rows, in the warehouse's form; 0 where the warehouse does not count them.
    #[serde(default)]
    pub bytes: u64,
    /// The offsets whose items are loaded, from the first load's first to the last load's last.
    #[serde(default)]
    pub ranges: Vec<OffsetRange>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<RunError>,
}

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// At work; nothing of the load in hand is committed yet.
    Running,
    /// All that it began is committed.
    Loaded,
    /// It failed; what its counts say was committed before.
    Failed,
    /// Its process ended in the middle of it. The load in hand was committed or not: the next run knows.
    Interrupted,
}

impl RunState {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Loaded => "loaded",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunError {
    /// A short name to group by, such as `warehouse` or `gap`.
    pub class: String,
    /// The connector's name for it, such as `connection_refused`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// A sentence with all that lies beneath it.
    pub message: String,
    /// The statement that failed, without its values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<String>,
    /// What happens next.
    pub next: NextAttempt,
}

impl RunError {
    pub(crate) fn of(error: &Error, next: NextAttempt) -> Self {
        let (code, statement) = match error {
            Error::Warehouse(error) => (Some(error.code.clone()), error.statement.clone()),
            _ => (None, None),
        };
        Self { class: error.class().to_owned(), code, message: error.full(), statement, next }
    }
}

/// What happens after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NextAttempt {
    /// It is tried again by itself, with growing pauses.
    Retry,
    /// Somebody has to act, or another process has taken over; it is tried again every 15 s all the same.
    StandBack,
    /// Nothing: `--once` or a job gave up. It goes on where it stopped when it is called again.
    GaveUp,
}

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobKind {
    /// Loads again what the connection has loaded.
    Replay,
    /// Loads what came before the connection began.
    Backfill,
}

/// The log of a connection's runs, those of its jobs included. `workspace` is the state's root.
#[must_use]
pub fn run_log(workspace: &Store, connection: &str) -> RunLog<RunRecord> {
    RunLog::new(workspace.child("connections").child(connection).child("runs"))
}
