#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeSet;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use millrace_columnar::{Cell, Row, Rows, rows_of};
use millrace_connector::dialect;

use super::*;

mod records;

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
        Just(FieldType::Decimal),
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
        "-?[1-9][0-9]{0,9}(\\.[0-9]{1,9})?".prop_map(Cell::Decimal),
    ]
}

/// Events into a warehouse that knows all types and widens.
fn rules() -> Rules {
    Rules {
        stamp: STAMP,
        contract: Contract::Evolve,
        kind: Kind::Events,
        dialect: dialect("postgres").unwrap(),
    }
}

fn rules_of(kind: Kind, contract: Contract) -> Rules {
    Rules { kind, contract, ..rules() }
}

fn any_rules() -> impl Strategy<Value = Rules> {
    let kind = prop_oneof![Just(Kind::Events), Just(Kind::Records)];
    let widening = prop_oneof![Just("postgres"), Just("lake")];
    (kind, widening).prop_map(|(kind, name)| Rules { kind, dialect: dialect(name).unwrap(), ..rules() })
}

fn any_row() -> impl Strategy<Value = Row> {
    btree_map("[a-e]", any_cell(), 0..5)
}

/// Rows with the columns that their first values ask for, as the mapping makes them, in two blocks.
fn table_rows(rows: &[Row], write: WriteMode) -> TableRows {
    let (first, second) = rows.split_at(rows.len() / 2);
    TableRows { write, blocks: [first, second].map(block).into() }
}

fn block(rows: &[Row]) -> Block {
    let mut columns = TableSchema::from([("uuid_ts".to_owned(), FieldType::DateTime)]);
    for row in rows {
        let own = row.iter().filter_map(|(name, cell)| Some((name.clone(), cell.field_type()?))).collect();
        widen::extend(&mut columns, &own);
    }
    Rows::of(&columns, rows).finish()
}

fn appended() -> impl Strategy<Value = RowsByTable> {
    let part = vec(any_row(), 0..6).prop_map(|rows| vec![table_rows(&rows, WriteMode::Append)]);
    btree_map("[t-v]", part, 0..3)
}

