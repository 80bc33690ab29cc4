use proptest::prelude::*;

use super::server::Database;
use super::*;
use crate::warehouses::postgres::ddl::quote;
use crate::warehouses::postgres::text::storable_json;

async fn ready() -> Option<(Database, Postgres)> {
    let database = Database::create().await?;
    let warehouse = postgres(&database.url);
    warehouse.resume(&connection(), 1, &kafka()).await.unwrap();
    Some((database, warehouse))
}

#[tokio::test]
async fn every_type_arrives_as_it_was_sent() {
    let Some((_database, warehouse)) = ready().await else { return };
    let schema = columns(&[
        ("i", FieldType::Int),
        ("f", FieldType::Float),
        ("b", FieldType::Boolean),
        ("d", FieldType::DateTime),
        ("s", FieldType::String),
        ("t", FieldType::Text),
        ("j", FieldType::Json),
    ]);
    create(&warehouse, "types", &schema).await;
    let described = warehouse.describe(SCHEMA).await.unwrap();
    let expected = schema.iter().map(|(name, column)| {
        // PostgreSQL has one type for both.
        let column = if *column == FieldType::Text { FieldType::String } else { *column };
        (name.clone(), column)
    });
    assert_eq!(described["types"], expected.collect::<TableSchema>());

    let long = "ü".repeat(100_000);
    let values = [
        row(&[
            ("i", Cell::Int(i64::MIN)),
            ("f", Cell::Float(0.1 + 0.2)),
            ("b", Cell::Boolean(false)),
            ("d", Cell::DateTime(-1)),
            ("s", text("tab\tnewline\nquote'\"\\N😀")),
            ("t", Cell::String(long.clone())),
            ("j", Cell::Json("{\"a\":[1,null,\"x\"]}".to_owned())),
        ]),
        row(&[
            ("i", Cell::Int(i64::MAX)),
            ("f", Cell::Float(-5e-324)),
            ("d", Cell::DateTime(253_402_300_799_999_000)),
        ]),
        row(&[("s", text(""))]),
        row(&[("s", text("a\0b")), ("j", Cell::Json("\"\\u0000\\ud800\"".to_owned()))]),
    ];
    warehouse.load(load(0, 1, vec![rows("types", &schema, &values, WriteMode::Append)])).await.unwrap();
    let query = "SELECT i, f, f::text AS shown, b, d, s, t, j FROM shop.types ORDER BY i, s";
    let nothing =
        json!({"i": null, "f": null, "shown": null, "b": null, "d": null, "s": null, "t": null, "j": null});
    let with = |cells: Value| {
        let mut object = nothing.as_object().unwrap().clone();
        object.extend(cells.as_object().unwrap().clone());
        Value::Object(object)
    };
    let smallest = format!("-0.{}5", "0".repeat(323));
    assert_eq!(
        select(&warehouse, query).await,
        json!([
            with(json!({
                "i": i64::MIN, "f": 0.1 + 0.2, "shown": "0.30000000000000004", "b": false,
                "d": "1969-12-31T23:59:59.999999Z", "s": "tab\tnewline\nquote'\"\\N😀", "t": long,
                "j": {"a": [1, null, "x"]},
            })),
            with(json!({"i": i64::MAX, "f": -5e-324, "shown": smallest, "d": "9999-12-31T23:59:59.999Z"})),
            with(json!({"s": ""})),
            with(json!({"s": "ab", "j": "\u{FFFD}"})),
        ])
    );
}

