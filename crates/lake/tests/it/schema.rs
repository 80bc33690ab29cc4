//! Tables and columns as they are described, made and read back.

use std::collections::BTreeMap;

use millrace_columnar::Cell;
use millrace_connector::{Context, SchemaChange, Warehouse, WriteMode};
use millrace_event_model::FieldType;
use serde_json::json;

use crate::rig::{Rig, SCHEMA, With, load, open, rows, schema, text};

const ALL_TYPES: [(&str, FieldType); 7] = [
    ("a_int", FieldType::Int),
    ("b_float", FieldType::Float),
    ("c_boolean", FieldType::Boolean),
    ("d_moment", FieldType::DateTime),
    ("e_string", FieldType::String),
    ("f_text", FieldType::Text),
    ("g_json", FieldType::Json),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_type_survives_the_way_in_and_out() {
    let rig = Rig::new().await;
    rig.create("all", &ALL_TYPES).await;
    let full = [
        Cell::Int(i64::MIN),
        Cell::Float(-1.5e300),
        Cell::Boolean(true),
        Cell::DateTime(1_700_000_000_123_456),
        text("Grüße 🚀\n\"quoted\""),
        text(&"long ".repeat(2_000)),
        Cell::Json(r#"{"a":[1,null]}"#.to_owned()),
    ];
    let empty = [const { Cell::Null }; 7];
    rig.load(load(0, 2).rows("all", rows(ALL_TYPES, vec![full.clone(), empty]), WriteMode::Append)).await;
    let described = rig.other().describe(SCHEMA).await.unwrap();
    assert_eq!(described, BTreeMap::from([("all".to_owned(), schema(&ALL_TYPES))]));
    let found = rig.query("SELECT * FROM web.all WHERE c_boolean").await;
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with(
        "a_int=-9223372036854775808 b_float=-1.5e300 c_boolean=true d_moment=2023-11-14T22:13:20.123456+00:00 \
         e_string=Grüße 🚀\n\"quoted\" f_text=long long"
    ));
    assert!(found[0].ends_with(r#"g_json={"a":[1,null]}"#));
    assert_eq!(rig.query("SELECT count(*) AS c FROM web.all WHERE a_int IS NULL").await, ["c=1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_may_be_reserved_words_or_of_any_alphabet() {
    let rig = Rig::new().await;
    let columns = [("select", FieldType::Int), ("größe_東京", FieldType::Int), ("_x", FieldType::Int)];
    rig.create("order", &columns).await;
    let mut sorted = columns;
    sorted.sort_unstable();
    let batch = rows(sorted, vec![[Cell::Int(1), Cell::Int(2), Cell::Int(3)]]);
    rig.load(load(0, 1).rows("order", batch, WriteMode::Append)).await;
    let found = rig.query(r#"SELECT "select" + "größe_東京" AS sum FROM web."order""#).await;
    assert_eq!(found, ["sum=5"]);
    assert_eq!(rig.lake.describe(SCHEMA).await.unwrap()["order"], schema(&columns));
}

#[tokio::test(flavor = "multi_thread")]
async fn making_what_exists_changes_nothing() {
    let rig = Rig::new().await;
    let id = ("id", FieldType::String);
    let changes = [
        SchemaChange::CreateSchema,
        SchemaChange::CreateTable { table: "tracks".to_owned(), columns: schema(&[id]) },
    ];
    rig.lake.apply(SCHEMA, &changes).await.unwrap();
    rig.load(load(0, 1).rows("tracks", rows([id], vec![[text("a")]]), WriteMode::Append)).await;
    let before = rig.lake.describe(SCHEMA).await.unwrap();
    open(rig.folder.path()).apply(SCHEMA, &changes).await.unwrap();
    assert_eq!(rig.lake.describe(SCHEMA).await.unwrap(), before);
    assert_eq!(rig.query("SELECT count(*) AS c FROM web.tracks").await, ["c=1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_two_make_at_once_has_the_columns_of_both() {
    let rig = Rig::new().await;
    let other = rig.other();
    let table = |column| {
        [SchemaChange::CreateTable {
            table: "tracks".to_owned(),
            columns: schema(&[("id", FieldType::String), (column, FieldType::Int)]),
        }]
    };
    let (ours, theirs) = (table("ours"), table("theirs"));
    let (one, two) = tokio::join!(rig.lake.apply(SCHEMA, &ours), other.apply(SCHEMA, &theirs));
    // Whoever loses the race twice says so and is tried again by the loader.
    for (lake, result, changes) in [(&rig.lake, one, &ours), (&other, two, &theirs)] {
        if result.is_err() {
            lake.apply(SCHEMA, changes).await.unwrap();
        }
    }
    let described = rig.lake.describe(SCHEMA).await.unwrap();
    assert_eq!(described["tracks"].keys().map(String::as_str).collect::<Vec<_>>(), ["id", "ours", "theirs"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_does_not_exist_is_empty() {
    let rig = Rig::new().await;
    assert!(rig.lake.describe("nowhere").await.unwrap().is_empty());
    rig.lake.check().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_never_leads_out_of_the_lake() {
    let rig = Rig::new().await;
    for bad in ["..", "a/b", "", ".hidden"] {
        let change =
            SchemaChange::CreateTable { table: bad.to_owned(), columns: schema(&[("id", FieldType::Int)]) };
        assert!(rig.lake.apply(SCHEMA, &[change]).await.is_err(), "{bad:?}");
        assert!(rig.lake.describe(bad).await.is_err(), "{bad:?}");
    }
}

#[test]
fn settings_that_are_not_right_say_so() {
    let context = Context { id: "main".to_owned(), work_dir: std::env::temp_dir() };
    let entry = millrace_lake::ENTRY;
    let refused = |settings| (entry.build)(&settings, &context).err().unwrap().full();
    assert!(refused(json!({ "uri": "./lake" })).contains("unknown field `uri`"));
    let cloud = refused(json!({ "url": "s3://bucket/lake", "storage_options": { "regoin": "hidden" } }));
    assert!(
        cloud.contains("\"main\"") && cloud.contains("\"regoin\"") && !cloud.contains("hidden"),
        "{cloud}"
    );
    assert!(refused(json!({ "url": "memory://" })).contains("a lake is a folder"));
    assert!(refused(json!({ "url": "./lake", "keep_versions_for": "1m" })).contains("at least 10m"));
    assert!(refused(json!({ "url": "./lake", "compact_every": "0 * * * *" })).contains("a length of time"));
    assert_eq!((entry.schema)()["required"], json!(["url"]));
}
