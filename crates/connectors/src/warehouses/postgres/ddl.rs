//! Schemas, tables and columns: what is there, and making what is missing.

use std::collections::BTreeMap;

use millrace_columnar::TableSchema;
use millrace_connector::{ConnectorError, SchemaChange, TableName, TableSchemas};
use millrace_event_model::FieldType;
use tokio_postgres::{Client, Error, Row};

use super::error::Failure;
use super::work::Line;

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
/// an error that names it (see [`super::encode`]).
fn field_type(type_name: &str) -> FieldType {
    match type_name {
        "int8" | "int4" | "int2" => FieldType::Int,
        "numeric" | "float8" | "float4" => FieldType::Float,
        "bool" => FieldType::Boolean,
        "timestamptz" => FieldType::DateTime,
        "timestamp" => FieldType::LocalDateTime,
        "date" => FieldType::Date,
        "time" => FieldType::Time,
        "uuid" => FieldType::Uuid,
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

/// The server's names of column types, by table and column.
type TypeNames = BTreeMap<String, BTreeMap<String, String>>;

fn type_names(rows: &[Row]) -> Result<TypeNames, Error> {
    let mut tables = TypeNames::new();
    for row in rows {
        let columns = tables.entry(row.try_get(0)?).or_default();
        let (name, type_name): (Option<String>, Option<String>) = (row.try_get(1)?, row.try_get(2)?);
        if let (Some(name), Some(type_name)) = (name, type_name)
            && !name.contains(DEPRECATED)
        {
            columns.insert(name, type_name);
        }
    }
    Ok(tables)
}

/// All tables of a schema with their columns.
pub(super) async fn describe(client: &Client, schema: &str) -> Result<TableSchemas, Error> {
    let tables = type_names(&client.query(DESCRIBE, &[&schema]).await?)?;
    let columns = |columns: BTreeMap<String, String>| {
        columns.into_iter().map(|(name, own)| (name, field_type(&own))).collect::<TableSchema>()
    };
    Ok(tables.into_iter().map(|(table, own)| (table, columns(own))).collect())
}

const SCHEMA: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)";

/// Whether it is there. Asked before one is made: a role without CREATE on the database may not even say
/// `CREATE SCHEMA IF NOT EXISTS`.
pub(super) async fn schema_exists(client: &Client, schema: &str) -> Result<bool, Error> {
    client.query_one(SCHEMA, &[&schema]).await?.try_get(0)
}

/// Makes schema changes, in one transaction.
pub(super) async fn apply(line: &mut Line, schema: &str, changes: &[SchemaChange]) -> Result<(), Failure> {
    let mut work = line.begin().await?;
    work.run(LOCK_TIMEOUT).await?;
    work.query(ONE_AT_A_TIME, &[&schema]).await?;
    let widens = changes.iter().any(|change| matches!(change, SchemaChange::WidenColumns { .. }));
    let existing =
        if widens { type_names(&work.query(DESCRIBE, &[&schema]).await?)? } else { TypeNames::new() };
    let made = work.query_opt(SCHEMA, &[&schema]).await?.map(|row| row.try_get(0)).transpose()?;
    let wanted = |change: &&SchemaChange| !matches!((change, made), (SchemaChange::CreateSchema, Some(true)));
    let changes: Vec<SchemaChange> = changes.iter().filter(wanted).cloned().collect();
    for statement in statements(schema, &changes, &existing)? {
        work.run(&statement).await?;
    }
    work.commit().await?;
    Ok(())
}

/// The statements of schema changes. Each may run twice: what exists is left alone.
///
/// # Errors
/// `Reject`: a name that PostgreSQL cannot hold.
fn statements(
    schema: &str,
    changes: &[SchemaChange],
    existing: &TypeNames,
) -> Result<Vec<String>, ConnectorError> {
    let quoted_schema = quote(schema)?;
    let made = changes.iter().map(|change| statement(&quoted_schema, change, existing).transpose());
    made.flatten().collect()
}

/// `None`: there is nothing to do.
fn statement(
    schema: &str,
    change: &SchemaChange,
    existing: &TypeNames,
) -> Result<Option<String>, ConnectorError> {
    Ok(Some(match change {
        SchemaChange::CreateSchema => format!("CREATE SCHEMA IF NOT EXISTS {schema}"),
        SchemaChange::CreateTable { table, columns } => {
            format!("CREATE TABLE IF NOT EXISTS {schema}.{} ({})", quote(table)?, definitions(columns, "")?)
        }
        SchemaChange::AddColumns { table, columns } => {
            let definitions = definitions(columns, "ADD COLUMN IF NOT EXISTS ")?;
            format!("ALTER TABLE {schema}.{} {definitions}", quote(table)?)
        }
        SchemaChange::WidenColumns { table, columns } => {
            let mut wider = Vec::new();
            for (name, wide) in columns {
                let quoted = quote(name)?;
                let own = existing.get(table).and_then(|columns| columns.get(name));
                if let Some(value) = own.and_then(|own| widened(&quoted, own, *wide)) {
                    wider.push(format!("ALTER COLUMN {quoted} TYPE {} USING {value}", type_name(*wide)));
                }
            }
            if wider.is_empty() {
                return Ok(None);
            }
            format!("ALTER TABLE {schema}.{} {}", quote(table)?, wider.join(", "))
        }
    }))
}

/// The value of a column in a wider type, as a value of the old type would be written into a column of the
/// new one; `None` where the type is not wider: the column is that wide already, or somebody made it wider.
fn widened(column: &str, own: &str, wide: FieldType) -> Option<String> {
    let local = |zoned: bool, zone: &str| {
        let clock = if zoned { format!("{column} AT TIME ZONE 'UTC'") } else { column.to_owned() };
        let form = |digits: &str| format!("'YYYY-MM-DD\"T\"HH24:MI:SS.{digits}{zone}'");
        let whole = format!("extract(microseconds FROM {column})::bigint % 1000 = 0");
        format!("to_char({clock}, CASE WHEN {whole} THEN {} ELSE {} END)", form("MS"), form("US"))
    };
    let text = || match own {
        "timestamptz" => local(true, "\"Z\""),
        "timestamp" => local(false, ""),
        _ => format!("{column}::text"),
    };
    let value = match (own, wide) {
        ("text" | "varchar" | "bpchar", _) => return None,
        (_, FieldType::String | FieldType::Text) => text(),
        ("json" | "jsonb", _) => return None,
        ("timestamptz" | "timestamp", FieldType::Json) => format!("to_jsonb({})", text()),
        (_, FieldType::Json) => format!("to_jsonb({column})"),
        ("int2" | "int4", FieldType::Int) => column.to_owned(),
        // By way of text: a cast from a double keeps 15 digits only.
        ("int2" | "int4" | "int8" | "float4" | "float8", FieldType::Float | FieldType::Decimal) => {
            format!("{column}::text::numeric")
        }
        ("date", FieldType::LocalDateTime) => format!("{column}::timestamp"),
        ("date" | "timestamp", FieldType::DateTime) => format!("{column}::timestamp AT TIME ZONE 'UTC'"),
        _ => return None,
    };
    Some(value)
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
pub(super) const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '5s'";

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
            statements("s", &changes, &TypeNames::new()).unwrap(),
            [
                "CREATE SCHEMA IF NOT EXISTS \"s\"",
                "CREATE TABLE IF NOT EXISTS \"s\".\"t\" (\"at\" timestamptz, \"id\" text, \"total\" numeric)",
                "ALTER TABLE \"s\".\"t\" ADD COLUMN IF NOT EXISTS \"at\" timestamptz, \
                 ADD COLUMN IF NOT EXISTS \"id\" text, ADD COLUMN IF NOT EXISTS \"total\" numeric",
            ]
        );
    }

    #[test]
    fn a_column_is_only_ever_widened() {
        let types = [("n", "int8"), ("d", "date"), ("s", "text"), ("f", "numeric")];
        let own = types.map(|(name, own)| (name.to_owned(), own.to_owned()));
        let existing = TypeNames::from([("t".to_owned(), BTreeMap::from(own))]);
        let widen = |columns: &[(&str, FieldType)]| {
            let columns = columns.iter().map(|(name, wide)| ((*name).to_owned(), *wide)).collect();
            statements("s", &[SchemaChange::WidenColumns { table: "t".to_owned(), columns }], &existing)
                .unwrap()
        };
        assert_eq!(
            widen(&[("n", FieldType::Float), ("d", FieldType::DateTime), ("s", FieldType::Int)]),
            ["ALTER TABLE \"s\".\"t\" \
              ALTER COLUMN \"d\" TYPE timestamptz USING \"d\"::timestamp AT TIME ZONE 'UTC', \
              ALTER COLUMN \"n\" TYPE numeric USING \"n\"::text::numeric"]
        );
        let done = [("f", FieldType::Float), ("f", FieldType::Int), ("gone", FieldType::Text)];
        assert_eq!(widen(&done), [""; 0]);
    }
}
