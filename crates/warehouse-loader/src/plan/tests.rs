#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeSet;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;

const STAMP: Stamp = Stamp { at: DateTime::UNIX_EPOCH, upper_case: false };

fn any_type() -> impl Strategy<Value = FieldType> {
    prop_oneof![
        Just(FieldType::Int),
        Just(FieldType::Float),
        Just(FieldType::Boolean),
        Just(FieldType::DateTime),
        Just(FieldType::String),
        Just(FieldType::Text),
        Just(FieldType::Json),
    ]
}

fn any_cell() -> impl Strategy<Value = Cell> {
    prop_oneof![
        Just(Cell::Null),
        any::<i64>().prop_map(Cell::Int),
        (-1e6..1e6).prop_map(Cell::Float),
        any::<bool>().prop_map(Cell::Boolean),
        (0..4_000_000_000_000_000_i64).prop_map(Cell::DateTime),
        "[a-z]{0,3}".prop_map(Cell::String),
        Just(Cell::Json("{}".to_owned())),
    ]
}

fn any_row() -> impl Strategy<Value = Row> {
    btree_map("[a-e]", any_cell(), 0..5)
}

/// Rows with the columns that their first values ask for, as the mapping makes them.
fn table_rows(rows: Vec<Row>, write: WriteMode) -> TableRows {
    let mut columns = TableSchema::from([("uuid_ts".to_owned(), FieldType::DateTime)]);
    for row in &rows {
        let own = row.iter().filter_map(|(name, cell)| Some((name.clone(), cell.field_type()?))).collect();
        widen::extend(&mut columns, &own);
    }
    TableRows { columns, rows, write }
}

fn appended() -> impl Strategy<Value = RowsByTable> {
    btree_map("[t-v]", vec(any_row(), 0..4).prop_map(|rows| vec![table_rows(rows, WriteMode::Append)]), 0..3)
}

fn keyed(write: WriteMode) -> impl Strategy<Value = RowsByTable> {
    let row = (any_row(), 0_i64..3, 0_i64..9).prop_map(|(mut row, id, at)| {
        row.insert("id".to_owned(), Cell::String(id.to_string()));
        row.insert("received_at".to_owned(), Cell::DateTime(at));
        row
    });
    btree_map("[t-v]", vec(row, 0..6).prop_map(move |rows| vec![table_rows(rows, write.clone())]), 0..3)
}

fn any_batch() -> impl Strategy<Value = RowsByTable> {
    prop_oneof![
        appended(),
        keyed(WriteMode::Upsert { key: vec!["id".to_owned()] }),
        keyed(WriteMode::MergeLatest { key: "id".to_owned(), order: "received_at".to_owned() }),
        (appended(), keyed(WriteMode::Upsert { key: vec!["id".to_owned()] })).prop_map(
            |(mut first, second)| {
                for (table, parts) in second {
                    first.entry(table).or_default().extend(parts);
                }
                first
            }
        ),
    ]
}

/// All rows of a table that are appended.
fn appended_rows(rows: &RowsByTable, table: &str) -> Vec<Row> {
    let parts = rows.get(table).into_iter().flatten().filter(|part| part.write == WriteMode::Append);
    parts.flat_map(|part| part.rows.clone()).collect()
}

fn any_tables() -> impl Strategy<Value = TableSchemas> {
    btree_map("[t-v]|rudder_discards", btree_map("[a-e]", any_type(), 0..5), 0..4)
}

/// What the warehouse's tables are once the changes are made.
fn applied(existing: &TableSchemas, changes: &[SchemaChange]) -> TableSchemas {
    let mut tables = existing.clone();
    for change in changes {
        match change {
            SchemaChange::CreateSchema => {}
            SchemaChange::CreateTable { table, columns } => {
                tables.insert(table.clone(), columns.clone());
            }
            SchemaChange::AddColumns { table, columns } | SchemaChange::WidenColumns { table, columns } => {
                tables.get_mut(table).expect("the table is there").extend(columns.clone());
            }
        }
    }
    tables
}

fn planned(existing: &TableSchemas, batch: &RowsByTable) -> Plan {
    plan(existing, batch.clone(), STAMP).unwrap()
}

