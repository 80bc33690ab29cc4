//! Rows into tables, inside the load's transaction: one function for each [`WriteMode`], and the swap.
//!
//! Tables have no primary keys and no indexes, as RudderStack's have none, so rows are matched by joins
//! with a temporary table that holds the batch.

use millrace_columnar::arrow::array::RecordBatch;
use millrace_columnar::arrow::datatypes::Schema;
use millrace_connector::{ConnectorError, Swap, TableLoad, TableName, WriteMode};
use tokio_postgres::Transaction;
use tokio_postgres::types::Type;

use super::copy::copy_rows;
use super::ddl::{quote, quote_all, quote_table};
use super::error::Failure;
use super::positions::OwnTables;

/// The batch of one table with what each statement needs of it.
struct Batch<'a> {
    transaction: &'a Transaction<'a>,
    /// The table, quoted.
    table: String,
    /// Its columns that the batch has, quoted.
    names: Vec<String>,
    /// The same as a list.
    columns: String,
    /// Their real types.
    types: Vec<Type>,
    rows: &'a [RecordBatch],
}

/// The batch as a temporary table. One per transaction and table; it goes with the transaction.
const STAGE: &str = "pg_temp.millrace_stage";

/// Writes one table's rows.
pub(super) async fn write_table(
    transaction: &Transaction<'_>,
    own: &OwnTables,
    load: &TableLoad,
) -> Result<(), Failure> {
    let Some(first) = load.rows.first().filter(|rows| rows.num_columns() > 0) else { return Ok(()) };
    if load.rows.iter().all(|rows| rows.num_rows() == 0) {
        return Ok(());
    }
    let batch = Batch::new(transaction, load, &first.schema()).await?;
    match &load.write {
        WriteMode::Append => batch.copy_into(&batch.table).await,
        WriteMode::Upsert { key } => batch.upsert(key).await,
        WriteMode::MergeLatest { key, order } => batch.merge_latest(key, order).await,
        WriteMode::Stage { generation } => {
            let staged = staged_table(transaction, own, &load.name, *generation).await?;
            copy_missing_columns(transaction, &batch.table, &staged).await?;
            batch.copy_into(&staged).await
        }
    }
}

impl<'a> Batch<'a> {
    async fn new(
        transaction: &'a Transaction<'a>,
        load: &'a TableLoad,
        schema: &Schema,
    ) -> Result<Self, Failure> {
        let table = quote_table(&load.name)?;
        let names: Vec<String> =
            schema.fields().iter().map(|field| quote(field.name())).collect::<Result<_, _>>()?;
        let columns = names.join(", ");
        // What the columns really are, whatever was described earlier: COPY must write just that.
        let statement = transaction.prepare(&format!("SELECT {columns} FROM {table} LIMIT 0")).await?;
        let types = statement.columns().iter().map(|column| column.type_().clone()).collect();
        Ok(Self { transaction, table, names, columns, types, rows: &load.rows })
    }

    async fn copy_into(&self, table: &str) -> Result<(), Failure> {
        for rows in self.rows {
            copy_rows(self.transaction, table, &self.columns, &self.types, rows).await?;
        }
        Ok(())
    }

    async fn stage(&self) -> Result<(), Failure> {
        let Self { table, columns, .. } = self;
        let create = format!(
            "DROP TABLE IF EXISTS {STAGE};
             CREATE TEMP TABLE millrace_stage ON COMMIT DROP AS SELECT {columns} FROM {table} WITH NO DATA"
        );
        self.transaction.batch_execute(&create).await?;
        self.copy_into(STAGE).await?;
        // Without it the planner takes the batch for a thousand rows, however many they are.
        self.transaction.batch_execute(&format!("ANALYZE {STAGE}")).await?;
        Ok(())
    }

    /// Delete and insert: a row that is there twice, from before our time, becomes one.
    async fn upsert(&self, key: &[String]) -> Result<(), Failure> {
        self.stage().await?;
        let Self { table, columns, .. } = self;
        let keys: Vec<String> = key
            .iter()
            .map(|name| Ok(format!("t.{0} = s.{0}", quote(name)?)))
            .collect::<Result<_, ConnectorError>>()?;
        let statements = format!(
            "DELETE FROM {table} t USING {STAGE} s WHERE {};
             INSERT INTO {table} ({columns}) SELECT {columns} FROM {STAGE}",
            keys.join(" AND ")
        );
        Ok(self.transaction.batch_execute(&statements).await?)
    }

