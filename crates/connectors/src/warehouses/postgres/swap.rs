//! Tables whose rows change all at once: a generation that is complete, and a rebuild that is done.

use millrace_connector::{Replacement, Swap, TableName};

use super::ddl::{quote, quote_all, quote_table};
use super::error::Failure;
use super::positions::OwnTables;
use super::work::Work;

/// The hidden table of a generation, made if it is not there; those of older generations go.
pub(super) async fn staged_table(
    work: &mut Work<'_>,
    own: &OwnTables,
    name: &TableName,
    generation: u64,
) -> Result<String, Failure> {
    let registry = own.table("generations");
    let wanted = generation.cast_signed();
    let older = format!(
        "DELETE FROM {registry} WHERE schema_name = $1 AND table_name = $2 AND generation < $3 RETURNING staged"
    );
    for row in work.query(&older, &[&name.schema, &name.table, &wanted]).await? {
        let staged: i64 = row.try_get(0)?;
        work.run(&format!("DROP TABLE IF EXISTS {}", own.staged(staged))).await?;
    }
    let find = format!(
        "SELECT staged FROM {registry} WHERE schema_name = $1 AND table_name = $2 AND generation = $3"
    );
    if let Some(row) = work.query_opt(&find, &[&name.schema, &name.table, &wanted]).await? {
        return Ok(own.staged(row.try_get(0)?));
    }
    let insert = format!(
        "INSERT INTO {registry} (schema_name, table_name, generation) VALUES ($1, $2, $3) RETURNING staged"
    );
    let row = work.query_opt(&insert, &[&name.schema, &name.table, &wanted]).await?;
    let number = row.map(|row| row.try_get(0)).transpose()?.unwrap_or_default();
    let staged = own.staged(number);
    work.run(&format!("CREATE TABLE {staged} (LIKE {})", quote_table(name)?)).await?;
    Ok(staged)
}

/// What happened to the table's columns after the staged one was made: new ones, and wider types.
pub(super) async fn catch_up(work: &mut Work<'_>, table: &str, staged: &str) -> Result<(), Failure> {
    const BEHIND: &str = "SELECT t.attname, format_type(t.atttypid, t.atttypmod), s.attname IS NOT NULL
        FROM pg_catalog.pg_attribute t
        LEFT JOIN pg_catalog.pg_attribute s ON s.attrelid = $2::text::regclass AND s.attname = t.attname
            AND s.attnum > 0 AND NOT s.attisdropped
        WHERE t.attrelid = $1::text::regclass AND t.attnum > 0 AND NOT t.attisdropped
            AND s.atttypid IS DISTINCT FROM t.atttypid";
    for row in work.query(BEHIND, &[&table, &staged]).await? {
        let (name, type_name, narrow): (&str, &str, bool) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let name = quote(name)?;
        let change = if narrow {
            format!("ALTER COLUMN {name} TYPE {type_name} USING {name}::text::{type_name}")
        } else {
            format!("ADD COLUMN {name} {type_name}")
        };
        work.run(&format!("ALTER TABLE {staged} {change}")).await?;
    }
    Ok(())
}

/// The generation's rows replace the table's.
///
/// Rows are moved; the staged table does not take the table's place by renaming. A rename would leave
/// every view on the table reading the old rows, drop its grants and indexes, and lock out readers. Here
/// a reader sees all old rows or all new ones and never waits.
pub(super) async fn swap(work: &mut Work<'_>, own: &OwnTables, swap: &Swap) -> Result<(), Failure> {
    let (name, generation) = (&swap.name, swap.generation.cast_signed());
    let table = quote_table(name)?;
    work.run(&format!("DELETE FROM {table}")).await?;
    let finished = format!(
        "DELETE FROM {} WHERE schema_name = $1 AND table_name = $2 AND generation <= $3
         RETURNING staged, generation",
        own.table("generations")
    );
    for row in work.query(&finished, &[&name.schema, &name.table, &generation]).await? {
        let (staged, found): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        let staged = own.staged(staged);
        if found == generation {
            let columns = columns_of(work, &staged).await?;
            let insert = format!("INSERT INTO {table} ({columns}) SELECT {columns} FROM {staged}");
            work.run(&insert).await?;
        }
        work.run(&format!("DROP TABLE {staged}")).await?;
    }
    Ok(())
}

/// The rows of one table take the place of another's, in the same way.
///
/// A column that somebody else made (it has a default, an identity, an expression, or a type of its own) is left to
/// the server where no row has a value for it, as it is by every load: null is not what it would have.
pub(super) async fn replace(work: &mut Work<'_>, replacement: &Replacement) -> Result<(), Failure> {
    let (from, to) = (quote_table(&replacement.from)?, quote_table(&replacement.to)?);
    let columns = columns_with_values(work, &from, &to).await?;
    work.run(&format!("DELETE FROM {to}")).await?;
    work.run(&format!("INSERT INTO {to} ({columns}) SELECT {columns} FROM {from}")).await
}

/// The table's columns, quoted, as a list.
async fn columns_of(work: &mut Work<'_>, table: &str) -> Result<String, Failure> {
    const COLUMNS: &str = "SELECT attname FROM pg_catalog.pg_attribute
        WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum";
    let mut names = Vec::new();
    for row in work.query(COLUMNS, &[&table]).await? {
        names.push(row.try_get::<_, String>(0)?);
    }
    Ok(quote_all(names.iter().map(String::as_str))?)
}

/// The columns of `from`, quoted, as a list, but for those that are somebody else's in `to` and empty here.
async fn columns_with_values(work: &mut Work<'_>, from: &str, to: &str) -> Result<String, Failure> {
    const COLUMNS: &str = "SELECT f.attname, t.atthasdef OR t.attidentity <> '' OR t.atttypid <> f.atttypid
        FROM pg_catalog.pg_attribute f
        JOIN pg_catalog.pg_attribute t ON t.attrelid = $2::text::regclass AND t.attname = f.attname
            AND t.attnum > 0 AND NOT t.attisdropped
        WHERE f.attrelid = $1::text::regclass AND f.attnum > 0 AND NOT f.attisdropped ORDER BY f.attnum";
    let mut names = Vec::new();
    for row in work.query(COLUMNS, &[&from, &to]).await? {
        let (name, of_others): (String, bool) = (row.try_get(0)?, row.try_get(1)?);
        let quoted = quote(&name)?;
        let any = format!("SELECT FROM {from} WHERE {quoted} IS NOT NULL LIMIT 1");
        if !of_others || work.query_opt(&any, &[]).await?.is_some() {
            names.push(name);
        }
    }
    Ok(quote_all(names.iter().map(String::as_str))?)
}
