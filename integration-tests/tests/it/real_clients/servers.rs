//! The SDKs for servers: each as a program of its own.

use std::process::Command;

use super::{Gateway, SOURCE, SentAt, client, expected};
use crate::stack::{lent, output};

/// Runs the program and compares what it sent with `expected/<name>.json`.
fn every_call_is_in_kafka(name: &str, sent_at: SentAt, program: impl FnOnce(&Gateway) -> Command) {
    let gateway = Gateway::start();
    let said = output(program(&gateway));
    assert!(said.status.success(), "the SDK failed: {}", String::from_utf8_lossy(&said.stderr));
    gateway.holds(SOURCE, &expected(name), sent_at);
}

#[test]
fn the_rudderstack_python_sdk_works_unmodified() {
    let Some(python) = lent("MILLRACE_TEST_RUDDER_PYTHON") else { return };
    every_call_is_in_kafka("rudder_python", SentAt::Batch, |gateway| {
        let mut command = Command::new(python);
        command.arg(client("rudder_python.py")).args(gateway.address());
        command
    });
}

#[test]
fn the_segment_python_sdk_works_unmodified() {
    let Some(python) = lent("MILLRACE_TEST_SEGMENT_PYTHON") else { return };
    every_call_is_in_kafka("segment_python", SentAt::Batch, |gateway| {
        let mut command = Command::new(python);
        command.arg(client("segment_python.py")).args(gateway.address());
        command
    });
}

#[test]
fn the_rudderstack_node_sdk_works_unmodified() {
    let Some(folder) = lent("MILLRACE_TEST_RUDDER_NODE") else { return };
    every_call_is_in_kafka("rudder_node", SentAt::Event, |gateway| {
        let mut command = Command::new("node");
        command.arg(client("rudder_node.cjs")).args(gateway.address()).arg(folder);
        command
    });
}

#[test]
fn the_segment_node_sdk_works_unmodified() {
    let Some(folder) = lent("MILLRACE_TEST_SEGMENT_NODE") else { return };
    every_call_is_in_kafka("segment_node", SentAt::Batch, |gateway| {
        let mut command = Command::new("node");
        command.arg(client("segment_node.cjs")).args(gateway.address()).arg(folder);
        command
    });
}

#[test]
fn the_rudderstack_rust_sdk_works_unmodified() {
    let Some(program) = lent("MILLRACE_TEST_RUDDER_RUST") else { return };
    every_call_is_in_kafka("rudder_rust", SentAt::Event, |gateway| {
        let mut command = Command::new(program);
        command.args(gateway.address());
        command
    });
}

#[test]
fn the_rudderstack_java_sdk_works_unmodified() {
    let Some(folder) = lent("MILLRACE_TEST_RUDDER_JAVA") else { return };
    every_call_is_in_kafka("rudder_java", SentAt::Batch, |gateway| {
        let mut command = Command::new("java");
        command.args(["-cp", &format!("{folder}/classes:{folder}/jars/*"), "RudderJava"]);
        command.args(gateway.address());
        command
    });
}
