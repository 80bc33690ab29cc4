//! How column types come together: within a batch, and with what the warehouse has
//! (warehouse schema rules §6).

use millrace_event_model::FieldType;

use crate::TableSchema;

/// The type of a column of which two values were seen, in this order: the first wins, but `text` beats
/// all.
#[must_use]
pub fn union(first: FieldType, second: FieldType) -> FieldType {
    if second == FieldType::Text { second } else { first }
}

/// The narrowest type that holds the values of both, for tables that may change their columns' types. Numbers
/// meet in the wider kind of number and dates in the wider kind of moment; whatever else differs is `text`.
///
/// Associative, commutative and idempotent: in whatever order values come, their column ends the same.
#[must_use]
pub fn join(one: FieldType, other: FieldType) -> FieldType {
    if one == other {
        return one;
    }
    for chain in CHAINS {
        let place = |own| chain.iter().position(|of_chain| *of_chain == own);
        if let (Some(a), Some(b)) = (place(one), place(other)) {
            return if a < b { other } else { one };
        }
    }
    FieldType::Text
}

/// Each type holds the values of those before it.
const CHAINS: [&[FieldType]; 3] = [
    &[FieldType::Int, FieldType::Float, FieldType::Decimal],
    &[FieldType::Date, FieldType::LocalDateTime, FieldType::DateTime],
    &[FieldType::String, FieldType::Text],
];

/// Whether a column of this type holds text of any kind: `string` and `text` differ for the dialect only.
#[must_use]
pub fn is_text(own: FieldType) -> bool {
    matches!(own, FieldType::String | FieldType::Text)
}

/// Adds the columns of `later` to those of `schema`, in the order they were seen.
pub fn extend(schema: &mut TableSchema, later: &TableSchema) {
    for (column, second) in later {
        match schema.get_mut(column) {
            Some(first) => *first = union(*first, *second),
            None => {
                schema.insert(column.clone(), *second);
            }
        }
    }
}

/// What a load writes: the batch's columns, each with the type that the warehouse has it in. Only where
/// the warehouse has `string` and the batch `text` does the column stay `text`, which is for the dialect
/// to act on.
#[must_use]
pub fn with_existing(batch: &TableSchema, existing: &TableSchema) -> TableSchema {
    let settled = |column: &String, new: FieldType| match existing.get(column) {
        Some(FieldType::String) if new == FieldType::Text => FieldType::Text,
        Some(existing) => *existing,
        None => new,
    };
    batch.iter().map(|(column, new)| (column.clone(), settled(column, *new))).collect()
}

/// The columns that the warehouse lacks.
#[must_use]
pub fn missing(batch: &TableSchema, existing: &TableSchema) -> TableSchema {
    let lacks = |(column, _): &(&String, &FieldType)| !existing.contains_key(*column);
    batch.iter().filter(lacks).map(|(column, new)| (column.clone(), *new)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::collection::btree_map;
    use proptest::prelude::*;

    use super::*;
    use crate::batch::tests::any_type;

    fn any_table() -> impl Strategy<Value = TableSchema> {
        btree_map("[a-d]", any_type(), 0..4)
    }

    fn extended(first: &TableSchema, later: &TableSchema) -> TableSchema {
        let mut schema = first.clone();
        extend(&mut schema, later);
        schema
    }

    #[test]
    fn the_first_type_wins_but_text_beats_all() {
        assert_eq!(union(FieldType::Int, FieldType::String), FieldType::Int);
        assert_eq!(union(FieldType::Int, FieldType::Text), FieldType::Text);
        assert_eq!(union(FieldType::Text, FieldType::Int), FieldType::Text);
    }

    #[test]
    fn the_warehouse_wins_but_string_does_not_hold_text() {
        let existing = TableSchema::from([("a".into(), FieldType::Int), ("b".into(), FieldType::String)]);
        let batch = TableSchema::from([
            ("a".into(), FieldType::Text),
            ("b".into(), FieldType::Text),
            ("c".into(), FieldType::Float),
        ]);
        let expected = TableSchema::from([
            ("a".into(), FieldType::Int),
            ("b".into(), FieldType::Text),
            ("c".into(), FieldType::Float),
        ]);
        assert_eq!(with_existing(&batch, &existing), expected);
        assert_eq!(missing(&batch, &existing), TableSchema::from([("c".into(), FieldType::Float)]));
    }

    proptest! {
        #[test]
        fn extending_by_itself_changes_nothing(table in any_table()) {
            prop_assert_eq!(extended(&table, &table), table);
        }

        #[test]
        fn extending_is_associative(a in any_table(), b in any_table(), c in any_table()) {
            prop_assert_eq!(extended(&extended(&a, &b), &c), extended(&a, &extended(&b, &c)));
        }

        #[test]
        fn widening_is_associative_commutative_and_idempotent(
            a in any_type(),
            b in any_type(),
            c in any_type(),
        ) {
            prop_assert_eq!(join(join(a, b), c), join(a, join(b, c)));
            prop_assert_eq!(join(a, b), join(b, a));
            prop_assert_eq!(join(a, a), a);
            prop_assert_eq!(join(a, join(a, b)), join(a, b));
        }

        #[test]
        fn which_columns_there_are_and_which_are_text_does_not_depend_on_the_order(
            a in any_table(),
            b in any_table(),
        ) {
            let (ab, ba) = (extended(&a, &b), extended(&b, &a));
            prop_assert!(ab.keys().eq(ba.keys()));
            for (column, of_ab) in &ab {
                prop_assert_eq!(*of_ab == FieldType::Text, ba.get(column) == Some(&FieldType::Text));
            }
        }

        #[test]
        fn nothing_is_missing_once_it_is_there(batch in any_table(), existing in any_table()) {
            let applied = extended(&existing, &missing(&batch, &existing));
            prop_assert!(missing(&batch, &applied).is_empty());
        }
    }
}
