//! The load: rows, seen ids, counts and positions in one transaction, behind the fence.
//!
//! ```text
//! begin ─ fence ─ positions ─ table ─ table ─ … ─ swaps ─ seen ids ─ counts ─ commit
//! ```
//! The fence comes first, so that a loader whose time is over writes nothing. A crash anywhere before the
//! commit leaves no trace; after it, `resume` answers with the new positions.

use millrace_connector::Load;
use millrace_service::crash_point;
use tokio_postgres::Client;

use super::error::Failure;
use super::positions::{self, OwnTables};
use super::{seen, write};

/// All of it or nothing.
pub(super) async fn run(
    client: &mut Client,
    own: &OwnTables,
    made: &seen::MadeDays,
    load: &Load,
) -> Result<(), Failure> {
    let day = load.at.date_naive();
    if !load.seen.is_empty() {
        seen::prepare_day(client, own, made, day).await?;
    }
    let transaction = client.transaction().await?;
    let connection = positions::pass_fence(&transaction, own, &load.connection, load.epoch).await?;
    positions::advance(&transaction, own, &load.connection, &load.ranges).await?;
    for table in &load.tables {
        write::write_table(&transaction, own, table).await?;
        crash_point("between-tables");
    }
    for swap in &load.swaps {
        write::swap(&transaction, own, swap).await?;
    }
    seen::remember(&transaction, own, connection, &load.seen, day).await?;
    positions::add_counts(&transaction, own, &load.connection, &load.counts).await?;
    crash_point("before-sql-commit");
    transaction.commit().await?;
    crash_point("after-sql-commit");
    Ok(())
}
