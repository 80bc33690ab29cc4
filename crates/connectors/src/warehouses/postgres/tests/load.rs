use millrace_connector::{Count, ErrorKind, Replacement, SeenId, Swap};
use millrace_event_model::Disposition;

use super::server::Database;
use super::*;

async fn ready() -> Option<(Database, Postgres)> {
    let database = Database::create().await?;
    let warehouse = postgres(&database.url);
    warehouse.resume(&connection(), 1, &kafka()).await.unwrap();
    Some((database, warehouse))
}

fn ids(values: &[&str]) -> (TableSchema, Vec<Row>) {
    let rows = values.iter().map(|id| row(&[("id", text(id))])).collect();
    (columns(&[("id", FieldType::String)]), rows)
}

#[tokio::test]
async fn rows_are_appended_and_tables_grow() {
    let Some((_database, warehouse)) = ready().await else { return };
    let (first, first_rows) = ids(&["a", "b"]);
    create(&warehouse, "orders", &first).await;
    create(&warehouse, "orders", &first).await;
    warehouse.load(load(0, 2, vec![rows("orders", &first, &first_rows, WriteMode::Append)])).await.unwrap();

    let added = columns(&[("total", FieldType::Float), ("paid", FieldType::Boolean)]);
    let change = SchemaChange::AddColumns { table: "orders".to_owned(), columns: added.clone() };
    warehouse.apply(SCHEMA, std::slice::from_ref(&change)).await.unwrap();
    warehouse.apply(SCHEMA, &[change]).await.unwrap();
    let wide =
        columns(&[("id", FieldType::String), ("total", FieldType::Float), ("paid", FieldType::Boolean)]);
    assert_eq!(warehouse.describe(SCHEMA).await.unwrap()["orders"], wide);

    let more = [row(&[("id", text("c")), ("total", Cell::Float(1.5)), ("paid", Cell::Boolean(true))])];
    warehouse.load(load(2, 3, vec![rows("orders", &wide, &more, WriteMode::Append)])).await.unwrap();
    assert_eq!(
        select(&warehouse, "SELECT id, total, paid FROM shop.orders ORDER BY id").await,
        json!([
            {"id": "a", "total": null, "paid": null},
            {"id": "b", "total": null, "paid": null},
            {"id": "c", "total": 1.5, "paid": true},
        ])
    );
    assert!(warehouse.describe("nothing").await.unwrap().is_empty());
}

#[tokio::test]
async fn an_upsert_replaces_the_whole_row() {
    let Some((_database, warehouse)) = ready().await else { return };
    let schema = columns(&[("id", FieldType::Int), ("name", FieldType::String), ("city", FieldType::String)]);
    create(&warehouse, "people", &schema).await;
    let upsert = || WriteMode::Upsert { key: vec!["id".to_owned()] };
    let first = [
        row(&[("id", Cell::Int(1)), ("name", text("Ann")), ("city", text("Oslo"))]),
        row(&[("id", Cell::Int(2)), ("name", text("Bob")), ("city", text("Rome"))]),
    ];
    warehouse.load(load(0, 2, vec![rows("people", &schema, &first, upsert())])).await.unwrap();
    let narrow = columns(&[("id", FieldType::Int), ("name", FieldType::String)]);
    let second = [
        row(&[("id", Cell::Int(2)), ("name", text("Rob"))]),
        row(&[("id", Cell::Int(3)), ("name", Cell::Null)]),
    ];
    warehouse.load(load(2, 4, vec![rows("people", &narrow, &second, upsert())])).await.unwrap();
    assert_eq!(
        select(&warehouse, "SELECT id, name, city FROM shop.people ORDER BY id").await,
        json!([
            {"id": 1, "name": "Ann", "city": "Oslo"},
            {"id": 2, "name": "Rob", "city": null},
            {"id": 3, "name": null, "city": null},
        ])
    );
}

#[tokio::test]
async fn of_a_user_the_newer_value_wins_and_null_never_erases() {
    let Some((_database, warehouse)) = ready().await else { return };
    let schema = columns(&[
        ("id", FieldType::String),
        ("received_at", FieldType::DateTime),
        ("email", FieldType::String),
        ("plan", FieldType::Json),
    ]);
    create(&warehouse, "users", &schema).await;
    let merge = || WriteMode::MergeLatest { key: "id".to_owned(), order: "received_at".to_owned() };
    let user = |id: &str, at: i64, email: Cell, plan: Cell| {
        row(&[("id", text(id)), ("received_at", Cell::DateTime(at)), ("email", email), ("plan", plan)])
    };
    let plan = |name: &str| Cell::Json(format!("\"{name}\""));
    let first = [user("u1", 20, text("old@x"), plan("free")), user("u2", 20, text("b@x"), Cell::Null)];
    warehouse.load(load(0, 1, vec![rows("users", &schema, &first, merge())])).await.unwrap();
    let second = [
        user("u1", 30, text("new@x"), Cell::Null),
        user("u2", 10, text("late@x"), plan("late")),
        user("u3", 5, Cell::Null, Cell::Null),
    ];
    warehouse.load(load(1, 2, vec![rows("users", &schema, &second, merge())])).await.unwrap();
    let query = "SELECT id, extract(microseconds FROM received_at)::int AS at, email, plan FROM shop.users ORDER BY id";
    assert_eq!(
        select(&warehouse, query).await,
        json!([
            {"id": "u1", "at": 30, "email": "new@x", "plan": "free"},
            {"id": "u2", "at": 20, "email": "b@x", "plan": "late"},
            {"id": "u3", "at": 5, "email": null, "plan": null},
        ])
    );
}

