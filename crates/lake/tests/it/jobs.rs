//! What is particular to the lake of what jobs need; the rest is in the conformance kit.

use millrace_columnar::{Cell, Row, batch_of};
use millrace_connector::{Load, Replacement, SchemaChange, Warehouse, WriteMode};
use millrace_event_model::FieldType;

use crate::rig::{Rig, SCHEMA, With, connection, kafka, load, name, rows, schema, text};

#[tokio::test(flavor = "multi_thread")]
async fn a_load_reports_its_commits_and_bytes() {
    let rig = Rig::new().await;
    let id = ("id", FieldType::String);
    rig.create("tracks", &[id]).await;
    let batch = rows([id], vec![[text("a")]]);
    let report = rig.lake.load(load(0, 1).rows("tracks", batch, WriteMode::Append).counted(1)).await.unwrap();
    // The intent, two tables and the seal.
    assert_eq!(report.statements, 4);
    assert!(report.bytes > 500, "{} bytes", report.bytes);
    let report = rig.lake.load(load(1, 2)).await.unwrap();
    assert_eq!((report.statements, report.bytes), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_names_what_was_done_to_which_table() {
    let rig = Rig::new().await;
    let batch = rows([("id", FieldType::String)], vec![[text("a")]]);
    let key = vec!["id".to_owned()];
    let error = rig.lake.load(load(0, 1).rows("gone", batch, WriteMode::Upsert { key })).await.unwrap_err();
    assert_eq!(error.statement.as_deref(), Some("MERGE INTO web.gone ON id (load 2)"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_that_was_cut_off_is_done_again_from_the_same_rows() {
    let rig = Rig::new().await;
    let columns = [("id", FieldType::String), ("received_at", FieldType::DateTime)];
    rig.create("orders", &columns).await;
    rig.create("orders__rebuild", &columns).await;
    let batch = |id: &str, day: i64| rows(columns, vec![[text(id), Cell::DateTime(day * 86_400_000_000)]]);
    let filled = load(0, 1).rows("orders", batch("old", 0), WriteMode::Append).rows(
        "orders__rebuild",
        batch("new", 3),
        WriteMode::Append,
    );
    rig.load(filled).await;
    let replacements = vec![Replacement { from: name("orders__rebuild"), to: name("orders") }];
    let whole = Load { replacements, ..load(1, 2) };
    // The replacement is there, another table's part is not, and no seal.
    let doomed = whole.clone().rows(
        "zz_gone",
        rows([("id", FieldType::String)], vec![[text("x")]]),
        WriteMode::Append,
    );
    assert!(rig.lake.load(doomed.clone()).await.is_err());
    assert!(rig.resume(1).await.unwrap().redo.is_some());
    rig.create("zz_gone", &[("id", FieldType::String)]).await;
    rig.load(doomed).await;
    let found = rig.query("SELECT id, millrace_date AS d FROM web.orders").await;
    assert_eq!(found, ["d=1970-01-04 id=new"]);
}

/// A loader that finds an unfinished load has its records, and no idea of a rebuild.
#[tokio::test(flavor = "multi_thread")]
async fn all_tables_are_replaced_whoever_does_the_load_again() {
    let rig = Rig::new().await;
    let id = [("id", FieldType::String)];
    let mut filled = load(0, 1);
    for table in ["orders", "orders__rebuild", "users", "users__rebuild"] {
        rig.create(table, &id).await;
        if table != "users__rebuild" {
            filled = filled.rows(table, rows(id, vec![[text(table)]]), WriteMode::Append);
        }
    }
    rig.load(filled).await;
    let replacement = |table: &str| Replacement { from: name(&format!("{table}__rebuild")), to: name(table) };
    let replacements = vec![replacement("orders"), replacement("users")];
    let begun = Load { replacements, ranges: Vec::new(), ..load(1, 1) };
    let begun = begun.rows("zz_gone", rows(id, vec![[text("x")]]), WriteMode::Append);
    assert!(rig.lake.load(begun).await.is_err(), "there is no such table");
    let other = rig.other();
    assert_eq!(other.resume(&connection(), 2, &kafka()).await.unwrap().redo, Some(Vec::new()));
    let again = Load { epoch: 2, ranges: Vec::new(), ..load(1, 1) };
    other.load(again).await.unwrap();
    assert_eq!(rig.query("SELECT id FROM web.orders").await, ["id=orders__rebuild"]);
    assert_eq!(rig.query("SELECT count(*) AS c FROM web.users").await, ["c=0"]);
    assert_eq!(other.resume(&connection(), 2, &kafka()).await.unwrap().positions, [(0, 1)].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_by_a_table_that_is_not_there_is_not_begun() {
    let rig = Rig::new().await;
    let id = [("id", FieldType::String)];
    rig.create("orders", &id).await;
    rig.load(load(0, 1).rows("orders", rows(id, vec![[text("a")]]), WriteMode::Append)).await;
    let replacements = vec![Replacement { from: name("orders__rebuild"), to: name("orders") }];
    let refused = rig.lake.load(Load { replacements, ..load(1, 1) }).await.unwrap_err();
    assert!(refused.to_string().contains("orders__rebuild"), "{refused}");
    assert_eq!(rig.other().resume(&connection(), 2, &kafka()).await.unwrap().redo, None);
    assert_eq!(rig.query("SELECT id FROM web.orders").await, ["id=a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_was_forgotten_and_made_again_has_none_of_its_old_rows() {
    let rig = Rig::new().await;
    let id = ("id", FieldType::String);
    let job = "job--lake".parse().unwrap();
    for round in ["first", "second"] {
        // Another process keeps the lake open and has seen the older tables.
        let _ = rig.query("SELECT 1 AS one").await;
        rig.lake.resume(&job, 1, &kafka()).await.unwrap();
        rig.create("tracks", &[id]).await;
        let batch = rows([id], vec![[text(round)]]);
        let batch = load(0, 1).rows("tracks", batch, WriteMode::Append);
        rig.lake.load(Load { connection: job.clone(), ..batch }).await.unwrap();
        assert_eq!(rig.query("SELECT id FROM web.tracks").await, [format!("id={round}")]);
        rig.lake.forget(&job, Some(SCHEMA)).await.unwrap();
        assert!(!rig.folder.path().join("web").exists());
        assert!(!rig.folder.path().join("_millrace/job--lake").exists());
    }
    assert!(rig.folder.path().join(format!("_millrace/{}", connection())).exists());
    assert!(rig.lake.forget(&job, Some("_millrace")).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_become_wider_with_the_rows_they_have() {
    use FieldType::{Date, DateTime, Decimal, Float, Int, LocalDateTime, String as Text};
    let rig = Rig::new().await;
    let narrow =
        [("a", Int), ("b", Int), ("c", Date), ("d", Decimal), ("e", Float), ("received_at", DateTime)];
    rig.create("orders", &narrow).await;
    let row: Row = [
        ("a", Cell::Int(7)),
        ("b", Cell::Int(i64::MAX)),
        ("c", Cell::Date(1)),
        ("d", Cell::Decimal("1.50".to_owned())),
        ("e", Cell::Float(0.5)),
        ("received_at", Cell::DateTime(0)),
    ]
    .map(|(name, cell)| (name.to_owned(), cell))
    .into();
    let batch = batch_of(&schema(&narrow), &[row, Row::new()]).unwrap();
    rig.load(load(0, 2).rows("orders", batch, WriteMode::Append)).await;
    let wider = [("a", Text), ("b", Decimal), ("c", LocalDateTime), ("d", Text), ("e", Text)];
    let change = SchemaChange::WidenColumns { table: "orders".to_owned(), columns: schema(&wider) };
    for lake in [&rig.lake, &rig.other()] {
        lake.apply(SCHEMA, std::slice::from_ref(&change)).await.unwrap();
    }
    let mut expected = schema(&wider);
    expected.extend(schema(&[("received_at", DateTime)]));
    assert_eq!(rig.other().describe(SCHEMA).await.unwrap()["orders"], expected);
    let found = rig.query("SELECT a, b, c, d, e FROM web.orders WHERE a IS NOT NULL").await;
    assert_eq!(found, ["a=7 b=9223372036854775807.000000000 c=1970-01-02T00:00:00.000 d=1.5 e=0.5"]);
    assert_eq!(rig.query("SELECT count(*) AS c FROM web.orders").await, ["c=2"]);
    let row = rows([("a", Text)], vec![[text("x")]]);
    rig.load(load(2, 3).rows("orders", row, WriteMode::Append)).await;
    assert_eq!(rig.query("SELECT count(*) AS c FROM web.orders WHERE a = 'x'").await, ["c=1"]);
}