fn keyed(write: WriteMode) -> impl Strategy<Value = RowsByTable> {
    let row = (any_row(), 0_i64..3, 0_i64..9).prop_map(|(mut row, id, at)| {
        row.insert("id".to_owned(), Cell::String(id.to_string()));
        row.insert("received_at".to_owned(), Cell::DateTime(at));
        row
    });
    btree_map("[t-v]", vec(row, 0..6).prop_map(move |rows| vec![table_rows(&rows, write.clone())]), 0..3)
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

/// Rows of a table before planning that are appended.
fn rows_before(rows: &RowsByTable, table: &str) -> Vec<Row> {
    let parts = rows.get(table).into_iter().flatten().filter(|part| part.write == WriteMode::Append);
    parts.flat_map(|part| part.blocks.iter().flat_map(Block::rows)).collect()
}

/// Rows of a table as planned that are appended.
fn appended_rows(plan: &Plan, table: &str) -> Vec<Row> {
    let parts = plan.loads.get(table).into_iter().flatten().filter(|part| part.write == WriteMode::Append);
    parts.flat_map(rows_of_part).collect()
}

fn rows_of_part(part: &TableBatches) -> Vec<Row> {
    part.batches.iter().flat_map(|batch| rows_of(batch).unwrap()).collect()
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

fn planned(existing: &TableSchemas, batch: &RowsByTable, rules: &Rules) -> Plan {
    plan(existing, batch.clone(), rules).unwrap()
}

/// Whether a value is there as it was, as of whatever type.
fn is_whole(cell: &Cell, loaded: &Cell) -> bool {
    let [was, is] = [cell, loaded].map(|cell| millrace_columnar::text_of(cell.clone()));
    was == is
        || (matches!(loaded, Cell::Json(_))
            && serde_json::from_str(&is).is_ok_and(|text: String| text == was))
}

/// What the discards say of a value: table, column, value.
fn discarded(plan: &Plan) -> BTreeSet<(String, String, String)> {
    let text = |row: &Row, column: &str| match row.get(column) {
        Some(Cell::String(text)) => text.clone(),
        _ => String::new(),
    };
    appended_rows(plan, "rudder_discards")
        .iter()
        .map(|row| (text(row, "table_name"), text(row, "column_name"), text(row, "column_value")))
        .collect()
}

proptest! {
    #[test]
    fn a_plan_only_widens(existing in any_tables(), batch in any_batch(), rules in any_rules()) {
        for change in planned(&existing, &batch, &rules).changes {
            match change {
                SchemaChange::CreateSchema => prop_assert!(existing.is_empty()),
                SchemaChange::CreateTable { table, .. } => prop_assert!(!existing.contains_key(&table)),
                SchemaChange::AddColumns { table, columns } => {
                    let there = existing.get(&table).expect("columns are added to a table that is there");
                    prop_assert!(columns.keys().all(|column| !there.contains_key(column)));
                }
                SchemaChange::WidenColumns { table, columns } => {
                    prop_assert!(rules.kind == Kind::Records && rules.dialect.widens, "{} is altered", table);
                    for (column, wide) in columns {
                        let is = existing[&table][&column];
                        prop_assert!(is != wide && widen::join(is, wide) == wide, "{is} to {wide}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_plan_never_drops(existing in any_tables(), batch in appended(), rules in any_rules()) {
        let existing: TableSchemas =
            existing.into_iter().filter(|(table, _)| table != "rudder_discards").collect();
        let plan = planned(&existing, &batch, &rules);
        let discarded = discarded(&plan);
        for table in batch.keys() {
            let (before, after) = (rows_before(&batch, table), appended_rows(&plan, table));
            prop_assert_eq!(before.len(), after.len());
            for (row, loaded) in before.iter().zip(after) {
                for (column, cell) in row.iter().filter(|(_, cell)| **cell != Cell::Null) {
                    let value = millrace_columnar::text_of(cell.clone());
                    let kept_as_text = discarded.contains(&(table.clone(), column.clone(), value));
                    let beside = format!("{column}__v_");
                    let mut places = loaded.iter().filter(|(name, _)| *name == column || name.starts_with(&beside));
                    // Of events a fraction may go, as RudderStack's does; of records nothing.
                    let whole = |loaded: &Cell| rules.kind == Kind::Events || is_whole(cell, loaded);
                    let kept = places.any(|(_, loaded)| whole(loaded)) || kept_as_text;
                    prop_assert!(kept, "{table}.{column}: {cell:?} in {loaded:?}");
                }
            }
        }
    }

    #[test]
    fn the_same_input_gives_the_same_plan(
        existing in any_tables(),
        batch in any_batch(),
        rules in any_rules(),
    ) {
        prop_assert_eq!(planned(&existing, &batch, &rules), planned(&existing, &batch, &rules));
    }

    #[test]
    fn planning_an_applied_plan_is_empty(
        existing in any_tables(),
        batch in any_batch(),
        rules in any_rules(),
    ) {
        let first = planned(&existing, &batch, &rules);
        let now = applied(&existing, &first.changes);
        let second = planned(&now, &batch, &rules);
        prop_assert_eq!(&second.changes, &[]);
        prop_assert_eq!(&second.loads, &first.loads);
        prop_assert!(first.fits(&now, rules.dialect));
    }

    #[test]
    fn a_load_fits_its_table(existing in any_tables(), batch in any_batch(), rules in any_rules()) {
        let plan = planned(&existing, &batch, &rules);
        prop_assert!(plan.fits(&applied(&existing, &plan.changes), rules.dialect));
        for part in plan.loads.values().flatten() {
            prop_assert!(part.batches.iter().all(|batch| batch.num_rows() > 0));
            prop_assert!(part.batches.windows(2).all(|pair| pair[0].schema() == pair[1].schema()));
            let rows = rows_of_part(part);
            let keys: BTreeSet<String> = rows.iter().map(|row| format!("{:?}", row.get("id"))).collect();
            prop_assert!(part.write == WriteMode::Append || keys.len() == rows.len());
        }
    }

    #[test]
    fn only_evolve_changes_tables(
        existing in any_tables(),
        batch in appended(),
        rules in any_rules(),
        row in any::<bool>(),
    ) {
        let contract = if row { Contract::DiscardRow } else { Contract::DiscardValue };
        let existing: TableSchemas =
            existing.into_iter().filter(|(table, _)| table != "rudder_discards").collect();
        let plan = planned(&existing, &batch, &Rules { contract, ..rules });
        for change in &plan.changes {
            let made = matches!(change, SchemaChange::CreateTable { table, .. } if table == "rudder_discards");
            prop_assert!(made || *change == SchemaChange::CreateSchema, "{change:?}");
        }
        let whole = discarded(&plan).into_iter().filter(|(_, column, _)| column.is_empty()).count();
        for table in batch.keys() {
            let (before, after) = (rows_before(&batch, table).len(), appended_rows(&plan, table).len());
            prop_assert!(after <= before && (after == before || whole > 0));
        }
    }
}

fn row(cells: &[(&str, Cell)]) -> Row {
    cells.iter().map(|(name, cell)| ((*name).to_owned(), cell.clone())).collect()
}

fn batch_of_one(table: &str, part: TableRows) -> RowsByTable {
    RowsByTable::from([(table.to_owned(), vec![part])])
}

fn tables(table: &str, columns: &[(&str, FieldType)]) -> TableSchemas {
    let columns = columns.iter().map(|(name, own)| ((*name).to_owned(), *own)).collect();
    TableSchemas::from([(table.to_owned(), columns)])
}

#[test]
fn a_value_that_does_not_fit_is_kept_with_its_row_and_reason() {
    let event = row(&[
        ("id", Cell::String("m-1".into())),
        ("received_at", Cell::DateTime(5)),
        ("paid", Cell::String("maybe".into())),
    ]);
    let batch = batch_of_one("tracks", table_rows(&[event], WriteMode::Append));
    let plan = planned(&tables("tracks", &[("paid", FieldType::Boolean)]), &batch, &rules());
    let expected = row(&[
        ("table_name", Cell::String("tracks".into())),
        ("row_id", Cell::String("m-1".into())),
        ("column_name", Cell::String("paid".into())),
        ("column_value", Cell::String("maybe".into())),
        ("reason", Cell::String("incompatible schema conversion from boolean to string".into())),
        ("received_at", Cell::DateTime(5)),
        ("uuid_ts", Cell::DateTime(0)),
    ]);
    assert_eq!(appended_rows(&plan, "rudder_discards"), [expected]);
    assert_eq!(plan.discarded, 1);
}

#[test]
fn a_column_of_the_tables_type_is_not_copied() {
    let block = block(&[row(&[("a", Cell::String("x".into()))])]);
    let before = block.column("a").unwrap().values.clone().unwrap();
    let part = TableRows { write: WriteMode::Append, blocks: vec![block] };
    let plan = planned(&TableSchemas::new(), &batch_of_one("t", part), &rules());
    let after = plan.loads["t"][0].batches[0].column_by_name("a").unwrap().clone();
    assert!(std::sync::Arc::ptr_eq(&before, &after));
}

#[test]
fn an_upper_case_warehouse_gets_upper_case_names() {
    let columns = [("ID".to_owned(), FieldType::Int), ("UUID_TS".to_owned(), FieldType::DateTime)].into();
    let blocks = vec![Rows::of(&columns, &[row(&[("ID", Cell::Int(1))])]).finish()];
    let batch = batch_of_one("T", TableRows { write: WriteMode::Append, blocks });
    let existing = tables("T", &[("ID", FieldType::Boolean)]);
    let plan = planned(&existing, &batch, &Rules { stamp: Stamp { upper_case: true, ..STAMP }, ..rules() });
    assert_eq!(appended_rows(&plan, "T"), [row(&[("UUID_TS", Cell::DateTime(0))])]);
    assert_eq!(appended_rows(&plan, "RUDDER_DISCARDS")[0]["COLUMN_VALUE"], Cell::String("1".into()));
}

#[test]
fn a_table_without_rows_is_made_but_not_loaded() {
    let columns = TableSchema::from([("a".into(), FieldType::Int)]);
    let write = WriteMode::Stage { generation: 1 };
    let blocks = vec![Rows::of(&columns, &[]).finish()];
    let plan = planned(&TableSchemas::new(), &batch_of_one("t", TableRows { write, blocks }), &rules());
    let table = "t".to_owned();
    assert_eq!(plan.changes, [SchemaChange::CreateSchema, SchemaChange::CreateTable { table, columns }]);
    assert!(plan.loads.is_empty());
}

#[test]
fn rows_that_are_written_in_two_ways_share_their_table_and_its_types() {
    let parts = [
        table_rows(&[row(&[("a", Cell::Int(1))])], WriteMode::Append),
        table_rows(
            &[row(&[("a", Cell::Float(2.5)), ("b", Cell::Int(1))])],
            WriteMode::Stage { generation: 1 },
        ),
    ];
    let plan = planned(&TableSchemas::new(), &RowsByTable::from([("t".to_owned(), parts.into())]), &rules());
    let columns = [("a", FieldType::Int), ("b", FieldType::Int), ("uuid_ts", FieldType::DateTime)];
    let columns = columns.map(|(name, own)| (name.to_owned(), own)).into();
    let create = SchemaChange::CreateTable { table: "t".into(), columns };
    assert_eq!(plan.changes, [SchemaChange::CreateSchema, create]);
    let second = rows_of_part(&plan.loads["t"][1]);
    assert_eq!(second[0]["a"], Cell::Int(2), "of the type that the first part made");
}

#[test]
fn a_key_that_its_column_cannot_hold_stops_the_connection() {
    let write = WriteMode::Upsert { key: vec!["k".into()] };
    let batch = batch_of_one("t", table_rows(&[row(&[("k", Cell::String("x".into()))])], write));
    let error = plan(&tables("t", &[("k", FieldType::Int)]), batch, &rules()).unwrap_err();
    assert!(matches!(error, PlanError::KeyDoesNotFit { is: FieldType::Int, .. }), "{error}");
}

#[test]
fn a_row_without_its_key_is_discarded_whole() {
    let write = WriteMode::Upsert { key: vec!["k".into(), "l".into()] };
    let keyless = row(&[("k", Cell::Int(1)), ("received_at", Cell::DateTime(5))]);
    let whole = row(&[("k", Cell::Int(1)), ("l", Cell::Int(2))]);
    let plan =
        planned(&TableSchemas::new(), &batch_of_one("t", table_rows(&[keyless, whole], write)), &rules());
    assert_eq!(rows_of_part(&plan.loads["t"][0]).len(), 1);
    let discard = &appended_rows(&plan, "rudder_discards")[0];
    assert_eq!(discard["row_id"], Cell::String("1".into()));
    assert_eq!(discard["reason"], Cell::String("the row has no l, its key".into()));
    let value = millrace_columnar::text_of(discard["column_value"].clone());
    assert!(value.starts_with(r#"{"k":1,"received_at":"1970-01-01T00"#), "{value}");
    assert!(!value.contains("uuid_ts"), "{value}");
}

#[test]
fn a_column_that_another_connection_made_otherwise_is_noticed() {
    let batch = batch_of_one("t", table_rows(&[row(&[("a", Cell::Int(1))])], WriteMode::Append));
    let plan = planned(&TableSchemas::new(), &batch, &rules());
    let fits = |a| plan.fits(&tables("t", &[("a", a), ("uuid_ts", FieldType::DateTime)]), rules().dialect);
    assert!(fits(FieldType::Int));
    assert!(!fits(FieldType::String));
    assert!(!plan.fits(&TableSchemas::new(), rules().dialect));
}

/// Loads one row with `a` under a contract into a table that is there.
fn under(contract: Contract, kind: Kind, is: &[(&str, FieldType)], a: Cell) -> Result<Plan, PlanError> {
    let one = row(&[("id", Cell::String("1".into())), ("a", a)]);
    let batch = batch_of_one("t", table_rows(&[one], WriteMode::Append));
    plan(&tables("t", is), batch, &rules_of(kind, contract))
}

const WITHOUT_A: [(&str, FieldType); 2] = [("id", FieldType::String), ("uuid_ts", FieldType::DateTime)];

#[test]
fn a_frozen_schema_stops_the_connection_and_says_what_to_do() {
    let error = under(Contract::Freeze, Kind::Events, &WITHOUT_A, Cell::Int(1)).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with(r#"table "t" has no column "a", and the connection's contract is freeze"#),
        "{text}"
    );
    assert!(text.contains("set contract: evolve"), "{text}");
    let fits = under(Contract::Freeze, Kind::Events, &WITHOUT_A, Cell::Null).unwrap();
    assert_eq!((fits.changes, fits.discarded), (Vec::new(), 0));
    let batch = batch_of_one("new", table_rows(&[row(&[])], WriteMode::Append));
    let error = plan(&TableSchemas::new(), batch, &rules_of(Kind::Events, Contract::Freeze)).unwrap_err();
    assert!(error.to_string().starts_with(r#"table "new" is not there"#), "{error}");
}

#[test]
fn a_contract_discards_the_value_or_the_row_of_a_new_column() {
    let by_value = under(Contract::DiscardValue, Kind::Events, &WITHOUT_A, Cell::Int(7)).unwrap();
    assert_eq!(appended_rows(&by_value, "t")[0]["id"], Cell::String("1".into()));
    let discard = &appended_rows(&by_value, "rudder_discards")[0];
    assert_eq!(discard["column_value"], Cell::String("7".into()));
    assert_eq!(discard["reason"], Cell::String("discard_value: table t has no column a".into()));

    let by_row = under(Contract::DiscardRow, Kind::Events, &WITHOUT_A, Cell::Int(7)).unwrap();
    assert_eq!(appended_rows(&by_row, "t"), []);
    let discard = &appended_rows(&by_row, "rudder_discards")[0];
    assert_eq!(discard["column_value"], Cell::String(r#"{"a":7,"id":"1"}"#.into()));
    assert_eq!(discard["reason"], Cell::String("discard_row: table t has no column a".into()));
    assert_eq!((discard["row_id"].clone(), discard.get("column_name")), (Cell::String("1".into()), None));
}

#[test]
fn past_the_limit_of_columns_values_are_discarded_and_the_standard_columns_come_first() {
    let most = dialect("clickhouse").unwrap().max_columns.unwrap();
    let mut wide: Row = (0..most).map(|n| (format!("c{n:04}"), Cell::Int(1))).collect();
    wide.insert("user_id".to_owned(), Cell::String("ann".into()));
    let batch = batch_of_one("t", table_rows(&[wide], WriteMode::Append));
    let rules = Rules { dialect: dialect("clickhouse").unwrap(), ..rules() };
    let plan = planned(&TableSchemas::new(), &batch, &rules);
    let loaded = &appended_rows(&plan, "t")[0];
    assert_eq!(loaded.len(), most);
    assert!(loaded.contains_key("user_id") && loaded.contains_key("uuid_ts"));
    let discards = appended_rows(&plan, "rudder_discards");
    let names: Vec<_> = discards.iter().map(|discard| discard["column_name"].clone()).collect();
    assert_eq!(names, ["c0998", "c0999"].map(|name| Cell::String(name.into())));
    let reason = "table t has as many columns as it may have";
    assert_eq!(discards[0]["reason"], Cell::String(reason.into()));
}
