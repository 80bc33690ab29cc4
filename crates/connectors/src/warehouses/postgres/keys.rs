//! Indexes on the keys of tables that rows are merged into: without one, each merge reads the whole table.
//!
//! They are made by the first load that merges into a table, which is empty then or was not ours. Never in
//! the load's transaction, and a load never fails for want of one: it is slower, and says so.
//!
//! - A key of one text column gets a hash index, since a b-tree refuses texts of more than some 2,700 bytes:
//!   one client with a long id would stop every load.
//! - A key of several columns gets a b-tree in which texts stand as their hashes, for the same reason; the
//!   merge then compares those too ([`Key::matches`]).

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use millrace_connector::{ConnectorError, Load, TableName, WriteMode};
use sha2::{Digest, Sha256};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::ddl::{self, quote, quote_table};
use super::error::{During, Failure};
use super::targets::{Target, Targets};

/// A table of more bytes is indexed without locking its writers out, which takes longer and must not be in
/// a transaction.
const SMALL_TABLE: i64 = 1 << 20;

/// Building an index beside writers waits for all transactions of before, a report's that takes hours too.
/// Beyond this the index is given up until the process is started again ([`KeyIndexes::given_up`]).
const BUILD_TIMEOUT: &str = "SET statement_timeout = '10min'; SET lock_timeout = '10min'";
const USUAL_TIMEOUT: &str = "RESET statement_timeout; SET lock_timeout = '20s'";

/// Keys of tables that this process knows.
#[derive(Default)]
pub(super) struct KeyIndexes {
    /// Those with an index, as long as nobody drops the table: see [`Self::forget`].
    looked_at: Mutex<HashSet<TableKey>>,
    /// Those whose index takes too long to build.
    given_up: Mutex<HashSet<TableKey>>,
}

type TableKey = (TableName, Vec<String>);

/// The columns by which rows are matched, with the server's types.
pub(super) struct Key {
    /// Quoted.
    columns: Vec<String>,
    types: Vec<Option<Type>>,
}

impl Key {
    pub(super) fn new(names: &[String], types: &[Target]) -> Result<Self, ConnectorError> {
        let columns = names.iter().map(|name| quote(name)).collect::<Result<_, _>>()?;
        Ok(Self { columns, types: types.iter().map(|target| target.own.clone()).collect() })
    }

    /// The condition under which a row `t` of the table is a row `s` of the batch.
    pub(super) fn matches(&self) -> String {
        let mut conditions: Vec<String> =
            self.columns.iter().map(|column| format!("t.{column} = s.{column}")).collect();
        if self.columns.len() > 1 {
            let hashed =
                self.texts().map(|column| format!("{} = {}", hash("t.", column), hash("s.", column)));
            conditions.extend(hashed);
        }
        conditions.join(" AND ")
    }

    fn texts(&self) -> impl Iterator<Item = &String> {
        self.columns
            .iter()
            .zip(&self.types)
            .filter(|(_, own)| is_text(own.as_ref()))
            .map(|(column, _)| column)
    }

    /// The index, without its name and table; `None`: of these types there is none.
    fn index(&self) -> Option<String> {
        if !self.types.iter().all(|own| is_text(own.as_ref()) || is_short(own.as_ref())) {
            return None;
        }
        if let [column] = self.columns.as_slice() {
            let method = if self.texts().next().is_some() { "hash" } else { "btree" };
            return Some(format!("USING {method} ({column})"));
        }
        let parts: Vec<String> = self
            .columns
            .iter()
            .zip(&self.types)
            .map(|(column, own)| if is_text(own.as_ref()) { hash("", column) } else { column.clone() })
            .collect();
        Some(format!("USING btree ({})", parts.join(", ")))
    }

    /// The same name for the same table and key, so that an index is never made twice.
    fn index_name(&self, table: &str) -> String {
        let digest = Sha256::digest(format!("{table} {}", self.columns.join(", ")));
        let hex: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("millrace_key_{hex}")
    }
}

fn hash(of: &str, column: &str) -> String {
    format!("hashtextextended({of}{column}, 0)")
}

fn is_text(own: Option<&Type>) -> bool {
    matches!(own, Some(&Type::TEXT | &Type::VARCHAR))
}

fn is_short(own: Option<&Type>) -> bool {
    matches!(
        own,
        Some(
            &Type::INT2
                | &Type::INT4
                | &Type::INT8
                | &Type::UUID
                | &Type::DATE
                | &Type::TIMESTAMP
                | &Type::TIMESTAMPTZ
                | &Type::TIME
                | &Type::BOOL
                | &Type::FLOAT8
        )
    )
}

/// The columns that a load matches the rows of a table by.
pub(super) fn key_of(write: &WriteMode) -> Option<&[String]> {
    match write {
        WriteMode::Upsert { key } => Some(key),
        WriteMode::MergeLatest { key, .. } => Some(std::slice::from_ref(key)),
        WriteMode::Append | WriteMode::Stage { .. } => None,
    }
}

