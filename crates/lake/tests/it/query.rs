//! SQL over the lake.

use millrace_columnar::Cell;
use millrace_connector::{ErrorKind, Warehouse, WriteMode};
use millrace_event_model::FieldType::{DateTime, Int, String as Text};

use crate::rig::{Rig, With, load, query, rows, text};

async fn lake_with_sales() -> Rig {
    let rig = Rig::new().await;
    let columns = [("id", Text), ("total", Int), ("received_at", DateTime)];
    rig.create("sales", &columns).await;
    rig.create("visits", &columns).await;
    let day = 86_400_000_000;
    let cells =
        (0..10).map(|n| [text(&format!("u{}", n % 3)), Cell::Int(n), Cell::DateTime(n * day)]).collect();
    rig.load(load(0, 10).rows("sales", rows(columns, cells), WriteMode::Append).counted(10)).await;
    rig
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_group_join_and_compute() {
    let rig = lake_with_sales().await;
    let found = rig
        .query(
            "WITH best AS (SELECT id, sum(total) AS total FROM web.sales GROUP BY id HAVING sum(total) > 12)
             SELECT b.id, b.total, count(*) AS n, upper(b.id) AS big
             FROM best b JOIN web.sales s ON s.id = b.id
             WHERE date_trunc('month', s.received_at) = '1970-01-01T00:00:00Z'
             GROUP BY b.id, b.total ORDER BY b.total DESC, b.id",
        )
        .await;
    assert_eq!(found, ["big=U0 id=u0 n=4 total=18", "big=U2 id=u2 n=3 total=15"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn text_comes_as_plain_text_and_two_columns_may_have_one_name() {
    let rig = lake_with_sales().await;
    let stream = rig.lake.query("SELECT id, id AS id2, 'x' AS x FROM web.sales LIMIT 1").await.unwrap();
    for field in stream.schema.fields() {
        assert_eq!(field.data_type().to_string(), "Utf8", "{}", field.name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalog_can_be_asked() {
    let rig = lake_with_sales().await;
    let tables = rig
        .query(
            "SELECT table_schema, table_name FROM information_schema.tables
             WHERE table_schema <> 'information_schema' ORDER BY 1, 2",
        )
        .await;
    assert_eq!(
        tables,
        [
            "table_name=counts table_schema=_millrace",
            "table_name=sales table_schema=web",
            "table_name=visits table_schema=web"
        ]
    );
    let columns = rig
        .query("SELECT column_name FROM information_schema.columns WHERE table_name = 'sales' ORDER BY 1")
        .await;
    let expected =
        ["column_name=id", "column_name=millrace_date", "column_name=received_at", "column_name=total"];
    assert_eq!(columns, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_books_are_a_table() {
    let rig = lake_with_sales().await;
    rig.load(load(10, 12).counted(2)).await;
    let found = rig
        .query(
            "SELECT connection, source, disposition, sum(items) AS items FROM _millrace.counts GROUP BY 1, 2, 3",
        )
        .await;
    assert_eq!(found, ["connection=web--lake disposition=loaded items=12 source=web"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_cannot_work_says_why() {
    let rig = lake_with_sales().await;
    let cases = [
        (
            "SELECT * FROM web.sails",
            "there is no table \"sails\" in schema \"web\"; there are: sales, visits",
        ),
        ("SELECT * FROM sales", "did you mean web.sales"),
        ("SELECT * FROM nowhere.x", "the schemas are: _millrace, web"),
        ("SELECT nope FROM web.sales", "nope"),
        ("SELEC 1", "invalid query"),
        ("DROP TABLE web.sales", "only queries"),
        ("INSERT INTO web.sales VALUES ('x', 1, NULL)", "only queries"),
        ("CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'", "only queries"),
        ("SET datafusion.execution.batch_size = 1", "only queries"),
        ("COPY web.sales TO '/tmp/x.csv'", "only queries"),
    ];
    for (sql, expected) in cases {
        let error = query(&rig.lake, sql).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Reject, "{sql}");
        assert!(error.full().contains(expected), "{sql}: {}", error.full());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_reads_the_version_of_its_beginning() {
    let rig = lake_with_sales().await;
    let stream = rig.lake.query("SELECT total FROM web.sales").await.unwrap();
    rig.load(load(10, 11).rows("sales", rows([("id", Text)], vec![[text("late")]]), WriteMode::Append)).await;
    use futures::TryStreamExt;
    let batches: Vec<_> = stream.batches.try_collect().await.unwrap();
    assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deeply_nested_query_does_not_overflow_the_stack() {
    let rig = lake_with_sales().await;
    let sum = vec!["total"; 300].join(" + ");
    assert_eq!(rig.query(&format!("SELECT max({sum}) AS m FROM web.sales")).await, ["m=2700"]);
}
