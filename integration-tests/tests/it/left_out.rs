//! Users and clients say where an event may go: to a warehouse or a destination, by the names that
//! RudderStack's SDKs use.

use std::sync::{Arc, Mutex};

use axum::extract::State;
use serde_json::{Value, json};

use crate::http::Http;
use crate::stack::{Site, until};

const CONFIG: &str = r#"
workspace: choices
state: "{dir}/state"
ingest: { listen: "127.0.0.1:0" }
admin: { listen: "127.0.0.1:0" }
sources:
  - { id: web, kind: http, write_key: test-write-key }
warehouses:
  - { id: lake, kind: lake, settings: { url: "{dir}/lake" }, consent: [{ categories: [analytics] }] }
destinations:
  - id: google
    kind: ga4
    settings: { api_secret: secret, measurement_id: G-1, origin: "{receiver}", allow_private: true }
    consent: [{ provider: oneTrust, categories: [C0004] }]
connections:
  - { from: web, to: lake, schema: web, schedule: 200ms }
  - { from: web, to: google }
"#;

type Names = Arc<Mutex<Vec<String>>>;

/// The names of the events that came.
async fn take(State(names): State<Names>, body: String) {
    let body: Value = serde_json::from_str(&body).unwrap();
    let came =
        body["events"].as_array().unwrap().iter().map(|event| event["name"].as_str().unwrap().to_owned());
    names.lock().unwrap().extend(came);
}

#[test]
fn an_event_goes_where_its_user_and_its_client_let_it() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let names = Names::default();
    let router = axum::Router::new().fallback(take).with_state(Arc::clone(&names));
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    runtime.spawn(async move { axum::serve(listener, router).await.unwrap() });
    let (site, http) = (Site::new(&CONFIG.replace("{receiver}", &url)), Http::new());
    let dev = site.dev();
    let event = |name: &str, integrations: Value, denied: Value| {
        json!({"type": "track", "event": name, "messageId": name, "anonymousId": "a", "integrations": integrations,
               "context": {"consentManagement": denied}})
    };
    let denied = |provider: &str, id: &str| json!({"provider": provider, "deniedConsentIds": [id]});
    let events = [
        event("neither", json!({"All": false}), json!({})),
        event("google", json!({"All": false, "Google Analytics 4 (GA4)": true}), json!({})),
        event("warehouse", json!({"google analytics 4 (ga4)": false}), json!({})),
        event("no_analytics", json!({}), denied("custom", "analytics")),
        event("no_c0004", json!({}), denied("oneTrust", "C0004")),
        event("both", json!({"All": true}), denied("custom", "marketing")),
    ];
    assert_eq!(http.event(&dev.ingest, "/v1/batch", &json!({ "batch": events })).status, 200);
    // The last one has come to both, so all have been dealt with.
    let rows = until("the lake has the last", || {
        let rows = site.query("SELECT id FROM web.tracks ORDER BY id");
        rows.iter().any(|row| row["id"] == "both").then_some(rows)
    });
    assert_eq!(rows, [json!({"id": "both"}), json!({"id": "no_c0004"}), json!({"id": "warehouse"})]);
    let came = until("Google has the last", || {
        let mut names = names.lock().unwrap().clone();
        names.sort_unstable();
        names.iter().any(|name| name == "both").then_some(names)
    });
    assert_eq!(came, ["both", "google", "no_analytics"]);

    let metrics = http.get(&format!("{}/metrics", dev.admin)).unwrap().body;
    for (role, component, reason, items) in [
        ("warehouse-loader", "web--lake", "no_consent", 1),
        ("warehouse-loader", "web--lake", "integrations", 2),
        ("deliver", "google", "no_consent", 1),
        ("deliver", "google", "integrations", 2),
    ] {
        let labels = [
            format!("role=\"{role}\""),
            format!("component=\"{component}\""),
            format!("reason=\"{reason}\""),
        ];
        let is_it = |line: &&str| {
            line.starts_with("millrace_component_discarded_events_total{")
                && labels.iter().all(|label| line.contains(label))
        };
        let line = metrics.lines().find(is_it).unwrap_or_default();
        assert!(line.ends_with(&format!(" {items}")), "{role} {reason}: {line:?}");
    }
    let counts =
        site.query("SELECT disposition, sum(items) AS items FROM _millrace.counts GROUP BY 1 ORDER BY 1");
    assert_eq!(
        counts,
        [json!({"disposition": "filtered", "items": 3}), json!({"disposition": "loaded", "items": 3})]
    );
}

#[test]
fn consent_rules_that_do_nothing_are_shown_with_their_place() {
    let site = Site::new(&CONFIG.replace("{receiver}", "http://127.0.0.1:1").replace("[analytics]", "[]"));
    let output = site.run(&["check", "--dev"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("names no categories") && text.contains("kind: lake"), "{text}");
}
