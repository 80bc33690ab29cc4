//! Several rows of one key in one load become one: a warehouse never sees a key twice in a load, but for
//! appended rows.

use std::collections::HashMap;

use ahash::RandomState;
use millrace_columnar::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use millrace_columnar::arrow::compute::{concat_batches, take};
use millrace_columnar::arrow::datatypes::TimestampMicrosecondType;
use millrace_columnar::arrow::error::ArrowError;
use millrace_columnar::arrow::row::{RowConverter, SortField};
use millrace_connector::{Dialect, WriteMode};

use super::keys::comparable;
use super::target::key_of;

/// One row per key; appended and staged rows stay as they are, and so do rows whose keys differ anyway. Cells
/// have their columns' types already; which keys are equal to the warehouse, [`comparable`] knows.
pub(super) fn reduce(
    batches: Vec<RecordBatch>,
    write: &WriteMode,
    dialect: &Dialect,
) -> Result<Vec<RecordBatch>, ArrowError> {
    let key = key_of(write);
    let (Some(first), false) = (batches.first(), key.is_empty()) else { return Ok(batches) };
    let groups = Groups::of(&batches, key, dialect)?;
    if groups.count == groups.of_row.len() {
        return Ok(batches);
    }
    let all = concat_batches(&first.schema(), &batches)?;
    let arrays = match write {
        WriteMode::MergeLatest { order, .. } => merge_latest(&all, &groups, order)?,
        _ => last_rows(&all, &groups)?,
    };
    Ok(vec![RecordBatch::try_new(all.schema(), arrays)?])
}

/// Which rows have a key in common.
struct Groups {
    /// The group of each row, by the order in which the keys first came.
    of_row: Vec<usize>,
    count: usize,
}

impl Groups {
    fn of(batches: &[RecordBatch], key: &[String], dialect: &Dialect) -> Result<Self, ArrowError> {
        let keys_of = |batch: &RecordBatch| -> Vec<ArrayRef> {
            let schema = batch.schema();
            let found = key.iter().filter_map(|column| schema.fields().find(column));
            let keys = found.map(|(index, field)| comparable(field, batch.column(index), dialect));
            keys.collect()
        };
        let fields = batches.first().map(keys_of).unwrap_or_default();
        let fields = fields.iter().map(|array| SortField::new(array.data_type().clone())).collect();
        let converter = RowConverter::new(fields)?;
        let rows = batches.iter().map(|batch| converter.convert_columns(&keys_of(batch)));
        let rows: Vec<_> = rows.collect::<Result<_, _>>()?;
        let len = rows.iter().map(|rows| rows.num_rows()).sum();
        // Seeded alike each time: the groups do not depend on it, only how long it takes.
        let mut known: HashMap<&[u8], usize, RandomState> =
            HashMap::with_capacity_and_hasher(len, RandomState::new());
        let mut of_row = Vec::with_capacity(len);
        for rows in &rows {
            for row in 0..rows.num_rows() {
                let next = known.len();
                of_row.push(*known.entry(rows.row(row).data()).or_insert(next));
            }
        }
        Ok(Self { of_row, count: known.len() })
    }
}

/// Of each key the last row, whole.
fn last_rows(all: &RecordBatch, groups: &Groups) -> Result<Vec<ArrayRef>, ArrowError> {
    let mut last = vec![None; groups.count];
    for (row, group) in (0_u32..).zip(&groups.of_row) {
        if let Some(last) = last.get_mut(*group) {
            *last = Some(row);
        }
    }
    let last = UInt32Array::from(last);
    all.columns().iter().map(|array| take(array, &last, None)).collect()
}

