//! The SSRF guard: which addresses a destination may be sent to.
//!
//! A destination's URL comes from a config that not everyone may read the network of. So addresses that
//! lead inside are refused. The check sits in the resolver of the very connection that is made: whoever
//! looks a name up first, checks it, and then dials the *name* is beaten by a name that answers twice
//! differently. A literal address in a URL never sees a resolver and is checked by [`check_literal`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// The address is not one that the internet reaches.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "host {host:?} has the address {address} ({range}), which destinations may not reach; if it is meant, set allow_private: true"
)]
pub(crate) struct AddressRefused {
    host: String,
    address: IpAddr,
    range: &'static str,
}

/// Checks the host of a URL where it is an address, as the URL parser wrote it: decimal, octal and
/// hexadecimal spellings are dotted quads by then.
///
/// # Errors
/// The address is special.
pub(crate) fn check_literal(host: &str) -> Result<(), AddressRefused> {
    let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() else { return Ok(()) };
    match special_range(address) {
        Some(range) => Err(AddressRefused { host: host.to_owned(), address, range }),
        None => Ok(()),
    }
}

/// A resolver that gives out public addresses alone.
pub(crate) struct GuardedResolver {
    /// Gives out all.
    pub(crate) allow_private: bool,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            // The connector puts the URL's port in place of 0.
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?.collect::<Vec<_>>();
            if allow_private {
                return Ok(Box::new(found.into_iter()) as Addrs);
            }
            Ok(Box::new(public_only(name.as_str(), found)?.into_iter()) as Addrs)
        })
    }
}

/// The public ones among the addresses of a host.
fn public_only(host: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, AddressRefused> {
    let mut public = Vec::with_capacity(found.len());
    let mut refused = None;
    for candidate in found {
        match special_range(candidate.ip()) {
            Some(range) => {
                refused = Some(AddressRefused { host: host.to_owned(), address: candidate.ip(), range });
            }
            None => public.push(candidate),
        }
    }
    match refused {
        Some(refusal) if public.is_empty() => Err(refusal),
        _ => Ok(public),
    }
}

/// The special range that an address lies in; `None` for what the internet reaches.
fn special_range(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => special_v4(v4),
        // An IPv6 address that carries an IPv4 one is as special as that one.
        IpAddr::V6(v6) => match carried_v4(v6) {
            Some(v4) => special_v4(v4),
            None => find(u128::from(v6), 128, V6),
        },
    }
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
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use reqwest::Url;

    use super::*;

    fn refused(url_host: &str) -> bool {
        let url = Url::parse(&format!("http://{url_host}/")).unwrap();
        check_literal(url.host_str().unwrap()).is_err()
    }

    /// Hosts as someone who means harm spells them; the URL parser has its say first, as in the service.
    #[test]
    fn what_leads_inside_is_refused_however_it_is_spelled() {
        let inside = "
            0.0.0.0 0.1.2.3 10.0.0.0 10.255.255.255 100.64.0.0 100.127.255.255 127.0.0.1 127.255.255.254
            168.63.129.16 169.254.0.1 169.254.169.254 172.16.0.0 172.31.255.255 192.0.0.1 192.0.0.192
            192.0.2.1 192.31.196.1 192.52.193.1 192.88.99.1 192.168.0.0 192.168.255.255 192.175.48.1
            198.18.0.0 198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1 239.255.255.255 240.0.0.1
            255.255.255.255
            2130706433 0x7f000001 0x7f.0.0.1 017700000001 0177.0.0.1 127.1 127.0.1 0 0x0 3232235521
            2852039166 0xa9fea9fe 0251.0376.0251.0376 10.1 192.168.1 %31%32%37.0.0.1 127。0。0。1 ①②⑦.0.0.1
            [::] [::1] [0:0:0:0:0:0:0:1] [::127.0.0.1] [::ffff:127.0.0.1] [::ffff:7f00:1] [::ffff:10.0.0.1]
            [::ffff:169.254.169.254] [0:0:0:0:0:ffff:c0a8:1] [::ffff:0:10.0.0.1] [64:ff9b::127.0.0.1]
            [64:ff9b::a00:1] [64:ff9b:1::1] [2002:7f00:1::] [2002:a00:1::1] [2002:c0a8:101::]
            [2002:a9fe:a9fe::] [2001::1] [2001:0:4136:e378:8000:63bf:3fff:fdd2] [2001:10::1] [2001:db8::1]
            [3fff::1] [5f00::1] [100::1] [fc00::1] [fd00:ec2::254] [fdff::1] [fe80::1] [febf::1] [fec0::1]
            [ff02::1] [ff0e::1]
        ";
        let hosts = inside.split_whitespace().collect::<Vec<_>>();
        assert!(hosts.len() >= 80, "{}", hosts.len());
        for host in hosts {
            assert!(refused(host), "{host}");
        }
    }

    #[test]
    fn what_the_internet_reaches_is_let_through() {
        let outside = "
            1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1
            168.63.129.15 169.253.255.255 172.15.255.255 172.32.0.0 192.0.1.1 192.167.255.255 192.169.0.0
            198.17.255.255 198.20.0.0 223.255.255.255 134744072 [2606:4700:4700::1111] [2001:4860:4860::8888]
            [2001:200::1] [2003::1] [::ffff:8.8.8.8] [64:ff9b::8.8.8.8] [2002:808:808::1] [2a00::1]
            example.com
        ";
        for host in outside.split_whitespace() {
            assert!(!refused(host), "{host}");
        }
    }

    #[test]
    fn a_name_with_inner_and_public_addresses_gives_only_the_public() {
        let addresses = |list: &[&str]| list.iter().map(|a| a.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let mixed = addresses(&["10.0.0.1:0", "8.8.8.8:0", "[::1]:0"]);
        assert_eq!(public_only("h", mixed).unwrap(), addresses(&["8.8.8.8:0"]));
        let error = public_only("h", addresses(&["10.0.0.1:0", "127.0.0.1:0"])).unwrap_err();
        assert!(error.to_string().contains("127.0.0.1 (loopback)"), "{error}");
    }

    #[tokio::test]
    async fn the_resolver_of_the_connection_refuses_too() {
        let resolve = |allow_private| GuardedResolver { allow_private }.resolve("localhost".parse().unwrap());
        let Err(error) = resolve(false).await else { unreachable!("localhost is inside") };
        assert!(error.downcast_ref::<AddressRefused>().is_some());
        assert!(resolve(true).await.unwrap().count() > 0);
    }
}
