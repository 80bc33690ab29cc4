//! What each [`WriteMode`] does to a table.

use millrace_columnar::Cell;
use millrace_event_model::FieldType;
use serde_json::json;

use super::rig::{Rig, columns, ids, row, text};
use crate::{Load, Swap, WriteMode};

pub(super) async fn rows_are_appended_and_tables_grow(rig: Rig) {
    let (narrow, rows) = ids(&["a", "b"]);
    rig.create("orders", &narrow).await;
    assert_eq!(rig.described("orders").await, narrow);
    rig.load(rig.batch(0, 2, vec![rig.rows("orders", &narrow, &rows, WriteMode::Append)])).await;
    let added = columns(&[("total", FieldType::Float), ("paid", FieldType::Boolean)]);
    rig.add_columns("orders", &added).await;
    let wide = narrow.into_iter().chain(added).collect();
    assert_eq!(rig.described("orders").await, wide, "the new columns are there at once");
    let more = [
        row(&[("id", text("c")), ("total", Cell::Float(1.5)), ("paid", Cell::Boolean(true))]),
        // The same row twice is two rows: Append knows no key.
        row(&[("id", text("c")), ("total", Cell::Float(1.5)), ("paid", Cell::Boolean(true))]),
    ];
    rig.load(rig.batch(2, 4, vec![rig.rows("orders", &wide, &more, WriteMode::Append)])).await;
    assert_eq!(
        rig.select("id, total, paid", "orders").await,
        json!([
            {"id": "a", "total": null, "paid": null},
            {"id": "b", "total": null, "paid": null},
            {"id": "c", "total": 1.5, "paid": true},
            {"id": "c", "total": 1.5, "paid": true},
        ])
    );
}

pub(super) async fn every_type_comes_back_as_it_went_in(rig: Rig) {
    let schema = columns(&[
        ("i", FieldType::Int),
        ("f", FieldType::Float),
        ("b", FieldType::Boolean),
        ("d", FieldType::DateTime),
        ("s", FieldType::String),
    ]);
    rig.create("types", &schema).await;
    assert_eq!(rig.described("types").await, schema);
    let rows = [
        row(&[
            ("i", Cell::Int(i64::MIN)),
            ("f", Cell::Float(0.1 + 0.2)),
            ("b", Cell::Boolean(false)),
            ("d", Cell::DateTime(-1)),
            ("s", text("tab\tquote'\"\\N😀")),
        ]),
        row(&[("i", Cell::Int(0)), ("s", text(""))]),
        row(&[
            ("i", Cell::Int(i64::MAX)),
            ("f", Cell::Float(-1e300)),
            ("d", Cell::DateTime(253_402_300_799_999_000)),
        ]),
    ];
    rig.load(rig.batch(0, 1, vec![rig.rows("types", &schema, &rows, WriteMode::Append)])).await;
    assert_eq!(
        rig.select("i, f, b, d, s", "types").await,
        json!([
            {"i": i64::MIN, "f": 0.1 + 0.2, "b": false, "d": "1969-12-31T23:59:59.999999Z", "s": "tab\tquote'\"\\N😀"},
            {"i": 0, "f": null, "b": null, "d": null, "s": ""},
            {"i": i64::MAX, "f": -1e300, "b": null, "d": "9999-12-31T23:59:59.999Z", "s": null},
        ])
    );
}

pub(super) async fn an_upsert_replaces_the_whole_row(rig: Rig) {
    let schema = columns(&[("id", FieldType::Int), ("part", FieldType::String), ("city", FieldType::String)]);
    rig.create("places", &schema).await;
    let upsert = || WriteMode::Upsert { key: vec!["id".to_owned(), "part".to_owned()] };
    let place = |id, part: &str, city: &str| {
        row(&[("id", Cell::Int(id)), ("part", text(part)), ("city", text(city))])
    };
    let first = [place(1, "x", "Oslo"), place(1, "y", "Rome"), place(2, "x", "Bonn")];
    rig.load(rig.batch(0, 3, vec![rig.rows("places", &schema, &first, upsert())])).await;
    let keys = columns(&[("id", FieldType::Int), ("part", FieldType::String)]);
    let second = [
        row(&[("id", Cell::Int(1)), ("part", text("y"))]),
        row(&[("id", Cell::Int(3)), ("part", text("x"))]),
    ];
    rig.load(rig.batch(3, 5, vec![rig.rows("places", &keys, &second, upsert())])).await;
    let mut found = rig.select("id, part, city", "places").await;
    found.as_array_mut().unwrap().sort_by_key(|place| (place["id"].as_i64(), place["part"].to_string()));
    assert_eq!(
        found,
        json!([
            {"id": 1, "part": "x", "city": "Oslo"},
            {"id": 1, "part": "y", "city": null},
            {"id": 2, "part": "x", "city": "Bonn"},
            {"id": 3, "part": "x", "city": null},
        ]),
        "absent columns become null, rows with other keys stay"
    );
}