#[tokio::test]
async fn columns_of_other_types_take_what_fits_and_name_what_does_not() {
    let Some((database, warehouse)) = ready().await else { return };
    let client = database.client().await;
    let create = "CREATE SCHEMA shop; CREATE DOMAIN shop.word AS varchar(5);
        CREATE TABLE shop.foreign_types (i4 integer, f8 double precision, d date, ts timestamp, w shop.word,
            j json, u uuid, \"x-deprecated-0b5e2d1c\" text)";
    client.batch_execute(create).await.unwrap();
    let schema = columns(&[
        ("i4", FieldType::Int),
        ("f8", FieldType::Float),
        ("d", FieldType::DateTime),
        ("ts", FieldType::DateTime),
        ("w", FieldType::String),
        ("j", FieldType::Json),
    ]);
    let mut described = warehouse.describe(SCHEMA).await.unwrap().remove("foreign_types").unwrap();
    assert_eq!(described.remove("u"), Some(FieldType::Uuid));
    // Moments are written into columns of these types too.
    assert_eq!(described.insert("d".to_owned(), FieldType::DateTime), Some(FieldType::Date));
    assert_eq!(described.insert("ts".to_owned(), FieldType::DateTime), Some(FieldType::LocalDateTime));
    assert_eq!(described, schema, "a column that RudderStack deprecated is not the table's");
    let day = Cell::DateTime(86_400_000_000 * 2 + 1);
    let values = [row(&[
        ("i4", Cell::Int(-7)),
        ("f8", Cell::Float(2.5)),
        ("d", day.clone()),
        ("ts", day),
        ("w", text("five5")),
        ("j", Cell::Json("[1]".to_owned())),
    ])];
    warehouse
        .load(load(0, 1, vec![rows("foreign_types", &schema, &values, WriteMode::Append)]))
        .await
        .unwrap();
    assert_eq!(
        select(&warehouse, "SELECT i4, f8, d, ts, w, j FROM shop.foreign_types").await,
        json!([{"i4": -7, "f8": 2.5, "d": "1970-01-03", "ts": "1970-01-03T00:00:00.000001", "w": "five5", "j": [1]}])
    );
    let misfits = [
        ("u", FieldType::String, text("x"), "\"u\""),
        ("i4", FieldType::Int, Cell::Int(1 << 40), "\"i4\""),
        ("w", FieldType::String, text("secret value"), "22001"),
    ];
    for (name, column, cell, hint) in misfits {
        let misfit =
            rows("foreign_types", &columns(&[(name, column)]), &[row(&[(name, cell)])], WriteMode::Append);
        let error = warehouse.load(load(1, 2, vec![misfit])).await.unwrap_err();
        assert!(error.full().contains(hint), "{}", error.full());
        assert!(!error.full().contains("secret"), "values stay out of errors: {}", error.full());
    }
}

#[tokio::test]
async fn numbers_of_every_kind_go_into_columns_of_floats() {
    let Some((database, warehouse)) = ready().await else { return };
    let client = database.client().await;
    let create = "CREATE SCHEMA shop; CREATE TABLE shop.floats (n numeric, f8 double precision, f4 real)";
    client.batch_execute(create).await.unwrap();
    let (int, decimal) = (FieldType::Int, FieldType::Decimal);
    let big = (1 << 53) + 1;
    let ints = row(&[("n", Cell::Int(big)), ("f8", Cell::Int(big)), ("f4", Cell::Int(-3))]);
    let digits = |text: &str| Cell::Decimal(text.to_owned());
    let decimals =
        row(&[("n", digits("9007199254740993.10")), ("f8", digits("-0.1")), ("f4", digits("2.5"))]);
    for (own, values, start) in [(int, ints, 0), (decimal, decimals, 1)] {
        let schema = columns(&[("n", own), ("f8", own), ("f4", own)]);
        let table = rows("floats", &schema, &[values], WriteMode::Append);
        warehouse.load(load(start, start + 1, vec![table])).await.unwrap();
    }
    assert_eq!(
        select(&warehouse, "SELECT n::text AS n, f8, f4 FROM shop.floats ORDER BY floats.n").await,
        json!([
            {"n": "9007199254740993", "f8": 9_007_199_254_740_992.0_f64, "f4": -3.0},
            {"n": "9007199254740993.10", "f8": -0.1, "f4": 2.5},
        ])
    );
    let beyond = [
        ("f8", decimal, digits(&"9".repeat(400))),
        ("f4", decimal, digits(&"9".repeat(40))),
        ("f4", FieldType::Float, Cell::Float(1e39)),
    ];
    for (column, own, value) in beyond {
        let schema = columns(&[(column, own)]);
        let far = rows("floats", &schema, &[row(&[(column, value)])], WriteMode::Append);
        let error = warehouse.load(load(2, 3, vec![far])).await.unwrap_err();
        assert!(error.full().contains(&format!("{column:?}")), "{}", error.full());
    }
}

#[tokio::test]
async fn no_name_is_evil_enough() {
    let Some((_database, warehouse)) = ready().await else { return };
    let names =
        ["\"", "'; DROP TABLE shop.victims; --", "select", "Ünï Cödé", "a.b", "\\", "$1", "%s", "\n", " "];
    let schema: TableSchema = names.iter().map(|name| ((*name).to_owned(), FieldType::String)).collect();
    let values: Row = names.iter().map(|name| ((*name).to_owned(), text(name))).collect();
    for table in names {
        create(&warehouse, table, &schema).await;
        let upsert = WriteMode::Upsert { key: vec![names[0].to_owned(), names[1].to_owned()] };
        let merge = WriteMode::MergeLatest { key: names[0].to_owned(), order: names[1].to_owned() };
        for write in [WriteMode::Append, upsert, merge, WriteMode::Stage { generation: 1 }] {
            let resume = warehouse.resume(&connection(), 1, &kafka()).await.unwrap();
            let start = resume.positions.get(&0).copied().unwrap_or_default();
            let write = rows(table, &schema, std::slice::from_ref(&values), write);
            warehouse.load(load(start, start + 1, vec![write])).await.unwrap();
        }
        let query = format!("SELECT * FROM shop.{}", quote(table).unwrap());
        let expected: Map<String, Value> =
            names.iter().map(|name| ((*name).to_owned(), json!(name))).collect();
        assert_eq!(select(&warehouse, &query).await, json!([expected]));
    }
    let tables: Vec<String> = warehouse.describe(SCHEMA).await.unwrap().into_keys().collect();
    let mut expected: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    expected.sort_unstable();
    assert_eq!(tables, expected);
}

/// What the server makes of a text: the oracle for properties.
fn ask<T>(cases: Vec<T>, check: impl AsyncFn(&tokio_postgres::Client, T)) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let Some(database) = Database::create().await else { return };
        let client = database.client().await;
        for case in cases {
            check(&client, case).await;
        }
    });
}

