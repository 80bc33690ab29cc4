//! The SSRF guard: which addresses a destination may be sent to.
//!
//! A destination's URL comes from a config that not everyone may read the network of. So addresses that
//! lead inside are refused, unless [`Private`] opens them. The check sits in the resolver of the very
//! connection that is made: whoever looks a name up first, checks it, and then dials the *name* is beaten by
//! a name that answers twice differently (DNS rebinding). A literal address in a URL never sees a resolver and
//! is checked by [`check_literal`].

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

/// The address is not one that the internet reaches.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "host {host:?} has the address {address} ({range}), which destinations may not reach; if it is meant, set allow_private: true among the destination's settings, or to a list with its network"
)]
pub(crate) struct AddressRefused {
    host: String,
    address: IpAddr,
    range: &'static str,
}

/// Which of the addresses that the internet does not reach may be reached all the same: `true` for all,
/// or a list of networks such as `["10.1.0.0/16", "fd00::/8"]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "Value")]
#[schemars(with = "AllOrNetworks", inline)]
pub struct Private(Opened);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Opened {
    All,
    Networks(Vec<IpNet>),
}

/// How [`Private`] is written.
#[derive(JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
#[expect(dead_code, reason = "only its schema is used")]
enum AllOrNetworks {
    All(bool),
    Networks(Vec<String>),
}

impl Default for Private {
    fn default() -> Self {
        Self::none()
    }
}

impl Private {
    /// None: what every destination has that does not say otherwise.
    #[must_use]
    pub fn none() -> Self {
        Self(Opened::Networks(Vec::new()))
    }

    /// All of them.
    #[must_use]
    pub fn all() -> Self {
        Self(Opened::All)
    }

    fn opens(&self, address: IpAddr) -> bool {
        match &self.0 {
            Opened::All => true,
            Opened::Networks(networks) => networks.iter().any(|network| network.contains(&address)),
        }
    }

    /// The range that keeps an address out.
    fn refuses(&self, address: IpAddr) -> Option<&'static str> {
        special_range(address).filter(|_| !self.opens(address))
    }
}

impl TryFrom<Value> for Private {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        const FORM: &str = "allow_private: expected true, false or a list of networks such as 10.1.0.0/16";
        match value {
            Value::Bool(true) => Ok(Self::all()),
            Value::Bool(false) => Ok(Self::none()),
            Value::Array(networks) => {
                let network = |text: &Value| text.as_str()?.parse().ok();
                let parsed = networks.iter().map(network).collect::<Option<_>>();
                parsed.map(|networks| Self(Opened::Networks(networks))).ok_or_else(|| FORM.to_owned())
            }
            _ => Err(FORM.to_owned()),
        }
    }
}

/// Checks the host of a URL where it is an address, as the URL parser wrote it: decimal, octal and
/// hexadecimal spellings are dotted quads by then.
///
/// # Errors
/// The address is special and not opened.
pub(crate) fn check_literal(host: &str, private: &Private) -> Result<(), AddressRefused> {
    let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() else { return Ok(()) };
    match private.refuses(address) {
        Some(range) => Err(AddressRefused { host: host.to_owned(), address, range }),
        None => Ok(()),
    }
}

type Found = Pin<Box<dyn Future<Output = std::io::Result<Vec<SocketAddr>>> + Send>>;

/// A resolver that gives out the addresses alone that may be reached; those are then dialled.
pub(crate) struct GuardedResolver {
    private: Private,
    /// Looks a name up; the system does it, but in tests.
    lookup: Arc<dyn Fn(String) -> Found + Send + Sync>,
}

impl GuardedResolver {
    pub(crate) fn new(private: Private) -> Self {
        let lookup = |name: String| -> Found {
            Box::pin(async move {
                // The connector puts the URL's port in place of 0.
                Ok(tokio::net::lookup_host((name.as_str(), 0)).await?.collect())
            })
        };
        Self { private, lookup: Arc::new(lookup) }
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let private = self.private.clone();
        let found = (self.lookup)(name.as_str().to_owned());
        Box::pin(async move {
            Ok(Box::new(permitted(name.as_str(), found.await?, &private)?.into_iter()) as Addrs)
        })
    }
}

/// Those of a host's addresses that may be reached.
fn permitted(
    host: &str,
    found: Vec<SocketAddr>,
    private: &Private,
) -> Result<Vec<SocketAddr>, AddressRefused> {
    let mut open = Vec::with_capacity(found.len());
    let mut refused = None;
    for candidate in found {
        match private.refuses(candidate.ip()) {
            Some(range) => {
                refused = Some(AddressRefused { host: host.to_owned(), address: candidate.ip(), range });
            }
            None => open.push(candidate),
        }
    }
    match refused {
        Some(refusal) if open.is_empty() => Err(refusal),
        _ => Ok(open),
    }
}

