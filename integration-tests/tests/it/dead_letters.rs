//! What a destination refused is listed, shown, sent again and discarded, by the commands.

use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use crate::http::Http;
use crate::stack::{Site, until};

const CONFIG: &str = r#"
workspace: test
state: "{dir}/state"
ingest: { listen: "127.0.0.1:0" }
admin: { listen: "127.0.0.1:0" }
sources:
  - { id: web, kind: http, write_key: "test-write-key" }
destinations:
  - { id: hook, kind: webhook, settings: { url: "{receiver}", allow_private: true } }
connections:
  - { from: web, to: hook }
"#;

/// Refuses orders until it is told otherwise; remembers idempotency keys with bodies.
#[derive(Default)]
struct Receiver {
    takes_orders: AtomicBool,
    requests: Mutex<Vec<(String, Value)>>,
}

async fn take(State(receiver): State<Arc<Receiver>>, headers: HeaderMap, body: String) -> StatusCode {
    let body: Value = serde_json::from_str(&body).unwrap();
    let is_order = body["event"] == "Order";
    receiver.requests.lock().unwrap().push((headers["webhook-id"].to_str().unwrap().to_owned(), body));
    match is_order && !receiver.takes_orders.load(Ordering::SeqCst) {
        true => StatusCode::BAD_REQUEST,
        false => StatusCode::OK,
    }
}

#[test]
fn what_was_refused_is_listed_shown_sent_again_and_discarded() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let receiver = Arc::<Receiver>::default();
    let router = axum::Router::new().fallback(take).with_state(Arc::clone(&receiver));
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}/in", listener.local_addr().unwrap());
    runtime.spawn(async move { axum::serve(listener, router).await.unwrap() });
    let site = Site::new(&CONFIG.replace("{receiver}", &url));
    let mut dev = site.dev();
    let event = |number: usize, name: &str| json!({"type": "track", "event": name, "messageId": format!("m-{number}"), "userId": "u"});
    let batch = [event(0, "Order"), event(1, "Visit"), event(2, "Order")];
    assert_eq!(Http::new().event(&dev.ingest, "/v1/batch", &json!({ "batch": batch })).status, 200);

    let list = |extra: &[&str]| {
        let command = [&["dead-letters", "list", "-o", "json"], extra].concat();
        let text = site.stdout(&command);
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    let json = |command: &[&str]| -> Value { serde_json::from_str(&site.stdout(command)).unwrap() };
    let letters = until("two are given up", || Some(list(&[])).filter(|letters| letters.len() == 2));
    assert_eq!(list(&["--of", "elsewhere"]), Vec::<Value>::new());
    assert_eq!(list(&["--code", "http_400", "--from", "1h"]).len(), 2);
    let id = letters[0]["id"].as_str().unwrap();
    let shown = json(&["dead-letters", "show", id]);
    assert_eq!((&shown["value"]["event"], &shown["code"]), (&json!("Order"), &json!("http_400")));

    let counted = json(&["dead-letters", "replay", "--of", "hook", "--dry-run", "-o", "json"]);
    assert_eq!((&counted["letters"], &counted["by_code"]), (&json!(2), &json!({"http_400": 2})));
    let counted = json(&["replay", "--destination", "hook", "--from", "1h", "--dry-run", "-o", "json"]);
    assert_eq!(counted["events"], 3);
    assert_eq!(receiver.requests.lock().unwrap().len(), 3, "a dry run sends nothing");

    // Both are sent again and taken.
    receiver.takes_orders.store(true, Ordering::SeqCst);
    let failed = ["replay", "--destination", "hook", "--from", "1h", "--only", "failed", "-o", "json"];
    assert_eq!(json(&failed)["ended"], json!({"delivered": 2}));
    assert_eq!(list(&[]), Vec::<Value>::new(), "none is open");
    assert_eq!(list(&["--all"]).len(), 2);
    let requests = receiver.requests.lock().unwrap().clone();
    let keys = |id: &str| {
        let of_id = requests.iter().filter(|(_, body)| body["messageId"] == id);
        of_id.map(|(key, _)| key.clone()).collect::<Vec<_>>()
    };
    assert_eq!((keys("m-0").len(), keys("m-1").len()), (2, 1));
    assert_eq!(keys("m-0")[0], keys("m-0")[1], "the idempotency key is the same");

    receiver.takes_orders.store(false, Ordering::SeqCst);
    assert_eq!(Http::new().event(&dev.ingest, "/v1/track", &event(3, "Order")).status, 200);
    until("one is given up", || (list(&[]).len() == 1).then_some(()));
    assert_eq!(json(&["dead-letters", "discard", "--of", "hook", "--dry-run", "-o", "json"])["discarded"], 1);
    assert_eq!(list(&[]).len(), 1);
    assert_eq!(json(&["dead-letters", "discard", "--of", "hook", "-o", "json"])["discarded"], 1);
    assert_eq!(list(&[]), Vec::<Value>::new());

    // What could not be delivered shows in the exit code and in the last line.
    let last = |output: &Output| String::from_utf8_lossy(&output.stderr).lines().last().map(str::to_owned);
    let all = ["replay", "--destination", "hook", "--from", "1h", "-o", "json"];
    let sent = site.run(&all);
    let told: Value = serde_json::from_slice(&sent.stdout).unwrap();
    assert_eq!(told["ended"], json!({"delivered": 1, "rejected": 3}), "today's receiver counts");
    assert_eq!((sent.status.code(), told["stopped"].is_null()), (Some(3), true));
    assert!(last(&sent).is_some_and(|line| line.starts_with("error: 3 of 4 failed")), "{sent:?}");
    let sent = site.run(&["dead-letters", "replay", "--of", "hook", "-o", "json"]);
    assert_eq!(sent.status.code(), Some(1), "none is delivered: {sent:?}");

    site.stdout(&["pause", "hook", "--reason", "maintenance"]);
    let sent = site.run(&all);
    assert_eq!((sent.status.code(), sent.stdout), (Some(1), Vec::new()));
    assert!(String::from_utf8_lossy(&sent.stderr).contains("hook is paused (maintenance)"));
    assert!(dev.process.stop());
}
