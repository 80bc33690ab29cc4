//! Which source a request belongs to.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{self, HeaderMap};
use hyper::http::request::Parts;
use millrace_event_model::topics::{EVENTS, TopicName};
use millrace_event_model::{DestinationId, Event, KeyHasher, PartitionKey, Workspace};
use serde::Deserialize;
use url::form_urlencoded;

use crate::envelope::Rules;
use crate::error::Refusal;
use crate::metrics::Counters;
use crate::rate::{Bucket, Counted};
use crate::routes::{Entry, KeyIn};
use crate::{IngestError, SourceOptions};

/// A source, ready to receive.
pub(crate) struct Source {
    pub(crate) rules: Rules,
    pub(crate) enabled: bool,
    pub(crate) topic: TopicName<Event>,
    pub(crate) counters: Counters,
    /// Of kind webhook.
    webhook: bool,
    /// It takes the events of another source again.
    replay: bool,
    /// How much it may send.
    bucket: Option<Bucket>,
    /// The pages that may send; none named: all.
    origins: Vec<String>,
    /// What it is connected to, and whether that is on.
    destinations: Vec<(DestinationId, bool)>,
}

impl Source {
    /// Whether it is on, and takes requests from this page.
    fn admits(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        if !self.enabled {
            return Err(Refusal::SourceDisabled);
        }
        let origin = headers.get(header::ORIGIN).filter(|_| !self.origins.is_empty());
        if origin.is_some_and(|origin| !self.origins.iter().any(|allowed| allowed == origin)) {
            return Err(Refusal::ForeignOrigin);
        }
        Ok(())
    }

    /// Counts against its rate limit.
    pub(crate) fn take(&self, counted: Counted, count: usize) -> Result<(), Refusal> {
        self.bucket.as_ref().map_or(Ok(()), |bucket| bucket.take(counted, count))
    }

    /// A destination that the request names is one of this source's.
    fn sends_to(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(named) = headers.get(DESTINATION_ID).filter(|id| !id.is_empty()) else { return Ok(()) };
        let found = self.destinations.iter().find(|(id, _)| id.as_str() == named);
        match found {
            None => Err(Refusal::UnknownDestination),
            Some((_, false)) => Err(Refusal::DestinationDisabled),
            Some((_, true)) => Ok(()),
        }
    }
}

const SOURCE_ID: &str = "x-rudder-source-id";
const DESTINATION_ID: &str = "x-rudder-destination-id";

