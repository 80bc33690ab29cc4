use millrace_connector::SeenId;

use super::server::Database;
use super::*;

/// The ids of a load that begins at `start`, spread as hashes are.
fn ids(start: i64, count: i64) -> Vec<SeenId> {
    let spread = |n: i64| (n as u128 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
    (start..start + count).map(|n| SeenId { id: spread(n), content: n.cast_unsigned() }).collect()
}

async fn load_ids(warehouse: &Postgres, start: i64, count: i64, at: DateTime<Utc>) {
    let seen = ids(start, count);
    warehouse.load(Load { seen, at, ..load(start, start + count, Vec::new()) }).await.unwrap();
}

async fn known(warehouse: &Postgres, ids: &[SeenId]) -> Vec<Option<u64>> {
    let asked: Vec<u128> = ids.iter().map(|seen| seen.id).collect();
    warehouse.seen(&connection(), &asked, noon()).await.unwrap()
}

#[tokio::test]
async fn ids_are_known_however_many_loads_brought_them() {
    let Some(database) = Database::create().await else { return };
    let warehouse = postgres(&database.url);
    warehouse.resume(&connection(), 1, &kafka()).await.unwrap();
    // The first question is what makes this process remember.
    assert_eq!(known(&warehouse, &ids(0, 10)).await, [None; 10]);
    let (loads, each) = (40, 700);
    for number in 0..loads {
        load_ids(&warehouse, number * each, each, noon()).await;
    }
    let all = ids(0, loads * each);
    let expected: Vec<Option<u64>> = all.iter().map(|seen| Some(seen.content)).collect();
    let strangers = ids(1_000_000, 5_000);
    let another = postgres(&database.url);
    for process in [&warehouse, &another] {
        assert_eq!(known(process, &all).await, expected);
        assert!(known(process, &strangers).await.iter().all(Option::is_none));
    }
    let runs =
        select(&warehouse, "SELECT count(*) AS n, sum(records)::bigint AS ids FROM _millrace.seen_runs")
            .await;
    assert_eq!(
        runs,
        json!([{"n": 10, "ids": loads * each}]),
        "two times sixteen runs are two, and eight are left"
    );
    // The next day's first loads merge what is left of this one.
    let tomorrow = noon() + chrono::TimeDelta::days(1);
    let next = loads * each;
    load_ids(&warehouse, next, each, tomorrow).await;
    let runs = select(&warehouse, "SELECT day, records FROM _millrace.seen_runs ORDER BY day").await;
    assert_eq!(runs, json!([{"day": "2026-11-24", "records": next}, {"day": "2026-11-25", "records": each}]));
    assert_eq!(known(&warehouse, &all).await, expected);
}

#[tokio::test]
async fn an_id_takes_less_than_thirty_bytes() {
    let Some(database) = Database::create().await else { return };
    let warehouse = postgres(&database.url);
    warehouse.resume(&connection(), 1, &kafka()).await.unwrap();
    let count = 200_000;
    load_ids(&warehouse, 0, count, noon()).await;
    let size = "SELECT pg_total_relation_size('_millrace.seen_runs') AS bytes";
    let bytes = select(&warehouse, size).await[0]["bytes"].as_f64().unwrap() / count as f64;
    eprintln!("{bytes:.2} bytes of state per event in the server");
    assert!(bytes < 30.0, "{bytes} bytes");
}

#[tokio::test]
async fn ids_of_the_table_of_old_are_known() {
    let Some(database) = Database::create().await else { return };
    let client = database.client().await;
    let old = "CREATE SCHEMA _millrace;
        CREATE TABLE _millrace.connections (connection text PRIMARY KEY,
            number integer NOT NULL GENERATED ALWAYS AS IDENTITY UNIQUE, epoch bigint NOT NULL,
            cluster text NOT NULL, topic text NOT NULL, topic_id text NOT NULL);
        INSERT INTO _millrace.connections (connection, epoch, cluster, topic, topic_id)
            VALUES ('web--main', 1, 'c', 'acme.events.main', 't');
        CREATE TABLE _millrace.seen (connection integer NOT NULL, id uuid NOT NULL, content bigint NOT NULL,
            day date NOT NULL) PARTITION BY RANGE (day);
        CREATE INDEX seen_by_id ON _millrace.seen (connection, id);
        CREATE TABLE _millrace.seen_20261124 PARTITION OF _millrace.seen
            FOR VALUES FROM ('2026-11-24') TO ('2026-11-25');
        INSERT INTO _millrace.seen VALUES
            (1, '00000000-0000-0000-0000-000000000007', 1, '2026-11-24'),
            (1, 'ffffffff-ffff-ffff-ffff-ffffffffffff', -1, '2026-11-24')";
    client.batch_execute(old).await.unwrap();
    let warehouse = postgres(&database.url);
    warehouse.resume(&connection(), 2, &kafka()).await.unwrap();
    let asked = [u128::MAX, 8, 7];
    for process in [&warehouse, &postgres(&database.url)] {
        let known = process.seen(&connection(), &asked, noon()).await.unwrap();
        assert_eq!(known, [Some(u64::MAX), None, Some(1)]);
    }
    let left = "SELECT to_regclass('_millrace.seen') IS NULL AS gone,
        (SELECT count(*) FROM _millrace.seen_runs WHERE filter IS NULL) AS without";
    assert_eq!(select(&warehouse, left).await, json!([{"gone": true, "without": 0}]));
}

#[tokio::test]
async fn a_loader_that_was_overtaken_does_not_merge_runs() {
    let Some(database) = Database::create().await else { return };
    let (old, new) = (postgres(&database.url), postgres(&database.url));
    old.resume(&connection(), 1, &kafka()).await.unwrap();
    known(&old, &ids(0, 1)).await;
    for number in 0..15 {
        load_ids(&old, number, 1, noon()).await;
    }
    new.resume(&connection(), 2, &kafka()).await.unwrap();
    let seen = ids(15, 1);
    let late = Load { seen: seen.clone(), ..load(15, 16, Vec::new()) };
    assert_eq!(old.load(late).await.unwrap_err().code, "stale_epoch");
    assert!(known(&new, &ids(0, 15)).await.iter().all(Option::is_some));
    new.load(Load { epoch: 2, seen, ..load(15, 16, Vec::new()) }).await.unwrap();
    assert!(known(&new, &ids(0, 16)).await.iter().all(Option::is_some));
    // The old one looks again, since its load failed.
    assert!(known(&old, &ids(0, 16)).await.iter().all(Option::is_some));
}
