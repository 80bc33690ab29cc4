//! Certificates, proxies, limits and keys of ingest.

use super::*;
use crate::Secret;

#[test]
fn bounds_of_ingest_are_read_with_their_units() {
    let config = config(
        r#"workspace: acme
ingest:
  tls: { certificate: tls/cert.pem, key: /etc/tls/key.pem, client_ca: ca.pem }
  trusted_proxies: [10.0.0.0/8, 192.0.2.1, "fd00::/8"]
  limits: { body_bytes: 1000000, event_bytes: 500KiB, connections: 50, head_timeout: 5s, linger: 2ms }
sources:
  - { id: web, kind: http, write_key: ["${KEY}", "${NUMBER}"], rate_limit: { events: 1000/s, burst: 5000 } }
  - { id: tools, kind: webhook, write_key: "${SHOUT}", rate_limit: { requests: 60/m } }
"#,
    );
    let ingest = &config.ingest;
    let tls = ingest.tls.as_ref().unwrap();
    assert_eq!(tls.certificate, Path::new("conf/tls/cert.pem"), "relative to the file");
    assert_eq!(tls.key, Path::new("/etc/tls/key.pem"));
    assert_eq!(tls.client_ca.as_deref(), Some(Path::new("conf/ca.pem")));
    let networks: Vec<String> = ingest.trusted_proxies.iter().map(|network| network.0.to_string()).collect();
    assert_eq!(networks, ["10.0.0.0/8", "192.0.2.1/32", "fd00::/8"]);
    let limits = &ingest.limits;
    assert_eq!(limits.body_bytes, Some(Size(1_000_000)));
    assert_eq!(limits.event_bytes, Some(Size(500 * 1024)));
    assert_eq!(limits.connections, Some(Count(50)));
    assert_eq!(limits.head_timeout, Some(Period(Duration::from_secs(5))));
    assert_eq!(limits.linger, Some(Period(Duration::from_millis(2))));
    assert_eq!(limits.drain, None, "ingest knows the usual limits");

    let [web, tools] = &config.sources[..] else { panic!("two sources") };
    let keys: Vec<&str> = web.write_key.as_ref().unwrap().all().iter().map(Secret::expose).collect();
    assert_eq!(keys, ["the-key", "1000"]);
    let (web, tools) = (web.rate_limit.unwrap(), tools.rate_limit.unwrap());
    assert_eq!(web.events, Some(Rate { amount: 1000, period: Duration::from_secs(1) }));
    assert_eq!(web.burst, Some(Count(5000)));
    assert_eq!(tools.requests, Some(Rate { amount: 60, period: Duration::from_secs(60) }));
}

#[test]
fn everybody_who_is_not_on_this_machine_meets_ingest_alone() {
    let config = config(BASE);
    assert_eq!(config.admin.listen, "127.0.0.1:8081", "metrics, health and console are for this machine");
    assert_ne!(config.ingest.listen, config.admin.listen);
    assert!(config.ingest.trusted_proxies.is_empty());
    assert!(!config.ingest.internal);
}

#[test]
fn bounds_that_make_no_sense_are_refused_each_with_its_place() {
    insta::assert_snapshot!(errors(
        r#"workspace: acme
ingest:
  tls: { certificate: cert.pem }
  trusted_proxies: [10.0.0.0/33, proxy.internal]
  limits: { body_bytes: 0, event_bytes: 4MBit, connections: 0, requests: -1, head_timeout: 10, drain: 0s }
sources:
  - { id: a, kind: http, write_key: "${KEY}", rate_limit: { events: 0/s } }
  - { id: b, kind: http, write_key: "${NUMBER}", rate_limit: { events: 10/s, requests: 10/s } }
  - { id: c, kind: http, write_key: "${SHOUT}", rate_limit: { burst: 10 } }
"#
    ));
}

#[test]
fn keys_that_are_no_keys_are_refused_each_with_its_place() {
    insta::assert_snapshot!(errors(
        r#"workspace: acme
sources:
  - { id: a, kind: http, write_key: ["${KEY}", "${NUMBER}"] }
  - { id: b, kind: http, write_key: ["${SHOUT}", "${NUMBER}"] }
  - { id: c, kind: http, write_key: [x, "${INJECTION}", "${INJECTION}"] }
  - { id: d, kind: http, write_key: [] }
  - { id: e, kind: http, write_key: ["${EMPTY:-}"] }
  - { id: f, kind: airbyte, rate_limit: { events: 1/s } }
"#
    ));
}
