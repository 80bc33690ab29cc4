//! Who the client is: the peer, or whom the proxies in front say that they have seen.
//!
//! Anybody can write an `X-Forwarded-For`. It counts only when the peer is one of the `trusted_proxies`,
//! and then from its right end: each proxy appends whom it has seen, so the first address from the right
//! that is no trusted proxy is the last one that somebody trusted has seen with their own eyes. RudderStack
//! takes the first address from the left, which is whatever the client has written.

use std::net::{IpAddr, SocketAddr};

use hyper::header::HeaderMap;
use ipnet::IpNet;

/// Networks whose machines are believed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Proxies(Vec<IpNet>);

impl Proxies {
    pub(crate) fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// The client's address.
    pub(crate) fn client(&self, headers: &HeaderMap, peer: SocketAddr) -> IpAddr {
        let mut client = peer.ip().to_canonical();
        if self.0.is_empty() {
            return client;
        }
        let values = headers.get_all("x-forwarded-for").iter().rev();
        let hops = values.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
        for hop in hops {
            if !self.trusts(client) {
                break;
            }
            // What is no address hides whatever stands to its left.
            let Some(address) = address(hop) else { break };
            client = address;
        }
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// An address, with a port as some proxies write it, or without.
fn address(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop.trim_ascii()).ok()?;
    let address = text.parse().or_else(|_| text.parse::<SocketAddr>().map(|with_port| with_port.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_the_right_most_hop_that_is_not_trusted() {
        let trusted = || vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        for (networks, peer, forwarded, expected) in [
            // Without trusted proxies, and from anybody else, the header says nothing.
            (vec![], "10.0.0.1:5000", &["203.0.113.7"][..], "10.0.0.1"),
            (trusted(), "192.0.2.1:5000", &["203.0.113.7"], "192.0.2.1"),
            (trusted(), "[::ffff:192.0.2.1]:5000", &[], "192.0.2.1"),
            // One proxy, several, an address that the client has made up, and several headers.
            (trusted(), "10.0.0.1:5000", &["203.0.113.7"], "203.0.113.7"),
            (trusted(), "[::ffff:10.0.0.1]:5000", &[" 203.0.113.7 ,10.0.0.2, 10.0.0.3"], "203.0.113.7"),
            (trusted(), "10.0.0.1:5000", &["1.1.1.1, 203.0.113.7, 10.0.0.2"], "203.0.113.7"),
            (trusted(), "10.0.0.1:5000", &["1.1.1.1", "203.0.113.7, 10.0.0.2"], "203.0.113.7"),
            (trusted(), "[fd00::1]:5000", &["2001:db8::1"], "2001:db8::1"),
            // With ports.
            (trusted(), "10.0.0.1:5000", &["203.0.113.7:4711"], "203.0.113.7"),
            (trusted(), "10.0.0.1:5000", &["[2001:db8::1]:4711"], "2001:db8::1"),
            // Everybody is trusted: the first.
            (trusted(), "10.0.0.1:5000", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            // No address, no client beyond it.
            (trusted(), "10.0.0.1:5000", &["203.0.113.7, unknown, 10.0.0.2"], "10.0.0.2"),
            (trusted(), "10.0.0.1:5000", &[""], "10.0.0.1"),
            (trusted(), "10.0.0.1:5000", &["jane@example.com"], "10.0.0.1"),
        ] {
            let mut headers = HeaderMap::new();
            for value in forwarded {
                headers.append("x-forwarded-for", value.parse().unwrap());
            }
            let client = Proxies::new(networks.clone()).client(&headers, peer.parse().unwrap());
            assert_eq!(client.to_string(), expected, "{networks:?} {peer} {forwarded:?}");
        }
    }
}
