//! What a connection loaded, for who called it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use millrace_event_model::{ConnectionId, Disposition};

use crate::runs::RunId;
use crate::session::Totals;

/// What a connection loaded in one run.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Which.
    pub connection: ConnectionId,
    /// Items whose rows are in the warehouse.
    pub loaded: u64,
    /// Items that were there already.
    pub duplicates: u64,
    /// Items in the dead letters.
    pub rejected: u64,
    /// Items that were left out: by the user, the client or the connection's `when`; or they make no row.
    pub filtered: u64,
    /// Of these, those of users who have denied a consent that the warehouse needs.
    pub no_consent: u64,
    /// Of these, those whose `integrations` object leaves the warehouse out.
    pub integrations: u64,
    /// Rows of attempts that a newer one replaced.
    pub superseded: u64,
    /// Items that retention took.
    pub expired: u64,
    /// Loads that were committed.
    pub batches: u64,
    /// Statements that were sent, or commits that were made; 0 where the warehouse does not count them.
    pub statements: u64,
    /// Bytes of rows, in the warehouse's form; 0 where the warehouse does not count them.
    pub bytes: u64,
    /// Nothing was loaded because a window excludes it, until then.
    pub excluded_until: Option<DateTime<Utc>>,
    /// The run in the log; none where there was nothing to load.
    pub run: Option<RunId>,
    /// Rows by table.
    pub tables: BTreeMap<String, u64>,
}

impl Report {
    pub(crate) fn of(connection: &ConnectionId, totals: &Totals, run: Option<RunId>) -> Self {
        let total = |disposition| totals.books.total(disposition);
        Self {
            connection: connection.clone(),
            loaded: total(Disposition::Loaded),
            duplicates: total(Disposition::Duplicate),
            rejected: total(Disposition::Rejected),
            filtered: total(Disposition::Filtered),
            no_consent: totals.books.left_out().no_consent,
            integrations: totals.books.left_out().integrations,
            superseded: total(Disposition::Superseded),
            expired: total(Disposition::Expired),
            batches: totals.batches,
            statements: totals.report.statements,
            bytes: totals.report.bytes,
            excluded_until: None,
            run,
            tables: totals.rows.clone(),
        }
    }
}
