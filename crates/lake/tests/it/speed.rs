//! How long a load takes. Prints the figure; fails only when it is far off, since machines differ.

use std::time::{Duration, Instant};

use millrace_columnar::Cell;
use millrace_connector::{Warehouse, WriteMode};
use millrace_event_model::FieldType::{DateTime, Int, String as Text};

use crate::rig::{Rig, With, load, rows, text};

const TABLES: usize = 10;
const LOADS: i64 = 20;

/// Generous: a busy machine with unoptimised code. An idle one takes a fraction of it.
const ALARM: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_load_of_ten_tables_does_not_keep_a_two_second_schedule_waiting() {
    let rig = Rig::new().await;
    let columns = [("id", Text), ("n", Int), ("received_at", DateTime)];
    let names: Vec<String> = (0..TABLES).map(|n| format!("t{n}")).collect();
    for name in &names {
        rig.create(name, &columns).await;
    }
    let begun = Instant::now();
    for offset in 0..LOADS {
        let mut batch = load(offset, offset + 1).seen(&[offset as u128]).counted(100);
        for (n, name) in names.iter().enumerate() {
            let row = |k| [text(&format!("{offset}-{k}")), Cell::Int(k), Cell::DateTime(offset)];
            let write = match n {
                0 => WriteMode::MergeLatest { key: "id".to_owned(), order: "received_at".to_owned() },
                _ => WriteMode::Append,
            };
            batch = batch.rows(name, rows(columns, (0..100).map(row).collect()), write);
        }
        rig.load(batch).await;
    }
    let per_load = begun.elapsed() / LOADS as u32;
    let asked = Instant::now();
    let found = rig.query("SELECT count(*) AS c, sum(n) AS s FROM web.t1").await;
    let query = asked.elapsed();
    let asked = Instant::now();
    rig.lake.describe("web").await.unwrap();
    let describe = asked.elapsed();
    eprintln!("load of {TABLES} tables: {per_load:?}; query: {query:?}; describe: {describe:?}");
    assert_eq!(found, ["c=2000 s=99000"]);
    assert!(per_load < ALARM, "{per_load:?} per load");
}

/// Users of a small installation, of whom a few change in each load.
const USERS: i64 = 100_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_few_changed_users_among_many_do_not_keep_the_schedule_waiting() {
    let rig = Rig::new().await;
    let columns = [("id", Text), ("plan", Text), ("city", Text), ("received_at", DateTime)];
    rig.create("users", &columns).await;
    let write = WriteMode::MergeLatest { key: "id".to_owned(), order: "received_at".to_owned() };
    let user =
        |n: i64, moment| [text(&format!("user-{n}")), text("pro"), text("Oslo"), Cell::DateTime(moment)];
    let all = rows(columns, (0..USERS).map(|n| user(n, 0)).collect());
    let begun = Instant::now();
    rig.load(load(0, 1).rows("users", all, write.clone())).await;
    let whole = begun.elapsed();
    let begun = Instant::now();
    let loads = 3;
    for offset in 1..=loads {
        let few = rows(columns, (0..100).map(|n| user(n * 997, offset)).collect());
        rig.load(load(offset, offset + 1).rows("users", few, write.clone())).await;
    }
    let per_load = begun.elapsed() / loads as u32;
    eprintln!("merge of 100 into {USERS} users: {per_load:?}; all of them at first: {whole:?}");
    assert_eq!(rig.query("SELECT count(*) AS c FROM web.users").await, [format!("c={USERS}")]);
    // Where all is slow because others compile, it is no worse than to write them anew.
    assert!(per_load < ALARM.max(4 * whole), "{per_load:?} per load, {whole:?} for all of them");
}
