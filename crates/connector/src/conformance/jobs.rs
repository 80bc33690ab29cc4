//! What backfills, replays and rebuilds need: the books, an end without remains, one table in another's place,
//! and wider columns.

use chrono::{TimeDelta, Utc};
use millrace_columnar::Cell;
use millrace_event_model::{Disposition, FieldType};
use serde_json::json;

use super::rig::{Rig, columns, ids, kafka, moment, row};
use crate::{Count, ErrorKind, Load, Replacement, SchemaChange, SeenId, WriteMode};

fn count(hours: i64, disposition: Disposition, items: u64, conflicts: u64) -> Count {
    Count {
        source: "web".parse().unwrap(),
        hour: moment() + TimeDelta::hours(hours),
        disposition,
        conflicts,
        items,
    }
}

pub(super) async fn the_books_are_told_by_hour_each_line_summed(rig: Rig) {
    let first = vec![count(0, Disposition::Loaded, 3, 0), count(0, Disposition::Duplicate, 2, 1)];
    let second = vec![count(0, Disposition::Loaded, 4, 0), count(1, Disposition::Loaded, 5, 0)];
    rig.load(Load { counts: first, ..rig.batch(0, 5, Vec::new()) }).await;
    rig.load(Load { counts: second, ..rig.batch(5, 14, Vec::new()) }).await;
    let ask = async |from: i64, until: i64| {
        let (from, until) = (moment() + TimeDelta::hours(from), moment() + TimeDelta::hours(until));
        let mut counts = rig.other.counts(&rig.connection(), from, until).await.unwrap();
        counts.sort();
        counts
    };
    let first_hour = [count(0, Disposition::Loaded, 7, 0), count(0, Disposition::Duplicate, 2, 1)];
    assert_eq!(ask(0, 1).await, first_hour, "until is not among them");
    assert_eq!(ask(1, 9).await, [count(1, Disposition::Loaded, 5, 0)]);
    assert_eq!(ask(-9, 0).await, []);
    let stranger = "stranger--conformance".parse().unwrap();
    let strangers = rig.warehouse.counts(&stranger, moment(), Utc::now()).await.unwrap();
    assert_eq!(strangers, [], "each connection has books of its own");
}

pub(super) async fn of_a_forgotten_job_nothing_is_left(rig: Rig) {
    let (schema, rows) = ids(&["a"]);
    let job = rig.job();
    rig.warehouse.resume(&job, 1, &kafka()).await.unwrap();
    let create = SchemaChange::CreateTable { table: "rows".to_owned(), columns: schema.clone() };
    rig.warehouse.apply(&rig.job_schema(), &[SchemaChange::CreateSchema, create]).await.unwrap();
    let mut table = rig.rows("rows", &schema, &rows, WriteMode::Append);
    table.name = rig.job_table("rows");
    let seen = vec![SeenId { id: 1, content: 1 }];
    let counts = vec![count(0, Disposition::Loaded, 1, 0)];
    let load = Load {
        connection: job.clone(),
        seen: seen.clone(),
        counts: counts.clone(),
        ..rig.batch(0, 1, vec![table])
    };
    rig.load(load).await;
    rig.load(Load { seen, counts, ..rig.batch(0, 1, Vec::new()) }).await;

    for time in ["first", "second"] {
        let forgotten = rig.warehouse.forget(&job, Some(&rig.job_schema())).await;
        forgotten.unwrap_or_else(|error| panic!("{time}: {}", error.full()));
    }
    assert!(rig.other.describe(&rig.job_schema()).await.unwrap().is_empty(), "its schema is gone");
    assert_eq!(rig.other.seen(&job, &[1], moment()).await.unwrap(), [None]);
    let hours = (moment(), moment() + TimeDelta::days(1));
    assert_eq!(rig.other.counts(&job, hours.0, hours.1).await.unwrap(), []);
    assert_eq!(
        rig.other.resume(&job, 1, &kafka()).await.unwrap().positions,
        [].into(),
        "it would start anew"
    );
    assert_eq!(rig.other.seen(&rig.connection(), &[1], moment()).await.unwrap(), [Some(1)], "others stay");
    assert_eq!(rig.resume(1).await.positions, [(0, 1)].into());
}

