//! Names that users choose, and keys and ids that the system makes.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use compact_str::CompactString;
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A name was refused: it is part of topic names, group names, table names and paths.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid name {0:?}: use 1 to 63 of a-z, 0-9, '-' and '_', starting with a letter or digit")]
pub struct InvalidId(pub String);

/// The longest name. With the longest topic suffix two of them stay under Kafka's 249 characters.
const MAX_ID_LENGTH: usize = 63;

fn check_id(name: &str) -> Result<(), InvalidId> {
    let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if starts_well && name.len() <= MAX_ID_LENGTH && name.chars().all(allowed) {
        return Ok(());
    }
    Err(InvalidId(name.to_owned()))
}

fn check_connection(name: &str) -> Result<(), InvalidId> {
    let parts = name.split_once('@');
    let (of, job) = parts.map_or((name, None), |(of, job)| (of, Some(job)));
    if check_id(of).is_ok() && job.is_none_or(|job| check_id(job).is_ok()) {
        return Ok(());
    }
    Err(InvalidId(name.to_owned()))
}

/// A text that is only looked at, where the document lends it.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'t>(#[serde(borrow)] Cow<'t, str>);

/// One newtype per noun, so that a source's name cannot be handed to what wants a destination's. Names of 24 bytes or
/// fewer are made and cloned without an allocation.
macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        name_type! { $(#[$doc])* $name, check_id }
    };
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "Text<'_>", into = "String")]
        pub struct $name(CompactString);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(name: &str) -> Result<Self, InvalidId> {
                $check(name)?;
                Ok(Self(name.into()))
            }
        }

        impl TryFrom<Text<'_>> for $name {
            type Error = InvalidId;

            fn try_from(name: Text<'_>) -> Result<Self, InvalidId> {
                name.0.parse()
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(name: String) -> Result<Self, InvalidId> {
                name.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.as_str().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type! {
    /// The installation's name: the first part of every topic, group and state path, so that two share
    /// one cluster.
    Workspace
}
name_type! {
    /// Where events or records come from.
    SourceId
}
name_type! {
    /// One configured instance of a destination.
    DestinationId
}
name_type! {
    /// One configured warehouse or lake.
    WarehouseId
}
name_type! {
    /// From a source to a warehouse or a destination. The config gives it as `from` and `to`;
    /// its id is [`ConnectionId::between`] the two. A job on a connection has an id of its own, `<id>@<job>`,
    /// which no config can give.
    ConnectionId, check_connection
}
name_type! {
    /// A reverse ETL model with mapping and schedule.
    SyncId
}
name_type! {
    /// A topic of a source's own; see [`Lane::main`].
    Lane
}

impl ConnectionId {
    /// The id of the connection from `from` to `to`: `<from>--<to>`.
    ///
    /// # Errors
    /// The joined name is longer than 63 characters.
    pub fn between(from: &str, to: &str) -> Result<Self, InvalidId> {
        format!("{from}--{to}").parse()
    }

    /// The id under which a job on this connection loads: `<id>@<job>`. Positions, fence, seen ids and books of
    /// the two are apart.
    ///
    /// # Errors
    /// The job's name is not like other names.
    pub fn job(&self, job: &str) -> Result<ConnectionId, InvalidId> {
        check_id(job)?;
        format!("{}@{job}", self.connection()).parse()
    }

    /// The connection's own id: without the job, where it is a job's.
    #[must_use]
    pub fn connection(&self) -> &str {
        self.0.split_once('@').map_or(self.as_str(), |(connection, _)| connection)
    }

    /// The job's name, where it is a job's id.
    #[must_use]
    pub fn job_name(&self) -> Option<&str> {
        self.0.split_once('@').map(|(_, job)| job)
    }
}

impl Lane {
    /// The lane of every source that names no other.
    #[must_use]
    pub fn main() -> Self {
        Self("main".into())
    }
}

/// The id by which client retries of one event are recognised for 28 days. Any text the client sent, or
/// a UUID made at the door.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageId(pub String);

impl MessageId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// By which a receiver knows an item that it has already: stable over retries, restarts and replays, short, and safe
/// in a header. Its text is made where somebody wants it, which in a batch is mostly nobody.
#[derive(Debug, Clone)]
pub struct IdempotencyKey {
    text: CompactString,
    /// Comes behind a slash.
    hash: Option<[u8; 16]>,
}

impl IdempotencyKey {
    /// `<source>/<hash of the message id>`: the id itself is any text that a client sent.
    #[must_use]
    pub fn of_event(source: &SourceId, message_id: &MessageId) -> Self {
        let hash = blake3::hash(message_id.as_str().as_bytes());
        Self { text: source.0.clone(), hash: hash.as_bytes().first_chunk().copied() }
    }

    /// Of an event: the hash in it, which tells the events of one source apart.
    #[must_use]
    pub fn hash(&self) -> Option<[u8; 16]> {
        self.hash
    }
}

impl From<String> for IdempotencyKey {
    fn from(text: String) -> Self {
        Self { text: text.into(), hash: None }
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match self.hash {
            Some(hash) => write!(f, "/{}", hex::encode(hash)),
            None => Ok(()),
        }
    }
}

/// One try at reading a source: the epoch of the lease under which it ran, so the newer has the higher
/// number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AttemptId(pub u64);

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A Kafka record key: 16 bytes of a keyed hash. Order is promised per key, and no personal data can be
/// read from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionKey(pub [u8; 16]);

impl PartitionKey {
    /// Lower-case hexadecimal, 32 characters.
    #[must_use]
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }

    /// Reads what [`Self::to_hex`] wrote.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut key = [0_u8; 16];
        hex::decode_to_slice(text, &mut key).ok()?;
        Some(Self(key))
    }
}

