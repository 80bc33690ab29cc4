//! One policy, ready to be applied.

use std::borrow::Cow;

use serde::Serialize;

use crate::detect::{self, Hit};
use crate::key::Hint;
use crate::replace::{self, HashKey};
use crate::suspects::Suspects;
use crate::text::Unit;
use crate::walk::{self, Walk};
use crate::{Action, Kind, Policy};

/// Objects and arrays inside one another. serde_json reads no deeper either.
pub const MAX_DEPTH: usize = 128;

/// Applies one policy to events.
#[derive(Debug, Clone)]
pub struct Scanner {
    policy: Policy,
    hash_key: HashKey,
}

/// An event after the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scanned<'b> {
    /// The input itself where nothing was found.
    pub body: Cow<'b, [u8]>,
    /// What was found, in the order of the input.
    pub findings: Vec<Finding>,
}

/// One value that was replaced. Says nothing of the value itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Where: keys and indexes joined by points, as in `traits.email` and `items.0.note`; at most 256
    /// bytes. A masked key appears masked.
    pub path: String,
    /// What it was.
    pub kind: Kind,
    /// What was done.
    pub action: Action,
}

/// The input cannot be scanned, and so must not be passed on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// Not JSON.
    #[error("invalid JSON at byte {at}: {problem}")]
    Invalid {
        /// Counted from the start.
        at: usize,
        /// What is wrong; never the content.
        problem: &'static str,
    },
    /// More than [`MAX_DEPTH`] objects and arrays inside one another.
    #[error("more than {MAX_DEPTH} levels of objects and arrays")]
    TooDeep,
}

impl Scanner {
    /// A scanner for a policy; the key serves the action `hash`.
    #[must_use]
    pub fn new(policy: Policy, hash_key: HashKey) -> Self {
        Self { policy, hash_key }
    }

    /// The policy it applies.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Applies the policy to one JSON document.
    ///
    /// # Errors
    /// [`ScanError`]: it is not JSON, or too deep.
    pub fn scan<'b>(&self, json: &'b [u8]) -> Result<Scanned<'b>, ScanError> {
        let invalid =
            |error: std::str::Utf8Error| ScanError::Invalid { at: error.valid_up_to(), problem: "not UTF-8" };
        let json = std::str::from_utf8(json).map_err(invalid)?;
        self.walk(json, Suspects::of(json.as_bytes()))
    }

    /// [`Self::scan`] for what is known to be JSON, such as a value that [`crate::json::Lexer`] has skipped:
    /// most documents have nothing to find, and that is seen at a glance.
    ///
    /// # Errors
    /// [`ScanError`]: it is not JSON after all, or too deep. Invalid JSON without anything to find may pass.
    pub fn scan_valid<'b>(&self, json: &'b str) -> Result<Scanned<'b>, ScanError> {
        let suspects = Suspects::of(json.as_bytes());
        if suspects.is_empty() {
            return Ok(Scanned { body: Cow::Borrowed(json.as_bytes()), findings: Vec::new() });
        }
        self.walk(json, suspects)
    }

    /// [`Self::scan`] with a look at every token, for comparison: it takes several times as long.
    ///
    /// # Errors
    /// As [`Self::scan`].
    pub fn scan_everything<'b>(&self, json: &'b str) -> Result<Scanned<'b>, ScanError> {
        self.walk(json, Suspects::everywhere())
    }

    fn walk<'b>(&self, json: &'b str, suspects: Suspects) -> Result<Scanned<'b>, ScanError> {
        let mut walk = Walk::new(self, json, suspects);
        walk.document()?;
        Ok(walk.finish())
    }

    /// Applies the policy to text that travels outside the body, as in a header.
    #[must_use]
    pub fn text<'t>(&self, plain: &'t str) -> Cow<'t, str> {
        let mut units = Vec::new();
        units.extend(plain.char_indices().map(|(at, ch)| Unit { ch, start: at, end: at + ch.len_utf8() }));
        let hits = detect::find(&mut units, Hint::None, &self.policy);
        if hits.is_empty() {
            return Cow::Borrowed(plain);
        }
        let mut result = String::new();
        let mut copied = 0;
        for hit in &hits {
            let span = walk::bytes(&units, hit);
            result.push_str(plain.get(copied..span.start).unwrap_or_default());
            result.push_str(&self.replacement(hit));
            copied = span.end;
        }
        result.push_str(plain.get(copied..).unwrap_or_default());
        Cow::Owned(result)
    }

    /// Applies the policy to the client's address. Text that is no address is dropped, unless the policy
    /// keeps addresses: it came from a header that anybody can write.
    #[must_use]
    pub fn request_ip(&self, address: &str) -> Option<String> {
        let action = self.policy.action(Kind::Ip);
        if action == Action::Keep {
            return Some(address.to_owned());
        }
        if action == Action::Redact {
            return None;
        }
        let canonical = replace::parse_address(address)?.to_string();
        Some(replace::value(Kind::Ip, action, &canonical, &self.hash_key))
    }

    pub(crate) fn hash_key(&self) -> &HashKey {
        &self.hash_key
    }

    pub(crate) fn replacement(&self, hit: &Hit) -> String {
        replace::value(hit.kind, self.policy.action(hit.kind), &hit.canonical, &self.hash_key)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("jane@example.com".to_owned()),
            Just("+14155552671".to_owned()),
            Just("4111 1111 1111 1111".to_owned()),
            Just("203.0.113.7".to_owned()),
            Just("2001:db8::1".to_owned()),
            Just("1.1.1.1".to_owned()),
            Just("2026-11-24T00:00:00.744Z".to_owned()),
            Just("95dc970c-d7e1-417b-aea7-3a106064d364".to_owned()),
            "[0-9a-f]{1,9}",
            "[ .,@:+()/%\\\\_-]{1,3}",
            any::<String>().prop_map(|text| text.chars().take(4).collect()),
        ];
        prop::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_look_at_the_suspects_finds_what_a_look_at_everything_finds(
            key in prop_oneof![Just("phone".to_owned()), Just("ip".to_owned()), Just("x".to_owned()), text()],
            value in prop_oneof![
                text().prop_map(serde_json::Value::from),
                any::<u64>().prop_map(serde_json::Value::from),
                (0..9_999_999_999_u64).prop_map(serde_json::Value::from),
            ],
            other in text(),
            space in " {0,20}",
        ) {
            let name = serde_json::Value::from(key);
            let other = serde_json::Value::from(other);
            let json = format!("{{{space}{name}:{space}{value}{space},\"a\":[{other},{space}{value}{space}]}}");
            let scanner = Scanner::new(Policy::mask_all(), HashKey::derive(&[1; 32]));
            let everything = scanner.scan_everything(&json).unwrap();
            prop_assert_eq!(&scanner.scan_valid(&json).unwrap(), &everything);
            prop_assert_eq!(&scanner.scan(json.as_bytes()).unwrap(), &everything);
        }
    }
}
