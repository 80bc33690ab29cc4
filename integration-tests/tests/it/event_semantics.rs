//! What becomes of an event besides being passed on: its time by the server's clock, the place of its
//! client, and that it is not stored where nobody wants it or its user asked to be forgotten.

use serde_json::{Value, json};

use crate::http::Http;
use crate::mmdb::{country, database, place};
use crate::stack::{Site, until};

const CONFIG: &str = r#"
workspace: semantics
state: "{dir}/state"
ingest: { listen: "127.0.0.1:0", geoip: { database: City.mmdb } }
admin: { listen: "127.0.0.1:0" }
block_events: { track: [Debug] }
sources:
  - { id: web, kind: http, write_key: test-write-key, block_events: { track: [Purchase] } }
warehouses:
  - { id: lake, kind: lake, settings: { url: "{dir}/lake" } }
connections:
  - { from: web, to: lake, schema: web, schedule: 200ms }
"#;

/// Of somebody who is never to be stored, so that it is found wherever it should not be.
const FORGOTTEN: &str = "jane-4711";

fn site() -> Site {
    let site = Site::new(CONFIG);
    let known = database(&[("203.0.113.7", place("Boxford")), ("192.0.2.1", country())]);
    std::fs::write(site.path().join("City.mmdb"), known).unwrap();
    site
}

/// Of all track events, once there are so many.
fn rows(site: &Site, columns: &str, count: usize) -> Vec<Value> {
    let sql = format!("SELECT {columns} FROM web.tracks ORDER BY id");
    until("the rows are there", || Some(site.query(&sql)).filter(|rows| rows.len() >= count))
}

#[test]
fn an_event_has_its_time_by_the_servers_clock_and_the_place_of_its_client() {
    let (site, http) = (site(), Http::new());
    let dev = site.dev();
    // A client whose clock is years ahead: it happened three seconds before the batch was sent.
    let ahead = json!({"type": "track", "userId": "u", "messageId": "1 ahead", "event": "Seen",
                       "originalTimestamp": "2035-01-01T00:00:00Z", "context": {"ip": "203.0.113.7"}});
    let own = json!({"type": "track", "userId": "u", "messageId": "2 own", "event": "Seen",
                     "originalTimestamp": "2035-01-01T00:00:00Z", "sentAt": "2035-01-01T00:00:09Z", "request_ip": "192.0.2.1"});
    let batch = json!({"batch": [ahead, own], "sentAt": "2035-01-01T00:00:03Z"});
    assert_eq!(http.event(&dev.ingest, "/v1/batch", &batch).status, 200);
    let columns = "id, context_geo_city, context_geo_country, sent_at, \
                   round(EXTRACT(EPOCH FROM (received_at - timestamp))) AS seconds";
    let rows = rows(&site, columns, 2);
    let of = |row: usize, column: &str| rows[row][column].to_string().trim_matches('"').to_owned();
    assert_eq!((of(0, "context_geo_city"), of(0, "context_geo_country")), ("Boxford".into(), "GB".into()));
    assert_eq!((&rows[1]["context_geo_city"], of(1, "context_geo_country")), (&Value::Null, "FR".into()));
    assert!(of(0, "sent_at").starts_with("2035-01-01T00:00:03"), "the batch's: {rows:?}");
    assert!(of(1, "sent_at").starts_with("2035-01-01T00:00:09"), "its own: {rows:?}");
    let seconds = |row: usize| rows[row]["seconds"].as_f64().unwrap();
    assert_eq!((seconds(0), seconds(1)), (3.0, 9.0), "{rows:?}");
}

#[test]
fn what_nobody_wants_and_who_is_to_be_forgotten_is_answered_and_not_stored() {
    let (site, http) = (site(), Http::new());
    assert_eq!(
        site.run(&["suppress", FORGOTTEN]).status.code(),
        Some(2),
        "no state, so no key to name a user by"
    );
    let mut dev = site.dev();
    let text = site.stdout(&["suppress", FORGOTTEN, "--reason", "ticket 1"]);
    assert!(!text.contains(FORGOTTEN), "{text}");
    // After a restart it is known before the first event.
    assert!(dev.process.stop());
    let dev = site.dev();
    for (user, event) in [("u", "Debug"), ("u", "Purchase"), (FORGOTTEN, "Seen"), ("u", "Seen")] {
        let body = json!({"userId": user, "event": event, "messageId": event});
        let answer = http.event(&dev.ingest, "/v1/track", &body);
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    }
    let rows = rows(&site, "id, event", 1);
    assert_eq!(rows.iter().map(|row| &row["event"]).collect::<Vec<_>>(), ["seen"]);
    let metrics = http.get(&format!("{}/metrics", dev.admin)).unwrap().body;
    for line in [
        "millrace_ingest_blocked_events_total{source=\"web\"} 2",
        "millrace_ingest_suppressed_events_total{source=\"web\"} 1",
    ] {
        assert!(metrics.lines().any(|other| other == line), "{line} in:\n{metrics}");
    }

    let list = |arguments: &[&str]| -> Vec<Value> {
        let text = site.stdout(&[&["suppressions", "list", "-o", "json"], arguments].concat());
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    assert_eq!(list(&[])[0]["reason"], "ticket 1");
    assert_eq!((list(&[FORGOTTEN]).len(), list(&["u"]).len()), (1, 0));
    site.stdout(&["unsuppress", FORGOTTEN]);
    assert!(list(&[]).is_empty());
    let unknown = site.run(&["suppress", "u", "--source", "app"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("there are: web"));
    drop(dev);
    // Nor is the id in any file: not in Kafka, state, lake or log.
    let found =
        std::process::Command::new("grep").args(["-rl", FORGOTTEN, "."]).current_dir(site.path()).output();
    assert_eq!(String::from_utf8_lossy(&found.unwrap().stdout), "");
}
