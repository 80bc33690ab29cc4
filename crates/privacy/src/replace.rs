//! What stands in the place of a value that was found.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::{Action, Kind};

/// The key of [`Action::Hash`]. Without one, all telephone numbers can be tried in minutes.
#[derive(Clone)]
pub struct HashKey([u8; 32]);

impl HashKey {
    /// A key of its own from the workspace's key, so that no hash in an event can be compared with a
    /// partition key.
    #[must_use]
    pub fn derive(workspace_key: &[u8; 32]) -> Self {
        Self(blake3::derive_key("millrace 2026 privacy pseudonyms v1", workspace_key))
    }
}

impl std::fmt::Debug for HashKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HashKey(***)")
    }
}

/// Says which hash this is, so that another can follow it.
const HASH_PREFIX: &str = "h1_";

/// 128 bits: two values of a workspace never share one.
const HASH_BYTES: usize = 16;

/// The text for a value, from its canonical spelling. It holds nothing that JSON would escape, and
/// nothing that the scanner would find again.
pub(crate) fn value(kind: Kind, action: Action, canonical: &str, key: &HashKey) -> String {
    match action {
        Action::Keep => canonical.to_owned(),
        Action::Redact => format!("[{kind}]"),
        Action::Hash => hash(kind, canonical, key),
        Action::Truncate => truncated(canonical),
        Action::Mask => match kind {
            Kind::Email => masked_address(canonical),
            Kind::Phone => format!("[phone *{}]", last(canonical, 2)),
            Kind::Card => format!("[card *{}]", last(canonical, 4)),
            Kind::Ip => truncated(canonical),
        },
    }
}

/// Where in an object's key a value stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InKey {
    /// The value is the whole key.
    pub(crate) whole: bool,
    /// How many of its kind the document's keys have had, this one included.
    pub(crate) ordinal: u32,
}

/// The text for a value inside an object's key. Two keys of one object must stay two, and a key becomes a
/// column's name: `masked_email`, `masked_email_2`; within a longer key `[email]`, `[email 2]`.
pub(crate) fn key(kind: Kind, action: Action, canonical: &str, hash_key: &HashKey, place: InKey) -> String {
    match (action, place) {
        (Action::Keep | Action::Hash, _) => value(kind, action, canonical, hash_key),
        (_, InKey { whole: true, ordinal: 1 }) => format!("masked_{kind}"),
        (_, InKey { whole: true, ordinal }) => format!("masked_{kind}_{ordinal}"),
        (_, InKey { whole: false, ordinal: 1 }) => format!("[{kind}]"),
        (_, InKey { whole: false, ordinal }) => format!("[{kind} {ordinal}]"),
    }
}

fn hash(kind: Kind, canonical: &str, key: &HashKey) -> String {
    // HMAC takes a key of any length; an empty tag cannot come up.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&key.0) else { return format!("[{kind}]") };
    mac.update(kind.as_str().as_bytes());
    mac.update(b"\0");
    mac.update(canonical.as_bytes());
    let tag = mac.finalize().into_bytes();
    format!("{HASH_PREFIX}{}", hex::encode(tag.get(..HASH_BYTES).unwrap_or_default()))
}

/// `jane@example.com` becomes `j***@e***.com`. A first letter is shown only where more letters follow.
fn masked_address(address: &str) -> String {
    let (local, domain) = address.rsplit_once('@').unwrap_or((address, ""));
    let (name, top_level) = domain.rsplit_once('.').unwrap_or((domain, ""));
    let initial = |text: &str| {
        let first = text.chars().next().filter(|ch| ch.is_ascii_alphabetic() && text.len() >= 3);
        first.map_or(String::new(), String::from)
    };
    let top_level = if top_level.chars().all(|ch| ch.is_ascii_alphabetic()) { top_level } else { "***" };
    format!("{}***@{}***.{top_level}", initial(local), initial(name))
}

fn last(digits: &str, count: usize) -> &str {
    digits.get(digits.len().saturating_sub(count)..).unwrap_or_default()
}

/// An address, with or without a port, in its canonical form.
pub(crate) fn parse_address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let address = text.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip()));
    address.ok().map(|address| address.to_canonical())
}

/// The network without the host: /24 and /48, the sizes that data protection authorities accept.
fn truncated(address: &str) -> String {
    match parse_address(address) {
        Some(IpAddr::V4(v4)) => {
            let [a, b, c, _] = v4.octets();
            Ipv4Addr::new(a, b, c, 0).to_string()
        }
        Some(IpAddr::V6(v6)) => {
            let [a, b, c, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).to_string()
        }
        None => format!("[{}]", Kind::Ip),
    }
}
