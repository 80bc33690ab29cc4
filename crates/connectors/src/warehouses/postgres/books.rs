//! The books: how many items of a source and hour ended in which way.

use chrono::{DateTime, Utc};
use millrace_connector::{ConnectorError, Count};
use millrace_event_model::{ConnectionId, Disposition};
use serde_json::Value;
use tokio_postgres::{Client, Row};

use super::error::Failure;
use super::positions::OwnTables;
use super::work::Work;

/// Adds to the books.
pub(super) async fn add_counts(
    work: &mut Work<'_>,
    own: &OwnTables,
    connection: &ConnectionId,
    counts: &[Count],
) -> Result<(), Failure> {
    if counts.is_empty() {
        return Ok(());
    }
    let sources: Vec<&str> = counts.iter().map(|count| count.source.as_str()).collect();
    let hours: Vec<_> = counts.iter().map(|count| count.hour).collect();
    let dispositions: Vec<&str> = counts.iter().map(|count| count.disposition.as_str()).collect();
    let items: Vec<i64> = counts.iter().map(|count| count.items.cast_signed()).collect();
    let conflicts: Vec<i64> = counts.iter().map(|count| count.conflicts.cast_signed()).collect();
    // Summed first: an upsert may not touch a row twice.
    let upsert = format!(
        "INSERT INTO {} AS c (connection, source, hour, disposition, items, conflicts)
         SELECT $1, source, hour, disposition, sum(items)::bigint, sum(conflicts)::bigint
         FROM unnest($2::text[], $3::timestamptz[], $4::text[], $5::bigint[], $6::bigint[])
             AS n (source, hour, disposition, items, conflicts)
         GROUP BY source, hour, disposition
         ON CONFLICT (connection, source, hour, disposition)
         DO UPDATE SET items = c.items + excluded.items, conflicts = c.conflicts + excluded.conflicts",
        own.table("counts")
    );
    work.execute(&upsert, &[&connection.as_str(), &sources, &hours, &dispositions, &items, &conflicts])
        .await?;
    Ok(())
}

/// The lines for the hours from `from` up to `until`, in the order of hour, source and disposition. None where
/// nothing was ever loaded.
pub(super) async fn read(
    client: &Client,
    own: &OwnTables,
    connection: &ConnectionId,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<Vec<Count>, Failure> {
    let table = own.table("counts");
    let made = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&table]).await?;
    if !made.try_get::<_, bool>(0)? {
        return Ok(Vec::new());
    }
    let select = format!(
        "SELECT source, hour, disposition, items, conflicts FROM {table}
         WHERE connection = $1 AND hour >= $2 AND hour < $3 ORDER BY hour, source, disposition"
    );
    let rows = client.query(&select, &[&connection.as_str(), &from, &until]).await;
    rows.map_err(|error| Failure::of(error, &select))?.iter().map(count_of).collect()
}

fn count_of(row: &Row) -> Result<Count, Failure> {
    let (source, disposition): (String, String) = (row.try_get(0)?, row.try_get(2)?);
    let (items, conflicts): (i64, i64) = (row.try_get(3)?, row.try_get(4)?);
    let unknown = |what: &str, found: &str| {
        ConnectorError::pause(
            "counts",
            format!("the table of counts has the {what} {found:?}, which is none of ours"),
        )
    };
    let named: Option<Disposition> = serde_json::from_value(Value::String(disposition.clone())).ok();
    Ok(Count {
        source: source.parse().map_err(|_| unknown("source", &source))?,
        hour: row.try_get(1)?,
        disposition: named.ok_or_else(|| unknown("disposition", &disposition))?,
        conflicts: conflicts.cast_unsigned(),
        items: items.cast_unsigned(),
    })
}
