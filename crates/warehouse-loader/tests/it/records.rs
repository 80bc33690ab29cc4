//! Rows of ELT sources into the lake.

use std::sync::Arc;

use millrace_event_model::{LoadMode, Record};
use millrace_lake::Lake;
use millrace_warehouse_loader::{Contract, Kind, LoadLimits, Report};
use serde_json::json;

use crate::messages::{barrier, begin, row, spec};
use crate::stack::{Stack, books, connection, query, run_once};

/// A stack with a lake, and what extract does with it.
struct Elt {
    stack: Stack,
    lake: Arc<Lake>,
}

impl Elt {
    async fn start() -> Self {
        let stack = Stack::start().await;
        let lake = stack.lake("lake");
        Self { stack, lake }
    }

    async fn rows(&self, records: &[Record]) {
        let acked = self.stack.publisher.publish(&self.stack.records(), records).await.unwrap();
        assert_eq!(acked.count(), records.len());
    }

    /// To every partition, as barriers go.
    async fn everywhere(&self, record: &Record) {
        self.to(record, 0..6).await;
    }

    async fn to(&self, record: &Record, partitions: std::ops::Range<i32>) {
        for partition in partitions {
            self.stack.publisher.publish_to(&self.stack.records(), partition, record).await.unwrap();
        }
    }

    /// Loads in batches so small that a stream needs several.
    async fn load(&self) -> Report {
        let limits = LoadLimits { max_records: 3, ..LoadLimits::default() };
        let options = connection(self.lake.clone(), Kind::Records);
        run_once(self.stack.limited("test", options, limits)).await.unwrap()
    }

    async fn names(&self) -> Vec<String> {
        query(&*self.lake, "SELECT id, name FROM web.users ORDER BY id").await
    }
}

