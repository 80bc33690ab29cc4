use std::time::{Duration, Instant};

use futures::StreamExt;
use millrace_columnar::arrow::array::RecordBatch;
use millrace_connector::ErrorKind;

use super::server::Database;
use super::*;

#[tokio::test]
async fn every_type_has_an_arrow_type() {
    let Some(database) = Database::create().await else { return };
    let warehouse = postgres(&database.url);
    let sql = "SELECT 1::smallint AS i2, 2::int AS i4, 3::bigint AS i8, 1.5::real AS f4, 0.1::float8 AS f8,
        12.50::numeric AS n, 12.50::numeric(10,2) AS money, 1e39::numeric(50,2) AS huge, true AS b,
        'x'::text AS t, 'y'::char(3) AS c, '{\"a\":1}'::jsonb AS j, '[ 1]'::json AS j2,
        '2026-11-24T10:00:00.5+02'::timestamptz AS at, '2026-11-24 10:00'::timestamp AS local,
        '2026-11-24'::date AS day, 'infinity'::timestamptz AS never, '\\x00ff'::bytea AS bytes,
        'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid AS u, '10.0.0.1'::inet AS ip, '1 day'::interval AS wait,
        ARRAY[1,2] AS list, ROW(1,'a') AS pair, NULL::int AS nothing -- the end";
    assert_eq!(
        select(&warehouse, &format!("{sql};")).await,
        json!([{
            "i2": 1, "i4": 2, "i8": 3, "f4": 1.5, "f8": 0.1, "n": 12.5, "money": 12.5,
            "huge": format!("1{}.00", "0".repeat(39)), "b": true, "t": "x", "c": "y  ",
            "j": {"a": 1}, "j2": [1], "at": "2026-11-24T08:00:00.500Z", "local": "2026-11-24T10:00:00.000",
            "day": "2026-11-24", "never": null, "bytes": "00ff",
            "u": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "ip": "10.0.0.1/32", "wait": "1 day",
            "list": [1, 2], "pair": {"f1": 1, "f2": "a"}, "nothing": null,
        }])
    );
}

#[tokio::test]
async fn rows_come_in_batches_of_bounded_size() {
    let Some(database) = Database::create().await else { return };
    let warehouse = postgres(&database.url);
    let small = batches(&warehouse, "SELECT n FROM generate_series(1, 100000) AS n").await;
    assert_eq!(small.iter().map(RecordBatch::num_rows).sum::<usize>(), 100_000);
    assert!(small.len() > 3);
    let large =
        batches(&warehouse, "SELECT n, repeat('x', 100000) AS t FROM generate_series(1, 300) AS n").await;
    let bytes = large.iter().map(RecordBatch::get_array_memory_size);
    assert_eq!(large.iter().map(RecordBatch::num_rows).sum::<usize>(), 300);
    assert!(bytes.max() < Some(16 << 20), "batches of large rows hold few of them");
    let empty = warehouse.query("SELECT 1 AS a WHERE false").await.unwrap();
    assert_eq!(empty.schema.field(0).name(), "a");
    assert_eq!(empty.batches.count().await, 0);
}

#[tokio::test]
async fn a_query_can_only_read() {
    let Some(database) = Database::create().await else { return };
    let warehouse = postgres(&database.url);
    database.client().await.batch_execute("CREATE TABLE t (a int)").await.unwrap();
    for (sql, code) in [
        ("INSERT INTO t VALUES (1) RETURNING a", "sqlstate_25006"),
        ("WITH x AS (DELETE FROM t RETURNING a) SELECT a FROM x", "sqlstate_25006"),
        ("COPY t TO PROGRAM 'true'", "not_a_query"),
        ("SELECT 1; DROP TABLE t", "sqlstate_42601"),
        ("SELECT $1::int", "parameters"),
        ("SELECT nothing FROM nowhere", "sqlstate_42P01"),
        ("", "not_a_query"),
    ] {
        let error = match warehouse.query(sql).await {
            Err(error) => error,
            Ok(mut stream) => stream.batches.next().await.unwrap().unwrap_err(),
        };
        assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Reject, code), "{sql}: {}", error.full());
    }
    let error = warehouse.query("SELECT 9007199254740993::numeric AS id").await.unwrap().batches.next().await;
    assert_eq!(error.unwrap().unwrap_err().code, "inexact");
}

#[tokio::test]
async fn a_dropped_query_is_cancelled() {
    let Some(database) = Database::create().await else { return };
    let warehouse = postgres(&database.url);
    let stream = warehouse.query("SELECT pg_sleep(600)::text AS a").await.unwrap();
    let client = database.client().await;
    let running = "SELECT count(*) FROM pg_stat_activity
        WHERE query LIKE '%pg_sleep%' AND state = 'active' AND pid <> pg_backend_pid() AND datname = current_database()";
    let count = async || client.query_one(running, &[]).await.unwrap().get::<_, i64>(0);
    let deadline = Instant::now() + Duration::from_secs(30);
    while count().await == 0 {
        assert!(Instant::now() < deadline, "the query never ran");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(stream);
    while count().await > 0 {
        assert!(Instant::now() < deadline, "the query still runs");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_query_that_is_cut_off_does_not_look_complete() {
    let Some(database) = Database::create().await else { return };
    let warehouse = postgres(&database.url);
    let mut stream = warehouse.query("SELECT n FROM generate_series(1, 10000000) AS n").await.unwrap();
    stream.batches.next().await.unwrap().unwrap();
    let client = database.client().await;
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE query LIKE '%generate_series%' AND pid <> pg_backend_pid() AND datname = current_database()";
    client.query(kill, &[]).await.unwrap();
    let rest: Result<Vec<RecordBatch>, _> = stream.batches.try_collect().await;
    assert_eq!(rest.unwrap_err().kind, ErrorKind::Retry { after: None });
}
