//! Each stage as a process of its own on Apache Kafka and PostgreSQL, and reverse ETL back out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::{Value, json};

use crate::http::Http;
use crate::postgres::Database;
use crate::stack::{Process, Site, lent, until};

const CONFIG: &str = r#"
workspace: {workspace}
kafka: { brokers: "{brokers}", replication: accept }
state: "{dir}/state"
ingest: { listen: "127.0.0.1:{port}" }
admin: { listen: "127.0.0.1:0" }
sources:
  - { id: web, kind: http, write_key: "${WRITE_KEY}", privacy: strict }
warehouses:
  - { id: main, kind: postgres, settings: { url: "${DATABASE_URL}" } }
destinations:
  - { id: hook, kind: webhook, settings: { url: "{receiver}", secret: "${HOOK_SECRET}", allow_private: true } }
connections:
  - { from: web, to: main, schema: web, schedule: 300ms }
  - { from: web, to: hook, when: "type == 'track'" }
syncs:
  - id: spenders
    from: main
    model: SELECT user_id, sum(price) AS total FROM web.bought GROUP BY user_id
    key: [user_id]
    to: hook
    mode: upsert
    map: { userId: user_id, traits.total: total }
    schedule: manual
privacy:
  strict: { detect: all, action: mask }
"#;

/// A webhook receiver: the last body by webhook-id.
type Received = Arc<Mutex<BTreeMap<String, Value>>>;

fn receiver() -> (String, Received, tokio::runtime::Runtime) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let received = Received::default();
    let router = axum::Router::new().route("/in", post(take)).with_state(Arc::clone(&received));
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}/in", listener.local_addr().unwrap());
    runtime.spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, received, runtime)
}

async fn take(State(received): State<Received>, headers: HeaderMap, body: String) -> StatusCode {
    let id = headers["webhook-id"].to_str().unwrap().to_owned();
    received.lock().unwrap().insert(id, serde_json::from_str(&body).unwrap());
    StatusCode::OK
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn five_processes_on_apache_kafka_and_postgresql_carry_an_event_there_and_back() {
    let (Some(brokers), Some(database)) = (lent("KAFKA_BROKERS"), Database::new("stages")) else { return };
    let (url, received, _runtime) = receiver();
    let port = free_port();
    // Kafka outlives the test run where it was lent by a variable: the workspace is new each time.
    let workspace = format!("it-{}", std::process::id());
    let config = CONFIG
        .replace("{workspace}", &workspace)
        .replace("{brokers}", &brokers)
        .replace("{port}", &port.to_string())
        .replace("{receiver}", &url);
    let site = Site::new(&config);
    let variables = [
        ("WRITE_KEY", "test-write-key"),
        ("DATABASE_URL", database.url.as_str()),
        ("HOOK_SECRET", "whsec_bWlsbHJhY2UgdGVzdHMsIG5vdCBhIHNlY3JldA=="),
    ];
    let start = |stage: &str| -> Process { site.start_with(stage, &[stage], &variables) };
    let mut stages: Vec<Process> = ["ingest", "load", "deliver"].map(start).into();

    let (http, ingest) = (Http::new(), format!("http://127.0.0.1:{port}"));
    until("ingest answers", || http.get(&format!("{ingest}/health")).filter(|answer| answer.status == 200));
    for number in 0..40 {
        let event = json!({"messageId": format!("m{number}"), "userId": format!("u{}", number % 4),
                           "event": "Bought", "properties": {"price": number}});
        assert_eq!(http.event(&ingest, "/v1/track", &event).status, 200);
    }
    let count = || database.rows("SELECT count(*) FROM web.bought").first().and_then(|row| row[0].clone());
    until("all are in PostgreSQL", || (count()? == "40").then_some(()));
    until("all have reached the webhook", || (received.lock().unwrap().len() == 40).then_some(()));

    let sync = |what: &str| {
        let output =
            site.command(&["sync", "--once", "spenders", "-o", "json"]).envs(variables).output().unwrap();
        assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()[0].clone()
    };
    assert_eq!(sync("the first run")["upserts"], 4);
    let of_sync = || {
        let all = received.lock().unwrap();
        all.iter()
            .filter(|(id, _)| id.starts_with("spenders/"))
            .map(|(_, body)| body["data"].clone())
            .collect::<Vec<_>>()
    };
    until("the sync's rows have reached the webhook", || (of_sync().len() == 4).then_some(()));
    assert!(of_sync().iter().any(|row| row["userId"] == "u1"), "{:?}", of_sync());
    assert_eq!(sync("a run without changes")["upserts"], 0);

    for stage in &mut stages {
        assert!(stage.stop(), "{}", stage.log());
    }
}
