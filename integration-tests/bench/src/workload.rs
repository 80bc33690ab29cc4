//! W1 to W7, and W1 with many connections: the requests of each workload, rendered before the clock runs.

use std::io::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use millrace_privacy::{HashKey, Policy, Scanner};
use serde::{Deserialize, Serialize};

use crate::corpus::{self, Sample, Size};
use crate::error::BenchError;

/// Clients of one gateway.
pub(crate) const WRITE_KEYS: usize = 10;

/// The workspace's key of every run: the hashes of two runs are the same.
pub(crate) const WORKSPACE_KEY: [u8; 32] = [7; 32];

/// What SDKs and the published figures use.
const GZIP_LEVEL: u32 = 6;

/// One in so many requests is invalid.
const ONE_INVALID_IN: usize = 1000;

/// One row of the table of figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Workload {
    /// One S event per request.
    W1,
    /// W1 from a thousand connections.
    W1k,
    /// Batches of 20 S.
    W2,
    /// Batches of 50 S.
    W3,
    /// Batches of 50 S, gzip in, lz4 to the broker.
    W4,
    /// Batches of 100 L, gzip in, lz4 to the broker.
    W5,
    /// W4 with masking.
    W6,
    /// Nine requests of W1 to one of W3.
    W7,
}

/// How a workload differs from the others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// In the table.
    pub(crate) title: &'static str,
    size: Size,
    /// Kept open by the generator.
    pub(crate) connections: usize,
    /// Events per request; single requests go to the path of their type.
    batch: usize,
    gzip: bool,
    /// Of ten requests so many are single ones all the same.
    singles_of_ten: usize,
    /// librdkafka's `compression.type`.
    pub(crate) compression: &'static str,
    /// Whether the sources mask personal data.
    pub(crate) masked: bool,
    /// CPU seconds per million events that the ingest process may take; for W6, a factor on W4.
    pub(crate) target: Option<f64>,
}

impl Workload {
    /// Those that the targets are about.
    pub(crate) const QUICK: [Self; 4] = [Self::W1, Self::W3, Self::W4, Self::W6];

    pub(crate) const ALL: [Self; 8] =
        [Self::W1, Self::W1k, Self::W2, Self::W3, Self::W4, Self::W5, Self::W6, Self::W7];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::W1 => "w1",
            Self::W1k => "w1k",
            Self::W2 => "w2",
            Self::W3 => "w3",
            Self::W4 => "w4",
            Self::W5 => "w5",
            Self::W6 => "w6",
            Self::W7 => "w7",
        }
    }

    pub(crate) fn shape(self) -> Shape {
        let plain = Shape {
            title: "",
            size: Size::S,
            connections: 64,
            batch: 1,
            gzip: false,
            singles_of_ten: 0,
            compression: "none",
            masked: false,
            target: None,
        };
        let zipped = Shape { batch: 50, gzip: true, compression: "lz4", ..plain };
        match self {
            Self::W1 => Shape { title: "single 571-byte event", target: Some(9.0), ..plain },
            Self::W1k => Shape { title: "W1, 1,000 connections", connections: 1000, ..plain },
            Self::W2 => Shape { title: "batch of 20", batch: 20, ..plain },
            Self::W3 => Shape { title: "batch of 50, plain", batch: 50, target: Some(2.0), ..plain },
            Self::W4 => Shape { title: "batch of 50, gzip in, lz4 out", target: Some(3.2), ..zipped },
            Self::W5 => Shape {
                title: "batch of 100 of 2.5 KB, gzip in, lz4 out",
                size: Size::L,
                batch: 100,
                ..zipped
            },
            Self::W6 => Shape { title: "W4 with PII masking", masked: true, ..zipped },
            Self::W7 => Shape { title: "nine of W1 to one of W3", batch: 50, singles_of_ten: 9, ..plain },
        }
    }
}

impl Shape {
    /// Events in a request, on average.
    pub(crate) fn events_per_request(&self) -> f64 {
        let singles = self.singles_of_ten as f64 / 10.0;
        singles + (1.0 - singles) * self.batch as f64
    }

    /// The corpus that it sends.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        corpus::events(self.size)
    }
}

/// One request, ready to be written to a connection, and what must come of it.
#[derive(Debug, Clone)]
pub(crate) struct Rendered {
    /// Head and body.
    pub(crate) bytes: Bytes,
    /// The status that it must be answered with.
    pub(crate) status: u16,
    /// The events that are stored if it is.
    pub(crate) events: u64,
    /// Of their bodies as stored; see [`content_hash`].
    pub(crate) hash: u128,
}

/// What a set of events is compared by: the sum of these over all of them, which no order changes and a
/// missing, doubled or altered event does.
pub(crate) fn content_hash(body: &[u8]) -> u128 {
    let mut first = [0; 16];
    blake3::Hasher::new().update(body).finalize_xof().fill(&mut first);
    u128::from_le_bytes(first)
}

pub(crate) fn write_key(number: usize) -> String {
    format!("bench-write-key-{number:02}")
}

/// As every source of the masking workload has it.
pub(crate) fn scanner() -> Scanner {
    Scanner::new(Policy::mask_all(), HashKey::derive(&WORKSPACE_KEY))
}

/// The body of a valid request, before gzip.
#[derive(Debug, Clone)]
pub(crate) struct Body {
    /// Of the one event, where the path says it.
    pub(crate) single: Option<&'static str>,
    /// What is sent.
    pub(crate) json: String,
    /// What it holds.
    pub(crate) events: Vec<Sample>,
}

