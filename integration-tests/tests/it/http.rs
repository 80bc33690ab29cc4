//! A small HTTP client over reqwest for the tests: one call, one answer.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::stack::WRITE_KEY;

/// A client with a runtime of its own, so that tests read from top to bottom.
pub(crate) struct Http {
    runtime: Runtime,
    client: reqwest::Client,
}

/// No answer within this is none: a test should fail, not hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// When to come again, if it says so.
    pub(crate) retry_after: Option<String>,
    pub(crate) body: String,
}

impl Http {
    pub(crate) fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        Self { runtime, client }
    }

    /// Sends an event or a batch with the tests' write key.
    pub(crate) fn event(&self, ingest: &str, path: &str, body: &Value) -> Answer {
        self.post(&format!("{ingest}{path}"), WRITE_KEY, body.to_string().into_bytes()).unwrap()
    }

    /// Posts bytes; `None` when nobody answers.
    pub(crate) fn post(&self, url: &str, write_key: &str, body: Vec<u8>) -> Option<Answer> {
        self.send(self.client.post(url).header("authorization", basic(write_key)).body(body))
    }

    /// The same with headers.
    pub(crate) fn post_with(
        &self,
        url: &str,
        write_key: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Option<Answer> {
        let mut request = self.client.post(url).header("authorization", basic(write_key)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request)
    }

    pub(crate) fn get(&self, url: &str) -> Option<Answer> {
        self.send(self.client.get(url))
    }

    /// The same with a write key.
    pub(crate) fn get_with(&self, url: &str, write_key: &str) -> Option<Answer> {
        self.send(self.client.get(url).header("authorization", basic(write_key)))
    }

    fn send(&self, request: reqwest::RequestBuilder) -> Option<Answer> {
        self.runtime.block_on(async {
            let response = request.send().await.ok()?;
            let status = response.status().as_u16();
            let retry_after = response.headers().get("retry-after");
            let retry_after = retry_after.map(|value| value.to_str().unwrap().to_owned());
            Some(Answer { status, retry_after, body: response.text().await.unwrap_or_default() })
        })
    }
}

fn basic(write_key: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{write_key}:")))
}
