//! Two loaders that write one table, and what the server may do to a load.

use std::sync::Arc;
use std::time::Duration;

use millrace_connector::{ConnectorError, ErrorKind, LoadReport};

use super::server::Database;
use super::*;

fn users() -> TableSchema {
    columns(&[
        ("id", FieldType::String),
        ("received_at", FieldType::DateTime),
        ("a", FieldType::Int),
        ("b", FieldType::Int),
    ])
}

fn merge_latest() -> WriteMode {
    WriteMode::MergeLatest { key: "id".to_owned(), order: "received_at".to_owned() }
}

/// A round's users, in an order of the loader's own, each with a value in the loader's own column.
fn round(column: &str, number: i64, backwards: bool) -> Vec<Row> {
    let user = |id: i64| {
        let at = Cell::DateTime(number * 1_000_000);
        row(&[("id", text(&format!("u{id}"))), ("received_at", at), (column, Cell::Int(number))])
    };
    let mut users: Vec<Row> = (0..50).map(user).collect();
    if backwards {
        users.reverse();
    }
    users
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_connections_merge_into_users_and_lose_no_value() {
    let Some(database) = Database::create().await else { return };
    #[expect(clippy::async_yields_async, reason = "both are ready before either loads")]
    let loader = async |name: &str, column: &'static str, backwards: bool| {
        let warehouse = postgres(&database.url);
        let connection: ConnectionId = name.parse().unwrap();
        warehouse.resume(&connection, 1, &kafka()).await.unwrap();
        create(&warehouse, "users", &users()).await;
        create(&warehouse, "accounts", &users()).await;
        tokio::spawn(async move {
            for number in 0..30 {
                let mut tables = vec![
                    rows("accounts", &users(), &round(column, number, backwards), merge_latest()),
                    rows("users", &users(), &round(column, number, backwards), merge_latest()),
                ];
                if backwards {
                    tables.reverse();
                }
                let load = Load { connection: connection.clone(), ..load(number, number + 1, tables) };
                warehouse.load(load).await.unwrap_or_else(|error| panic!("{number}: {}", error.full()));
            }
        })
    };
    let (first, second) = (loader("web--main", "a", false).await, loader("app--main", "b", true).await);
    first.await.unwrap();
    second.await.unwrap();
    let warehouse = postgres(&database.url);
    for table in ["users", "accounts"] {
        let count = format!(
            "SELECT count(*) AS n, count(DISTINCT id) AS ids, min(a) AS a, min(b) AS b FROM shop.{table}"
        );
        assert_eq!(
            select(&warehouse, &count).await,
            json!([{"n": 50, "ids": 50, "a": 29, "b": 29}]),
            "{table}"
        );
    }
}

async fn numbers(warehouse: &Postgres) -> Value {
    select(warehouse, "SELECT n FROM shop.numbers ORDER BY n").await
}

fn one_row(start: i64) -> Load {
    let values = [row(&[("n", Cell::Int(start))])];
    let schema = columns(&[("n", FieldType::Int)]);
    load(start, start + 1, vec![rows("numbers", &schema, &values, WriteMode::Append)])
}

async fn ready() -> Option<(Database, Arc<Postgres>)> {
    let database = Database::create().await?;
    let warehouse = Arc::new(postgres(&database.url));
    warehouse.resume(&connection(), 1, &kafka()).await.unwrap();
    create(&warehouse, "numbers", &columns(&[("n", FieldType::Int)])).await;
    Some((database, warehouse))
}

/// What the loader does after an error that is to be retried.
async fn again(warehouse: &Postgres, failed: Result<LoadReport, ConnectorError>) {
    let error = failed.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Retry { after: None }, "{}", error.full());
    let resume = warehouse.resume(&connection(), 1, &kafka()).await.unwrap();
    if !resume.positions.contains_key(&0) {
        warehouse.load(one_row(0)).await.unwrap();
    }
    assert_eq!(numbers(warehouse).await, json!([{"n": 0}]), "once");
}

