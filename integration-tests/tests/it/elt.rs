//! ELT: a real Airbyte source from PyPI as a child process, into PostgreSQL and the lake.

use crate::postgres::Database;
use crate::stack::{Site, lent, until};

const CONFIG: &str = r#"
workspace: elt
state: "{dir}/state"
ingest: { listen: "127.0.0.1:0" }
admin: { listen: "127.0.0.1:0" }
sources:
  - { id: shop, kind: airbyte, command: ["{faker}"], settings: { count: 300, seed: 7, parallelism: 1, always_updated: false }, schedule: 1d, privacy: strict }
warehouses:
  - { id: main, kind: postgres, settings: { url: "{database}" } }
  - { id: lake, kind: lake, settings: { url: "{dir}/lake" } }
connections:
  - { from: shop, to: main, schema: shop, schedule: 200ms }
  - { from: shop, to: lake, schema: shop, schedule: 200ms }
privacy:
  strict: { detect: all, action: mask }
"#;

#[test]
fn a_real_airbyte_source_lands_in_both_warehouses() {
    let (Some(faker), Some(database)) = (lent("MILLRACE_TEST_AIRBYTE_FAKER"), Database::new("elt")) else {
        return;
    };
    let site = Site::new(&CONFIG.replace("{faker}", &faker).replace("{database}", &database.url));
    let _dev = site.dev();
    for (table, rows) in [("users", 300), ("products", 100)] {
        let sql = format!("SELECT count(*)::int AS n FROM shop.{table}");
        let there = || database.rows(&sql).first().and_then(|row| row[0].clone());
        until(&format!("{table} is in PostgreSQL"), || (there()? == rows.to_string()).then_some(()));
        let sql = format!("SELECT count(*) AS n FROM shop.{table}");
        until(&format!("{table} is in the lake"), || {
            site.query(&sql).first().filter(|row| row["n"] == rows).map(|_| ())
        });
    }
    // Typed by the stream's schema, masked before anything was stored.
    let user = database
        .objects("SELECT id, name, age, email, height, created_at FROM shop.users ORDER BY id LIMIT 1")
        .remove(0);
    assert_eq!(user["id"], 1);
    assert!(user["age"].is_number() && user["name"].is_string(), "{user}");
    let in_the_clear =
        database.rows("SELECT 1 FROM shop.users WHERE email ~ '^[a-z0-9.+_]+@[a-z]+[.][a-z]+$'");
    assert_eq!(in_the_clear.len(), 0);
    let books = database.rows("SELECT disposition, sum(items) FROM _millrace.counts GROUP BY 1");
    assert!(books.iter().all(|row| row[0].as_deref() == Some("loaded")), "{books:?}");
}
