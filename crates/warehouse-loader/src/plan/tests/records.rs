//! Columns of ELT streams: they widen, or another is set beside them.

use millrace_columnar::CellRef;

use super::*;

/// A block of one column `a` of this type, with these values in its rows.
fn values(own: FieldType, values: &[CellRef<'_>]) -> Block {
    let mut rows = Rows::default();
    let a = rows.column("a", own);
    values.iter().for_each(|cell| rows.push([(a, *cell)]));
    rows.finish()
}

/// Plans such blocks as appended rows of table `t`.
fn planned_values(is: &[(&str, FieldType)], blocks: Vec<Block>, rules: &Rules) -> Result<Plan, PlanError> {
    let existing = if is.is_empty() { TableSchemas::new() } else { tables("t", is) };
    plan(&existing, batch_of_one("t", TableRows { write: WriteMode::Append, blocks }), rules)
}

/// Into a warehouse of this kind.
fn of_kind(kind: &str) -> Rules {
    Rules { dialect: dialect(kind).unwrap(), ..rules_of(Kind::Records, Contract::Evolve) }
}

/// The values of a column, row by row.
fn column(plan: &Plan, name: &str) -> Vec<Option<Cell>> {
    let rows = appended_rows(plan, "t");
    rows.iter().map(|row| row.get(name).cloned().filter(|cell| *cell != Cell::Null)).collect()
}

#[test]
fn values_of_one_batch_widen_the_column_that_the_first_began() {
    let block = || values(FieldType::Int, &[CellRef::Int(1), CellRef::Float(1.5), CellRef::Float(2.0)]);
    for kind in ["postgres", "lake"] {
        let plan = planned_values(&[], vec![block()], &of_kind(kind)).unwrap();
        let floats = [1.0, 1.5, 2.0].map(|value| Some(Cell::Float(value)));
        assert_eq!((column(&plan, "a"), plan.discarded), (floats.into(), 0), "{kind}");
    }
    let present = planned_values(&[("a", FieldType::Int)], vec![block()], &of_kind("lake")).unwrap();
    assert_eq!(column(&present, "a"), [Some(Cell::Int(1)), None, Some(Cell::Int(2))]);
    assert_eq!(column(&present, "a__v_float"), [None, Some(Cell::Float(1.5)), None]);
    assert_eq!(present.discarded, 0);
}

#[test]
fn a_new_column_takes_in_one_load_what_it_would_take_in_two() {
    let pairs = [
        (FieldType::Float, CellRef::Float(0.5), CellRef::Decimal("12345678901234567890"), "a__v_decimal"),
        (FieldType::Date, CellRef::Date(1), CellRef::DateTime(5), "a__v_datetime"),
        (FieldType::Int, CellRef::Int(1), CellRef::Decimal("0.5"), "a"),
        (FieldType::Date, CellRef::Date(1), CellRef::LocalDateTime(5), "a"),
    ];
    for (own, first, second, place) in pairs {
        let at_once = planned_values(&[], vec![values(own, &[first, second])], &of_kind("lake")).unwrap();
        let later = planned_values(&[("a", own)], vec![values(own, &[second])], &of_kind("lake")).unwrap();
        let expected = Some(second.to_cell());
        let found = [column(&at_once, place).pop().unwrap(), column(&later, place).pop().unwrap()];
        assert_eq!(found, [expected.clone(), expected], "{own}");
    }
}

#[test]
fn each_type_of_one_batch_has_a_column_of_its_own_where_none_holds_both() {
    let cells = [CellRef::Boolean(true), CellRef::String("x"), CellRef::Int(3), CellRef::Float(0.5)];
    let plan = planned_values(&[], vec![values(FieldType::Boolean, &cells)], &of_kind("postgres")).unwrap();
    assert_eq!(column(&plan, "a"), [Some(Cell::Boolean(true)), None, None, None]);
    assert_eq!(column(&plan, "a__v_string"), [None, Some(Cell::String("x".into())), None, None]);
    assert_eq!(column(&plan, "a__v_int"), [None, None, Some(Cell::Int(3)), None]);
    assert_eq!(column(&plan, "a__v_float"), [None, None, None, Some(Cell::Float(0.5))]);
    assert_eq!(plan.discarded, 0);
}

#[test]
fn a_contract_sees_a_value_of_another_type_within_a_batch() {
    let is = [("a", FieldType::Int), ("uuid_ts", FieldType::DateTime)];
    let under = |contract| {
        let block = values(FieldType::Int, &[CellRef::Int(1), CellRef::String("x")]);
        planned_values(&is, vec![block], &rules_of(Kind::Records, contract))
    };
    let frozen = under(Contract::Freeze).unwrap_err();
    assert!(frozen.to_string().starts_with(r#"column "a" of table "t" is int and gets string"#), "{frozen}");
    let by_row = under(Contract::DiscardRow).unwrap();
    assert_eq!(column(&by_row, "a"), [Some(Cell::Int(1))]);
    let discard = &appended_rows(&by_row, "rudder_discards")[0];
    assert_eq!(discard["column_value"], Cell::String(r#"{"a":"x"}"#.into()));
    assert_eq!(discard["reason"], Cell::String("discard_row: column a of table t is int".into()));
    let by_value = under(Contract::DiscardValue).unwrap();
    assert_eq!(column(&by_value, "a"), [Some(Cell::Int(1)), None]);
    assert_eq!(appended_rows(&by_value, "rudder_discards")[0]["column_value"], Cell::String("x".into()));
}

#[test]
fn a_key_of_another_type_within_a_batch_stops_the_connection() {
    let write = WriteMode::Upsert { key: vec!["a".into()] };
    let blocks = vec![values(FieldType::Int, &[CellRef::Int(1), CellRef::String("x")])];
    let keyed = TableRows { write, blocks: blocks.clone() };
    let error =
        plan(&TableSchemas::new(), batch_of_one("t", keyed.clone()), &of_kind("postgres")).unwrap_err();
    assert!(matches!(error, PlanError::KeyDoesNotFit { is: FieldType::Int, .. }), "{error}");
    // The same stream was appended to before, where there is a place for it.
    let parts = vec![TableRows { write: WriteMode::Append, blocks }, keyed];
    let batch = RowsByTable::from([("t".to_owned(), parts)]);
    let error = plan(&TableSchemas::new(), batch, &of_kind("postgres")).unwrap_err();
    assert!(matches!(error, PlanError::KeyDoesNotFit { is: FieldType::Int, .. }), "{error}");
}

/// A whole number that no float is.
const BEYOND_FLOATS: i64 = (1 << 53) + 1;

#[test]
fn whole_numbers_beyond_floats_are_not_rounded_in_columns_of_exact_floats() {
    let is = [("a", FieldType::Float)];
    for kind in [Kind::Records, Kind::Events] {
        let planned = |own, cells: &[CellRef<'_>]| {
            let blocks = vec![values(FieldType::Float, &[]), values(own, cells)];
            let plan = planned_values(&is, blocks, &rules_of(kind, Contract::Evolve)).unwrap();
            assert_eq!(plan.discarded, 0, "{kind:?}");
            assert!(plan.fits(&tables("t", &[is[0], ("uuid_ts", FieldType::DateTime)]), rules().dialect));
            column(&plan, "a")
        };
        let big = CellRef::Int(BEYOND_FLOATS);
        assert_eq!(planned(FieldType::Int, &[big]), [Some(Cell::Int(BEYOND_FLOATS))], "{kind:?}");
        let small = [CellRef::Int(3), CellRef::Float(2.5)];
        let floats = [3.0, 2.5].map(|value| Some(Cell::Float(value)));
        assert_eq!(planned(FieldType::Int, &small), floats, "{kind:?}");
        let mixed = [big, CellRef::Float(2.5)];
        let decimals = ["9007199254740993", "2.5"].map(|digits| Some(Cell::Decimal(digits.into())));
        assert_eq!(planned(FieldType::Int, &mixed), decimals, "{kind:?}");
    }
}

#[test]
fn two_keys_that_one_float_would_stand_for_are_two_rows_or_stop_the_connection() {
    let keys = [CellRef::Float(9_007_199_254_740_992.0), CellRef::Int(BEYOND_FLOATS)];
    let write = WriteMode::Upsert { key: vec!["a".into()] };
    let part = TableRows { write, blocks: vec![values(FieldType::Float, &keys)] };
    let planned = |kind| plan(&TableSchemas::new(), batch_of_one("t", part.clone()), &of_kind(kind));
    let kept = rows_of_part(&planned("postgres").unwrap().loads["t"][0]);
    let digits =
        ["9007199254740992", "9007199254740993"].map(|digits| row(&[("a", Cell::Decimal(digits.into()))]));
    assert_eq!(kept, digits);
    let error = planned("lake").unwrap_err();
    assert!(matches!(error, PlanError::KeyDoesNotFit { is: FieldType::Float, .. }), "{error}");
}

#[test]
fn a_value_that_would_be_rounded_has_a_column_of_its_own() {
    let big = [CellRef::Int(BEYOND_FLOATS), CellRef::Int(3)];
    let plan =
        planned_values(&[("a", FieldType::Float)], vec![values(FieldType::Int, &big)], &of_kind("lake"))
            .unwrap();
    assert_eq!(column(&plan, "a"), [None, Some(Cell::Float(3.0))]);
    assert_eq!(column(&plan, "a__v_int"), [Some(Cell::Int(BEYOND_FLOATS)), None]);
    assert_eq!(plan.discarded, 0);
}

#[test]
fn what_is_beyond_the_decimals_of_a_warehouse_never_reaches_them() {
    let is = [("a", FieldType::Decimal)];
    let floats = || {
        vec![values(FieldType::Float, &[CellRef::Float(1e-12), CellRef::Float(1e30), CellRef::Float(0.5)])]
    };
    let records = planned_values(&is, floats(), &of_kind("lake")).unwrap();
    assert_eq!(column(&records, "a"), [None, None, Some(Cell::Decimal("0.5".into()))]);
    assert_eq!(column(&records, "a__v_float"), [Some(Cell::Float(1e-12)), Some(Cell::Float(1e30)), None]);
    assert_eq!(records.discarded, 0);
    // Another connection's events into the same table.
    let events = planned_values(&is, floats(), &Rules { kind: Kind::Events, ..of_kind("lake") }).unwrap();
    assert_eq!(column(&events, "a"), [None, None, Some(Cell::Decimal("0.5".into()))]);
    let discards = appended_rows(&events, "rudder_discards");
    let values = discards.iter().map(|discard| discard["column_value"].clone());
    assert_eq!(values.collect::<Vec<_>>(), ["1e-12", "1e30"].map(|value| Cell::String(value.into())));
    assert_eq!(discards[0]["reason"], Cell::String("it is beyond what decimal can hold".into()));
}

#[test]
fn a_column_of_records_widens_in_place_or_gets_another_beside_it() {
    let with = |own| [WITHOUT_A[0], WITHOUT_A[1], ("a", own)];
    let widened = under(Contract::Evolve, Kind::Records, &with(FieldType::Int), Cell::Float(2.5)).unwrap();
    let columns = TableSchema::from([("a".to_owned(), FieldType::Float)]);
    assert_eq!(widened.changes, [SchemaChange::WidenColumns { table: "t".into(), columns }]);
    assert_eq!(appended_rows(&widened, "t")[0]["a"], Cell::Float(2.5));

    let beside =
        under(Contract::Evolve, Kind::Records, &with(FieldType::Boolean), Cell::String("x".into())).unwrap();
    let columns = TableSchema::from([("a__v_string".to_owned(), FieldType::String)]);
    assert_eq!(beside.changes, [SchemaChange::AddColumns { table: "t".into(), columns }]);
    assert_eq!(appended_rows(&beside, "t")[0]["a__v_string"], Cell::String("x".into()));
    assert_eq!(beside.discarded, 0);

    let taken = [WITHOUT_A[0], ("a", FieldType::Boolean), ("a__v_string", FieldType::Int)];
    let beside = under(Contract::Evolve, Kind::Records, &taken, Cell::String("x".into())).unwrap();
    let discard = &appended_rows(&beside, "rudder_discards")[0];
    assert_eq!(discard["column_value"], Cell::String("x".into()), "a column of that name is somebody else's");

    let by_value =
        under(Contract::DiscardValue, Kind::Records, &with(FieldType::Int), Cell::Float(2.5)).unwrap();
    let discard = &appended_rows(&by_value, "rudder_discards")[0];
    assert_eq!(discard["column_value"], Cell::String("2.5".into()), "nothing of it is lost");
    let whole =
        under(Contract::DiscardValue, Kind::Records, &with(FieldType::Int), Cell::Float(2.0)).unwrap();
    assert_eq!(appended_rows(&whole, "t")[0]["a"], Cell::Int(2));
    let frozen = under(Contract::Freeze, Kind::Records, &with(FieldType::Int), Cell::Float(2.0));
    assert!(matches!(frozen, Err(PlanError::Frozen { column: Some(_), .. })), "{frozen:?}");
}
