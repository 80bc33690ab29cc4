//! What has to happen so that tables that were made anew take the places of those that people read. Pure.

use millrace_columnar::TableSchema;
use millrace_connector::{Dialect, Replacement, SchemaChange, TableName, TableSchemas};

use crate::Error;
use crate::plan::holds;

/// The swap of a rebuild.
#[derive(Debug, PartialEq)]
pub(super) struct Swap {
    /// What people's tables lack: tables and columns that are new.
    pub(super) changes: Vec<SchemaChange>,
    pub(super) replacements: Vec<Replacement>,
    /// Tables that stay as they are, since today's rules make no row of them. Whether they were ever the
    /// connection's nobody can tell.
    pub(super) left: Vec<String>,
}

/// Plans the swap of `anew`, the tables of schema `from`, into `present`, those of schema `to`. Columns that only
/// `present` has stay, and are null.
///
/// # Errors
/// A column is of another type in one than in the other: somebody changed it meanwhile.
pub(super) fn swap(
    (from, anew): (&str, &TableSchemas),
    (to, present): (&str, &TableSchemas),
    dialect: &Dialect,
) -> Result<Swap, Error> {
    let (mut changes, mut replacements) = (Vec::new(), Vec::new());
    for (table, columns) in anew {
        match present.get(table) {
            None => {
                changes.push(SchemaChange::CreateTable { table: table.clone(), columns: columns.clone() })
            }
            Some(known) => {
                check(to, table, columns, known, dialect)?;
                let columns: TableSchema =
                    columns.iter().filter(|(name, _)| !known.contains_key(*name)).map(owned).collect();
                if !columns.is_empty() {
                    changes.push(SchemaChange::AddColumns { table: table.clone(), columns });
                }
            }
        }
        let name = |schema: &str| TableName { schema: schema.to_owned(), table: table.clone() };
        replacements.push(Replacement { from: name(from), to: name(to) });
    }
    if present.is_empty() && !changes.is_empty() {
        changes.insert(0, SchemaChange::CreateSchema);
    }
    let left = present.keys().filter(|table| !anew.contains_key(*table)).cloned().collect();
    Ok(Swap { changes, replacements, left })
}

fn owned<T: Copy>((name, own): (&String, &T)) -> (String, T) {
    (name.clone(), *own)
}

fn check(
    schema: &str,
    table: &str,
    columns: &TableSchema,
    known: &TableSchema,
    dialect: &Dialect,
) -> Result<(), Error> {
    for (column, own) in columns {
        match known.get(column) {
            Some(is) if !holds(*is, *own, dialect) => {
                return Err(Error::JobState(format!(
                    "column {column:?} of {schema}.{table} is {is}, but {own} in the rebuild, since it was changed \
                     while that was made; discard the rebuild and begin it again"
                )));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use millrace_connector::dialect;
    use millrace_event_model::FieldType::{self, Int, String as Text, Text as LongText};

    use super::*;

    fn tables(tables: &[(&str, &[(&str, FieldType)])]) -> TableSchemas {
        let columns = |columns: &[(&str, FieldType)]| {
            columns.iter().map(|(name, own)| ((*name).to_owned(), *own)).collect::<TableSchema>()
        };
        tables.iter().map(|(table, own)| ((*table).to_owned(), columns(own))).collect()
    }

    #[test]
    fn each_table_that_was_made_anew_replaces_its_own_and_what_is_new_is_made() {
        let present = tables(&[("gone", &[("id", Text)]), ("tracks", &[("id", Text), ("old", Int)])]);
        let anew = tables(&[("new", &[("id", Text)]), ("tracks", &[("id", LongText), ("seats", Int)])]);
        let dialect = dialect("postgres").unwrap();
        let planned = swap(("web__rebuild", &anew), ("web", &present), dialect).unwrap();
        let columns = |own: &[(&str, FieldType)]| tables(&[("t", own)]).remove("t").unwrap();
        let changes = [
            SchemaChange::CreateTable { table: "new".to_owned(), columns: columns(&[("id", Text)]) },
            SchemaChange::AddColumns { table: "tracks".to_owned(), columns: columns(&[("seats", Int)]) },
        ];
        assert_eq!(planned.changes, changes);
        let pairs = planned
            .replacements
            .iter()
            .map(|one| format!("{}.{} {}.{}", one.from.schema, one.from.table, one.to.schema, one.to.table));
        assert_eq!(pairs.collect::<Vec<_>>(), ["web__rebuild.new web.new", "web__rebuild.tracks web.tracks"]);
        assert_eq!(planned.left, ["gone"]);
    }

    #[test]
    fn a_schema_that_somebody_removed_is_made_again() {
        let (present, anew) = (tables(&[]), tables(&[("t", &[("id", Text)])]));
        let planned = swap(("s__rebuild", &anew), ("s", &present), dialect("postgres").unwrap()).unwrap();
        let columns = anew["t"].clone();
        let create = SchemaChange::CreateTable { table: "t".to_owned(), columns };
        assert_eq!(planned.changes, [SchemaChange::CreateSchema, create]);
    }

    #[test]
    fn a_column_that_became_another_one_meanwhile_is_refused_by_name() {
        let (present, anew) = (tables(&[("t", &[("n", Text)])]), tables(&[("t", &[("n", Int)])]));
        let error = swap(("s__rebuild", &anew), ("s", &present), dialect("lake").unwrap()).unwrap_err();
        let expected = "column \"n\" of s.t is string, but int in the rebuild, since it was changed";
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}
