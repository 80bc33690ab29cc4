//! SDKs from their registries, unmodified, pointed at ingest: every call is found in PostgreSQL.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::postgres::Database;
use crate::stack::{Site, WRITE_KEY, lent, until};

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

fn client(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/clients").join(name).display().to_string()
}

/// Runs an SDK's program and compares what it sent with what is in PostgreSQL.
fn every_call_arrives(database: &Database, prefix: &str, program: impl FnOnce(&str) -> Command) {
    let site = Site::new(&CONFIG.replace("{database}", &database.url));
    let dev = site.dev();
    let output = program(&dev.ingest).output().unwrap();
    assert!(output.status.success(), "the SDK failed: {}", String::from_utf8_lossy(&output.stderr));
    let tables = ["identifies", "users", "tracks", "pages", "screens", "groups", "aliases"];
    for table in tables {
        let rows = format!("SELECT 1 FROM web.{table}");
        until(&format!("{table} has its row"), || (database.rows(&rows).len() == 1).then_some(()));
    }
    let one = |sql: &str| database.objects(sql).remove(0);
    let name = format!("{}{}", prefix[..1].to_uppercase(), &prefix[1..]);
    let short = if prefix == "python" { "py" } else { "node" };
    let user = format!("{short}-user");

    // The Python SDK puts traits into the context, the Node SDK beside it.
    let plan = if prefix == "python" { "context_traits_plan" } else { "plan" };
    let identify = one(&format!("SELECT user_id, {plan} AS plan FROM web.identifies"));
    let bought = if prefix == "python" { "team" } else { "business" };
    assert_eq!(identify, json!({"user_id": user, "plan": bought}));
    let users = one("SELECT id, context_library_name FROM web.users");
    assert_eq!(users["id"], user);
    assert!(users["context_library_name"].is_string(), "{users}");
    let event =
        one(&format!("SELECT user_id, event, event_text, count, price, nested_deep FROM web.{prefix}_event"));
    assert_eq!(event["event"], format!("{prefix}_event"));
    assert_eq!(event["event_text"], format!("{name} Event"));
    assert_eq!(event["nested_deep"], true);
    let types = database.rows(&format!(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = 'web' \
         AND table_name = '{prefix}_event' AND column_name IN ('count', 'price', 'nested_deep', 'received_at') ORDER BY 1"
    ));
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
    assert_eq!(
        one("SELECT name, path, user_id FROM web.pages"),
        json!({"name": format!("{name} Page"), "path": "/docs", "user_id": user})
    );
    assert_eq!(
        one("SELECT name, tab, user_id FROM web.screens"),
        json!({"name": format!("{name} Screen"), "tab": "home", "user_id": user})
    );
    assert_eq!(
        one("SELECT group_id, user_id FROM web.groups"),
        json!({"group_id": format!("{short}-group"), "user_id": user})
    );
    assert_eq!(
        one("SELECT previous_id, user_id FROM web.aliases"),
        json!({"previous_id": format!("{short}-before"), "user_id": user})
    );

    let everything = database.rows("SELECT row_to_json(i)::text FROM web.identifies i");
    assert!(
        !everything[0][0].as_deref().unwrap().contains("@mail.example"),
        "the address was stored in the clear"
    );
}

#[test]
fn the_python_sdk_works_unmodified() {
    let (Some(python), Some(database)) = (lent("MILLRACE_TEST_PYTHON_SDK"), Database::new("python")) else {
        return;
    };
    every_call_arrives(&database, "python", |ingest| {
        let mut command = Command::new(python);
        command.args([client("python_sdk.py").as_str(), WRITE_KEY, ingest]);
        command
    });
}

#[test]
fn the_node_sdk_works_unmodified() {
    let (Some(folder), Some(database)) = (lent("MILLRACE_TEST_NODE_SDK"), Database::new("node")) else {
        return;
    };
    every_call_arrives(&database, "node", |ingest| {
        let mut command = Command::new("node");
        command.args([client("node_sdk.cjs").as_str(), WRITE_KEY, ingest, folder.as_str()]);
        command
    });
}