fn samples<S: Strategy>(strategy: S, count: usize) -> Vec<S::Value> {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    (0..count)
        .map(|_| proptest::strategy::ValueTree::current(&strategy.new_tree(&mut runner).unwrap()))
        .collect()
}

#[test]
fn the_server_takes_every_json_and_every_name() {
    ask(samples("[\\[\\]{}\",:\\\\ud08e1+. -]{0,40}", 1_000), async |client, text| {
        let stored = storable_json(&text);
        client.query_one("SELECT $1::text::jsonb", &[&stored.as_ref()]).await.unwrap();
    });
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let wide = format!("[1e-16500, -1E+140000, {}]", "9".repeat(20_000));
    ask(vec![deep, wide], async |client, text| {
        let stored = storable_json(&text);
        client.query_one("SELECT $1::text::jsonb", &[&stored.as_ref()]).await.unwrap();
    });
    ask(samples("\\PC{1,20}", 500), async |client, name| {
        if let Ok(quoted) = quote(&name) {
            let row = client.query_one(&format!("SELECT 1 AS {quoted}"), &[]).await.unwrap();
            assert_eq!(row.columns()[0].name(), name);
        }
    });
}

/// A row of each type, some of its cells null.
fn any_row() -> impl Strategy<Value = Row> {
    fn cell(
        name: &'static str,
        of: impl Strategy<Value = Cell> + 'static,
    ) -> BoxedStrategy<Option<(String, Cell)>> {
        proptest::option::weighted(0.9, of.prop_map(move |cell| (name.to_owned(), cell))).boxed()
    }
    let microseconds = || -62_000_000_000_000_000..250_000_000_000_000_000_i64;
    let cells = vec![
        cell("b", any::<bool>().prop_map(Cell::Boolean)),
        cell("d", (-700_000..2_900_000_i32).prop_map(Cell::Date)),
        cell("dec", "-?[1-9][0-9]{0,60}(\\.[0-9]{1,40})?".prop_map(Cell::Decimal)),
        cell("dt", microseconds().prop_map(Cell::DateTime)),
        cell("f", any::<f64>().prop_map(Cell::Float)),
        cell("i", any::<i64>().prop_map(Cell::Int)),
        cell("j", any::<i64>().prop_map(|n| Cell::Json(format!("[{n}]")))),
        cell("l", microseconds().prop_map(Cell::LocalDateTime)),
        cell("s", "[\\PC\n\t]{0,30}".prop_map(Cell::String)),
        cell(
            "t",
            (0..24_u8, 0..60_u8, 0..60_u8, 0..1_000_000_u32).prop_map(|(hour, minute, second, micros)| {
                Cell::Time(format!("{hour:02}:{minute:02}:{second:02}.{micros:06}"))
            }),
        ),
        cell("u", any::<u128>().prop_map(|bits| Cell::Uuid(uuid::Uuid::from_u128(bits).to_string()))),
    ];
    cells.prop_map(|cells| cells.into_iter().flatten().collect())
}