pub(super) async fn a_replacement_is_all_there_is_afterwards(rig: Rig) {
    let (narrow, old) = ids(&["old 1", "old 2"]);
    let wide = columns(&[("id", FieldType::String), ("total", FieldType::Int)]);
    rig.create("orders", &wide).await;
    rig.create("orders_anew", &narrow).await;
    let (_, new) = ids(&["new"]);
    let tables = vec![
        rig.rows("orders", &narrow, &old, WriteMode::Append),
        rig.rows("orders_anew", &narrow, &new, WriteMode::Append),
    ];
    rig.load(rig.batch(0, 1, tables)).await;
    let replacements =
        vec![Replacement { from: rig.table_name("orders_anew"), to: rig.table_name("orders") }];
    let stale = Load { epoch: 0, replacements: replacements.clone(), ..rig.batch(1, 2, Vec::new()) };
    let refused = rig.warehouse.load(stale).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Pause, "under the fence: {}", refused.full());
    assert_eq!(rig.select("id", "orders").await, json!([{"id": "old 1"}, {"id": "old 2"}]));
    // The last rows of the rebuild come with the load that replaces.
    let (_, last) = ids(&["newer"]);
    let tables = vec![rig.rows("orders_anew", &narrow, &last, WriteMode::Append)];
    rig.load(Load { replacements, ..rig.batch(1, 2, tables) }).await;
    let found = rig.select("id, total", "orders").await;
    assert_eq!(found, json!([{"id": "new", "total": null}, {"id": "newer", "total": null}]));
    assert_eq!(rig.described("orders").await, wide, "its columns stay");
    assert_eq!(
        rig.select("id", "orders_anew").await,
        json!([{"id": "new"}, {"id": "newer"}]),
        "and so does the other"
    );
}

pub(super) async fn columns_are_widened_with_their_values(rig: Rig) {
    if !rig.warehouse.dialect().widens {
        return;
    }
    let narrow = columns(&[("id", FieldType::Int), ("day", FieldType::Date), ("n", FieldType::Int)]);
    rig.create("widening", &narrow).await;
    let rows = [row(&[("id", Cell::Int(7)), ("day", Cell::Date(1)), ("n", Cell::Int(i64::MAX))])];
    rig.load(rig.batch(0, 1, vec![rig.rows("widening", &narrow, &rows, WriteMode::Append)])).await;
    let wider = columns(&[("id", FieldType::String), ("day", FieldType::DateTime), ("n", FieldType::Float)]);
    rig.widen("widening", &wider).await;
    let found = rig.described("widening").await;
    assert_eq!(found, wider);
    let rows =
        [row(&[("id", Cell::String("x".to_owned())), ("day", Cell::DateTime(0)), ("n", Cell::Float(0.5))])];
    rig.load(rig.batch(1, 2, vec![rig.rows("widening", &wider, &rows, WriteMode::Append)])).await;
    assert_eq!(
        rig.select("id, day", "widening").await,
        json!([
            {"id": "7", "day": "1970-01-02T00:00:00.000Z"},
            {"id": "x", "day": "1970-01-01T00:00:00.000Z"},
        ])
    );
    if rig.warehouse.dialect().exact_floats {
        // The loader writes whole numbers and decimals as they are into such a column.
        let exact = [
            ("a", FieldType::Int, Cell::Int(i64::MIN)),
            ("b", FieldType::Decimal, Cell::Decimal("1.50".to_owned())),
        ];
        for (offset, (id, own, value)) in (2..).zip(exact) {
            let schema = columns(&[("id", FieldType::String), ("n", own)]);
            let rows = [row(&[("id", Cell::String(id.to_owned())), ("n", value)])];
            let table = rig.rows("widening", &schema, &rows, WriteMode::Append);
            rig.load(rig.batch(offset, offset + 1, vec![table])).await;
        }
        assert_eq!(
            rig.select("id, CAST(n AS text) AS n", "widening").await,
            json!([
                {"id": "7", "n": i64::MAX.to_string()},
                {"id": "a", "n": i64::MIN.to_string()},
                {"id": "b", "n": "1.50"},
                {"id": "x", "n": "0.5"},
            ])
        );
    }
}
