//! Schemas, tables and columns: what is there, and making what is missing.

use millrace_columnar::TableSchema;
use millrace_connector::{ConnectorError, SchemaChange, TableName, TableSchemas};
use millrace_event_model::FieldType;
use tokio_postgres::{Client, Error};

/// PostgreSQL cuts longer names in silence; then a column would be missing for ever after it was made.
const MAX_IDENTIFIER_BYTES: usize = 63;

/// The one place where a name becomes SQL.
///
/// # Errors
/// `Reject`: the name is empty, too long or holds NUL.
pub(super) fn quote(name: &str) -> Result<String, ConnectorError> {
    if name.is_empty() || name.len() > MAX_IDENTIFIER_BYTES || name.contains('\0') {
        return Err(ConnectorError::reject(
            "invalid_name",
            format!("{name:?} is no name in PostgreSQL: it needs 1 to {MAX_IDENTIFIER_BYTES} bytes"),
        ));
    }
    Ok(format!("\"{}\"", name.replace('"', "\"\"")))
}

/// `"schema"."table"`.
pub(super) fn quote_table(name: &TableName) -> Result<String, ConnectorError> {
    Ok(format!("{}.{}", quote(&name.schema)?, quote(&name.table)?))
}

/// `"a", "b"`.
pub(super) fn quote_all<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<String, ConnectorError> {
    let quoted: Vec<String> = names.into_iter().map(quote).collect::<Result<_, _>>()?;
    Ok(quoted.join(", "))
}

/// The types that RudderStack gives its columns (warehouse schema rules §5).
fn type_name(column: FieldType) -> &'static str {
    match column {
        FieldType::Int => "bigint",
        FieldType::Float => "numeric",
        FieldType::Boolean => "boolean",
        FieldType::DateTime => "timestamptz",
        FieldType::String | FieldType::Text => "text",
        FieldType::Json => "jsonb",
        FieldType::Decimal => "numeric",
        FieldType::Date => "date",
        FieldType::Time => "time",
        FieldType::LocalDateTime => "timestamp",
        FieldType::Uuid => "uuid",
    }
}

/// What we make of a column that may be anybody's. What is none of ours is read as text; writing to it is
/// an error that names it (see [`super::copy`]).
fn field_type(type_name: &str) -> FieldType {
    match type_name {
        "int8" | "int4" | "int2" => FieldType::Int,
        "numeric" | "float8" | "float4" => FieldType::Float,
        "bool" => FieldType::Boolean,
        "timestamptz" | "timestamp" | "date" => FieldType::DateTime,
        "jsonb" | "json" => FieldType::Json,
        _ => FieldType::String,
    }
}

/// RudderStack renames a column it replaced to `<name>-deprecated-<uuid>`; such a one is not the table's.
const DEPRECATED: &str = "-deprecated-";

const DESCRIBE: &str = "SELECT c.relname, a.attname, t.typname
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    WHERE n.nspname = $1 AND c.relkind IN ('r', 'p')";

/// All tables of a schema with their columns.
pub(super) async fn describe(client: &Client, schema: &str) -> Result<TableSchemas, Error> {
    let mut tables = TableSchemas::new();
    for row in client.query(DESCRIBE, &[&schema]).await? {
        let columns: &mut TableSchema = tables.entry(row.try_get(0)?).or_default();
        let (name, type_name): (Option<String>, Option<&str>) = (row.try_get(1)?, row.try_get(2)?);
        if let (Some(name), Some(type_name)) = (name, type_name)
            && !name.contains(DEPRECATED)
        {
            columns.insert(name, field_type(type_name));
        }
    }
    Ok(tables)
}

/// The statements of schema changes. Each may run twice: what exists is left alone.
///
/// # Errors
/// `Reject`: a name that PostgreSQL cannot hold.
pub(super) fn statements(schema: &str, changes: &[SchemaChange]) -> Result<Vec<String>, ConnectorError> {
    let quoted_schema = quote(schema)?;
    changes.iter().map(|change| statement(&quoted_schema, change)).collect()
}