/// What the discards say of a value: table, column, value.
fn discarded(plan: &Plan) -> BTreeSet<(String, String, String)> {
    let text = |row: &Row, column: &str| match row.get(column) {
        Some(Cell::String(text)) => text.clone(),
        _ => String::new(),
    };
    appended_rows(&plan.loads, "rudder_discards")
        .iter()
        .map(|row| (text(row, "table_name"), text(row, "column_name"), text(row, "column_value")))
        .collect()
}

proptest! {
    #[test]
    fn a_plan_only_widens(existing in any_tables(), batch in any_batch()) {
        for change in planned(&existing, &batch).changes {
            match change {
                SchemaChange::CreateSchema => prop_assert!(existing.is_empty()),
                SchemaChange::CreateTable { table, .. } => prop_assert!(!existing.contains_key(&table)),
                SchemaChange::AddColumns { table, columns } => {
                    let there = existing.get(&table).expect("columns are added to a table that is there");
                    prop_assert!(columns.keys().all(|column| !there.contains_key(column)));
                }
                SchemaChange::WidenColumns { table, .. } => prop_assert!(false, "{table} is altered"),
            }
        }
    }

    #[test]
    fn a_plan_never_drops(existing in any_tables(), batch in appended()) {
        let existing: TableSchemas =
            existing.into_iter().filter(|(table, _)| table != "rudder_discards").collect();
        let plan = planned(&existing, &batch);
        let discarded = discarded(&plan);
        for table in batch.keys() {
            let (before, after) = (appended_rows(&batch, table), appended_rows(&plan.loads, table));
            prop_assert_eq!(before.len(), after.len());
            for (row, loaded) in before.iter().zip(after) {
                for (column, cell) in row.iter().filter(|(_, cell)| **cell != Cell::Null) {
                    let value = millrace_columnar::text_of(cell.clone());
                    let kept_as_text = discarded.contains(&(table.clone(), column.clone(), value));
                    prop_assert!(loaded.contains_key(column) || kept_as_text, "{table}.{column}");
                }
            }
        }
    }

    #[test]
    fn the_same_input_gives_the_same_plan(existing in any_tables(), batch in any_batch()) {
        prop_assert_eq!(planned(&existing, &batch), planned(&existing, &batch));
    }

    #[test]
    fn planning_an_applied_plan_is_empty(existing in any_tables(), batch in any_batch()) {
        let first = planned(&existing, &batch);
        let now = applied(&existing, &first.changes);
        let second = planned(&now, &batch);
        prop_assert_eq!(&second.changes, &[]);
        prop_assert_eq!(&second.loads, &first.loads);
        prop_assert!(first.fits(&now));
    }

    #[test]
    fn a_load_fits_its_table(existing in any_tables(), batch in any_batch()) {
        let plan = planned(&existing, &batch);
        let tables = applied(&existing, &plan.changes);
        for (table, load) in plan.loads.iter().flat_map(|(table, parts)| parts.iter().map(move |part| (table, part))) {
            let columns = tables.get(table).expect("the table is there");
            let mut keys = BTreeSet::new();
            for row in &load.rows {
                for (column, cell) in row {
                    let own = cell.field_type().expect("nulls are left out");
                    prop_assert!(holds(*load.columns.get(column).unwrap(), own));
                    prop_assert!(holds(*columns.get(column).unwrap(), own));
                }
                let key = format!("{:?}", row.get("id"));
                prop_assert!(load.write == WriteMode::Append || keys.insert(key));
            }
            millrace_columnar::batch_of(&load.columns, &load.rows).expect("it makes an Arrow batch");
        }
    }
}

fn row(cells: &[(&str, Cell)]) -> Row {
    cells.iter().map(|(name, cell)| ((*name).to_owned(), cell.clone())).collect()
}

#[test]
fn a_value_that_does_not_fit_is_kept_with_its_row_and_reason() {
    let event = row(&[
        ("id", Cell::String("m-1".into())),
        ("received_at", Cell::DateTime(5)),
        ("paid", Cell::String("maybe".into())),
    ]);
    let batch = RowsByTable::from([("tracks".to_owned(), vec![table_rows(vec![event], WriteMode::Append)])]);
    let existing =
        TableSchemas::from([("tracks".to_owned(), TableSchema::from([("paid".into(), FieldType::Boolean)]))]);
    let plan = plan(&existing, batch, STAMP).unwrap();
    let expected = row(&[
        ("table_name", Cell::String("tracks".into())),
        ("row_id", Cell::String("m-1".into())),
        ("column_name", Cell::String("paid".into())),
        ("column_value", Cell::String("maybe".into())),
        ("reason", Cell::String("incompatible schema conversion from boolean to string".into())),
        ("received_at", Cell::DateTime(5)),
        ("uuid_ts", Cell::DateTime(0)),
    ]);
    assert_eq!(plan.loads["rudder_discards"][0].rows, [expected]);
}