impl KeyIndexes {
    /// Forgets which indexes are there. A table that a person dropped makes a load fail, and every failure is followed by
    /// a resume: the table that is made anew then gets its index anew.
    pub(super) fn forget(&self) {
        locked(&self.looked_at).clear();
    }

    /// Makes the indexes that a load's merges need and that are not there.
    pub(super) async fn ensure(&self, client: &mut Client, load: &Load) {
        for table in &load.tables {
            let Some(key) = key_of(&table.write) else { continue };
            let table_key = (table.name.clone(), key.to_vec());
            if locked(&self.looked_at).contains(&table_key) || locked(&self.given_up).contains(&table_key) {
                continue;
            }
            let Err(failure) = make(client, &table.name, key).await else {
                locked(&self.looked_at).insert(table_key);
                continue;
            };
            let error = failure.classify(During::Load, "making an index");
            tracing::warn!(
                schema = table.name.schema,
                table = table.name.table,
                error = error.full(),
                "rows are merged without an index on their key, and the longer the table the slower"
            );
            // A build that was too long for its time would be so again; all else may go away.
            if error.code == "sqlstate_57014" {
                locked(&self.given_up).insert(table_key);
            }
        }
    }
}

fn locked(keys: &Mutex<HashSet<TableKey>>) -> MutexGuard<'_, HashSet<TableKey>> {
    keys.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Size of the table, whether it is ours, no partitioned one, and whether there is an index on this key that
/// somebody made.
const TABLE: &str = "SELECT pg_relation_size(c.oid),
        pg_has_role(c.relowner, 'USAGE') AND c.relkind = 'r',
        EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL
            AND i.indnkeyatts = cardinality($2::text[])
            AND (SELECT array_agg(a.attname::text ORDER BY a.attname) FROM pg_attribute a
                 WHERE a.attrelid = c.oid AND a.attnum = ANY(i.indkey)) = $2::text[]),
        EXISTS (SELECT FROM pg_index i JOIN pg_class n ON n.oid = i.indexrelid
            WHERE i.indrelid = c.oid AND n.relname = $3 AND i.indisvalid)
    FROM pg_class c WHERE c.oid = $1::text::regclass";

async fn make(client: &mut Client, name: &TableName, columns: &[String]) -> Result<(), Failure> {
    let table = quote_table(name)?;
    let key = Key::new(columns, &Targets::look(client, name, columns).await?)?;
    let Some(index) = key.index() else { return Ok(()) };
    let index_name = key.index_name(&table);
    let mut sorted = columns.to_vec();
    sorted.sort_unstable();
    let row = client.query_one(TABLE, &[&table, &sorted, &index_name]).await?;
    let (bytes, ours, there, made): (i64, bool, bool, bool) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
    if !ours || there || made {
        return Ok(());
    }
    if bytes < SMALL_TABLE {
        let create = format!("CREATE INDEX IF NOT EXISTS {index_name} ON {table} {index}");
        return Ok(ddl::run(client, &table, &[create]).await?);
    }
    let schema = quote(&name.schema)?;
    client.batch_execute(BUILD_TIMEOUT).await?;
    let built = build(
        client,
        // One that was given up is there, and of no use.
        &format!("DROP INDEX CONCURRENTLY IF EXISTS {schema}.{index_name}"),
        &format!("CREATE INDEX CONCURRENTLY {index_name} ON {table} {index}"),
    )
    .await;
    // Whatever came of it: loads go on over this connection.
    client.batch_execute(USUAL_TIMEOUT).await?;
    built
}

async fn build(client: &Client, drop: &str, create: &str) -> Result<(), Failure> {
    for statement in [drop, create] {
        client.batch_execute(statement).await.map_err(|error| Failure::of(error, statement))?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn key(columns: &[(&str, Type)]) -> Key {
        let names: Vec<String> = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        let types: Vec<Target> =
            columns.iter().map(|(_, own)| Target { own: Some(own.clone()), name: String::new() }).collect();
        Key::new(&names, &types).unwrap()
    }

    #[test]
    fn no_text_is_too_long_for_an_index() {
        let index = |columns: &[(&str, Type)]| key(columns).index();
        assert_eq!(index(&[("id", Type::TEXT)]).unwrap(), "USING hash (\"id\")");
        assert_eq!(index(&[("id", Type::INT8)]).unwrap(), "USING btree (\"id\")");
        assert_eq!(
            index(&[("a", Type::INT8), ("b", Type::TEXT)]).unwrap(),
            "USING btree (\"a\", hashtextextended(\"b\", 0))"
        );
        assert_eq!(index(&[("a", Type::JSONB)]), None);
    }

    #[test]
    fn a_key_of_several_columns_is_matched_by_the_hashes_that_the_index_has() {
        assert_eq!(key(&[("id", Type::TEXT)]).matches(), "t.\"id\" = s.\"id\"");
        assert_eq!(
            key(&[("a", Type::INT8), ("b", Type::TEXT)]).matches(),
            "t.\"a\" = s.\"a\" AND t.\"b\" = s.\"b\" \
             AND hashtextextended(t.\"b\", 0) = hashtextextended(s.\"b\", 0)"
        );
    }
}
