//! What the stage is told.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millrace_connector::Warehouse;
use millrace_event_model::{DestinationId, SyncId};
use millrace_service::Schedule;
use tokio::sync::watch;

/// All syncs of a process and what they share.
#[derive(Debug, Clone)]
pub struct Options {
    /// The syncs.
    pub syncs: Vec<Sync>,
    /// A folder for what a run spills: about the size of the mapped model. Emptied by each run.
    pub work_dir: PathBuf,
    /// This process's name in leases; unique among those that live.
    pub holder: String,
    /// Runs that go on at once; the others wait. Each spills its own model.
    pub max_runs: usize,
    /// How long a lease holds without renewal: how soon another process takes over after a crash.
    pub lease_ttl: Duration,
    /// How long a run waits for the outcomes of the one before. What has none by then is sent again.
    pub settle_timeout: Duration,
    /// Changes of one sync that are published and have no outcome yet; at this many, publishing waits.
    pub max_unsettled: u64,
    /// Rejected rows that a run stores as dead letters; beyond these it only counts them, since a model
    /// without keys would copy itself into the topic with every run.
    pub max_dead_letters: usize,
}

impl Options {
    /// Options with the usual bounds.
    #[must_use]
    pub fn new(syncs: Vec<Sync>, work_dir: PathBuf, holder: impl Into<String>) -> Self {
        Self {
            syncs,
            work_dir,
            holder: holder.into(),
            max_runs: 2,
            lease_ttl: Duration::from_secs(30),
            settle_timeout: Duration::from_secs(3600),
            max_unsettled: 50_000,
            max_dead_letters: 1000,
        }
    }
}

/// A model with its mapping and where it goes.
#[derive(Clone)]
pub struct Sync {
    /// Its name.
    pub id: SyncId,
    /// Where the model runs.
    pub warehouse: Arc<dyn Warehouse>,
    /// The SQL.
    pub model: String,
    /// The columns that make a row's identity; at least one.
    pub key: Vec<String>,
    /// Who is to have the changes.
    pub destination: DestinationId,
    /// Which changes are published.
    pub mode: Mode,
    /// Target path to column; empty: the row as it is.
    pub map: BTreeMap<String, String>,
    /// What makes it run.
    pub trigger: Trigger,
}

impl fmt::Debug for Sync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sync")
            .field("id", &self.id)
            .field("destination", &self.destination)
            .field("mode", &self.mode)
            .field("trigger", &self.trigger)
            .finish_non_exhaustive()
    }
}

/// Which changes are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// New and changed rows.
    Upsert,
    /// New rows.
    Insert,
    /// Changed rows.
    Update,
    /// New and changed rows, and deletes of those that are gone.
    Mirror,
    /// All rows in each run.
    Full,
}

/// What makes a sync run.
#[derive(Debug, Clone)]
pub enum Trigger {
    /// The clock. An interval also runs it at the start of the process; `manual` never runs it.
    Schedule(Schedule),
    /// Whenever this value changes, such as the number of a loader's commits, and at the start of the
    /// process. Changes during a run are one more run.
    Signal(watch::Receiver<u64>),
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::run::tests::Model;

    /// A sync of `people` with key `id`, to be changed by each test.
    pub(crate) fn sync() -> Sync {
        Sync {
            id: "people".parse().unwrap(),
            warehouse: Arc::new(Model::default()),
            model: "SELECT * FROM people".to_owned(),
            key: vec!["id".to_owned()],
            destination: "hook".parse().unwrap(),
            mode: Mode::Upsert,
            map: BTreeMap::new(),
            trigger: Trigger::Schedule(Schedule::Manual),
        }
    }
}
