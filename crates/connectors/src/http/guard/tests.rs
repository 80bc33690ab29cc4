//! Hosts as someone who means harm spells them, and a name that changes its mind.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::Url;
use serde_json::json;
use tokio::net::TcpListener;

use super::*;

/// The first and the last address of each special range, and those that clouds serve credentials at.
const INSIDE_V4: &str = "
    0.0.0.0 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.0 100.127.255.255 127.0.0.0
    127.255.255.255 168.63.129.16 169.254.0.0 169.254.255.255 172.16.0.0 172.31.255.255 192.0.0.0
    192.0.0.255 192.0.2.0 192.0.2.255 192.31.196.0 192.31.196.255 192.52.193.0 192.52.193.255
    192.88.99.0 192.88.99.255 192.168.0.0 192.168.255.255 192.175.48.0 192.175.48.255 198.18.0.0
    198.19.255.255 198.51.100.0 198.51.100.255 203.0.113.0 203.0.113.255 224.0.0.0 239.255.255.255
    240.0.0.0 255.255.255.255 127.0.0.1 169.254.169.254 169.254.170.2 100.100.100.200 192.0.0.192
";

/// Addresses inside, in the spellings that URL parsers and libcs take.
const SPELLED: &str = "
    2130706433 0x7f000001 0x7f.0.0.1 017700000001 0177.0.0.1 127.1 127.0.1 0 0x0 3232235521
    2852039166 0xa9fea9fe 0251.0376.0251.0376 10.1 192.168.1 127.0.0.1. 0x7F.1 00.0.0.0
    %31%32%37.0.0.1 %30x7f.1 127。0。0。1 ①②⑦.0.0.1 １２７.0.0.1 0300.0250.1 0xA.1.1.1 017700000001.
    2886729729
";

/// The ends of the special ranges, IPv4 addresses inside IPv6 ones, and what lies outside `2000::/3`.
const INSIDE_V6: &str = "
    [::] [::1] [0:0:0:0:0:0:0:1] [::ffff:ffff] [::127.0.0.1] [::10.0.0.1] [::ffff:127.0.0.1]
    [::ffff:7f00:1] [::ffff:10.0.0.1] [::ffff:169.254.169.254] [0:0:0:0:0:ffff:c0a8:1] [::ffff:0:0]
    [::ffff:0:10.0.0.1] [::ffff:0:127.0.0.1] [64:ff9b::127.0.0.1] [64:ff9b::a00:1]
    [64:ff9b::169.254.169.254] [64:ff9b::192.168.1.1] [64:ff9b::100.64.0.1] [64:ff9b:1::]
    [64:ff9b:1::10.0.0.1] [64:ff9b:1:ffff:ffff:ffff:ffff:ffff] [64:ff9b:0:ffff:ffff:ffff:ffff:ffff]
    [64:ff9b:2::] [2002:7f00:1::] [2002:a00:1::1] [2002:c0a8:101::] [2002:a9fe:a9fe::]
    [2002:6440:1::] [100::] [100::ffff:ffff:ffff:ffff] [100:0:0:1::] [2001::]
    [2001:0:4136:e378:8000:63bf:3fff:fdd2] [2001:10::1] [2001:20::1]
    [2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff] [2001:db8::] [2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]
    [3fff::] [3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff] [4000::] [5eff:ffff::1] [5f00::]
    [5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff] [5f01::] [fbff:ffff::1] [fc00::] [fd00::1]
    [fd00:ec2::254] [fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff] [fe00::] [fe7f:ffff::1] [fe80::]
    [fe80::1] [febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff] [fec0::]
    [feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff] [ff00::] [ff02::1] [ff0e::1]
    [ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]
";

/// The neighbours of the special ranges, and known public addresses.
const OUTSIDE: &str = "
    1.0.0.0 1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255
    128.0.0.0 168.63.129.15 168.63.129.17 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0
    191.255.255.255 192.0.1.0 192.0.1.255 192.0.3.0 192.31.195.255 192.31.197.0 192.52.192.255
    192.52.194.0 192.88.98.255 192.88.100.0 192.167.255.255 192.169.0.0 192.175.47.255 192.175.49.0
    198.17.255.255 198.20.0.0 198.51.99.255 198.51.101.0 203.0.112.255 203.0.114.0 223.255.255.255
    134744072 0x8080808 010.010.010.010 [2000::] [2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff]
    [2001:200::] [2001:db7:ffff:ffff:ffff:ffff:ffff:ffff] [2001:db9::] [2003::1]
    [2606:4700:4700::1111] [2001:4860:4860::8888] [2a00::1]
    [3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff] [::ffff:8.8.8.8] [::ffff:0:8.8.8.8] [64:ff9b::8.8.8.8]
    [2002:808:808::1] example.com
";

/// Whether a URL with this host is refused; the URL parser has its say first, as in the service.
fn refused(url_host: &str, private: &Private) -> bool {
    let url = Url::parse(&format!("http://{url_host}/")).unwrap();
    check_literal(url.host_str().unwrap(), private).is_err()
}

fn private(setting: Value) -> Private {
    Private::try_from(setting).unwrap()
}