impl Serialize for PartitionKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_hex())
    }
}

impl<'de> Deserialize<'de> for PartitionKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_hex(&text).ok_or_else(|| serde::de::Error::custom("a key is 32 hexadecimal digits"))
    }
}

/// Makes partition keys under the workspace's key, which never rotates: rotating it would break the
/// order of everything in flight.
#[derive(Clone)]
pub struct KeyHasher([u8; 32]);

/// What most keys are made of fits here; a longer one is put together on the heap.
const SHORT_KEY_INPUT: usize = 192;

impl KeyHasher {
    /// `workspace_key`: 32 random bytes made once per workspace and kept in its state.
    #[must_use]
    pub fn new(workspace_key: &[u8; 32]) -> Self {
        Self(*workspace_key)
    }

    /// The key of all events of one person: of their anonymousId, else their userId.
    #[must_use]
    pub fn person(&self, anonymous_id: &str, user_id: &str) -> PartitionKey {
        if anonymous_id.is_empty() {
            return self.parts(&[b"user", user_id.as_bytes()]);
        }
        self.parts(&[b"anonymous", anonymous_id.as_bytes()])
    }

    /// A user, for telling whether they are suppressed. Not [`Self::person`]'s key: whoever may read the
    /// suppressions should not find the same users' events by it.
    #[must_use]
    pub fn user(&self, user_id: &str) -> PartitionKey {
        self.parts(&[b"suppressed", user_id.as_bytes()])
    }

    /// The key of one row: of the stream or sync it belongs to and its primary key.
    #[must_use]
    pub fn row(&self, owner: &str, primary_key: &[u8]) -> PartitionKey {
        self.parts(&[b"row", owner.as_bytes(), primary_key])
    }

    /// Each part is preceded by its length, so that ("a", "bc") and ("ab", "c") differ.
    fn parts(&self, parts: &[&[u8]]) -> PartitionKey {
        let length: usize = parts.iter().map(|part| size_of::<u64>() + part.len()).sum();
        let mut short = [0; SHORT_KEY_INPUT];
        let mut long = Vec::new();
        let input = match short.get_mut(..length) {
            Some(input) => input,
            None => {
                long.resize(length, 0);
                long.as_mut_slice()
            }
        };
        let mut rest = &mut *input;
        for part in parts {
            // The input is as long as all parts with their lengths.
            let (size, after) = rest.split_at_mut(size_of::<u64>());
            size.copy_from_slice(&(part.len() as u64).to_le_bytes());
            let (bytes, after) = after.split_at_mut(part.len());
            bytes.copy_from_slice(part);
            rest = after;
        }
        let hash = blake3::keyed_hash(&self.0, input);
        let mut key = [0; 16];
        key.copy_from_slice(&hash.as_bytes()[..16]);
        PartitionKey(key)
    }
}