    /// An update column by column, so that columns which the batch lacks keep what they hold.
    async fn merge_latest(&self, key: &str, order: &str) -> Result<(), Failure> {
        self.stage().await?;
        let Self { table, columns, .. } = self;
        let (key, order) = (quote(key)?, quote(order)?);
        let newer = format!("(t.{order} IS NULL OR s.{order} >= t.{order})");
        let merged: Vec<String> = self
            .names
            .iter()
            .filter(|name| **name != key)
            .map(|name| {
                format!(
                    "{name} = CASE WHEN {newer} THEN coalesce(s.{name}, t.{name}) ELSE coalesce(t.{name}, s.{name}) END"
                )
            })
            .collect();
        if !merged.is_empty() {
            let update =
                format!("UPDATE {table} t SET {} FROM {STAGE} s WHERE t.{key} = s.{key}", merged.join(", "));
            self.transaction.batch_execute(&update).await?;
        }
        let insert = format!(
            "INSERT INTO {table} ({columns}) SELECT {columns} FROM {STAGE} s
             WHERE NOT EXISTS (SELECT FROM {table} t WHERE t.{key} = s.{key})"
        );
        Ok(self.transaction.batch_execute(&insert).await?)
    }
}

/// The hidden table of a generation, made if it is not there; those of older generations go.
async fn staged_table(
    transaction: &Transaction<'_>,
    own: &OwnTables,
    name: &TableName,
    generation: u64,
) -> Result<String, Failure> {
    let registry = own.table("generations");
    let wanted = generation.cast_signed();
    let older = format!(
        "DELETE FROM {registry} WHERE schema_name = $1 AND table_name = $2 AND generation < $3 RETURNING staged"
    );
    for row in transaction.query(&older, &[&name.schema, &name.table, &wanted]).await? {
        let staged: i64 = row.try_get(0)?;
        transaction.batch_execute(&format!("DROP TABLE IF EXISTS {}", own.staged(staged))).await?;
    }
    let find = format!(
        "SELECT staged FROM {registry} WHERE schema_name = $1 AND table_name = $2 AND generation = $3"
    );
    if let Some(row) = transaction.query_opt(&find, &[&name.schema, &name.table, &wanted]).await? {
        return Ok(own.staged(row.try_get(0)?));
    }
    let insert = format!(
        "INSERT INTO {registry} (schema_name, table_name, generation) VALUES ($1, $2, $3) RETURNING staged"
    );
    let row = transaction.query_one(&insert, &[&name.schema, &name.table, &wanted]).await?;
    let staged = own.staged(row.try_get(0)?);
    transaction.batch_execute(&format!("CREATE TABLE {staged} (LIKE {})", quote_table(name)?)).await?;
    Ok(staged)
}

/// Columns that the table got after the staged one was made.
async fn copy_missing_columns(
    transaction: &Transaction<'_>,
    table: &str,
    staged: &str,
) -> Result<(), Failure> {
    const MISSING: &str = "SELECT attname, format_type(atttypid, atttypmod) FROM pg_catalog.pg_attribute
        WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attname NOT IN (
            SELECT attname FROM pg_catalog.pg_attribute
            WHERE attrelid = $2::text::regclass AND attnum > 0 AND NOT attisdropped)";
    for row in transaction.query(MISSING, &[&table, &staged]).await? {
        let (name, type_name): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        let add = format!("ALTER TABLE {staged} ADD COLUMN {} {type_name}", quote(name)?);
        transaction.batch_execute(&add).await?;
    }
    Ok(())
}

/// The generation's rows replace the table's.
///
/// Rows are moved; the staged table does not take the table's place by renaming. A rename would leave
/// every view on the table reading the old rows, drop its grants and indexes, and lock out readers. Here
/// a reader sees all old rows or all new ones and never waits.
pub(super) async fn swap(transaction: &Transaction<'_>, own: &OwnTables, swap: &Swap) -> Result<(), Failure> {
    let (name, generation) = (&swap.name, swap.generation.cast_signed());
    let table = quote_table(name)?;
    transaction.batch_execute(&format!("DELETE FROM {table}")).await?;
    let finished = format!(
        "DELETE FROM {} WHERE schema_name = $1 AND table_name = $2 AND generation <= $3
         RETURNING staged, generation",
        own.table("generations")
    );
    for row in transaction.query(&finished, &[&name.schema, &name.table, &generation]).await? {
        let (staged, found): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        let staged = own.staged(staged);
        if found == generation {
            let columns = columns_of(transaction, &staged).await?;
            let insert = format!("INSERT INTO {table} ({columns}) SELECT {columns} FROM {staged}");
            transaction.batch_execute(&insert).await?;
        }
        transaction.batch_execute(&format!("DROP TABLE {staged}")).await?;
    }
    Ok(())
}

async fn columns_of(transaction: &Transaction<'_>, table: &str) -> Result<String, Failure> {
    let statement = transaction.prepare(&format!("SELECT * FROM {table} LIMIT 0")).await?;
    Ok(quote_all(statement.columns().iter().map(tokio_postgres::Column::name))?)
}
