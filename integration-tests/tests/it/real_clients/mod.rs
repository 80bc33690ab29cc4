//! SDKs from their registries, unmodified, pointed at ingest; and requests of those that cannot run here.
//!
//! Each program in `tests/it/clients` calls everything that its SDK has. What Kafka then holds is compared
//! with `clients/expected`: every event once, every field of it. There `every` is what all events have, and a
//! word in angle brackets stands for what differs from run to run (see `pattern`). `docs/sdks.md` names the
//! test of each SDK.

mod browsers;
mod page;
mod pattern;
mod postgres;
mod servers;
mod wire;

use std::path::{Path, PathBuf};

use millrace_event_model::rudder_id;
use serde_json::Value;

use crate::stack::{Dev, Site};

/// No privacy policy: what the client sent is what Kafka has.
const CONFIG: &str = r#"
workspace: clients
state: "{dir}/state"
ingest: { listen: "127.0.0.1:0" }
admin: { listen: "127.0.0.1:0" }
sources:
"#;

/// Where the time of sending stands, by which a client's wrong clock is corrected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SentAt {
    /// In each event, where the server leaves it.
    Event,
    /// In the batch, from where it becomes a header of each event.
    Batch,
}

/// The source of the SDKs that are driven.
const SOURCE: &str = "sdk";

fn write_key(source: &str) -> String {
    format!("{source}-write-key")
}

/// A file of the clients.
fn client(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/clients").join(name)
}

fn read(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A Millrace with nothing behind Kafka.
struct Gateway {
    site: Site,
    dev: Dev,
}

impl Gateway {
    /// With one source.
    fn start() -> Self {
        Self::with(&[SOURCE])
    }

    /// With these sources.
    fn with(sources: &[&str]) -> Self {
        let mut config = CONFIG.to_owned();
        for source in sources {
            config
                .push_str(&format!("  - {{ id: {source}, kind: http, write_key: {} }}\n", write_key(source)));
        }
        let site = Site::new(&config);
        let dev = site.dev();
        Self { site, dev }
    }

    /// What a client's program is told: the write key and where ingest is.
    fn address(&self) -> [String; 2] {
        [write_key(SOURCE), self.dev.ingest.clone()]
    }

    /// The records of a source that Kafka holds now, in the order of their arrival.
    fn records(&self, source: &str) -> Vec<Value> {
        let text = self.site.stdout(&["tap", "--no-follow", "-o", "json", "--source", source]);
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Kafka holds each of these events once and nothing else.
    fn holds(&self, source: &str, expected: &[Value], sent_at: SentAt) {
        let mut records = self.records(source);
        for event in expected {
            let mut pattern = event.clone();
            if sent_at == SentAt::Event && pattern.get("sentAt").is_none() {
                pattern["sentAt"] = "<time>".into();
            }
            let same = |record: &Value| pattern::kind(&record["body"]) == pattern::kind(&pattern);
            let Some(found) = records.iter().position(same) else {
                panic!("{source}: Kafka holds nothing like {pattern}; what else it holds: {records:#?}");
            };
            let record = records.remove(found);
            let wrong = pattern::difference(&pattern, &record["body"]);
            assert!(wrong.is_empty(), "{source}: {}\nin {record:#}", wrong.join("\n"));
            decided_by_the_server(source, &record, sent_at);
        }
        assert!(records.is_empty(), "{source}: {} calls made more events: {records:#?}", expected.len());
    }
}

/// The events that `clients/expected` names for an SDK.
fn expected(name: &str) -> Vec<Value> {
    let file = read(&client(&format!("expected/{name}.json")));
    let events = file["events"].as_array().expect("a list of events");
    events.iter().map(|event| pattern::merge(&file["every"], event)).collect()
}

/// What the server decided agrees with the body and with the test.
fn decided_by_the_server(source: &str, record: &Value, sent_at: SentAt) {
    let (decided, body) = (&record["decided"], &record["body"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    assert_eq!(decided["type"], body["type"], "{record:#}");
    assert_eq!(decided["source"], source);
    assert_eq!(decided["requestIp"], "127.0.0.1");
    assert!(pattern::is_recent(&text(&decided["receivedAt"])), "{record:#}");
    let person = rudder_id(&text(&body["userId"]), &text(&body["anonymousId"]));
    assert_eq!(decided["rudderId"], person.to_string(), "{record:#}");
    match body.get("messageId") {
        Some(id) => assert_eq!(decided["messageId"], *id),
        // The client left it to the server, which makes a UUID.
        None => assert_eq!(text(&decided["messageId"]).len(), 36, "{record:#}"),
    }
    if let Some(at) = decided.get("sentAt") {
        assert!(pattern::is_recent(&text(at)), "{record:#}");
    }
    // A null is none.
    let places = (body["sentAt"].is_string(), decided.get("sentAt").is_some());
    assert_eq!(places, (sent_at == SentAt::Event, sent_at == SentAt::Batch), "sentAt: {record:#}");
}