#[test]
fn an_upper_case_warehouse_gets_upper_case_names() {
    let mut batch = table_rows(vec![row(&[("ID", Cell::Int(1))])], WriteMode::Append);
    batch.columns =
        TableSchema::from([("ID".into(), FieldType::Int), ("UUID_TS".into(), FieldType::DateTime)]);
    let existing =
        TableSchemas::from([("T".to_owned(), TableSchema::from([("ID".into(), FieldType::Boolean)]))]);
    let plan = plan(
        &existing,
        RowsByTable::from([("T".to_owned(), vec![batch])]),
        Stamp { upper_case: true, ..STAMP },
    )
    .unwrap();
    assert_eq!(plan.loads["T"][0].rows, [row(&[("UUID_TS", Cell::DateTime(0))])]);
    assert_eq!(plan.loads["RUDDER_DISCARDS"][0].rows[0]["COLUMN_VALUE"], Cell::String("1".into()));
}

#[test]
fn a_table_without_rows_is_made_but_not_loaded() {
    let columns = TableSchema::from([("a".into(), FieldType::Int)]);
    let mut batch = RowsByTable::new();
    part_of(&mut batch, "t", &WriteMode::Stage { generation: 1 }).columns.clone_from(&columns);
    let plan = plan(&TableSchemas::new(), batch, STAMP).unwrap();
    let table = "t".to_owned();
    assert_eq!(plan.changes, [SchemaChange::CreateSchema, SchemaChange::CreateTable { table, columns }]);
    assert!(plan.loads.is_empty());
}

#[test]
fn rows_that_are_written_in_two_ways_share_their_table_and_its_types() {
    let parts = [
        table_rows(vec![row(&[("a", Cell::Int(1))])], WriteMode::Append),
        table_rows(
            vec![row(&[("a", Cell::Float(2.5)), ("b", Cell::Int(1))])],
            WriteMode::Stage { generation: 1 },
        ),
    ];
    let plan =
        plan(&TableSchemas::new(), RowsByTable::from([("t".to_owned(), parts.into())]), STAMP).unwrap();
    let columns = [("a", FieldType::Int), ("b", FieldType::Int), ("uuid_ts", FieldType::DateTime)];
    let columns = columns.map(|(name, own)| (name.to_owned(), own)).into();
    let create = SchemaChange::CreateTable { table: "t".into(), columns };
    assert_eq!(plan.changes, [SchemaChange::CreateSchema, create]);
    assert_eq!(plan.loads["t"][1].rows[0]["a"], Cell::Int(2), "of the type that the first part made");
}

#[test]
fn a_key_that_its_column_cannot_hold_stops_the_connection() {
    let write = WriteMode::Upsert { key: vec!["k".into()] };
    let batch = table_rows(vec![row(&[("k", Cell::String("x".into()))])], write);
    let existing = TableSchemas::from([("t".to_owned(), TableSchema::from([("k".into(), FieldType::Int)]))]);
    let error = plan(&existing, RowsByTable::from([("t".to_owned(), vec![batch])]), STAMP).unwrap_err();
    let expected = PlanError::KeyDoesNotFit { table: "t".into(), column: "k".into(), is: FieldType::Int };
    assert_eq!(error, expected);
}

#[test]
fn a_column_that_another_connection_made_otherwise_is_noticed() {
    let batch = table_rows(vec![row(&[("a", Cell::Int(1))])], WriteMode::Append);
    let plan = plan(&TableSchemas::new(), RowsByTable::from([("t".to_owned(), vec![batch])]), STAMP).unwrap();
    let tables = |a| {
        let columns = [("a".to_owned(), a), ("uuid_ts".to_owned(), FieldType::DateTime)];
        TableSchemas::from([("t".to_owned(), TableSchema::from(columns))])
    };
    assert!(plan.fits(&tables(FieldType::Int)));
    assert!(!plan.fits(&tables(FieldType::String)));
    assert!(!plan.fits(&TableSchemas::new()));
}