/// Per key and column the latest value that is not null: `users` holds what was last said of a user, and
/// silence takes nothing back. Of the same moment, the later in the log wins; a row without a moment is older
/// than any other.
fn merge_latest(all: &RecordBatch, groups: &Groups, order: &str) -> Result<Vec<ArrayRef>, ArrowError> {
    let order =
        all.column_by_name(order).and_then(|array| array.as_primitive_opt::<TimestampMicrosecondType>());
    let moment = |row: usize| match order {
        Some(moments) if moments.is_valid(row) => moments.value(row),
        _ => i64::MIN,
    };
    let moments: Vec<i64> = (0..all.num_rows()).map(moment).collect();
    let latest = |array: &ArrayRef| {
        let mut latest: Vec<Option<(i64, u32)>> = vec![None; groups.count];
        for (row, ((at, group), index)) in moments.iter().zip(&groups.of_row).zip(0_u32..).enumerate() {
            if let Some(latest) = latest.get_mut(*group)
                && array.is_valid(row)
                && latest.is_none_or(|(before, _)| before <= *at)
            {
                *latest = Some((*at, index));
            }
        }
        let latest: UInt32Array = latest.into_iter().map(|found| found.map(|(_, row)| row)).collect();
        take(array, &latest, None)
    };
    all.columns().iter().map(latest).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use millrace_columnar::{Cell, Row, TableSchema, batch_of, rows_of};
    use millrace_connector::dialect;
    use millrace_event_model::FieldType;

    use super::*;

    fn row(cells: &[(&str, Cell)]) -> Row {
        cells.iter().map(|(name, cell)| ((*name).to_owned(), cell.clone())).collect()
    }

    fn text(text: &str) -> Cell {
        Cell::String(text.to_owned())
    }

    /// Reduces rows that came in two batches.
    fn reduced(columns: &[(&str, FieldType)], rows: &[Row], write: &WriteMode) -> Vec<Row> {
        reduced_for("postgres", columns, rows, write)
    }

    fn reduced_for(kind: &str, columns: &[(&str, FieldType)], rows: &[Row], write: &WriteMode) -> Vec<Row> {
        let columns: TableSchema = columns.iter().map(|(name, own)| ((*name).to_owned(), *own)).collect();
        let (first, second) = rows.split_at(rows.len() / 2);
        let batches = [first, second].map(|rows| batch_of(&columns, rows).unwrap());
        let reduced = reduce(batches.into(), write, dialect(kind).unwrap()).unwrap();
        reduced.iter().flat_map(|batch| rows_of(batch).unwrap()).collect()
    }

    const USER: [(&str, FieldType); 3] =
        [("id", FieldType::String), ("received_at", FieldType::DateTime), ("email", FieldType::String)];

    fn user(id: &str, at: i64, email: Option<&str>) -> Row {
        let mut user = row(&[("id", text(id)), ("received_at", Cell::DateTime(at))]);
        user.extend(email.map(|email| ("email".to_owned(), text(email))));
        user
    }

    fn latest() -> WriteMode {
        WriteMode::MergeLatest { key: "id".into(), order: "received_at".into() }
    }

    #[test]
    fn a_user_is_what_was_last_said_of_them_and_silence_takes_nothing_back() {
        let rows = [
            user("b", 1, Some("b@1")),
            user("a", 3, None),
            user("a", 2, Some("a@2")),
            user("a", 1, Some("a@1")),
        ];
        assert_eq!(reduced(&USER, &rows, &latest()), [user("b", 1, Some("b@1")), user("a", 3, Some("a@2"))]);
    }

    #[test]
    fn of_the_same_moment_the_later_in_the_log_wins() {
        let rows = [user("a", 1, Some("first")), user("a", 1, Some("second"))];
        assert_eq!(reduced(&USER, &rows, &latest()), [user("a", 1, Some("second"))]);
    }

    #[test]
    fn an_upsert_keeps_the_last_row_of_a_key_whole() {
        let write = WriteMode::Upsert { key: vec!["k".into(), "l".into()] };
        let columns =
            [("k", FieldType::Int), ("l", FieldType::String), ("a", FieldType::Int), ("b", FieldType::Int)];
        let of = |k, l, more: &[(&str, Cell)]| {
            let mut all = row(&[("k", Cell::Int(k)), ("l", text(l))]);
            all.extend(row(more));
            all
        };
        let rows = [
            of(1, "x", &[("a", Cell::Int(1))]),
            of(1, "y", &[]),
            of(2, "x", &[]),
            of(1, "x", &[("b", Cell::Int(1))]),
        ];
        let expected = [of(1, "x", &[("b", Cell::Int(1))]), of(1, "y", &[]), of(2, "x", &[])];
        assert_eq!(reduced(&columns, &rows, &write), expected);
    }

    #[test]
    fn rows_whose_keys_differ_and_rows_that_are_added_stay_as_they_are() {
        let rows = [user("a", 1, None), user("b", 1, None)];
        assert_eq!(reduced(&USER, &rows, &latest()), rows);
        let rows = [user("a", 1, None), user("a", 1, None)];
        assert_eq!(reduced(&USER, &rows, &WriteMode::Append), rows);
    }

    #[test]
    fn keys_that_are_one_to_the_warehouse_are_one() {
        let json = |json: &str| Cell::Json(json.to_owned());
        let decimal = |digits: &str| Cell::Decimal(digits.to_owned());
        let same = |kind, one: Cell, other: Cell| {
            let columns = [("k", one.field_type().unwrap()), ("n", FieldType::Int)];
            let rows = [one, other].map(|key| row(&[("k", key)]));
            let write = WriteMode::Upsert { key: vec!["k".into()] };
            reduced_for(kind, &columns, &rows, &write).len() == 1
        };
        assert!(same("postgres", text("a\0b"), text("ab")));
        assert!(!same("lake", text("a\0b"), text("ab")), "the lake keeps them apart");
        for kind in ["postgres", "lake"] {
            assert!(same(kind, decimal("1"), decimal("1.0")), "{kind}");
            assert!(same(kind, decimal("-0.00"), decimal("0")), "{kind}");
            assert!(!same(kind, decimal("10"), decimal("1")), "{kind}");
        }
        assert!(same("postgres", Cell::Float(-0.0), Cell::Float(0.0)));
        assert!(same("postgres", json(r#"{"a": 1.0, "b": "x\u0000"}"#), json(r#"{"b":"x","a":1}"#)));
        assert!(!same("postgres", json("1"), json("\"1\"")));
        assert!(!same("postgres", json("9007199254740993"), json("9007199254740992")));
        assert!(!same("postgres", json("1e-400"), json("0")), "a float would be 0");
        assert!(same("postgres", json("[1e20, -0.0]"), json("[100000000000000000000.0, 0]")));
        let long = "1234567890123456";
        let spaced = format!(r#"{{"at": "{long}", "n": {long}.0}}"#);
        let other = format!(r#"{{"n":{long},"at":"{long}"}}"#);
        assert!(same("postgres", json(&spaced), json(&other)), "digits of a string are no number");
        assert!(!same("postgres", json(&format!("{}1", "[".repeat(500))), json("1")), "no JSON, and no end");
    }
}
