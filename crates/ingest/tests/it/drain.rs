//! The stop under load: whoever is answered is stored, and nobody is cut off in the middle of a request.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use millrace_ingest::Limits;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::stack::{Stack, eventually};
use crate::wire::{connect, exchange, post, read_answer};

const CLIENTS: usize = 64;

/// Answers before the order to stop, and so that each client has had a few.
const WARM: usize = 1000;

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_under_load_loses_no_answered_event_and_resets_nobody() {
    let mut stack = Stack::start().await;
    let answered = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| tokio::spawn(send_until_refused(stack.address(), client, Arc::clone(&answered))))
        .collect();
    eventually("clients are being served", async || answered.load(Ordering::Relaxed) > WARM).await;
    stack.request_stop();
    let mut acked = Vec::new();
    let mut connections = 0;
    for client in clients {
        let seen = client.await.unwrap();
        assert_eq!(seen.cut_off, None, "after {} answers", seen.acked.len());
        connections += seen.connections;
        acked.extend(seen.acked);
    }
    stack.stopped().await.unwrap();
    // Each client was told to close at least once, and has come again.
    assert!(connections > CLIENTS, "{connections}");
    let events = stack.events().await;
    let lost: Vec<_> = acked.iter().filter(|id| !events.contains_key(*id)).collect();
    assert!(lost.is_empty(), "{} of {} answered events are not stored", lost.len(), acked.len());
    assert!(acked.len() > WARM);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_a_refusal_be_read_and_a_request_that_has_just_connected_be_answered() {
    let limits = Limits { lame_duck: Duration::from_millis(50), ..Limits::default() };
    let mut stack = Stack::start_with(limits).await;
    let (mut refused, mut new) = (connect(&stack).await, connect(&stack).await);
    stack.request_stop();
    // The listener goes first: from then on, whoever is connected is all there is.
    eventually("nobody else is let in", async || TcpStream::connect(stack.address()).await.is_err()).await;
    let answer = exchange(&mut new, &post(r#"{"userId":"u","messageId":"last"}"#)).await;
    assert_eq!(answer.status(), 200);
    assert!(answer.ends_the_connection());
    let large = "x".repeat(2_000_000);
    let unknown = format!(
        "POST /v1/track HTTP/1.1\r\nHost: x\r\nAuthorization: Basic Tk9QRTo=\r\nContent-Length: {}\r\n\r\n{large}",
        large.len()
    );
    assert_eq!(exchange(&mut refused, &unknown).await.status(), 401);
    drop((new, refused));
    stack.stopped().await.unwrap();
    assert!(stack.events().await.contains_key("last"));
}

#[derive(Default)]
struct Seen {
    acked: Vec<String>,
    connections: usize,
    /// How a request ended that was not answered.
    cut_off: Option<String>,
}

/// Sends one event after another over connections that it keeps as long as it may.
async fn send_until_refused(server: SocketAddr, client: usize, answered: Arc<AtomicUsize>) -> Seen {
    let mut seen = Seen::default();
    loop {
        // Refused: the listener is gone.
        let Ok(mut stream) = TcpStream::connect(server).await else { return seen };
        seen.connections += 1;
        loop {
            let id = format!("m{client}-{}", seen.acked.len());
            let request = post(&format!(r#"{{"userId":"u{client}","messageId":"{id}"}}"#));
            let answer = async {
                stream.write_all(request.as_bytes()).await?;
                let answer = read_answer(&mut stream).await?;
                answer.ok_or_else(|| io::Error::other("closed without an answer"))
            };
            let answer = match answer.await {
                Ok(answer) => answer,
                Err(error) => {
                    seen.cut_off = Some(format!("{error} on connection {}", seen.connections));
                    return seen;
                }
            };
            assert_eq!(answer.status(), 200, "{answer:?}");
            seen.acked.push(id);
            answered.fetch_add(1, Ordering::Relaxed);
            if answer.ends_the_connection() {
                assert!(read_answer(&mut stream).await.unwrap().is_none(), "it ends in order");
                break;
            }
        }
    }
}
