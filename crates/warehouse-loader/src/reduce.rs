//! Several rows of one key in one batch become one: a warehouse never sees a key twice in a load, but for
//! appended rows.

use std::collections::BTreeMap;

use millrace_columnar::{Cell, Row, text_of};
use millrace_connector::WriteMode;

/// One row per key, in the order of the keys; appended and staged rows stay as they are. Cells have
/// their columns' types already, so that keys are equal when the warehouse finds them equal.
pub(crate) fn reduce(rows: Vec<Row>, write: &WriteMode) -> Vec<Row> {
    match write {
        WriteMode::Append | WriteMode::Stage { .. } => rows,
        WriteMode::Upsert { key } => {
            let mut last = BTreeMap::new();
            for row in rows {
                last.insert(key_of(&row, key), row);
            }
            last.into_values().collect()
        }
        WriteMode::MergeLatest { key, order } => merge_latest(rows, key, order),
    }
}

/// The key column that some row lacks.
pub(crate) fn null_key(rows: &[Row], write: &WriteMode) -> Option<String> {
    let key = match write {
        WriteMode::Append | WriteMode::Stage { .. } => return None,
        WriteMode::Upsert { key } => key.as_slice(),
        WriteMode::MergeLatest { key, .. } => std::slice::from_ref(key),
    };
    key.iter().find(|column| rows.iter().any(|row| is_null(row, column))).cloned()
}

fn is_null(row: &Row, column: &str) -> bool {
    matches!(row.get(column), None | Some(Cell::Null))
}

fn key_of(row: &Row, key: &[String]) -> Vec<String> {
    key.iter().map(|column| row.get(column).cloned().map(text_of).unwrap_or_default()).collect()
}

/// Per key and column the latest value that is not null: `users` holds what was last said of a user, and
/// silence takes nothing back. Of the same moment, the later in the log wins.
fn merge_latest(rows: Vec<Row>, key: &str, order: &str) -> Vec<Row> {
    let mut by_key: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for row in rows {
        let id = row.get(key).cloned().map(text_of).unwrap_or_default();
        by_key.entry(id).or_default().push(row);
    }
    let merged = by_key.into_values().map(|mut of_one| {
        // Stable: rows of the same moment keep the order of the log.
        of_one.sort_by_key(|row| moment(row, order));
        let mut merged = Row::new();
        for row in of_one {
            merged.extend(row.into_iter().filter(|(_, cell)| *cell != Cell::Null));
        }
        merged
    });
    merged.collect()
}

/// A row without a moment is older than any other.
fn moment(row: &Row, order: &str) -> i64 {
    match row.get(order) {
        Some(Cell::DateTime(micros)) => *micros,
        _ => i64::MIN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[(&str, Cell)]) -> Row {
        cells.iter().map(|(name, cell)| ((*name).to_owned(), cell.clone())).collect()
    }

    fn user(id: &str, at: i64, email: Cell) -> Row {
        row(&[("id", Cell::String(id.to_owned())), ("received_at", Cell::DateTime(at)), ("email", email)])
    }

    #[test]
    fn a_user_is_what_was_last_said_of_them_and_silence_takes_nothing_back() {
        let text = |text: &str| Cell::String(text.to_owned());
        let write = WriteMode::MergeLatest { key: "id".into(), order: "received_at".into() };
        let rows = vec![
            user("b", 1, text("b@1")),
            user("a", 3, Cell::Null),
            user("a", 2, text("a@2")),
            user("a", 1, text("a@1")),
        ];
        assert_eq!(reduce(rows, &write), [user("a", 3, text("a@2")), user("b", 1, text("b@1"))]);
    }

    #[test]
    fn of_the_same_moment_the_later_in_the_log_wins() {
        let write = WriteMode::MergeLatest { key: "id".into(), order: "received_at".into() };
        let rows = vec![user("a", 1, Cell::Int(1)), user("a", 1, Cell::Int(2))];
        assert_eq!(reduce(rows, &write), [user("a", 1, Cell::Int(2))]);
    }

    #[test]
    fn an_upsert_keeps_the_last_row_of_a_key_whole() {
        let write = WriteMode::Upsert { key: vec!["k".into()] };
        let rows = vec![
            row(&[("k", Cell::Int(1)), ("a", Cell::Int(1))]),
            row(&[("k", Cell::Int(2))]),
            row(&[("k", Cell::Int(1)), ("b", Cell::Int(1))]),
        ];
        let expected = [row(&[("k", Cell::Int(1)), ("b", Cell::Int(1))]), row(&[("k", Cell::Int(2))])];
        assert_eq!(reduce(rows, &write), expected);
    }

    #[test]
    fn a_row_without_its_key_is_noticed() {
        let write = WriteMode::Upsert { key: vec!["k".into(), "l".into()] };
        let rows = [row(&[("k", Cell::Int(1)), ("l", Cell::Null)])];
        assert_eq!(null_key(&rows, &write), Some("l".to_owned()));
        assert_eq!(null_key(&rows, &WriteMode::Append), None);
    }
}
