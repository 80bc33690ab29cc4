//! The types that the columns of a load's tables really have, asked once a load.
//!
//! Whatever was described earlier, COPY must write just these: a column that somebody changed to another
//! type of the same width would take wrong values without a word. So the tables are locked against that
//! first, with the lock that the rows need anyway.

use std::collections::BTreeMap;

use millrace_connector::{ConnectorError, TableLoad, TableName};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Row};

use super::ddl::quote_table;
use super::error::Failure;
use super::work::Work;

/// Types of a batch's columns, in its order.
pub(super) type Types = Vec<Target>;

/// The type of a column.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// What is written; of a domain the type it is made of. `None`: a type that nobody knows but the server.
    pub(super) own: Option<Type>,
    /// Its name, for error messages.
    pub(super) name: String,
}

/// See the module's text: by table and column.
pub(super) struct Targets(BTreeMap<String, BTreeMap<String, Target>>);

const TYPES: &str = "SELECT t.name, a.attname, y.typname,
        CASE y.typtype WHEN 'd' THEN y.typbasetype ELSE y.oid END
    FROM unnest($1::text[]) AS t (name)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = t.name::regclass AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_catalog.pg_type y ON y.oid = a.atttypid";

impl Targets {
    /// Locks the tables and asks.
    pub(super) async fn of<'a>(
        work: &mut Work<'_>,
        loads: impl Iterator<Item = &'a TableLoad>,
    ) -> Result<Self, Failure> {
        let names: Vec<String> = loads.map(|load| quote_table(&load.name)).collect::<Result<_, _>>()?;
        if names.is_empty() {
            return Ok(Self(BTreeMap::new()));
        }
        work.run(&format!("LOCK TABLE {} IN ROW EXCLUSIVE MODE", names.join(", "))).await?;
        Ok(Self::from_rows(&work.query(TYPES, &[&names]).await?)?)
    }

    /// The types of some columns of a table as they are now, in their order.
    pub(super) async fn look(
        client: &Client,
        table: &TableName,
        columns: &[String],
    ) -> Result<Types, Failure> {
        let rows = client.query(TYPES, &[&[quote_table(table)?].as_slice()]).await?;
        Ok(Self::from_rows(&rows)?.types(table, columns.iter().map(String::as_str))?)
    }

    fn from_rows(rows: &[Row]) -> Result<Self, Error> {
        let mut tables: BTreeMap<String, BTreeMap<String, Target>> = BTreeMap::new();
        for row in rows {
            let (table, column, name): (String, String, String) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let target = Target { own: Type::from_oid(row.try_get(3)?), name };
            tables.entry(table).or_default().insert(column, target);
        }
        Ok(Self(tables))
    }

    /// # Errors
    /// `Retry`: the table has no such column (any more), so it is to be described again.
    pub(super) fn types<'a>(
        &self,
        table: &TableName,
        columns: impl Iterator<Item = &'a str>,
    ) -> Result<Types, ConnectorError> {
        let quoted = quote_table(table)?;
        let known = self.0.get(&quoted);
        let target = |column: &str| {
            known.and_then(|known| known.get(column)).cloned().ok_or_else(|| {
                ConnectorError::retry("column_missing", format!("table {quoted} has no column {column:?}"))
            })
        };
        columns.map(target).collect()
    }
}
