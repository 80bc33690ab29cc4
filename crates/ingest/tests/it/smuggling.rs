//! Malformed and ambiguous requests: what each is answered, that its connection ends where its framing is in
//! doubt, and that nothing hidden in it is ever taken for a request of its own, by ingest alone or behind a
//! proxy.

mod cases;

use std::time::Duration;

use cases::End::{self, Closed, Open};
use millrace_ingest::Limits;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::stack::{Stack, eventually};
use crate::wire::{connect, post, post_head, read_to_end};

const CANARY: &str = "canary";

fn bytes_of(case: &str) -> Vec<u8> {
    let canary = post(&format!(r#"{{"userId":"u","messageId":"{CANARY}"}}"#));
    let text = case
        .replace("@P", &post_head())
        .replace("@E", r#"{"userId":"u"}"#)
        .replace("@N", &canary.len().to_string())
        .replace("@H", &format!("{:x}", canary.len()))
        .replace("@C", &canary);
    text.chars().map(|ch| u8::try_from(u32::from(ch)).unwrap()).collect()
}

/// Asked after each case: a connection that is still open answers it, and then ends.
const PROBE: &str = "GET /robots.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
const PROBED: &str = "Disallow: / \n";

/// What a case that waits for the rest of its body is answered in the end: a probe would be taken for it.
const WAITED: End<'static> = Closed(&[503]);

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_smuggled_and_a_connection_ends_with_the_first_doubt() {
    // What waits for more is not to wait long.
    let body_timeout = Duration::from_secs(2);
    let stack = Stack::start_with(Limits { body_timeout, ..Limits::default() }).await;
    let cases = cases::all();
    assert!(cases.len() > 140, "{}", cases.len());
    let mut wrong = Vec::new();
    for (name, text, expected) in cases {
        let raw = send(connect(&stack).await, &bytes_of(&text), expected != WAITED).await;
        let mut statuses: Vec<u16> =
            raw.split("HTTP/1.").skip(1).map(|answer| answer[2..5].parse().unwrap()).collect();
        let open = raw.ends_with(PROBED);
        if open {
            statuses.pop();
        }
        let seen = if open { Open(&statuses) } else { Closed(&statuses) };
        if seen != expected {
            wrong.push(format!("{name}: {seen:?} instead of {expected:?}: {raw:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
    let events = stack.events().await;
    assert!(!events.is_empty());
    assert!(!events.contains_key(CANARY), "a hidden request was taken");
}

/// Sends a case, and the probe, and returns all that comes back.
async fn send(mut client: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8], probe: bool) -> String {
    // A server that has heard enough may close while this is still being written.
    let _ = client.write_all(bytes).await;
    if probe {
        let _ = client.write_all(PROBE.as_bytes()).await;
    }
    String::from_utf8_lossy(&read_to_end(&mut client).await).into_owned()
}

/// What a proxy writes into each request that it has seen as one.
const SEEN: &str = "00-11111111111111111111111111111111-2222222222222222-01";

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_smuggled_past_nginx() {
    let config = |folder: &str, server: &str| {
        format!(
            "daemon off; master_process off; pid {folder}/pid; error_log {folder}/errors;
            events {{}}
            http {{
              access_log off; client_body_temp_path {folder}/a; proxy_temp_path {folder}/b;
              fastcgi_temp_path {folder}/c; uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
              client_header_timeout 2s; client_body_timeout 2s; keepalive_timeout 2s; proxy_read_timeout 5s;
              large_client_header_buffers 4 256k; ignore_invalid_headers off; underscores_in_headers on;
              upstream ingest {{ server {server}; keepalive 4; }}
              server {{
                listen unix:{folder}/socket;
                location / {{
                  proxy_pass http://ingest; proxy_http_version 1.1; proxy_request_buffering off;
                  proxy_set_header Connection \"\"; proxy_set_header traceparent {SEEN};
                }}
              }}
            }}"
        )
    };
    behind(&["nginx", "-c"], config).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_smuggled_past_haproxy() {
    let config = |folder: &str, server: &str| {
        format!(
            "global
              tune.bufsize 300000
            defaults
              mode http
              timeout connect 5s
              timeout client 3s
              timeout server 5s
              timeout http-request 3s
              option http-keep-alive
              http-reuse always
            frontend door
              bind {folder}/socket
              http-request set-header traceparent {SEEN}
              default_backend ingest
            backend ingest
              server ingest {server}\n"
        )
    };
    behind(&["haproxy", "-db", "-f"], config).await;
}

/// Sends all cases through a proxy that keeps its connections to ingest, and looks for events of requests
/// that the proxy has not seen.
async fn behind(command: &[&str], config: impl Fn(&str, &str) -> String) {
    let stack = Stack::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config");
    let text = config(folder.path().to_str().unwrap(), &stack.address().to_string());
    std::fs::write(&file, text).unwrap();
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    let started = tokio::process::Command::new(command[0])
        .args(&command[1..])
        .arg(&file)
        .stderr(log)
        .kill_on_drop(true)
        .spawn();
    let Ok(_proxy) = started else {
        eprintln!("skipped: there is no {} on this machine", command[0]);
        return;
    };
    let socket = folder.path().join("socket");
    eventually("the proxy answers", async || UnixStream::connect(&socket).await.is_ok()).await;
    for (_, text, expected) in cases::all() {
        let client = UnixStream::connect(&socket).await.unwrap();
        send(client, &bytes_of(&text), expected != WAITED).await;
    }
    let stored = stack.stored().await;
    let events: Vec<_> = stored.into_iter().map(|received| received.message.unwrap()).collect();
    assert!(events.len() > 10, "{} events came through", events.len());
    for event in &events {
        assert_eq!(
            event.traceparent.as_deref(),
            Some(SEEN),
            "{} was not seen by the proxy",
            event.message_id
        );
    }
    eprintln!("{}: {} events, all of requests that it has seen", command[0], events.len());
}