#[tokio::test]
async fn a_generation_replaces_the_table_when_it_is_complete() {
    let Some((database, warehouse)) = ready().await else { return };
    let (schema, old) = ids(&["old"]);
    create(&warehouse, "products", &schema).await;
    warehouse.load(load(0, 1, vec![rows("products", &schema, &old, WriteMode::Append)])).await.unwrap();
    let client = database.client().await;
    client
        .batch_execute("CREATE VIEW shop.listing AS SELECT upper(id) AS id FROM shop.products")
        .await
        .unwrap();

    let stage = |generation, values: &[&str]| {
        let (schema, staged) = ids(values);
        rows("products", &schema, &staged, WriteMode::Stage { generation })
    };
    let swap = |generation| vec![Swap { name: table_name("products"), generation }];
    warehouse.load(load(1, 2, vec![stage(1, &["abandoned"])])).await.unwrap();
    warehouse.load(load(2, 3, vec![stage(2, &["a"])])).await.unwrap();
    let added = columns(&[("price", FieldType::Float)]);
    let change = SchemaChange::AddColumns { table: "products".to_owned(), columns: added };
    warehouse.apply(SCHEMA, &[change]).await.unwrap();
    let wide = columns(&[("id", FieldType::String), ("price", FieldType::Float)]);
    let priced = [row(&[("id", text("b")), ("price", Cell::Float(9.5))])];
    let staged = rows("products", &wide, &priced, WriteMode::Stage { generation: 2 });
    warehouse.load(load(3, 4, vec![staged])).await.unwrap();
    let query = "SELECT id FROM shop.listing ORDER BY id";
    assert_eq!(select(&warehouse, query).await, json!([{"id": "OLD"}]), "staged rows are hidden");

    warehouse.load(Load { swaps: swap(2), ..load(4, 5, Vec::new()) }).await.unwrap();
    assert_eq!(select(&warehouse, query).await, json!([{"id": "A"}, {"id": "B"}]), "views see the new rows");
    let prices = select(&warehouse, "SELECT price FROM shop.products ORDER BY id").await;
    assert_eq!(prices, json!([{"price": null}, {"price": 9.5}]));

    // The last rows of a generation and its end may come in one load; nothing staged empties the table.
    warehouse.load(Load { swaps: swap(3), ..load(5, 6, vec![stage(3, &["c"])]) }).await.unwrap();
    assert_eq!(select(&warehouse, query).await, json!([{"id": "C"}]));
    warehouse.load(Load { swaps: swap(4), ..load(6, 7, Vec::new()) }).await.unwrap();
    assert_eq!(select(&warehouse, query).await, json!([]));
    let left = "SELECT count(*) AS n FROM pg_class WHERE relname LIKE 'staged%' AND relkind = 'r'";
    assert_eq!(select(&warehouse, left).await, json!([{"n": 0}]));
}

#[tokio::test]
async fn ids_are_known_for_28_days() {
    let Some((_database, warehouse)) = ready().await else { return };
    let seen = vec![SeenId { id: u128::MAX, content: u64::MAX }, SeenId { id: 7, content: 1 }];
    warehouse.load(Load { seen, ..load(0, 2, Vec::new()) }).await.unwrap();
    let later = |days| noon() + chrono::TimeDelta::days(days);
    let asked = [7, 8, u128::MAX];
    let known = vec![Some(1), None, Some(u64::MAX)];
    assert_eq!(warehouse.seen(&connection(), &asked, noon()).await.unwrap(), known);
    assert_eq!(warehouse.seen(&connection(), &asked, later(28)).await.unwrap(), known);
    assert_eq!(warehouse.seen(&connection(), &asked, later(30)).await.unwrap(), vec![None; 3]);
    let other = "app--main".parse().unwrap();
    assert_eq!(warehouse.seen(&other, &asked, noon()).await.unwrap(), vec![None; 3]);

    // A month later the old day's runs are gone.
    let seen = vec![SeenId { id: 9, content: 2 }];
    warehouse.load(Load { seen, at: later(31), ..load(2, 3, Vec::new()) }).await.unwrap();
    let days = "SELECT day, records FROM _millrace.seen_runs";
    assert_eq!(select(&warehouse, days).await, json!([{"day": "2026-12-25", "records": 1}]));
}