/// The special range that an address lies in; `None` for what the internet reaches.
fn special_range(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => special_v4(v4),
        // An IPv6 address that carries an IPv4 one is as special as that one.
        IpAddr::V6(v6) => match carried_v4(v6) {
            Some(v4) => special_v4(v4),
            None => find(u128::from(v6), 128, V6).or_else(|| outside_unicast(v6)),
        },
    }
}

/// All of the internet's IPv6 is in `2000::/3`; what IANA gives out elsewhere one day is inside until then.
fn outside_unicast(address: Ipv6Addr) -> Option<&'static str> {
    let [first, ..] = address.segments();
    (first & 0xe000 != 0x2000).then_some("not global unicast")
}

fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    find(u128::from(u32::from(address)), 32, V4)
}

fn find(address: u128, bits: u32, ranges: &[(u128, u32, &'static str)]) -> Option<&'static str> {
    let within = |network: u128, prefix: u32| (address ^ network) >> (bits - prefix) == 0;
    ranges.iter().find(|(network, prefix, _)| within(*network, *prefix)).map(|(_, _, name)| *name)
}

/// The IPv4 address inside an IPv6 one: mapped, translated (SIIT, NAT64) or 6to4. A NAT64 network reaches the
/// whole public internet that way, so those ranges are not refused as such.
fn carried_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let quad = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0xffff) | (0, 0, 0, 0, 0xffff, 0) | (0x64, 0xff9b, 0, 0, 0, 0) => Some(quad(g, h)),
        (0x2002, high, low, ..) => Some(quad(high, low)),
        _ => None,
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8) -> u128 {
    u32::from_be_bytes([a, b, c, d]) as u128
}

const fn v6(first: u16, second: u16, third: u16) -> u128 {
    ((first as u128) << 112) | ((second as u128) << 96) | ((third as u128) << 80)
}

/// IANA's special-purpose registry of IPv4, and the address inside Azure that serves credentials.
const V4: &[(u128, u32, &str)] = &[
    (v4(0, 0, 0, 0), 8, "this network"),
    (v4(10, 0, 0, 0), 8, "private"),
    (v4(100, 64, 0, 0), 10, "carrier-grade NAT"),
    (v4(127, 0, 0, 0), 8, "loopback"),
    (v4(168, 63, 129, 16), 32, "cloud platform"),
    (v4(169, 254, 0, 0), 16, "link-local, cloud metadata"),
    (v4(172, 16, 0, 0), 12, "private"),
    (v4(192, 0, 0, 0), 24, "protocol assignments"),
    (v4(192, 0, 2, 0), 24, "documentation"),
    (v4(192, 31, 196, 0), 24, "AS112"),
    (v4(192, 52, 193, 0), 24, "multicast tunnelling"),
    (v4(192, 88, 99, 0), 24, "6to4 relay"),
    (v4(192, 168, 0, 0), 16, "private"),
    (v4(192, 175, 48, 0), 24, "AS112"),
    (v4(198, 18, 0, 0), 15, "benchmarking"),
    (v4(198, 51, 100, 0), 24, "documentation"),
    (v4(203, 0, 113, 0), 24, "documentation"),
    (v4(224, 0, 0, 0), 4, "multicast"),
    (v4(240, 0, 0, 0), 4, "reserved, broadcast"),
];

/// IANA's special-purpose registry of IPv6.
const V6: &[(u128, u32, &str)] = &[
    // Unspecified, loopback, and the deprecated IPv4-compatible form.
    (0, 96, "loopback, unspecified"),
    (v6(0x64, 0xff9b, 1), 48, "local NAT64"),
    (v6(0x100, 0, 0), 64, "discard"),
    // Teredo and ORCHID among them.
    (v6(0x2001, 0, 0), 23, "protocol assignments"),
    (v6(0x2001, 0xdb8, 0), 32, "documentation"),
    (v6(0x3fff, 0, 0), 20, "documentation"),
    (v6(0x5f00, 0, 0), 16, "segment routing"),
    (v6(0xfc00, 0, 0), 7, "private"),
    (v6(0xfe80, 0, 0), 10, "link-local"),
    (v6(0xfec0, 0, 0), 10, "site-local"),
    (v6(0xff00, 0, 0), 8, "multicast"),
];

#[cfg(test)]
mod tests;
