//! The scanner against what clients send.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod any_document;
mod corpus;
mod forms;
mod properties;
mod table;

use millrace_privacy::{HashKey, Policy, Scanned, Scanner};

pub(crate) fn scanner(policy: &str) -> Scanner {
    let policy: Policy = serde_json::from_str(policy).unwrap();
    Scanner::new(policy, HashKey::derive(&[7; 32]))
}

/// The output as text, and `path kind action` of each finding.
pub(crate) fn scan(scanner: &Scanner, json: &str) -> (String, Vec<String>) {
    let Scanned { body, findings } = scanner.scan(json.as_bytes()).unwrap();
    let line = |finding: &millrace_privacy::Finding| {
        format!("{} {} {}", finding.path, finding.kind, finding.action.as_str())
    };
    (String::from_utf8(body.into_owned()).unwrap(), findings.iter().map(line).collect())
}