fn statement(schema: &str, change: &SchemaChange) -> Result<String, ConnectorError> {
    match change {
        SchemaChange::CreateSchema => Ok(format!("CREATE SCHEMA IF NOT EXISTS {schema}")),
        SchemaChange::CreateTable { table, columns } => {
            let definitions = definitions(columns, "")?;
            Ok(format!("CREATE TABLE IF NOT EXISTS {schema}.{} ({definitions})", quote(table)?))
        }
        SchemaChange::AddColumns { table, columns } => {
            let definitions = definitions(columns, "ADD COLUMN IF NOT EXISTS ")?;
            Ok(format!("ALTER TABLE {schema}.{} {definitions}", quote(table)?))
        }
        SchemaChange::WidenColumns { table, columns } => {
            let alter = |(name, column): (&String, &FieldType)| {
                let (name, wide) = (quote(name)?, type_name(*column));
                Ok(format!("ALTER COLUMN {name} TYPE {wide} USING {name}::{wide}"))
            };
            let changes: Vec<String> = columns.iter().map(alter).collect::<Result<_, ConnectorError>>()?;
            Ok(format!("ALTER TABLE {schema}.{} {}", quote(table)?, changes.join(", ")))
        }
    }
}

fn definitions(columns: &TableSchema, prefix: &str) -> Result<String, ConnectorError> {
    let definitions: Vec<String> = columns
        .iter()
        .map(|(name, column)| Ok(format!("{prefix}{} {}", quote(name)?, type_name(*column))))
        .collect::<Result<_, ConnectorError>>()?;
    Ok(definitions.join(", "))
}

/// Holds off everyone else who makes things of this name until the transaction ends: two `CREATE … IF NOT
/// EXISTS` at once would fail in one of them.
const ONE_AT_A_TIME: &str = "SELECT pg_advisory_xact_lock(hashtextextended('millrace ddl ' || $1, 0))";

/// Nobody who reads the table waits for us longer than this: a waiting ALTER TABLE holds up all that come
/// after it.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '5s'";

/// Runs statements that make things in one transaction.
pub(super) async fn run(client: &mut Client, schema: &str, statements: &[String]) -> Result<(), Error> {
    let transaction = client.transaction().await?;
    transaction.batch_execute(LOCK_TIMEOUT).await?;
    transaction.execute(ONE_AT_A_TIME, &[&schema]).await?;
    for statement in statements {
        transaction.batch_execute(statement).await?;
    }
    transaction.commit().await
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_quotes() {
        assert_eq!(quote("a").unwrap(), "\"a\"");
        assert_eq!(quote("a\"; DROP TABLE x --").unwrap(), "\"a\"\"; DROP TABLE x --\"");
        for bad in ["", "a\0b", &"x".repeat(64)] {
            assert!(quote(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn changes_become_statements_that_may_run_twice() {
        let columns = TableSchema::from([
            ("id".to_owned(), FieldType::String),
            ("total".to_owned(), FieldType::Float),
            ("at".to_owned(), FieldType::DateTime),
        ]);
        let changes = [
            SchemaChange::CreateSchema,
            SchemaChange::CreateTable { table: "t".to_owned(), columns: columns.clone() },
            SchemaChange::AddColumns { table: "t".to_owned(), columns },
        ];
        assert_eq!(
            statements("s", &changes).unwrap(),
            [
                "CREATE SCHEMA IF NOT EXISTS \"s\"",
                "CREATE TABLE IF NOT EXISTS \"s\".\"t\" (\"at\" timestamptz, \"id\" text, \"total\" numeric)",
                "ALTER TABLE \"s\".\"t\" ADD COLUMN IF NOT EXISTS \"at\" timestamptz, \
                 ADD COLUMN IF NOT EXISTS \"id\" text, ADD COLUMN IF NOT EXISTS \"total\" numeric",
            ]
        );
    }
}
