use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::batch::tests::{any_cell, any_rows, any_type};
use crate::{batch_of, rows_of};

fn without_nulls(row: &Row) -> Row {
    row.iter()
        .filter(|(_, cell)| **cell != Cell::Null)
        .map(|(name, cell)| (name.clone(), cell.clone()))
        .collect()
}

proptest! {
    #[test]
    fn rows_come_out_as_they_went_in(
        (columns, _) in any_rows(),
        rows in vec(proptest::collection::btree_map("[a-z]", any_cell(), 0..6), 0..20),
    ) {
        let block = Rows::of(&columns, &rows).finish();
        prop_assert_eq!(block.len, rows.len());
        prop_assert_eq!(block.schema(), columns.clone());
        let known = |row: &Row| {
            let mut row = without_nulls(row);
            row.retain(|name, _| columns.contains_key(name));
            row
        };
        let (found, expected): (Vec<Row>, Vec<Row>) = (block.rows(), rows.iter().map(known).collect());
        prop_assert_eq!(format!("{found:?}"), format!("{expected:?}"));
    }

    #[test]
    fn values_of_the_columns_type_are_the_arrays_that_arrow_would_make((columns, rows) in any_rows()) {
        let block = Rows::of(&columns, &rows).finish();
        let expected = batch_of(&columns, &rows).unwrap();
        for (index, column) in block.columns.iter().enumerate() {
            prop_assert!(column.misfits.is_empty());
            match &column.values {
                Some(values) => prop_assert_eq!(values, expected.column(index)),
                None => prop_assert_eq!(expected.column(index).null_count(), rows.len()),
            }
        }
        prop_assert_eq!(format!("{:?}", rows_of(&expected).unwrap()), format!("{:?}", block.rows()));
    }

    #[test]
    fn a_column_that_becomes_text_keeps_what_it_held(first in any_type(), cells in vec(any_cell(), 0..6)) {
        let mut rows = Rows::default();
        let id = rows.column("a", first);
        cells.iter().for_each(|cell| rows.push([(id, cell.into())]));
        prop_assert_eq!(rows.column("a", FieldType::Text), id);
        rows.push([(id, CellRef::String("long"))]);
        let block = rows.finish();
        prop_assert_eq!(block.columns[0].field_type, FieldType::Text);
        let found: Vec<Cell> = (0..block.len).map(|row| block.columns[0].cell(row)).collect();
        let mut expected = cells;
        expected.push(Cell::String("long".to_owned()));
        prop_assert_eq!(format!("{found:?}"), format!("{expected:?}"));
    }
}

#[test]
fn a_value_of_another_type_is_kept_aside_as_it_came() {
    let mut rows = Rows::default();
    let (total, at) = (rows.column("total", FieldType::Int), rows.column("at", FieldType::DateTime));
    assert_eq!(rows.column("total", FieldType::Float), total, "the first type stays");
    rows.declare("uuid_ts", FieldType::DateTime);
    rows.push([(total, CellRef::Int(1))]);
    rows.push([(at, CellRef::DateTime(5)), (total, CellRef::Float(2.5))]);
    rows.push([]);
    let block = rows.finish();
    let names: Vec<&str> = block.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["at", "total", "uuid_ts"]);
    let total = block.column("total").unwrap();
    assert_eq!(total.misfits, [(1, Cell::Float(2.5))]);
    assert_eq!((total.cell(0), total.cell(1), total.cell(2)), (Cell::Int(1), Cell::Float(2.5), Cell::Null));
    assert!(block.column("uuid_ts").unwrap().values.is_none());
}