#[test]
fn a_host_is_refused_if_it_leads_inside_however_it_is_spelled() {
    let hosts = |text: &str| text.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>();
    let mut inside = hosts(&[INSIDE_V4, SPELLED, INSIDE_V6].join(" "));
    // The same addresses mapped and translated (RFC 4291, RFC 6052).
    for address in INSIDE_V4.split_whitespace() {
        inside.extend([format!("[::ffff:{address}]"), format!("[64:ff9b::{address}]")]);
    }
    let outside = hosts(OUTSIDE);
    assert!(inside.len() > 200 && outside.len() > 50, "{} and {}", inside.len(), outside.len());
    for host in inside {
        assert!(refused(&host, &Private::none()), "{host} leads inside");
        assert!(!refused(&host, &Private::all()), "{host} is opened");
    }
    for host in outside {
        assert!(!refused(&host, &Private::none()), "{host} leads outside");
    }
}

#[test]
fn a_list_opens_its_networks_and_no_others() {
    let lan = private(json!(["10.1.0.0/16", "fd00::/8"]));
    for host in ["10.1.0.0", "10.1.255.255", "[fd12::1]", "8.8.8.8"] {
        assert!(!refused(host, &lan), "{host}");
    }
    for host in ["10.0.255.255", "10.2.0.0", "127.0.0.1", "169.254.169.254", "[fc00::1]", "[::ffff:10.2.0.1]"]
    {
        assert!(refused(host, &lan), "{host}");
    }
    assert_eq!(private(json!(false)), Private::none());
    assert_eq!(private(json!(true)), Private::all());
    for wrong in [json!("10.0.0.0/8"), json!(["10.0.0.1"]), json!(["lan"]), json!([8]), json!(null)] {
        assert!(Private::try_from(wrong.clone()).unwrap_err().contains("10.1.0.0/16"), "{wrong}");
    }
}

#[test]
fn a_name_with_inner_and_public_addresses_gives_only_the_public() {
    let addresses = |list: &[&str]| list.iter().map(|a| a.parse().unwrap()).collect::<Vec<SocketAddr>>();
    let none = Private::none();
    let mixed = addresses(&["10.0.0.1:0", "8.8.8.8:0", "[::1]:0"]);
    assert_eq!(permitted("h", mixed.clone(), &none).unwrap(), addresses(&["8.8.8.8:0"]));
    let error = permitted("h", addresses(&["10.0.0.1:0", "127.0.0.1:0"]), &none).unwrap_err();
    assert!(error.to_string().contains("127.0.0.1 (loopback)"), "{error}");
    assert_eq!(permitted("h", mixed.clone(), &Private::all()).unwrap(), mixed);
}

#[tokio::test]
async fn the_resolver_of_the_connection_refuses_too() {
    let resolve = |private| GuardedResolver::new(private).resolve("localhost".parse().unwrap());
    let Err(error) = resolve(Private::none()).await else { unreachable!("localhost is inside") };
    assert!(error.downcast_ref::<AddressRefused>().is_some());
    assert!(resolve(Private::all()).await.unwrap().count() > 0);
}

/// Listeners at two addresses on one port, and the port: one that is free at the first address may be taken
/// at the second, and then another is tried.
async fn on_one_port([first, second]: [&str; 2]) -> ([TcpListener; 2], u16) {
    loop {
        let one = TcpListener::bind((first, 0)).await.unwrap();
        let port = one.local_addr().unwrap().port();
        match TcpListener::bind((second, port)).await {
            Ok(other) => return ([one, other], port),
            Err(error) => assert_eq!(error.kind(), ErrorKind::AddrInUse),
        }
    }
}

/// Each look-up of the name gives another address: by turns one that may be reached (127.0.0.2 stands for
/// the public one) and one that may not (127.0.0.1), or both. Something listens at both, on one port.
#[tokio::test]
async fn a_name_that_rebinds_is_never_followed_inside() {
    const ATTEMPTS: usize = 10_000;
    millrace_service::install_tls();
    let ([open, inner], port) = on_one_port(["127.0.0.2", "127.0.0.1"]).await;
    let (reached, betrayed, looked_up) = <(Arc<AtomicUsize>, Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
    for (listener, count) in [(open, Arc::clone(&reached)), (inner, Arc::clone(&betrayed))] {
        // Ends with the test's runtime.
        tokio::spawn(async move {
            // Hangs up at once: another connection for each attempt, and so another look-up.
            while listener.accept().await.is_ok() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let lookups = Arc::clone(&looked_up);
    let lookup = move |_name: String| -> Found {
        let turn = lookups.fetch_add(1, Ordering::Relaxed);
        let [allowed, private] =
            ["127.0.0.2:0", "127.0.0.1:0"].map(|text| text.parse::<SocketAddr>().unwrap());
        let found = match turn % 4 {
            0 => vec![allowed],
            1 => vec![private],
            2 => vec![private, allowed],
            _ => vec![allowed, private],
        };
        Box::pin(async move { Ok(found) })
    };
    let resolver = GuardedResolver { private: private(json!(["127.0.0.2/32"])), lookup: Arc::new(lookup) };
    let client = reqwest::Client::builder().dns_resolver(Arc::new(resolver)).no_proxy().build().unwrap();
    for _ in 0..ATTEMPTS {
        // The listener hangs up, or the guard refuses: there is never an answer.
        let outcome = client.get(format!("http://rebinds.example:{port}/")).send().await;
        assert!(outcome.is_err());
    }
    assert!(looked_up.load(Ordering::Relaxed) >= ATTEMPTS, "{looked_up:?}");
    assert_eq!(betrayed.load(Ordering::Relaxed), 0);
    assert!(reached.load(Ordering::Relaxed) >= ATTEMPTS / 2, "{reached:?}");
}
