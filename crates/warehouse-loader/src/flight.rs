//! The one load of a connection that is on its way into the warehouse.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use millrace_connector::{ConnectorError, LoadReport, OffsetRange, Positions, SeenId, Warehouse};
use tokio::task::JoinHandle;

use crate::Error;
use crate::books::Books;
use crate::metrics::LoadSize;
use crate::session::Staged;

/// A load in the warehouse's hands. Its owner awaits it before anything else of the connection is loaded, or the
/// warehouse is asked how far it got.
#[derive(Debug)]
pub(crate) struct Flight {
    task: JoinHandle<Result<LoadReport, ConnectorError>>,
    size: LoadSize,
    books: Books,
    discarded: u64,
    ranges: Vec<OffsetRange>,
    /// The connection's, once it has landed.
    positions: Positions,
    seen: Arc<[SeenId]>,
    began: DateTime<Utc>,
}

/// A load that is durable, and what it took.
#[derive(Debug)]
pub(crate) struct Landed {
    pub(crate) size: LoadSize,
    pub(crate) books: Books,
    pub(crate) discarded: u64,
    pub(crate) report: LoadReport,
    /// What was read.
    pub(crate) ranges: Vec<OffsetRange>,
    /// Everything below is durable now.
    pub(crate) positions: Positions,
    /// When the warehouse was given it.
    pub(crate) began: DateTime<Utc>,
    /// When it was durable.
    pub(crate) at: DateTime<Utc>,
}

impl Flight {
    /// Gives a load to the warehouse.
    pub(crate) fn start(
        warehouse: Arc<dyn Warehouse>,
        staged: Staged,
        positions: Positions,
        began: DateTime<Utc>,
    ) -> Self {
        let Staged { load, books, discarded } = staged;
        let (size, ranges, seen) = (LoadSize::of(&load), load.ranges.clone(), load.seen.as_slice().into());
        let task = tokio::spawn(async move { warehouse.load(load).await });
        Self { task, size, books, discarded, ranges, positions, seen, began }
    }

    /// Where the connection will be.
    pub(crate) fn positions(&self) -> &Positions {
        &self.positions
    }

    /// The messages in it.
    pub(crate) fn seen(&self) -> &[SeenId] {
        &self.seen
    }

    /// Waits for its end. Dropped before, it can be called again; once it has ended, it must not.
    pub(crate) async fn ended(&mut self) -> Result<LoadReport, Error> {
        Ok((&mut self.task).await??)
    }

    /// What it was, now that it has ended well.
    pub(crate) fn land(self, report: LoadReport, at: DateTime<Utc>) -> Landed {
        let Self { size, books, discarded, ranges, positions, began, .. } = self;
        Landed { size, books, discarded, report, ranges, positions, began, at }
    }
}