fn named(attempt: u64, id: i64, name: &str) -> Record {
    row(attempt, "users", json!({"id": id, "name": name}))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_loaded_when_their_barrier_has_come_and_the_later_of_a_key_stays() {
    let elt = Elt::start().await;
    let upsert = spec("users", LoadMode::Upsert, 0);
    elt.everywhere(&begin(1)).await;
    elt.rows(&[named(1, 1, "a"), named(1, 2, "b"), named(1, 3, "c"), named(1, 1, "a2")]).await;
    elt.rows(&[row(1, "users", json!({"name": "nobody"}))]).await;
    assert_eq!(elt.load().await.loaded, 0, "no barrier yet");
    elt.everywhere(&barrier(1, 1, upsert.clone(), false)).await;
    let report = elt.load().await;
    assert_eq!((report.loaded, report.rejected), (4, 1), "the row without a key is rejected");
    assert_eq!(elt.names().await, ["id=1 name=a2", "id=2 name=b", "id=3 name=c"]);

    elt.rows(&[named(1, 2, "b2"), named(1, 4, "d")]).await;
    elt.everywhere(&barrier(1, 2, upsert, true)).await;
    assert_eq!(elt.load().await.loaded, 2);
    assert_eq!(elt.names().await, ["id=1 name=a2", "id=2 name=b2", "id=3 name=c", "id=4 name=d"]);
    elt.stack.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_attempt_left_behind_its_last_barrier_is_void_when_the_next_begins() {
    let elt = Elt::start().await;
    let append = spec("users", LoadMode::Append, 0);
    elt.rows(&[named(1, 1, "a")]).await;
    elt.everywhere(&barrier(1, 1, append.clone(), false)).await;
    elt.rows(&[named(1, 2, "b"), named(1, 3, "c")]).await;
    assert_eq!(elt.load().await.loaded, 1);
    elt.everywhere(&begin(2)).await;
    elt.rows(&[named(2, 2, "b"), named(2, 3, "c"), named(2, 4, "d")]).await;
    elt.everywhere(&barrier(2, 2, append, false)).await;
    let report = elt.load().await;
    assert_eq!((report.loaded, report.superseded), (3, 2));
    assert_eq!(elt.names().await, ["id=1 name=a", "id=2 name=b", "id=3 name=c", "id=4 name=d"]);
    let expected = ["conflicts=0 disposition=loaded items=4", "conflicts=0 disposition=superseded items=2"];
    assert_eq!(books(&*elt.lake).await, expected);
    elt.stack.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_refresh_shows_when_it_is_complete_everywhere_and_replaces_the_last() {
    let elt = Elt::start().await;
    let refresh = |generation| spec("users", LoadMode::Overwrite, generation);
    elt.rows(&[named(1, 1, "a"), named(1, 2, "b")]).await;
    elt.everywhere(&barrier(1, 1, refresh(1), true)).await;
    assert_eq!(elt.load().await.loaded, 2);
    assert_eq!(elt.names().await, ["id=1 name=a", "id=2 name=b"]);

    elt.everywhere(&begin(2)).await;
    elt.rows(&[named(2, 2, "b2"), named(2, 3, "c")]).await;
    elt.to(&barrier(2, 2, refresh(2), true), 0..5).await;
    elt.load().await;
    assert_eq!(elt.names().await, ["id=1 name=a", "id=2 name=b"], "the last partition has no barrier yet");
    elt.to(&barrier(2, 2, refresh(2), true), 5..6).await;
    elt.load().await;
    assert_eq!(elt.names().await, ["id=2 name=b2", "id=3 name=c"]);

    elt.everywhere(&begin(3)).await;
    elt.everywhere(&barrier(3, 3, refresh(3), true)).await;
    elt.load().await;
    assert_eq!(elt.names().await, Vec::<String>::new(), "a refresh without rows empties the table");
    elt.stack.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_that_do_not_fit_are_null_and_stand_in_meta() {
    let elt = Elt::start().await;
    elt.rows(&[row(1, "users", json!({"id": 1, "born": "soon", "extra": [1, 2]}))]).await;
    elt.everywhere(&barrier(1, 1, spec("users", LoadMode::Upsert, 0), false)).await;
    assert_eq!(elt.load().await.loaded, 1);
    let rows = query(&*elt.lake, "SELECT id, born, extra, _meta FROM web.users").await;
    let change =
        r#"{"change":"NULLED","field":"born","reason":"DESTINATION_TYPECAST_ERROR","value":"\"soon\""}"#;
    assert_eq!(rows, [format!("_meta={{\"changes\":[{change}]}} extra=[1,2] id=1")]);
    elt.stack.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_that_was_cut_off_is_never_mixed_with_the_next() {
    let elt = Elt::start().await;
    let refresh = |generation| spec("users", LoadMode::Overwrite, generation);
    elt.rows(&[named(1, 1, "a"), named(1, 2, "b")]).await;
    elt.everywhere(&barrier(1, 1, refresh(1), false)).await;
    elt.everywhere(&begin(2)).await;
    elt.rows(&[named(2, 2, "b2"), named(2, 3, "c")]).await;
    elt.everywhere(&barrier(2, 2, refresh(2), true)).await;
    // Both refreshes in one load.
    let options = connection(elt.lake.clone(), Kind::Records);
    let report = run_once(elt.stack.service("test", options)).await.unwrap();
    assert_eq!(report.loaded, 4);
    assert_eq!(elt.names().await, ["id=2 name=b2", "id=3 name=c"]);
    elt.stack.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_streams_whose_names_become_one_table_the_second_is_refused_and_nothing_lost() {
    let elt = Elt::start().await;
    let refresh = |name: &str, generation| spec(name, LoadMode::Overwrite, generation);
    for attempt in [1, 2] {
        elt.everywhere(&begin(attempt)).await;
        elt.rows(&[named(attempt, 1, "a"), named(attempt, 2, "b")]).await;
        elt.everywhere(&barrier(attempt, 2 * attempt, refresh("users", attempt), true)).await;
        elt.rows(&[row(attempt, "Users", json!({"id": 3, "name": "c"}))]).await;
        elt.everywhere(&barrier(attempt, 2 * attempt + 1, refresh("Users", attempt), true)).await;
        // Each load is a process of its own.
        let report = elt.load().await;
        assert_eq!((report.loaded, report.rejected), (2, 1), "the dead letters have it");
        assert_eq!(elt.names().await, ["id=1 name=a", "id=2 name=b"]);
    }
    elt.stack.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_refresh_of_a_table_that_a_contract_does_not_make_is_discarded_and_ends() {
    let elt = Elt::start().await;
    elt.rows(&[named(1, 1, "a"), named(1, 2, "b")]).await;
    elt.everywhere(&barrier(1, 1, spec("users", LoadMode::Overwrite, 1), true)).await;
    let mut options = connection(elt.lake.clone(), Kind::Records);
    options.contract = Contract::DiscardRow;
    let report = run_once(elt.stack.service("test", options)).await.unwrap();
    assert_eq!(report.loaded, 2);
    let discards = query(&*elt.lake, "SELECT reason FROM web.rudder_discards").await;
    assert_eq!(discards, ["reason=discard_row: table users is not there"; 2]);
    elt.stack.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_replace_rows_are_refused_where_tables_only_grow_and_the_others_go_on() {
    let stack = Stack::start().await;
    let elt = Elt { lake: stack.plain_lake("lake"), stack };
    elt.rows(&[named(1, 1, "a")]).await;
    elt.everywhere(&barrier(1, 1, spec("users", LoadMode::Append, 0), true)).await;
    elt.rows(&[row(1, "orders", json!({"id": 1})), row(1, "visits", json!({"id": 1}))]).await;
    elt.everywhere(&barrier(1, 2, spec("orders", LoadMode::Upsert, 0), true)).await;
    elt.everywhere(&barrier(1, 3, spec("visits", LoadMode::Overwrite, 1), true)).await;
    elt.rows(&[named(1, 2, "b")]).await;
    elt.everywhere(&barrier(1, 4, spec("users", LoadMode::Append, 0), true)).await;
    let report = elt.load().await;
    assert_eq!((report.loaded, report.rejected), (2, 2), "the dead letters have them");
    assert_eq!(elt.names().await, ["id=1 name=a", "id=2 name=b"]);
    elt.stack.stop().await;
}