/// The bodies of a workload, each event of the corpus in one of them.
pub(crate) fn bodies(workload: Workload) -> Vec<Body> {
    let shape = workload.shape();
    let mut rest = shape.samples().into_iter();
    let mut bodies: Vec<Body> = Vec::new();
    loop {
        let single = shape.batch == 1 || bodies.len() % 10 < shape.singles_of_ten;
        let events: Vec<Sample> = rest.by_ref().take(if single { 1 } else { shape.batch }).collect();
        let Some(first) = events.first() else { break };
        let (of_one, json) =
            if single { (Some(first.event_type), first.json.clone()) } else { (None, batch(&events)) };
        bodies.push(Body { single: of_one, json, events });
    }
    bodies
}

/// All requests of a workload. They are sent in turn, again and again.
pub(crate) fn requests(workload: Workload, host: &str) -> Result<Vec<Rendered>, BenchError> {
    let shape = workload.shape();
    let masking = shape.masked.then(scanner);
    let renderer = Renderer { host, gzip: shape.gzip, masking: masking.as_ref() };
    let mut requests = Vec::new();
    for (number, body) in bodies(workload).iter().enumerate() {
        requests.push(renderer.request(number, body)?);
    }
    // Few batches are rendered, so the share of invalid ones holds over several rounds of them.
    let rounds = (ONE_INVALID_IN / requests.len()).max(1);
    let mut all: Vec<Rendered> = requests.iter().cycle().take(requests.len() * rounds).cloned().collect();
    for place in (0..all.len()).step_by(ONE_INVALID_IN) {
        all.insert(place, renderer.invalid(place));
    }
    Ok(all)
}

struct Renderer<'r> {
    host: &'r str,
    gzip: bool,
    masking: Option<&'r Scanner>,
}

impl Renderer<'_> {
    fn request(&self, number: usize, body: &Body) -> Result<Rendered, BenchError> {
        let mut hash = 0_u128;
        for event in &body.events {
            hash = hash.wrapping_add(self.stored_hash(event)?);
        }
        let path = format!("/v1/{}", body.single.unwrap_or("batch"));
        let bytes = self.render(number, &path, body.json.as_bytes());
        Ok(Rendered { bytes, status: 200, events: body.events.len() as u64, hash })
    }

    /// Nobody did it: refused as a whole.
    fn invalid(&self, number: usize) -> Rendered {
        let body = r#"{"type":"track","event":"Product Viewed","properties":{}}"#;
        Rendered { bytes: self.render(number, "/v1/track", body.as_bytes()), status: 400, events: 0, hash: 0 }
    }

    fn stored_hash(&self, event: &Sample) -> Result<u128, BenchError> {
        let Some(scanner) = self.masking else { return Ok(content_hash(event.json.as_bytes())) };
        let scanned = scanner.scan(event.json.as_bytes()).map_err(BenchError::corpus)?;
        Ok(content_hash(&scanned.body))
    }

    fn render(&self, number: usize, path: &str, body: &[u8]) -> Bytes {
        let key = BASE64_STANDARD.encode(format!("{}:", write_key(number % WRITE_KEYS)));
        let (encoding, body) =
            if self.gzip { ("Content-Encoding: gzip\r\n", gzip(body)) } else { ("", body.to_vec()) };
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: millrace-bench\r\nAccept: */*\r\n\
             Authorization: Basic {key}\r\nContent-Type: application/json\r\n{encoding}Content-Length: {}\r\n\r\n",
            self.host,
            body.len()
        );
        [head.as_bytes(), &body].concat().into()
    }
}

fn batch(events: &[Sample]) -> String {
    let events: Vec<&str> = events.iter().map(|event| event.json.as_str()).collect();
    format!(r#"{{"batch":[{}],"sentAt":"2026-11-24T12:00:00.000Z"}}"#, events.join(","))
}

/// As clients do it.
pub(crate) fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(GZIP_LEVEL));
    // Into memory: neither fails.
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn requests_hold_every_event_and_one_in_a_thousand_is_invalid() {
        for workload in Workload::ALL {
            let shape = workload.shape();
            let requests = requests(workload, "localhost").unwrap();
            let stored: u64 = requests.iter().map(|request| request.events).sum();
            assert_eq!(stored % shape.samples().len() as u64, 0, "{workload:?}");
            let invalid = requests.iter().filter(|request| request.status != 200).count();
            let share = invalid as f64 / requests.len() as f64;
            assert!((0.0005..0.002).contains(&share), "{workload:?}: {share}");
            let per_request = stored as f64 / (requests.len() - invalid) as f64;
            let expected = shape.events_per_request();
            assert!((per_request / expected - 1.0).abs() < 0.01, "{workload:?}: {per_request}");
        }
    }

    #[test]
    fn the_sum_of_hashes_tells_a_loss_a_double_and_a_change() {
        let sum = |bodies: &[&str]| {
            bodies.iter().fold(0_u128, |sum, body| sum.wrapping_add(content_hash(body.as_bytes())))
        };
        assert_eq!(sum(&["a", "b", "c"]), sum(&["c", "a", "b"]));
        for other in [&["a", "b"][..], &["a", "b", "c", "c"], &["a", "b", "d"], &["a", "a", "c"]] {
            assert_ne!(sum(&["a", "b", "c"]), sum(other));
        }
    }
}