async fn wait_for(client: &tokio_postgres::Client, condition: &str) {
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !client.query_one(condition, &[]).await.unwrap().get::<_, bool>(0) {
        assert!(std::time::Instant::now() < deadline, "waited in vain for {condition}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// States that the server reports by itself only in a race: a trigger reports them here.
#[tokio::test]
async fn deadlocks_serialization_failures_and_lock_waits_are_retried() {
    for state in ["40P01", "40001", "55P03", "53200", "57014"] {
        let Some((database, warehouse)) = ready().await else { return };
        let client = database.client().await;
        let fail = format!(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'as the server would' USING ERRCODE = '{state}'; END $$;
             CREATE TRIGGER fail BEFORE INSERT ON shop.numbers EXECUTE FUNCTION fail()"
        );
        client.batch_execute(&fail).await.unwrap();
        let failed = warehouse.load(one_row(0)).await;
        let error = failed.as_ref().unwrap_err();
        assert_eq!(error.code, format!("sqlstate_{state}"));
        let statement = error.statement.as_deref().unwrap_or_default();
        assert!(statement.starts_with("COPY \"shop\".\"numbers\" (\"n\")"), "{statement:?}");
        client.batch_execute("DROP TRIGGER fail ON shop.numbers").await.unwrap();
        again(&warehouse, failed).await;
    }
}

#[tokio::test]
async fn two_transactions_that_wait_for_each_other_end_and_the_load_is_made() {
    let Some((database, warehouse)) = ready().await else { return };
    create(&warehouse, "other", &columns(&[("n", FieldType::Int)])).await;
    let client = database.client().await;
    // The load has its row of `numbers`' lock and wants `other`'s; the session has the latter and wants the former.
    client.batch_execute("BEGIN; LOCK TABLE shop.other IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut tables = one_row(0).tables;
    let mut second = tables[0].clone();
    second.name = table_name("other");
    tables.push(second);
    let loading = tokio::spawn({
        let warehouse = warehouse.clone();
        async move { warehouse.load(load(0, 1, tables)).await }
    });
    let watch = database.client().await;
    wait_for(&watch, "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)").await;
    let mine = client.batch_execute("LOCK TABLE shop.numbers IN ACCESS EXCLUSIVE MODE").await;
    client.batch_execute("ROLLBACK").await.unwrap();
    let loaded = loading.await.unwrap();
    if mine.is_ok() {
        assert_eq!(loaded.as_ref().unwrap_err().code, "sqlstate_40P01");
        again(&warehouse, loaded).await;
    }
    assert_eq!(numbers(&warehouse).await, json!([{"n": 0}]));
}

/// The session dies while the server is committing: nobody can tell whether it did, and `resume` can.
#[tokio::test]
async fn a_session_that_dies_around_its_commit_leaves_a_load_once() {
    let Some((database, warehouse)) = ready().await else { return };
    let client = database.client().await;
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_sleep(600); RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON shop.numbers
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow()";
    client.batch_execute(slow).await.unwrap();
    let loading = tokio::spawn({
        let warehouse = warehouse.clone();
        async move { warehouse.load(one_row(0)).await }
    });
    wait_for(
        &client,
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query = 'COMMIT' AND wait_event = 'PgSleep'
        AND datname = current_database())",
    )
    .await;
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE query = 'COMMIT' AND wait_event = 'PgSleep' AND datname = current_database()";
    client.query(kill, &[]).await.unwrap();
    let failed = loading.await.unwrap();
    client.batch_execute("DROP TRIGGER slow ON shop.numbers").await.unwrap();
    again(&warehouse, failed).await;
}

/// The plan of what a merge does to find the rows of a key.
#[tokio::test]
async fn a_merge_finds_its_rows_by_an_index() {
    let Some((database, warehouse)) = ready().await else { return };
    let schema =
        columns(&[("id", FieldType::String), ("part", FieldType::Int), ("received_at", FieldType::DateTime)]);
    let upsert =
        |key: &[&str]| WriteMode::Upsert { key: key.iter().map(|name| (*name).to_owned()).collect() };
    let merge = WriteMode::MergeLatest { key: "id".to_owned(), order: "received_at".to_owned() };
    // Longer than a b-tree takes, and nothing that compresses.
    let digits =
        |n: u64| format!("{:032x}", u128::from(n).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835));
    let long: String = (1..400).map(digits).collect();
    let values = [row(&[("id", text(&long)), ("part", Cell::Int(1)), ("received_at", Cell::DateTime(1))])];
    let mut start = 0;
    for (table, write) in [("one", upsert(&["id"])), ("two", upsert(&["part", "id"])), ("users", merge)] {
        create(&warehouse, table, &schema).await;
        for _ in 0..2 {
            warehouse
                .load(load(start, start + 1, vec![rows(table, &schema, &values, write.clone())]))
                .await
                .unwrap();
            start += 1;
        }
        assert_eq!(
            select(&warehouse, &format!("SELECT part FROM shop.{table}")).await,
            json!([{"part": 1}]),
            "{table}"
        );
    }
    let indexes = "SELECT tablename, regexp_replace(indexdef, '.* USING ', '') AS index FROM pg_indexes
        WHERE schemaname = 'shop' ORDER BY tablename";
    assert_eq!(
        select(&warehouse, indexes).await,
        json!([
            {"tablename": "one", "index": "hash (id)"},
            {"tablename": "two", "index": "btree (part, hashtextextended(id, (0)::bigint))"},
            {"tablename": "users", "index": "hash (id)"},
        ])
    );
    // A table that somebody has indexed, and one that is long already.
    let client = database.client().await;
    client
        .batch_execute(
            "CREATE TABLE shop.indexed (id text PRIMARY KEY, part bigint, received_at timestamptz);
             CREATE TABLE shop.long AS SELECT n::text AS id, n AS part, now() AS received_at
                 FROM generate_series(1, 60000) AS n",
        )
        .await
        .unwrap();
    let small = [row(&[("id", text("7")), ("part", Cell::Int(-1)), ("received_at", Cell::DateTime(1))])];
    for table in ["indexed", "long"] {
        warehouse
            .load(load(start, start + 1, vec![rows(table, &schema, &small, upsert(&["id"]))]))
            .await
            .unwrap();
        start += 1;
    }
    let indexes = "SELECT tablename, regexp_replace(indexdef, '.* USING ', '') AS index FROM pg_indexes
        WHERE tablename IN ('indexed', 'long') ORDER BY tablename";
    assert_eq!(
        select(&warehouse, indexes).await,
        json!([{"tablename": "indexed", "index": "btree (id)"}, {"tablename": "long", "index": "hash (id)"}])
    );
    let merged = "SELECT count(*) AS n, count(*) FILTER (WHERE part = -1) AS ours FROM shop.long";
    assert_eq!(select(&warehouse, merged).await, json!([{"n": 60_000, "ours": 1}]));
}

#[tokio::test]
async fn a_table_that_a_person_dropped_gets_its_index_again() {
    let Some((database, warehouse)) = ready().await else { return };
    let schema = columns(&[("id", FieldType::String)]);
    let upsert = WriteMode::Upsert { key: vec!["id".to_owned()] };
    let batch = |start| {
        load(start, start + 1, vec![rows("gone", &schema, &[row(&[("id", text("a"))])], upsert.clone())])
    };
    create(&warehouse, "gone", &schema).await;
    warehouse.load(batch(0)).await.unwrap();
    database.client().await.batch_execute("DROP TABLE shop.gone").await.unwrap();
    warehouse.load(batch(1)).await.unwrap_err();
    // As the loader does after every error.
    warehouse.resume(&connection(), 1, &kafka()).await.unwrap();
    create(&warehouse, "gone", &schema).await;
    warehouse.load(batch(1)).await.unwrap();
    let indexes = "SELECT count(*) AS n FROM pg_indexes WHERE tablename = 'gone'";
    assert_eq!(select(&warehouse, indexes).await, json!([{"n": 1}]));
}
