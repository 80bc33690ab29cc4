//! Drift: what a connection changes in its schema, as entries of the audit topic. Pure.

use chrono::{DateTime, Utc};
use millrace_columnar::TableSchema;
use millrace_connector::SchemaChange;
use millrace_event_model::AuditEntry;

use crate::{ConnectionOptions, PlanError};

/// Columns that an entry names; of more it tells how many.
const NAMED: usize = 50;

/// An entry for each change: `schema.table_created`, `schema.columns_added` or `schema.columns_widened`, and as
/// its subject `<connection> <schema>.<table>: <column> <type>, …`.
pub(crate) fn entries(
    connection: &ConnectionOptions,
    changes: &[SchemaChange],
    at: DateTime<Utc>,
) -> Vec<AuditEntry> {
    let entry = |change: &SchemaChange| {
        let (action, table, columns) = match change {
            // A schema is made for its first table, which is told of.
            SchemaChange::CreateSchema => return None,
            SchemaChange::CreateTable { table, columns } => ("schema.table_created", table, columns),
            SchemaChange::AddColumns { table, columns } => ("schema.columns_added", table, columns),
            SchemaChange::WidenColumns { table, columns } => ("schema.columns_widened", table, columns),
        };
        let what = format!("{table}: {}", listed(columns));
        Some(audit(connection, action, &what, at))
    };
    changes.iter().filter_map(entry).collect()
}

/// The entry of a change that the contract `freeze` refused: `schema.change_refused`.
pub(crate) fn refusal(
    connection: &ConnectionOptions,
    error: &PlanError,
    at: DateTime<Utc>,
) -> Option<AuditEntry> {
    let PlanError::Frozen { table, column, .. } = error else { return None };
    let what = column.as_ref().map_or_else(|| table.clone(), |column| format!("{table}: {column}"));
    Some(audit(connection, "schema.change_refused", &what, at))
}

fn audit(connection: &ConnectionOptions, action: &str, what: &str, at: DateTime<Utc>) -> AuditEntry {
    AuditEntry {
        at,
        actor: format!("warehouse-loader/{}", std::process::id()),
        action: action.to_owned(),
        subject: format!("{} {}.{what}", connection.id, connection.schema),
    }
}

fn listed(columns: &TableSchema) -> String {
    let mut named: Vec<String> =
        columns.iter().take(NAMED).map(|(name, own)| format!("{name} {own}")).collect();
    if columns.len() > NAMED {
        named.push(format!("and {} more", columns.len() - NAMED));
    }
    named.join(", ")
}