#[tokio::test]
async fn counts_are_added_up() {
    let Some((_database, warehouse)) = ready().await else { return };
    let count = |disposition, items, conflicts| Count {
        source: "web".parse().unwrap(),
        hour: noon(),
        disposition,
        conflicts,
        items,
    };
    let counts = vec![
        count(Disposition::Loaded, 3, 0),
        count(Disposition::Duplicate, 2, 1),
        count(Disposition::Loaded, 4, 0),
    ];
    warehouse.load(Load { counts: counts.clone(), ..load(0, 9, Vec::new()) }).await.unwrap();
    warehouse.load(Load { counts, ..load(9, 18, Vec::new()) }).await.unwrap();
    let query = "SELECT connection, source, disposition, items, conflicts FROM _millrace.counts ORDER BY 3";
    assert_eq!(
        select(&warehouse, query).await,
        json!([
            {"connection": "web--main", "source": "web", "disposition": "duplicate", "items": 4, "conflicts": 2},
            {"connection": "web--main", "source": "web", "disposition": "loaded", "items": 14, "conflicts": 0},
        ])
    );
}

#[tokio::test]
async fn a_load_that_fails_leaves_nothing() {
    let Some((_database, warehouse)) = ready().await else { return };
    let (schema, values) = ids(&["a"]);
    create(&warehouse, "orders", &schema).await;
    let good = rows("orders", &schema, &values, WriteMode::Append);
    let missing = rows("no_such_table", &schema, &values, WriteMode::Append);
    let seen = vec![SeenId { id: 1, content: 1 }];
    let error = warehouse.load(Load { seen, ..load(0, 1, vec![good.clone(), missing]) }).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Retry { after: None }, "it may be made again: {}", error.full());
    assert_eq!(select(&warehouse, "SELECT id FROM shop.orders").await, json!([]));
    assert_eq!(warehouse.seen(&connection(), &[1], noon()).await.unwrap(), [None]);
    let resume = warehouse.resume(&connection(), 1, &kafka()).await.unwrap();
    assert!(resume.positions.is_empty());
    warehouse.load(load(0, 1, vec![good])).await.unwrap();
    assert_eq!(select(&warehouse, "SELECT id FROM shop.orders").await, json!([{"id": "a"}]));
}

#[tokio::test]
async fn a_replacement_leaves_columns_of_others_to_the_server() {
    let Some((database, warehouse)) = ready().await else { return };
    let (schema, old) = ids(&["old"]);
    create(&warehouse, "orders", &schema).await;
    warehouse.load(load(0, 1, vec![rows("orders", &schema, &old, WriteMode::Append)])).await.unwrap();
    let others = "ALTER TABLE shop.orders ADD number bigint GENERATED ALWAYS AS IDENTITY,
        ADD words tsvector GENERATED ALWAYS AS (to_tsvector('simple', id)) STORED, ADD search tsvector,
        ADD state text NOT NULL DEFAULT 'open', ADD note text DEFAULT 'none'";
    database.client().await.batch_execute(others).await.unwrap();
    // A rebuild's table begins with the columns that it will replace.
    let mut model = warehouse.describe(SCHEMA).await.unwrap()["orders"].clone();
    create(&warehouse, "orders_anew", &model).await;
    model.retain(|name, _| name == "id" || name == "note");
    let new = [row(&[("id", text("new")), ("note", text("kept"))]), row(&[("id", text("newer"))])];
    let mut load = load(1, 2, vec![rows("orders_anew", &model, &new, WriteMode::Append)]);
    load.replacements = vec![Replacement { from: table_name("orders_anew"), to: table_name("orders") }];
    warehouse.load(load).await.unwrap_or_else(|error| panic!("{}", error.full()));
    let sql = "SELECT id, number > 1 AS numbered, words::text AS words, search::text AS search, state, note \
               FROM shop.orders ORDER BY id";
    assert_eq!(
        select(&warehouse, sql).await,
        json!([
            {"id": "new", "numbered": true, "words": "'new':1", "search": null, "state": "open", "note": "kept"},
            {"id": "newer", "numbered": true, "words": "'newer':1", "search": null, "state": "open", "note": null},
        ])
    );
}

#[tokio::test]
async fn the_server_is_told_to_look_whether_its_client_is_there() {
    let Some(database) = Database::create().await else { return };
    let warehouse = postgres(&database.url);
    let version = "SELECT current_setting('server_version_num')::bigint >= 140000 AS watches, \
                   current_setting('client_connection_check_interval', true) AS every";
    let found = select(&warehouse, version).await;
    let expected = if found[0]["watches"] == true { json!("10s") } else { Value::Null };
    assert_eq!(found[0]["every"], expected);
}