pub(super) async fn the_newer_value_wins_and_null_never_erases(rig: Rig) {
    let schema = columns(&[
        ("id", FieldType::String),
        ("received_at", FieldType::DateTime),
        ("email", FieldType::String),
        ("age", FieldType::Int),
    ]);
    rig.create("users", &schema).await;
    let merge = || WriteMode::MergeLatest { key: "id".to_owned(), order: "received_at".to_owned() };
    let user = |id: &str, second: i64, email: Cell, age: Cell| {
        let at = Cell::DateTime(second * 1_000_000);
        row(&[("id", text(id)), ("received_at", at), ("email", email), ("age", age)])
    };
    let first = [user("u1", 20, text("old@x"), Cell::Int(30)), user("u2", 20, text("b@x"), Cell::Null)];
    rig.load(rig.batch(0, 2, vec![rig.rows("users", &schema, &first, merge())])).await;
    let second = [
        user("u1", 30, text("new@x"), Cell::Null),
        user("u2", 10, text("late@x"), Cell::Int(40)),
        user("u3", 5, Cell::Null, Cell::Null),
    ];
    rig.load(rig.batch(2, 5, vec![rig.rows("users", &schema, &second, merge())])).await;
    // A batch that lacks a column leaves it alone.
    let narrow =
        columns(&[("id", FieldType::String), ("received_at", FieldType::DateTime), ("age", FieldType::Int)]);
    let third =
        [row(&[("id", text("u3")), ("received_at", Cell::DateTime(6_000_000)), ("age", Cell::Int(50))])];
    rig.load(rig.batch(5, 6, vec![rig.rows("users", &narrow, &third, merge())])).await;
    assert_eq!(
        rig.select("id, received_at, email, age", "users").await,
        json!([
            {"id": "u1", "received_at": "1970-01-01T00:00:30.000Z", "email": "new@x", "age": 30},
            {"id": "u2", "received_at": "1970-01-01T00:00:20.000Z", "email": "b@x", "age": 40},
            {"id": "u3", "received_at": "1970-01-01T00:00:06.000Z", "email": null, "age": 50},
        ])
    );
}

pub(super) async fn a_generation_replaces_the_table_when_it_is_complete(rig: Rig) {
    let (schema, old) = ids(&["old"]);
    rig.create("products", &schema).await;
    rig.load(rig.batch(0, 1, vec![rig.rows("products", &schema, &old, WriteMode::Append)])).await;
    let stage = |generation, values: &[&str]| {
        let (schema, rows) = ids(values);
        rig.rows("products", &schema, &rows, WriteMode::Stage { generation })
    };
    let swap = |generation| vec![Swap { name: rig.table_name("products"), generation }];
    rig.load(rig.batch(1, 2, vec![stage(1, &["abandoned"])])).await;
    rig.load(rig.batch(2, 3, vec![stage(2, &["a"])])).await;
    rig.load(rig.batch(3, 4, vec![stage(2, &["b"])])).await;
    assert_eq!(rig.select("id", "products").await, json!([{"id": "old"}]), "staged rows are hidden");
    rig.load(Load { swaps: swap(2), ..rig.batch(4, 5, Vec::new()) }).await;
    assert_eq!(
        rig.select("id", "products").await,
        json!([{"id": "a"}, {"id": "b"}]),
        "all rows of the generation, and none of an older one that was never swapped"
    );
    rig.load(Load { swaps: swap(3), ..rig.batch(5, 6, vec![stage(3, &["c"])]) }).await;
    assert_eq!(rig.select("id", "products").await, json!([{"id": "c"}]), "rows and swap in one load");
    rig.load(Load { swaps: swap(4), ..rig.batch(6, 7, Vec::new()) }).await;
    assert_eq!(rig.select("id", "products").await, json!([]), "nothing staged empties the table");
}

pub(super) async fn tables_of_one_load_may_be_written_in_different_ways(rig: Rig) {
    let (schema, rows) = ids(&["a"]);
    for table in ["plain", "keyed", "staged"] {
        rig.create(table, &schema).await;
    }
    let keyed = WriteMode::Upsert { key: vec!["id".to_owned()] };
    let tables = vec![
        rig.rows("plain", &schema, &rows, WriteMode::Append),
        rig.rows("keyed", &schema, &rows, keyed),
        rig.rows("staged", &schema, &rows, WriteMode::Stage { generation: 1 }),
    ];
    let swaps = vec![Swap { name: rig.table_name("staged"), generation: 1 }];
    rig.load(Load { swaps, ..rig.batch(0, 1, tables) }).await;
    for table in ["plain", "keyed", "staged"] {
        assert_eq!(rig.select("id", table).await, json!([{"id": "a"}]), "{table}");
    }
}

/// A stream that was upserted is appended to from here on, and again the other way: rows come after those before them.
pub(super) async fn parts_of_one_table_are_written_in_their_order(rig: Rig) {
    let schema = columns(&[("id", FieldType::String), ("n", FieldType::Int)]);
    rig.create("turns", &schema).await;
    let part =
        |n, write| rig.rows("turns", &schema, &[row(&[("id", text("a")), ("n", Cell::Int(n))])], write);
    let upsert = || WriteMode::Upsert { key: vec!["id".to_owned()] };
    rig.load(rig.batch(0, 2, vec![part(1, upsert()), part(2, WriteMode::Append)])).await;
    assert_eq!(rig.select("n, id", "turns").await, json!([{"n": 1, "id": "a"}, {"n": 2, "id": "a"}]));
    let again = vec![part(3, upsert()), part(4, WriteMode::Append), part(5, upsert())];
    rig.load(rig.batch(2, 5, again)).await;
    assert_eq!(rig.select("n, id", "turns").await, json!([{"n": 5, "id": "a"}]));
}
