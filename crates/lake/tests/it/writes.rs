//! What each way of writing does to a table.

use millrace_columnar::Cell;
use millrace_connector::{SchemaChange, Warehouse, WriteMode};
use millrace_event_model::FieldType::{DateTime, Int, String as Text};

use crate::rig::{Rig, SCHEMA, With, load, rows, schema, text};

const ID: (&str, millrace_event_model::FieldType) = ("id", Text);
const N: (&str, millrace_event_model::FieldType) = ("n", Int);

fn upsert() -> WriteMode {
    WriteMode::Upsert { key: vec!["id".to_owned()] }
}

fn latest() -> WriteMode {
    WriteMode::MergeLatest { key: "id".to_owned(), order: "received_at".to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn appended_rows_can_be_queried() {
    let rig = Rig::new().await;
    rig.create("tracks", &[ID, N]).await;
    let batch = rows([ID, N], vec![[text("a"), Cell::Int(1)], [text("b"), Cell::Null]]);
    rig.load(load(0, 2).rows("tracks", batch, WriteMode::Append)).await;
    let batch = rows([ID], vec![[text("c")]]);
    rig.load(load(2, 3).rows("tracks", batch, WriteMode::Append)).await;
    assert_eq!(rig.query("SELECT * FROM web.tracks ORDER BY id").await, ["id=a n=1", "id=b", "id=c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_comes_later_is_null_in_older_rows() {
    let rig = Rig::new().await;
    rig.create("tracks", &[ID]).await;
    rig.load(load(0, 1).rows("tracks", rows([ID], vec![[text("a")]]), WriteMode::Append)).await;
    let change = SchemaChange::AddColumns { table: "tracks".to_owned(), columns: schema(&[N]) };
    rig.lake.apply(SCHEMA, std::slice::from_ref(&change)).await.unwrap();
    rig.lake.apply(SCHEMA, &[change]).await.unwrap();
    let batch = rows([ID, N], vec![[text("b"), Cell::Int(2)]]);
    rig.load(load(1, 2).rows("tracks", batch, WriteMode::Append)).await;
    assert_eq!(rig.query("SELECT * FROM web.tracks ORDER BY id").await, ["id=a", "id=b n=2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upserted_row_replaces_the_whole_row_of_its_key() {
    let rig = Rig::new().await;
    rig.create("items", &[ID, N, ("note", Text)]).await;
    let note = ("note", Text);
    let batch =
        rows([ID, N, note], vec![[text("a"), Cell::Int(1), text("x")], [text("b"), Cell::Int(2), text("y")]]);
    rig.load(load(0, 2).rows("items", batch, upsert())).await;
    let batch = rows([ID, N], vec![[text("b"), Cell::Int(3)], [text("c"), Cell::Int(4)]]);
    rig.load(load(2, 4).rows("items", batch, upsert())).await;
    let found = rig.query("SELECT * FROM web.items ORDER BY id").await;
    assert_eq!(found, ["id=a n=1 note=x", "id=b n=3", "id=c n=4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_several_columns_is_compared_as_a_whole() {
    let rig = Rig::new().await;
    rig.create("items", &[ID, N, ("note", Text)]).await;
    let columns = [ID, N, ("note", Text)];
    let key = WriteMode::Upsert { key: vec!["id".to_owned(), "n".to_owned()] };
    let batch =
        rows(columns, vec![[text("a"), Cell::Int(1), text("x")], [text("a"), Cell::Int(2), text("y")]]);
    rig.load(load(0, 2).rows("items", batch, key.clone())).await;
    let batch = rows(columns, vec![[text("a"), Cell::Int(2), text("z")]]);
    rig.load(load(2, 3).rows("items", batch, key)).await;
    assert_eq!(rig.query("SELECT n, note FROM web.items ORDER BY n").await, ["n=1 note=x", "n=2 note=z"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_user_the_latest_value_of_each_trait_is_kept() {
    let rig = Rig::new().await;
    let columns = [ID, ("plan", Text), ("city", Text), ("received_at", DateTime)];
    rig.create("users", &columns).await;
    let first = rows(
        columns,
        vec![
            [text("u1"), text("free"), text("Rome"), Cell::DateTime(100)],
            [text("u2"), text("free"), Cell::Null, Cell::DateTime(100)],
        ],
    );
    rig.load(load(0, 2).rows("users", first, latest())).await;
    let newer = rows(
        columns,
        vec![
            [text("u1"), text("pro"), Cell::Null, Cell::DateTime(200)],
            [text("u3"), text("pro"), Cell::Null, Cell::DateTime(200)],
        ],
    );
    rig.load(load(2, 4).rows("users", newer, latest())).await;
    let older = rows(
        columns,
        vec![
            [text("u1"), text("old"), text("Oslo"), Cell::DateTime(50)],
            [text("u2"), Cell::Null, text("Bern"), Cell::DateTime(50)],
        ],
    );
    rig.load(load(4, 6).rows("users", older, latest())).await;
    let found = rig.query("SELECT id, plan, city FROM web.users ORDER BY id").await;
    assert_eq!(found, ["city=Rome id=u1 plan=pro", "city=Bern id=u2 plan=free", "id=u3 plan=pro"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_leaves_files_without_its_keys_alone() {
    let rig = Rig::new().await;
    rig.create("items", &[ID, N]).await;
    for (offset, id) in ["a", "b", "c"].iter().enumerate() {
        let batch = rows([ID, N], vec![[text(id), Cell::Int(0)]]);
        rig.load(load(offset as i64, offset as i64 + 1).rows("items", batch, upsert())).await;
    }
    let before = data_files(&rig);
    let batch = rows([ID, N], vec![[text("b"), Cell::Int(9)]]);
    rig.load(load(3, 4).rows("items", batch, upsert())).await;
    assert_eq!(data_files(&rig), before + 1, "the row of b moved to one new file");
    assert_eq!(rig.query("SELECT sum(n) AS n, count(*) AS c FROM web.items").await, ["c=3 n=9"]);
}

fn data_files(rig: &Rig) -> usize {
    let files = std::fs::read_dir(rig.folder.path().join("web/items")).unwrap();
    files.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|e| e == "parquet")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_staged_generation_is_hidden_until_it_is_swapped_in() {
    let rig = Rig::new().await;
    rig.create("items", &[ID]).await;
    let stage = |generation| WriteMode::Stage { generation };
    rig.load(load(0, 1).rows("items", rows([ID], vec![[text("old")]]), WriteMode::Append)).await;
    rig.load(load(1, 2).rows("items", rows([ID], vec![[text("new1")]]), stage(7))).await;
    assert_eq!(rig.query("SELECT id FROM web.items").await, ["id=old"]);
    assert_eq!(rig.lake.describe(SCHEMA).await.unwrap().len(), 1, "staged rows are no table");
    rig.load(load(2, 3).rows("items", rows([ID], vec![[text("new2")]]), stage(7)).swap("items", 7)).await;
    assert_eq!(rig.query("SELECT id FROM web.items ORDER BY id").await, ["id=new1", "id=new2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_generation_is_thrown_away() {
    let rig = Rig::new().await;
    rig.create("items", &[ID]).await;
    let stage = |generation| WriteMode::Stage { generation };
    rig.load(load(0, 1).rows("items", rows([ID], vec![[text("abandoned")]]), stage(7))).await;
    rig.load(load(1, 2).rows("items", rows([ID], vec![[text("whole")]]), stage(8))).await;
    let staged = rig.folder.path().join("_millrace/web--lake/stage/web/items");
    let generations: Vec<_> = std::fs::read_dir(&staged)
        .unwrap()
        .filter(|entry| std::fs::read_dir(entry.as_ref().unwrap().path()).unwrap().count() > 0)
        .collect();
    assert_eq!(generations.len(), 1);
    rig.load(load(2, 3).swap("items", 8)).await;
    assert_eq!(rig.query("SELECT id FROM web.items").await, ["id=whole"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_complete_generation_without_rows_empties_the_table() {
    let rig = Rig::new().await;
    rig.create("items", &[ID]).await;
    rig.load(load(0, 1).rows("items", rows([ID], vec![[text("old")]]), WriteMode::Append)).await;
    rig.load(load(1, 2).swap("items", 3)).await;
    assert!(rig.query("SELECT id FROM web.items").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_the_load_that_swaps_come_after_the_swap() {
    let rig = Rig::new().await;
    rig.create("items", &[ID, N]).await;
    let stage = WriteMode::Stage { generation: 1 };
    let batch = rows([ID, N], vec![[text("a"), Cell::Int(1)], [text("b"), Cell::Int(1)]]);
    rig.load(load(0, 2).rows("items", batch, stage)).await;
    let batch = rows([ID, N], vec![[text("b"), Cell::Int(2)]]);
    rig.load(load(2, 3).rows("items", batch, upsert()).swap("items", 1)).await;
    assert_eq!(rig.query("SELECT * FROM web.items ORDER BY id").await, ["id=a n=1", "id=b n=2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_small_loads_stay_few_files_and_lose_no_row() {
    let rig = Rig::new().await;
    rig.create("tracks", &[ID, N]).await;
    for n in 0..70 {
        let batch = rows([ID, N], vec![[text(&format!("r{n}")), Cell::Int(n)]]);
        rig.load(load(n, n + 1).rows("tracks", batch, WriteMode::Append)).await;
    }
    let found = rig.query("SELECT count(*) AS c, count(DISTINCT id) AS d, sum(n) AS s FROM web.tracks").await;
    assert_eq!(found, ["c=70 d=70 s=2415"]);
    let log = rig.folder.path().join("web/tracks/_delta_log");
    let has = |suffix: &str| {
        let entries = std::fs::read_dir(&log).unwrap();
        entries.filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().ends_with(suffix)).count()
    };
    assert!(has(".checkpoint.parquet") >= 2, "the log is checkpointed");
    let reopened = rig.other();
    let found = crate::rig::query(&reopened, "SELECT count(*) AS c FROM web.tracks").await.unwrap();
    assert_eq!(found, ["c=70"]);
}