/// As the server prints it.
fn printed(cell: Cell) -> Cell {
    match cell {
        Cell::Time(text) => Cell::String(text.trim_end_matches('0').trim_end_matches('.').to_owned()),
        Cell::Decimal(text) | Cell::Uuid(text) => Cell::String(text),
        Cell::Float(0.0) => Cell::Float(0.0),
        other => other,
    }
}

#[tokio::test]
async fn whatever_a_row_holds_comes_back_from_the_server() {
    let Some((_database, warehouse)) = ready().await else { return };
    let schema = columns(&[
        ("b", FieldType::Boolean),
        ("d", FieldType::Date),
        ("dec", FieldType::Decimal),
        ("dt", FieldType::DateTime),
        ("f", FieldType::Float),
        ("i", FieldType::Int),
        ("j", FieldType::Json),
        ("l", FieldType::LocalDateTime),
        ("n", FieldType::Int),
        ("s", FieldType::String),
        ("t", FieldType::Time),
        ("u", FieldType::Uuid),
    ]);
    create(&warehouse, "anything", &schema).await;
    let mut expected = samples(any_row(), 2_000);
    for (row, number) in expected.iter_mut().zip(0..) {
        row.insert("n".to_owned(), Cell::Int(number));
    }
    // Two batches of one schema: the pieces of a load.
    let halves = expected.chunks(1_000).map(|half| batch_of(&schema, half).unwrap()).collect();
    let load_all = TableLoad { name: table_name("anything"), rows: halves, write: WriteMode::Append };
    let report = warehouse.load(load(0, 1, vec![load_all])).await.unwrap();
    assert!(report.bytes > 100_000 && report.statements >= 5, "{report:?}");
    let query = "SELECT b, d, dec::text AS dec, dt, f::text AS f, i, j, l, n, s, t::text AS t, u::text AS u
        FROM shop.anything ORDER BY n";
    let mut found = Vec::new();
    for batch in batches(&warehouse, query).await {
        found.extend(millrace_columnar::rows_of(&batch).unwrap());
    }
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter_mut().zip(expected) {
        if let Some(Cell::String(digits)) = found.get("f").cloned() {
            found.insert("f".to_owned(), Cell::Float(digits.parse().unwrap()));
        }
        let expected: Row = expected.into_iter().map(|(name, cell)| (name, printed(cell))).collect();
        assert_eq!(format!("{found:?}"), format!("{expected:?}"), "NaN is equal to itself here");
    }
}