impl fmt::Debug for KeyHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHasher(***)")
    }
}

/// RudderStack's `rudderId`: MD5 of `userId:anonymousId` with the version and variant bits of a v4 UUID
/// (gateway protocol §4.3).
#[must_use]
pub fn rudder_id(user_id: &str, anonymous_id: &str) -> Uuid {
    let mut hasher = Md5::new();
    hasher.update(user_id.as_bytes());
    hasher.update(b":");
    hasher.update(anonymous_id.as_bytes());
    let mut digest: [u8; 16] = hasher.finalize().into();
    digest[6] = (digest[6] & 0x0f) | 0x40;
    digest[8] = (digest[8] & 0x3f) | 0x80;
    Uuid::from_bytes(digest)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_safe_in_topics_and_paths() {
        for good in ["web", "a", "0", "a-b_c9", &"x".repeat(63)] {
            assert!(good.parse::<SourceId>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "_a", "A", "a.b", "a/b", "é", "a b", &"x".repeat(64)] {
            assert!(bad.parse::<SourceId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_job_has_an_id_of_its_own_that_no_connection_of_a_config_can_have() {
        let connection = ConnectionId::between("web", "lake").unwrap();
        let job = connection.job("r-1").unwrap();
        assert_eq!(
            (job.as_str(), job.connection(), job.job_name()),
            ("web--lake@r-1", "web--lake", Some("r-1"))
        );
        assert_eq!((connection.connection(), connection.job_name()), ("web--lake", None));
        assert_eq!(job.job("r-2").unwrap().as_str(), "web--lake@r-2", "a job has no jobs");
        assert_eq!("web--lake@r-1".parse::<ConnectionId>().unwrap(), job);
        for bad in ["@r", "a@", "a@b@c", "a@B"] {
            assert!(bad.parse::<ConnectionId>().is_err(), "{bad}");
        }
        assert!("a@b".parse::<SourceId>().is_err());
        assert!(connection.job("").is_err());
    }

    #[test]
    fn a_person_has_one_key_whatever_the_user_id() {
        let hasher = KeyHasher::new(&[7; 32]);
        assert_eq!(hasher.person("anon", ""), hasher.person("anon", "user"));
        assert_ne!(hasher.person("", "x"), hasher.person("x", ""), "the two kinds of id do not collide");
        assert_ne!(hasher.person("", "x"), hasher.user("x"), "a suppression does not lead to the events");
        assert_ne!(KeyHasher::new(&[8; 32]).person("anon", ""), hasher.person("anon", ""));
        assert_ne!(hasher.row("a", b"bc"), hasher.row("ab", b"c"));
        assert_ne!(hasher.row("s", &[0; 300]), hasher.row("s", &[0; 301]));
    }

    #[test]
    fn a_rudder_id_is_the_one_that_rudderstack_makes() {
        for (user, anonymous, expected) in [
            ("u1", "a1", "f81ebcce-dafc-4607-b906-29e68e64b35f"),
            ("u1", "", "5eff0fc3-0944-48fa-9c04-38f62e3890ca"),
            ("", "a1", "b09c6e0b-7298-4c66-88e1-7af047315456"),
            ("user@example.com", "0190-abc", "9067d6c0-7c32-4a71-942b-0ac0a31792e4"),
        ] {
            assert_eq!(rudder_id(user, anonymous).to_string(), expected, "{user}:{anonymous}");
        }
    }

    #[test]
    fn a_key_is_for_ever() {
        // Another one would put the events of a person into another partition, and forget whom to forget.
        let hasher = KeyHasher::new(&[7; 32]);
        assert_eq!(hasher.person("anon", "").to_hex(), "ef795ebb46a9cbb24108ca02d731e33e");
        assert_eq!(hasher.row("s", &[1; 300]).to_hex(), "873853adcff17b3dcd76f5f9079404dc");
        assert_eq!(hasher.user("anon").to_hex(), "1777619fe4d0d8e15ea3c4bab5412bf0");
    }

    #[test]
    fn a_key_survives_hexadecimal() {
        let key = KeyHasher::new(&[1; 32]).row("s", b"k");
        assert_eq!(PartitionKey::from_hex(&key.to_hex()), Some(key));
        assert_eq!(PartitionKey::from_hex("abc"), None);
    }
}
