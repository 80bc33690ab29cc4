//! The SDKs for browsers, in headless Chromium: a page on localhost, ingest at another origin.
//!
//! A preflight, a configuration, a write key in the query or in the body: what only browsers need is all in
//! the way of an event here.

use std::process::{Command, Stdio};

use super::{Gateway, SOURCE, SentAt, client, expected};
use crate::stack::{lent, until};

/// How the SDK sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Each event by itself, which is the default.
    OneByOne,
    /// As the SDK batches.
    Batched,
}

/// Opens `<name>.html` and compares what it sent with `expected/<name>.json`.
fn every_call_is_in_kafka(name: &str, mode: Mode, sent_at: SentAt) {
    let Some(folder) = lent("MILLRACE_TEST_BROWSER") else { return };
    let gateway = Gateway::start();
    let expected = expected(name);
    let mut command = Command::new("node");
    command.arg(client("browser.cjs")).arg(format!("{name}.html")).args(gateway.address()).arg(folder);
    if mode == Mode::Batched {
        command.arg("batched");
    }
    let mut browser = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("Kafka holds what the page sent", || {
        let ended = browser.try_wait().unwrap().is_some();
        (ended || gateway.records(SOURCE).len() >= expected.len()).then_some(())
    });
    // The end of its standard input closes the page.
    drop(browser.stdin.take());
    let said = browser.wait_with_output().unwrap();
    assert!(said.status.success(), "the page failed: {}", String::from_utf8_lossy(&said.stderr));
    gateway.holds(SOURCE, &expected, sent_at);
}

#[test]
fn the_rudderstack_browser_sdk_works_unmodified() {
    every_call_is_in_kafka("rudder_browser", Mode::OneByOne, SentAt::Event);
}

#[test]
fn the_rudderstack_browser_sdk_works_with_beacons() {
    every_call_is_in_kafka("rudder_browser", Mode::Batched, SentAt::Event);
}

#[test]
fn the_rudderstack_browser_sdk_v1_works_unmodified() {
    every_call_is_in_kafka("rudder_v1_browser", Mode::OneByOne, SentAt::Event);
}

#[test]
fn the_segment_browser_sdk_works_unmodified() {
    every_call_is_in_kafka("segment_browser", Mode::OneByOne, SentAt::Event);
}

#[test]
fn the_segment_browser_sdk_works_in_batches() {
    every_call_is_in_kafka("segment_browser", Mode::Batched, SentAt::Batch);
}
