//! Which source a request belongs to.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{self, HeaderMap};
use hyper::http::request::Parts;
use millrace_event_model::topics::{EVENTS, TopicName};
use millrace_event_model::{Event, KeyHasher, PartitionKey, Workspace};

use crate::envelope::Rules;
use crate::error::Refusal;
use crate::metrics::Counters;
use crate::routes::KeyIn;
use crate::{IngestError, SourceOptions};

/// A source, ready to receive.
pub(crate) struct Source {
    pub(crate) rules: Rules,
    pub(crate) enabled: bool,
    pub(crate) topic: TopicName<Event>,
    pub(crate) counters: Counters,
}

/// The sources by write key. A key is held and looked up as a hash under the workspace's key: how long a
/// look-up takes then says nothing about any valid key, and no key is in memory to leak.
pub(crate) struct Sources {
    sources: Vec<Arc<Source>>,
    by_key: HashMap<PartitionKey, usize>,
    hasher: KeyHasher,
}

impl Sources {
    pub(crate) fn new(
        options: Vec<SourceOptions>,
        workspace: &Workspace,
        hasher: KeyHasher,
    ) -> Result<Self, IngestError> {
        let mut sources: Vec<Arc<Source>> = Vec::new();
        let mut by_key: HashMap<PartitionKey, usize> = HashMap::new();
        for option in options {
            let index = sources.len();
            for key in &option.write_keys {
                let hash = hash(&hasher, key.expose());
                let taken = by_key.insert(hash, index).and_then(|other| sources.get(other));
                if let Some(other) = taken {
                    return Err(IngestError::SharedWriteKey(other.rules.id.clone(), option.id));
                }
            }
            // A policy that keeps everything needs no scan.
            let scanner = option.scanner.filter(|scanner| !scanner.policy().keeps_all());
            sources.push(Arc::new(Source {
                topic: EVENTS.lane(workspace, &option.lane),
                enabled: option.enabled,
                counters: Counters::new(&option.id),
                rules: Rules { id: option.id, scanner, policy_version: option.policy_version },
            }));
        }
        Ok(Self { sources, by_key, hasher })
    }

    /// The full name of a topic that some source writes to.
    pub(crate) fn any_topic(&self) -> Option<String> {
        self.sources.first().map(|source| source.topic.as_str().to_owned())
    }

    pub(crate) fn authenticate(&self, key_in: KeyIn, head: &Parts) -> Result<Arc<Source>, Refusal> {
        let key = match key_in {
            KeyIn::Basic => write_key(&head.headers),
        };
        let key = key.ok_or(Refusal::NoWriteKey)?;
        let index = self.by_key.get(&hash(&self.hasher, &key)).ok_or(Refusal::UnknownWriteKey)?;
        let source = self.sources.get(*index).ok_or(Refusal::UnknownWriteKey)?;
        if !source.enabled {
            return Err(Refusal::SourceDisabled);
        }
        Ok(Arc::clone(source))
    }
}

fn hash(hasher: &KeyHasher, key: &str) -> PartitionKey {
    hasher.row("write-key", key.as_bytes())
}

/// The user name of Basic authentication; the password is ignored.
fn write_key(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, credentials) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(credentials).ok()?).ok()?;
    let (user, _password) = decoded.split_once(':')?;
    (!user.is_empty()).then(|| user.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_write_key_is_the_user_of_basic_authentication() {
        for (value, expected) in [
            ("Basic V0s6", Some("WK")),
            ("basic V0s6", Some("WK")),
            ("BASIC V0s6cGFzcw==", Some("WK")),
            ("Basic Og==", None),
            ("Basic V0s=", None),
            ("Basic !!!!", None),
            ("Basic ", None),
            ("Basic", None),
            ("Bearer V0s6", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            assert_eq!(write_key(&headers).as_deref(), expected, "{value}");
        }
        assert_eq!(write_key(&HeaderMap::new()), None);
    }
}
