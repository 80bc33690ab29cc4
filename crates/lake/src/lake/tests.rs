//! Attempts at one load that overlap, held still where only this crate can.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use futures::TryStreamExt;
use millrace_columnar::{Cell, Row, batch_of, rows_of};
use millrace_connector::{OffsetRange, TableLoad, WriteMode};
use millrace_event_model::FieldType;

use super::*;

fn open(folder: &tempfile::TempDir) -> Lake {
    let settings =
        LakeSettings { format: LakeFormat::Parquet, ..LakeSettings::at(folder.path().display().to_string()) };
    Lake::open(&settings, &Context { id: "lake".to_owned(), work_dir: "unused".into() }).unwrap()
}

fn connection() -> ConnectionId {
    "web--lake".parse().unwrap()
}

async fn resume(lake: &Lake, epoch: u64) -> Resume {
    let kafka =
        KafkaIdentity { cluster: "c".to_owned(), topic: "events".to_owned(), topic_id: "t".to_owned() };
    lake.resume(&connection(), epoch, &kafka).await.unwrap()
}

/// Offsets 0 to 2 by the rules of one version of the code: which id goes to which table.
fn load_of(epoch: u64, rows: &[(&str, &str)]) -> Load {
    let columns = TableSchema::from([("id".to_owned(), FieldType::String)]);
    let table = |&(table, id): &(&str, &str)| {
        let row = Row::from([("id".to_owned(), Cell::String(id.to_owned()))]);
        TableLoad {
            name: TableName { schema: "web".to_owned(), table: table.to_owned() },
            rows: vec![batch_of(&columns, &[row]).unwrap()],
            write: WriteMode::Append,
        }
    };
    Load {
        connection: connection(),
        epoch,
        at: DateTime::UNIX_EPOCH,
        ranges: vec![OffsetRange { partition: 0, start: 0, end: 2 }],
        tables: rows.iter().map(table).collect(),
        swaps: Vec::new(),
        replacements: Vec::new(),
        seen: Vec::new(),
        counts: Vec::new(),
    }
}

async fn create(lake: &Lake) {
    let columns = TableSchema::from([("id".to_owned(), FieldType::String)]);
    for table in ["a", "b", "c"] {
        let change = SchemaChange::CreateTable { table: table.to_owned(), columns: columns.clone() };
        lake.apply("web", &[change]).await.unwrap();
    }
}

/// What a query reads, and how many files there are.
async fn contents(lake: &Lake, folder: &tempfile::TempDir) -> (Vec<String>, usize) {
    let sql = "SELECT 'a' AS t, id FROM web.a UNION ALL SELECT 'b', id FROM web.b UNION ALL SELECT 'c', id FROM web.c";
    let batches: Vec<_> = lake.query(sql).await.unwrap().batches.try_collect().await.unwrap();
    let rows = batches.iter().flat_map(|batch| rows_of(batch).unwrap());
    let mut found: Vec<String> = rows
        .map(|row| match (&row["t"], &row["id"]) {
            (Cell::String(table), Cell::String(id)) => format!("{table} {id}"),
            other => panic!("{other:?}"),
        })
        .collect();
    found.sort();
    let tables = ["a", "b", "c"].map(|table| folder.path().join("web").join(table));
    let files = tables.iter().flat_map(|table| std::fs::read_dir(table).into_iter().flatten()).count();
    (found, files)
}

/// A first attempt as it stands after its intent: it sleeps from here until it is carried out.
async fn announce(lake: &Lake, load: &Load) -> (Cursor, Intent) {
    let cursor = lake.take_cursor(&load.connection).unwrap();
    let intent = lake.log(&load.connection).begin(&cursor, &load.ranges, &[]).await.unwrap();
    (cursor, intent)
}

const OLD_RULES: [(&str, &str); 2] = [("a", "one"), ("b", "two")];
const NEW_RULES: [(&str, &str); 2] = [("a", "one"), ("c", "two")];

#[tokio::test(flavor = "multi_thread")]
async fn who_slept_through_a_takeover_adds_nothing() {
    for its_rules in [OLD_RULES, NEW_RULES] {
        let folder = tempfile::tempdir().unwrap();
        let (sleeper, successor) = (open(&folder), open(&folder));
        create(&sleeper).await;
        resume(&sleeper, 1).await;
        let load = load_of(1, &its_rules);
        let (cursor, intent) = announce(&sleeper, &load).await;

        assert!(resume(&successor, 2).await.redo.is_some());
        successor.load(load_of(2, &NEW_RULES)).await.unwrap();
        let expected = (vec!["a one".to_owned(), "c two".to_owned()], 2);
        assert_eq!(contents(&successor, &folder).await, expected);

        let error = sleeper.carry_out(load, cursor, intent, false).await.unwrap_err();
        assert_eq!(error.code, "fenced_off");
        assert_eq!(contents(&successor, &folder).await, expected, "{its_rules:?}");
        assert_eq!(contents(&open(&folder), &folder).await, expected, "{its_rules:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sleeper_wrote_before_it_was_killed_is_nobodys() {
    let folder = tempfile::tempdir().unwrap();
    let (sleeper, successor) = (open(&folder), open(&folder));
    create(&sleeper).await;
    resume(&sleeper, 1).await;
    let load = load_of(1, &OLD_RULES);
    let (cursor, intent) = announce(&sleeper, &load).await;
    resume(&successor, 2).await;
    successor.load(load_of(2, &NEW_RULES)).await.unwrap();
    // It wakes up, writes, and dies before it comes to its seal.
    sleeper.write(load, &cursor, &intent, false).await.unwrap();
    let rows = vec!["a one".to_owned(), "c two".to_owned()];
    assert_eq!(contents(&open(&folder), &folder).await, (rows.clone(), 4), "two files lie there, unread");
    // The next to take over clears away what lies beside the load that was sealed last.
    resume(&open(&folder), 3).await;
    assert_eq!(contents(&open(&folder), &folder).await, (rows, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_attempts_at_once_the_first_to_seal_has_done_the_load() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (open(&folder), open(&folder));
    create(&first).await;
    resume(&first, 1).await;
    let load = load_of(1, &OLD_RULES);
    let (cursor, intent) = announce(&first, &load).await;
    assert!(resume(&second, 2).await.redo.is_some());
    // The second has written all of it when the first seals.
    let mut cursor_of_second = second.take_cursor(&connection()).unwrap();
    second.write(load_of(2, &NEW_RULES), &cursor_of_second, &intent, true).await.unwrap();
    first.carry_out(load, cursor, intent.clone(), false).await.unwrap();
    let whole = vec!["a one".to_owned(), "b two".to_owned()];
    assert_eq!(contents(&open(&folder), &folder).await, (whole.clone(), 4));

    let sealer = second.log(&connection()).seal(&mut cursor_of_second, &intent).await.unwrap();
    let Layout::Files(files) = &second.layout else { panic!("plain files") };
    let of_connection = connection();
    let attempt = second.attempt(files, &of_connection, &intent, true);
    assert_eq!(attempt.settle(&cursor_of_second, sealer).await.unwrap_err().code, "done_by_another");
    assert_eq!(contents(&open(&folder), &folder).await, (whole, 2), "the second takes its own away");
    assert_eq!(resume(&second, 2).await.positions[&0], 2);
}
