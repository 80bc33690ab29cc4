//! The load: rows, seen ids, counts and positions in one transaction, behind the fence.
//!
//! ```text
//! begin ─ fence ─ positions ─ added rows ─ merged rows ─ swaps ─ replacements ─ seen ids ─ counts ─ commit
//! ```
//! The fence comes first, so that a loader whose time is over writes nothing. Tables that are merged come
//! last, since two connections may merge into one (`users`) and wait for each other from there on; of a table that a
//! stream now merges into and now adds to, all parts do, in their order. A crash anywhere before the commit leaves no
//! trace; after it, `resume` answers with the new positions.

use std::collections::BTreeSet;

use millrace_connector::{Load, LoadReport, TableName};
use millrace_service::crash_point;

use super::error::Failure;
use super::keys::key_of;
use super::positions::{self, OwnTables};
use super::seen::{NewRun, Remembered};
use super::targets::Targets;
use super::work::Line;
use super::{books, seen, swap, write};

/// All of it or nothing.
pub(super) async fn run(
    line: &mut Line,
    own: &OwnTables,
    load: &Load,
) -> Result<(LoadReport, Remembered), Failure> {
    // Sorted before the fence's row is locked.
    let new = NewRun::of(&load.seen).await?;
    let mut work = line.begin().await?;
    let connection = positions::pass_fence(&mut work, own, &load.connection, load.epoch).await?;
    crash_point("before-offset");
    positions::advance(&mut work, own, &load.connection, &load.ranges).await?;
    crash_point("after-offset");
    let targets = Targets::of(&mut work, load.tables.iter().filter(|table| write::has_rows(table))).await?;
    let keyed = load.tables.iter().filter(|table| key_of(&table.write).is_some());
    let merged: BTreeSet<&TableName> = keyed.map(|table| &table.name).collect();
    for table in load.tables.iter().filter(|table| !merged.contains(&table.name)) {
        write::write_table(&mut work, own, &targets, table).await?;
        crash_point("between-tables");
    }
    let replaced = load.replacements.iter().map(|replacement| &replacement.to);
    write::one_merge_at_a_time(&mut work, merged.iter().copied().chain(replaced)).await?;
    for table in load.tables.iter().filter(|table| merged.contains(&table.name)) {
        write::write_table(&mut work, own, &targets, table).await?;
        crash_point("between-tables");
    }
    for swap in &load.swaps {
        swap::swap(&mut work, own, swap).await?;
    }
    for replacement in &load.replacements {
        swap::replace(&mut work, replacement).await?;
    }
    let remembered = seen::remember(&mut work, own, connection, new, load.at.date_naive()).await?;
    books::add_counts(&mut work, own, &load.connection, &load.counts).await?;
    crash_point("before-sql-commit");
    let report = work.commit().await?;
    crash_point("after-sql-commit");
    Ok((report, remembered))
}
