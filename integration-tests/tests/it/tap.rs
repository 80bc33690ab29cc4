//! `millrace tap`: an operator looks at what Kafka holds.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::http::Http;
use crate::stack::{Site, WRITE_KEY};

const CONFIG: &str = r#"
workspace: tap
state: "{dir}/state"
ingest: { listen: "127.0.0.1:0" }
admin: { listen: "127.0.0.1:0" }
sources:
  - { id: web, kind: http, write_key: test-write-key, privacy: strict }
  - { id: app, kind: http, write_key: app-key, lane: busy }
privacy:
  strict: { detect: all, action: mask }
"#;

/// The events that a tap prints, by their message ids.
fn seen(site: &Site, arguments: &[&str]) -> Vec<String> {
    let text = site.stdout(&[&["tap", "-o", "json"], arguments].concat());
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.map(|event| event["decided"]["messageId"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_tap_shows_what_kafka_holds_and_what_comes() {
    let (site, http) = (Site::new(CONFIG), Http::new());
    assert_eq!(site.run(&["tap"]).status.code(), Some(5), "nothing runs yet");
    let dev = site.dev();
    let send = |key: &str, id: &str| {
        let event =
            json!({"userId": "u", "messageId": id, "event": "Seen", "properties": {"to": "a@mail.example"}});
        let sent = http.post(&format!("{}/v1/track", dev.ingest), key, event.to_string().into_bytes());
        assert_eq!(sent.unwrap().status, 200);
    };
    send(WRITE_KEY, "w1");
    send("app-key", "a1");
    send(WRITE_KEY, "w2");

    let all = seen(&site, &["--no-follow"]);
    assert_eq!(all.len(), 3, "{all:?}");
    assert_eq!(seen(&site, &["--no-follow", "--source", "web"]), ["w1", "w2"]);
    assert_eq!(seen(&site, &["--no-follow", "--lane", "busy"]), ["a1"]);
    assert_eq!(seen(&site, &["--no-follow", "--source", "web", "--limit", "1"]), ["w1"]);
    assert_eq!(seen(&site, &["--no-follow", "--from", "2100-01-01"]), [""; 0]);

    let mut follower =
        site.command(&["tap", "-o", "json", "--source", "app", "--from", "earliest", "-n", "2"]);
    let follower = follower.stdout(Stdio::piped()).spawn().unwrap();
    send("app-key", "a2");
    let text = String::from_utf8(follower.wait_with_output().unwrap().stdout).unwrap();
    assert!(text.lines().count() == 2 && text.contains("a2"), "{text}");

    let text = site.stdout(&["tap", "--no-follow", "--source", "web"]);
    assert!(text.contains("web track \"Seen\" userId=u messageId=w1"), "{text}");
    let json = site.stdout(&["tap", "--no-follow", "-o", "json", "--source", "web"]);
    assert!(!json.contains("a@mail.example"), "what is masked shows masked: {json}");
    let unknown = site.run(&["tap", "--source", "nobody"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("there are: web, app"));
}
