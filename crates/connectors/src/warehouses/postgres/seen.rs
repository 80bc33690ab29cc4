//! Ids of the messages that are loaded, in a partition for each day, so that forgetting a day is dropping
//! a table.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use millrace_connector::SeenId;
use millrace_event_model::ConnectionId;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Transaction};

use super::copy::Value;
use super::ddl;
use super::positions::OwnTables;

/// How long an id is known (design §2.2).
const WINDOW: TimeDelta = TimeDelta::days(28);

/// A partition is dropped when no moment of its day is in the window any more.
const KEEP_DAYS: u64 = 29;

/// Days whose partition this process has made. Forgotten when a load fails: the database may be another
/// one by then, restored from a backup.
#[derive(Default)]
pub(super) struct MadeDays(Mutex<BTreeSet<NaiveDate>>);

impl MadeDays {
    fn contains(&self, day: NaiveDate) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&day)
    }

    fn insert(&self, day: NaiveDate) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(day);
    }

    /// Asks the server again.
    pub(super) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Makes the partition of a day and of the one after it, and drops those that are too old. Its own
/// transactions, before the load's.
pub(super) async fn prepare_day(
    client: &mut Client,
    own: &OwnTables,
    made: &MadeDays,
    day: NaiveDate,
) -> Result<(), Error> {
    if made.contains(day) {
        return Ok(());
    }
    let tomorrow = day + Days::new(1);
    let mut statements = Vec::new();
    for new in [day, tomorrow] {
        let exists = "SELECT to_regclass($1) IS NOT NULL";
        if !client.query_one(exists, &[&partition(own, new)]).await?.try_get::<_, bool>(0)? {
            statements.extend(attach(own, new));
        }
    }
    if !statements.is_empty() {
        match ddl::run(client, "seen", &statements).await {
            // Another loader was faster between our question and our turn.
            Err(error) if is_duplicate(&error) => {}
            other => other?,
        }
    }
    drop_old(client, own, day).await;
    made.insert(day);
    Ok(())
}

fn is_duplicate(error: &Error) -> bool {
    error.code() == Some(&tokio_postgres::error::SqlState::DUPLICATE_TABLE)
}

fn partition(own: &OwnTables, day: NaiveDate) -> String {
    own.table(&format!("seen_{}", day.format("%Y%m%d")))
}

/// Made first and attached then: making it as a partition at once would lock out every reader of all days.
fn attach(own: &OwnTables, day: NaiveDate) -> [String; 2] {
    let (seen, partition) = (own.table("seen"), partition(own, day));
    let until = day + Days::new(1);
    [
        format!("CREATE TABLE {partition} (LIKE {seen})"),
        format!("ALTER TABLE {seen} ATTACH PARTITION {partition} FOR VALUES FROM ('{day}') TO ('{until}')"),
    ]
}

const PARTITIONS: &str = "SELECT c.relname FROM pg_catalog.pg_inherits i
    JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = to_regclass($1)";

/// Failing is harmless: rows outside the window are not looked at, and tomorrow tries again.
async fn drop_old(client: &mut Client, own: &OwnTables, day: NaiveDate) {
    let Some(first_kept) = day.checked_sub_days(Days::new(KEEP_DAYS)) else { return };
    let first_kept = format!("seen_{}", first_kept.format("%Y%m%d"));
    let dropped = async {
        for row in client.query(PARTITIONS, &[&own.table("seen")]).await? {
            let name: String = row.try_get(0)?;
            if name < first_kept {
                let statement = format!("DROP TABLE IF EXISTS {}", own.table(&name));
                ddl::run(client, "seen", &[statement]).await?;
            }
        }
        Ok::<(), Error>(())
    };
    if let Err(error) = dropped.await {
        tracing::warn!(%error, "old seen ids could not be dropped; tried again tomorrow");
    }
}

/// For each id, the content hash it was loaded with within the window before `now`.
pub(super) async fn lookup(
    client: &Client,
    own: &OwnTables,
    connection: &ConnectionId,
    ids: &[u128],
    now: DateTime<Utc>,
) -> Result<Vec<Option<u64>>, Error> {
    let first_day = (now - WINDOW).date_naive();
    let select = format!(
        "SELECT n.place, s.content FROM unnest($2::uuid[]) WITH ORDINALITY AS n (id, place)
         JOIN {} s ON s.id = n.id
         WHERE s.connection = (SELECT number FROM {} WHERE connection = $1) AND s.day >= $3",
        own.table("seen"),
        own.table("connections")
    );
    let wanted: Vec<Value<'_>> = ids.iter().map(|id| Value::Uuid(*id)).collect();
    let mut found = vec![None; ids.len()];
    for row in client.query(&select, &[&connection.as_str(), &wanted, &first_day]).await? {
        let (place, content): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        let index = usize::try_from(place - 1).unwrap_or(usize::MAX);
        if let Some(known) = found.get_mut(index) {
            *known = Some(content.cast_unsigned());
        }
    }
    Ok(found)
}

/// Remembers ids, in the load's transaction.
pub(super) async fn remember(
    transaction: &Transaction<'_>,
    own: &OwnTables,
    connection: i32,
    ids: &[SeenId],
    day: NaiveDate,
) -> Result<(), Error> {
    if ids.is_empty() {
        return Ok(());
    }
    let copy =
        format!("COPY {} (connection, id, content, day) FROM STDIN (FORMAT binary)", own.table("seen"));
    let sink = transaction.copy_in(&copy).await?;
    let types = [Type::INT4, Type::UUID, Type::INT8, Type::DATE];
    let writer = BinaryCopyInWriter::new(sink, &types);
    let mut writer = std::pin::pin!(writer);
    let days = day.signed_duration_since(NaiveDate::default()).num_days();
    let day = Value::Day(i32::try_from(days).unwrap_or_default() - super::copy::EPOCH_DAYS);
    for seen in ids {
        let values =
            [&Value::Int4(connection), &Value::Uuid(seen.id), &Value::Int8(seen.content.cast_signed()), &day];
        writer.as_mut().write_raw(values).await?;
    }
    writer.finish().await?;
    Ok(())
}