/// The sources by write key. A key is held and looked up as a hash under the workspace's key: how long a
/// look-up takes then says nothing about any valid key, since nobody outside can choose a hash that shares
/// its beginning with another; and no key is in memory to leak. A source that is off is found, and refused,
/// by the same steps as one that is on; like a key that nobody has, before anything of the body is read.
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
                rules: Rules {
                    id: option.id,
                    scanner,
                    policy_version: option.policy_version,
                    blocked: option.blocked,
                },
                webhook: option.webhook,
                replay: option.replay,
                bucket: option.rate_limit.map(Bucket::new),
                origins: option.origins,
                destinations: option.destinations,
            }));
        }
        Ok(Self { sources, by_key, hasher })
    }

    /// The full name of a topic that some source writes to.
    pub(crate) fn any_topic(&self) -> Option<String> {
        self.sources.first().map(|source| source.topic.as_str().to_owned())
    }

    /// The source of a request that may send to it.
    pub(crate) fn authenticate(&self, entry: &Entry, head: &Parts) -> Result<Arc<Source>, Refusal> {
        let (_, source) = self.find(entry, head)?;
        source.admits(&head.headers)?;
        if entry.key == KeyIn::ReplaySourceId && !source.replay {
            return Err(Refusal::NotAReplay);
        }
        if entry.key == KeyIn::SourceId {
            source.sends_to(&head.headers)?;
        }
        Ok(source)
    }

    /// The source of a request whose write key is in its body.
    pub(crate) fn authenticate_body(&self, body: &[u8], head: &Parts) -> Result<Arc<Source>, Refusal> {
        let source = self.of_key(&key_in_body(body).ok_or(Refusal::NoWriteKey)?)?;
        source.admits(&head.headers)?;
        Ok(source)
    }

    /// The source that a request names, be it on or off, and by which key.
    pub(crate) fn find(&self, entry: &Entry, head: &Parts) -> Result<(String, Arc<Source>), Refusal> {
        let basic = || basic_user(&head.headers);
        let query = || key_in_query(head.uri.query()?);
        let key = match entry.key {
            KeyIn::Nothing | KeyIn::Basic | KeyIn::BasicOrBody => basic().ok_or(Refusal::NoWriteKey)?,
            KeyIn::Query => query().ok_or(Refusal::NoWriteKeyInQuery)?,
            KeyIn::BasicOrQuery => basic().or_else(query).ok_or(Refusal::NoWriteKey)?,
            KeyIn::Webhook => query().or_else(basic).ok_or(Refusal::NoWriteKeyInQuery)?,
            KeyIn::Path => entry.key_of(head.uri.path()).ok_or(Refusal::UnknownWriteKey)?.to_owned(),
            KeyIn::SourceId | KeyIn::ReplaySourceId => return self.of_id(&head.headers),
        };
        let source = self.of_key(&key)?;
        if entry.key == KeyIn::Webhook && !source.webhook {
            return Err(Refusal::UnknownWriteKey);
        }
        Ok((key, source))
    }

    fn of_key(&self, key: &str) -> Result<Arc<Source>, Refusal> {
        let index = self.by_key.get(&hash(&self.hasher, key)).ok_or(Refusal::UnknownWriteKey)?;
        self.sources.get(*index).map(Arc::clone).ok_or(Refusal::UnknownWriteKey)
    }

    fn of_id(&self, headers: &HeaderMap) -> Result<(String, Arc<Source>), Refusal> {
        let named = headers.get(SOURCE_ID).filter(|id| !id.is_empty()).ok_or(Refusal::NoSourceId)?;
        let found = self.sources.iter().find(|source| source.rules.id.as_str() == named);
        let source = found.ok_or(Refusal::UnknownSource)?;
        Ok((source.rules.id.to_string(), Arc::clone(source)))
    }
}

fn hash(hasher: &KeyHasher, key: &str) -> PartitionKey {
    hasher.row("write-key", key.as_bytes())
}

fn key_in_query(query: &str) -> Option<String> {
    let mut parameters = form_urlencoded::parse(query.as_bytes());
    let (_, key) = parameters.find(|(name, _)| name == "writeKey")?;
    (!key.is_empty()).then(|| key.into_owned())
}

/// Segment's libraries write their key into the body as well.
fn key_in_body(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Keyed {
        #[serde(rename = "writeKey")]
        write_key: Option<String>,
    }
    let keyed: Keyed = serde_json::from_slice(body).ok()?;
    keyed.write_key.filter(|key| !key.is_empty())
}

/// The user name of Basic authentication; the password is ignored.
fn basic_user(headers: &HeaderMap) -> Option<String> {
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
            assert_eq!(basic_user(&headers).as_deref(), expected, "{value}");
        }
        assert_eq!(basic_user(&HeaderMap::new()), None);
    }
    #[test]
    fn the_write_key_may_stand_in_the_query_or_the_body() {
        assert_eq!(key_in_query("a=1&writeKey=W%2BK&writeKey=x").as_deref(), Some("W+K"));
        assert_eq!(key_in_query("writeKey=").as_deref(), None);
        assert_eq!(key_in_query("writekey=WK").as_deref(), None);
        for (body, expected) in [
            (r#"{"batch":[{"writeKey":"inner"}],"writeKey":"WK"}"#, Some("WK")),
            (r#"{"batch":[{"writeKey":"inner"}]}"#, None),
            (r#"{"writeKey":12}"#, None),
            (r#"{"writeKey":""}"#, None),
            ("", None),
        ] {
            assert_eq!(key_in_body(body.as_bytes()).as_deref(), expected, "{body}");
        }
    }
}
