//! SDKs that cannot run here: a request of each, written after its source, is sent as it would send it.
//!
//! `clients/wire/<name>.json` names the SDK, its version and where the format was read. `<now>` in it becomes
//! the present time. An SDK for phones asks for its source's configuration first, and so does the test.

use std::io::Write;
use std::path::Path;

use chrono::{SecondsFormat, Utc};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

use super::{Gateway, SentAt, client, read, write_key};
use crate::http::Http;

/// An SDK's request.
struct Sdk {
    name: String,
    file: Value,
}

impl Sdk {
    fn read(path: &Path) -> Self {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let now = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        let text = read(path).to_string().replace("<now>", &now);
        Self { name, file: serde_json::from_str(&text).unwrap() }
    }

    /// The answer lets the SDK go on: what Android, iOS and their wrappers check of it.
    fn fetches_its_configuration(&self, http: &Http, ingest: &str) {
        let Some(path) = self.file["config"].as_str() else { return };
        let answer = http.get_with(&format!("{ingest}{path}"), &write_key(&self.name)).unwrap();
        assert_eq!(answer.status, 200, "{}: {}", self.name, answer.body);
        let config: Value = serde_json::from_str(&answer.body).unwrap();
        let source = &config["source"];
        assert!(source["id"].is_string() && source["enabled"] == true, "{config:#}");
        assert!(source["config"].is_object() && source["destinations"].is_array(), "{config:#}");
    }

    fn sends_its_batch(&self, http: &Http, ingest: &str) {
        let mut body = self.file["body"].to_string().into_bytes();
        let headers = self.file["headers"].as_object().unwrap();
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap())).collect();
        if headers.contains(&("Content-Encoding", "gzip")) {
            let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
            gzip.write_all(&body).unwrap();
            body = gzip.finish().unwrap();
        }
        let url = format!("{ingest}/v1/batch");
        let answer = http.post_with(&url, &write_key(&self.name), &headers, body).unwrap();
        // PHP, .NET, Unity, Android and iOS take exactly 200 for success.
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"), "{}", self.name);
    }

    fn events(&self) -> &[Value] {
        self.file["body"]["batch"].as_array().unwrap()
    }

    fn sent_at(&self) -> SentAt {
        match self.file["sent_at"].as_str() {
            Some("event") => SentAt::Event,
            Some("batch") => SentAt::Batch,
            other => panic!("{}: sent_at is event or batch, not {other:?}", self.name),
        }
    }
}

#[test]
fn requests_of_sdks_that_cannot_run_here_arrive() {
    let files = std::fs::read_dir(client("wire")).unwrap();
    let sdks: Vec<Sdk> = files.map(|file| Sdk::read(&file.unwrap().path())).collect();
    let names: Vec<&str> = sdks.iter().map(|sdk| sdk.name.as_str()).collect();
    let (gateway, http) = (Gateway::with(&names), Http::new());
    for sdk in &sdks {
        sdk.fetches_its_configuration(&http, &gateway.dev.ingest);
        sdk.sends_its_batch(&http, &gateway.dev.ingest);
    }
    for sdk in &sdks {
        gateway.holds(&sdk.name, sdk.events(), sdk.sent_at());
    }
}
