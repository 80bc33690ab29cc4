//! All the way: every call of an SDK is found in PostgreSQL, masked as the policy says.

use std::process::Command;

use serde_json::json;

use super::client;
use crate::postgres::Database;
use crate::stack::{Site, WRITE_KEY, lent, output, until};

const CONFIG: &str = r#"
workspace: clients
state: "{dir}/state"
ingest: { listen: "127.0.0.1:0" }
admin: { listen: "127.0.0.1:0" }
sources:
  - { id: web, kind: http, write_key: test-write-key, privacy: strict }
warehouses:
  - { id: main, kind: postgres, settings: { url: "{database}" } }
connections:
  - { from: web, to: main, schema: web, schedule: 200ms }
privacy:
  strict: { detect: all, action: mask }
"#;

/// Runs an SDK's program and compares what it sent with what is in PostgreSQL. `plan` is the column of the
/// trait: the Python SDK puts traits into the context, the Node SDK beside it too.
fn every_call_arrives(database: &Database, plan: &str, program: impl FnOnce(&str) -> Command) {
    let site = Site::new(&CONFIG.replace("{database}", &database.url));
    let dev = site.dev();
    let said = output(program(&dev.ingest));
    assert!(said.status.success(), "the SDK failed: {}", String::from_utf8_lossy(&said.stderr));
    let tables = ["identifies", "users", "tracks", "pages", "screens", "groups", "aliases"];
    for table in tables {
        let rows = format!("SELECT 1 FROM web.{table}");
        until(&format!("{table} has its row"), || (database.rows(&rows).len() == 1).then_some(()));
    }
    let one = |sql: &str| database.objects(sql).remove(0);
    let identify = one(&format!("SELECT user_id, {plan} AS plan FROM web.identifies"));
    assert_eq!(identify, json!({"user_id": "sdk-user", "plan": "team"}));
    let users = one("SELECT id, context_library_name FROM web.users");
    assert_eq!(users["id"], "sdk-user");
    assert!(users["context_library_name"].is_string(), "{users}");
    let event = one("SELECT user_id, event, event_text, count, price, nested_deep FROM web.sdk_event");
    assert_eq!(
        event,
        json!({
            "user_id": "sdk-user", "event": "sdk_event", "event_text": "SDK Event",
            "count": 7, "price": 1.5, "nested_deep": true,
        })
    );
    let types = database.rows(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = 'web' \
         AND table_name = 'sdk_event' AND column_name IN ('count', 'price', 'nested_deep', 'received_at') ORDER BY 1",
    );
    let types: Vec<_> =
        types.iter().map(|row| (row[0].as_deref().unwrap(), row[1].as_deref().unwrap())).collect();
    assert_eq!(
        types,
        [
            ("count", "bigint"),
            ("nested_deep", "boolean"),
            ("price", "numeric"),
            ("received_at", "timestamp with time zone"),
        ]
    );
    for (sql, row) in [
        ("SELECT name, path, user_id FROM web.pages", json!({"name": "SDK Page", "path": "/docs"})),
        ("SELECT name, tab, user_id FROM web.screens", json!({"name": "SDK Screen", "tab": "home"})),
        ("SELECT group_id, user_id FROM web.groups", json!({"group_id": "sdk-group"})),
        ("SELECT previous_id, user_id FROM web.aliases", json!({"previous_id": "sdk-before"})),
    ] {
        let mut row = row;
        row["user_id"] = "sdk-user".into();
        assert_eq!(one(sql), row);
    }

    let everything = database.rows("SELECT row_to_json(i)::text FROM web.identifies i");
    assert!(
        !everything[0][0].as_deref().unwrap().contains("@mail.example"),
        "the address was stored in the clear"
    );
}

#[test]
fn the_rudderstack_python_sdk_reaches_postgresql() {
    let (Some(python), Some(database)) = (lent("MILLRACE_TEST_RUDDER_PYTHON"), Database::new("python"))
    else {
        return;
    };
    every_call_arrives(&database, "context_traits_plan", |ingest| {
        let mut command = Command::new(python);
        command.arg(client("rudder_python.py")).args([WRITE_KEY, ingest]);
        command
    });
}

#[test]
fn the_rudderstack_node_sdk_reaches_postgresql() {
    let (Some(folder), Some(database)) = (lent("MILLRACE_TEST_RUDDER_NODE"), Database::new("node")) else {
        return;
    };
    every_call_arrives(&database, "plan", |ingest| {
        let mut command = Command::new("node");
        command.arg(client("rudder_node.cjs")).args([WRITE_KEY, ingest, &folder]);
        command
    });
}
