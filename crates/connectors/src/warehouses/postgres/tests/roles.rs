//! What the role may do, and what it need not.

use millrace_connector::{ErrorKind, SeenId};

use super::server::Database;
use super::*;

fn with(settings: Value) -> Postgres {
    Postgres::new(&settings, &Context { id: "main".to_owned(), work_dir: PathBuf::new() }).unwrap()
}

/// A role that may sign in and make temporary tables, and owns the schema `shop`; its URL.
async fn owner_of_one_schema(database: &Database, more: &str) -> String {
    let name = format!("owner_{}", database.name());
    let client = database.client().await;
    let make = format!(
        "CREATE ROLE {name} LOGIN;
         REVOKE ALL ON DATABASE {0} FROM PUBLIC;
         GRANT CONNECT ON DATABASE {0} TO {name};
         REVOKE ALL ON SCHEMA public FROM PUBLIC;
         CREATE SCHEMA {SCHEMA} AUTHORIZATION {name};
         {1}",
        database.name(),
        more.replace("ROLE", &name)
    );
    client.batch_execute(&make).await.unwrap();
    database.url.replace("postgres@", &format!("{name}@"))
}

#[tokio::test]
async fn a_superuser_is_refused_unless_allowed() {
    let Some(database) = Database::create().await else { return };
    let error = with(json!({ "url": database.url })).check().await.unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Pause, "superuser"), "{}", error.full());
    with(json!({ "url": database.url, "allow_superuser": true })).check().await.unwrap();
}

#[tokio::test]
async fn a_role_that_owns_one_schema_and_nothing_else_is_enough() {
    let Some(database) = Database::create().await else { return };
    let grant = format!("GRANT TEMPORARY ON DATABASE {} TO ROLE;", database.name());
    let url = owner_of_one_schema(&database, &grant).await;
    let warehouse = with(json!({ "url": url, "internal_schema": SCHEMA, "internal_prefix": "_millrace." }));
    warehouse.check().await.unwrap();
    for _ in 0..2 {
        warehouse.resume(&connection(), 1, &kafka()).await.unwrap();
    }
    let schema = columns(&[("id", FieldType::String), ("received_at", FieldType::DateTime)]);
    let values = [row(&[("id", text("a")), ("received_at", Cell::DateTime(1))])];
    for table in ["orders", "users", "people", "connections"] {
        create(&warehouse, table, &schema).await;
    }
    let merge = WriteMode::MergeLatest { key: "id".to_owned(), order: "received_at".to_owned() };
    let tables = vec![
        rows("orders", &schema, &values, WriteMode::Append),
        rows("connections", &schema, &values, WriteMode::Append),
        rows("users", &schema, &values, merge),
        rows("people", &schema, &values, WriteMode::Upsert { key: vec!["id".to_owned()] }),
    ];
    let seen = vec![SeenId { id: 7, content: 1 }];
    warehouse.load(Load { seen, ..load(0, 1, tables) }).await.unwrap();
    assert_eq!(warehouse.seen(&connection(), &[7], noon()).await.unwrap(), [Some(1)]);
    for table in ["orders", "users", "people", "connections"] {
        let query = format!("SELECT id FROM shop.{table}");
        assert_eq!(select(&warehouse, &query).await, json!([{"id": "a"}]), "{table}");
    }
    warehouse.forget(&connection(), None).await.unwrap();
    let all = "SELECT count(*) AS n FROM shop.\"_millrace.positions\"";
    assert_eq!(select(&warehouse, all).await, json!([{"n": 0}]));
}

#[tokio::test]
async fn what_a_role_lacks_is_said() {
    let Some(database) = Database::create().await else { return };
    let url = owner_of_one_schema(&database, "").await;
    let error = with(json!({ "url": url })).check().await.unwrap_err();
    assert!(error.full().contains("internal_schema"), "{}", error.full());
    let own = with(json!({ "url": url, "internal_schema": SCHEMA, "internal_prefix": "_millrace." }));
    let error = own.check().await.unwrap_err();
    assert!(error.full().contains("TEMPORARY"), "{}", error.full());
}
